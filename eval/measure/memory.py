"""What an evaluation takes of memory, from its options and the generators' configurations alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from steadypix.budget import WORKER_BYTES, Part, require, share_among
from steadypix.eval.measure.registry import MEASURES
from steadypix.eval.measure.sources import agree, canvas_of, window_of
from steadypix.gen.networks.cost import FLOAT_BYTES, forward_numbers
from steadypix.sizes import Size, largest, sides, words

if TYPE_CHECKING:
    from steadypix.eval.generators.models import Model
    from steadypix.eval.measure.options import Asked

CANVAS_BYTES = 80  # a px of a picture that is decoded or rendered, made a tensor and shifted
PREFETCHED = 2  # pictures a worker has ready, as torch's loaders do it
ROW_BYTES = 150  # that a picture leaves behind for a shift and a model, in memory and as text
OTHER_WINDOWS = 64  # of measures that draw their own: EQ-T, noise


def require_evaluation(
    models: Sequence[Model], args: Any, asked: Asked, device: str, n_images: int = 1
) -> None:
    """Check that an evaluation fits into the memory that it may take.

    Args:
        models: the generators.
        args: of the command `eval_stability`.
        asked: what of the options needed reading.
        device: where the generators run; only what they take of the machine's own memory is counted.
        n_images: how many pictures are measured, one while that is not known.

    Raises:
        TooLargeError: naming the options that take most, and what would help.
        InputError: if the models disagree about sizes.
    """
    share_among(args.workers)
    window, canvas = window_of(models, args.window), canvas_of(models, args.canvas, args.window)
    for name, settings in asked.measures.items():
        canvas = largest(canvas, MEASURES[name].least_canvas_px(settings, window))
    frames = args.pan_frames if args.pan is not None else 0
    n_shifts = len(asked.shifts) * len(asked.protocols) + (len(asked.shifts) ** 2 if args.map else 0)
    batch = min(args.batch_size, 1 + n_shifts + frames + OTHER_WINDOWS)
    require(
        _network(models, window, 0 if device.startswith("cuda") else batch),
        _canvases(canvas, args.workers),
        Part(
            4.0 * FLOAT_BYTES * frames * _px(window) * _channels(models)[1],
            f"--pan-frames {frames} of {words(window)} px",
            "fewer --pan-frames or a smaller --window",
        ),
        Part(
            float(ROW_BYTES) * n_images * max(1, len(models)) * n_shifts,
            f"{n_shifts} shifts of {n_images} pictures",
            "fewer --shifts, no --map, or a smaller --limit",
        ),
    )


def _network(models: Sequence[Model], window: Size, batch: int) -> Part:
    """Return what the forward pass of the largest generator takes."""
    width, height = sides(window)
    most, who = 0.0, "generators"
    for model in models:
        numbers = forward_numbers(model.config["generator"], width, height)
        if numbers > most:
            downs = model.config["generator"].get("num_downs")
            most, who = numbers, f"{model.path}{f' (num_downs {downs})' if downs else ''}"
    return Part(
        FLOAT_BYTES * batch * most,
        f"{who} on windows of {words(window)} px, {batch} at a time",
        "a smaller --window or --batch_size",
    )


def _canvases(canvas: Size, workers: int) -> Part:
    one = CANVAS_BYTES * _px(canvas)
    return Part(
        one * (1 + (1 + PREFETCHED) * workers) + workers * WORKER_BYTES,
        f"pictures of {words(canvas)} px, read by {workers or 1} processes",
        "a smaller --canvas or fewer --workers",
    )


def _channels(models: Sequence[Model]) -> list[int]:
    return [agree(models, "generator", f"{side}_channels") or 3 for side in ("in", "out")]


def _px(size: Size) -> int:
    width, height = sides(size)
    return width * height
