"""Which score leads: first protocol, widest margin, odd or fractional shifts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

EQUALLY_SHARP = 1.1  # two models' TV may differ by this factor before a comparison says so


def leading(model: Mapping[str, Any]) -> tuple[str, str]:
    """Return the first protocol and its widest margin; else the first score without shifts, and "0"."""
    if not model["stability"]:
        return single_scores(model)[0], "0"
    protocol, margins = next(iter(model["stability"].items()))
    return protocol, list(margins)[-1]


def lead_figure(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the mean and interval that a model leads with, see `leading`."""
    name, margin = leading(model)
    if not model["stability"]:
        return {"mean": model[name]["db"], "ci95": model[name]["ci95_db"]}
    return summary_figure(model["stability"][name][margin])


def lead_score_db(model: Mapping[str, Any]) -> float:
    """Return the mean that a model leads with, see `leading`."""
    return float(lead_figure(model)["mean"])


def lead_score(model: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return what a model leads with, in words, and its mean and interval."""
    name, margin = leading(model)
    where = f"{name} at a margin of {margin} px" if model["stability"] else name
    return where, lead_figure(model)


def summary_figure(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the mean and interval that a summary leads with: over fractional, odd, or all shifts."""
    return dict(summary.get("fractional_mean_db") or summary["odd_mean_db"] or summary["mean_db"])


def single_scores(model: Mapping[str, Any]) -> list[str]:
    """Return the names of a model's scores without shifts, such as EQ-T: those with `db` and `ci95_db`."""
    return [key for key, value in model.items() if isinstance(value, dict) and {"db", "ci95_db"} <= {*value}]


def margin_words(margin: str) -> str:
    """Return a margin as people say it."""
    return "full frame" if margin == "0" else f"{margin} px of border left out"
