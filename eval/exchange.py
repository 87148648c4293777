"""Pictures out, pictures in: the shifted inputs for a foreign program, and its outputs as a generator.

`eval_stability --export_inputs DIR` writes one PNG for every picture and shift, and `manifest.json`:

    DIR/<picture>_base.png                       the unshifted window
    DIR/<picture>_<protocol>_<dx>_<dy>.png       the window shifted dx px right and dy px down (of `eqt`: by
                                                 each translation drawn for it; of `pan`: in each frame)
    DIR/<picture>_<kind>_<severity>.png          the unshifted window under a perturbation
    DIR/manifest.json                            the sizes, and what every file shows

Once some program has made a picture of the same name and size for each of them, the folder with those
pictures is accepted as a CHECKPOINT. With a copy of manifest.json beside them no option has to be repeated.
Pictures of 8 bits are rounded: where outputs are not equal, even a perfect network scores about 56 dB.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from data.errors import InputError
from data.files import write_text
from data.images import read_image
from data.transforms import to_pixels, to_tensor
from eval.canvases import canvases
from eval.evaluate import Plan
from eval.json_checks import WrongError, one_of, read_json, record, side, text
from eval.offsets import Offset, plain

if TYPE_CHECKING:
    from data.pairs import Pairs
    from eval.flicker import PanPlan
    from eval.models import Model

MANIFEST = "manifest.json"
FORMAT = "steadypix.inputs.v1"


@dataclass(frozen=True)
class Window:
    """One input that a network must see: its file's name, what it shows, and its pixels (1, C, H, W)."""

    file: str
    image: str
    protocol: str
    offset: Offset
    pixels: Tensor


def windows(
    pairs: Pairs,
    plan: Plan,
    *,
    pan: PanPlan | None = None,
    wide: Pairs | None = None,
    skipped: list[str] | None = None,
) -> Iterator[Window]:
    """Yield every input that an evaluation of `plan` shows to a network, and then those of a pan over `wide`.

    `skipped` is as for `eval.canvases.canvases`.

    Raises:
        InputError: if a shift or margin does not fit, or a picture cannot be read.
    """
    scores = plan.scores(pairs)
    eqt, perturbed = plan.eqt_scores(pairs), plan.perturbed(pairs)
    rule = perturbed.protocol
    for index, name, source, _ in canvases(pairs, range(_count(pairs, plan)), plan, skipped):
        yield Window(f"{name}_base.png", name, "base", (0, 0), rule.base(source))
        for score in scores:
            yield from _shifted(name, score.protocol.name, score.moving, score.windows(source))
        for (kind, value), pixels in zip(perturbed.cases, perturbed.windows(source), strict=True):
            yield Window(f"{name}_{kind}_{value:g}.png", name, kind, (0, 0), pixels)
        if eqt:
            yield from _shifted(name, "eqt", eqt.offsets(index), eqt.windows(source, index))
    if pan and wide is not None:
        speeds = pan.scores(wide.load_size, wide.crop_size)
        for _, name, source, _ in canvases(wide, range(_count(wide, plan)), plan):
            # Frames of two speeds can be one window.
            frames = {
                o: w for speed in speeds for o, w in zip(speed.offsets, speed.windows(source), strict=True)
            }
            yield from _shifted(name, "pan", list(frames), frames.values())


def _shifted(
    name: str, protocol: str, offsets: Sequence[Offset], pixels: Iterable[Tensor]
) -> Iterator[Window]:
    """Yield the windows of one picture under one protocol, each offset once."""
    for offset, window in dict(zip(offsets, pixels, strict=True)).items():
        dx, dy = map(plain, offset)
        yield Window(f"{name}_{protocol}_{dx}_{dy}.png", name, protocol, offset, window)


def _count(pairs: Pairs, plan: Plan) -> int:
    return min(len(pairs), plan.limit or len(pairs))


def export_inputs(
    pairs: Pairs,
    plan: Plan,
    data: dict[str, Any],
    out: Path,
    *,
    pan: PanPlan | None = None,
    wide: Pairs | None = None,
) -> int:
    """Write every input and the manifest to `out`; return the number of pictures written.

    Raises:
        InputError: if inputs are neither grayscale nor RGB, or a picture cannot be read.
    """
    from data.saving import PNG_CHANNELS, save_image

    if data["input_channels"] not in PNG_CHANNELS:
        raise InputError(
            f"--export_inputs: writes grayscale or RGB; the inputs have {data['input_channels']} channels"
        )
    files = []
    for window in windows(pairs, plan, pan=pan, wide=wide, skipped=[]):
        save_image(out / window.file, to_pixels(window.pixels[0]))
        dx, dy = map(plain, window.offset)
        files.append(
            {"file": window.file, "image": window.image, "protocol": window.protocol, "dx": dx, "dy": dy}
        )
    manifest = {"format": FORMAT, "data": data, "files": files}
    words = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
    write_text(out / MANIFEST, words, errors="replace")
    return len(files)


class Outputs(nn.Module):
    """A folder of outputs behind the face of a network: shown an input, it gives back the picture made of it.

    An input is known by its pixels, so `bind` must have seen the evaluation's windows.

    Args:
        folder: pictures named as `export_inputs` names them.
        channels: of the outputs, 3 or 1.
    """

    def __init__(self, folder: Path, channels: int) -> None:
        super().__init__()
        self.folder = folder
        self.channels = channels
        self._files: dict[str, Path] = {}

    def bind(
        self, pairs: Pairs, plan: Plan, *, pan: PanPlan | None = None, wide: Pairs | None = None
    ) -> None:
        """Find the output of every input of an evaluation.

        Raises:
            InputError: if an output is missing, or two outputs differ that were made of the same input.
        """
        for window in windows(pairs, plan, pan=pan, wide=wide):
            file = self.folder / window.file
            if not file.exists():
                raise InputError(
                    f"{file}: no such output; expected one for every file of --export_inputs "
                    "(with the same --data, --shifts, --protocol, --pan, --perturb, --seed and --limit)"
                )
            known = self._files.setdefault(_digest(window.pixels), file)
            if known != file and not torch.equal(self._read(known), self._read(file)):
                raise InputError(
                    f"{file}: differs from {known.name}, though their inputs are equal; expected a program "
                    "without dropout or noise"
                )

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs (B, C', H, W) in [-1, 1] for the inputs `x`."""
        return torch.stack([self._lookup(sample) for sample in x.split(1)]).to(x)

    def _lookup(self, x: Tensor) -> Tensor:
        file = self._files.get(_digest(x))
        if file is None:
            raise InputError(f"{self.folder}: holds no output for this input; export the inputs again")
        output = self._read(file)
        if output.shape[-2:] != x.shape[-2:]:
            found, wanted = (" x ".join(map(str, t.shape[-2:])) for t in (output, x))
            raise InputError(f"{file}: is {found} px; expected {wanted} px as its input")
        return output

    def _read(self, file: Path) -> Tensor:
        return to_tensor(read_image(file, self.channels))


def load_outputs(folder: Path, device: str) -> tuple[nn.Module, dict[str, Any]]:
    """Take a folder of outputs for a generator; its manifest, if there is one, knows the data.

    Raises:
        InputError: if the manifest is of something else.
    """
    from PIL import Image

    first = min(folder.glob("*.png"))
    read_image(first)  # names the file if it is none
    with Image.open(first) as image:
        channels = 1 if image.mode in ("1", "L", "I;16") else 3
    config: dict[str, Any] = {"generator": {"out_channels": channels}, "data": {}}
    file = folder / MANIFEST
    if file.exists():
        data = read_json(file, _MANIFEST, "a manifest of eval_stability --export_inputs")["data"]
        sizes = {"load_size": data["canvas_px"], "crop_size": data["window_px"]}
        config["data"] = {"direction": data["direction"], **sizes, "val_split": data["split"]}
        config["data"] |= _source(data["source"])
        config["generator"]["in_channels"] = data["input_channels"]
    return Outputs(folder, channels), config


def bind_outputs(
    models: Sequence[Model],
    pairs: Pairs,
    plan: Plan,
    *,
    pan: PanPlan | None = None,
    wide: Pairs | None = None,
) -> None:
    """Let every folder of outputs among `models` find the outputs of this evaluation."""
    for model in models:
        if isinstance(model.module, Outputs):
            model.module.bind(pairs, plan, pan=pan, wide=wide)


def _source(source: str) -> dict[str, Any]:
    prefix, _, kind = source.partition("synthetic-")
    return {"root": None, "synthetic": kind} if kind and not prefix else {"root": source}


def _digest(x: Tensor) -> str:
    return hashlib.blake2b(to_pixels(x[0]).tobytes(), digest_size=20).hexdigest()


def _check_data(value: Any, where: str) -> None:
    _DATA(value, where)
    if value["window_px"] > value["canvas_px"]:
        raise WrongError(f"{where}.window_px", "at most canvas_px", value["window_px"])


_DATA = record(
    {
        "canvas_px": side,
        "window_px": side,
        "direction": one_of("AtoB", "BtoA"),
        "split": text,
        "source": text,
        "input_channels": one_of(1, 3),
    }
)
_MANIFEST = record({"format": one_of(FORMAT), "data": _check_data})
