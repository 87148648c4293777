"""From finished measurements to the part of results.json that was measured: models and comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from steadypix.eval.measure.registry import MEASURES
from steadypix.eval.metrics.decibels import PEAK

if TYPE_CHECKING:
    from steadypix.eval.measure.measure import Measurement
    from steadypix.eval.measure.plan import Plan
    from steadypix.eval.measure.stage import Stage


def summarise(measurements: Sequence[Measurement], plan: Plan) -> dict[str, Any]:
    """Return the part of results.json that was measured: models and comparisons."""
    return {
        "peak": PEAK,
        **about(measurements[0].stages, plan, first=True),
        "models": [_summarise_model(m, plan) for m in measurements],
        "comparisons": compare(measurements, plan),
    }


def about(stages: Sequence[Stage], plan: Plan, *, first: bool) -> dict[str, Any]:
    """Return what the measures say of themselves, before the models (`first`) or after them."""
    found: dict[str, Any] = {}
    for stage in stages:
        for name in stage.names:
            if MEASURES[name].described_first == first:
                found |= MEASURES[name].about(plan.asked[name], plan.conditions(stage.pairs))
    return found


def compare(measurements: Sequence[Measurement], plan: Plan) -> list[dict[str, Any]]:
    """Return the paired differences to the first strided model, else the first, a stage after the other."""
    strided = [m for m in measurements if m.model.config["generator"].get("sampling") == "strided"]
    reference = (strided or measurements)[0]
    others = [m for m in measurements if m is not reference]
    return [
        {"model": other.model.name, "reference": reference.model.name, **row}
        for stage in reference.stages
        for other in others
        for name in stage.names
        for row in other.measures[name].gains(reference.measures[name], seed=plan.seed)
    ]


def _summarise_model(measurement: Measurement, plan: Plan) -> dict[str, Any]:
    summary: dict[str, Any] = {**measurement.model.describe(), "quality": {}, "stability": {}}
    for measure in measurement.measures.values():
        for key, value in measure.summary(seed=plan.seed).items():
            if isinstance(value, dict):  # protocols and figures stand side by side under one key
                summary.setdefault(key, {}).update(value)
            else:
                summary[key] = value
    return summary
