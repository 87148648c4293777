"""Charts of a stability evaluation: dB against the shift, and heat maps over (dx, dy).

Like all charts, they read the results alone (the content of `results.json`), so they can be drawn again at
any time.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from steadypix.eval.charts.style import (
    INK,
    Results,
    chart,
    colour_bar,
    colour_scale,
    data_note,
    line_look,
    panels,
    shorten,
)
from steadypix.eval.metrics.decibels import IDENTICAL_DB, Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable

# Beyond this no eye and no 8-bit file shows the change, and an exact network's 150 dB would squash
# the other lines.
OFF_SCALE_DB = 80.0
AXIS_LABELS = {"x": "shift right, px", "y": "shift down, px", "diagonal": "shift right and down, px"}


@dataclass(frozen=True)
class _Line:
    """A model's stability in one panel: (n,) shifts in px, (n,) mean and interval in dB."""

    shifts: Array
    mean: Array
    low: Array
    high: Array
    identical: bool  # every pair, at every shift


def draw_curve(path: str | os.PathLike[str], results: Results) -> None:
    """Draw stability in dB against the shift, one line a model, one panel a protocol and margin.

    Bands are the 95 % intervals over images. Since soft outputs are stable for free, the legend
    gives each model's sharpness too. What is beyond `OFF_SCALE_DB` is marked in a strip above the
    scale: an exact model would else press the others together.

    Raises:
        ValueError: if no model has a stability.
    """
    models = results["models"]
    where = [
        (name, margin)
        for name in dict.fromkeys(key for model in models for key in model["stability"])
        for margin in dict.fromkeys(key for model in models for key in model["stability"].get(name, ()))
    ]
    if not where:
        raise ValueError("no stability to draw; expected results of eval_stability")
    lines = [[_line(model, panel, results["axis"]) for model in models] for panel in where]
    columns = min(3, len(where))
    size = 1.0 + 4.4 * columns, 1.1 + 3.3 * math.ceil(len(where) / columns)
    title, names = "Stability against shift" + data_note(results), list(map(legend_entry, models))
    with chart(path, size, title, names, entry_width=3.0) as figure:
        scale = _Scale(lines)
        grid = panels(figure, len(where), columns, ylabel="stability, dB", sharey=True)
        for axes, panel, in_panel in zip(grid, where, lines, strict=True):
            _draw_panel(axes, in_panel, scale)
            axes.set_title(f"{panel[0]}, {_region(*panel)}")
            axes.set_xlabel(AXIS_LABELS.get(results["axis"], "shift, px"))


def draw_map(path: str | os.PathLike[str], results: Results) -> None:
    """Draw heat maps of stability over (dx, dy), one panel a model, one colour scale for all.

    The unshifted place is left grey. "=" marks identical pairs, ">" what is beyond the scale.

    Raises:
        ValueError: if no model has a map.
    """
    maps = [(model["name"], *item) for model in results["models"] for item in model.get("map", {}).items()]
    if not maps:
        raise ValueError("no model has a map; expected results of eval_stability --map")
    values = [np.array(entry["mean_db"], dtype=float, ndmin=2) for _, _, entry in maps]
    finite = np.concatenate([value[np.isfinite(value)] for value in values])
    shown = finite[finite <= OFF_SCALE_DB]
    low, high = (shown.min(), shown.max()) if shown.size else (0.0, OFF_SCALE_DB)
    columns = min(4, len(maps))
    size = 1.5 + 3.1 * columns, 0.9 + 3.3 * math.ceil(len(maps) / columns)
    with chart(path, size, "Stability over both directions" + data_note(results)) as figure:
        from matplotlib import colormaps

        colors = colormaps["viridis"].with_extremes(bad="#e4e4e7", over="#fff7b0")
        mappable = colour_scale(low, high if high > low else low + 1, colors)
        grid = panels(figure, len(maps), columns, ylabel=AXIS_LABELS["y"])
        for axes, (name, protocol, entry), value in zip(grid, maps, values, strict=True):
            _draw_cells(axes, value, entry, mappable)
            axes.set_xlabel(AXIS_LABELS["x"])
            axes.set_title(f"{shorten(name, 26)}\n{protocol}, margin {entry['margin_px']} px", fontsize=10)
        beyond = "max" if finite.size > shown.size else "neither"
        colour_bar(figure, mappable, "stability, dB", ax=figure.axes, extend=beyond, shrink=0.85)


class _Scale:
    """The dB axis that all panels share: ordinary up to `top`, then a lane an off-scale model."""

    def __init__(self, panels: Sequence[Sequence[_Line | None]]) -> None:
        lines = [line for panel in panels for line in panel if line is not None]
        means = np.concatenate([line.mean for line in lines])
        bounds = np.concatenate([np.r_[line.low, line.high, line.mean] for line in lines])
        self.limit = OFF_SCALE_DB if (means <= OFF_SCALE_DB).any() else math.inf
        shown = bounds[bounds <= self.limit]
        low, high = (shown.min(), shown.max()) if shown.size else (0.0, 1.0)
        pad = max(1.0, 0.06 * (high - low))
        self.bottom, self.top = low - pad, high + pad
        off = [index for panel in panels for index, line in enumerate(panel) if self.is_off(line)]
        self._lanes = list(dict.fromkeys(off))
        self._lane_height = 0.11 * (self.top - self.bottom)
        self.upper = self.top + self._lane_height * len(self._lanes)

    def is_off(self, line: _Line | None) -> bool:
        return line is not None and bool((line.mean > self.limit).any())

    def lane(self, index: int) -> float:
        """Return the height of the lane of model `index`, the first model's topmost."""
        return self.upper - self._lane_height * (self._lanes.index(index) + 0.68)


def _draw_panel(axes: Axes, lines: Sequence[_Line | None], scale: _Scale) -> None:
    shifts = sorted({float(shift) for line in lines if line is not None for shift in line.shifts})
    # Marks at whole shifts if there are any: those at 1/8 and 1/4 would lie on each other.
    shifts = [int(shift) for shift in shifts if shift.is_integer()] or shifts
    for index, line in enumerate(lines):
        if line is None:
            continue
        look = line_look(index)
        shown = np.where(line.mean <= scale.limit, line.mean, np.nan)
        axes.fill_between(line.shifts, line.low, np.minimum(line.high, scale.top), lw=0, alpha=0.16,
                          color=look["color"], where=np.isfinite(shown), zorder=2)  # fmt: skip
        axes.plot(line.shifts, shown, **look, zorder=3)
        off = line.shifts[line.mean > scale.limit]
        if off.size:
            axes.plot(off, np.full(off.size, scale.lane(index)), **{**look, "lw": 1}, zorder=3)
        if off.size or line.identical:
            place = (off[-1], scale.lane(index)) if off.size else (line.shifts[-1], line.mean[-1])
            text = "identical" if line.identical else f"above {OFF_SCALE_DB:.0f} dB"
            axes.annotate(text, place, (0, 4), textcoords="offset points", ha="right", fontsize=8,
                          color=look["color"])  # fmt: skip
    if scale.upper > scale.top:
        axes.axhspan(scale.top, scale.upper, color="#f4f4f5", lw=0, zorder=0)
    axes.set_ylim(scale.bottom, scale.upper)
    axes.set_yticks([tick for tick in axes.get_yticks() if scale.bottom <= tick <= scale.top])
    every = math.ceil(len(shifts) / 16)
    axes.set_xticks(shifts[::every] if 0 not in shifts else [s for s in shifts if s % every == 0])


def _draw_cells(axes: Axes, values: Array, entry: Results, mappable: ScalarMappable) -> None:
    colors = mappable.to_rgba(np.ma.masked_invalid(values))
    axes.imshow(colors, interpolation="nearest")
    for place, names in (("x", entry["dx"]), ("y", entry["dy"])):
        every = math.ceil(len(names) / 12)
        axes.set(**{f"{place}ticks": range(0, len(names), every), f"{place}ticklabels": names[::every]})
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    if max(values.shape) > 10:
        return  # the numbers would not be readable
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            bright = colors[row, column, :3] @ (0.299, 0.587, 0.114) > 0.5
            text = "=" if value >= IDENTICAL_DB else ">" if value > OFF_SCALE_DB else f"{value:.0f}"
            axes.text(column, row, text, ha="center", va="center", fontsize=7.5,
                      color=INK if bright else "white")  # fmt: skip


def _line(model: Results, panel: tuple[str, str], axis: str) -> _Line | None:
    """Return the model's line in ascending shifts, or None if it has none there.

    The shift 0, never measured, breaks the line: its stability is without bound.
    """
    points = model["stability"].get(panel[0], {}).get(panel[1], {}).get("per_shift")
    if not points:
        return None
    key = "dy" if axis == "y" else "dx"
    rows = [(point[key], point["mean_db"], *(point.get("ci95_db") or (None, None))) for point in points]
    if min(row[0] for row in rows) < 0 < max(row[0] for row in rows):
        rows.append((0, None, None, None))
    shifts, mean, low, high = np.array(sorted(rows, key=lambda row: row[0]), dtype=float).T
    identical = all((point["mean_db"] or 0) >= IDENTICAL_DB for point in points)
    return _Line(shifts, mean, low, high, identical)


def _region(protocol: str, margin: str) -> str:
    """Return what a panel was compared over, in words."""
    left_out = ["the filter's reach"] if protocol == "subpixel" else []
    left_out += [f"{margin} px of border"] if margin != "0" else []
    return f"without {' and '.join(left_out)}" if left_out else "full frame"


def legend_entry(model: Results) -> str:
    """Return a model's name and sharpness."""
    ratio = (model.get("quality") or {}).get("tv_ratio")
    return shorten(model["name"], 30) + ("" if ratio is None else f" · TV {ratio:.2f} of target")
