"""consistency.json, its charts, its page, its table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steadypix.errors import printable

if TYPE_CHECKING:
    import numpy as np

Curves = dict[str, tuple[list[int], "np.ndarray"]]  # network -> shifts in px, (pictures, shifts) in [0, 1]


def write_consistency(results: dict[str, Any], out: Path, curves: Curves, titles: Sequence[str]) -> None:
    """Write consistency.json, its charts, and the page they stand on."""
    from steadypix.eval.charts.classifier_charts import draw_diagonals, draw_scatter
    from steadypix.eval.report.page import Section, write_with_page

    models = results["models"]
    protocols = list(models[0]["consistency"])
    pictures = []
    if all("accuracy" in model for model in models):
        points = [
            {
                "group": model["name"],
                "accuracy": model["accuracy"]["mean"],
                "consistency": model["consistency"][protocols[0]]["mean"],
            }
            for model in models
        ]
        draw_scatter(out / "scatter.png", points, protocol=protocols[0])
        pictures.append((out / "scatter.png", "Accuracy against consistency."))
    if curves:
        draw_diagonals(out / "diagonal.png", curves, titles)
        pictures.append((out / "diagonal.png", "The right class's probability along the diagonal."))
    section = Section(
        "Consistency",
        ["How often two random shifts of a picture get the same class, ± the standard error over pictures."],
        ["network", *(f"consistency, {name} [%]" for name in protocols), "accuracy [%]"],
        [_row(model, protocols) for model in models],
        pictures,
    )
    write_with_page(results, out, "consistency", "Classification consistency", section)


def table(models: Sequence[dict[str, Any]], protocols: Sequence[str]) -> str:
    """Return the table that people read."""
    from steadypix.eval.results.lines import table_lines

    columns = ["network", *(f"{name} [%]" for name in protocols), "accuracy [%]"]
    rows = [_row(model, protocols) for model in models]
    return "\n".join(table_lines([*zip(columns, zip(*rows, strict=True), strict=True)]))


def _row(model: dict[str, Any], protocols: Sequence[str]) -> list[str]:
    from steadypix.eval.report.page import percent

    cells = [percent(model["consistency"][name]) for name in protocols]
    return [printable(model["name"]), *cells, percent(model["accuracy"]) if "accuracy" in model else "-"]
