"""Generators as programs: for any size, with what the commands need to know, compared with the network."""

from __future__ import annotations

import dataclasses
import json
import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import steadypix
from steadypix import ResnetGenerator, UNetGenerator, save_generator
from steadypix.checkpoints.export import main as export
from steadypix.checkpoints.generate import main as generate
from steadypix.configs.schema import GeneratorConfig
from steadypix.eval.eval_stability import main as eval_stability
from steadypix.eval.generators import exporting
from steadypix.eval.generators.programs import METADATA, load_program
from steadypix.gen.layers import resample
from steadypix.gen.layers.resample import PADDINGS, BlurPool2d, BlurUpsample2d
from steadypix.gen.networks import any_size
from steadypix.gen.networks.levels import pad_to_multiple
from tests.cli import Capture, one_error_line
from tests.conftest import REPOSITORY, tiny_config, write_checkpoint
from tests.published_nets import PublishedUnet, liven

SMALL = GeneratorConfig(ngf=4, num_downs=2)
ONNX = "onnx is not installed (the extra steadypix[onnx])"


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Exporters keep a log of every step for whoever listens, and pytest listens: seconds of it."""
    logging.disable(logging.DEBUG)
    yield
    logging.disable(logging.NOTSET)


def picture(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(3)) * 2 - 1


def difference(one: nn.Module, other: nn.Module, *shape: int) -> float:
    x = picture(*shape)
    with torch.no_grad():
        return (one(x) - other(x)).abs().max().item()


def needs_onnx(exporter: str) -> None:
    pytest.importorskip("onnx", reason=ONNX)
    if exporter == "dynamo":
        pytest.importorskip("onnxscript", reason="onnxscript is not installed (the extra steadypix[onnx])")


# ---- borders that hold for all sizes ------------------------------------------------------------------


@pytest.mark.parametrize("mode", PADDINGS)
@pytest.mark.parametrize(("before", "after"), [(0, 0), (1, 2), (3, 3), (4, 0)])
def test_borders_are_those_of_the_layers(mode: str, before: int, after: int) -> None:
    """Also looked up, as an exporter sees them where a size is not known."""
    for height in (1, 2, 3, 4, 5, 9):
        x = picture(2, 3, height, 4)
        expected = resample.pad2d(x, before, after, mode)
        with any_size.sizes_open():
            assert torch.equal(any_size.pad2d(x, before, after, mode), expected)
            if mode == "zeros":
                continue
            reach = max(before, after)
            for axis in (-2, -1):
                places = any_size._places(x.shape[axis], before, after, reach, mode, x.device)
                x = x.index_select(axis, places)
        assert torch.equal(x, expected)


@pytest.mark.parametrize("size", [1, 3, 4, 5, 7, 8, 11])
def test_pictures_are_completed_alike(size: int) -> None:
    x = picture(1, 2, size, 9)
    expected = pad_to_multiple(x, 8)
    with any_size.sizes_open():
        assert torch.equal(pad_to_multiple(x, 8), expected)
    assert not any_size.are_open()


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("filter", ["rect2", "tri3", "bin4", "bin5", "bin7"])
def test_blurs_are_those_of_the_layers(padding: str, filter: str) -> None:
    layers = nn.ModuleList(
        [
            BlurPool2d(3, filter=filter, padding=padding),
            BlurPool2d(None, filter=filter, padding=padding, stride=1, upward=True),
            BlurUpsample2d(3, filter=filter, padding=padding),
        ]
    )
    twins = any_size.for_any_size(layers)
    assert type(layers[0]) is BlurPool2d
    for layer, twin in zip(layers, twins, strict=True):
        assert type(twin) is not type(layer)
        for size in (1, 2, 5, 8):
            assert difference(layer, twin, 1, 3, size, 7) < 1e-6


# ---- files ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_program_is_measured_and_used_like_the_network(
    tmp_path: Path, pair_folder: Path, capsys: Capture
) -> None:
    ours = write_checkpoint(tmp_path / "net.safetensors", tiny_config(pair_folder, generator=SMALL))
    out = tmp_path / "new" / "net.pt2"
    assert export([str(ours), "--out", str(out)]) == 0
    assert "any size from 32 px on" in capsys.readouterr().out
    assert [file.name for file in out.parent.iterdir()] == ["net.pt2"]
    # No flag says window, direction or pictures: the file does.
    argv = ["--shifts", "0..2", "--margins", "4", "--device", "cpu", "--trust", "--limit", "1"]
    argv += ["--out", str(tmp_path / "o")]
    assert eval_stability([str(ours), str(out), *argv]) == 0
    results = json.loads((tmp_path / "o" / "results.json").read_text())
    assert results["data"]["assumed"] == []
    first, second = results["models"]
    assert second["generator"] == first["generator"]
    assert (second["format"], second["norm_mode"]) == ("program", "statistics of each picture")
    assert second["provenance"]["exported_from"] == str(ours)
    scores = [model["stability"]["crop"]["4"]["mean_db"]["mean"] for model in (first, second)]
    assert scores[1] == pytest.approx(scores[0], abs=1e-3)
    # A picture of no round size.
    pixels = np.random.default_rng(0).integers(0, 256, (37, 61, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "p.png")
    argv = [str(out), str(tmp_path / "p.png"), "--device", "cpu", "--trust", "--out", str(tmp_path / "made")]
    assert generate(argv) == 0
    with Image.open(tmp_path / "made" / "p.png") as image:
        made = np.asarray(image).astype(int)
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        expected = (steadypix.load_generator(ours)(x)[0].permute(1, 2, 0) + 1) * 127.5
    assert np.abs(made - expected.numpy()).max() <= 0.51
    Image.fromarray(pixels[:20]).save(tmp_path / "p.png")
    assert generate(argv) == 2
    one_error_line(capsys, "at least 32 px", "20 x 61 px")


@pytest.mark.slow
@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_onnx_by_either_exporter(exporter: str, tmp_path: Path) -> None:
    needs_onnx(exporter)
    import onnx

    sampling = "blur_late" if exporter == "dynamo" else "preblur"
    config = tiny_config(generator=dataclasses.replace(SMALL, sampling=sampling))
    ours = write_checkpoint(tmp_path / "net.safetensors", config)
    out = tmp_path / "net.onnx"
    assert export([str(ours), "--format", "onnx", "--exporter", exporter, "--out", str(out)]) == 0
    model = onnx.load(out)
    kernels = [node for node in model.graph.node if node.op_type in ("Conv", "ConvTranspose")]
    constants = {tensor.name for tensor in model.graph.initializer}
    constants |= {node.output[0] for node in model.graph.node if node.op_type == "Constant"}
    assert kernels
    assert {node.input[1] for node in kernels} <= constants
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["batch", 3, "height", "width"]
    loaded = steadypix.load_generator(out)
    assert loaded.config == dataclasses.asdict(config)
    network = steadypix.load_generator(ours)
    for shape in ((1, 3, 32, 32), (3, 3, 48, 37), (2, 3, 33, 64)):
        assert difference(loaded, network, *shape) < 1e-5


@pytest.mark.slow
def test_the_older_exporter_writes_a_resnet_for_any_size(tmp_path: Path) -> None:
    """With a head, and borders that older exporters write down for one size alone."""
    needs_onnx("torchscript")
    arguments = {"ngf": 4, "n_blocks": 1, "padding": "replicate", "norm": "batch", "head": 4}
    config = {"generator": {"architecture": "resnet", **arguments}}
    torch.manual_seed(0)
    save_generator(tmp_path / "net.safetensors", ResnetGenerator(**arguments), config=config)
    argv = [str(tmp_path / "net.safetensors"), "--exporter", "torchscript"]
    assert export([*argv, "--out", str(tmp_path / "net.onnx")]) == 0
    loaded = steadypix.load_generator(tmp_path / "net.onnx")
    network = steadypix.load_generator(tmp_path / "net.safetensors")
    for shape in ((1, 3, 32, 64), (2, 3, 37, 41)):
        assert difference(loaded, network, *shape) < 1e-5


@pytest.mark.slow
def test_a_program_of_one_size_says_so(tmp_path: Path, capsys: Capture) -> None:
    network = liven(PublishedUnet(ngf=2))
    torch.save(network.state_dict(), tmp_path / "latest_net_G.pth")
    out = tmp_path / "net.pt2"
    assert export([str(tmp_path / "latest_net_G.pth"), "--size", "48", "--out", str(out)]) == 0
    assert "48 x 48 px only" in capsys.readouterr().out
    loaded = steadypix.load_generator(out, trust=True)
    assert loaded.dims == (2, 3, 48, 48)
    assert loaded.config["data"] == {"crop_size": 48}  # type: ignore[index]
    assert difference(loaded, steadypix.load_generator(tmp_path / "latest_net_G.pth"), 3, 3, 48, 48) < 1e-5


def flexible() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Tanh())


def rigid() -> nn.Module:
    torch.manual_seed(0)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 3 * 64 * 64), nn.Tanh())
    return nn.Sequential(nn.AdaptiveAvgPool2d(64), linear, nn.Unflatten(1, (3, 64, 64)))


def loud() -> nn.Module:
    return nn.Conv2d(3, 3, 1).apply(lambda layer: nn.init.constant_(layer.weight, 9.0))


def enlarging() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Upsample(scale_factor=2), nn.Tanh())


@pytest.mark.slow
def test_networks_of_others(tmp_path: Path, capsys: Capture) -> None:
    out = str(tmp_path / "net.pt2")
    assert export([f"{__name__}:flexible", "--out", out, "--trust"]) == 0
    assert "any size" in capsys.readouterr().out
    again = steadypix.load_generator(out, trust=True)
    assert (
        difference(again, steadypix.load_generator(f"{__name__}:flexible", trust=True), 2, 3, 33, 50) < 1e-6
    )
    assert export([f"{__name__}:loud", "--out", str(tmp_path / "loud.pt2"), "--trust"]) == 2
    one_error_line(capsys, "loud.pt2", "outside of [-1, 1]")
    assert export([f"{__name__}:flexible", "--out", out]) == 2
    one_error_line(capsys, "--trust")
    assert [file.name for file in tmp_path.iterdir()] == ["net.pt2"]


@pytest.mark.slow
def test_an_exported_enlargement_is_measured_without_targets(tmp_path: Path, capsys: Capture) -> None:
    out = str(tmp_path / "net.pt2")
    assert export([f"{__name__}:enlarging", "--out", out, "--trust"]) == 0
    words = ["--data", "synthetic-facades", "--limit", "1", "--window", "64", "--canvas", "72"]
    words += ["--shifts", "1", "--device", "cpu", "--trust", "--out", str(tmp_path / "eval")]
    assert eval_stability([out, *words]) == 0
    assert "outputs are 2 times as large" in capsys.readouterr().err


# ---- refusals -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_file_that_differs_is_not_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    ours = write_checkpoint(tmp_path / "net.safetensors", tiny_config())
    out = tmp_path / "out" / "net.pt2"
    out.parent.mkdir()
    out.write_text("the one of before")

    def altered(network: nn.Module) -> nn.Module:
        network = any_size.for_any_size(network)
        with torch.no_grad():
            next(network.parameters()).mul_(1.5)
        return network

    monkeypatch.setattr(exporting, "for_any_size", altered)
    assert export([str(ours), "--size", "32", "--out", str(out)]) == 2
    one_error_line(capsys, "net.pt2", "differs from the network by", "more than 0.0001")
    assert [file.read_text() for file in out.parent.iterdir()] == ["the one of before"]


def test_what_cannot_be_exported(tmp_path: Path, capsys: Capture) -> None:
    ours = str(write_checkpoint(tmp_path / "net.safetensors", tiny_config()))
    (tmp_path / "folder.pt2").mkdir()
    (tmp_path / "net.onnx").write_bytes(b"\x08\x07")
    for argv, culprits in (
        ([ours, "--out", "net.bin"], ["net.bin", ".pt2 or .onnx"]),
        ([ours, "--format", "onnx", "--out", "net.pt2"], ["net.pt2", ".onnx"]),
        ([ours, "--exporter", "dynamo", "--out", "net.pt2"], ["--exporter", "onnx"]),
        ([ours, "--out", str(tmp_path / "folder.pt2")], ["is a folder"]),
        ([str(tmp_path / "net.onnx"), "--out", str(tmp_path / "n.onnx")], ["is an ONNX model"]),
        (["nowhere", "--out", str(tmp_path / "n.onnx")], ["nowhere"]),
        ([ours, "--out", str(tmp_path / "net.safetensors" / "n.pt2")], ["net.safetensors"]),
    ):
        assert export(argv) == 2
        one_error_line(capsys, *culprits)


def test_a_program_of_rectangles_is_not_exported(tmp_path: Path, capsys: Capture) -> None:
    program = torch.export.export(flexible(), (torch.zeros(2, 3, 32, 48),))
    torch.export.save(program, tmp_path / "wide.pt2")
    assert export([str(tmp_path / "wide.pt2"), "--trust", "--out", str(tmp_path / "o.pt2")]) == 2
    one_error_line(capsys, "takes squares alone, not 48x32 px")


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "[1]",
        "{",
        "[" * 100_000,
        json.dumps({"format": "steadypix.exported.v9", "config": {}, "provenance": {}, "least_px": 1}),
        json.dumps({"format": "steadypix.exported.v1", "config": {}, "provenance": {}, "least_px": "a"}),
        json.dumps({"format": "steadypix.exported.v1", "config": [], "provenance": {}, "least_px": 1}),
        json.dumps(
            {
                "format": "steadypix.exported.v1",
                "config": {"generator": {"norm": ["batch"]}},
                "provenance": {},
                "least_px": 1,
            }
        ),
    ],
)
def test_what_a_file_says_of_itself_is_checked(text: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(nn.Conv2d(3, 3, 1), (picture(1, 3, 8, 8),))
        torch.export.save(program, tmp_path / "net.pt2", extra_files={METADATA: text})
    with pytest.raises(steadypix.InputError, match=r"net\.pt2: what it says of itself"):
        load_program(tmp_path / "net.pt2", "cpu")


@pytest.mark.slow
def test_data_of_an_exported_run_are_checked_like_the_runs_own(tmp_path: Path, capsys: Capture) -> None:
    config = dataclasses.asdict(tiny_config())
    config["data"]["crop_size"] = 10**9
    metadata = {"format": "steadypix.exported.v1", "config": config, "provenance": {}, "least_px": 1}
    dynamic = ({0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO},)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(nn.Conv2d(3, 3, 1), (picture(2, 3, 8, 8),), dynamic_shapes=dynamic)
        torch.export.save(program, tmp_path / "net.pt2", extra_files={METADATA: json.dumps(metadata)})
    assert eval_stability([str(tmp_path / "net.pt2"), "--trust", "--out", str(tmp_path / "o")]) == 2
    one_error_line(capsys, "net.pt2", "crop_size")


def test_circular_generators_are_compared_at_their_own_sizes() -> None:
    network = UNetGenerator(ngf=2, num_downs=3, padding="circular")
    program = exporting.Program(network)
    sizes = exporting._sizes(network, program, {"window_px": 30, "least_px": 30})
    assert sizes == [(1, 32, 32), (3, 8, 16)]


def test_a_full_disk_does_not_end_the_process(tmp_path: Path) -> None:
    """torch's own writer of files aborts; a limit on the size of files is a disk that fills."""
    run = write_checkpoint(tmp_path / "net.safetensors", tiny_config())
    script = (
        "import resource, sys\n"
        "from steadypix.checkpoints.export import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (16384, resource.RLIM_INFINITY))\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    words = [sys.executable, "-c", script, str(run), "--out", str(tmp_path / "out" / "net.pt2")]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.strip().splitlines()[-1].endswith("net.pt2: File too large")
    assert not list((tmp_path / "out").glob("*"))
