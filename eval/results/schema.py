"""What results.json must hold, as docs/results-format.md says it, for a page or a comparison to be made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from steadypix.eval.measure.registry import MEASURES
from steadypix.eval.results.write import SCHEMA_VERSION
from steadypix.json_checks import (
    Check,
    WrongError,
    anything,
    count,
    decibels,
    listed,
    mapped,
    maybe,
    number,
    one_of,
    pair,
    read_json,
    record,
    shift,
    side,
    text,
)

WHAT = f"a results.json of schema_version {SCHEMA_VERSION}, as eval_stability writes it to --out"
MOST_MODELS = 1000


def read_results(path: Path) -> dict[str, Any]:
    """Return results.json.

    Raises:
        InputError: if it is missing, no JSON, of another version, or a key is not as it must be.
    """
    results: dict[str, Any] = read_json(path, check_results, WHAT)
    return results


def check_results(value: Any, where: str = "") -> None:
    """Raise WrongError, naming the key, if results are not as they must be."""
    record({"schema_version": one_of(SCHEMA_VERSION)})(value, where)
    _RESULTS(value, where)
    models = value["models"]
    for place, model in enumerate(models):
        _check_like_the_first(model, models[0], f"models[{place}]")
    names = [model["name"] for model in models]
    for place, row in enumerate(value["comparisons"]):
        for key in ("model", "reference"):
            if row[key] not in names:
                raise WrongError(f"comparisons[{place}].{key}", "the name of a model", row[key])


def _figure_or_number(value: Any, where: str) -> None:
    (_FIGURE if isinstance(value, dict) else maybe(number))(value, where)


def _check_quality(value: Any, where: str) -> None:
    """Want detail, which everything is read beside; whatever else stands there is a figure or a number."""
    record({"tv": _FIGURE, "target_tv": _FIGURE, "tv_ratio": maybe(number)})(value, where)
    mapped(_figure_or_number)(value, where)


def _check_map(value: Any, where: str) -> None:
    _MAP(value, where)
    rows = value["mean_db"]
    if [len(row) for row in rows] != [len(value["dx"])] * len(value["dy"]):
        raise WrongError(f"{where}.mean_db", "a row for every dy, with a value for every dx", rows)


def _check_model(value: Any, where: str) -> None:
    _MODEL(value, where)
    if not value["stability"] and not any(
        {"db", "ci95_db"} <= {*v} for v in value.values() if isinstance(v, dict)
    ):
        raise WrongError(f"{where}.stability", "a protocol, or eqt beside it", value["stability"])


def _check_like_the_first(model: dict[str, Any], first: dict[str, Any], where: str) -> None:
    """A table and a chart stand for all models: what the first has, every one must have."""
    for name, measure in MEASURES.items():
        if (ours := measure.outline(model)) != measure.outline(first):
            raise WrongError(f"{where}: {name}", "what the first model has", ours)
    for key in first["quality"]:
        if key not in model["quality"]:
            raise WrongError(f"{where}.quality.{key}", "the figures of the first model", None)
    if [*model["stability"]] != [*first["stability"]]:
        raise WrongError(f"{where}.stability", "the protocols of the first model", [*model["stability"]])


_INTERVAL = maybe(pair(number))
_INTERVAL_DB = maybe(pair(decibels))
_FIGURE = record({"mean": number, "ci95": _INTERVAL})
_FIGURE_DB = record({"mean": decibels, "ci95": _INTERVAL_DB})
_POINT = record({"dx": shift, "dy": shift, "mean_db": maybe(decibels)}, {"ci95_db": _INTERVAL_DB})
_SUMMARY = record(
    {"mean_db": _FIGURE_DB, "odd_mean_db": maybe(_FIGURE_DB), "per_shift": listed(_POINT)},
    {"fractional_mean_db": maybe(_FIGURE_DB), "over": text},
)
_SHIFTS = listed(shift, least=1, most=4096)
_MAP = record({"dx": _SHIFTS, "dy": _SHIFTS, "mean_db": listed(listed(maybe(decibels)))})
_OF_MEASURES = {key: check for measure in MEASURES.values() for key, check in measure.checks.items()}
_ABOUT_MEASURES = {k: check for measure in MEASURES.values() for k, check in measure.checks_about.items()}
_MODEL = record(
    {
        "name": text,
        "quality": _check_quality,
        "stability": mapped(mapped(_SUMMARY, least=1)),
    },
    {
        **dict.fromkeys(("path", "sha256", "format", "norm_mode", "dropout_mode", "output_precision"), text),
        "generator": mapped(anything),
        "provenance": mapped(anything),
        "map": mapped(_check_map),
        **_OF_MEASURES,
    },
)
_DATA = record(
    {
        "source": text,
        "split": maybe(text),
        "direction": text,
        "canvas_px": side,
        "window_px": side,
        "n_images": count,
    }
)
_COMPARISON = record(
    {"model": text, "reference": text, "protocol": text, "margin_px": count, "gain_db": _FIGURE_DB},
    {"over": text},
)
_VERSIONS: Check = record({"steadypix": text})
_RESULTS = record(
    {
        **dict.fromkeys(("created", "command", "device", "precision", "axis"), text),
        "versions": _VERSIONS,
        "seed": number,
        "peak": number,
        "shifts_px": _SHIFTS,
        "protocols": mapped(text),
        "data": _DATA,
        "models": listed(_check_model, least=1, most=MOST_MODELS),
        "comparisons": listed(_COMPARISON),
    },
    _ABOUT_MEASURES,
)
