"""What other projects compute for the same tensors: `python -m benchmarks.calibration`.

Needs the peers where Python finds them: antialiased-cnns, piq, torchmetrics, lpips, scikit-image from the
package index; StyleGAN3 and pytorch-CycleGAN-and-pix2pix, which are not there, as excerpts of one file each
(`EXCERPTS`) in `--peers`. A row whose peer is missing says so. Everything runs on the CPU, in double
precision where it can.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from steadypix import BlurPool2d, PatchDiscriminator, UNetGenerator, antialias
from steadypix.eval.report.page import markdown_table
from steadypix.eval.torchvision_shim import import_torchvision
from steadypix.files import write_text
from tests.published_nets import liven

PIX2PIX, STYLEGAN3 = "pytorch-CycleGAN-and-pix2pix", "stylegan3"
COMMAND = "python -m benchmarks.calibration --peers DIR --lpips FILE --out docs/calibration.md"
EXCERPTS = (
    "StyleGAN3 and pytorch-CycleGAN-and-pix2pix are not on the package index and are not run whole. What "
    "runs of them are excerpts of one file each: of StyleGAN3's `metrics/equivariance.py` the score of "
    "translations by whole pixels, with stand-ins for what that file imports from its project; of "
    "pytorch-CycleGAN-and-pix2pix's `models/networks.py` the U-Net and the PatchGAN. The latter's training "
    "step does not run here: in the row of losses its networks are trained by our rewrite of that step "
    "(`benchmarks/step/reference.py`), beside our own networks and step. That row says nothing of where the "
    "rewrite departs from the original."
)


class MissingError(Exception):
    """A peer that is not here."""


@dataclass(frozen=True)
class Row:
    """One comparison."""

    what: str
    peer: str
    version: str = ""
    on: str = ""
    """the tensors"""
    largest: float | None = None
    """difference between any two numbers; None if it was not run"""
    unit: str = ""
    why: str = ""
    """the reason, where the two differ by design; or why it was not run"""


@dataclass(frozen=True)
class Peers:
    """Where other projects are."""

    folder: Path | None
    """of those that are not on the package index"""
    lpips: Path | None
    """torchvision's state dict of SqueezeNet 1.1, the backbone"""

    def package(self, name: str, module: str) -> tuple[Any, str]:
        """Import a package; return its module and version."""
        import_torchvision("torchvision.models")  # lpips and others import it, too
        try:
            found = importlib.import_module(module)
        except ImportError:
            raise MissingError(f"{name} is not installed") from None
        return found, importlib.metadata.version(name)

    def source(self, project: str, file: str) -> tuple[Any, str]:
        """Import one file of a project; return its module and commit, as the file COMMIT says it."""
        place = self.folder / project if self.folder else None
        if place is None or not (place / file).is_file():
            raise MissingError(f"{project}/{file} is not in --peers")
        name = ".".join([project.replace("-", "_"), *Path(file).with_suffix("").parts])
        for parent in (name.rsplit(".", depth)[0] for depth in range(1, name.count(".") + 1)):
            sys.modules.setdefault(parent, types.ModuleType(parent))
        spec = importlib.util.spec_from_file_location(name, place / file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        commit = place / "COMMIT"
        return module, commit.read_text().strip() if commit.is_file() else ""


def difference(ours: Any, theirs: Any) -> float:
    """Return the largest difference between two tensors or numbers, which have to be of one shape."""
    a, b = (torch.as_tensor(x, dtype=torch.float64).detach() for x in (ours, theirs))
    if a.shape != b.shape:
        raise ValueError(f"shapes {tuple(a.shape)} and {tuple(b.shape)}")
    return (a - b).abs().max().item()


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Return fixed normal numbers in double precision."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def two_pictures(side: int = 64) -> tuple[Tensor, Tensor]:
    """Return two pictures (1, 3, S, S) in [-1, 1]: smooth, and the same with noise."""
    smooth = nn.functional.interpolate(noise(1, 3, 8, 8), (side, side), mode="bicubic").tanh()
    return smooth, (smooth + 0.1 * noise(1, 3, side, side, seed=1)).clamp(-1, 1)


def blur_pool(peers: Peers) -> Iterator[Row]:
    """The layer itself, with taps of every length."""
    theirs, version = peers.package("antialiased-cnns", "antialiased_cnns")
    for taps, name in enumerate(("rect2", "tri3", "bin4", "bin5"), 2):
        worst = 0.0
        for height, width in ((16, 16), (17, 23)):
            x = noise(2, 5, height, width)
            layer = theirs.BlurPool(5, filt_size=taps).double()
            worst = max(worst, difference(BlurPool2d(5, filter=name).double()(x), layer(x)))
        yield Row(f"BlurPool2d, {name}", "antialiased-cnns", version, "2 x 5 x 16 x 16 and 17 x 23", worst)


def retrofit(peers: Peers) -> Iterator[Row]:
    """Torchvision's ResNet-18 rewritten, against the network that was written by hand."""
    theirs, version = peers.package("antialiased-cnns", "antialiased_cnns")
    torch.manual_seed(0)
    resnet18 = import_torchvision("torchvision.models").resnet18
    plain = resnet18(weights=None).double().eval()
    other = theirs.resnet18(pretrained=False, filter_size=5).double().eval()
    theirs.copy_params_buffers(plain, other)
    x = noise(1, 3, 64, 64)
    with torch.inference_mode():
        expected = other(x)
    reason = (
        "conv1 is anti-aliased too, and the max pool keeps torchvision's window of 3; there conv1 stays "
        "strided and the window is 2"
    )
    for words, name, why in (
        ({"skip": ("conv1",), "pool_window": 2}, "ResNet-18, antialias(skip=('conv1',), pool_window=2)", ""),
        ({}, "ResNet-18, antialias()", reason),
    ):
        model = resnet18(weights=None).double().eval()
        model.load_state_dict(plain.state_dict())
        antialias(model, filter="bin5", **words)  # type: ignore[arg-type]
        with torch.inference_mode():
            found = difference(model(x), expected)
        on = f"logits of 1 x 3 x 64 x 64, up to {expected.abs().max().item():.2g}"
        yield Row(name, "antialiased-cnns", version, on, found, "", why)


def psnr_rows(peers: Peers) -> Iterator[Row]:
    """PSNR in dB."""
    from steadypix.eval.metrics.quality import psnr

    a, b = two_pictures()
    unit_a, unit_b = (a + 1) / 2, (b + 1) / 2
    metrics, version = peers.package("scikit-image", "skimage.metrics")
    theirs = metrics.peak_signal_noise_ratio(unit_b.numpy(), unit_a.numpy(), data_range=1.0)
    on = "1 x 3 x 64 x 64"
    yield Row("PSNR", "scikit-image", version, on, difference(psnr(a, b), theirs), "dB")
    reason = "ours is capped at 150 dB, so that means stay finite; theirs is infinite"
    with np.errstate(divide="ignore"):
        theirs = metrics.peak_signal_noise_ratio(unit_a.numpy(), unit_a.numpy(), data_range=1.0)
    found = difference(psnr(a, a), theirs)
    yield Row("PSNR of equal pictures", "scikit-image", version, on, found, "dB", reason)
    image, version = peers.package("torchmetrics", "torchmetrics.functional.image")
    theirs = image.peak_signal_noise_ratio(a, b, data_range=2.0)
    yield Row("PSNR", "torchmetrics", version, on, difference(psnr(a, b), theirs), "dB")


def psnr_piq(peers: Peers) -> Iterator[Row]:
    """PSNR and SSIM of piq."""
    from steadypix.eval.metrics.quality import psnr, ssim

    piq, version = peers.package("piq", "piq")
    a, b = two_pictures(288)
    pair, on = ((a + 1) / 2, (b + 1) / 2), "1 x 3 x 288 x 288"
    why = "theirs adds 1e-8 to the mean square"
    yield Row("PSNR", "piq", version, on, difference(psnr(a, b), piq.psnr(*pair)), "dB", why)
    found = difference(ssim(a, b), piq.ssim(*pair, downsample=False))
    yield Row("SSIM", "piq, downsample=False", version, on, found)
    why = "theirs first averages down, by the whole number nearest to side / 256"
    a, b = two_pictures(512)
    pair = (a + 1) / 2, (b + 1) / 2
    yield Row("SSIM", "piq", version, "1 x 3 x 512 x 512", difference(ssim(a, b), piq.ssim(*pair)), "", why)


def ssim_rows(peers: Peers) -> Iterator[Row]:
    """Structural similarity."""
    from steadypix.eval.metrics.quality import ssim

    a, b = two_pictures()
    ours, on = ssim(a, b), "1 x 3 x 64 x 64"
    metrics, version = peers.package("scikit-image", "skimage.metrics")
    arrays = [((x[0] + 1) / 2).numpy() for x in (a, b)]
    words: dict[str, Any] = {"data_range": 1.0, "channel_axis": 0}
    published = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    theirs = metrics.structural_similarity(*arrays, **words, **published)
    yield Row("SSIM", "scikit-image, as Wang et al.", version, on, difference(ours, theirs))
    theirs = metrics.structural_similarity(*arrays, **words)
    why = "theirs by default has a flat window of 7 px; the article, and ours, a Gaussian of 11 px"
    yield Row("SSIM", "scikit-image's defaults", version, on, difference(ours, theirs), "", why)
    image, version = peers.package("torchmetrics", "torchmetrics.functional.image")
    unit = (a + 1) / 2, (b + 1) / 2
    theirs, full = image.structural_similarity_index_measure(*unit, data_range=1.0, return_full_image=True)
    inside = full[..., 5:-5, 5:-5].mean()
    yield Row("SSIM", "torchmetrics, border cut off", version, on, difference(ours, inside))
    why = "theirs mirrors the border and averages over it too; the article, and ours, where the window fits"
    yield Row("SSIM", "torchmetrics", version, on, difference(ours, theirs), "", why)


def lpips_rows(peers: Peers) -> Iterator[Row]:
    """LPIPS with one backbone."""
    from steadypix.eval.metrics.lpips_metric import Lpips
    from steadypix.gen.weights.pickles import read_state

    package, version = peers.package("lpips", "lpips")
    if peers.lpips is None:
        raise MissingError("needs --lpips FILE, the backbone's weights")
    ours = Lpips("squeeze", weights=peers.lpips)
    state = read_state(peers.lpips, "expected torchvision's squeezenet1_1 as a state dict")
    theirs = package.LPIPS(net="squeeze", pnet_rand=True, verbose=False).eval()
    # Their slices number torchvision's layers as torchvision does.
    backbone = {
        key.split("features.")[1]: value for key, value in state.items() if key.startswith("features.")
    }
    own = theirs.net.state_dict()
    theirs.net.load_state_dict({key: backbone[key.split(".", 1)[1]].to(own[key]) for key in own})
    a, b = (x.float() for x in two_pictures())
    with torch.inference_mode():
        found, expected = ours.distance(a, b), theirs(a, b)
    on = f"1 x 3 x 64 x 64, SqueezeNet 1.1; distance {expected.item():.3f}"
    yield Row("LPIPS", "lpips", version, on, difference(found, expected))
    functional, version = peers.package("torchmetrics", "torchmetrics.functional.image.lpips")
    other = functional._LPIPS(pretrained=True, net="squeeze", pnet_rand=True, eval_mode=True)
    own = other.net.state_dict()  # `slices.1.3...`
    other.net.load_state_dict({key: backbone[key.split(".", 2)[2]].to(own[key]) for key in own})
    with torch.inference_mode():
        expected = other(a, b)
    yield Row("LPIPS", "torchmetrics", version, on, difference(found.flatten(), expected.flatten()))


def consistency(peers: Peers) -> Iterator[Row]:
    """How often two windows get one class, as the accuracy of one window's classes against the other's."""
    from steadypix.data.labelled.labelled import Labelled
    from steadypix.eval.classifiers.consistency import draw_pair, measure_consistency, protocol_of
    from steadypix.eval.classifiers.file import Classifier

    image, version = peers.package("torchmetrics", "torchmetrics.functional.classification")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(32 * 32, 5))  # changes its mind with every shift
    network = Classifier("random", model, None, 5, 32, 40, (0.5,), (0.25,), {})
    pixels = np.random.default_rng(0).integers(0, 256, (64, 40, 40), dtype=np.uint8)
    pictures = Labelled("noise", tuple("abcde"), np.zeros(64, dtype=np.int64), pixels)
    ours = measure_consistency(network, pictures, "crop")["mean"]
    protocol = protocol_of(network, "crop")
    offsets = [draw_pair(protocol, 0, index, 0) for index in range(64)]
    first, second = (
        network.predictions(
            torch.stack(
                [
                    protocol.shifted(pictures.canvas(i, 40), (int(pair[side][0]), int(pair[side][1])))
                    for i, pair in enumerate(offsets)
                ]
            )
        )
        for side in (0, 1)
    )
    theirs = image.multiclass_accuracy(first, second, num_classes=5, average="micro")
    on = f"64 pictures, random weights; consistency {ours:.3f}"
    yield Row("consistency, crop", "torchmetrics' accuracy", version, on, difference(ours, theirs))


class _Input(nn.Module):
    """The part of a StyleGAN3 generator that a translation is given to."""

    transform: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("transform", torch.eye(3))


class _Synthesis(nn.Module):
    """A picture moved circularly, then a network: what StyleGAN3's metric takes for a generator."""

    def __init__(self, network: nn.Module, picture: Tensor) -> None:
        super().__init__()
        self.input = _Input()
        self.network, self.picture = network, picture
        self.moves: list[tuple[int, int]] = []

    def forward(self, ws: Tensor, **words: Any) -> Tensor:
        side = self.picture.shape[-1]
        dx, dy = (-self.input.transform[:2, 2] * side).round().int().tolist()
        self.moves.append((dx, dy))
        made: Tensor = self.network(self.picture.roll((dy, dx), (-2, -1)))
        return made


class _Generator(nn.Module):
    z_dim, img_resolution = 4, 64

    def __init__(self, synthesis: _Synthesis) -> None:
        super().__init__()
        self.synthesis = synthesis

    def __deepcopy__(self, memo: Any) -> _Generator:
        return self  # so that its moves can be read afterwards

    def mapping(self, z: Tensor, c: Any) -> Tensor:
        return z


def eqt(peers: Peers) -> Iterator[Row]:
    """EQ-T of one network for the same translations, by the excerpt of their metric."""
    from steadypix.eval.metrics.eqt import EqtScores

    for name in ("torch_utils.ops", "torch_utils.ops.upfirdn2d"):  # not used by whole translations
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.modules["torch_utils.ops"].upfirdn2d = sys.modules["torch_utils.ops.upfirdn2d"]  # type: ignore[attr-defined]
    utils = types.ModuleType("stylegan3.metrics.metric_utils")
    utils.iterate_random_labels = lambda **words: iter([None] * 100)  # type: ignore[attr-defined]
    sys.modules["stylegan3.metrics.metric_utils"] = utils
    sys.modules.setdefault("stylegan3", types.ModuleType("stylegan3"))
    sys.modules.setdefault("stylegan3.metrics", types.ModuleType("stylegan3.metrics"))
    sys.modules["stylegan3.metrics"].metric_utils = utils  # type: ignore[attr-defined]
    theirs, version = peers.source(STYLEGAN3, "metrics/equivariance.py")
    torch.manual_seed(0)
    network = liven(UNetGenerator(ngf=4, num_downs=5, norm="batch")).double().eval()
    picture = two_pictures()[0]
    synthesis = _Synthesis(network, picture)
    quiet = types.SimpleNamespace(update=lambda count: None)
    progress = types.SimpleNamespace(sub=lambda **words: quiet)
    options = types.SimpleNamespace(
        G=_Generator(synthesis), device="cpu", num_gpus=1, progress=progress, G_kwargs={}
    )
    with torch.inference_mode():
        expected = float(theirs.compute_equivariance_metrics(options, 8, 1, compute_eqt_int=True))
        moves = synthesis.moves[1::2]

        class Given(EqtScores):
            """Ours, with the translations that theirs drew."""

            def offsets(self, index: int) -> Any:
                return moves

        scores = Given(64, 64, draws=len(moves))
        outputs = (network(window) for window in scores.windows(picture, 0))
        scores.add(network(picture), outputs, None, 0)
    on = f"a random U-Net, 64 px, 8 translations; {expected:.2f} dB"
    yield Row("EQ-T", "StyleGAN3 (excerpt)", version, on, difference(scores.result().db, expected), "dB")


def published(peers: Peers) -> Iterator[Row]:
    """The networks of pix2pix from their state dicts, and three updates by our rewrite of its step."""
    import tempfile

    from benchmarks.step.both import make_step, pairs
    from benchmarks.step.reference import ReferenceStep, draw_weights
    from steadypix.gen.weights.published import load_published

    theirs, version = peers.source(PIX2PIX, "models/networks.py")
    peer = f"{PIX2PIX} (excerpt)"
    torch.manual_seed(0)
    generator = liven(theirs.UnetGenerator(3, 3, 5, ngf=8))
    judge = theirs.NLayerDiscriminator(6, ndf=8).apply(draw_weights)
    ours = UNetGenerator(ngf=8, num_downs=5, sampling="strided", norm="batch", dropout=False)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "latest_net_G.pth"
        torch.save(generator.state_dict(), file)
        loaded = load_published(file)
        ours.load_state_dict(loaded.state_dict())
    our_judge = PatchDiscriminator(ndf=8, norm="batch")
    with torch.no_grad():
        for mine, other in zip(our_judge.parameters(), judge.parameters(), strict=True):
            mine.copy_(other)
    (x, y), *_ = pairs(1, 64, 1)
    on = "1 x 3 x 64 x 64"
    with torch.inference_mode():
        for batch_norm in (False, True):
            loaded.train(batch_norm)
            generator.train(batch_norm)
            how = "the batch's statistics" if batch_norm else "running statistics"
            found = difference(loaded(x), generator(x))
            yield Row(f"U-Net of a state dict, {how}", peer, version, on, found)
        pair = torch.cat([x, y], 1)
        found = difference(our_judge.train()(pair), judge.train()(pair))
        yield Row("PatchGAN", peer, version, "1 x 6 x 64 x 64", found)
    reference = ReferenceStep(generator.train(), judge.train())
    step = make_step(ours.train(), our_judge.train(), together=False)
    worst_loss = 0.0
    for seed in range(3):
        expected = reference.step(x, y)
        found_losses = step([{"input": x, "target": y}], [seed])
        worst_loss = max(worst_loss, *(difference(found_losses[key], expected[key]) for key in expected))
    name = "losses of three training steps"
    yield Row(name, f"{peer}: its networks in our rewrite of its step", version, on, worst_loss)


COMPARISONS: dict[str, Callable[[Peers], Iterator[Row]]] = {
    "BlurPool2d": blur_pool,
    "retrofit": retrofit,
    "EQ-T": eqt,
    "PSNR": psnr_rows,
    "PSNR and SSIM of piq": psnr_piq,
    "SSIM": ssim_rows,
    "LPIPS": lpips_rows,
    "consistency": consistency,
    "published networks and training step": published,
}


def compare(peers: Peers) -> list[Row]:
    """Return all rows; a comparison whose peer is missing is one row that says so."""
    rows: list[Row] = []
    for name, comparison in COMPARISONS.items():
        try:
            rows += comparison(peers)
        except MissingError as error:
            rows.append(Row(name, "", why=str(error)))
    return rows


def page(rows: list[Row], torch_version: str) -> str:
    """Return the page as Markdown, of rows that were made with a version of torch."""
    alike = [row for row in rows if row.largest is not None and not row.why]
    other = [row for row in rows if row.largest is not None and row.why]
    missing = [row for row in rows if row.largest is None]
    worst = max((row.largest or 0.0 for row in alike), default=0.0)
    heads = ["what", "beside", "version", "on", "largest difference"]

    def table(part: list[Row], *more: str) -> str:
        cells = [
            [row.what, row.peer, row.version, row.on, f"{row.largest:.1e} {row.unit}".strip()] for row in part
        ]
        if more:
            cells = [[*cell, row.why] for cell, row in zip(cells, part, strict=True)]
        return markdown_table([*heads, *more], cells)

    parts = [
        "# Calibration: the same tensors through other projects",
        "A layer, a network or a measure of ours, beside what another project computes for the same fixed "
        "tensors, and the largest difference of any two numbers. Made by "
        f"`{COMMAND}`; torch {torch_version}, one thread, no code of those projects is part of this one.",
        EXCERPTS,
        "## Equal",
        f"What means the same is the same: the largest difference of {len(alike)} rows is {worst:.1e}. "
        "Rounding of doubles is some 1e-15 of a value; LPIPS, the published networks and training steps are "
        "in single precision, where it is 1e-7.",
        table(alike),
    ]
    if other:
        parts += ["## Different by design", table(other, "why")]
    if missing:
        parts += [
            "## Not run",
            "\n".join(f"- {row.what}: {row.why}" for row in missing),
        ]
    return "\n\n".join(parts) + "\n"


def main(argv: list[str] | None = None) -> None:
    """Compare, and write the page and its figures."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.calibration", description=__doc__.splitlines()[0]
    )
    about = f"holds {STYLEGAN3}/ and {PIX2PIX}/, excerpts of them"
    parser.add_argument("--peers", type=Path, metavar="DIR", help=about)
    parser.add_argument(
        "--lpips", type=Path, metavar="FILE", help="torchvision's squeezenet1_1 as a state dict"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE.md", help="the page; its figures go beside it as JSON"
    )
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    rows = compare(Peers(options.peers, options.lpips))
    text = page(rows, torch.__version__)
    print(text, end="")
    if options.out is not None:
        write_text(options.out, text)
        figures = {"torch": torch.__version__, "rows": [asdict(row) for row in rows]}
        plain = json.dumps(figures, indent=1, default=str).replace("Infinity", '"Infinity"')
        write_text(options.out.with_suffix(".json"), plain + "\n")


if __name__ == "__main__":
    main()
