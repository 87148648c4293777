"""Which pictures an evaluation draws, and of which image: the one where models differ most."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.evaluate import Measurement, Plan, as_rgb, strip_outputs

if TYPE_CHECKING:
    from data.pairs import Pairs
    from eval.shifts import Offset


def telling_image(measurements: Sequence[Measurement]) -> int:
    """Return the image with the largest spread in dB between models (one model: the least stable)."""
    rows = np.stack([_leading_db(m) for m in measurements])
    if len(rows) == 1:
        return int(rows[0].argmin())
    return int((rows.max(axis=0) - rows.min(axis=0)).argmax())


def _leading_db(measurement: Measurement) -> np.ndarray:
    stability = measurement.stabilities()[0]
    return stability.image_db(stability.margins_px[-1])


def draw(
    results: dict[str, Any],
    measurements: Sequence[Measurement],
    pairs: Pairs,
    plan: Plan,
    out: Path,
) -> None:
    """Write grid.png, flicker.webp and the charts of what was measured to `out`."""
    from data.transforms import to_pixels
    from eval.curve import draw_curve, draw_map
    from eval.grid import Strip, draw_grid, save_flicker
    from eval.perturb_chart import draw_perturbations
    from eval.spectrum_chart import draw_spectrum
    from eval.tradeoff import draw_tradeoff

    source, target = (half[None].to(plan.device) for half in pairs.canvas(telling_image(measurements)))
    rule = plan.rules(pairs)[0]
    offsets: list[Offset] = sorted({*plan.offsets, (0, 0)})
    strips = [
        Strip(
            name=row["name"],
            caption=caption(row),
            outputs=strip_outputs(m.model, source, rule, offsets, batch_size=plan.batch_size),
        )
        for m, row in zip(measurements, results["models"], strict=True)
    ]
    scene = [as_rgb(to_pixels(rule.shared(rule.base(half), (0, 0), offsets)[0])) for half in (source, target)]
    labels = [label(offset, results["axis"]) for offset in offsets]
    reference = offsets.index((0, 0))
    draw_grid(
        out / "grid.png",
        source=scene[0],
        target=scene[1],
        strips=strips,
        shifts=labels,
        reference=reference,
    )
    save_flicker(out / "flicker.webp", strips, shifts=labels)
    draw_curve(out / "curve.png", results)
    if plan.map_offsets:
        draw_map(out / "map.png", results)
    if any(row["quality"]["tv_ratio"] is not None for row in results["models"]):
        draw_tradeoff(out / "tradeoff.png", results)
    if "spectrum" in plan.measures:
        draw_spectrum(out / "spectrum.png", results)
    if plan.perturbations:
        draw_perturbations(out / "perturb.png", results)


def caption(row: dict[str, Any]) -> str:
    """Return dB and sharpness in a line: no stability without it."""
    from eval.results import lead_score_db

    ratio = row["quality"]["tv_ratio"]
    sharpness = "" if ratio is None else f" · TV {ratio:.2f} of target"
    return f"{lead_score_db(row):.1f} dB{sharpness}"


def label(offset: Offset, axis: str) -> str:
    """Return a shift's heading, such as `+3 px`."""
    shift = offset[1] if axis == "y" else offset[0]
    return f"{shift:+d} px" if shift else "0 px"
