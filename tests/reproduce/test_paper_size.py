"""The page of the runs at the paper's size says what its results.json holds."""

from __future__ import annotations

import re
from typing import Any

import pytest

from reproduce.measuring import mean_of, points
from reproduce.sharpness import Point, at_sharpness
from steadypix.eval.results.schema import read_results
from tests.conftest import REPOSITORY

FOLDER = REPOSITORY / "docs" / "results"
PAGE = (FOLDER / "paper-size.md").read_text(encoding="utf-8")
RESULTS = read_results(FOLDER / "paper-size" / "results.json")
RUNS = ("baseline-0", "bin5-0", "blur_late-0")


def rows_of(run: str) -> dict[int, dict[str, Any]]:
    found = {}
    for row in RESULTS["models"]:
        name, _, epoch = row["name"].partition("@")
        if name == run:
            found[int(epoch)] = {**row, "epoch": float(epoch)}
    return found


def run_until(run: str, epoch: int) -> list[Point]:
    return points([row for at, row in rows_of(run).items() if at <= epoch])


def test_the_table_is_of_these_results() -> None:
    lines = {
        int(cells[0]): cells[1:]
        for line in PAGE.splitlines()
        if re.match(r"\| \d+ \|", line)
        for cells in [[cell.strip() for cell in line.strip("|").split("|")]]
    }
    assert sorted(lines) == [25, 50, 75, 100, 125, 150]
    for epoch, cells in lines.items():
        base_tv = mean_of(rows_of("baseline-0")[epoch]["quality"]["tv"])
        for place, run in enumerate(RUNS):
            db, tv, l1 = cells[3 * place : 3 * place + 3]
            row = rows_of(run).get(epoch)
            if row is None:
                assert db == tv == l1 == ""
                continue
            figure = row["stability"]["crop"]["16"]["odd_mean_db"]
            half = (figure["ci95"][1] - figure["ci95"][0]) / 2
            assert db == f"{figure['mean']:.2f} ± {half:.2f}"
            found = mean_of(row["quality"]["tv"])
            ratio = "" if run == "baseline-0" else f" ({found / base_tv:.2f})"
            assert tv == f"{100 * found:.2f}{ratio}"
            assert l1 == f"{mean_of(row['quality']['l1']):.4f}"
        assert 100 * mean_of(rows_of("baseline-0")[epoch]["quality"]["target_tv"]) == pytest.approx(
            6.97, abs=5e-3
        )


def test_so_is_what_it_comes_to() -> None:
    base, bin5, late = (run_until(run, 125) for run in RUNS)
    end = base[-1]
    assert f"{late[-1].db - end.db:.1f} dB over the baseline at {late[-1].tv / end.tv:.2f}" in PAGE
    assert f"{bin5[-1].db - end.db:.1f} dB at {bin5[-1].tv / end.tv:.2f} of the baseline's TV" in PAGE
    there = at_sharpness(bin5, 0.84 * end.tv)
    assert there is not None
    assert f"and {there.db - end.db:.1f} dB at 0.84" in PAGE
    assert f"{5.4 - (there.db - end.db):.1f} dB less" in PAGE
    assert f"After 25 epochs it gains {bin5[0].db - base[0].db:.1f} dB" in PAGE
    more = []
    for point in bin5:
        beside = at_sharpness(late, point.tv)
        assert beside is not None
        more.append(beside.db - point.db)
    assert f"**{more[-1]:.1f} dB**" in PAGE
    assert f"({min(more[:-1]):.1f} to {max(more[:-1]):.1f} dB for" in PAGE
    l1 = [mean_of(rows_of(run)[125]["quality"]["l1"]) for run in RUNS]
    assert f"Bin-5 {100 * (1 - l1[1] / l1[0]):.1f} % below the baseline's" in PAGE
    assert f"`blur_late` {100 * (l1[2] / l1[0] - 1):.1f} % above" in PAGE
