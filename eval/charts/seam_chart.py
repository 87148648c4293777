"""The picture of seams: outputs of the whole and of tiles, and where they differ."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from steadypix.eval.charts.drawing import (
    GREY,
    Pixels,
    blank,
    full_scale,
    heat,
    heat_bar,
    scaled,
    stack,
    write,
)
from steadypix.files import write_whole

CELL_PX = 320
GAP_PX = 12


@dataclass(frozen=True)
class Seams:
    """One generator at one size of tiles."""

    name: str
    whole: Pixels
    """(H, W, 3) uint8: the output for the whole picture"""
    tiled: Pixels
    """the same in tiles"""
    changes: Sequence[tuple[str, NDArray[np.float64]]]
    """heading, and how far tiles are from the whole at every px, (H, W) in levels of 255"""


def draw_seams(path: str | os.PathLike[str], rows: Sequence[Seams]) -> None:
    """Write a row of pictures a generator and size, as a PNG, whole or not at all.

    Raises:
        ValueError: if there is nothing to draw.
    """
    if not rows:
        raise ValueError("no tiles to draw; expected at least one row")
    hottest = full_scale(np.concatenate([change.ravel() for row in rows for _, change in row.changes]))
    bands = [_row(row, hottest) for row in rows]
    page = stack([_legend(hottest, bands[0].width), *bands], gap=16, edge=24)
    write_whole(Path(path), functools.partial(page.save, format="PNG"))


def _row(row: Seams, hottest: int) -> Image.Image:
    pictures = [("whole", row.whole), ("tiles, cropped", row.tiled)]
    pictures += [(heading, heat(change / hottest)) for heading, change in row.changes]
    factor = CELL_PX / max(row.whole.shape[:2])
    cells = [(heading, scaled(pixels, factor)) for heading, pixels in pictures]
    band = blank(len(cells) * (CELL_PX + GAP_PX) - GAP_PX, 48 + cells[0][1].height)
    write(band, (0, 0), row.name, size=16, width=band.width, bold=True)
    for place, (heading, cell) in enumerate(cells):
        left = place * (CELL_PX + GAP_PX)
        write(band, (left, 24), heading, size=15, width=CELL_PX, fill=GREY)
        band.paste(cell, (left, 48))
    return band


def _legend(hottest: int, width: int) -> Image.Image:
    band = blank(width, 20)
    write(band, (0, 0), "Difference to the whole, mean over channels:  0", size=15, width=360, fill=GREY)
    band.paste(heat_bar(200, 14), (364, 2))
    write(band, (572, 0), f"{hottest} of 255 or more", size=15, width=width - 572, fill=GREY)
    return band
