"""report.html: one self-contained page made from results.json and frames/ alone.

`python -m steadypix.eval.report results/` makes it again; the same files give the same bytes. The page
fetches nothing: its Content-Security-Policy allows only pictures that it carries and the one script whose
hash it names.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from steadypix.errors import InputError
from steadypix.eval.charts.curve import OFF_SCALE_DB
from steadypix.eval.charts.drawing import heat
from steadypix.eval.measure.registry import columns, gather
from steadypix.eval.metrics.measure import Column
from steadypix.eval.report.frames import read_frames
from steadypix.eval.report.page import TEMPLATES, templates
from steadypix.eval.report.verdict import shift_words, verdict
from steadypix.eval.results.lead import leading, margin_words
from steadypix.eval.results.schema import read_results
from steadypix.files import write_text

REPORT = "report.html"
SCRIPTS = ("pictures.js", "charts.js", "page.js")


def write_report(folder: Path) -> Path:
    """Write `report.html` beside the results in `folder` and return its path.

    Raises:
        InputError: naming the file that is missing, broken or does not belong to the others.
    """
    results, frames = read_results(folder / "results.json"), read_frames(folder / "frames")
    if frames is not None:
        pictured, measured = ([model["name"] for model in each["models"]] for each in (frames, results))
        if pictured != measured:
            raise InputError(
                f"{folder / 'frames'}: shows {', '.join(pictured)}; results.json has {', '.join(measured)}"
            )
    path = folder / REPORT
    write_text(path, render(results, frames))
    return path


def render(results: dict[str, Any], frames: dict[str, Any] | None = None) -> str:
    """Return the page of results as in results.json; the slider shows `frames` as of `read_frames`."""
    script = "\n".join((TEMPLATES / name).read_text(encoding="utf-8") for name in SCRIPTS)
    charts, table = panels(results), leading_first(results)
    page = templates().get_template(REPORT)
    return page.render(
        results=results,
        frames=frames,
        verdict=verdict(results),
        panels=charts,
        columns=table,
        rows=rows(results, table),
        words=gather(results, lambda measure: measure.words(results)),
        checkpoints=[(model["name"], facts(model)) for model in results["models"]],
        shifts=shift_words(results),
        data=page_data(results, charts, frames),
        # Our own files, which hold no one's names: the only text that the template marks as safe.
        style=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii"),
    )


def page_data(
    results: dict[str, Any], charts: Sequence[dict[str, Any]], frames: dict[str, Any] | None
) -> dict[str, Any]:
    """Return what the page's script reads: points of the curves, maps and tiles."""
    return {
        "models": [model["name"] for model in results["models"]],
        "axis": results["axis"],
        "off_scale_db": OFF_SCALE_DB,
        "panels": charts,
        "maps": [
            {"model": number, "name": model["name"], "protocol": protocol, **grid}
            for number, model in enumerate(results["models"])
            for protocol, grid in model.get("map", {}).items()
        ],
        "frames": frames,
        "heat": [] if frames is None else heat(np.linspace(0, 1, 256)).tolist(),
    }


def panels(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one chart for every protocol and margin, the leading one first."""
    models = results["models"]
    measured, lead = models[0]["stability"], leading(models[0])
    keys = [(protocol, margin) for protocol, margins in measured.items() for margin in margins]
    charts = []
    for protocol, margin in sorted(keys, key=lambda key: key != lead):
        summaries = [model["stability"].get(protocol, {}).get(margin, {}) for model in models]
        charts.append(
            {
                "protocol": protocol,
                "margin": margin,
                "title": f"{protocol}, {margin_words(margin)}",
                "leads": (protocol, margin) == lead,
                # Odd shifts lead elsewhere, and the page says so once.
                "over": "fractional shifts" if summaries[0].get("fractional_mean_db") else "",
                "lines": [summary.get("per_shift", []) for summary in summaries],
            }
        )
    return charts


def leading_first(results: dict[str, Any]) -> list[Column]:
    """Return the columns with the verdict's before all others."""
    protocol, margin = leading(results["models"][0])
    where = (protocol, margin_words(margin))
    return sorted(
        columns(results), key=lambda column: (column.title, column.note.partition(", ")[0]) != where
    )


def rows(results: dict[str, Any], table: Sequence[Column]) -> list[dict[str, Any]]:
    """Return a row a model: its number, its name and a cell for each column, the best ones marked."""
    cells = [_cells(column) for column in table]
    return [
        {"number": number, "name": model["name"], "cells": [column[number] for column in cells]}
        for number, model in enumerate(results["models"])
    ]


def _cells(column: Column) -> list[dict[str, Any]]:
    """Return every figure's text, half interval, the number that the table sorts by, and if it is best."""
    figures = [value if isinstance(value, dict) else {"mean": value} for value in column.figures]
    means = [figure["mean"] for figure in figures if figure["mean"] is not None]
    # One model alone is not the best of any.
    best = (max if column.better == "high" else min)(means) if column.better and len(means) > 1 else None
    cells = []
    for figure in figures:
        mean, interval, text, half = figure["mean"], figure.get("ci95"), "–", ""
        if mean is not None:
            text = f"{mean:.{column.digits}f}"
            half = f"±{(interval[1] - interval[0]) / 2:.{column.digits}f}" if interval else ""
        cells.append({"text": text, "half": half, "value": mean, "best": mean is not None and mean == best})
    return cells


def facts(model: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what is known of a checkpoint as (heading, words)."""
    generator, origin = model.get("generator") or {}, model.get("provenance") or {}
    trained = [f"run {origin['run']}"] if origin.get("run") else []
    for key, words in (("epoch", "epochs"), ("seen", "samples seen")):
        if isinstance(origin.get(key), int | float):  # whatever a file says of itself
            form = ",g" if origin[key] < 1e6 else ",.0f"
            trained.append(f"{origin[key]:{form}} {words}")
    found = [
        ("file", model.get("path")),
        ("SHA-256", model.get("sha256")),
        ("format", model.get("format")),
        ("generator", ", ".join(f"{key} {value}" for key, value in generator.items())),
        ("normalisation", model.get("norm_mode")),
        ("dropout", model.get("dropout_mode")),
        ("outputs", model.get("output_precision")),
        ("trained", ", ".join(trained)),
    ]
    return [(heading, str(words)) for heading, words in found if words]
