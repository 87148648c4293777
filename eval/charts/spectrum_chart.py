"""The chart of power spectra: outputs and targets by frequency, and their ratio an octave."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from steadypix.eval.charts.style import (
    INK,
    Results,
    chart,
    data_note,
    line_handle,
    line_look,
    plain_axes,
    shorten,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TARGET_LOOK: dict[str, Any] = {"color": INK, "lw": 1.6, "ls": (0, (4, 3))}


def draw_spectrum(path: str | os.PathLike[str], results: Results) -> None:
    """Draw the radial power spectra, and each output's power over its target's in every octave.

    Raises:
        ValueError: if no spectrum was measured.
    """
    models = results["models"]
    if not all("spectrum" in model for model in models):
        raise ValueError("no spectrum to draw; expected results of eval_stability --quality spectrum")
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], **TARGET_LOOK), *map(line_handle, range(len(models)))]
    names = ["target", *(shorten(model["name"], 30) for model in models)]
    title = "Power spectra of outputs and targets" + data_note(results)
    with chart(path, (9.4, 3.9), title, names, entry_width=2.3, handles=handles) as figure:
        power, ratio = figure.subplots(1, 2)
        for index, model in enumerate(models):
            spectrum, look = model["spectrum"], {key: line_look(index)[key] for key in ("color", "ls")}
            power.plot(spectrum["cycles_per_px"], spectrum["power_db"], lw=1.4, **look)
        spectrum = models[0]["spectrum"]
        power.plot(spectrum["cycles_per_px"], spectrum["target_power_db"], **TARGET_LOOK)
        power.set(ylabel="power, dB", title="radial power")
        _draw_ratios(ratio, models)
        for axes in (power, ratio):
            plain_axes(axes)
            axes.set_xscale("log", base=2)
            axes.minorticks_off()
            periods = (64, 32, 16, 8, 4, 2)
            axes.set_xticks([1 / period for period in periods], [f"1/{period}" for period in periods])
            axes.set_xlabel("cycles a pixel")


def _draw_ratios(axes: Axes, models: Sequence[Results]) -> None:
    """One marker an octave, at its middle, models side by side so that intervals do not overlap."""
    for index, model in enumerate(models):
        look = line_look(index)
        aside = 2 ** (0.5 * ((index + 0.5) / len(models) - 0.5))
        octaves = model["spectrum"]["octaves"]
        places = [math.sqrt(octave["from"] * octave["to"]) * aside for octave in octaves]
        intervals = [octave["ratio_db"]["ci95"] for octave in octaves]
        if all(intervals):  # one image alone has none
            low, high = zip(*intervals, strict=True)
            axes.vlines(places, low, high, color=look["color"], alpha=0.35, lw=3)
        axes.plot(places, [octave["ratio_db"]["mean"] for octave in octaves], **{**look, "lw": 0.8})
    axes.axhline(0, **TARGET_LOOK, zorder=1)
    axes.set_ylabel("output over target, dB")
    axes.set_title("detail an octave (below 0: soft)")
