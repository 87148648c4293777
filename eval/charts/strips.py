"""The outputs of one model at every shift, and where they differ most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from steadypix.eval.charts.drawing import Pixels


@dataclass(frozen=True)
class Strip:
    """One model's outputs for every shift, moved back so that a place of the scene keeps its pixel."""

    name: str
    caption: str
    """one short line under the name, for example `22.4 dB · TV 1.02`"""
    outputs: Pixels
    """(n_shifts, H, W, 3), or (n_shifts, H, W[, 1]) if grey; uint8; in the shifts' order"""


def find_region(
    strips: Sequence[Strip], *, size: int, reference: int = 0, margin_px: int = 0
) -> tuple[int, int]:
    """Find the square where the least stable model's outputs differ most between shifts.

    Args:
        strips: at least one; outputs of one shape.
        size: side of the square in px; cut to the picture's sides where it is larger.
        reference: index of the shift that the others are compared with.
        margin_px: border that the square keeps away from, as far as there is room: new content
            enters at the border, so every network changes there.

    Returns:
        (left, top) of the largest sum of squared differences to the reference. Of equally good
        squares, the one in their midst: a small change is then in the middle of its close-up.

    Raises:
        ValueError: if the strips are none, or not uint8 pictures of one shape.
    """
    energies = []
    for outputs in _outputs(strips):
        change = outputs.astype(np.int64) - outputs[reference]
        energies.append((change**2).sum(axis=(0, 3)))
    energy = max(energies, key=np.sum)
    tall, wide = min(size, energy.shape[0]), min(size, energy.shape[1])
    # An integral image gives a square's sum in four look-ups; in whole numbers, so ties are exact.
    total = np.pad(energy, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    sums = total[tall:, wide:] - total[:-tall, wide:] - total[tall:, :-wide] + total[:-tall, :-wide]
    top, left = (min(margin_px, (side - 1) // 2) for side in sums.shape)
    inner = sums[top : sums.shape[0] - top, left : sums.shape[1] - left]
    best = np.argwhere(inner == inner.max())
    row, column = best[((best - best.mean(axis=0)) ** 2).sum(axis=1).argmin()]
    return int(column) + left, int(row) + top


def _rgb(name: str, pixels: Pixels, ndim: int) -> Pixels:
    """Return the pixels with three channels; a missing or single one is grey."""
    pixels = pixels[..., None] if pixels.ndim == ndim - 1 else pixels
    if pixels.dtype != np.uint8 or pixels.ndim != ndim or pixels.shape[-1] not in (1, 3) or not pixels.size:
        raise ValueError(f"{name} is {pixels.shape} {pixels.dtype}, expected uint8 with 1 or 3 channels last")
    return np.broadcast_to(pixels, (*pixels.shape[:-1], 3))


def _outputs(strips: Sequence[Strip], shifts: Sequence[str] | None = None) -> list[Pixels]:
    if not strips:
        raise ValueError("no model to draw; expected at least one strip")
    outputs = [_rgb(f"outputs of {strip.name}", strip.outputs, 4) for strip in strips]
    shape = (len(outputs[0]) if shifts is None else len(shifts), *outputs[0].shape[1:])
    for strip, pixels in zip(strips, outputs, strict=True):
        if pixels.shape != shape:
            raise ValueError(f"outputs of {strip.name} are {pixels.shape}, expected {shape}")
    return outputs
