"""Statistics of norms from a sample of a picture: a mosaic of windows instead of every pixel.

The mosaic goes through the network as one picture, so each norm sees the maps that the norms before it made
of the sample. Windows are drawn evenly over the picture, from places that are multiples of the network's
own grid, so every sample of a map is one that the whole picture could have.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

SHARE = 1 / 8  # of the picture's pixels
WINDOW_PX = 128
MOST_PIXELS = 1 << 22  # of a sample
PLASTIC = 1.32471795724474602596  # the number p with p**3 == p + 1


def window_for(multiple: int) -> int:
    """Return the side of a sample's windows in px, for a network whose grid has this many px."""
    return -(-WINDOW_PX // multiple) * multiple


def sample_places(height: int, width: int, *, window_px: int, multiple: int) -> list[tuple[int, int]]:
    """Return (top, left) of the windows of a sample, the same for the same size every time.

    They follow an additive sequence with little discrepancy (Roberts 2018, R2): spread evenly, on no raster
    that content could have as well. Empty if the picture is too small for a sample.

    Args:
        height: of the picture in px.
        width: the same.
        window_px: side of a window.
        multiple: what places are multiples of.
    """
    count = round(min(SHARE * height * width, MOST_PIXELS) / window_px**2)
    if count < 2 or min(height, width) < window_px:
        return []

    def place(number: int, step: float, size: int) -> int:
        return int((0.5 + step * number) % 1 * ((size - window_px) // multiple + 1)) * multiple

    return [(place(n, 1 / PLASTIC, height), place(n, 1 / PLASTIC**2, width)) for n in range(count)]


def mosaic(
    read: Callable[[int, int], np.ndarray], places: list[tuple[int, int]], *, window_px: int
) -> np.ndarray:
    """Return the windows beside each other, in about as many rows as columns.

    Args:
        read: returns rows (bottom - top, W, C) of the picture.
        places: from `sample_places`.
        window_px: side of a window.

    Returns:
        (H', W', C), both sides multiples of `window_px`.
    """
    down = next(n for n in range(math.isqrt(len(places)), 0, -1) if len(places) % n == 0)
    windows = [read(top, top + window_px)[:, left : left + window_px].copy() for top, left in sorted(places)]
    across = len(windows) // down
    lines = [np.concatenate(windows[row * across : (row + 1) * across], axis=1) for row in range(down)]
    return np.concatenate(lines)
