"""Pictures of the shifts: a grid (PNG) and a flicker animation (WebP).

The grid is the figure of Zhang (2019), made by software: a close-up of the output per shift and,
below, how far that is from the unshifted output.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from steadypix.eval.charts.drawing import (
    GREY,
    Pixels,
    blank,
    full_scale,
    heat,
    heat_bar,
    magnify,
    outline,
    scaled,
    stack,
    write,
)
from steadypix.eval.charts.strips import Strip, _outputs, _rgb, find_region
from steadypix.files import write_whole

EDGE_PX = 24
GAP_PX = 6
INNER_PX = 1752  # of the page, without its edges
LABEL_PX = 172  # column of the models' names
CELL_PX = 192  # largest close-up
THUMB_PX = 272  # largest whole picture
MOST_COLUMNS = 12  # more shifts than this are thinned out


def draw_grid(
    path: str | os.PathLike[str],
    *,
    source: Pixels | None,
    target: Pixels | None,
    strips: Sequence[Strip],
    shifts: Sequence[str],
    reference: int = 0,
    size: int | None = None,
    margin_px: int = 16,
) -> None:
    """Write the shift grid as a PNG, whole or not at all: whole pictures, then two rows a model.

    Args:
        path: of the PNG.
        source: (H, W, 3) or grey, uint8: the input, cut to the outputs' common area; None leaves it out.
        target: the same of the ground truth.
        strips: the models, in the rows' order.
        shifts: a heading per shift and column, for example "3 px".
        reference: index of shift 0, or of the smallest shift.
        size: side of the close-ups, in px of the picture; by default about a quarter of it.
        margin_px: see `find_region`.

    Raises:
        ValueError: if shapes, dtypes or counts do not fit each other; it names the culprit.
    """
    outputs = _outputs(strips, shifts)
    known = (("input", "source", source), ("target", "target", target))
    wholes = {title: _rgb(name, pixels, 3) for title, name, pixels in known if pixels is not None}
    shape = outputs[0].shape[1:]
    for name, whole in wholes.items():
        if whole.shape != shape:
            raise ValueError(f"{name} is {whole.shape}, expected the outputs' {shape}")
    every = math.ceil(len(shifts) / MOST_COLUMNS)
    columns = list(range(reference % every, len(shifts), every))
    cell = min(CELL_PX, (INNER_PX - LABEL_PX + GAP_PX) // len(columns) - GAP_PX)
    if size is None:  # about a quarter of the picture, and so that its enlargement fills the cell
        size = cell // max(3, cell // max(8, min(shape[:2]) // 4))
    left, top = find_region(strips, size=size, reference=reference, margin_px=margin_px)
    crops = [pixels[:, top : top + size, left : left + size] for pixels in outputs]
    tall, wide = crops[0].shape[1:3]
    factor = max(1, cell // max(tall, wide))
    changes = [np.abs(crop.astype(float) - crop[reference]).mean(axis=3)[columns] for crop in crops]
    hottest = full_scale(np.stack(changes))

    titles = [*wholes, *(strip.name for strip in strips)]
    pictures = [*wholes.values(), *(pixels[reference] for pixels in outputs)]
    width = max(900, LABEL_PX + len(columns) * (wide * factor + GAP_PX) - GAP_PX)
    header = _header(titles, pictures, (left, top, left + wide, top + tall), width)
    note = f"Close-ups of the marked square, enlarged {factor} times. "
    note += f"Below each, its difference to the output at {shifts[reference]}."
    bands = [header, _legend(note, hottest, width)]
    headings = [(shifts[index], index == reference) for index in columns]
    for index, (strip, crop, change) in enumerate(zip(strips, crops, changes, strict=True)):
        heads = headings if index % 4 == 0 else []  # again further down a long page
        bands.append(_rows(strip, crop[columns], heat(change / hottest), factor, heads))
    page = stack(bands, gap=18, edge=EDGE_PX)
    buffer = io.BytesIO()
    page.save(buffer, format="PNG")
    write_whole(Path(path), lambda temporary: temporary.write_bytes(buffer.getvalue()))


def _header(
    titles: Sequence[str], pictures: Sequence[Pixels], box: tuple[int, int, int, int], width: int
) -> Image.Image:
    """Return the whole pictures side by side, `box` marked in each."""
    height, side = pictures[0].shape[:2]
    room = min(THUMB_PX, (width + 12) // len(pictures) - 12)
    factor = min(room / side, THUMB_PX / height)
    thumbs = [scaled(pixels, factor) for pixels in pictures]
    band = blank(width, 24 + thumbs[0].height)
    for index, (title, thumb) in enumerate(zip(titles, thumbs, strict=True)):
        left, top, right, bottom = (round(edge * factor) for edge in box)
        outline(thumb, (left, top, right, bottom))
        x = index * (thumb.width + 12)
        write(band, (x, 0), title, size=15, width=thumb.width)
        band.paste(thumb, (x, 24))
    return band


def _legend(note: str, hottest: int, width: int) -> Image.Image:
    """Return the line that explains the rows, with the colour bar at its right end."""
    band = blank(width, 46)
    write(band, (width, 8), f"{hottest} of 255", size=15, width=84, fill=GREY, anchor="ra")
    left = width - 84 - 200
    band.paste(heat_bar(200, 14), (left, 10))
    write(band, (left - 8, 8), "0", size=15, width=20, fill=GREY, anchor="ra")
    write(band, (0, 8), note, size=15, width=left - 48, fill=GREY, lines=2)
    return band


def _rows(
    strip: Strip, crops: Pixels, changes: Pixels, factor: int, headings: Sequence[tuple[str, bool]]
) -> Image.Image:
    """Return a model's close-ups and, below them, their changes; with headings on top, if any."""
    head = 26 if headings else 0
    tall, wide = (side * factor for side in crops.shape[1:3])
    step = wide + GAP_PX
    band = blank(LABEL_PX + len(crops) * step - GAP_PX, head + 2 * tall + GAP_PX)
    for index, (label, bold) in enumerate(headings):
        place = (LABEL_PX + index * step + wide // 2, 0)
        write(band, place, label, size=16, width=wide, bold=bold, anchor="ma")
    write(band, (0, head), strip.name, size=18, width=LABEL_PX - 14, bold=True)
    for line, part in enumerate(strip.caption.split(" · ")):
        write(band, (0, head + 28 + 19 * line), part, size=14, width=LABEL_PX - 14, fill=GREY)
    write(band, (0, head + tall + GAP_PX), "difference", size=14, width=LABEL_PX - 14, fill=GREY)
    for index, (crop, change) in enumerate(zip(crops, changes, strict=True)):
        x = LABEL_PX + index * step
        band.paste(magnify(crop, factor), (x, head))
        band.paste(magnify(change, factor), (x, head + tall + GAP_PX))
    return band
