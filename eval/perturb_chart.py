"""The chart of stability under perturbations: one small panel a kind, one line a model."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

from eval.charts import (
    Results,
    chart_style,
    data_note,
    line_handle,
    line_look,
    new_figure,
    plain_axes,
    save_chart,
    shorten,
)
from eval.curve import OFF_SCALE_DB

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_perturbations(path: str | os.PathLike[str], results: Results) -> None:
    """Draw stability in dB against the severity of every kind of perturbation, with 95 % bands.

    Args:
        path: of the PNG; it appears whole or not at all, and equal results give equal bytes.
        results: as in `results.json`, with perturbations.

    Raises:
        ValueError: if none were measured.
    """
    kinds = results.get("perturbations", {}).get("kinds", {})
    if not kinds:
        raise ValueError("no perturbations to draw; expected results of eval_stability --perturb")
    models = results["models"]
    with chart_style():
        columns = min(4, len(kinds))
        rows = math.ceil(len(kinds) / columns)
        width = 1.0 + 2.7 * columns
        legend_rows = math.ceil(len(models) / max(1, int(width / 2.6)))
        figure = new_figure(width, 1.0 + 2.5 * rows + 0.23 * legend_rows)
        grid = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
        for axes, (name, kind) in zip(grid, kinds.items(), strict=False):
            for index, model in enumerate(models):
                _draw_line(axes, model["perturbations"][name], index)
            plain_axes(axes)
            about, _, unit = kind["meaning"].partition(", ")
            axes.set_title(about)
            axes.set_xlabel(unit)
            axes.set_xticks(range(len(kind["values"])), [f"{value:g}" for value in kind["values"]])
        for axes in grid[::columns]:
            axes.set_ylabel("stability, dB")
        for axes in grid[len(kinds) :]:
            axes.set_axis_off()
        figure.suptitle("Stability under perturbations of the input" + data_note(results))
        figure.legend(
            [line_handle(index) for index in range(len(models))],
            [shorten(model["name"], 30) for model in models],
            loc="outside lower center",
            ncols=math.ceil(len(models) / legend_rows),
            frameon=False,
        )
        save_chart(path, figure)


def _draw_line(axes: Axes, severities: Results, index: int) -> None:
    look = line_look(index)
    places = range(len(severities))
    rows = [(row["mean_db"], row["ci95_db"] or 2 * [row["mean_db"]]) for row in severities.values()]
    means, low, high = (
        [min(value, OFF_SCALE_DB) for value in values]
        for values in zip(*((mean, *bounds) for mean, bounds in rows), strict=True)
    )
    axes.fill_between(places, low, high, lw=0, alpha=0.16, color=look["color"], zorder=2)
    axes.plot(places, means, **look, zorder=3)
