"""Which pictures an evaluation draws, and of which image: the one where models differ most."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.evaluate import Measurement, Plan, as_rgb, strip_outputs
from eval.offsets import Shift

if TYPE_CHECKING:
    from data.pairs import Pairs
    from eval.offsets import Offset

DRAWN = (
    "grid.png",
    "flicker.webp",
    "curve.png",
    "map.png",
    "pan.png",
    "tradeoff.png",
    "spectrum.png",
    "perturb.png",
    "pan_*px.webp",
    "frames/*.webp",
    "frames/frames.json",
)


def telling_image(measurements: Sequence[Measurement]) -> int:
    """Return the image with the largest spread in dB between models (one model: the least stable)."""
    return measurements[0].images[widest_spread([m.lead_db() for m in measurements])]


def widest_spread(image_db: Sequence[np.ndarray]) -> int:
    """Return which of the dB, (n_images,) each, differs most between models; of one model, the lowest."""
    rows = np.stack(image_db)
    if len(rows) == 1:
        return int(rows[0].argmin())
    return int((rows.max(axis=0) - rows.min(axis=0)).argmax())


def draw(
    results: dict[str, Any],
    measurements: Sequence[Measurement],
    pairs: Pairs,
    plan: Plan,
    out: Path,
    *,
    originals: bool = True,
) -> None:
    """Write the charts of what was measured, grid.png, flicker.webp and frames/ to `out`.

    Without `originals` the grid shows outputs alone: pictures that may not be passed on stay out of it.

    Without shifts (EQ-T alone) there are charts only. What an earlier evaluation drew there goes.
    """
    _clear(out)
    _draw_charts(results, plan, out)
    if not plan.protocols:
        return
    from data.transforms import to_pixels
    from eval.frames import write_frames
    from eval.grid import Strip, draw_grid, save_flicker

    image = telling_image(measurements)
    source, target = (half[None].to(plan.device) for half in pairs.canvas(image))
    rule = plan.rules(pairs)[0]
    offsets: list[Offset] = sorted({*plan.offsets_of(rule), (0, 0)})
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
        source=scene[0] if originals else None,
        target=scene[1] if originals else None,
        strips=strips,
        shifts=labels,
        reference=reference,
    )
    save_flicker(out / "flicker.webp", strips, shifts=labels)
    write_frames(
        out / "frames",
        source=scene[0],
        target=scene[1],
        strips=strips,
        offsets=offsets,
        protocol=rule.name,
        image=pairs.name(image),
    )


def _draw_charts(results: dict[str, Any], plan: Plan, out: Path) -> None:
    from eval.curve import draw_curve, draw_map
    from eval.perturb_chart import draw_perturbations
    from eval.spectrum_chart import draw_spectrum
    from eval.tradeoff import draw_tradeoff

    if plan.protocols:
        draw_curve(out / "curve.png", results)
    if plan.protocols and plan.map_offsets:
        draw_map(out / "map.png", results)
    if any(row["quality"]["tv_ratio"] is not None for row in results["models"]):
        draw_tradeoff(out / "tradeoff.png", results)
    if "spectrum" in plan.measures:
        draw_spectrum(out / "spectrum.png", results)
    if plan.perturbations:
        draw_perturbations(out / "perturb.png", results)


def _clear(out: Path) -> None:
    """Remove the pictures of an earlier evaluation: one not drawn anew would lie beside other results."""
    for name in DRAWN:
        for path in out.glob(name):
            path.unlink()


def caption(row: dict[str, Any], *, db: float | None = None) -> str:
    """Return dB (the leading ones, or others) and sharpness in a line: no stability without it."""
    from eval.results import lead_score_db

    ratio = row["quality"]["tv_ratio"]
    sharpness = "" if ratio is None else f" · TV {ratio:.2f} of target"
    return f"{lead_score_db(row) if db is None else db:.1f} dB{sharpness}"


def label(offset: Offset, axis: str) -> str:
    """Return a shift's heading, such as `+3 px` or `-1/2 px`."""
    shift: Shift = offset[1] if axis == "y" else offset[0]
    return f"{'+' if shift > 0 else ''}{shift} px"
