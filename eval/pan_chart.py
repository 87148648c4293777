"""The chart of flicker while the window pans: energy by temporal frequency, one panel a speed."""

from __future__ import annotations

import os

import numpy as np

from eval.charts import (
    Results,
    chart_style,
    data_note,
    line_handle,
    line_look,
    new_figure,
    plain_axes,
    save_chart,
)
from eval.curve import legend_entry


def draw_pan_spectrum(path: str | os.PathLike[str], results: Results) -> None:
    """Draw the flicker energy of a pan by temporal frequency, one line a model, one panel a speed.

    Args:
        path: of the PNG; it appears whole or not at all, and equal results give equal bytes.
        results: as in `results.json`, with a "pan" in every model.

    Raises:
        ValueError: if a model has no pan.
    """
    models = results["models"]
    if not all(model.get("pan") for model in models):
        raise ValueError("no pan to draw; expected results of eval_stability --pan")
    speeds = [pan["speed_px"] for pan in models[0]["pan"]]
    with chart_style():
        figure = new_figure(1.0 + 4.4 * len(speeds), 4.4 + 0.23 * len(models))
        grid = figure.subplots(1, len(speeds), sharey=True, squeeze=False).ravel()
        for place, (axes, speed) in enumerate(zip(grid, speeds, strict=True)):
            for index, pan in enumerate(model["pan"][place] for model in models):
                # Nothing flickers in exact arithmetic only: the floor keeps zeros on the scale.
                axes.semilogy(pan["cycles_per_frame"], np.maximum(pan["energy"], 1e-16), **line_look(index))
            axes.set_title(f"{speed:g} px a frame")
            axes.set_xlabel("temporal frequency, cycles a frame")
            plain_axes(axes)
        grid[0].yaxis.set_major_formatter("{x:.0e}")  # the default writes formulas, which are off here
        grid[0].set_ylabel("flicker energy, squared units of [-1, 1]")
        figure.suptitle("Flicker while the window pans" + data_note(results))
        handles = [line_handle(index) for index in range(len(models))]
        entries = [legend_entry(model) for model in models]
        figure.legend(handles, entries, loc="outside lower center", frameon=False)
        save_chart(path, figure)
