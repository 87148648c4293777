"""A measure is a file and a line: a new one reaches results, table, report, partial results and exports."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest
from torch import Tensor

from steadypix.data.pairs.folders import PairedImages
from steadypix.errors import InputError
from steadypix.eval.eval_stability import main as eval_stability
from steadypix.eval.measure import registry
from steadypix.eval.measure.registry import MEASURES, names_of, parse_names
from steadypix.eval.metrics.measure import Column, Conditions, Label, Measure
from tests.cli import FAST, Capture, one_error_line

pytestmark = pytest.mark.slow


class Mirrored(Measure):
    """How far the output for the mirrored input is from the mirrored output."""

    name = "mirrored"
    asked_by = "protocol"
    meaning = "mirrored input against mirrored output"
    pictures: ClassVar = ("mirrored.txt",)

    @classmethod
    def make(cls, settings: Any, conditions: Conditions) -> Self:
        """Return one without numbers."""
        made = cls()
        made.conditions = conditions
        return made

    conditions: Conditions

    def windows(self, canvas: Tensor, index: int) -> Iterator[Tensor]:
        """Yield the mirrored window."""
        start = (self.conditions.canvas_px - self.conditions.window_px) // 2
        cut = slice(start, start + self.conditions.window_px)
        yield canvas[..., cut, cut].flip(-1)

    def labels(self, index: int) -> list[Label]:
        """Return its name."""
        return [Label("mirrored", (0, 0), "mirrored")]

    def add(self, base: Tensor | None, outputs: Iterator[Tensor], target: Tensor | None, index: int) -> None:
        """Score one picture."""
        assert base is not None
        self.rows.append((next(outputs).flip(-1) - base).square().mean().item())

    def summary(self, *, seed: int) -> dict[str, Any]:
        """Return the mean."""
        return {"mirrored": {"mse": sum(self.rows) / len(self.rows)}}

    @classmethod
    def columns(cls, results: Mapping[str, Any]) -> list[Column]:
        """Return one."""
        if "mirrored" not in results["models"][0]:
            return []
        return [Column(title="mirrored", digits=5, figures=[m["mirrored"]["mse"] for m in results["models"]])]

    @classmethod
    def draw(cls, out: Path, results: dict[str, Any]) -> None:
        """Write a file."""
        (out / "mirrored.txt").write_text("drawn")


def test_a_planted_measure_reaches_everything(
    checkpoints: list[Path], tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry.MEASURES, "mirrored", Mirrored)
    paths = [str(path) for path in checkpoints]
    argv = [*paths, *FAST, "--protocol", "crop,mirrored", "--out", str(tmp_path / "out")]
    assert eval_stability(argv) == 0
    assert "mirrored" in capsys.readouterr().out.splitlines()[0]
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["protocols"]["mirrored"] == Mirrored.meaning
    assert all(model["mirrored"]["mse"] > 0 for model in results["models"])
    assert ">mirrored<" in (tmp_path / "out" / "report.html").read_text()
    assert (tmp_path / "out" / "mirrored.txt").exists()
    inputs = tmp_path / "inputs"
    assert eval_stability([*paths, *FAST, "--protocol", "mirrored", "--export_inputs", str(inputs)]) == 0
    assert len(list(inputs.glob("*_mirrored.png"))) == 3


def test_a_size_that_two_measures_share_is_decoded_once(
    checkpoints: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pan that fits the pictures as they are loaded needs no second look at them."""
    read: list[int] = []
    original = PairedImages.canvas

    def counted(self: PairedImages, index: int) -> Any:
        read.append(index)
        return original(self, index)

    monkeypatch.setattr(PairedImages, "canvas", counted)
    sizes = ["--window", "40", "--canvas", "80", "--pan", "1", "--pan-frames", "2"]
    out = tmp_path / "out"
    assert eval_stability([str(checkpoints[0]), *FAST, *sizes, "--out", str(out)]) == 0
    pictures = json.loads((out / "results.json").read_text())["data"]["n_images"]
    drawn = 2  # the grid, and the animation of the pan
    checked = 1  # the first, whether the generator is random
    assert len(read) == checked + pictures + drawn


def test_names_are_unique_and_every_measure_is_asked_for_somehow() -> None:
    assert all(measure.name == name for name, measure in MEASURES.items())
    assert {m.asked_by for m in MEASURES.values()} == {"protocol", "quality", "option"}
    assert names_of("protocol") == ["crop", "roll", "subpixel", "eqt", "eqt_frac"]
    with pytest.raises(InputError, match="--protocol turn: is unknown; expected all, or of crop, roll"):
        parse_names("turn", "protocol")


def test_fractional_eqt_from_the_command_line(
    checkpoints: list[Path], tmp_path: Path, capsys: Capture
) -> None:
    argv = [str(checkpoints[0]), *FAST, "--protocol", "eqt_frac", "--data", "synthetic", "--limit", "1"]
    assert eval_stability([*argv, "--out", str(tmp_path)]) == 2  # 32 px leave nothing
    one_error_line(capsys, "eqt_frac", "at least 40 px")
    assert eval_stability([*argv, "--window", "48", "--canvas", "56", "--out", str(tmp_path)]) == 0
    model = json.loads((tmp_path / "results.json").read_text())["models"][0]
    assert 0 < model["eqt_frac"]["db"] < 150
    assert "EQ-T frac" in (tmp_path / "report.html").read_text()
