"""What an evaluation leaves behind: results.json (documented in docs/results-format.md), CSV, a table."""

from __future__ import annotations

import csv
import functools
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.errors import InputError
from data.files import write_whole

SCHEMA_VERSION = 1
EQUALLY_SHARP = 1.1  # two models' TV may differ by this factor before a comparison says so


def prepare_output(out: Path) -> None:
    """Make the output folder and see that it can be written, before any work is done.

    Raises:
        InputError: naming the folder and the reason.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / f".writable.{os.getpid()}"
        probe.touch()
        probe.unlink()
    except FileExistsError:
        raise InputError(f"{out}: is a file; expected a folder to write to") from None
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror})") from None


def write_results(results: dict[str, Any], out: Path) -> None:
    """Write results.json and results.csv."""
    for name, text in (("results.json", to_json(results)), ("results.csv", to_csv(results))):
        write_whole(out / name, functools.partial(Path.write_text, data=text, encoding="utf-8"))


def to_json(results: dict[str, Any]) -> str:
    """Return the results as JSON text; NaN or infinity is a bug and raises ValueError."""
    return json.dumps(results, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def to_csv(results: dict[str, Any]) -> str:
    """Return one row for every model, protocol, margin and shift, quality repeated on each."""
    quality_keys = list(results["models"][0]["quality"])
    fixed = ["model", "protocol", "margin_px", "dx", "dy"]
    scores = ["mean_db", "ci95_low_db", "ci95_high_db", "pooled_db", "n_identical"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*fixed, *scores, *quality_keys])
    for model in results["models"]:
        quality = [_mean(model["quality"][key]) for key in quality_keys]
        for protocol, margins in model["stability"].items():
            for margin, summary in margins.items():
                for row in summary["per_shift"]:
                    where = [model["name"], protocol, margin, row["dx"], row["dy"]]
                    score = [row["mean_db"], *row["ci95_db"], row["pooled_db"], row["n_identical"]]
                    writer.writerow([*where, *score, *quality])
    return text.getvalue()


def to_table(results: dict[str, Any]) -> str:
    """Return the table that people read: stability with its interval, quality always beside it."""
    models = results["models"]
    columns: list[tuple[str, list[str]]] = [("model", [model["name"] for model in models])]
    for protocol, margins in models[0]["stability"].items():
        for margin in margins:
            name = f"{protocol}, {margin} px" if len(margins) > 1 else protocol
            cells = [_stability_cell(model["stability"][protocol][margin]) for model in models]
            columns.append((f"{name} [dB]", cells))
    for title, key, digits in (
        ("L1", "l1", 4),
        ("PSNR [dB]", "psnr_db", 2),
        ("TV", "tv", 4),
        ("TV/target", "tv_ratio", 2),
        ("SSIM", "ssim", 3),
        ("LPIPS", "lpips", 3),
        ("checkerboard [dB]", "checkerboard_db", 1),
    ):
        if key not in models[0]["quality"]:
            continue
        columns.append((title, [_figure(model["quality"][key], digits) for model in models]))
    lines = [_line(columns, None), *(_line(columns, row) for row in range(len(models)))]
    target_tv = _mean(models[0]["quality"]["target_tv"])
    data, odd = results["data"], models[0]["stability"][next(iter(models[0]["stability"]))]
    over = "odd shifts" if next(iter(odd.values()))["odd_mean_db"] else "shifts"
    lines += [
        "",
        f"Stability: mean over images and {over} of {_ints(results['shifts_px'])} px along "
        f"{results['axis']}, 95 % interval over {data['n_images']} images; margin left out a side.",
        f"The targets' own TV is {target_tv:.4f}. A soft picture is stable for free: read dB beside TV.",
    ]
    lines += _perturbation_lines(models)
    for row in results["comparisons"]:
        low, high = row["gain_db"]["ci95"]
        lines.append(
            f"{row['model']} - {row['reference']}, {row['protocol']}, margin {row['margin_px']} px: "
            f"{row['gain_db']['mean']:+.2f} dB [{low:+.2f}, {high:+.2f}], paired, {row['over']}"
            + _sharpness_note(models, row["model"], row["reference"])
        )
    return "\n".join(lines)


def _perturbation_lines(models: Sequence[dict[str, Any]]) -> list[str]:
    """Return a row a model of the mean dB over the five severities of every kind, if measured."""
    kinds = models[0].get("perturbations", {})
    if not kinds:
        return []
    columns = [("under perturbations, mean of five severities [dB]", [model["name"] for model in models])]
    for kind in kinds:
        means = [[row["mean_db"] for row in model["perturbations"][kind].values()] for model in models]
        columns.append((kind, [f"{sum(mean) / len(mean):.2f}" for mean in means]))
    return ["", *(_line(columns, row) for row in (None, *range(len(models)))), ""]


def _sharpness_note(models: Sequence[dict[str, Any]], *names: str) -> str:
    """Say at which sharpness two models are compared, and whether that is fair."""
    ratios = [next(m["quality"]["tv_ratio"] for m in models if m["name"] == name) for name in names]
    if not all(ratios):
        return ""
    fair = "" if max(ratios) <= EQUALLY_SHARP * min(ratios) else ": not equally sharp"
    return f", at TV/target {ratios[0]:.2f} against {ratios[1]:.2f}{fair}"


def lead_figure(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return mean and interval over odd shifts (all if none is odd): first protocol, widest margin."""
    margins = next(iter(model["stability"].values()))
    summary = list(margins.values())[-1]
    figure: dict[str, Any] = summary["odd_mean_db"] or summary["mean_db"]
    return figure


def lead_score_db(model: dict[str, Any]) -> float:
    """Return the odd-shift mean of the first protocol at its widest margin (all shifts if none is odd)."""
    return float(lead_figure(model)["mean"])


def _stability_cell(summary: dict[str, Any]) -> str:
    figure = summary["odd_mean_db"] or summary["mean_db"]
    low, high = figure["ci95"]
    half = (high - low) / 2
    return f"{figure['mean']:.2f} ± {half:.2f}"


def _figure(value: Any, digits: int) -> str:
    number = _mean(value)
    return "-" if number is None or not math.isfinite(number) else f"{number:.{digits}f}"


def _mean(value: Any) -> Any:
    return value["mean"] if isinstance(value, dict) else value


def _line(columns: Sequence[tuple[str, list[str]]], row: int | None) -> str:
    cells = []
    for place, (title, values) in enumerate(columns):
        width = max(map(len, [title, *values]))
        text = title if row is None else values[row]
        cells.append(text.ljust(width) if place == 0 else text.rjust(width))
    return "  ".join(cells).rstrip()


def _ints(values: Sequence[int]) -> str:
    whole = list(values) == list(range(values[0], values[-1] + 1)) and len(values) > 2
    return f"{values[0]}..{values[-1]}" if whole else ", ".join(map(str, values))
