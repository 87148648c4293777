"""Measures of `eval_stability` beside each other: foreign outputs under all, one image, one report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from steadypix.configs.schema import DataConfig, GeneratorConfig
from steadypix.eval.eval_stability import main as eval_stability
from steadypix.eval.report.__main__ import main as make_report
from tests.cli import Capture, one_error_line
from tests.conftest import tiny_config, write_checkpoint
from tests.eval.measure.test_exchange import translate

pytestmark = pytest.mark.slow

CPU = ["--device", "cpu"]
EVERYTHING = ["--protocol", "crop,subpixel,roll,eqt", "--shifts", "0,1/2,1", "--margins", "0", "--pan", "1/2"]
EVERYTHING += ["--pan-frames", "2", "--perturb", "blur,rotation", "--quality", "ssim,spectrum,checkerboard"]


@pytest.fixture
def pair(tmp_path: Path) -> list[Path]:
    """A strided and a blur generator for procedural facades, 80 px of 88, untrained."""
    data = DataConfig(load_size=88, crop_size=80, synthetic_count=2)
    return [
        write_checkpoint(
            tmp_path / f"{sampling}.safetensors",
            tiny_config(data=data, generator=GeneratorConfig(ngf=4, num_downs=3, sampling=sampling)),
        )
        for sampling in ("strided", "blur")
    ]


def evaluate(paths: list[Path], out: Path, *more: str) -> dict:
    assert eval_stability([*map(str, paths), *CPU, *more, "--out", str(out)]) == 0
    return json.loads((out / "results.json").read_text())


def rounded(db: float) -> float:
    """What `db` becomes where both outputs are rounded to 8 bits: 2 / 12 level^2 more squared error."""
    return float(10 * np.log10(4 / (4 / 10 ** (db / 10) + (2 / 255) ** 2 / 6)))


def test_outputs_made_elsewhere_take_part_in_every_measure(tmp_path: Path, pair: list[Path]) -> None:
    export = ["--export_inputs", str(tmp_path / "inputs"), "--limit", "2"]
    assert eval_stability([str(pair[0]), *CPU, *EVERYTHING, *export]) == 0
    manifest = json.loads((tmp_path / "inputs" / "manifest.json").read_text())
    files = [row["file"] for row in manifest["files"]]
    assert len(files) == len(set(files))
    # Base, crop at 1, two shifts of subpixel and roll each, two frames, five severities of two kinds, draws.
    draws = sum(row["protocol"] == "eqt" for row in manifest["files"])
    assert len(files) - draws == 2 * (1 + 1 + 2 + 2 + 2 + 10)
    assert 8 <= draws <= 16
    outputs = translate(tmp_path / "inputs", tmp_path / "outputs", pair[0])
    made, own = evaluate([outputs, pair[0]], tmp_path / "o", *EVERYTHING, "--limit", "2")["models"]
    assert made["eqt"]["db"] == pytest.approx(rounded(own["eqt"]["db"]), abs=0.5)
    for kind in ("blur", "rotation"):
        for severity, row in own["perturbations"][kind].items():
            theirs = made["perturbations"][kind][severity]["mean_db"]
            assert theirs == pytest.approx(rounded(row["mean_db"]), abs=1)
    flicker = [model["pan"][0]["difference_db"]["mean"] for model in (made, own)]
    assert flicker[0] == pytest.approx(rounded(flicker[1]), abs=1)
    halves = [model["stability"]["subpixel"]["0"]["fractional_mean_db"]["mean"] for model in (made, own)]
    assert halves[0] == pytest.approx(rounded(halves[1]), abs=1)


def test_one_image_has_no_interval_anywhere(tmp_path: Path, pair: list[Path], capsys: Capture) -> None:
    results = evaluate(pair, tmp_path / "o", *EVERYTHING, "--limit", "1", "--worst", "1")
    assert "±" not in capsys.readouterr().out

    def intervals(value: object) -> list[object]:
        if isinstance(value, dict):
            own = [entry for key, entry in value.items() if key.startswith("ci95")]
            return own + [found for entry in value.values() for found in intervals(entry)]
        return [found for entry in value for found in intervals(entry)] if isinstance(value, list) else []

    assert len(intervals(results)) > 20
    assert set(intervals(results)) == {None}
    names = {path.name for path in (tmp_path / "o").iterdir()}
    assert {"tradeoff.png", "spectrum.png", "perturb.png", "pan.png", "curve.png", "report.html"} <= names
    page = (tmp_path / "o" / "report.html").read_text(encoding="utf-8")
    assert "no interval" in page
    for words in ("EQ-T", "flicker at 0.5 px a frame", "SSIM", "checkerboard", "fractional shifts"):
        assert words in page


def test_pictures_of_an_earlier_evaluation_do_not_stay(tmp_path: Path, pair: list[Path]) -> None:
    evaluate(pair, tmp_path / "o", *EVERYTHING, "--limit", "1", "--map")
    evaluate(pair[1:], tmp_path / "o", "--protocol", "eqt", "--limit", "2")
    names = {path.name for path in (tmp_path / "o").rglob("*") if path.is_file()}
    assert names == {"results.json", "results.csv", "report.html", "tradeoff.png"}
    page = (tmp_path / "o" / "report.html").read_text(encoding="utf-8")
    assert "random translations a picture" in page
    assert "strided" not in page.split("<h1", 1)[1].split("</h1>")[0]
    assert make_report([str(tmp_path / "o")]) == 0
    assert (tmp_path / "o" / "report.html").read_text(encoding="utf-8") == page


def test_a_margin_given_is_left_out_only_where_another_protocol_has_room(
    tmp_path: Path, pair: list[Path], capsys: Capture
) -> None:
    argv = ["--shifts", "0,1", "--margins", "0,30", "--limit", "1"]
    results = evaluate(pair[:1], tmp_path / "o", *argv, "--protocol", "crop,subpixel")
    stability = results["models"][0]["stability"]
    assert {name: list(margins) for name, margins in stability.items()} == {
        "crop": ["0", "30"],
        "subpixel": ["0"],
    }
    assert "subpixel: margin 30 px" in capsys.readouterr().err
    out = ["--out", str(tmp_path / "p")]
    assert eval_stability([str(pair[0]), *CPU, *argv, *out, "--protocol", "subpixel"]) == 2
    one_error_line(capsys, "margin 30 px", "nothing is left")


@pytest.mark.parametrize(
    ("protocol", "shifts", "code"),
    [("crop", "0,2", 2), ("crop", "2,1/2", 2), ("subpixel", "2,1/2", 1), ("eqt", "0,2", 1), ("crop", "1", 1)],
)
def test_a_floor_needs_something_that_leads(
    tmp_path: Path, pair: list[Path], protocol: str, shifts: str, code: int
) -> None:
    argv = ["--shifts", shifts, "--protocol", protocol, "--fail-under", "149", "--limit", "1"]
    assert eval_stability([str(pair[0]), *CPU, *argv, "--out", str(tmp_path / "o")]) == code
