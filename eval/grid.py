"""Pictures of the shifts: a grid (PNG) and a flicker animation (WebP).

The grid is the figure of Zhang (2019), made by software: a close-up of the output per shift and,
below, how far that is from the unshifted output.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from data.files import write_whole
from eval.drawing import (
    GREY,
    INK,
    PALE,
    Pixels,
    blank,
    heat,
    magnify,
    outline,
    scaled,
    stack,
    write,
)

EDGE_PX = 24
GAP_PX = 6
INNER_PX = 1752  # of the page, without its edges
LABEL_PX = 172  # column of the models' names
CELL_PX = 192  # largest close-up
THUMB_PX = 272  # largest whole picture
MOST_COLUMNS = 12  # more shifts than this are thinned out
FLICKER_PX = 256  # small pictures are enlarged to about this


@dataclass(frozen=True)
class Strip:
    """One model's outputs for every shift, moved back so that a place of the scene keeps its pixel.

    Attributes:
        name: of the model.
        caption: one short line under the name, for example "22.4 dB · TV 1.02".
        outputs: (n_shifts, H, W, 3), or (n_shifts, H, W[, 1]) if grey; uint8; in the shifts' order.
    """

    name: str
    caption: str
    outputs: Pixels


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
    """Write the shift grid as a PNG: whole pictures, then two rows a model, a column a shift.

    Args:
        path: of the PNG; it appears whole or not at all.
        source: (H, W, 3) or grey, uint8: the input, cut to the outputs' common area; None leaves it out.
        target: the same of the ground truth.
        strips: the models, in the rows' order.
        shifts: a heading per shift, for example "3 px".
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
    columns = _columns(len(shifts), reference)
    cell = min(CELL_PX, (INNER_PX - LABEL_PX + GAP_PX) // len(columns) - GAP_PX)
    if size is None:  # about a quarter of the picture, and so that its enlargement fills the cell
        size = cell // max(3, cell // max(8, min(shape[:2]) // 4))
    left, top = find_region(strips, size=size, reference=reference, margin_px=margin_px)
    crops = [pixels[:, top : top + size, left : left + size] for pixels in outputs]
    tall, wide = crops[0].shape[1:3]
    factor = max(1, cell // max(tall, wide))
    changes = [np.abs(crop.astype(float) - crop[reference]).mean(axis=3)[columns] for crop in crops]
    full_scale = _full_scale(changes)

    titles = [*wholes, *(strip.name for strip in strips)]
    pictures = [*wholes.values(), *(pixels[reference] for pixels in outputs)]
    width = max(900, LABEL_PX + len(columns) * (wide * factor + GAP_PX) - GAP_PX)
    header = _header(titles, pictures, (left, top, left + wide, top + tall), width)
    note = f"Close-ups of the marked square, enlarged {factor} times. "
    note += f"Below each, its difference to the output at {shifts[reference]}."
    bands = [header, _legend(note, full_scale, width)]
    headings = [(shifts[index], index == reference) for index in columns]
    for index, (strip, crop, change) in enumerate(zip(strips, crops, changes, strict=True)):
        heads = headings if index % 4 == 0 else []  # again further down a long page
        bands.append(_rows(strip, crop[columns], heat(change / full_scale), factor, heads))
    page = stack(bands, gap=18, edge=EDGE_PX)
    buffer = io.BytesIO()
    page.save(buffer, format="PNG")
    write_whole(Path(path), lambda temporary: temporary.write_bytes(buffer.getvalue()))


def save_flicker(
    path: str | os.PathLike[str],
    strips: Sequence[Strip],
    *,
    shifts: Sequence[str],
    heading: str = "shift",
    fps: float = 6.0,
    max_bytes: int = 1_000_000,
) -> None:
    """Write an endless WebP animation of the shifts, the models side by side, four in a row.

    In a still picture stability cannot be seen; here an unstable output shimmers.

    Args:
        path: of the WebP; it appears whole or not at all.
        strips: the models.
        shifts: a label per shift and frame.
        heading: what the labels count, written before them.
        fps: frames a second.
        max_bytes: lossless if the file stays below it, else as good as it can be (quality 70 or
            more, even if that is larger).

    Raises:
        ValueError: as in `draw_grid`.
    """
    outputs = _outputs(strips, shifts)
    factor = max(1, round(FLICKER_PX / max(outputs[0].shape[1:3])))
    frames = [
        _frame(
            strips,
            [pixels[index] for pixels in outputs],
            factor,
            f"{heading} {shifts[index]}",
            (index / len(shifts), (index + 1) / len(shifts)),
        )
        for index in range(len(shifts))
    ]
    # Lossless first: lossy coding lets a picture that stands still move by a few levels.
    attempts: list[dict[str, Any]] = [{"quality": quality} for quality in (95, 90, 80, 70)]
    if sum(pixels[..., 0].size for pixels in outputs) <= max_bytes:  # at best about a byte a pixel
        # More effort (6 is the most) takes five times as long and makes files of the same size.
        attempts.insert(0, {"lossless": True, "method": 2})
    for options in attempts:
        buffer = io.BytesIO()
        frames[0].save(buffer, format="WEBP", save_all=True, append_images=frames[1:],
                       duration=round(1000 / fps), loop=0, **options)  # fmt: skip
        if buffer.tell() <= max_bytes:
            break
    write_whole(Path(path), lambda temporary: temporary.write_bytes(buffer.getvalue()))


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


def _columns(count: int, reference: int) -> list[int]:
    """Return which shifts get a column: every one, or every k-th counted from the reference."""
    every = math.ceil(count / MOST_COLUMNS)
    return list(range(reference % every, count, every))


def _full_scale(changes: Sequence[NDArray[np.float64]]) -> int:
    """Return the change in levels that gets the hottest colour; 0.5 % of all may saturate."""
    return min(255, max(8, 8 * math.ceil(np.quantile(np.stack(changes), 0.995) / 8)))


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


def _legend(note: str, full_scale: int, width: int) -> Image.Image:
    """Return the line that explains the rows, with the colour bar at its right end."""
    band = blank(width, 46)
    write(band, (width, 8), f"{full_scale} of 255", size=15, width=84, fill=GREY, anchor="ra")
    left = width - 84 - 200
    band.paste(magnify(heat(np.linspace(0, 1, 200)[None].repeat(14, axis=0)), 1), (left, 10))
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


def _frame(
    strips: Sequence[Strip],
    pictures: Sequence[Pixels],
    factor: int,
    title: str,
    progress: tuple[float, float],
) -> Image.Image:
    """Return one frame of the animation: its title and its part of the cycle, 0 to 1, then the models."""
    tall, wide = (side * factor for side in pictures[0].shape[:2])
    columns, cell = min(4, len(strips)), max(wide, 128)
    rows = math.ceil(len(strips) / columns)
    frame = blank(columns * (cell + 12) + 12, 36 + rows * (tall + 60))
    pen = ImageDraw.Draw(frame)
    left, right, span = frame.width - 12 - frame.width // 4, frame.width - 12, frame.width / 4
    write(frame, (12, 10), title, size=16, width=left - 20, bold=True)
    pen.rectangle((left, 15, right, 20), fill=PALE)
    place = (left + progress[0] * span, left + progress[1] * span)
    pen.rectangle((place[0], 15, place[1], 20), fill=INK)
    for number, (strip, pixels) in enumerate(zip(strips, pictures, strict=True)):
        x, y = 12 + number % columns * (cell + 12), 40 + number // columns * (tall + 60)
        write(frame, (x, y), strip.name, size=16, width=cell)
        write(frame, (x, y + 21), strip.caption, size=13, width=cell, fill=GREY)
        frame.paste(magnify(pixels, factor), (x, y + 42))
    return frame
