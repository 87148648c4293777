"""A blur along one axis, borders included, as a sparse matrix and the pieces that fast code wants of it."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from gen.filters import binomial_taps

BLOCK = 16  # outputs one product makes along rows: a vector's width, so that few zeros are multiplied


class Piece(NamedTuple):
    """A dense part of the matrix: `outputs += weights @ inputs`, weights (outputs, inputs)."""

    outputs: slice
    inputs: slice
    weights: Tensor


class Entry(NamedTuple):
    """One element of the matrix: `output += weight * input`."""

    output: int
    input: int
    weight: float


@dataclass(frozen=True, eq=False)
class AxisMap:
    """A linear map from `n_in` to `n_out` samples of an axis.

    The matrix is a list of entries. Those on `side` 0 are a correlation with `kernel` at a stride (or, where
    it `scatters`, the transpose of one), with zeros beyond both ends; those on side -1 and 1 are what
    the padding before and after the axis brings in.

    Args:
        n_in: samples in.
        n_out: samples out.
        kernel: the correlation's taps, an odd number, float64.
        stride: of the correlation.
        scatters: whether the map goes from the correlation's output to its input.
        rows: (entries,) which output.
        columns: (entries,) which input.
        weights: (entries,) float64; entries of one place add up.
        side: (entries,) -1, 0 or 1.
    """

    n_in: int
    n_out: int
    kernel: Tensor
    stride: int
    scatters: bool
    rows: Tensor
    columns: Tensor
    weights: Tensor
    side: Tensor
    _kernels: dict[tuple[object, ...], Tensor] = field(default_factory=dict, repr=False)
    _blocks: dict[torch.dtype, list[Piece]] = field(default_factory=dict, repr=False)

    @property
    def reach(self) -> int:
        """Samples the kernel reaches to either side."""
        return len(self.kernel) // 2

    @functools.cached_property
    def _transposed(self) -> AxisMap:
        return AxisMap(
            self.n_out,
            self.n_in,
            self.kernel,
            self.stride,
            not self.scatters,
            self.columns,
            self.rows,
            self.weights,
            self.side,
        )

    def transpose(self) -> AxisMap:
        """Return the adjoint map, from `n_out` to `n_in` samples."""
        return self._transposed

    def depthwise(self, channels: int, axes: tuple[bool, bool], dtype: torch.dtype) -> Tensor:
        """Return the kernel (channels, 1, k or 1, k or 1), of the axes that `axes` marks."""
        key = (channels, axes, dtype)
        if key not in self._kernels:
            one = self.kernel.new_ones(1)
            kernel = torch.outer(*(self.kernel if axis else one for axis in axes)).to(dtype)
            self._kernels[key] = kernel.expand(channels, 1, -1, -1).contiguous()
        return self._kernels[key]

    @property
    def rest(self) -> int:
        """Samples that a map which scatters makes beyond the last one's reach."""
        return self.n_out - 1 - (self.n_in - 1) * self.stride

    @functools.cached_property
    def edges(self) -> list[Entry]:
        """What a correlation with zeros beyond the ends lacks."""
        return self._coalesced(self.side != 0)

    @functools.cached_property
    def on_edge(self) -> Tensor:
        """Which entries (a mask) belong to an output that has an edge."""
        return torch.isin(self.rows, self.rows[self.side != 0])

    @functools.cached_property
    def wraps(self) -> list[Entry]:
        """What circular padding brings from the far end, which no block reaches."""
        far = torch.ones_like(self.rows, dtype=torch.bool)
        for _, _, covered in self._windows:
            far &= ~covered
        return self._coalesced(far)

    def blocks(self, dtype: torch.dtype) -> list[Piece]:
        """Return pieces that make every output once, all but the entries in `wraps`."""
        if dtype not in self._blocks:
            self._blocks[dtype] = [self._piece(*window, dtype) for window in self._windows]
        return self._blocks[dtype]

    def dense(self, dtype: torch.dtype) -> Tensor:
        """Return the whole matrix (n_out, n_in)."""
        everything = torch.ones_like(self.rows, dtype=torch.bool)
        return self._piece(slice(0, self.n_out), slice(0, self.n_in), everything, dtype).weights

    @functools.cached_property
    def _windows(self) -> list[tuple[slice, slice, Tensor]]:
        """Blocks of outputs, the inputs within the kernel's reach of each, the entries between both."""
        windows = []
        # A map that scatters makes `stride` outputs of one input.
        size = BLOCK * self.stride if self.scatters else BLOCK
        for first in range(0, self.n_out, size):
            outputs = slice(first, min(first + size, self.n_out))
            own = (self.rows >= outputs.start) & (self.rows < outputs.stop)
            near = self.columns[own & (self.side == 0)]
            # A stride beyond the taps skips inputs: their rows of the transpose are empty.
            inputs = slice(int(near.min()), int(near.max()) + 1) if len(near) else slice(0, 1)
            inside = own & (self.columns >= inputs.start) & (self.columns < inputs.stop)
            windows.append((outputs, inputs, inside))
        return windows

    def _piece(self, outputs: slice, inputs: slice, entries: Tensor, dtype: torch.dtype) -> Piece:
        matrix = self.weights.new_zeros(outputs.stop - outputs.start, inputs.stop - inputs.start)
        places = (self.rows[entries] - outputs.start, self.columns[entries] - inputs.start)
        matrix.index_put_(places, self.weights[entries], accumulate=True)
        return Piece(outputs, inputs, matrix.to(dtype))

    def _coalesced(self, entries: Tensor) -> list[Entry]:
        summed: dict[tuple[int, int], float] = {}
        listed = (values[entries].tolist() for values in (self.rows, self.columns, self.weights))
        for row, column, weight in zip(*listed, strict=True):
            summed[row, column] = summed.get((row, column), 0.0) + weight
        return [Entry(*place, weight) for place, weight in summed.items()]


@functools.lru_cache(maxsize=256)
def blur_map(n: int, filter: str, stride: int, padding: str, upward: bool) -> AxisMap:
    """The blur of `BlurPool2d` along an axis of `n` samples: n -> ceil(n / stride)."""
    # A zero beside an even number of taps centres them; a blur on the way up has them the other way round.
    taps = torch.tensor(binomial_taps(filter), dtype=torch.float64, device="cpu")
    if len(taps) % 2 == 0:
        taps = F.pad(taps, (0, 1) if upward else (1, 0))
    reach = len(taps) // 2
    starts = torch.arange(-(-n // stride), device="cpu") * stride
    places = starts[:, None] + torch.arange(-reach, reach + 1, device="cpu")
    rows = (starts // stride)[:, None].expand_as(places)
    return _assemble(
        n, len(starts), taps, stride, False, rows, places, taps.expand_as(places), reach, padding
    )


@functools.lru_cache(maxsize=256)
def upsample_map(n: int, filter: str, padding: str, gain: float) -> AxisMap:
    """Zero-insertion and blur, as in `BlurUpsample2d`, along an axis of `n` samples: n -> 2 n."""
    taps = gain * torch.tensor(binomial_taps(filter), dtype=torch.float64, device="cpu")
    if len(taps) % 2 == 0:
        taps = F.pad(taps, (1, 0))
    centre = len(taps) // 2
    # The samples beyond the border from which a tap reaches into the output, in steps of the low rate.
    reach = (centre + 1) // 2
    low = torch.arange(-reach, n + reach, device="cpu")
    rows = 2 * low[:, None] + torch.arange(-centre, centre + 1, device="cpu")
    places, weights = low[:, None].expand_as(rows), taps.expand_as(rows)
    met = (rows >= 0) & (rows < 2 * n) & (weights > 0)
    reach = max(int((-places[met]).max()), int(places[met].max()) - (n - 1))
    return _assemble(n, 2 * n, taps, 2, True, rows[met], places[met], weights[met], reach, padding)


def _assemble(
    n_in: int,
    n_out: int,
    kernel: Tensor,
    stride: int,
    scatters: bool,
    rows: Tensor,
    places: Tensor,
    weights: Tensor,
    reach: int,
    padding: str,
) -> AxisMap:
    """Build the map whose entries read the input at `places`, which may lie beyond its ends."""
    rows, places, weights = (entries.flatten() for entries in (rows, places, weights))
    columns = padded_index(places, n_in, reach, padding)
    side = (places >= n_in).long() - (places < 0).long()
    kept = (columns >= 0) & (weights > 0)
    entries = (rows[kept], columns[kept], weights[kept], side[kept])
    return AxisMap(n_in, n_out, kernel, stride, scatters, *entries)


def padded_index(places: Tensor, n: int, reach: int, padding: str) -> Tensor:
    """Return which sample of an axis stands at each place, as `gen.resample.pad2d` has it; -1 is a zero."""
    if padding == "circular":
        return places % n
    if padding == "zeros":
        return torch.where((places < 0) | (places >= n), -1, places)
    if padding == "reflect" and reach < n:
        return (n - 1) - ((n - 1) - places.abs()).abs()
    return places.clamp(0, n - 1)
