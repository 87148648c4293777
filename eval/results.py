"""What an evaluation leaves behind: results.json (documented in docs/results-format.md), CSV, a table."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.errors import InputError
from data.files import write_text

SCHEMA_VERSION = 1
EQUALLY_SHARP = 1.1  # two models' TV may differ by this factor before a comparison says so


def prepare_output(out: Path) -> None:
    """See that the output folder can be made and written, before any work is done.

    Raises:
        InputError: naming the folder and the reason.
    """
    existed = out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / f".writable.{os.getpid()}"
        probe.touch()
        probe.unlink()
        if not existed:
            out.rmdir()  # what follows may still fail; whoever writes first makes it again
    except FileExistsError:
        raise InputError(f"{out}: is a file; expected a folder to write to") from None
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror})") from None


def write_results(results: dict[str, Any], out: Path) -> None:
    """Write results.json and results.csv."""
    for name, text in (("results.json", to_json(results)), ("results.csv", to_csv(results))):
        write_text(out / name, text)


def as_text(results: dict[str, Any]) -> dict[str, Any]:
    """Return the results as their file will hold them: a file's name that is no text gets question marks."""
    read_back: dict[str, Any] = json.loads(to_json(results).encode("utf-8", "replace"))
    return read_back


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
                    score = [
                        row["mean_db"],
                        *(row["ci95_db"] or ("", "")),
                        row["pooled_db"],
                        row["n_identical"],
                    ]
                    writer.writerow([*where, *score, *quality])
    return text.getvalue()


def to_table(results: dict[str, Any]) -> str:
    """Return the table that people read: stability with its interval, quality always beside it."""
    models = results["models"]
    columns: list[tuple[str, list[str]]] = [("model", [model["name"] for model in models])]
    for protocol, margins in models[0]["stability"].items():
        for margin in margins:
            name = f"{protocol}, {margin} px" if len(margins) > 1 else protocol
            if margins[margin].get("over") == "fractional shifts":
                name = f"{name}, fractional"
            cells = [_stability_cell(model["stability"][protocol][margin]) for model in models]
            columns.append((f"{name} [dB]", cells))
    columns += _single_figures(models)
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
    lines += [
        "",
        *_protocol_notes(results),
        f"The targets' own TV is {target_tv:.4f}. A soft picture is stable for free: read dB beside TV.",
    ]
    lines += _perturbation_lines(models)
    for row in results["comparisons"]:
        interval = row["gain_db"]["ci95"]
        bounds = f" [{interval[0]:+.2f}, {interval[1]:+.2f}]" if interval else ""
        lines.append(
            f"{row['model']} - {row['reference']}, {row['protocol']}, margin {row['margin_px']} px: "
            f"{row['gain_db']['mean']:+.2f} dB{bounds}, paired, {row['over']}"
            + _sharpness_note(models, row["model"], row["reference"])
        )
    for name, images in results.get("worst", {}).items():
        moved = ", ".join(f"{image['image']} ({image['mean_db']:.1f} dB)" for image in images)
        lines.append(f"{name} moves most on {moved}")
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


def lead_score_db(model: Mapping[str, Any]) -> float:
    """Return the leading mean of the first protocol at its widest margin; EQ-T if there is no protocol."""
    return float(lead_figure(model)["mean"])


def lead_figure(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the mean and interval that a model leads with: first protocol, widest margin; or else EQ-T."""
    if not model["stability"]:
        return {"mean": model["eqt"]["db"], "ci95": model["eqt"]["ci95_db"]}
    margins = next(iter(model["stability"].values()))
    return summary_figure(list(margins.values())[-1])


def lead_score(model: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return what a model leads with, in words, and its mean and interval."""
    if not model["stability"]:
        return "eqt", lead_figure(model)
    protocol, margins = next(iter(model["stability"].items()))
    return f"{protocol} at a margin of {list(margins)[-1]} px", lead_figure(model)


def summary_figure(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the mean and interval that a summary leads with: over fractional, odd, or all shifts."""
    figure = summary.get("fractional_mean_db") or summary["odd_mean_db"] or summary["mean_db"]
    return dict(figure)


def _stability_cell(summary: dict[str, Any]) -> str:
    figure = summary_figure(summary)
    return _with_half(figure["mean"], figure["ci95"])


def _with_half(value: float, interval: Sequence[float] | None) -> str:
    """Return a figure and half its interval; one image alone has no interval."""
    return f"{value:.2f}" + (f" ± {(interval[1] - interval[0]) / 2:.2f}" if interval else "")


def _single_figures(models: Sequence[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """Return title and cells of what has no shifts: EQ-T, and flicker at each speed."""
    columns = []
    if "eqt" in models[0]:
        cells = [_with_half(model["eqt"]["db"], model["eqt"]["ci95_db"]) for model in models]
        columns.append(("EQ-T [dB]", cells))
    for place, pan in enumerate(models[0].get("pan", ())):
        figures = [model["pan"][place]["difference_db"] for model in models]
        cells = [_with_half(figure["mean"], figure["ci95"]) for figure in figures]
        columns.append((f"pan {pan['speed_px']:g} px [dB]", cells))
    return columns


def _protocol_notes(results: dict[str, Any]) -> list[str]:
    """Return what the columns of the table are means of."""
    model, count = results["models"][0], results["data"]["n_images"]
    notes = []
    if model["stability"]:
        summaries = [s for margins in model["stability"].values() for s in margins.values()]
        over = "odd shifts" if any(s["odd_mean_db"] for s in summaries) else "shifts"
        if any(s.get("fractional_mean_db") for s in summaries):
            over += " (fractional ones where the column says so)"
        notes.append(
            f"Stability: mean over images and {over} of {_numbers(results['shifts_px'])} px along "
            f"{results['axis']}, 95 % interval over {count} images; margin left out a side."
        )
    if "eqt" in model:
        notes.append(f"EQ-T: {model['eqt']['n_draws']} translations an image, pooled over {count} images.")
    if "pan" in model:
        notes.append(
            f"pan: difference of successive frames, motion-compensated, {results['pan']['n_frames']} frames."
        )
    return notes


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


def _numbers(values: Sequence[float]) -> str:
    whole = len(values) > 2 and list(values) == [values[0] + place for place in range(len(values))]
    return f"{values[0]}..{values[-1]}" if whole else ", ".join(map(str, values))
