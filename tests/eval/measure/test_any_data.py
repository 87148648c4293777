"""eval_stability on anything: pictures without targets, rectangles, ranges, other channels and sizes."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from steadypix.eval import eval_stability
from steadypix.eval.eval_stability import main
from tests.cli import one_error_line

Capture = pytest.CaptureFixture[str]
NETS = """
import torch
from torch import nn
from torch.nn import functional as F

def steps(x):
    return F.interpolate(x[..., ::2, ::2], scale_factor=2.0)

class Parts(nn.Module):
    def forward(self, x):
        return {"out": steps(x), "aux": x}

def parts():
    return Parts()

def unit(x):  # on [0, 1]
    return (steps(x * 2 - 1) + 1) / 2

def byte(x):  # on [0, 255]
    return (steps(x / 127.5 - 1) + 1) * 127.5

def twice():
    return nn.Sequential(nn.Conv2d(1, 1, 1), nn.Upsample(scale_factor=2))

def valid():
    return nn.Conv2d(3, 3, 7)

def gray():
    return nn.Sequential(nn.Conv2d(3, 1, 1))

def four():
    return nn.Sequential(nn.Conv2d(5, 4, 1))
"""
FAST = ["--trust", "--device", "cpu", "--shifts", "0..2", "--margins", "0"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "any_nets.py").write_text(NETS)
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for number in range(2):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 9, 3), dtype=np.uint8))
        coarse.resize((60, 40), Image.Resampling.BICUBIC).save(tmp_path / "photos" / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "any_nets", raising=False)
    return tmp_path


def run(name: str, *options: str, data: str = "photos") -> dict[str, Any]:
    assert main([f"any_nets:{name}", "--data", data, "--out", "out", *FAST, *options]) == 0
    results: dict[str, Any] = json.loads(Path("out/results.json").read_text())
    return results


def lead(results: dict[str, Any]) -> float:
    return float(results["models"][0]["stability"]["crop"]["0"]["odd_mean_db"]["mean"])


@pytest.mark.usefixtures("here")
def test_a_folder_of_photos_as_rectangles(capsys: Capture) -> None:
    options = ["--window", "48x32", "--canvas", "54x36", "--quality", "ssim,checkerboard"]
    results = run("steps", *options, "--protocol", "crop,roll,eqt", "--perturb", "noise")
    said = capsys.readouterr()
    assert "2 pictures without targets" in said.err
    assert "no targets: l1, psnr, ssim left out" in said.err
    data, quality = results["data"], results["models"][0]["quality"]
    assert (data["window_px"], data["canvas_px"], data["targets"]) == ([48, 32], [54, 36], False)
    assert quality.keys() == {"tv", "target_tv", "tv_ratio", "checkerboard_db", "target_checkerboard_db"}
    assert quality["tv"]["mean"] > 0
    assert quality["tv_ratio"] is None
    assert not Path("out/frames/target.webp").exists()
    assert json.loads(Path("out/frames/frames.json").read_text())["target"] is None
    page = Path("out/report.html").read_text()
    assert "54x36 px" in page
    assert "There are no targets" in page


@pytest.mark.usefixtures("here")
def test_ranges_give_one_score_and_are_named_where_they_are_evident(capsys: Capture) -> None:
    options = ["--window", "32", "--canvas", "40"]
    expected = lead(run("steps", *options))
    results = run("unit", *options, "--range", "0,1")
    assert lead(results) == pytest.approx(expected, abs=1e-3)
    assert results["models"][0]["output_range"] == [0.0, 1.0]
    assert lead(run("byte", *options, "--range", "0,255")) == pytest.approx(expected, abs=1e-3)
    capsys.readouterr()
    run("unit", *options)
    # Inputs on [-1, 1] were given to a network on [0, 1]: its outputs reach below 0, so nothing is evident.
    assert "--range" not in capsys.readouterr().err
    assert (
        main(
            ["any_nets:steps", "--data", "photos", "--out", "no", *FAST, *options, "--range", "0,0.1:0,0.01"]
        )
        == 2
    )
    one_error_line(capsys, "any_nets:steps on 0", "outside of its stated range [0, 0.01]")
    assert not Path("no/results.json").exists()
    assert main(["facades-blur", "--data", "photos", *FAST, "--range", "0,1"]) == 2
    one_error_line(capsys, "--range", "made elsewhere")


@pytest.mark.usefixtures("here")
def test_channels_parts_and_sizes_are_found(capsys: Capture) -> None:
    options = ["--window", "32", "--canvas", "40"]
    results = run("twice", *options)
    assert results["models"][0]["generator"] == {"in_channels": 1, "out_channels": 1}
    assert lead(results) == 150.0
    assert lead(run("valid", *options)) > 100  # of 32 px 26 are left; they move with the input
    assert main(["any_nets:four", "--data", "photos", *FAST, *options]) == 2
    one_error_line(capsys, "any_nets:four", "3, 1, 4 channels", "--channels")
    assert main(["any_nets:parts", "--data", "photos", *FAST, *options]) == 2
    one_error_line(capsys, "any_nets:parts", "'out', 'aux'", "--output_key 'out'")
    assert lead(run("parts", *options, "--output_key", "out")) == lead(run("steps", *options))


@pytest.mark.parametrize("convention", [[], ["--published-convention"]])
@pytest.mark.usefixtures("here")
def test_what_is_gone_on_with_depends_on_range_and_output(
    convention: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def heading_of(*args: Any) -> dict[str, Any]:
        seen.append(heading(*args))
        return seen[-1]

    heading = eval_stability.heading
    monkeypatch.setattr(eval_stability, "heading", heading_of)
    options = ["--window", "32", "--canvas", "40", "--limit", "1", *convention]
    for more in (["--output_key", "out"], ["--output_key", "aux"], ["--output_key", "aux", "--range=-2,2"]):
        run("parts", *options, *more)
    assert all(first != second for first, second in itertools.combinations(seen, 2))


def test_onnx_that_says_nothing_of_its_channels(here: Path) -> None:
    """Of graphs with free channels the number is found by running them."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed (the extra steadypix[onnx])")
    free = [onnx.helper.make_tensor_value_info(n, 1, ["b", n, "h", n + "w"]) for n in "xy"]
    for taken, given in ((1, 1), (4, 3)):
        weight = onnx.numpy_helper.from_array(np.full((given, taken, 1, 1), 0.2, dtype=np.float32), "w")
        node = onnx.helper.make_node("Conv", ["x", "w"], ["y"])
        graph = onnx.helper.make_graph([node], "net", free[:1], free[1:], [weight])
        opset = [onnx.helper.make_opsetid("", 17)]
        onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), f"net{taken}.onnx")
    for number in range(2):
        Image.fromarray(np.full((40, 40, 4), 60 * number, dtype=np.uint8)).save(
            here / "photos" / f"{number}.png"
        )
    for taken, given in ((1, 1), (4, 3)):
        options = ["--data", "photos", "--out", "o", *FAST, "--window", "32", "--canvas", "40"]
        assert main([f"net{taken}.onnx", *options]) == 0
        results = json.loads(Path("o/results.json").read_text())
        assert results["models"][0]["generator"] == {"in_channels": taken, "out_channels": given}
        assert results["data"]["input_channels"] == taken


@pytest.mark.parametrize(
    ("options", "culprit"),
    [
        (["--window", "0x4"], "--window"),
        (["--range", "1,0"], "range '1,0'"),
        (["--channels", "a"], "channels 'a'"),
        (["--window", "32", "--canvas", "30x40"], "crop size 32 px"),
        (["--window", "24x16", "--canvas", "32x24", "--seam", "16"], "--seam"),
    ],
)
@pytest.mark.usefixtures("here")
def test_what_makes_no_sense_is_one_line(options: list[str], culprit: str, capsys: Capture) -> None:
    assert main(["any_nets:steps", "--data", "photos", "--out", "out", *FAST, *options]) == 2
    one_error_line(capsys, culprit)
    assert not Path("out").exists()


@pytest.mark.usefixtures("here")
def test_pairs_and_twice_as_large_outputs(pair_folder: Path, capsys: Capture) -> None:
    results = run("valid", "--window", "32", "--canvas", "40", data=str(pair_folder))
    assert results["data"]["targets"]
    assert results["models"][0]["quality"]["l1"]["mean"] > 0  # to the middle of the target
    assert (
        run("gray", "--window", "32", "--canvas", "40", data=str(pair_folder))["data"]["output_channels"] == 1
    )
    results = run("twice", "--window", "32", "--canvas", "40", data=str(pair_folder))
    assert "outputs are 2 times as large as the pictures" in capsys.readouterr().err
    assert "l1" not in results["models"][0]["quality"]
