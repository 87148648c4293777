"""Anti-aliased drawing and seeded textures for the procedural scenes.

Everything is placed in relative units (the picture is the unit square) and filtered over the area
of a pixel exactly, so that a scene keeps its contents at any size and fine patterns fade to their
mean instead of aliasing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

Colour = tuple[float, float, float] | np.ndarray


def coverage(
    first: int, last: int, starts: np.ndarray | float, ends: np.ndarray | float, *, size: int
) -> np.ndarray:
    """Share of each pixel that lies in an interval, per interval.

    Args:
        first: Index of the first pixel.
        last: Index after the last pixel.
        starts: Left ends of the intervals in relative units, shape (k,) or a number.
        ends: Right ends, as `starts`.
        size: Number of pixels in the unit length.

    Returns:
        float32 array of shape (k, last - first), values 0 to 1.
    """
    left = np.arange(first, last)
    low = np.atleast_1d(starts)[:, None] * size
    high = np.atleast_1d(ends)[:, None] * size
    inside = np.minimum(left + 1, high) - np.maximum(left, low)
    return np.maximum(inside, 0.0).astype(np.float32)


def stripes(first: int, last: int, *, size: int, origin: float, period: float, duty: float) -> np.ndarray:
    """Share of each pixel covered by stripes that repeat for ever.

    Args:
        first: Index of the first pixel.
        last: Index after the last pixel.
        size: Number of pixels in the unit length.
        origin: Where one of the stripes starts, in relative units.
        period: Distance from stripe to stripe, in relative units, above 0.
        duty: Share of the period that a stripe takes, 0 to 1.

    Returns:
        float32 array of shape (last - first,), values 0 to 1.
    """
    edge = (np.arange(first, last + 1) / size - origin) / period
    whole = np.floor(edge)
    area = whole * duty + np.minimum(edge - whole, duty)
    return (np.diff(area) * period * size).astype(np.float32)


class Patch(NamedTuple):
    """A rectangle of a canvas, with what is needed to paint in it.

    Attributes:
        view: The pixels it touches, a writable float32 view of shape (h, w, 3).
        alpha: Share of each pixel inside the rectangle, float32 (h, w, 1).
        row: First pixel row.
        col: First pixel column.
        size: Pixels in the unit length.
        u: Position of each pixel column in the rectangle, 0 (left) to 1, float32 (w,).
        v: Position of each pixel row in the rectangle, 0 (top) to 1, float32 (h,).
        box: The rectangle (x0, y0, x1, y1) in relative units.
    """

    view: np.ndarray
    alpha: np.ndarray
    row: int
    col: int
    size: int
    u: np.ndarray
    v: np.ndarray
    box: tuple[float, float, float, float]

    def cols(self, starts: np.ndarray | float, ends: np.ndarray | float) -> np.ndarray:
        """Coverage by upright bars given in local units (0 to 1): float32 (1, w, 1)."""
        x0, width = self.box[0], self.box[2] - self.box[0]
        lows, highs = x0 + np.asarray(starts) * width, x0 + np.asarray(ends) * width
        last = self.col + self.view.shape[1]
        return coverage(self.col, last, lows, highs, size=self.size).sum(0)[None, :, None]

    def rows(self, starts: np.ndarray | float, ends: np.ndarray | float) -> np.ndarray:
        """Coverage by level bars given in local units (0 to 1): float32 (h, 1, 1)."""
        y0, height = self.box[1], self.box[3] - self.box[1]
        lows, highs = y0 + np.asarray(starts) * height, y0 + np.asarray(ends) * height
        last = self.row + self.view.shape[0]
        return coverage(self.row, last, lows, highs, size=self.size).sum(0)[:, None, None]

    def col_stripes(self, period: float, duty: float, offset: float = 0.0) -> np.ndarray:
        """Coverage by upright stripes, `period` in relative units: float32 (1, w, 1)."""
        last = self.col + self.view.shape[1]
        origin = self.box[0] + offset
        lines = stripes(self.col, last, size=self.size, origin=origin, period=period, duty=duty)
        return lines[None, :, None]

    def row_stripes(self, period: float, duty: float, offset: float = 0.0) -> np.ndarray:
        """Coverage by level stripes, `period` in relative units: float32 (h, 1, 1)."""
        last = self.row + self.view.shape[0]
        origin = self.box[1] + offset
        lines = stripes(self.row, last, size=self.size, origin=origin, period=period, duty=duty)
        return lines[:, None, None]

    def blend(self, colour: Colour, alpha: np.ndarray | float = 1.0) -> None:
        """Paint a colour (anything that broadcasts to (h, w, 3)) with the given opacity."""
        self.view[...] += (self.alpha * alpha) * (np.asarray(colour, np.float32) - self.view)

    def shade(self, factor: np.ndarray | float) -> None:
        """Multiply what is there by `factor`, which broadcasts to (h, w, 1)."""
        self.view[...] *= 1.0 + self.alpha * (np.asarray(factor, np.float32) - 1.0)


def _profile(first: int, last: int, low: float, high: float, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Share of each pixel inside low..high, and its position there from 0 to 1; float32."""
    share = np.ones(last - first, np.float32)
    # Only the outermost pixels can be partly outside.
    if first < last:
        share[0] = max(min(first + 1, high * size) - max(first, low * size), 0.0)
        share[-1] = max(min(last, high * size) - max(last - 1, low * size), 0.0)
    at = (np.arange(first + 0.5, last) / size - low) / max(high - low, 1e-9)
    return share, np.minimum(np.maximum(at, 0.0), 1.0).astype(np.float32)


class Canvas:
    """A square float32 picture addressed in relative units.

    Attributes:
        size: Pixels a side.
        pixels: float32 (size, size, 3), nominally 0 to 255.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.pixels = np.zeros((size, size, 3), np.float32)

    def patch(self, x0: float, y0: float, x1: float, y1: float) -> Patch:
        """The part of the rectangle that is on the canvas; it may have no pixels at all."""
        size = self.size
        left, top = max(int(np.floor(x0 * size)), 0), max(int(np.floor(y0 * size)), 0)
        right, bottom = min(int(np.ceil(x1 * size)), size), min(int(np.ceil(y1 * size)), size)
        right, bottom = max(left, right), max(top, bottom)
        across, u = _profile(left, right, x0, x1, size)
        down, v = _profile(top, bottom, y0, y1, size)
        alpha = down[:, None, None] * across[None, :, None]
        view = self.pixels[top:bottom, left:right]
        return Patch(view, alpha, top, left, size, u, v, (x0, y0, x1, y1))

    def fill(self, box: tuple[float, float, float, float], colour: Colour) -> None:
        """Fill the rectangle `box` = (x0, y0, x1, y1) with one colour."""
        self.patch(*box).blend(colour)

    def shade(self, box: tuple[float, float, float, float], factor: float) -> None:
        """Multiply the rectangle `box` = (x0, y0, x1, y1) by `factor`."""
        self.patch(*box).shade(factor)


def value_noise(rng: np.random.Generator, *, size: int, cells: int, octaves: int = 3) -> np.ndarray:
    """Smooth random field that does not depend on the sampling.

    Args:
        rng: Source of the lattice values; the number drawn does not depend on `size`.
        size: Pixels a side of the result.
        cells: Lattice cells a side in the coarsest octave; each further one doubles it.
        octaves: Number of octaves, each half as strong as the one before.

    Returns:
        float32 (size, size) with mean near 0, nearly all of it in -1 to 1.
    """
    field = np.zeros((size, size), np.float32)
    weight = 1.0
    for octave in range(octaves):
        count = cells << octave
        lattice = rng.uniform(-1, 1, (count + 2, count + 2)).astype(np.float32)
        at = (np.arange(size) + 0.5) * (count / size)
        cell = at.astype(int)
        part = (at - cell).astype(np.float32)
        part = part * part * (3 - 2 * part)
        rows = lattice[cell] + part[:, None] * (lattice[cell + 1] - lattice[cell])
        low, high = rows[:, cell], rows[:, cell + 1]
        field += weight * (low + part * (high - low))
        weight *= 0.5
    return field


def masonry(
    rng: np.random.Generator, patch: Patch, *, course: float, length: float, joint: float
) -> tuple[np.ndarray, np.ndarray]:
    """Bricks or blocks in running bond, filtered exactly over each pixel.

    Args:
        rng: Source of the tone of each brick.
        patch: Where the wall is.
        course: Height of a course with its joint, in relative units.
        length: Length of a brick with its joint, in relative units.
        joint: Width of the joints, in relative units.

    Returns:
        Two float32 arrays (h, w, 1): the tone (random per brick, -1 to 1, times the share of the
        pixel that is brick), and that share itself.
    """
    x0, y0, x1, y1 = patch.box
    courses, bricks = int(np.ceil((y1 - y0) / course)), int(np.ceil((x1 - x0) / length)) + 1
    tones = rng.uniform(-1, 1, (courses, bricks))
    height, width = patch.view.shape[:2]
    edges_x = (np.arange(width + 1) + patch.col) / patch.size - x0
    edges_y = (np.arange(height + 1) + patch.row) / patch.size - y0
    # A box filter is the difference of an integral, taken first along the courses, then down.
    rows = np.empty((2, courses, width))
    for parity in (0, 1):
        shifted = edges_x + parity * 0.5 * length
        body = np.stack([tones[parity::2], np.ones_like(tones[parity::2])])
        rows[:, parity::2] = _filtered(body, shifted, length, joint)
    result = _filtered(rows.transpose(0, 2, 1), edges_y, course, joint) * patch.size**2
    tone, share = result.transpose(0, 2, 1).astype(np.float32)[..., None]
    return tone, share


def _filtered(cells: np.ndarray, edges: np.ndarray, pitch: float, joint: float) -> np.ndarray:
    """Integral between neighbouring `edges` of `cells` (..., n) laid out with gaps of `joint`."""
    count = cells.shape[-1]
    at = np.minimum(np.maximum(edges, 0.0), count * pitch)
    cell = np.minimum((at / pitch).astype(int), count - 1)
    part = np.minimum(at - cell * pitch, pitch - joint)
    before = np.cumsum(cells, axis=-1) - cells
    return np.diff(before[..., cell] * (pitch - joint) + cells[..., cell] * part, axis=-1)


def to_bytes(pixels: np.ndarray) -> np.ndarray:
    """Round a float picture (nominally 0 to 255) to uint8, clipping what lies outside."""
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
