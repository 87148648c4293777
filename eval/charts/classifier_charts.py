"""Charts of classifiers and of features, drawn from results alone.

Everywhere `path` is of the PNG, and `note` the second line of the title.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from steadypix.eval.charts.style import (
    GREY,
    INK,
    Results,
    chart,
    colour_bar,
    colour_scale,
    legend,
    line_look,
    panels,
    plain_axes,
    shorten,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_ROWS = 12


def draw_feature_grid(path: str | os.PathLike[str], models: Sequence[Results], *, note: str = "") -> None:
    """Draw heat maps of feature distance over (dx, dy): a row a layer, a column a model, one scale.

    Blue is equivariant, red is not (Zhang 2019, figure 5). Each of `models` has `name`, `dx`, `dy` and
    `layers`: name -> `distance` as rows of dy.

    Raises:
        ValueError: if the models share no layer.
    """
    shared = [name for name in models[0]["layers"] if all(name in model["layers"] for model in models)]
    rows = thinned(shared, models[0])
    if not rows:
        raise ValueError("the models share no layer; expected networks of one architecture")
    top = max(np.max(model["layers"][name]["distance"]) for model in models for name in rows)
    size = 1.7 + 1.25 * len(models), 1.1 + 1.12 * len(rows)
    title = "Internal feature distance over shifts right and down, px"
    with chart(path, size, title, note=note) as figure:
        mappable = colour_scale(0, top or 1, "RdYlBu_r")
        grid: Any = figure.subplots(len(rows), len(models), squeeze=False)
        for row, column in np.ndindex(grid.shape):
            axes, name, model = grid[row, column], rows[row], models[column]
            dx, dy = ((model[key][0], model[key][-1]) for key in ("dx", "dy"))
            how: dict[str, Any] = {"origin": "lower", "norm": mappable.norm, "cmap": mappable.cmap}
            how["extent"] = (dx[0] - 0.5, dx[1] + 0.5, dy[0] - 0.5, dy[1] + 0.5)
            axes.imshow(np.asarray(model["layers"][name]["distance"]), **how)
            axes.tick_params(length=0, labelsize=7)
            axes.spines[:].set_visible(False)
            axes.set_xticks(dx if row == len(rows) - 1 else [])
            axes.set_yticks(dy if column == 0 else [])
            if row == 0:
                axes.set_title(shorten(model["name"], 16), fontsize=9.5)
            if column == 0:
                label = f"{shorten(name, 20)}\nstride {model['layers'][name]['stride']}"
                axes.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8.5)
        label = "cosine distance (0: equivariant)"
        colour_bar(figure, mappable, label, ax=grid, shrink=0.6, aspect=30, pad=0.02)


def thinned(names: Sequence[str], model: Results) -> list[str]:
    """Return at most `MAX_ROWS` layers: first and last, those that subsample, and others evenly between."""
    if len(names) <= MAX_ROWS:
        return list(names)
    strides = [model["layers"][name]["stride"] for name in names]
    kept = {0, len(names) - 1}
    kept |= {place for place in range(1, len(names)) if strides[place] != strides[place - 1]}
    for place in np.linspace(0, len(names) - 1, MAX_ROWS).round().astype(int).tolist():
        if len(kept) < MAX_ROWS:
            kept.add(place)
    return [names[place] for place in sorted(kept)[:MAX_ROWS]]


def draw_feature_curve(path: str | os.PathLike[str], models: Sequence[Results], *, note: str = "") -> None:
    """Draw the mean distance through the layers, one line a model; where resolution falls is marked.

    Models of the same layers share a panel, others have their own, at one scale.
    """
    alike: dict[tuple[str, ...], list[int]] = {}
    for index, model in enumerate(models):
        alike.setdefault(tuple(model["layers"]), []).append(index)
    size = max(6.4, 2.2 + 0.34 * max(map(len, alike))), 0.6 + 3.8 * len(alike)
    title = "Where equivariance is lost: mean over all shifts"
    with chart(path, size, title, note=note) as figure:
        grid = panels(figure, len(alike), 1, ylabel="mean cosine distance", sharey=True)
        for axes, (names, members) in zip(grid, alike.items(), strict=True):
            for index in members:
                means = [models[index]["layers"][name]["mean"] for name in names]
                axes.plot(range(len(names)), means, **line_look(index))
            axes.set_xticks(range(len(names)), [shorten(name, 22) for name in names], rotation=60, ha="right")
            axes.tick_params(axis="x", labelsize=8)
            axes.set_ylim(bottom=0)
            last = 1
            for place, name in enumerate(names):
                if (stride := models[members[0]]["layers"][name]["stride"]) > last:
                    last = stride
                    axes.axvline(place, color="#b4b4bb", lw=0.8, ls=":", zorder=0)
                    how: dict[str, Any] = {"fontsize": 8, "color": GREY, "ha": "center", "va": "bottom"}
                    axes.annotate(f"1/{stride}", (place, 1), xycoords=("data", "axes fraction"), **how)
        _legend(figure, [model["name"] for model in models])


def draw_scatter(
    path: str | os.PathLike[str],
    groups: Sequence[str],
    models: Sequence[Results],
    *,
    note: str = "",
    protocol: str = "crop",
) -> None:
    """Draw accuracy against consistency, a small point a network and a large one the mean of its group.

    `groups` names one for each of `models`, which have `accuracy` and `consistency` as they are measured.
    """
    names = list(dict.fromkeys(groups))
    title = "Accuracy against consistency: up and right is better"
    with chart(path, (6.6, 4.8 + 0.12 * len(names)), title, note=note) as figure:
        axes = figure.subplots()
        for index, name in enumerate(names):
            mine = [model for group, model in zip(groups, models, strict=True) if group == name]
            xs = [100 * model["consistency"][protocol]["mean"] for model in mine]
            ys = [100 * model["accuracy"]["mean"] for model in mine]
            look = {key: line_look(index)[key] for key in ("color", "marker")}
            axes.scatter(xs, ys, s=16, alpha=0.45, lw=0, **look)
            axes.scatter([np.mean(xs)], [np.mean(ys)], s=90, edgecolor="white", zorder=3, **look)
        plain_axes(axes)
        axes.margins(0.1)
        axes.set_xlabel(f"consistency, % ({protocol})")
        axes.set_ylabel("accuracy, %")
        _legend(figure, names)


def draw_diagonals(
    path: str | os.PathLike[str],
    curves: Mapping[str, tuple[Sequence[int], Any]],
    titles: Sequence[str],
    *,
    note: str = "",
) -> None:
    """Draw the probability of the right class along diagonal shifts, a panel a picture, a line a network.

    `curves` are network -> its shifts in px, and (pictures, shifts) in [0, 1]; `titles` are the pictures'.
    """
    columns = min(3, len(titles))
    size = 1.0 + 3.0 * columns, 1.2 + 2.1 * math.ceil(len(titles) / columns)
    title = "Probability of the right class along the diagonal"
    with chart(path, size, title, note=note) as figure:
        grid = panels(figure, len(titles), columns, ylabel="P(right class)", sharex=True, sharey=True)
        for place, axes in enumerate(grid):
            for index, (shifts, values) in enumerate(curves.values()):
                axes.plot(shifts, values[place], **{**line_look(index), "ms": 3})
            axes.set_title(titles[place], fontsize=9.5)
            axes.set_ylim(-0.03, 1.03)
        for axes in grid[-columns:]:
            axes.set_xlabel("shift right and down, px")
        _legend(figure, list(curves))


def draw_corruptions(
    path: str | os.PathLike[str], errors: Mapping[str, Mapping[str, float]], *, note: str = ""
) -> None:
    """Draw the mean error of each kind of corruption, a row a kind, a mark a network.

    `errors` are network -> kind -> error in [0, 1], the mean over severities.
    """
    kinds = list(next(iter(errors.values())))
    title = "Error under corruptions: left is better"
    with chart(path, (6.8, 1.5 + 0.29 * len(kinds)), title, note=note) as figure:
        axes = figure.subplots()
        for place, kind in enumerate(kinds):
            values = [100 * row[kind] for row in errors.values()]
            axes.plot([min(values), max(values)], [place, place], color="#d4d4d8", lw=2.5, zorder=1)
        for index, row in enumerate(errors.values()):
            look = {**line_look(index), "ls": "", "ms": 6}
            axes.plot([100 * row[kind] for kind in kinds], range(len(kinds)), zorder=2, **look)
        plain_axes(axes)
        axes.set_yticks(range(len(kinds)), [kind.replace("_", " ") for kind in kinds])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.invert_yaxis()
        axes.set_xlabel("error, % (mean over five severities)")
        _legend(figure, list(errors))


def _legend(figure: Figure, names: Sequence[str]) -> None:
    shown = [shorten(name, 34) for name in names]
    fitting = int(figure.get_figwidth() / (0.75 + 0.085 * max(map(len, names))))
    legend(figure, shown, min(len(names), max(1, fitting)))
