"""The animation of the outputs at every shift (WebP)."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from steadypix.eval.charts.drawing import GREY, INK, PALE, Pixels, blank, magnify, write
from steadypix.eval.charts.strips import Strip, _outputs
from steadypix.files import write_whole

FLICKER_PX = 256  # small pictures are enlarged to about this


def save_flicker(
    path: str | os.PathLike[str],
    strips: Sequence[Strip],
    *,
    shifts: Sequence[str],
    heading: str = "shift",
    fps: float = 6.0,
    columns: int = 4,
    max_bytes: int = 1_000_000,
) -> None:
    """Write an endless WebP animation of the shifts, the models side by side, `columns` in a row.

    In a still picture stability cannot be seen; here an unstable output shimmers. Every frame is labelled
    with `heading` and one of `shifts`. The file is lossless if it stays below `max_bytes`, else as good as it
    can be (quality 70 or more, even if that is larger), and appears whole or not at all.

    Raises:
        ValueError: as in `draw_grid`.
    """
    outputs = _outputs(strips, shifts)
    factor = max(1, round(FLICKER_PX / max(outputs[0].shape[1:3])))
    frames = []
    for index, shift in enumerate(shifts):
        part = (index / len(shifts), (index + 1) / len(shifts))
        pictures = [pixels[index] for pixels in outputs]
        frames.append(_frame(strips, pictures, factor, f"{heading} {shift}", part, min(columns, len(strips))))
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


def _frame(
    strips: Sequence[Strip],
    pictures: Sequence[Pixels],
    factor: int,
    title: str,
    part: tuple[float, float],
    columns: int,
) -> Image.Image:
    """Return one frame of the animation: its title and its part of the cycle, 0 to 1, then the models."""
    tall, wide = (side * factor for side in pictures[0].shape[:2])
    cell = max(wide, 128)
    rows = math.ceil(len(strips) / columns)
    frame = blank(columns * (cell + 12) + 12, 36 + rows * (tall + 60))
    pen = ImageDraw.Draw(frame)
    left, right, span = frame.width - 12 - frame.width // 4, frame.width - 12, frame.width / 4
    write(frame, (12, 10), title, size=16, width=left - 20, bold=True)
    pen.rectangle((left, 15, right, 20), fill=PALE)
    pen.rectangle((left + part[0] * span, 15, left + part[1] * span, 20), fill=INK)
    for number, (strip, pixels) in enumerate(zip(strips, pictures, strict=True)):
        x, y = 12 + number % columns * (cell + 12), 40 + number // columns * (tall + 60)
        write(frame, (x, y), strip.name, size=16, width=cell)
        write(frame, (x, y + 21), strip.caption, size=13, width=cell, fill=GREY)
        frame.paste(magnify(pixels, factor), (x, y + 42))
    return frame
