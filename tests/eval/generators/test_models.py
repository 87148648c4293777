"""One loader for every generator: the format is found from the file, and nothing runs without trust."""

from __future__ import annotations

import json
import os
import sys
import textwrap
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from steadypix.errors import InputError
from steadypix.eval.eval_stability import main as eval_stability
from steadypix.eval.generators.formats import find_format
from steadypix.eval.generators.models import load_models
from steadypix.eval.generators.onnx_process import open_session
from steadypix.eval.generators.programs import Program
from tests.cli import Capture, one_error_line
from tests.conftest import tiny_config, write_checkpoint
from tests.published_nets import PublishedResnet, PublishedUnet, liven

pytestmark = pytest.mark.slow

FAST = ["--shifts", "0..2", "--margins", "4", "--device", "cpu", "--limit", "2"]
TINY = ["--window", "32", "--canvas", "40"]


def picture(size: int = 32, batch: int = 2, channels: int = 3) -> Tensor:
    return torch.rand(batch, channels, size, size, generator=torch.Generator().manual_seed(3)) * 2 - 1


def export(network: nn.Module, path: Path, size: int = 32, *, batch: int = 1, dynamic: bool = False) -> Path:
    """Write a torch.export program."""
    auto = torch.export.Dim.AUTO
    shapes = {0: auto, 2: auto, 3: auto} if dynamic else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sample = (picture(size, batch + dynamic),)
        program = torch.export.export(network.eval(), sample, dynamic_shapes=(shapes,) if shapes else None)
        torch.export.save(program, path)
    return path


def export_onnx(network: nn.Module, path: Path, size: int = 32, *, dynamic: bool = False) -> Path:
    pytest.importorskip("onnx", reason="onnx is not installed (the extra steadypix[onnx])")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed (the extra steadypix[onnx])")
    shapes = ({0: "n", 2: "h", 3: "w"},) if dynamic else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sample = (picture(size, 2 if dynamic else 1),)
        torch.onnx.export(network.eval(), sample, path, dynamo=True, dynamic_shapes=shapes, verbose=False)
    return path


def evaluate(argv: list[str], out: Path) -> dict:
    assert eval_stability([*argv, *FAST, "--out", str(out)]) == 0
    return json.loads((out / "results.json").read_text())


@pytest.fixture
def callable_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module in the current folder, with functions that return networks and other things."""
    (tmp_path / "own_nets.py").write_text(
        textwrap.dedent(
            """
            import torch
            def net(): return torch.nn.Sequential(torch.nn.Conv2d(3, 3, 3, padding=1), torch.nn.Tanh())
            def gray(): return torch.nn.Sequential(torch.nn.Conv2d(3, 1, 1))
            def wide(): return torch.nn.Sequential(torch.nn.Conv2d(5, 3, 1))
            def number(): return 3
            def broken(): raise RuntimeError("weights are at home")
            """
        )
    )
    monkeypatch.chdir(tmp_path)
    yield "own_nets"
    sys.modules.pop("own_nets", None)


# ---- formats ----------------------------------------------------------------------------------------


def test_formats_are_found_from_the_file(tmp_path: Path, pair_folder: Path) -> None:
    ours = write_checkpoint(tmp_path / "ours.safetensors", tiny_config(pair_folder))
    torch.save(PublishedUnet().state_dict(), tmp_path / "zip.bin")
    torch.save({"a": torch.ones(1)}, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    export(nn.Conv2d(3, 3, 1), tmp_path / "program.bin.pt2").rename(tmp_path / "program.bin")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "generator.safetensors").write_bytes(ours.read_bytes())
    (tmp_path / "run" / "sample.png").touch()
    for name, format in {
        "ours.safetensors": "steadypix",
        "run": "steadypix",
        "zip.bin": "pix2pix",
        "old.bin": "pix2pix",
        "program.bin": "program",
        "pairs/test": "outputs",
        "nowhere.onnx": "steadypix",
        "nowhere": "steadypix",
    }.items():
        assert find_format(tmp_path / name) == format, name
    assert find_format(Path("package.module:function")) == "callable"
    assert find_format(Path("C:/nowhere")) == "steadypix"


def test_torchscript_is_told_from_weights(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(nn.Conv2d(3, 3, 1), picture()).save(str(tmp_path / "script.pt"))
    with pytest.raises(InputError, match=r"script\.pt: is a TorchScript archive"):
        load_models([tmp_path / "script.pt"])


# ---- pix2pix weights --------------------------------------------------------------------------------


def test_published_weights_are_measured(tmp_path: Path, pair_folder: Path) -> None:
    paths = []
    for name, network in (("unet", PublishedUnet()), ("resnet", PublishedResnet())):
        path = tmp_path / name / "latest_net_G.pth"
        path.parent.mkdir()
        torch.save(liven(network).state_dict(), path)
        paths.append(str(path))
    results = evaluate([*paths, "--data", str(pair_folder), *TINY, "--direction", "AtoB"], tmp_path / "o")
    unet, resnet = results["models"]
    assert (unet["name"], unet["format"], unet["norm_mode"]) == ("unet", "pix2pix", "running statistics")
    assert (resnet["name"], resnet["generator"]["n_blocks"]) == ("resnet", 2)
    assert len(unet["sha256"]) == 64
    data = results["data"]
    assert (data["window_px"], data["canvas_px"], data["direction"], data["assumed"]) == (32, 40, "AtoB", [])


def test_names_of_published_files(tmp_path: Path) -> None:
    names = {"latest_net_G.pth": "maps", "45_net_G_A.pth": "maps-A@45", "latest_net_G_B.pth": "maps-B"}
    (tmp_path / "maps").mkdir()
    for file in names:
        torch.save(PublishedUnet().state_dict(), tmp_path / "maps" / file)
    models = load_models([tmp_path / "maps" / file for file in names])
    assert [model.name for model in models] == list(names.values())


def test_code_in_weights_is_refused(tmp_path: Path, capsys: Capture) -> None:
    torch.save(PublishedUnet(), tmp_path / "latest_net_G.pth")
    assert eval_stability([str(tmp_path / "latest_net_G.pth"), "--out", str(tmp_path / "o")]) == 2
    one_error_line(capsys, "latest_net_G.pth", "can run code: refused")


# ---- what is not known is assumed, and said -----------------------------------------------------------


def test_unknown_sizes_are_assumed_and_reported(tmp_path: Path, capsys: Capture) -> None:
    torch.save(PublishedUnet().state_dict(), tmp_path / "w.pth")
    argv = [str(tmp_path / "w.pth"), "--data", "synthetic-maps", "--limit", "1"]
    argv += ["--shifts", "1", "--device", "cpu", "--out", str(tmp_path / "o")]
    assert eval_stability([*argv, "--margins", "16"]) == 0
    data = json.loads((tmp_path / "o" / "results.json").read_text())["data"]
    assert (data["window_px"], data["canvas_px"], data["direction"]) == (256, 286, "BtoA")
    assert data["assumed"] == ["direction", "canvas_px", "window_px"]
    said = capsys.readouterr().err
    assert "assumed direction BtoA, canvas 286, window 256" in said
    assert eval_stability([*argv, "--window", "32"]) == 0
    data = json.loads((tmp_path / "o" / "results.json").read_text())["data"]
    assert (data["canvas_px"], data["assumed"]) == (36, ["direction", "canvas_px"])


def test_foreign_generators_take_over_what_ours_know(tmp_path: Path, checkpoints: list[Path]) -> None:
    torch.save(PublishedUnet().state_dict(), tmp_path / "w.pth")
    results = evaluate([str(tmp_path / "w.pth"), str(checkpoints[1])], tmp_path / "o")
    assert (results["data"]["window_px"], results["data"]["assumed"]) == (32, [])
    assert results["comparisons"][0]["reference"] == "w"  # its sampling is known to be strided


def test_options_win_over_checkpoints(tmp_path: Path, checkpoints: list[Path]) -> None:
    results = evaluate([str(checkpoints[0]), "--window", "24", "--direction", "AtoB"], tmp_path / "o")
    assert (results["data"]["window_px"], results["data"]["canvas_px"]) == (24, 40)
    assert results["data"]["direction"] == "AtoB"


def test_pictures_must_be_named(tmp_path: Path, capsys: Capture) -> None:
    torch.save(PublishedUnet().state_dict(), tmp_path / "w.pth")
    for more in ([], ["--data", "synthetic"]):
        assert eval_stability([str(tmp_path / "w.pth"), "--out", str(tmp_path / "o"), *more]) == 2
        one_error_line(capsys, "w.pth", "--data DIR")


# ---- torch.export programs ----------------------------------------------------------------------------


@pytest.mark.parametrize("dynamic", [False, True])
def test_programs(tmp_path: Path, dynamic: bool) -> None:
    network = liven(PublishedResnet(norm="batch")).eval()
    path = export(network, tmp_path / "net.pt2", dynamic=dynamic)
    (model,) = load_models([path], trust=True)
    assert model.config["data"] == ({} if dynamic else {"crop_size": 32})
    x = picture(batch=3)  # a program made for one picture at a time gets one at a time
    with torch.no_grad():
        torch.testing.assert_close(model.module(x), network(x), rtol=0, atol=1e-5)
    model.module.eval()  # shift_stability does this; the exported module itself would refuse


def test_programs_are_measured_like_the_weights(tmp_path: Path, pair_folder: Path) -> None:
    network = liven(PublishedUnet()).eval()
    torch.save(network.state_dict(), tmp_path / "w.pth")
    paths = [str(export(network, tmp_path / "net.pt2")), str(tmp_path / "w.pth")]
    argv = [*paths, "--trust", "--data", str(pair_folder), "--canvas", "40"]
    program, weights = evaluate(argv, tmp_path / "o")["models"]
    assert (program["format"], program["dropout_mode"]) == ("program", "as made elsewhere")
    first, second = (m["stability"]["crop"]["4"]["mean_db"]["mean"] for m in (program, weights))
    assert first == pytest.approx(second, abs=1e-3)


def test_programs_need_trust(tmp_path: Path, callable_module: str, capsys: Capture) -> None:
    path = str(export(nn.Conv2d(3, 3, 1), tmp_path / "net.pt2"))
    for culprit in (path, f"{callable_module}:net"):
        assert eval_stability([culprit, "--out", str(tmp_path / "o")]) == 2
        one_error_line(capsys, culprit, "can run code", "--trust")
    assert callable_module not in sys.modules


def test_programs_of_another_size(tmp_path: Path, checkpoints: list[Path], capsys: Capture) -> None:
    path = str(export(nn.Conv2d(3, 3, 1), tmp_path / "net.pt2", size=24))
    argv = [path, "--trust", *FAST, "--out", str(tmp_path / "o")]
    assert eval_stability([*argv, "--data", "synthetic-facades", "--window", "32"]) == 2
    one_error_line(capsys, "net.pt2", "24 x 24 px only", "32 x 32 px", "--window 24")
    assert eval_stability([str(checkpoints[0]), *argv]) == 2
    one_error_line(capsys, "crop_size", "24", "32")


def test_programs_that_are_none(tmp_path: Path) -> None:
    whole = export(nn.Conv2d(3, 3, 1), tmp_path / "net.pt2").read_bytes()
    (tmp_path / "cut.pt2").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cut\.pt2: cannot be loaded"):
        load_models([tmp_path / "cut.pt2"], trust=True)
    wide = torch.export.export(nn.Conv2d(3, 3, 1), (torch.rand(1, 3, 8, 16),))
    torch.export.save(wide, tmp_path / "wide.pt2")
    (rectangle,) = load_models([tmp_path / "wide.pt2"], trust=True)
    assert rectangle.config["data"] == {"crop_size": [16, 8]}  # width first
    with pytest.raises(InputError, match="takes 8 x 16 px only, but gets 16 x 8 px; expected --window 16x8"):
        rectangle.module(torch.zeros(1, 3, 16, 8))
    torch.export.save(
        torch.export.export(nn.Bilinear(2, 2, 2), (torch.ones(1, 2),) * 2), tmp_path / "two.pt2"
    )
    with pytest.raises(InputError, match=r"two\.pt2: takes 2 inputs"):
        load_models([tmp_path / "two.pt2"], trust=True)


@pytest.mark.parametrize("fixed", [1, 2, 4, 5, 7])
def test_batches_are_cut_and_filled_to_the_programs_own(fixed: int) -> None:
    sizes = []

    def run(x: Tensor) -> Tensor:
        sizes.append(len(x))
        return 2 * x

    x = picture(batch=5)
    torch.testing.assert_close(Program(run, (fixed, 3, 32, 32))(x), 2 * x, rtol=0, atol=0)
    assert set(sizes) == {fixed}
    with pytest.raises(InputError, match="takes 1 channels, but the pictures have 3"):
        Program(run, (None, 1, None, None))(x)
    with pytest.raises(InputError, match=r"gives \(5, 3\) for pictures"):
        Program(lambda x: x[..., 0, 0])(x)


# ---- callables ----------------------------------------------------------------------------------------


def test_callables(tmp_path: Path, callable_module: str, pair_folder: Path) -> None:
    argv = [f"{callable_module}:net", "--trust", "--data", str(pair_folder), *TINY]
    first = evaluate(argv, tmp_path / "o")
    assert first["models"][0]["name"] == "own_nets:net"
    assert first["models"][0]["format"] == "callable"
    second = evaluate(argv, tmp_path / "o")  # random weights, but the same ones
    assert {**first, "created": 0} == {**second, "created": 0}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("own_nets:number", "returned int; expected a torch.nn.Module"),
        ("own_nets:broken", "weights are at home"),
        ("own_nets:missing", "missing"),
        ("no_such_module:net", "no_such_module"),
        ("own_nets:wide", "cannot take pictures of shape"),
    ],
)
def test_callables_that_cannot_be_used(
    tmp_path: Path, callable_module: str, pair_folder: Path, capsys: Capture, name: str, words: str
) -> None:
    argv = [name, "--trust", "--data", str(pair_folder), *TINY, *FAST, "--out", str(tmp_path / "o")]
    assert eval_stability(argv) == 2
    one_error_line(capsys, name, words)


# ---- ONNX ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("network", [PublishedUnet, PublishedResnet])
def test_onnx(tmp_path: Path, network: type[nn.Module], dynamic: bool) -> None:
    published = liven(network(norm="batch")).eval()
    (model,) = load_models([export_onnx(published, tmp_path / "net.onnx", dynamic=dynamic)])
    assert model.config["data"] == ({} if dynamic else {"crop_size": 32})
    x = picture()
    with torch.no_grad():
        torch.testing.assert_close(model.module(x), published(x), rtol=0, atol=1e-5)


def test_onnx_is_measured(tmp_path: Path, pair_folder: Path, capsys: Capture) -> None:
    path = export_onnx(liven(PublishedUnet()), tmp_path / "net.onnx")
    argv = [str(path), "--data", str(pair_folder), "--canvas", "40"]
    (model,) = evaluate(argv, tmp_path / "o")["models"]
    assert (model["format"], model["dropout_mode"]) == ("onnx", "as made elsewhere")
    assert eval_stability([*argv, *FAST, "--window", "24", "--out", str(tmp_path / "o")]) == 2
    one_error_line(capsys, "net.onnx", "32 x 32 px only", "--window 32")


def test_damaged_onnx(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed (the extra steadypix[onnx])")
    (tmp_path / "net.onnx").write_bytes(b"\x08\x07 no model")
    with pytest.raises(InputError, match=r"net\.onnx: is damaged or no ONNX model"):
        load_models([tmp_path / "net.onnx"])


def test_onnx_without_its_packages_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    hidden = tmp_path / "hidden"
    for name in ("onnx", "onnxruntime"):
        (hidden / name).mkdir(parents=True)
        (hidden / name / "__init__.py").write_text("raise ImportError\n")
    monkeypatch.setenv("PYTHONPATH", str(hidden))
    (tmp_path / "net.onnx").write_bytes(b"\x08\x07")
    assert eval_stability([str(tmp_path / "net.onnx"), "--out", str(tmp_path / "o")]) == 2
    one_error_line(capsys, "net.onnx", "steadypix[onnx]")


def test_onnxruntime_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for the package: what is asked of it, and that its answer is what comes out."""

    class Value:
        name, type, shape = "x", "tensor(float)", ["n", 3, 32, 32]

    class InferenceSession:
        def __init__(self, path: str, providers: list[str]) -> None:
            assert (Path(path).name, providers) == ("net.onnx", ["CPUExecutionProvider"])

        def get_inputs(self) -> list[Value]:
            return [Value()]

        get_outputs = get_inputs

        def get_modelmeta(self) -> object:
            return SimpleNamespace(custom_metadata_map={})

        def run(self, names: None, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
            assert feed["x"].dtype == np.float32
            return [feed["x"] / 2]

    module = type(sys)("onnxruntime")
    module.InferenceSession = InferenceSession
    monkeypatch.setitem(sys.modules, "onnxruntime", module)
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    session = open_session(str(tmp_path / "net.onnx"))
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
    assert (session.taken, session.given) == ((None, 3, 32, 32),) * 2
    np.testing.assert_array_equal(session.run(np.float32([1, 2])), [0.5, 1])
