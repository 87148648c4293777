"""Procedural (photo, labels) and (aerial, map) pairs: a data set that needs no download."""

from __future__ import annotations

import math
import operator

import numpy as np

from steadypix.data.scenes.facade_layout import plan_facade
from steadypix.data.scenes.facade_paint import FACADE_PALETTE, draw_labels, draw_photo
from steadypix.data.scenes.map_layout import plan_town
from steadypix.data.scenes.map_paint import MAP_PALETTE, draw_aerial, draw_map
from steadypix.errors import InputError

KINDS = ("facades", "maps")

#: RGB of every label that may occur, per kind.
PALETTES = {"facades": FACADE_PALETTE, "maps": MAP_PALETTE}

_SMALLEST = 16
_SEPARATOR = 255


def render_pair(kind: str, *, size: int, seed: int = 0, index: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Render one pair of the endless sequence that belongs to a kind and a seed.

    The scene depends on `kind`, `seed` and `index` only: another size shows the same scene.

    Args:
        kind: One of `KINDS`.
        size: Pixels a side, at least 16.
        seed: Which sequence, at least 0.
        index: Which pair of the sequence, at least 0.

    Returns:
        The photo (or aerial picture) and the labels (or map), in the order of the real data sets:
        both uint8 (size, size, 3) RGB. The labels are flat colours of `PALETTES[kind]`.

    Raises:
        InputError: `kind` is unknown, `size` is below 16, or `seed` or `index` is negative.
    """
    size = _checked("size", size, _SMALLEST)
    seed, index = _checked("seed", seed, 0), _checked("index", index, 0)
    if kind not in KINDS:
        raise InputError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
    entropy = np.random.SeedSequence([seed, KINDS.index(kind), index])
    # The layout has a stream to itself, and so has what is drawn per pixel: neither may shift the
    # other when the size changes.
    layout, detail, sensor = (np.random.default_rng(child) for child in entropy.spawn(3))
    if kind == "facades":
        facade = plan_facade(layout)
        return draw_photo(facade, size, detail=detail, sensor=sensor), draw_labels(facade, size)
    town = plan_town(layout)
    return draw_aerial(town, size, detail=detail, sensor=sensor), draw_map(town, size)


def contact_sheet(kind: str, *, count: int = 16, size: int = 256, seed: int = 0) -> np.ndarray:
    """Lay out the first pairs of a sequence in a grid.

    Args:
        kind: One of `KINDS`.
        count: Number of pairs, at least 1.
        size: Pixels a side of each picture, at least 16.
        seed: As for `render_pair`.

    Returns:
        uint8 (h, w, 3) RGB: "photo | labels" pairs, left to right and top to bottom, in about
        as many rows as columns, with thin white separators.

    Raises:
        InputError: `count` is below 1, or an argument is one that `render_pair` refuses.
    """
    count = _checked("count", count, 1)
    size = _checked("size", size, _SMALLEST)
    thin, columns = max(size // 128, 1), math.ceil(count**0.5)
    wide, rows = 4 * thin, -(-count // columns)
    cell_h, cell_w = size + wide, 2 * size + thin + wide
    sheet = np.full((rows * cell_h + wide, columns * cell_w + wide, 3), _SEPARATOR, np.uint8)
    for index in range(count):
        row, column = divmod(index, columns)
        top, left = wide + row * cell_h, wide + column * cell_w
        for picture in render_pair(kind, size=size, seed=seed, index=index):
            sheet[top : top + size, left : left + size] = picture
            left += size + thin
    return sheet


def _checked(name: str, value: int, least: int) -> int:
    """`value` as an int, if it is a whole number of at least `least`."""
    try:
        number = operator.index(value)
    except TypeError:
        raise InputError(f"{name} must be a whole number, not {value!r}") from None
    if number < least:
        raise InputError(f"{name} must be at least {least}, not {value}")
    return number
