"""Blurs without a padded copy and without anything kept for the backward pass, for the CPU.

Padding a map before it is blurred copies it, and the backward pass copies it again. A blur is linear and
separable, y = V x H^T with one banded matrix an axis (`gen.axis_map`) in which the borders are contained,
so this is computed in place of it:

- *channels last*: one depthwise convolution over the bare map, with the zeros beyond the border that it has
  built in; then the outputs near the border are computed again, as weighted sums of the pixels they see
  (`patch_border`). A pixel is a contiguous vector of channels there, which is what makes this cheap.
- *contiguous*: V as a depthwise convolution whose channels are the columns of the map (`along_columns`), for
  those are contiguous here; H as products with diagonal blocks of the matrix (`along_rows`).

The backward pass is the same with both matrices transposed. `gen.resample` holds the slow reference and says
where this path is taken; the tests hold both together.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from gen.axis_map import AxisMap

SMALL = 2**16  # elements; padding a map below this takes no time worth saving
SHORT = 16  # samples; along a shorter axis one product is faster than a convolution and its edges


def usable(x: Tensor) -> bool:
    """Whether `x` should take this path: float32 or float64 on a CPU with oneDNN, not tiny, nobody tracing.

    Compilers and exporters get the reference, which they fuse and know how to write down.
    """
    if torch.compiler.is_compiling():  # first, for a compiler reads no further
        return False
    return (
        type(x) is Tensor
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and x.numel() >= SMALL
        and torch.backends.mkldnn.is_available()
        and not torch.is_autocast_enabled("cpu")
        and not torch.jit.is_tracing()
        and not torch._C._are_functorch_transforms_active()
    )


def separable(x: Tensor, vertical: AxisMap, horizontal: AxisMap) -> Tensor:
    """Apply one linear map along each axis, differentiably to any order.

    Args:
        x: (B, C, H, W), for which `usable` holds.
        vertical: H -> H', of the same kernel, stride and direction as `horizontal`.
        horizontal: W -> W'.

    Returns:
        (B, C, H', W') in the memory format of `x`.
    """
    return _Separable.apply(x, vertical, horizontal)


class _Separable(torch.autograd.Function):
    """Linear, so its derivatives of every order are itself and its transpose."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, vertical: AxisMap, horizontal: AxisMap) -> Tensor:
        ctx.maps = vertical, horizontal
        if x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous():
            y = correlate(x, vertical, horizontal)
            patch_border(y, x, vertical, horizontal)
            return y
        batch, channels, height, width = x.shape
        x = x.reshape(batch * channels, height, width).contiguous()
        if vertical.n_out <= vertical.n_in:  # the pass that shrinks the map comes first
            y = along_rows(along_columns(x, vertical), horizontal)
        else:
            y = along_columns(along_rows(x, horizontal), vertical)
        return y.view(batch, channels, vertical.n_out, horizontal.n_out)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        vertical, horizontal = ctx.maps
        return _Separable.apply(grad, vertical.transpose(), horizontal.transpose()), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return _Separable.apply(tangent, *ctx.maps)


def correlate(x: Tensor, vertical: AxisMap | None, horizontal: AxisMap | None) -> Tensor:
    """Apply the maps without their edges, along both axes or, where one is None, along the other alone."""
    maps = (vertical, horizontal)
    some = vertical or horizontal
    assert some is not None
    channels = x.shape[1]
    kernel = some.depthwise(channels, (vertical is not None, horizontal is not None), x.dtype)
    stride = [axis_map.stride if axis_map else 1 for axis_map in maps]
    pad = [axis_map.reach if axis_map else 0 for axis_map in maps]
    if not some.scatters:
        return F.conv2d(x, kernel, None, stride, pad, 1, channels)
    rest = [axis_map.rest if axis_map else 0 for axis_map in maps]
    return F.conv_transpose2d(x, kernel, None, stride, pad, rest, channels)


# ---- contiguous: rows and columns ------------------------------------------------------------------------


def along_columns(x: Tensor, vertical: AxisMap) -> Tensor:
    """Apply a map along the rows of (N, H, W): to (N, H', W)."""
    if max(vertical.n_in, vertical.n_out) <= SHORT:
        return torch.matmul(vertical.dense(x.dtype), x)
    # One image of N x H pixels with W channels, blurred horizontally.
    y = correlate(x[None].permute(0, 3, 1, 2), None, vertical).permute(0, 2, 3, 1)[0].contiguous()
    for edge in vertical.edges:
        y[:, edge.output].add_(x[:, edge.input], alpha=edge.weight)
    return y


def along_rows(x: Tensor, horizontal: AxisMap) -> Tensor:
    """Apply a map along the columns of (N, H, W): to (N, H, W')."""
    rows = x.view(-1, horizontal.n_in)
    y = x.new_empty(len(rows), horizontal.n_out)
    for block in horizontal.blocks(x.dtype):
        torch.mm(rows[:, block.inputs], block.weights.T, out=y[:, block.outputs])
    for wrap in horizontal.wraps:
        y[:, wrap.output].add_(rows[:, wrap.input], alpha=wrap.weight)
    return y.view(*x.shape[:2], horizontal.n_out)


# ---- channels last: the border, pixel by pixel -----------------------------------------------------------


class Border(NamedTuple):
    """The outputs that padding reaches, as sums over input pixels.

    Args:
        outputs: (P,) pixels of the output, counted through the batch.
        inputs: (E,) pixels of the input that they see, those of one output after those of another.
        starts: (P,) where each output's begin.
        weights: (E,).
    """

    outputs: Tensor
    inputs: Tensor
    starts: Tensor
    weights: Tensor


def patch_border(y: Tensor, x: Tensor, vertical: AxisMap, horizontal: AxisMap) -> None:
    """Replace the outputs that padding reaches by what they should be; both maps lie channels last."""
    border = border_of(vertical, horizontal, len(x), x.dtype)
    if len(border.outputs):
        # Sums of weighted vectors are what an embedding layer is fast at.
        pixels = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
        sums = F.embedding_bag(
            border.inputs, pixels, border.starts, mode="sum", per_sample_weights=border.weights
        )
        y.permute(0, 2, 3, 1).view(-1, y.shape[1]).index_copy_(0, border.outputs, sums)


@functools.lru_cache(maxsize=128)
def border_of(vertical: AxisMap, horizontal: AxisMap, batch: int, dtype: torch.dtype) -> Border:
    """List the outputs whose row or column has an edge, with everything they see."""
    edge_rows, edge_columns = vertical.on_edge, horizontal.on_edge
    every = torch.ones_like(edge_columns)
    pixels, sources, weights = [], [], []
    for row, column in ((edge_rows, every), (~edge_rows, edge_columns)):
        pixels.append(vertical.rows[row, None] * horizontal.n_out + horizontal.rows[column])
        sources.append(vertical.columns[row, None] * horizontal.n_in + horizontal.columns[column])
        weights.append(vertical.weights[row, None] * horizontal.weights[column])
    pixel, source, weight = (torch.cat([p.flatten() for p in parts]) for parts in (pixels, sources, weights))
    order = pixel.argsort(stable=True)
    outputs, counts = pixel[order].unique_consecutive(return_counts=True)
    image = torch.arange(batch, device="cpu")[:, None]
    ends = counts.repeat(batch).cumsum(0)
    return Border(
        (image * (vertical.n_out * horizontal.n_out) + outputs).flatten(),
        (image * (vertical.n_in * horizontal.n_in) + source[order]).flatten(),
        ends - counts.repeat(batch),
        weight[order].repeat(batch).to(dtype),
    )
