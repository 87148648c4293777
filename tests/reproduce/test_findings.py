"""The sentences above a page's tables, from checkpoints made by hand."""

from __future__ import annotations

from typing import Any

from reproduce.findings import findings
from reproduce.page import Page


def checkpoint(epoch: int, db: float, tv: float) -> dict[str, Any]:
    figure = {"mean": db, "ci95": [db - 1, db + 1]}
    return {
        "epoch": epoch,
        "stability": {"crop": {"0": {"odd_mean_db": figure}, "16": {"odd_mean_db": figure}}},
        "quality": {"tv": {"mean": tv, "ci95": None}},
    }


def page_of(rows: dict[str, list[dict[str, Any]]]) -> Page:
    finals = {name: each[-1] for name, each in rows.items()}
    return Page("facades", "smoke", rows, finals, command="", pictures={}, losses={})


def test_each_says_what_its_table_shows() -> None:
    found = findings(
        page_of(
            {
                "baseline-0": [checkpoint(1, 26, 0.08), checkpoint(2, 24, 0.10)],
                "bin5-0": [checkpoint(1, 40, 0.04), checkpoint(2, 32, 0.09)],
                "bin5-1": [checkpoint(1, 40, 0.04), checkpoint(2, 33, 0.05)],
                "blur_late-0": [checkpoint(1, 44, 0.04), checkpoint(2, 39, 0.09)],
            }
        ),
        0.8,
    )
    assert found == {
        "finals": "**The steadiest at its end is `blur_late`, Bin-5, seed 0: +15.0 dB over its baseline, "
        "at 0.90 of its TV.**",
        # At a TV of 0.08, 0.8 of the way: 40 instead of 33.6 dB; seed 1 never gets there.
        "equal": "**As sharp as that, `blur_late`, Bin-5, seed 0 gains most: +16.0 dB.**",
        # 44 over 40, 39 over 32, 43 over 33.
        "late": "**At the sharpness of Bin-5's checkpoints `blur_late` is 4.0 to 10.0 dB steadier.**",
        "gains": "**Bin-5 gains +8.0 and +9.0 dB here and +5.4 dB in the paper.**",
        "along": "**4 of 4 end sharper and less steady than at their first checkpoint.**",
    }


def test_nothing_is_said_of_what_is_not_there() -> None:
    found = findings(page_of({"baseline-0": [checkpoint(1, 26, 0.08)]}), 0.8)
    assert set(found.values()) == {""}
    soft = page_of(
        {
            "baseline-0": [checkpoint(1, 26, 0.1)],
            "rect2-0": [checkpoint(1, 30, 0.02), checkpoint(2, 31, 0.01)],
        }
    )
    found = findings(soft, 0.8)
    assert found["equal"] == "**None of them passes 0.8 of its baseline's TV.**"
    assert found["late"] == found["gains"] == ""
    assert found["along"] == "**0 of 1 end sharper and less steady than at their first checkpoint.**"
