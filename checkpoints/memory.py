"""What a training takes of memory, from its configuration alone, before anything is built or read."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from steadypix.budget import WORKER_BYTES, Part, require, share_among
from steadypix.configs.schema import DiscriminatorConfig, RunConfig
from steadypix.gen.networks import cost

RENDER_BYTES = 80  # a px of a picture that is decoded or rendered, and brought to load size
PREFETCHED = 2  # batches a worker has ready, as torch's loaders do it


def require_training(config: RunConfig, *, n_pairs: int | None = None, on_gpu: bool) -> None:
    """Check that a training fits into the memory that it may take.

    Args:
        config: the whole run.
        n_pairs: pairs that are trained on; None while their folder has not been looked at.
        on_gpu: whether the step runs on a device with memory of its own, whose limit is its own, too.

    Raises:
        TooLargeError: naming the options that take most, and what would help.
    """
    share_among(config.workers)
    if n_pairs is None:
        n_pairs = 0 if config.data.root else config.data.synthetic_count
    processes = _processes_here()
    # All processes of this machine draw from the same memory.
    parts = [
        dataclasses.replace(part, n_bytes=processes * part.n_bytes)
        for part in (_weights(config, on_gpu), _step(config, on_gpu), *_data(config, n_pairs))
    ]
    require(*parts)


def require_retrofit(
    shape: Mapping[str, Any],
    *,
    window_px: int,
    canvas_px: int,
    batch_size: int,
    n_pictures: int = 0,
    targets: bool,
    on_gpu: bool,
) -> None:
    """Check that a retrofit fits into the memory that it may take.

    Args:
        shape: the rewritten generator's configuration; of a network of others, no more than its channels.
        window_px: side of the network's window.
        canvas_px: side that pictures are resized to.
        batch_size: windows a step.
        n_pictures: that are learnt from, and kept.
        targets: whether it learns from targets, with a discriminator.
        on_gpu: as of `require_training`.

    Raises:
        TooLargeError: naming the options that take most, and what would help.
    """
    channels = shape.get("in_channels", 3) + shape.get("out_channels", 3)
    weights = cost.generator_weights(shape) if "ngf" in shape else 0.0
    kept = cost.training_numbers(shape, window_px, window_px)
    if targets:
        judge = dataclasses.asdict(DiscriminatorConfig(ndf=shape.get("ngf", 64)))
        kept += 3 * cost.discriminator_numbers(judge, window_px, window_px)
    else:  # the output for a moved window, and the averages over shifts
        kept = 2 * kept + cost.forward_numbers(shape, window_px, window_px)
    # Weights of the network before; of the one after also gradients and both moments of Adam.
    here = 0 if on_gpu else cost.FLOAT_BYTES * (5 * weights + batch_size * kept)
    require(
        Part(
            here,
            f"--batch_size {batch_size} with windows of {window_px} px",
            "a smaller --batch_size or --window",
        ),
        Part(
            RENDER_BYTES * canvas_px**2 + channels * canvas_px**2 * n_pictures,
            f"pictures of {canvas_px} px, of which {n_pictures} are kept",
            "a smaller --canvas, or fewer pictures",
        ),
    )


def _weights(config: RunConfig, on_gpu: bool) -> Part:
    generator, discriminator = config.generator, config.discriminator
    channels = generator.in_channels + generator.out_channels
    first = cost.generator_weights(dataclasses.asdict(generator))
    second = cost.discriminator_weights(dataclasses.asdict(discriminator), channels)
    # Weights, gradients, both moments of Adam; networks are built on the CPU wherever they go.
    copies = 1 if on_gpu else 4
    total = copies * (first + second) + (first if config.train.ema else 0)
    names = f"generator.ngf {generator.ngf} and discriminator.ndf {discriminator.ndf}"
    return Part(_size(config) * total, names, "a smaller generator.ngf or discriminator.ndf")


def _step(config: RunConfig, on_gpu: bool) -> Part:
    window_px, shape = config.data.crop_size, dataclasses.asdict(config.generator)
    px = window_px + 2 * config.data.context_px
    judge: dict[str, Any] = dataclasses.asdict(config.discriminator)
    passes = 2 if config.loss.equivariance else 1
    kept = cost.training_numbers(shape, px, px)
    if config.train.checkpointing:
        kept = max(kept / 2, cost.forward_numbers(shape, px, px))
    # The real and the generated picture are judged, then the generated one again for the generator.
    numbers = passes * kept + 3 * cost.discriminator_numbers(judge, window_px, window_px)
    around = f", data.context_px {config.data.context_px}" if config.data.context_px else ""
    levels = f"generator.num_downs {config.generator.num_downs} of data.crop_size {window_px}{around}"
    return Part(
        0 if on_gpu else _size(config) * config.batch_size * numbers,
        f"batch_size {config.batch_size} with {levels} px",
        "a smaller batch_size (train.accumulate makes up for it), data.crop_size or generator.num_downs, or "
        "train.checkpointing true",
    )


def _data(config: RunConfig, n_pairs: int) -> list[Part]:
    data, workers = config.data, config.workers
    channels = config.generator.in_channels + config.generator.out_channels
    readers = max(1, workers)
    px = data.crop_size + 2 * data.context_px
    batches = 4 * channels * px**2 * config.batch_size * (1 + PREFETCHED * workers)
    cached = channels * data.load_size**2 * n_pairs * readers if data.cache else 0
    return [
        Part(
            RENDER_BYTES * data.load_size**2 * readers,
            f"data.load_size {data.load_size} px",
            "a smaller data.load_size, or fewer workers",
        ),
        Part(
            workers * WORKER_BYTES + batches,
            f"workers {workers} with batch_size {config.batch_size}",
            "fewer workers, or a smaller batch_size",
        ),
        Part(
            cached,
            f"data.cache of {n_pairs} pairs of {data.load_size} px in {readers} processes",
            "data.cache false, or fewer workers",
        ),
    ]


def _size(config: RunConfig) -> int:
    return 8 if config.train.precision == "fp64" else 4


def _processes_here() -> int:
    """Return how many processes `torchrun` has started on this machine."""
    text = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 and int(text) else 1
