"""Stability against quality, one point a model: a soft generator is stable for free.

Checkpoints of one run (`run@5`, `run@10`, and `run` for its end) are joined in the order of training, so
the fair comparison, at equal sharpness, can be read off even where no two checkpoints are equally sharp.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from steadypix.eval.charts.curve import OFF_SCALE_DB
from steadypix.eval.charts.style import GREY, INK, Results, chart, data_note, line_look, panels, shorten
from steadypix.eval.results.lead import lead_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Title of a panel -> the figure along it. LPIPS runs backwards, so that right is better in both.
LABEL_ROOM_PX = 40  # of the figure's own pixels, between two labels of a run
QUALITIES = {"sharpness: TV over the target's": "tv_ratio", "LPIPS to the target (closer is right)": "lpips"}


@dataclass(frozen=True)
class Point:
    """A model in the plane: its epoch in the run (None for the end), quality and stability."""

    epoch: int | None
    quality: float
    mean_db: float
    low_db: float
    high_db: float

    @property
    def height_db(self) -> float:
        """Where it is drawn: no eye and no 8-bit file can tell what is off the scale."""
        return min(self.mean_db, OFF_SCALE_DB)


def draw_tradeoff(path: str | os.PathLike[str], results: Results) -> None:
    """Draw stability against sharpness (TV over the target's) and, where measured, against LPIPS.

    Raises:
        ValueError: if no model has a sharpness.
    """
    found = {title: group_runs(results["models"], key) for title, key in QUALITIES.items()}
    found = {title: runs for title, runs in found.items() if any(runs.values())}
    if not found:
        raise ValueError("no model has a sharpness to draw; expected quality.tv_ratio in the results")
    names = [shorten(name, 34) for name in next(iter(found.values()))]
    title = "Stability against quality" + data_note(results)
    with chart(path, (2.2 + 4.2 * len(found), 4.4), title, names) as figure:
        grid = panels(figure, len(found), len(found), ylabel="", sharey=True)
        for axes, (quality, runs) in zip(grid, found.items(), strict=True):
            for index, points in enumerate(runs.values()):
                look, heights = line_look(index), [point.height_db for point in points]
                qualities = [point.quality for point in points]
                axes.plot(qualities, heights, **{**look, "lw": 1.3, "ms": 7}, zorder=3)
                whisker = {"color": look["color"], "alpha": 0.35, "lw": 3, "zorder": 2}
                for point in points:
                    if point.mean_db <= OFF_SCALE_DB:
                        high = min(point.high_db, OFF_SCALE_DB)
                        axes.vlines(point.quality, point.low_db, high, **whisker)
            axes.margins(0.14)
            axes.set_xlabel(quality)
        # Where an output is as detailed as its target.
        grid[0].axvline(1, color=INK, lw=0.9, ls=(0, (4, 3)), zorder=1)
        where: dict[str, Any] = {"xycoords": grid[0].get_xaxis_transform(), "textcoords": "offset points"}
        grid[0].annotate("as the target", (1, 0.99), (4, 0), fontsize=8, color=GREY, va="top", **where)
        if len(grid) > 1:
            grid[1].invert_xaxis()
        figure.draw_without_rendering()  # lays the axes out, so that distances between labels are known
        for axes, runs in zip(grid, found.values(), strict=True):
            for index, points in enumerate(runs.values()):
                _label_run(axes, points, index)
        grid[0].set_ylabel(f"stability, dB ({_lead(results)})")


def group_runs(models: Sequence[Results], key: str) -> dict[str, list[Point]]:
    """Return the points of every run, in the order of training; a model by itself is a run of one.

    Models without the quality figure `key` have no point.
    """
    runs: dict[str, list[Point]] = {}
    for model in models:
        kept = re.fullmatch(r"(.+)@(\d+)", model["name"])
        points = runs.setdefault(kept[1] if kept else model["name"], [])
        quality = (model.get("quality") or {}).get(key)
        if quality is None:
            continue
        figure = lead_figure(model)
        low, high = figure["ci95"] or 2 * [figure["mean"]]  # of one image alone there is no interval
        value = quality["mean"] if isinstance(quality, dict) else quality
        points.append(Point(int(kept[2]) if kept else None, value, figure["mean"], low, high))
    for points in runs.values():
        points.sort(key=lambda point: (point.epoch is None, point.epoch or 0))
    return runs


def _label_run(axes: Axes, points: Sequence[Point], index: int) -> None:
    """Name a run's checkpoints, once all runs are drawn and the axes have their limits."""
    from matplotlib.patheffects import withStroke

    labelled: list[np.ndarray] = []
    # The ends of a run matter most; a label between them yields where it would lie on another.
    for number in sorted(range(len(points)), key=lambda n: (n not in (0, len(points) - 1), n)):
        point = points[number]
        label = "end" if point.epoch is None and len(points) > 1 else ""
        label = f"{point.epoch}" if point.epoch is not None else label
        if point.mean_db > OFF_SCALE_DB:
            label = f"{label} above {OFF_SCALE_DB:.0f} dB".strip()
        here = axes.transData.transform((point.quality, point.height_db))
        if any(np.hypot(*(here - other)) < LABEL_ROOM_PX for other in labelled):
            continue
        labelled.append(here)
        # Neighbouring runs carry their labels on opposite sides, with a halo where they still meet.
        aside, va, ha = ((5, 4), "bottom", "left") if index % 2 else ((-5, -4), "top", "right")
        halo = [withStroke(linewidth=2.5, foreground="white")]
        look = {"color": line_look(index)["color"], "fontsize": 8, "path_effects": halo, "zorder": 4}
        place = point.quality, point.height_db
        axes.annotate(label, place, aside, textcoords="offset points", va=va, ha=ha, **look)


def _lead(results: Results) -> str:
    for protocol, margins in results["models"][0]["stability"].items():
        return f"{protocol}, {list(margins)[-1]} px of border left out"
    return "EQ-T"
