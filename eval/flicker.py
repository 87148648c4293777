"""Flicker of every model: measured over every picture, summed up, and shown as an animation a speed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data.command import progress
from data.errors import InputError
from eval.canvases import canvases
from eval.decibels import mean_with_interval
from eval.evaluate import Plan, as_rgb
from eval.forward import run_windows
from eval.offsets import Shift, plain
from eval.pan import FRAMES, MEANING, PanScores, canvas_for, pan_offsets
from eval.pictures import caption, widest_spread
from eval.summary import reference_model

if TYPE_CHECKING:
    from data.pairs import Pairs
    from eval.models import Model


@dataclass(frozen=True, kw_only=True)
class PanPlan:
    """How the window pans.

    Attributes:
        speeds: px a frame.
        n_frames: frames at each speed.
        axis: `x`, `y` or `diagonal`.
    """

    speeds: Sequence[Shift]
    n_frames: int = FRAMES
    axis: str = "x"

    def canvas_px(self, window_px: int) -> int:
        """Return the side of the smallest canvas that holds the path at every speed."""
        paths = (pan_offsets(speed, n_frames=self.n_frames, axis=self.axis) for speed in self.speeds)
        return max(canvas_for(window_px, path) for path in paths)

    def scores(self, canvas_px: int, window_px: int) -> list[PanScores]:
        """Return empty scores, one a speed."""
        return [PanScores(canvas_px, window_px, speed, self.n_frames, self.axis) for speed in self.speeds]


def measure_pan(
    models: Sequence[Model], pairs: Pairs, plan: Plan, pan: PanPlan
) -> tuple[list[list[PanScores]], list[int]]:
    """Measure every model at every speed; the pictures of `pairs` hold the path.

    Returns:
        A list of scores, one a speed, for each model; and the numbers of the pictures measured.

    Raises:
        InputError: if the path does not fit, a picture cannot be read, or an output is not finite; the
            message names the model and the picture.
    """
    measured = [pan.scores(pairs.load_size, pairs.crop_size) for _ in models]
    n_images = min(len(pairs), plan.limit or len(pairs))
    pictures = progress(canvases(pairs, range(n_images), plan), n_images)
    images = []
    for index, name, source, _ in pictures:
        images.append(index)
        for model, every_speed in zip(models, measured, strict=True):
            try:
                for scores in every_speed:
                    frames = scores.windows(source)
                    scores.add(run_windows(model.module, frames, batch_size=plan.batch_size))
            except InputError as error:
                raise InputError(f"{model.path} on {name}: {error}") from None
    return measured, images


def record_pan(
    results: dict[str, Any],
    models: Sequence[Model],
    measured: Sequence[Sequence[PanScores]],
    pan: PanPlan,
    *,
    canvas_px: int,
) -> None:
    """Add what was measured to the results: to each model, and paired differences to the comparisons."""
    seed = results["seed"]
    results["pan"] = {
        "meaning": MEANING,
        "axis": pan.axis,
        "n_frames": pan.n_frames,
        "canvas_px": canvas_px,
    }
    for row, every_speed in zip(results["models"], measured, strict=True):
        row["pan"] = [s.result().summary(n_frames=pan.n_frames, seed=seed) for s in every_speed]
    reference = reference_model(models)
    for index, every_speed in enumerate(measured):
        for ours, theirs in zip(every_speed, measured[reference], strict=True):
            if index == reference:
                continue
            gain = ours.result().image_db() - theirs.result().image_db()
            results["comparisons"].append(
                {
                    "model": models[index].name,
                    "reference": models[reference].name,
                    "protocol": "pan",
                    "margin_px": ours.margin_px,
                    "over": f"successive frames at {ours.speed} px a frame",
                    "gain_db": mean_with_interval(gain, seed=seed),
                }
            )


def draw_pan(
    results: dict[str, Any],
    models: Sequence[Model],
    measured: Sequence[Sequence[PanScores]],
    images: Sequence[int],
    pairs: Pairs,
    plan: Plan,
    out: Path,
) -> None:
    """Write pan.png, and `pan_<speed>px.webp` for every speed: the models side by side, motion-compensated.

    The scene stands still, so all that moves is flicker. Shown is the image where models differ most, each
    frame as the first one plus its difference to it.
    """
    from data.transforms import to_pixels
    from eval.grid import Strip, save_flicker
    from eval.pan_chart import draw_pan_spectrum

    draw_pan_spectrum(out / "pan.png", results)
    for place, scores in enumerate(measured[0]):
        widest = widest_spread([every_speed[place].result().image_db() for every_speed in measured])
        source = pairs.canvas(images[widest])[0][None].to(plan.device)
        strips = []
        for model, row in zip(models, results["models"], strict=True):
            outputs = run_windows(model.module, scores.windows(source), batch_size=plan.batch_size)
            first, differences = scores.compensated(outputs)
            frames = np.stack([as_rgb(to_pixels(frame)) for frame in (first + differences).clamp(-1, 1)])
            note = caption(row, db=row["pan"][place]["difference_db"]["mean"])
            strips.append(Strip(name=row["name"], caption=note, outputs=frames))
        count = scores.n_frames
        labels = [f"{number} of {count}, {scores.speed} px a frame" for number in range(1, count + 1)]
        save_flicker(
            out / f"pan_{plain(scores.speed):g}px.webp", strips, shifts=labels, heading="frame", fps=8
        )
