"""Quality, perturbations and their charts, from the command line to the pictures."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from steadypix.eval.charts.perturb_chart import draw_perturbations
from steadypix.eval.charts.spectrum_chart import draw_spectrum
from steadypix.eval.charts.tradeoff import draw_tradeoff, group_runs
from steadypix.eval.eval_stability import main as eval_stability
from steadypix.eval.metrics.perturb import describe
from steadypix.eval.metrics.perturb_kinds import KINDS
from steadypix.eval.results.table import to_table
from tests.cli import FAST, Capture, one_error_line

pytestmark = pytest.mark.slow


def evaluate(checkpoints: list[Path], out: Path, *more: str) -> dict[str, Any]:
    assert eval_stability([*map(str, checkpoints), *FAST, "--out", str(out), *more]) == 0
    found: dict[str, Any] = json.loads((out / "results.json").read_text())
    return found


def test_quality_and_perturbations_reach_results_table_and_pictures(
    checkpoints: list[Path], tmp_path: Path, capsys: Capture
) -> None:
    more = ["--quality", "ssim,spectrum,checkerboard", "--perturb", "noise,shear", "--limit", "2"]
    results = evaluate(checkpoints, tmp_path / "o", *more)
    table = capsys.readouterr().out
    for word in ("SSIM", "checkerboard [dB]", "under perturbations", "noise", "shear", "at TV/target"):
        assert word in table
    assert "LPIPS" not in table
    assert results["perturbations"] == describe(["noise", "shear"], 4)
    for model in results["models"]:
        assert -1 <= model["quality"]["ssim"]["mean"] <= 1
        assert set(model["perturbations"]) == {"noise", "shear"}
        assert [row["value"] for row in model["perturbations"]["noise"].values()] == list(
            KINDS["noise"].values
        )
        noise = [row["mean_db"] for row in model["perturbations"]["noise"].values()]
        assert noise == sorted(noise, reverse=True)
        assert len(model["spectrum"]["power_db"]) == 16
        octave = model["spectrum"]["octaves"][0]
        assert octave["ratio_db"]["ci95"][0] <= octave["ratio_db"]["mean"] <= octave["ratio_db"]["ci95"][1]
    rows = list(csv.DictReader(io.StringIO((tmp_path / "o" / "results.csv").read_text())))
    assert float(rows[0]["ssim"]) == results["models"][0]["quality"]["ssim"]["mean"]
    names = {path.name for path in (tmp_path / "o").iterdir()}
    assert {"tradeoff.png", "spectrum.png", "perturb.png"} < names
    again = evaluate(checkpoints, tmp_path / "o", *more, "--batch_size", "5")
    ours, theirs = (r["models"][1]["perturbations"]["noise"]["3"]["mean_db"] for r in (results, again))
    assert ours == pytest.approx(theirs, abs=1e-3)


def test_by_default_nothing_dear_is_measured(checkpoints: list[Path], tmp_path: Path) -> None:
    results = evaluate(checkpoints, tmp_path / "o", "--limit", "1")
    assert set(results["models"][0]["quality"]) == {"l1", "psnr_db", "tv", "target_tv", "tv_ratio"}
    assert not {"perturbations", "lpips"} & set(results)
    assert not {"perturb.png", "spectrum.png"} & {path.name for path in (tmp_path / "o").iterdir()}


def test_the_reference_agrees(checkpoints: list[Path], tmp_path: Path) -> None:
    argv = ["--quality", "ssim", "--limit", "2"]
    ours = evaluate(checkpoints[:1], tmp_path / "a", *argv)
    theirs = evaluate(checkpoints[:1], tmp_path / "b", *argv, "--reference")
    assert (ours["reference"], theirs["reference"]) == (False, True)
    for key, tolerance in (("psnr_db", 1e-4), ("ssim", 1e-3)):
        pair = [results["models"][0]["quality"][key]["mean"] for results in (ours, theirs)]
        assert pair[0] == pytest.approx(pair[1], abs=tolerance)


def test_lpips_by_file(checkpoints: list[Path], tmp_path: Path, real_data: Path, capsys: Capture) -> None:
    weights = str(real_data / "weights" / "squeezenet1_1_fp16rounded.pth")
    argv = ["--quality", "lpips", "--lpips-net", "squeeze", "--limit", "2", "--lpips-weights"]
    results = evaluate(checkpoints, tmp_path / "o", *argv, weights)
    assert results["lpips"]["weights"] == "squeezenet1_1_fp16rounded.pth"
    assert 0.1 < results["models"][0]["quality"]["lpips"]["mean"] < 2
    assert "LPIPS" in capsys.readouterr().out
    assert eval_stability([str(checkpoints[0]), *FAST, "--out", str(tmp_path / "x"), *argv, "gone.pth"]) == 2
    one_error_line(capsys, "gone.pth", "no such checkpoint")


@pytest.mark.parametrize(
    ("argv", "culprits"),
    [
        (["--quality", "ssim,blur"], ["--quality blur", "all"]),
        (["--perturb", "wind"], ["--perturb wind", "rotation"]),
        (["--perturb", ""], ["--perturb"]),
        (["--lpips-weights", "x.pth"], ["--lpips-weights", "--quality lpips"]),
        (["--lpips-net", "resnet"], ["resnet", "squeeze"]),
    ],
)
def test_wrong_names_are_refused(
    checkpoints: list[Path], tmp_path: Path, capsys: Capture, argv: list[str], culprits: list[str]
) -> None:
    assert eval_stability([str(checkpoints[0]), *FAST, "--out", str(tmp_path / "o"), *argv]) == 2
    one_error_line(capsys, *culprits)


# ---- charts -----------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _coarse_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steadypix.eval.charts.style.DPI", 50)


def figure(value: float) -> dict[str, Any]:
    return {"mean": value, "ci95": [value - 0.5, value + 0.5]}


def model(name: str, level_db: float, ratio: float | None, lpips: float | None = None) -> dict[str, Any]:
    """Results of a model with about the given dB and sharpness."""
    summary = {"mean_db": figure(level_db + 1), "odd_mean_db": figure(level_db)}
    quality: dict[str, Any] = {"tv": figure(0.1), "target_tv": figure(0.1), "tv_ratio": ratio}
    if lpips is not None:
        quality["lpips"] = figure(lpips)
    kinds = {
        name: {
            str(step + 1): {"value": value, "mean_db": level_db - step, "ci95_db": [level_db - 9, level_db]}
            for step, value in enumerate(kind.values)
        }
        for name, kind in KINDS.items()
    }
    spectrum = {
        "cycles_per_px": [(k + 1) / 32 for k in range(16)],
        "power_db": [-level_db - k for k in range(16)],
        "target_power_db": [-20 - k for k in range(16)],
        "octaves": [
            {"from": 0.25, "to": 0.5, "ratio_db": figure(-3)},
            {"from": 0.125, "to": 0.25, "ratio_db": figure(0)},
        ],
    }
    stability = {"crop": {"0": summary, "16": summary}}
    return {
        "name": name,
        "quality": quality,
        "stability": stability,
        "perturbations": kinds,
        "spectrum": spectrum,
    }


def results_of(*models: dict[str, Any]) -> dict[str, Any]:
    data = {"source": "facades", "split": "test", "n_images": 6}
    return {"models": list(models), "data": data, "perturbations": describe(list(KINDS), 16)}


def ink(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_checkpoints_of_a_run_are_joined_in_the_order_of_training() -> None:
    models = [
        model("b@10", 24, 1.0),
        model("b", 23, 1.1),
        model("a", 30, 0.5),
        model("b@5", 25, 0.9),
        model("x@y", 22, 0.2),
        model("none", 22, None),
    ]
    runs = group_runs(models, "tv_ratio")
    assert list(runs) == ["b", "a", "x@y", "none"]
    assert [(p.epoch, p.quality, p.mean_db) for p in runs["b"]] == [
        (5, 0.9, 25),
        (10, 1.0, 24),
        (None, 1.1, 23),
    ]
    assert runs["none"] == []
    assert not any(group_runs(models, "lpips").values())


def test_a_run_is_drawn_as_a_line_and_single_models_as_points(tmp_path: Path) -> None:
    """Between two checkpoints of one run there is ink of its colour; between two models there is none."""
    joined = results_of(model("run@5", 20, 0.4), model("run", 60, 0.9))
    apart = results_of(model("one", 20, 0.4), model("two", 60, 0.9))
    first_color = np.array([0xD5, 0x5E, 0x00])
    amounts = []
    for number, found in enumerate((joined, apart)):
        path = tmp_path / f"{number}.png"
        draw_tradeoff(path, found)
        page = ink(path)[:-30]  # without the legend
        amounts.append(int((np.abs(page - first_color).sum(axis=2) < 90).sum()))
    assert amounts[0] > amounts[1] + 50


def test_lpips_makes_a_second_panel(tmp_path: Path) -> None:
    draw_tradeoff(tmp_path / "one.png", results_of(model("a", 20, 0.4)))
    draw_tradeoff(tmp_path / "two.png", results_of(model("a", 20, 0.4, 0.5), model("$b_{$", 150, None, 0.4)))
    assert ink(tmp_path / "two.png").shape[1] > 1.5 * ink(tmp_path / "one.png").shape[1]
    with pytest.raises(ValueError, match="sharpness"):
        draw_tradeoff(tmp_path / "none.png", results_of(model("a", 20, None)))


def test_charts_of_one_and_many_models(tmp_path: Path) -> None:
    for count in (1, 10):
        found = results_of(
            *(model(f"a-model-with-a-long-name-{i}" * 2, 15 + 14 * i, 0.3 + i / 9) for i in range(count))
        )
        before = json.dumps(found)
        for name, draw in (("s", draw_spectrum), ("p", draw_perturbations), ("t", draw_tradeoff)):
            pages = []
            for attempt in "ab":
                path = tmp_path / f"{name}{count}{attempt}.png"
                draw(path, found)
                pages.append(path.read_bytes())
            assert pages[0] == pages[1]
            assert min(ink(path).shape[:2]) > 100
        assert json.dumps(found) == before


def test_charts_of_what_was_not_measured_are_refused(tmp_path: Path) -> None:
    found = results_of(model("a", 20, 0.4))
    del found["perturbations"], found["models"][0]["spectrum"]
    with pytest.raises(ValueError, match="--perturb"):
        draw_perturbations(tmp_path / "p.png", found)
    with pytest.raises(ValueError, match="--quality spectrum"):
        draw_spectrum(tmp_path / "s.png", found)
    assert not os.listdir(tmp_path)


def test_the_table_says_who_is_compared_at_what(checkpoints: list[Path], tmp_path: Path) -> None:
    found = evaluate(checkpoints, tmp_path / "o", "--limit", "1")
    for ratios, words in (
        ((0.5, 0.52), "at TV/target 0.52 against 0.50"),
        ((0.5, 0.9), ": not equally sharp"),
    ):
        for entry, ratio in zip(found["models"], ratios, strict=True):
            entry["quality"]["tv_ratio"] = ratio
        lines = [line for line in to_table(found).splitlines() if line.startswith("blur - strided")]
        assert all(words in line for line in lines)
        assert all(("not equally sharp" in line) == (ratios[1] > 0.6) for line in lines)
    found["models"][0]["quality"]["tv_ratio"] = None
    assert "at TV/target" not in to_table(found)
