"""Which score leads: first protocol, widest margin, odd or fractional shifts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

EQUALLY_SHARP = 1.1  # two models' TV may differ by this factor before a comparison says so


def lead_score_db(model: Mapping[str, Any]) -> float:
    """Return the leading mean of the first protocol at its widest margin, see `lead_figure`."""
    return float(lead_figure(model)["mean"])


def lead_figure(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the mean and interval that a model leads with.

    The first protocol with shifts at its widest margin, or else the first score without shifts.
    """
    if not model["stability"]:
        single = model[single_score(model)]
        return {"mean": single["db"], "ci95": single["ci95_db"]}
    margins = next(iter(model["stability"].values()))
    return summary_figure(list(margins.values())[-1])


def lead_score(model: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return what a model leads with, in words, and its mean and interval."""
    if not model["stability"]:
        return single_score(model), lead_figure(model)
    protocol, margins = next(iter(model["stability"].items()))
    return f"{protocol} at a margin of {list(margins)[-1]} px", lead_figure(model)


def summary_figure(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the mean and interval that a summary leads with: over fractional, odd, or all shifts."""
    figure = summary.get("fractional_mean_db") or summary["odd_mean_db"] or summary["mean_db"]
    return dict(figure)


def single_score(model: Mapping[str, Any]) -> str:
    """Return the name of a model's first score without shifts, such as EQ-T: one with `db` and `ci95_db`."""
    return next(
        key for key, value in model.items() if isinstance(value, dict) and {"db", "ci95_db"} <= {*value}
    )
