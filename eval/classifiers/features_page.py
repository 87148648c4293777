"""features.json, its charts, its page, its table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steadypix.errors import printable

if TYPE_CHECKING:
    from steadypix.eval.report.page import Section


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
    return Section(
        "Internal feature distance",
        [
            "1 - cosine between a layer's shifted map and its map for the shifted input, both at the input's "
            "size, mean over positions, pictures and circular shifts. 0 is equivariant. A map that circular "
            "borders make constant, such as one of 2 x 2 blurred, is rounding alone after a norm, and scores "
            "near 1.",
        ],
        ["layer", "size", *(model["name"] for model in models)],
        [[name, _sizes(models, name), *_means(models, name, "")] for name in layers_of(models)],
        pictures,
    )


def layers_of(models: Sequence[dict[str, Any]]) -> list[str]:
    """Return the names of all layers of all networks, in the order of their first appearance."""
    return list(dict.fromkeys(name for model in models for name in model["layers"]))


def _means(models: Sequence[dict[str, Any]], name: str, missing: str) -> list[str]:
    return [f"{m['layers'][name]['mean']:.4f}" if name in m["layers"] else missing for m in models]


def _sizes(models: Sequence[dict[str, Any]], name: str) -> str:
    # An anti-aliased layer may work densely up to its blur, and other architectures reuse a name.
    strides = [model["layers"][name]["stride"] for model in models if name in model["layers"]]
    return ", ".join(f"1/{stride}" for stride in dict.fromkeys(strides))


def table(models: Sequence[dict[str, Any]]) -> str:
    """Return the table that people read: the mean distance of every layer of every network."""
    from steadypix.eval.results.lines import table_lines

    heads = ["layer", *(printable(model["name"]) for model in models)]
    rows = [[name, *_means(models, name, "-")] for name in layers_of(models)]
    return "\n".join(table_lines([*zip(heads, zip(*rows, strict=True), strict=True)]))
