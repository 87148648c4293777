"""What the pictures are put together from: text, enlarged pixels, a heat scale, whole files.

Pillow and NumPy only, so that pictures can be drawn where there is no torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Pixels = NDArray[np.uint8]
Color = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

INK, GREY, PALE, WHITE = (24, 24, 27), (105, 105, 112), (222, 222, 226), (255, 255, 255)
# Pillow's own font lacks these; an empty box in their place would look like an error.
_PLAIN = str.maketrans({"−": "-", "–": "-", "—": "-", "×": "x", "\n": " ", "\t": " "})
# Anchors of the magma scale, but for the first: "no change" is exactly black.
_HEAT = ((0, 0, 0), (28, 16, 68), (79, 18, 123), (129, 37, 129), (181, 54, 122), (229, 80, 100),
         (251, 135, 97), (254, 194, 135), (252, 253, 191))  # fmt: skip


def blank(width: int, height: int) -> Image.Image:
    """Return a white picture of width x height px."""
    return Image.new("RGB", (width, height), WHITE)


def stack(bands: Sequence[Image.Image], *, gap: int, edge: int) -> Image.Image:
    """Return the bands below each other, `gap` px apart, on a page with a white `edge` around."""
    height = sum(band.height for band in bands) + gap * (len(bands) - 1)
    page = blank(max(band.width for band in bands) + 2 * edge, height + 2 * edge)
    y = edge
    for band in bands:
        page.paste(band, (edge, y))
        y += band.height + gap
    return page


def write(
    image: Image.Image,
    xy: tuple[int, int],
    text: str,
    *,
    size: int,
    width: int,
    bold: bool = False,
    fill: Color = INK,
    anchor: str = "la",
    lines: int = 1,
) -> None:
    """Write `text` at `xy`, wrapped at spaces into `lines` of `width` px.

    What does not fit loses its middle to an ellipsis: names of one family differ at their ends. Lengths are
    in px, line breaks count as spaces, and `anchor` is Pillow's, by default the left end at the ascender.
    """
    pen, font = ImageDraw.Draw(image), _font(size)
    stroke = size / 48 if bold else 0  # the font at hand has one weight
    for number, line in enumerate(_wrapped(text.translate(_PLAIN), font, width, lines)):
        place = (xy[0], xy[1] + round(number * size * 1.3))
        pen.text(place, line, fill=fill, font=font, anchor=anchor, stroke_width=stroke)


def magnify(pixels: Pixels, factor: int) -> Image.Image:
    """Return (H, W, 3) uint8 pixels as squares of `factor` x `factor` px."""
    return Image.fromarray(pixels.repeat(factor, axis=0).repeat(factor, axis=1))


def scaled(pixels: Pixels, factor: float) -> Image.Image:
    """Return (H, W, 3) uint8 pixels at `factor` times their size; enlarged ones stay sharp."""
    size = [max(1, round(side * factor)) for side in (pixels.shape[1], pixels.shape[0])]
    if factor <= 1:
        return Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)
    # Whole factor first: squares of uneven size would look like a pattern of the network's.
    return magnify(pixels, int(np.ceil(factor))).resize(size, Image.Resampling.BOX)


def heat(values: NDArray[np.float64]) -> Pixels:
    """Return values in [0, 1] as (..., 3) uint8 heat colours: 0 is black, 1 pale yellow."""
    position = np.clip(values, 0, 1) * (len(_HEAT) - 1)
    channels = [np.interp(position, range(len(_HEAT)), channel) for channel in zip(*_HEAT, strict=True)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def full_scale(changes: NDArray[np.float64]) -> int:
    """Return the change in levels of 255 that gets the hottest colour; 0.5 % of all may saturate."""
    return min(255, max(8, 8 * math.ceil(np.quantile(changes, 0.995) / 8)))


def heat_bar(width: int, height: int) -> Image.Image:
    """Return all heat colours from left to right."""
    return Image.fromarray(heat(np.linspace(0, 1, width)[None].repeat(height, axis=0)))


def outline(image: Image.Image, box: tuple[int, int, int, int]) -> None:
    """Draw a thin frame around `box` (left, top, right, bottom), visible on any picture."""
    pen = ImageDraw.Draw(image)
    left, top, right, bottom = box
    pen.rectangle((left - 3, top - 3, right + 2, bottom + 2), outline=INK)
    pen.rectangle((left - 2, top - 2, right + 1, bottom + 1), outline=WHITE, width=2)


@cache
def _font(size: int) -> Font:
    return ImageFont.load_default(size=size)


def _wrapped(text: str, font: Font, width: int, lines: int) -> list[str]:
    done: list[str] = []
    words = text.split()
    while words and len(done) < lines - 1:
        count = 1
        while count < len(words) and font.getlength(" ".join(words[: count + 1])) <= width:
            count += 1
        done.append(_fitted(" ".join(words[:count]), font, width))
        words = words[count:]
    return [*done, _fitted(" ".join(words), font, width)] if words else done


def _fitted(text: str, font: Font, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    for kept in range(len(text) - 1, 0, -1):
        short = text[: (kept + 1) // 2] + "…" + text[len(text) - kept // 2 :]
        if font.getlength(short) <= width:
            return short
    return "…"
