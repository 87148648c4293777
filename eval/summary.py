"""From finished measurements to the part of results.json that was measured: models and comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from eval.decibels import PEAK, mean_with_interval
from eval.offsets import plain
from eval.perturb import describe
from eval.quality import summarise_quality
from eval.spectrum import summarise_spectrum

if TYPE_CHECKING:
    from eval.evaluate import Measurement, Plan
    from eval.models import Model
    from eval.stability import Stability


def summarise(measurements: Sequence[Measurement], plan: Plan) -> dict[str, Any]:
    """Return the part of results.json that was measured: models and comparisons."""
    reference = measurements[reference_model([m.model for m in measurements])]
    others = [m for m in measurements if m is not reference]
    perturbed = reference.perturbed
    return {
        "peak": PEAK,
        "n_images": len(reference.quality),
        **({"perturbations": describe(perturbed.kinds, perturbed.margin_px)} if perturbed.kinds else {}),
        "models": [_summarise_model(m, plan) for m in measurements],
        "comparisons": [row for m in others for row in _compare(m, reference, plan)],
    }


def reference_model(models: Sequence[Model]) -> int:
    """Return which model the others are compared with: the first strided one, else the first."""
    sampling = [model.config["generator"].get("sampling") for model in models]
    return sampling.index("strided") if "strided" in sampling else 0


def _summarise_model(measurement: Measurement, plan: Plan) -> dict[str, Any]:
    figures = summarise_quality(measurement.quality, seed=plan.seed)
    summary = {**measurement.model.describe(), "quality": figures, "stability": {}}
    if "spectrum" in plan.measures:
        summary["spectrum"] = summarise_spectrum(measurement.quality, seed=plan.seed)
    if plan.perturbations:
        summary["perturbations"] = measurement.perturbed.summary(seed=plan.seed)
    for scores in measurement.scores:
        stability = scores.result()
        along = stability.select(plan.offsets_of(scores.protocol))
        summary["stability"][stability.protocol] = {
            str(margin): along.summary(margin, seed=plan.seed) for margin in along.margins_px
        }
        if plan.map_offsets:
            summary.setdefault("map", {})[stability.protocol] = _map(stability)
    if measurement.eqt:
        summary["eqt"] = measurement.eqt.result().summary(seed=plan.seed)
    return summary


def _map(stability: Stability) -> dict[str, Any]:
    """Mean dB over images for every (dx, dy) at the widest margin; null where nothing moves."""
    margin = stability.margins_px[-1]
    columns = sorted({dx for dx, _ in stability.offsets})
    rows = sorted({dy for _, dy in stability.offsets})
    mean = {offset: stability.select([offset]).mean_db(margin) for offset in stability.offsets}
    return {
        "margin_px": margin,
        "dx": [plain(dx) for dx in columns],
        "dy": [plain(dy) for dy in rows],
        "mean_db": [[mean.get((dx, dy)) for dx in columns] for dy in rows],
    }


def _compare(measurement: Measurement, reference: Measurement, plan: Plan) -> list[dict[str, Any]]:
    """Return the paired differences over the shifts that lead, image by image, and of EQ-T."""
    names = {"model": measurement.model.name, "reference": reference.model.name}
    rows: list[dict[str, Any]] = []
    for our_scores, their_scores in zip(measurement.scores, reference.scores, strict=True):
        along = plan.offsets_of(our_scores.protocol)
        ours, theirs = our_scores.result().select(along), their_scores.result().select(along)
        for margin in ours.margins_px:
            gain = mean_with_interval(ours.lead_db(margin) - theirs.lead_db(margin), seed=plan.seed)
            where = {"protocol": ours.protocol, "margin_px": margin, "over": ours.over}
            rows.append({**names, **where, "gain_db": gain})
    if measurement.eqt and reference.eqt:
        gain = measurement.eqt.result().gain_over(reference.eqt.result(), seed=plan.seed)
        where = {"protocol": "eqt", "margin_px": 0, "over": "all draws"}
        rows.append({**names, **where, "gain_db": gain})
    return rows
