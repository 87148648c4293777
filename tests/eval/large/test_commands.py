"""`eval_stability --context --causes --locality --seam` and `generate --context`, as a user runs them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import steadypix.eval.measure.measure as evaluation
from steadypix import load_generator
from steadypix.checkpoints.generate import main as generate
from steadypix.eval.eval_stability import main as eval_stability
from steadypix.eval.report.__main__ import main as report
from steadypix.eval.results.schema import read_results
from tests.cli import FAST, Capture, one_error_line
from tests.eval.measure.test_exchange import pixels_of, translate

pytestmark = pytest.mark.slow

LARGE = ["--context", "3", "--causes", "--locality", "8", "--seam", "32,36/6"]


def results_of(out: Path) -> dict:
    return {**json.loads((out / "results.json").read_text()), "created": 0, "command": ""}


def evaluate(paths: Sequence[Path], out: Path, *more: str) -> dict:
    assert eval_stability([*map(str, paths), *FAST, *more, "--out", str(out)]) == 0
    return results_of(out)


def test_all_of_them_reach_table_results_and_report(
    checkpoints: list[Path], tmp_path: Path, capsys: Capture
) -> None:
    results = evaluate(checkpoints, tmp_path / "out", *LARGE)
    table = capsys.readouterr().out
    for words in (
        "full frame, context 3 px [dB]",
        "sampling [dB]",
        "statistics [dB]",
        "border [dB]",
        "locality, far, frozen [dB]",
        "seam, 36 px, halo 6 [dB]",
        "Context: 3 px a side, 1.41 times the area",
        "strided: full frame ",
        "blur, locality, dB by distance in px: 0-16 ",
        "tiles against 40 px untiled [dB]",
    ):
        assert words in table
    assert results["context"]["context_px"] == 3
    assert results["causes"]["margin_px"] == 4
    assert results["locality"]["changed_px"] == 8
    assert results["seam"]["canvas_px"] == 40
    for model in results["models"]:
        causes, crop = model["causes"], model["stability"]["crop"]
        for part, margin in (("full_frame", "0"), ("interior", "4")):
            expected = crop[margin]["odd_mean_db"]["mean"]
            assert causes[f"{part}_db"]["mean"] == pytest.approx(expected, abs=1e-3)
        means = {name: causes[f"{name}_db"]["mean"] for name in ("sampling", "statistics", "border")}
        total = means["sampling"] - means["statistics"] - means["border"]
        assert total == pytest.approx(causes["full_frame_db"]["mean"])
        assert len(model["context"]["per_shift"]) == 3
        assert [(entry["tile_px"], entry["halo_px"]) for entry in model["seam"]] == [(32, 4), (36, 6)]
        assert all(entry["strips_db"]["mean"] > 100 for entry in model["seam"])
    protocols = [row["protocol"] for row in results["comparisons"]]
    assert protocols == ["crop", "crop", "context", "sampling", "locality"]
    assert {"seam.png", "locality.png"} <= {path.name for path in (tmp_path / "out").iterdir()}
    assert read_results(tmp_path / "out" / "results.json")["models"][0]["causes"]["over"] == "odd shifts"
    page = (tmp_path / "out" / "report.html").read_bytes()
    assert report([str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "report.html").read_bytes() == page
    for words in (
        "full frame, 3 px of context",
        ">sampling",
        ">locality, far",
        "strided, 36 px, halo 6: crop",
    ):
        assert words in page.decode()
    # What an earlier evaluation drew does not lie beside other results.
    evaluate(checkpoints[:1], tmp_path / "out")
    assert not {"seam.png", "locality.png"} & {path.name for path in (tmp_path / "out").iterdir()}


def test_an_interrupted_evaluation_goes_on(
    checkpoints: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate(checkpoints[:1], tmp_path / "whole", *LARGE)
    measured: list[int] = []
    original = evaluation.Measurement.add

    def add(self: evaluation.Measurement, *args: object, index: int, **more: object) -> None:
        if measured == [0]:
            measured.append(-1)
            raise KeyboardInterrupt
        measured.append(index)
        original(self, *args, index=index, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(evaluation.Measurement, "add", add)
    argv = [str(checkpoints[0]), *FAST, *LARGE, "--out", str(tmp_path / "parts")]
    assert eval_stability(argv) == 130
    assert eval_stability(argv) == 0
    assert measured == [0, -1, 1, 2]
    assert results_of(tmp_path / "parts") == whole


def test_rectangles(checkpoints: list[Path], tmp_path: Path, capsys: Capture) -> None:
    sizes = ["--window", "32x24", "--canvas", "44x36", "--limit", "1"]
    results = evaluate(checkpoints, tmp_path / "out", *LARGE, *sizes)
    assert "tiles against 44x36 px untiled [dB]" in capsys.readouterr().out
    assert results["context"]["area_factor"] == pytest.approx(38 * 30 / (32 * 24))
    assert results["seam"]["canvas_px"] == [44, 36]
    for model in results["models"]:
        # Of 44 px two tiles of 32 or 36, of 36 px two of 32 and one of 36.
        assert [entry["n_tiles"] for entry in model["seam"]] == [4, 2]
        assert all(entry["strips_db"]["mean"] > 100 for entry in model["seam"])
    assert {"seam.png", "locality.png"} <= {path.name for path in (tmp_path / "out").iterdir()}
    assert read_results(tmp_path / "out" / "results.json")["seam"]["canvas_px"] == [44, 36]


def test_outputs_made_elsewhere_take_part(checkpoints: list[Path], tmp_path: Path, capsys: Capture) -> None:
    """All but what needs the network itself: frozen norms and strips."""
    asked = ["--context", "4", "--locality", "8", "--seam", "32", "--limit", "1"]
    inputs = tmp_path / "inputs"
    assert eval_stability([str(checkpoints[0]), *FAST, *asked, "--export_inputs", str(inputs)]) == 0
    sizes = {path.name: pixels_of(path).shape[:2] for path in inputs.glob("*.png")}
    assert sizes["1_context_0_0_4.png"] == (40, 40)
    assert sizes["1_locality_8.png"] == (32, 32)
    assert sizes["1_seam.png"] == (40, 40)
    assert sizes["1_seam_32_8_0.png"] == (32, 32)
    assert len(sizes) == 1 + 3 + 4 + 1 + 1 + 4
    outputs = translate(inputs, tmp_path / "outputs", checkpoints[0])
    made, own = evaluate([outputs, checkpoints[0]], tmp_path / "o", *asked)["models"]
    for key in ("cropped_db", "blended_db", "overlap_db"):
        assert made["seam"][0][key]["mean"] == pytest.approx(own["seam"][0][key]["mean"], abs=1)
    assert made["seam"][0]["strips_db"] is None
    assert own["seam"][0]["strips_db"]["mean"] > 100
    assert made["locality"]["frozen_beyond_db"] is None
    assert made["context"]["mean_db"]["mean"] == pytest.approx(own["context"]["mean_db"]["mean"], abs=1)
    capsys.readouterr()
    for more, culprit in (
        ([], f"{outputs}: --causes"),
        (["--export_inputs", str(tmp_path / "x")], "--causes"),
    ):
        argv = [str(outputs), *FAST, "--causes", "--out", str(tmp_path / "o"), *more]
        assert eval_stability(argv) == 2
        one_error_line(capsys, culprit, "expected weights or a Python callable, whose norms can be frozen")


def test_exported_programs_are_measured_as_far_as_outputs_tell(
    pair_folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 3, 3, padding=1), torch.nn.InstanceNorm2d(3), torch.nn.Tanh()
    )
    program = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(network.eval(), (torch.zeros(1, 3, 32, 32),)), program)
    argv = [
        str(program),
        "--trust",
        "--data",
        str(pair_folder),
        "--canvas",
        "40",
        "--direction",
        "BtoA",
        *FAST,
    ]
    argv += ["--limit", "1", "--out", str(tmp_path / "out")]
    assert eval_stability([*argv, "--locality", "8"]) == 0
    (model,) = results_of(tmp_path / "out")["models"]
    assert model["locality"]["beyond_db"]["mean"] < 60
    assert model["locality"]["frozen_beyond_db"] is None
    assert "locality, far, frozen [dB]" in capsys.readouterr().out
    for option, words in (
        (["--causes"], f"{program}: --causes cannot freeze its norms; expected weights"),
        (["--seam", "32"], "takes 32 x 32 px only, but gets 40 x 40 px"),
        (["--context", "4"], "takes 32 x 32 px only, but gets 40 x 40 px"),
    ):
        assert eval_stability([*argv, *option]) == 2
        one_error_line(capsys, words)


@pytest.mark.parametrize(
    ("argv", "culprit"),
    [
        (["--seam", "40"], "--seam 40: one tile is the whole picture of 40 px"),
        (["--seam", "wide"], "'wide' is no tile"),
        (["--locality", "32"], "--locality 32: changes all of a window of 32 px"),
        (["--locality", "0"], "--locality"),
        (["--context", "-1"], "--context"),
        (["--causes", "--margins", "0"], "--causes: has no margin that fits"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    checkpoints: list[Path], tmp_path: Path, capsys: Capture, argv: list[str], culprit: str
) -> None:
    margins = [] if "--margins" in argv else ["--margins", "0,4"]
    words = [str(checkpoints[0]), "--shifts", "0..3", "--device", "cpu", *margins, *argv]
    assert eval_stability([*words, "--out", str(tmp_path / "out")]) == 2
    one_error_line(capsys, culprit)
    assert not (tmp_path / "out" / "results.json").exists()


def test_generate_with_context(checkpoints: list[Path], tmp_path: Path, capsys: Capture) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (30, 22, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    argv = [str(checkpoints[1]), str(tmp_path / "in.png"), "--device", "cpu"]
    for name, more in (
        ("plain", []),
        ("context", ["--context", "5"]),
        ("tile", ["--context", "5", "--tile", "32"]),
    ):
        assert generate([*argv, "--out", str(tmp_path / name), *more]) == 0
    made = {name: pixels_of(tmp_path / name / "in.png").astype(int) for name in ("plain", "context", "tile")}
    # 30 and 22 px with 5 on either side make 40 and 32, multiples of 8.
    x = torch.from_numpy(np.pad(pixels, ((5, 5), (5, 5), (0, 0)), mode="reflect").copy()).permute(2, 0, 1)
    with torch.no_grad():
        y = load_generator(checkpoints[1])(x[None] / 127.5 - 1)[0, :, 5:35, 5:27]
    expected = ((y + 1) * 127.5).round().permute(1, 2, 0).numpy().astype(int)
    assert np.abs(made["context"] - expected).max() <= 1
    assert np.abs(made["tile"] - expected).max() <= 1
    assert np.abs(made["plain"] - expected).max() > 2
    wrong = [*argv, "--out", str(tmp_path / "o"), "--context", "5", "--tile", "32", "--statistics", "tile"]
    assert generate(wrong) == 2
    one_error_line(capsys, "--context: is not for --statistics tile")
