"""A finished evaluation with its generators still at hand, for the pictures that show outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

    from steadypix.eval.metrics.measure import Measure


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What pictures are drawn from."""

    results: dict[str, Any]  # as results.json holds them
    networks: Sequence[nn.Module]  # the generators, in the order of the results
    measures: Sequence[Mapping[str, Measure]]  # of each generator, by name
    images: Sequence[int]  # numbers of the pictures measured
    # (name of a measure, number of a picture) -> input and target (1, C, H, W) on the device; None for the
    # target where there is none
    canvas: Callable[[str, int], tuple[Tensor, Tensor | None]]
    batch_size: int  # windows in one forward pass
    originals: bool = True  # whether inputs and targets may be shown


def widest_spread(image_db: Sequence[np.ndarray]) -> int:
    """Return which of the dB, (n_images,) each, differs most between models; of one model, the lowest."""
    rows = np.stack(image_db)
    if len(rows) == 1:
        return int(rows[0].argmin())
    return int((rows.max(axis=0) - rows.min(axis=0)).argmax())


def as_rgb(pixels: np.ndarray) -> np.ndarray:
    """Return what can be shown of (H, W, C) as (H, W, 3): the first three channels, or the first as gray."""
    return pixels[..., :3] if pixels.shape[2] >= 3 else np.repeat(pixels[..., :1], 3, axis=2)


def caption(model: Mapping[str, Any], db: float) -> str:
    """Return dB and sharpness in a line: no stability without it."""
    ratio = model["quality"]["tv_ratio"]
    sharpness = "" if ratio is None else f" · TV {ratio:.2f} of target"
    return f"{db:.1f} dB{sharpness}"
