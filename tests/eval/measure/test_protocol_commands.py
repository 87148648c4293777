"""`eval_stability` with subpixel, eqt and pan, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from steadypix.configs.schema import DataConfig, GeneratorConfig
from steadypix.eval.charts.pan_chart import draw_pan_spectrum
from steadypix.eval.eval_stability import main
from tests.cli import Capture, one_error_line
from tests.conftest import tiny_config, write_checkpoint

pytestmark = pytest.mark.slow

CPU = ["--device", "cpu", "--limit", "2"]


@pytest.fixture
def pair(tmp_path: Path) -> list[Path]:
    """A strided and a blur generator for procedural facades, 64 px of 72, untrained."""
    data = DataConfig(load_size=72, crop_size=64, synthetic_count=4)
    return [
        write_checkpoint(
            tmp_path / f"{sampling}.safetensors",
            tiny_config(data=data, generator=GeneratorConfig(ngf=4, num_downs=3, sampling=sampling)),
        )
        for sampling in ("strided", "blur")
    ]


def evaluate(pair: list[Path], out: Path, *more: str) -> dict:
    assert main([*map(str, pair), *CPU, "--out", str(out), *more]) == 0
    return json.loads((out / "results.json").read_text())


def test_every_protocol_beside_each_other(pair: list[Path], tmp_path: Path, capsys: Capture) -> None:
    argv = ["--shifts", "0,1,1/2,0.25", "--margins", "0,15,20", "--protocol", "crop,subpixel,roll,eqt"]
    results = evaluate(pair, tmp_path / "o", *argv, "--pan", "1", "--pan-frames", "6")
    captured = capsys.readouterr()
    assert "crop: takes whole shifts" in captured.err
    assert "subpixel: margin 20 px leaves nothing of a 31 px overlap" in captured.err
    for column in ("crop, 0 px [dB]", "subpixel, 15 px, fractional [dB]", "EQ-T [dB]", "pan 1 px [dB]"):
        assert column in captured.out
    assert list(results["protocols"]) == ["crop", "subpixel", "roll", "eqt"]
    assert results["shifts_px"] == [0, 0.25, 0.5, 1]
    for model in results["models"]:
        shifts = {
            name: [row["dx"] for row in margins["0"]["per_shift"]]
            for name, margins in model["stability"].items()
        }
        assert shifts == {"crop": [1], "subpixel": [0.25, 0.5, 1], "roll": [0.25, 0.5, 1]}
        assert list(model["stability"]["crop"]) == ["0", "15", "20"]
        assert list(model["stability"]["subpixel"]) == ["0", "15"]
        low, high = model["eqt"]["ci95_db"]
        assert low <= model["eqt"]["db"] <= high
        assert len(model["eqt"]["image_db"]) == 2
        (pan,) = model["pan"]
        assert pan["speed_px"] == 1
        assert pan["cycles_per_frame"] == [1 / 6, 2 / 6, 3 / 6]
        assert len(pan["energy"]) == 3
    strided, blur = results["models"]
    gains = {row["protocol"]: row for row in results["comparisons"]}
    assert gains["eqt"]["gain_db"]["mean"] == pytest.approx(blur["eqt"]["db"] - strided["eqt"]["db"])
    steady = [model["pan"][0]["difference_db"]["mean"] for model in (strided, blur)]
    assert gains["pan"]["gain_db"]["mean"] == pytest.approx(steady[1] - steady[0])
    assert gains["subpixel"]["over"] == "fractional shifts"
    # The window's 64 px, a path of 3 px to either side, the sinc's 16 px.
    assert results["pan"]["canvas_px"] == 64 + 2 * (3 + 16)
    with Image.open(tmp_path / "o" / "pan_1px.webp") as film:
        assert film.n_frames == 6
    assert {"curve.png", "pan.png", "grid.png"} <= {path.name for path in (tmp_path / "o").iterdir()}


def test_the_same_command_gives_the_same_numbers(tmp_path: Path) -> None:
    data = DataConfig(load_size=96, crop_size=88, synthetic_count=4)
    file = write_checkpoint(tmp_path / "net.safetensors", tiny_config(data=data))
    argv = ["--shifts", "1/2,1", "--protocol", "subpixel,eqt", "--margins", "0", "--pan", "1/2"]
    argv += ["--pan-frames", "2", "--axis", "diagonal"]
    first = evaluate([file], tmp_path / "a", *argv)
    second = evaluate([file], tmp_path / "a", *argv)
    assert first["models"][0]["pan"][0]["speed_px"] == 0.5
    assert {**first, "created": 0} == {**second, "created": 0}


def test_the_spectrum_is_drawn_from_the_results_alone(tmp_path: Path) -> None:
    pan = {"speed_px": 0.5, "cycles_per_frame": [0.25, 0.5], "energy": [1e-3, 0.0]}
    models = [{"name": "a $1$ <b>", "quality": {"tv_ratio": None}, "pan": [pan]}]
    for name in ("one", "two"):
        draw_pan_spectrum(tmp_path / f"{name}.png", {"models": models})
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    with pytest.raises(ValueError, match="--pan"):
        draw_pan_spectrum(tmp_path / "none.png", {"models": [*models, {"name": "b"}]})


def test_eqt_alone_leads(pair: list[Path], tmp_path: Path, capsys: Capture) -> None:
    results = evaluate(pair, tmp_path / "o", "--protocol", "eqt", "--json", "--worst", "1")
    assert [model["stability"] for model in results["models"]] == [{}, {}]
    worst = min(results["models"][0]["eqt"]["image_db"])
    assert results["worst"]["strided"][0]["mean_db"] == pytest.approx(worst)
    argv = [*map(str, pair), *CPU, "--protocol", "eqt", "--out", str(tmp_path / "o")]
    lowest = min(model["eqt"]["db"] for model in results["models"])
    assert main([*argv, "--fail-under", str(lowest - 1)]) == 0
    assert "EQ-T [dB]" in capsys.readouterr().out
    assert main([*argv, "--fail-under", str(lowest + 0.01)]) == 1


def test_fractional_map(pair: list[Path], tmp_path: Path) -> None:
    argv = ["--shifts", "-1/2,0,1/2", "--protocol", "subpixel", "--margins", "0", "--map"]
    (model,) = evaluate(pair[:1], tmp_path / "o", *argv)["models"]
    grid = model["map"]["subpixel"]
    assert grid["dx"] == grid["dy"] == [-0.5, 0, 0.5]
    assert np.array(grid["mean_db"], dtype=float).shape == (3, 3)
    assert grid["mean_db"][1][1] is None
    assert (tmp_path / "o" / "map.png").exists()


def test_pan_on_a_folder_takes_as_much_of_the_pictures_as_it_needs(tmp_path: Path) -> None:
    """96 px pictures that the network loads at 72: the pan needs 108 and records it."""
    rng = np.random.default_rng(0)
    (tmp_path / "pairs" / "test").mkdir(parents=True)
    for name in "ab":
        pixels = rng.integers(0, 256, (96, 192, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pairs" / "test" / f"{name}.png")
    data = DataConfig(root=str(tmp_path / "pairs"), load_size=72, crop_size=64)
    file = write_checkpoint(tmp_path / "net.safetensors", tiny_config(data=data))
    results = evaluate([file], tmp_path / "o", "--shifts", "1", "--pan", "2", "--pan-frames", "7")
    assert results["pan"]["canvas_px"] == 64 + 2 * (6 + 16)
    assert results["data"]["canvas_px"] == 72
    # The path along x takes 12 px of the width, the margin 16 px of every side.
    assert results["models"][0]["pan"][0]["region_px"] == [64 - 12 - 32, 64 - 32]


@pytest.mark.parametrize(
    ("argv", "culprits"),
    [
        (["--shifts", "1/2"], ["crop", "whole shifts", "subpixel"]),
        (["--shifts", "1/0"], ["'1/0'", "1/2"]),
        (["--protocol", "eqtt"], ["eqtt", "eqt"]),
        (["--pan", "0"], ["speed 0"]),
        (["--pan", "-1"], ["speed -1"]),
        (["--pan", "x"], ["'x'"]),
        (["--pan", "1", "--pan-frames", "1"], ["at least 2"]),
        (["--pan", "1/2"], ["pan at 1/2 px a frame", "share nothing"]),
        (["--pan", "4"], ["pan at 4 px a frame", "share nothing"]),
        (["--protocol", "subpixel", "--shifts", "9/2"], ["9/2 px", "-4..4"]),
    ],
)
def test_refusals(
    pair: list[Path], tmp_path: Path, capsys: Capture, argv: list[str], culprits: list[str]
) -> None:
    assert main([str(pair[0]), *CPU, "--shifts", "0..1", "--out", str(tmp_path / "o"), *argv]) == 2
    one_error_line(capsys, *culprits)
    assert not (tmp_path / "o" / "results.json").exists()


def test_small_windows_are_refused_by_name(checkpoints: list[Path], tmp_path: Path, capsys: Capture) -> None:
    argv = [str(checkpoints[0]), *CPU, "--shifts", "1/2", "--protocol", "subpixel"]
    assert main([*argv, "--out", str(tmp_path / "o")]) == 2
    one_error_line(capsys, "window 32 px", "over 32 px")
