"""Names in tables: what a spreadsheet would run, and what a terminal would act on."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from steadypix.eval.results.write import to_csv

FORMULAS = ["=1+1", "+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("http://x")']
HIDDEN = ["\x1b[2J", "a\u202eb", "a\u2066b", "a\x07b", "a\u200fb"]


def results(name: str) -> dict[str, Any]:
    score = {"dx": -1, "dy": 0, "mean_db": -2.5, "ci95_db": None, "pooled_db": -2.5, "n_identical": 0}
    stability = {"crop": {"0": {"per_shift": [score]}}}
    return {"models": [{"name": name, "quality": {"tv": -0.25}, "stability": stability}]}


def rows(name: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(to_csv(results(name)), newline="")))


@pytest.mark.parametrize("name", FORMULAS + HIDDEN)
def test_no_cell_is_run_and_no_character_acts(name: str) -> None:
    cell = rows(name)[1][0]
    assert cell[0] not in "=+-@\t\r"
    assert cell.isprintable()


@pytest.mark.parametrize("name", ["blur", "facades-blur", "net 2", "ä", "a=b", "a-b"])
def test_plain_names_and_figures_stay(name: str) -> None:
    _, row = rows(name)
    assert row[0] == name
    assert row[3:6] == ["-1", "0", "-2.5"]
    assert row[-1] == "-0.25"
