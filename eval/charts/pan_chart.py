"""The chart of flicker while the window pans: energy by temporal frequency, one panel a speed."""

from __future__ import annotations

import os

import numpy as np

from steadypix.eval.charts.curve import legend_entry
from steadypix.eval.charts.style import Results, chart, data_note, line_look, panels


def draw_pan_spectrum(path: str | os.PathLike[str], results: Results) -> None:
    """Draw the flicker energy of a pan by temporal frequency, one line a model, one panel a speed.

    Raises:
        ValueError: if a model has no pan.
    """
    models = results["models"]
    if not all(model.get("pan") for model in models):
        raise ValueError("no pan to draw; expected results of eval_stability --pan")
    speeds = [pan["speed_px"] for pan in models[0]["pan"]]
    width = 1.0 + 4.4 * len(speeds)
    title, names = "Flicker while the window pans" + data_note(results), list(map(legend_entry, models))
    with chart(path, (width, 4.4), title, names, entry_width=width) as figure:
        label = "flicker energy, squared units of [-1, 1]"
        grid = panels(figure, len(speeds), len(speeds), ylabel=label, sharey=True)
        for place, (axes, speed) in enumerate(zip(grid, speeds, strict=True)):
            for index, pan in enumerate(model["pan"][place] for model in models):
                # Nothing flickers in exact arithmetic only: the floor keeps zeros on the scale.
                axes.semilogy(pan["cycles_per_frame"], np.maximum(pan["energy"], 1e-16), **line_look(index))
            axes.set_title(f"{speed:g} px a frame")
            axes.set_xlabel("temporal frequency, cycles a frame")
        grid[0].yaxis.set_major_formatter("{x:.0e}")  # the default writes formulas, which are off here
