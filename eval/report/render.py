"""report.html: one self-contained page made from results.json and frames/ alone.

`python -m steadypix.eval.report results/` makes it again; the same files give the same bytes. The page
fetches
nothing: its Content-Security-Policy allows only pictures that it carries and the one script whose hash
it names.
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
from steadypix.eval.report.verdict import leading_panel, margin_words, shift_words, verdict
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
        pictured = [model["name"] for model in frames["models"]]
        measured = [model["name"] for model in results["models"]]
        if pictured != measured:
            raise InputError(
                f"{folder / 'frames'}: shows {', '.join(pictured)}; results.json has {', '.join(measured)}"
            )
    page = render(results, frames)
    path = folder / REPORT
    write_text(path, page)
    return path


def render(results: dict[str, Any], frames: dict[str, Any] | None = None) -> str:
    """Return the page.

    Args:
        results: as in results.json.
        frames: as `read_frames` returns them; without, the page has no slider.
    """
    script = "\n".join((TEMPLATES / name).read_text(encoding="utf-8") for name in SCRIPTS)
    table = leading_first(columns(results), panels(results))
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    return (
        templates()
        .get_template(REPORT)
        .render(
            results=results,
            frames=frames,
            verdict=verdict(results),
            panels=panels(results),
            columns=table,
            rows=rows(results, table),
            words=gather(results, lambda measure: measure.words(results)),
            checkpoints=[(model["name"], facts(model)) for model in results["models"]],
            shifts=shift_words(results),
            data=page_data(results, frames),
            # Our own files, which hold no one's names: the only text that the template marks as safe.
            style=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
            script=script,
            script_hash=digest,
        )
    )


def page_data(results: dict[str, Any], frames: dict[str, Any] | None) -> dict[str, Any]:
    """Return what the page's script reads: points of the curves, maps and tiles."""
    return {
        "models": [model["name"] for model in results["models"]],
        "axis": results["axis"],
        "off_scale_db": OFF_SCALE_DB,
        "panels": panels(results),
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
    lead = leading_panel(results)
    keys = [
        (protocol, margin)
        for protocol, margins in results["models"][0]["stability"].items()
        for margin in margins
    ]
    return [
        {
            "protocol": protocol,
            "margin": margin,
            "title": f"{protocol}, {margin_words(margin)}",
            "leads": (protocol, margin) == lead,
            # Odd shifts lead elsewhere, and the page says so once.
            "over": "fractional shifts" if _is_fractional(results, protocol, margin) else "",
            "lines": [
                model["stability"].get(protocol, {}).get(margin, {}).get("per_shift", [])
                for model in results["models"]
            ],
        }
        for protocol, margin in sorted(keys, key=lambda key: key != lead)
    ]


def leading_first(table: Sequence[Column], charts: Sequence[dict[str, Any]]) -> list[Column]:
    """Return the columns with the verdict's before all others."""
    lead = next((chart for chart in charts if chart["leads"]), None)
    if lead is None:
        return list(table)
    where = (lead["protocol"], margin_words(lead["margin"]))
    return sorted(table, key=lambda column: (column.title, column.note.partition(", ")[0]) != where)


def _is_fractional(results: dict[str, Any], protocol: str, margin: str) -> bool:
    return bool(results["models"][0]["stability"][protocol][margin].get("fractional_mean_db"))


def rows(results: dict[str, Any], table: Sequence[Column]) -> list[dict[str, Any]]:
    """Return a row a model: its name and a cell for each column."""
    found: list[dict[str, Any]] = [
        {
            "number": number,
            "name": model["name"],
            "cells": [_cell(column.figures[number], column.digits) for column in table],
        }
        for number, model in enumerate(results["models"])
    ]
    _mark_best(found, [column.better for column in table])
    return found


def _mark_best(table: list[dict[str, Any]], better: Sequence[str]) -> None:
    """Set `best` in the cells of the best value of a column; one model alone is not the best of any."""
    for place, end in enumerate(better):
        cells = [row["cells"][place] for row in table if row["cells"][place]["value"] is not None]
        if not end or len(cells) < 2:
            continue
        best = (max if end == "high" else min)(cell["value"] for cell in cells)
        for cell in cells:
            cell["best"] = cell["value"] == best


def facts(model: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what is known of a checkpoint as (heading, words)."""
    generator, origin = model.get("generator") or {}, model.get("provenance") or {}
    trained = [f"run {origin['run']}"] if origin.get("run") else []
    for key, words in (("epoch", "epochs"), ("seen", "samples seen")):
        if isinstance(origin.get(key), int | float):  # whatever a file says of itself
            trained.append(
                f"{origin[key]:,g} {words}" if origin[key] < 1e6 else f"{origin[key]:,.0f} {words}"
            )
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


def _cell(value: Any, digits: int) -> dict[str, Any]:
    """Return a figure's text, its half interval, and the number that the table sorts by."""
    mean, interval = (value["mean"], value.get("ci95")) if isinstance(value, dict) else (value, None)
    if mean is None:
        return {"text": "–", "half": "", "value": None, "best": False}
    half = "" if interval is None else f"±{(interval[1] - interval[0]) / 2:.{digits}f}"
    return {"text": f"{mean:.{digits}f}", "half": half, "value": mean, "best": False}
