"""What an evaluation draws: every measure's own pictures, and one picture at every shift."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from steadypix.eval.measure.measure import Measurement
from steadypix.eval.measure.plan import Plan
from steadypix.eval.measure.registry import MEASURES
from steadypix.eval.metrics.forward import run_windows
from steadypix.eval.metrics.scene import Scene, as_rgb, caption, widest_spread
from steadypix.eval.metrics.stability import takes
from steadypix.eval.results.lead import lead_score_db

if TYPE_CHECKING:
    from torch import Tensor, nn

    from steadypix.eval.charts.strips import Strip
    from steadypix.eval.shifts.offsets import Offset
    from steadypix.eval.shifts.protocols import Protocol

SHIFTED = ("grid.png", "flicker.webp", "frames/*.webp", "frames/frames.json")


def draw(
    results: dict[str, Any], measurements: Sequence[Measurement], plan: Plan, out: Path, *, originals: bool
) -> None:
    """Write the charts of what was measured, grid.png, flicker.webp and frames/ to `out`.

    Without `originals` the grid shows outputs alone: pictures that may not be passed on stay out of it.
    Where nothing is shifted there are charts only. What an earlier evaluation drew there goes.
    """
    # One not drawn anew would lie beside other results.
    for pattern in {*SHIFTED, *(pattern for measure in MEASURES.values() for pattern in measure.pictures)}:
        for path in out.glob(pattern):
            path.unlink()
    stages = measurements[0].stages
    by_name = {name: stage for stage in stages for name in stage.names}

    def canvas(name: str, image: int) -> tuple[Tensor, Tensor | None]:
        source, target = by_name[name].pairs.shown(image)
        return source[None].to(plan.device), None if target is None else target[None].to(plan.device)

    scene = Scene(
        results=results,
        networks=[m.model.module for m in measurements],
        measures=[m.measures for m in measurements],
        images=measurements[0].images,
        canvas=canvas,
        batch_size=plan.batch_size,
        originals=originals,
    )
    for name in plan.asked:
        MEASURES[name].draw(out, results)
        MEASURES[name].show(scene, out)
    leading = measurements[0].leading
    if leading.rule is not None:
        image = scene.images[widest_spread([m.lead_db() for m in measurements])]
        offsets = sorted({(0, 0), *takes(leading.rule, plan.offsets)})
        _draw_shifts(scene, leading, offsets, image, stages[0].pairs.name(image), out)


def _draw_shifts(
    scene: Scene, leading: Any, offsets: Sequence[Offset], image: int, name: str, out: Path
) -> None:
    """Write one picture at every shift: side by side, as an animation, and as the frames of the report."""
    from steadypix.data.pictures.transforms import to_pixels
    from steadypix.eval.charts.film import save_flicker
    from steadypix.eval.charts.grid import draw_grid
    from steadypix.eval.charts.strips import Strip
    from steadypix.eval.report.frames import write_frames

    source, target = scene.canvas(leading.name, image)
    rule: Protocol = leading.rule
    strips = [
        Strip(
            name=model["name"],
            caption=caption(model, lead_score_db(model)),
            outputs=strip_outputs(network, source, rule, offsets, batch_size=scene.batch_size),
        )
        for network, model in zip(scene.networks, scene.results["models"], strict=True)
    ]
    halves = [half for half in (source, target) if half is not None]
    bases = [as_rgb(to_pixels(rule.shared(rule.base(half), (0, 0), offsets)[0])) for half in halves]
    strips, (shown, *targets) = _of_one_size(strips, bases)
    wanted = targets[0] if targets else None
    shifts = [offset[1] if scene.results["axis"] == "y" else offset[0] for offset in offsets]
    labels = [f"{'+' if shift > 0 else ''}{shift} px" for shift in shifts]
    draw_grid(
        out / "grid.png",
        source=shown if scene.originals else None,
        target=wanted if scene.originals else None,
        strips=strips,
        shifts=labels,
        reference=list(offsets).index((0, 0)),
    )
    save_flicker(out / "flicker.webp", strips, shifts=labels)
    write_frames(
        out / "frames",
        source=shown,
        target=wanted,
        strips=strips,
        offsets=offsets,
        protocol=rule.name,
        image=name,
    )


def strip_outputs(
    network: nn.Module, canvas: Tensor, rule: Protocol, offsets: Sequence[Offset], *, batch_size: int
) -> np.ndarray:
    """Return the outputs for every offset, moved back in place, as pixels for pictures.

    Args:
        network: the generator.
        canvas: (1, C, S, S) in [-1, 1].
        rule: the protocol.
        offsets: shifts (dx, dy) in px.
        batch_size: windows in one forward pass.

    Returns:
        (len(offsets), H, W, 3) uint8 over the area that all shifts share, on the grid of the outputs.
    """
    from steadypix.data.pictures.transforms import to_pixels

    windows = (rule.shifted(canvas, offset) for offset in offsets)
    outputs = run_windows(network, windows, batch_size=batch_size)
    pairs = zip(offsets, outputs, strict=True)
    return np.stack([as_rgb(to_pixels(rule.shared(output, offset, offsets)[0])) for offset, output in pairs])


def _of_one_size(
    strips: Sequence[Strip], halves: Sequence[np.ndarray]
) -> tuple[list[Strip], list[np.ndarray]]:
    """Return outputs, and input and target, as pictures of one size about their common centre.

    What is smaller by a whole factor is enlarged by repeating px; what is larger by a border is cut.

    Args:
        strips: outputs (N, H, W, 3).
        halves: pictures (H, W, 3).
    """
    stacks = [*(strip.outputs for strip in strips), *(half[None] for half in halves)]
    largest = max(stack.shape[2] for stack in stacks)
    stacks = [_repeated(stack, max(1, largest // stack.shape[2])) for stack in stacks]
    height, width = (min(stack.shape[axis] for stack in stacks) for axis in (1, 2))
    cut = []
    for stack in stacks:
        top, left = (stack.shape[1] - height) // 2, (stack.shape[2] - width) // 2
        cut.append(stack[:, top : top + height, left : left + width])
    outputs, others = cut[: len(strips)], cut[len(strips) :]
    named = [replace(strip, outputs=own) for strip, own in zip(strips, outputs, strict=True)]
    return named, [stack[0] for stack in others]


def _repeated(stack: np.ndarray, factor: int) -> np.ndarray:
    return stack if factor == 1 else stack.repeat(factor, axis=1).repeat(factor, axis=2)
