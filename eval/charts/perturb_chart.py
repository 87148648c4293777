"""The chart of stability under perturbations: one small panel a kind, one line a model."""

from __future__ import annotations

import math
import os

import numpy as np

from steadypix.eval.charts.curve import OFF_SCALE_DB
from steadypix.eval.charts.style import Results, chart, data_note, line_look, panels, shorten


def draw_perturbations(path: str | os.PathLike[str], results: Results) -> None:
    """Draw stability in dB against the severity of every kind of perturbation, with 95 % bands.

    Raises:
        ValueError: if none were measured.
    """
    kinds = results.get("perturbations", {}).get("kinds", {})
    if not kinds:
        raise ValueError("no perturbations to draw; expected results of eval_stability --perturb")
    models = results["models"]
    columns = min(4, len(kinds))
    size = 1.0 + 2.7 * columns, 1.0 + 2.5 * math.ceil(len(kinds) / columns)
    title = "Stability under perturbations of the input" + data_note(results)
    with chart(path, size, title, [shorten(model["name"], 30) for model in models]) as figure:
        grid = panels(figure, len(kinds), columns, ylabel="stability, dB", sharey=True)
        for axes, (name, kind) in zip(grid, kinds.items(), strict=True):
            for index, model in enumerate(models):
                severities = model["perturbations"][name].values()
                # One image alone has no interval.
                rows = [(row["mean_db"], *(row["ci95_db"] or 2 * [row["mean_db"]])) for row in severities]
                means, low, high = np.minimum(rows, OFF_SCALE_DB).T
                places, look = range(len(rows)), line_look(index)
                axes.fill_between(places, low, high, lw=0, alpha=0.16, color=look["color"], zorder=2)
                axes.plot(places, means, **look, zorder=3)
            about, _, unit = kind["meaning"].partition(", ")
            axes.set_title(about)
            axes.set_xlabel(unit)
            axes.set_xticks(range(len(kind["values"])), [f"{value:g}" for value in kind["values"]])
