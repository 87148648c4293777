"""Anti-aliased drawing and seeded textures for the procedural scenes.

Everything is placed in relative units (the picture is the unit square) and filtered over the area
of a pixel exactly, so that a scene keeps its contents at any size and fine patterns fade to their
mean instead of aliasing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

Colour = tuple[float, float, float] | np.ndarray
Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in relative units


def coverage(
    first: int, last: int, starts: np.ndarray | float, ends: np.ndarray | float, *, size: int
) -> np.ndarray:
    """Share of each pixel from `first` to before `last` that lies in an interval, per interval.

    `starts` and `ends` are in relative units, (k,) or numbers; `size` is the number of pixels in the unit
    length. The result is float32 (k, last - first), 0 to 1.
    """
    left = np.arange(first, last)
    low = np.atleast_1d(starts)[:, None] * size
    high = np.atleast_1d(ends)[:, None] * size
    inside = np.minimum(left + 1, high) - np.maximum(left, low)
    return np.maximum(inside, 0.0).astype(np.float32)


def stripes(first: int, last: int, *, size: int, origin: float, period: float, duty: float) -> np.ndarray:
    """Share of each pixel from `first` to before `last` covered by stripes that repeat for ever.

    One of them starts at `origin`, and each takes the share `duty` of `period`, both in relative units;
    `size` is the number of pixels in the unit length. The result is float32 (last - first,), 0 to 1.
    """
    edge = (np.arange(first, last + 1) / size - origin) / period
    whole = np.floor(edge)
    area = whole * duty + np.minimum(edge - whole, duty)
    return (np.diff(area) * period * size).astype(np.float32)


class Patch(NamedTuple):
    """A rectangle of a canvas, with what is needed to paint in it."""

    view: np.ndarray  # the pixels it touches, a writable float32 view of shape (h, w, 3)
    alpha: np.ndarray  # share of each pixel inside the rectangle, float32 (h, w, 1)
    row: int  # first pixel row
    col: int  # first pixel column
    size: int  # pixels in the unit length
    u: np.ndarray  # position of each pixel column in the rectangle, 0 (left) to 1, float32 (1, w, 1)
    v: np.ndarray  # position of each pixel row in the rectangle, 0 (top) to 1, float32 (h, 1, 1)
    box: Box

    def cols(self, starts: np.ndarray | float, ends: np.ndarray | float) -> np.ndarray:
        """Coverage by upright bars given in local units (0 to 1): float32 (1, w, 1)."""
        return self._bars(0, self.col, self.u.size, starts, ends)[None, :, None]

    def rows(self, starts: np.ndarray | float, ends: np.ndarray | float) -> np.ndarray:
        """Coverage by level bars given in local units (0 to 1): float32 (h, 1, 1)."""
        return self._bars(1, self.row, self.v.size, starts, ends)[:, None, None]

    def _bars(
        self, axis: int, first: int, count: int, starts: np.ndarray | float, ends: np.ndarray | float
    ) -> np.ndarray:
        low, extent = self.box[axis], self.box[axis + 2] - self.box[axis]
        lows, highs = low + np.asarray(starts) * extent, low + np.asarray(ends) * extent
        return coverage(first, first + count, lows, highs, size=self.size).sum(0)

    def col_stripes(self, period: float, duty: float) -> np.ndarray:
        """Coverage by upright stripes, `period` in relative units: float32 (1, w, 1)."""
        last, origin = self.col + self.u.size, self.box[0]
        lines = stripes(self.col, last, size=self.size, origin=origin, period=period, duty=duty)
        return lines[None, :, None]

    def row_stripes(self, period: float, duty: float, offset: float = 0.0) -> np.ndarray:
        """Coverage by level stripes, `period` in relative units: float32 (h, 1, 1)."""
        last, origin = self.row + self.v.size, self.box[1] + offset
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
    """A square picture addressed in relative units: `pixels` (size, size, 3) float32, nominally 0 to 255."""

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
        view, box = self.pixels[top:bottom, left:right], (x0, y0, x1, y1)
        return Patch(view, alpha, top, left, size, u[None, :, None], v[:, None, None], box)

    def fill(self, box: Box, colour: Colour) -> None:
        """Fill a rectangle with one colour."""
        self.patch(*box).blend(colour)

    def shade(self, box: Box, factor: float) -> None:
        """Multiply a rectangle by `factor`."""
        self.patch(*box).shade(factor)


def value_noise(rng: np.random.Generator, *, size: int, cells: int, octaves: int = 3) -> np.ndarray:
    """Smooth random field that does not depend on the sampling, nor what is drawn from `rng` on `size`.

    The coarsest of the octaves has `cells` lattice cells a side; each further one has twice as many and half
    the strength. The result is float32 (size, size), mean near 0, nearly all of it in -1 to 1.
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

    `course` is the height and `length` the length of a brick with its joint, `joint` the joint's width, in
    relative units. The results are float32 (h, w, 1): the tone (random per brick, -1 to 1, times the share
    of the pixel that is brick), and that share itself.
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
