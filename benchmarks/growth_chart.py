"""The picture of how cost grows: time above, memory below, an axis a column, both sides logarithmic."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from data.files import write_whole
from eval.charts import chart_style, line_look, new_figure, plain_axes, save_chart

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from benchmarks.growth import Curve, Fit

COLORS_KEPT = 48


def draw_growth(path: Path, curves: Sequence[Curve]) -> None:
    """Write the chart: measured points, and the line that was fitted to the upper half of them."""
    with chart_style():
        figure = new_figure(2.2 * len(curves) + 0.6, 5.0)
        figure.suptitle("Cost of a training step and of an evaluation", fontweight="bold")
        grid = figure.subplots(2, len(curves), sharey="row", squeeze=False)
        for column, curve in enumerate(curves):
            seconds = [value * 1e3 for value in curve.seconds]
            kind = "training step" if curve.axis.base["kind"] == "step" else "evaluation"
            top, bottom = grid[0][column], grid[1][column]
            time = curve.time
            _panel(top, curve, seconds, time, time.factor * 1e3, color=0)
            _panel(bottom, curve, curve.megabytes, curve.memory, curve.memory.factor, color=1)
            top.set_title(f"{kind}\nagainst {curve.axis.label.partition(' [')[0]}")
            bottom.set_xlabel(curve.axis.label)
        grid[0][0].set_ylabel("processor time [ms]")
        grid[1][0].set_ylabel("peak memory [MB]")
        for row in grid:
            low, high = row[0].get_ylim()
            row[0].set_ylim(low, 2.5 * high)  # room for the legends
            row[0].yaxis.set_major_formatter("{x:,g}")  # the style writes no formulas
        save_chart(path, figure)
    with Image.open(path) as picture:  # lines in few colours: a third of the bytes
        small = picture.convert("RGB").quantize(COLORS_KEPT, dither=Image.Dither.NONE)
    write_whole(path, lambda temporary: small.save(temporary, format="PNG", optimize=True))


def _panel(
    axes: Axes, curve: Curve, costs: Sequence[float], fitted: Fit, factor: float, *, color: int
) -> None:
    values = curve.axis.values
    look = line_look(color)
    axes.loglog(values, costs, **{**look, "ls": ""})
    ends = (values[-fitted.count], values[-1])
    name = curve.axis.label.partition(" [")[0].removeprefix("width ")
    label = f"{name}^{fitted.exponent:.2f}"
    axes.plot(
        ends, [factor * x**fitted.exponent for x in ends], color=look["color"], lw=1.6, alpha=0.7, label=label
    )
    plain_axes(axes)
    axes.set_xticks(values, [str(value) for value in values])
    axes.minorticks_off()
    axes.set_xlim(values[0] / 1.25, values[-1] * 1.25)
    axes.legend(loc="upper left", frameon=False, handlelength=1.2, borderaxespad=0.2)
