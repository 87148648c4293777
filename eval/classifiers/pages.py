"""What `eval_consistency` and `eval_features` write: JSON, charts, a page; and the tables they print."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steadypix.errors import printable

if TYPE_CHECKING:
    import numpy as np

    from steadypix.eval.report.page import Section

Curves = dict[str, tuple[list[int], "np.ndarray"]]  # network -> shifts in px, (pictures, shifts) in [0, 1]


def write_consistency(results: dict[str, Any], out: Path, curves: Curves, titles: Sequence[str]) -> None:
    """Write consistency.json, its charts, and the page they stand on."""
    from steadypix.eval.charts.classifier_charts import draw_diagonals, draw_scatter
    from steadypix.eval.report.page import Section, write_with_page

    models = results["models"]
    protocols = list(models[0]["consistency"])
    pictures = []
    if all("accuracy" in model for model in models):
        names = [model["name"] for model in models]
        draw_scatter(out / "scatter.png", names, models, protocol=protocols[0])
        pictures.append((out / "scatter.png", "Accuracy against consistency."))
    if curves:
        draw_diagonals(out / "diagonal.png", curves, titles)
        pictures.append((out / "diagonal.png", "The right class's probability along the diagonal."))
    section = Section(
        "Consistency",
        ["How often two random shifts of a picture get the same class, ± the standard error over pictures."],
        ["network", *(f"consistency, {name} [%]" for name in protocols), "accuracy [%]"],
        _consistency_rows(models),
        pictures,
    )
    write_with_page(results, out, "consistency", "Classification consistency", section)


def consistency_table(models: Sequence[dict[str, Any]]) -> str:
    """Return the table that people read."""
    columns = ["network", *(f"{name} [%]" for name in models[0]["consistency"]), "accuracy [%]"]
    return _text(columns, _consistency_rows(models))


def _consistency_rows(models: Sequence[dict[str, Any]]) -> list[list[str]]:
    from steadypix.eval.report.page import percent

    rows = []
    for model in models:
        accuracy = percent(model["accuracy"]) if "accuracy" in model else "-"
        rows.append([printable(model["name"]), *map(percent, model["consistency"].values()), accuracy])
    return rows


def write_features(results: dict[str, Any], out: Path) -> None:
    """Write features.json, the two charts, and the page they stand on."""
    from steadypix.eval.report.page import write_with_page

    write_with_page(results, out, "features", "Internal feature distance", feature_section(results, out))


def feature_section(results: dict[str, Any], out: Path) -> Section:
    """Draw the charts into `out` and return the section of a page that shows them."""
    from steadypix.eval.charts.classifier_charts import draw_feature_curve, draw_feature_grid
    from steadypix.eval.report.page import Section

    models = results["models"]
    borders = "circular borders" if results["borders"] == "circular" else "borders as trained"
    note = f"{results['n_images']} pictures, {borders}"
    pictures = []
    if set.intersection(*(set(model["layers"]) for model in models)):
        draw_feature_grid(out / "features_grid.png", models, note=note)
        pictures.append((out / "features_grid.png", "Heat maps: blue is equivariant, red is not; one scale."))
    draw_feature_curve(out / "features_curve.png", models, note=note)
    pictures.append((out / "features_curve.png", "The mean over all shifts, through the layers."))
    rows = []
    for name, *means in _feature_rows(models, ""):
        # An anti-aliased layer may work densely up to its blur, and other architectures reuse a name.
        strides = [model["layers"][name]["stride"] for model in models if name in model["layers"]]
        rows.append([name, ", ".join(f"1/{stride}" for stride in dict.fromkeys(strides)), *means])
    return Section(
        "Internal feature distance",
        [
            "1 - cosine between a layer's shifted map and its map for the shifted input, both at the input's "
            "size, mean over positions, pictures and circular shifts. 0 is equivariant. A map that circular "
            "borders make constant, such as one of 2 x 2 blurred, is rounding alone after a norm, and scores "
            "near 1."
        ],
        ["layer", "size", *(model["name"] for model in models)],
        rows,
        pictures,
    )


def feature_table(models: Sequence[dict[str, Any]]) -> str:
    """Return the table that people read: the mean distance of every layer of every network."""
    return _text(["layer", *(printable(model["name"]) for model in models)], _feature_rows(models, "-"))


def _feature_rows(models: Sequence[dict[str, Any]], missing: str) -> list[list[str]]:
    """Return the mean distances in all layers of all networks, in the order of their first appearance."""
    layers = [model["layers"] for model in models]
    return [
        [name, *(f"{found[name]['mean']:.4f}" if name in found else missing for found in layers)]
        for name in dict.fromkeys(name for found in layers for name in found)
    ]


def _text(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    from steadypix.eval.results.lines import table_lines

    return "\n".join(table_lines([*zip(columns, zip(*rows, strict=True), strict=True)]))
