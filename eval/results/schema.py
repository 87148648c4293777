"""What results.json must hold, as docs/results-format.md says it, for a page or a comparison to be made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from steadypix import json_checks as want
from steadypix.eval.measure.registry import MEASURES
from steadypix.eval.repeat.shown import CHECK
from steadypix.eval.results.lead import single_scores
from steadypix.eval.results.write import SCHEMA_VERSION
from steadypix.json_checks import WrongError, parse_json, read_json

WHAT = f"a results.json of schema_version {SCHEMA_VERSION}, as eval_stability writes it to --out"
MOST_MODELS = 1000


def read_results(path: Path) -> dict[str, Any]:
    """Return results.json.

    Raises:
        InputError: if it is missing, no JSON, of another version, or a key is not as it must be.
    """
    results: dict[str, Any] = read_json(path, _check_results, WHAT)
    return results


def require_readable(known: dict[str, Any], path: Path) -> None:
    """Check all of results that is known before anything is measured, as `read_results` will.

    Args:
        known: results.json without figures: `models` as they describe themselves, no `comparisons`.
        path: where it is to be written.

    Raises:
        InputError: naming the file, and the key that could not be read.
    """
    text = json.dumps(known, ensure_ascii=False).encode("utf-8", "replace").decode()  # as `as_text` does
    parse_json(text, _KNOWN, path, WHAT)


def _check_results(value: Any, where: str) -> None:
    want.record({"schema_version": want.one_of(SCHEMA_VERSION)})(value, where)
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
    (_FIGURE if isinstance(value, dict) else want.maybe(want.number))(value, where)


def _check_quality(value: Any, where: str) -> None:
    """Want detail, which everything is read beside; whatever else stands there is a figure or a number."""
    beside = {"target_tv": want.maybe(_FIGURE), "tv_ratio": want.maybe(want.number)}
    want.record({"tv": _FIGURE, **beside})(value, where)
    want.mapped(_figure_or_number)(value, where)


def _check_map(value: Any, where: str) -> None:
    _MAP(value, where)
    rows = value["mean_db"]
    if [len(row) for row in rows] != [len(value["dx"])] * len(value["dy"]):
        raise WrongError(f"{where}.mean_db", "a row for every dy, with a value for every dx", rows)


def _check_model(value: Any, where: str) -> None:
    _MODEL(value, where)
    if not value["stability"] and not single_scores(value):
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


def _texts(*keys: str) -> dict[str, want.Check]:
    return dict.fromkeys(keys, want.text)


_INTERVAL = want.maybe(want.pair(want.number))
_FIGURE = want.record({"mean": want.number, "ci95": _INTERVAL})
_MAYBE_DB = want.maybe(want.decibels)
_POINT = want.record(
    {"dx": want.shift, "dy": want.shift, "mean_db": _MAYBE_DB}, {"ci95_db": want.INTERVAL_DB}
)
_SUMMARY = want.record(
    {"mean_db": want.FIGURE_DB, "odd_mean_db": want.maybe(want.FIGURE_DB), "per_shift": want.listed(_POINT)},
    {"fractional_mean_db": want.maybe(want.FIGURE_DB), "over": want.text},
)
_SHIFTS = want.listed(want.shift, least=1, most=4096)
_MAP = want.record({"dx": _SHIFTS, "dy": _SHIFTS, "mean_db": want.listed(want.listed(_MAYBE_DB))})
_OF_MEASURES = {key: check for measure in MEASURES.values() for key, check in measure.checks.items()}
_ABOUT_MEASURES = {k: check for measure in MEASURES.values() for k, check in measure.checks_about.items()}
_DESCRIBED = {
    **_texts("path", "sha256", "code_sha256"),
    **_texts("format", "norm_mode", "dropout_mode", "output_precision"),
    **dict.fromkeys(("generator", "provenance"), want.mapped(want.anything)),
}
_MODEL = want.record(
    {"name": want.text, "quality": _check_quality, "stability": want.mapped(want.mapped(_SUMMARY, least=1))},
    {**_DESCRIBED, "map": want.mapped(_check_map), "floor": CHECK, **_OF_MEASURES},
)
_DATA = want.record(
    {
        **_texts("source", "direction"),
        "split": want.maybe(want.text),
        **dict.fromkeys(("canvas_px", "window_px"), want.size),
        "n_images": want.count,
    },
    _texts("pictures_sha256"),
)
_COMPARISON = want.record(
    {**_texts("model", "reference", "protocol"), "margin_px": want.count, "gain_db": want.FIGURE_DB},
    _texts("over"),
)
_HEADING = {
    **_texts("created", "command", "device", "precision", "axis"),
    **dict.fromkeys(("seed", "peak"), want.number),
    "versions": want.record(_texts("steadypix")),
    "shifts_px": _SHIFTS,
    "protocols": want.mapped(want.text),
    "data": _DATA,
}
_ALSO = {"threads": want.count, **_ABOUT_MEASURES}
_RESULTS = want.record(
    {
        **_HEADING,
        "models": want.listed(_check_model, least=1, most=MOST_MODELS),
        "comparisons": want.listed(_COMPARISON),
    },
    _ALSO,
)
_KNOWN = want.record(
    {
        **_HEADING,
        "models": want.listed(want.record({"name": want.text}, _DESCRIBED), least=1, most=MOST_MODELS),
    },
    _ALSO,
)
