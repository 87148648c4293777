"""A blur along one axis, borders included, as a sparse matrix as `blur_kernel.c` reads it."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steadypix.gen.layers.filters import binomial_taps

Indices = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class AxisMap:
    """A linear map from `n_in` to `n_out` samples of an axis: output i is a weighted sum of a few inputs.

    The sum of output i has the entries `starts[i]` to `starts[i + 1]`, in the order of their inputs. In the
    interior the map repeats itself: `period` outputs further on stand the same weights, `step` inputs on.

    Args:
        n_in: samples in.
        n_out: samples out.
        period: outputs after which the interior repeats itself.
        step: inputs it has gone on by then.
        starts: (n_out + 1,).
        index: (entries,) which input.
        weights: (entries,), no two of them of the same output and input.
    """

    n_in: int
    n_out: int
    period: int
    step: int
    starts: Indices
    index: Indices
    weights: Floats

    @functools.cached_property
    def _transposed(self) -> AxisMap:
        return _assemble(self.n_out, self.n_in, self.step, self.period, self.index, self._rows, self.weights)

    def transpose(self) -> AxisMap:
        """Return the adjoint map, from `n_out` to `n_in` samples."""
        return self._transposed

    @property
    def _rows(self) -> Indices:
        return np.repeat(np.arange(self.n_out), np.diff(self.starts))

    def dense(self) -> Floats:
        """Return the whole matrix (n_out, n_in)."""
        matrix = np.zeros((self.n_out, self.n_in))
        matrix[self._rows, self.index] = self.weights
        return matrix

    @functools.cached_property
    def interior(self) -> tuple[int, int]:
        """The first output of the longest stretch that repeats itself, and how many periods long that is."""
        slots = np.arange(np.diff(self.starts).max())
        taken = slots < np.diff(self.starts)[:, None]
        entries = np.where(taken, self.starts[:-1, None] + slots, 0)
        offsets = self.index[entries] - np.arange(self.n_out)[:, None] // self.period * self.step
        sums = np.stack([np.where(taken, offsets, -self.n_in), np.where(taken, self.weights[entries], 0)])
        same = (sums[:, self.period :] == sums[:, : -self.period]).all(axis=(0, 2))
        edges = np.flatnonzero(np.diff(same, prepend=False, append=False))
        if not len(edges):
            return 0, 0
        lengths = edges[1::2] - edges[::2]
        longest = lengths.argmax()
        return int(edges[2 * longest]), int(lengths[longest]) // self.period + 1


@functools.lru_cache(maxsize=256)
def blur_map(n: int, filter: str, stride: int, padding: str, upward: bool) -> AxisMap:
    """The blur of `BlurPool2d` along an axis of `n` samples: n -> ceil(n / stride)."""
    taps = np.array(binomial_taps(filter))
    short, long = (len(taps) - 1) // 2, len(taps) // 2
    starts = np.arange(-(-n // stride)) * stride
    places = starts[:, None] + np.arange(len(taps)) - (long if upward else short)
    columns = padded_index(places, n, long, padding)
    rows, weights = (
        np.broadcast_to((starts // stride)[:, None], places.shape),
        np.broadcast_to(taps, places.shape),
    )
    kept = columns >= 0
    return _assemble(n, len(starts), 1, stride, rows[kept], columns[kept], weights[kept])


@functools.lru_cache(maxsize=256)
def valid_map(n: int, filter: str, stride: int) -> AxisMap:
    """The same blur of an axis of `n` samples that carries its padding: `BlurPool2d.unpadded`."""
    taps = np.array(binomial_taps(filter))
    n_out = (n - len(taps)) // stride + 1
    if n_out < 1:
        raise ValueError(f"an axis of {n} samples is shorter than the filter {filter}")
    rows, places = np.indices((n_out, len(taps)))
    weights = np.broadcast_to(taps, rows.shape)
    return _assemble(n, n_out, 1, stride, rows.ravel(), (rows * stride + places).ravel(), weights.ravel())


@functools.lru_cache(maxsize=256)
def upsample_map(n: int, filter: str, padding: str, gain: float) -> AxisMap:
    """Zero-insertion and blur, as in `BlurUpsample2d`, along an axis of `n` samples: n -> 2 n."""
    taps = gain * np.array(binomial_taps(filter))
    # The samples beyond the border from which a tap reaches into the output, in steps of the low rate.
    before, after = len(taps) // 4, ((len(taps) - 1) // 2 + 1) // 2
    low = np.arange(-before, n + after)
    rows = 2 * low[:, None] + np.arange(len(taps)) - (len(taps) - 1) // 2
    columns = np.broadcast_to(padded_index(low, n, max(before, after), padding)[:, None], rows.shape)
    kept = (rows >= 0) & (rows < 2 * n) & (columns >= 0)
    return _assemble(n, 2 * n, 2, 1, rows[kept], columns[kept], np.broadcast_to(taps, rows.shape)[kept])


def _assemble(
    n_in: int, n_out: int, period: int, step: int, rows: Indices, columns: Indices, weights: Floats
) -> AxisMap:
    """Sort the entries and add up those of one place."""
    places, which = np.unique(rows * n_in + columns, return_inverse=True)
    starts = np.searchsorted(places, np.arange(n_out + 1) * n_in)
    sums = np.bincount(which, weights, len(places)).astype(np.float64)
    return AxisMap(n_in, n_out, period, step, starts, places % n_in, sums)


def padded_index(places: Indices, n: int, reach: int, padding: str) -> Indices:
    """Return which sample of an axis stands at each place, as `pad2d` has it; -1 is a zero."""
    if padding == "circular":
        return places % n
    if padding == "zeros":
        return np.where((places < 0) | (places >= n), -1, places)
    if padding == "reflect" and reach < n:
        return (n - 1) - np.abs((n - 1) - np.abs(places))
    return places.clip(0, n - 1)
