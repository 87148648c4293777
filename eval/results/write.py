"""What an evaluation leaves behind: results.json (documented in docs/results-format.md), CSV, a table."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from steadypix.errors import printable
from steadypix.files import write_text

SCHEMA_VERSION = 1
_FORMULA = ("=", "+", "-", "@")  # also behind a tab or a line end


def write_results(results: dict[str, Any], out: Path) -> None:
    """Write results.json and results.csv."""
    write_text(out / "results.json", to_json(results))
    write_text(out / "results.csv", to_csv(results))


def as_text(results: dict[str, Any]) -> dict[str, Any]:
    """Return the results as their file will hold them: a file's name that is no text gets question marks."""
    return dict(json.loads(to_json(results).encode("utf-8", "replace")))


def to_json(results: dict[str, Any]) -> str:
    """Return the results as JSON text; NaN or infinity is a bug and raises ValueError."""
    return json.dumps(results, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def _cell(value: Any) -> Any:
    """Return a cell that a spreadsheet shows and does not run: text that begins like a formula gets a quote.

    Figures stay figures, negative ones too. Control characters are written out, see `printable`.
    """
    if not isinstance(value, str):
        return value
    shown = printable(value)
    return f"'{shown}" if shown.startswith(_FORMULA) or value[:1] in ("\t", "\r", "\n") else shown


def to_csv(results: dict[str, Any]) -> str:
    """Return one row for every model, protocol, margin and shift, quality repeated on each."""
    quality_keys = list(results["models"][0]["quality"])
    fixed = ["model", "protocol", "margin_px", "dx", "dy"]
    scores = ["mean_db", "ci95_low_db", "ci95_high_db", "pooled_db", "n_identical"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*fixed, *scores, *quality_keys])
    for model in results["models"]:
        figures = [model["quality"][key] for key in quality_keys]
        quality = [figure["mean"] if isinstance(figure, dict) else figure for figure in figures]
        for protocol, margins in model["stability"].items():
            for margin, summary in margins.items():
                for row in summary["per_shift"]:
                    where = [model["name"], protocol, margin, row["dx"], row["dy"]]
                    low, high = row["ci95_db"] or ("", "")
                    score = [row["mean_db"], low, high, row["pooled_db"], row["n_identical"]]
                    writer.writerow(map(_cell, [*where, *score, *quality]))
    return text.getvalue()
