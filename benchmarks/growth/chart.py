"""The picture of how cost grows: time above, memory below, an axis a column, both sides logarithmic."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.growth.fit import Axis, Curve, Fit
from steadypix.eval.charts.style import chart, line_look, plain_axes, save_smaller

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_growth(path: Path, curves: Sequence[Curve]) -> None:
    """Write the chart: measured points, and the line that was fitted to the upper half of them."""
    size = 2.2 * len(curves) + 0.6, 5.0
    with chart(path, size, "Cost of a training step and of an evaluation") as figure:
        grid = figure.subplots(2, len(curves), sharey="row", squeeze=False)
        for (top, bottom), curve in zip(grid.T, curves, strict=True):
            _panel(top, curve.axis, curve.milliseconds, curve.time, color=0)
            _panel(bottom, curve.axis, curve.megabytes, curve.memory, color=1)
            top.set_title(f"{curve.axis.kind}\nagainst {curve.axis.label.partition(' [')[0]}")
            bottom.set_xlabel(curve.axis.label)
        for (first, *_), label in zip(grid, ("processor time [ms]", "peak memory [MB]"), strict=True):
            first.set_ylabel(label)
            low, high = first.get_ylim()
            first.set_ylim(low, 2.5 * high)  # room for the legends
            first.yaxis.set_major_formatter("{x:,g}")  # the style writes no formulas
    save_smaller(path, path, colours=48)  # lines in few colours: a third of the bytes


def _panel(axes: Axes, axis: Axis, costs: Sequence[float], fitted: Fit, *, color: int) -> None:
    values, look = axis.values, line_look(color)
    axes.loglog(values, costs, **{**look, "ls": ""})
    ends = (values[-fitted.count], values[-1])
    line = [fitted.factor * x**fitted.exponent for x in ends]
    label = f"{axis.label.partition(' [')[0].removeprefix('width ')}^{fitted.exponent:.2f}"
    axes.plot(ends, line, color=look["color"], lw=1.6, alpha=0.7, label=label)
    plain_axes(axes)
    axes.set_xticks(values, [str(value) for value in values])
    axes.minorticks_off()
    axes.set_xlim(values[0] / 1.25, values[-1] * 1.25)
    axes.legend(loc="upper left", frameon=False, handlelength=1.2, borderaxespad=0.2)
