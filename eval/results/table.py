"""The table that people read on stdout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from steadypix.errors import printable
from steadypix.eval.measure.registry import columns, gather
from steadypix.eval.metrics.measure import Column
from steadypix.eval.repeat.shown import floor_lines
from steadypix.eval.results.lead import EQUALLY_SHARP
from steadypix.eval.results.lines import table_lines, with_half


def to_table(results: dict[str, Any]) -> str:
    """Return the table that people read: stability with its interval, quality always beside it."""
    models = results["models"]
    table = [("model", [printable(model["name"]) for model in models])]
    for column in columns(results):
        heading = column.heading or f"{column.title} [{column.unit}]" if column.unit else column.title
        table.append((heading, [_cell(column, figure) for figure in column.figures]))
    lines = [
        *table_lines(table),
        "",
        *_shift_note(results),
        *floor_lines(results),
        *gather(results, lambda measure: measure.notes(results)),
        *(_comparison(row, models) for row in results["comparisons"]),
    ]
    for name, images in results.get("worst", {}).items():
        moved = ", ".join(f"{image['image']} ({image['mean_db']:.1f} dB)" for image in images)
        lines.append(f"{name} moves most on {moved}")
    return "\n".join(map(printable, lines))  # names of models and pictures may hold anything


def _cell(column: Column, figure: Any) -> str:
    mean, interval = (figure["mean"], figure["ci95"]) if isinstance(figure, dict) else (figure, None)
    if mean is None:
        return "-"
    return with_half(mean, interval if column.interval else None, column.digits)


def _comparison(row: dict[str, Any], models: Sequence[dict[str, Any]]) -> str:
    interval = row["gain_db"]["ci95"]
    bounds = f" [{interval[0]:+.2f}, {interval[1]:+.2f}]" if interval else ""
    return (
        f"{row['model']} - {row['reference']}, {row['protocol']}, margin {row['margin_px']} px: "
        f"{row['gain_db']['mean']:+.2f} dB{bounds}, paired, {row['over']}"
        + _sharpness_note(models, row["model"], row["reference"])
    )


def _sharpness_note(models: Sequence[dict[str, Any]], *names: str) -> str:
    """Say at which sharpness two models are compared, and whether that is fair."""
    ratios = [next(m["quality"]["tv_ratio"] for m in models if m["name"] == name) for name in names]
    if not all(ratios):
        return ""
    fair = "" if max(ratios) <= EQUALLY_SHARP * min(ratios) else ": not equally sharp"
    return f", at TV/target {ratios[0]:.2f} against {ratios[1]:.2f}{fair}"


def _shift_note(results: dict[str, Any]) -> list[str]:
    """Return what the columns of stability are means of."""
    model, count = results["models"][0], results["data"]["n_images"]
    summaries = [s for margins in model["stability"].values() for s in margins.values()]
    if not summaries:
        return []
    over = "odd shifts" if any(s["odd_mean_db"] for s in summaries) else "shifts"
    if any(s.get("fractional_mean_db") for s in summaries):
        over += " (fractional ones where the column says so)"
    return [
        f"Stability: mean over images and {over} of {_numbers(results['shifts_px'])} px along "
        f"{results['axis']}, 95 % interval over {count} images; margin left out a side."
    ]


def _numbers(values: Sequence[float]) -> str:
    whole = len(values) > 2 and list(values) == [values[0] + place for place in range(len(values))]
    return f"{values[0]}..{values[-1]}" if whole else ", ".join(map(str, values))
