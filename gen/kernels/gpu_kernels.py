"""Kernels for NVIDIA GPUs, written in Triton, which torch's builds for them bring along.

At batch 1 most of a pix2pix step on a GPU is not convolutions but what stands between them: copies from one
memory layout to the other, padding, blurs and norms that each read and write a whole map several times.
These kernels take maps in either layout, pixel by pixel (NHWC) or plane by plane, and leave them in it.

`STEADYPIX_NATIVE=0` in the environment switches them off, as the compiled blur of a CPU.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import os
import warnings
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from steadypix.gen.kernels.axis_map import AxisMap, blur_map
from steadypix.gen.kernels.tracing import untraced

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
LARGEST = 2**29  # elements a map may span: offsets have 32 bits, and an upsampled map has four times as many
LONGEST = 65_535  # of an axis of CUDA's grids
BLUR_TILE = 512  # elements a program of a blur holds at a time
NORM_TILE = 1024
NORM_CHUNK = 16384  # elements whose sums one program of a norm takes, of maps of more than twice as many
MOST_PARTS = 128  # programs that share a map; each reads what all of them have summed up


def usable(x: Tensor) -> bool:
    """Whether the kernels can take `x`: (B, C, H, W) in `DTYPES` on an NVIDIA GPU, nobody tracing."""
    return (
        x.device.type == "cuda"
        and untraced(x)
        and x.dtype in DTYPES
        and x.ndim == 4
        and x.numel() > 0
        and max(x.shape[:2]) <= LONGEST
        and x.numel() <= LARGEST
        and sum((n - 1) * stride for n, stride in zip(x.shape, x.stride(), strict=True)) < LARGEST
        and available(x.device)
    )


@functools.cache
def available(device: torch.device) -> bool:
    """Whether the kernels run on a device: of compute capability 8.0 or newer, with a Triton that compiles.

    Triton compiles when a kernel first runs, and needs a C compiler for that. Where it fails, the layers
    compute what their references do, and a warning says so once.
    """
    if importlib.util.find_spec("triton") is None:  # a build of torch for CPUs
        return False
    if os.environ.get("STEADYPIX_NATIVE") == "0" or torch.version.hip:
        return False
    if torch.cuda.get_device_capability(device) < (8, 0):
        return False
    try:
        x = torch.ones(1, 1, 2, 2, device=device)
        blur(x, *[blur_map(2, "rect2", 1, "reflect", False)] * 2)
        normalise_backward(x, x, normalise(x, 1.0, 1e-5)[1], 1.0)
    except Exception as error:  # whatever goes wrong in a compiler
        reason = " ".join(str(error).split())[:200]
        warnings.warn(f"Triton does not work here, so blurs and norms are slower: {reason}", stacklevel=2)
        return False
    return True


def _on(x: Tensor) -> Any:
    """Triton starts its programs on the current device, whatever the tensors are on."""
    return torch.cuda.device_of(x)


@functools.cache
def _programs() -> Any:
    """Load what runs on the GPU, once something does: Triton takes a while to import."""
    from steadypix.gen.kernels import triton_kernels

    return triton_kernels


# ---- blurs ------------------------------------------------------------------------------------------------


def blur(x: Tensor, vertical: AxisMap, horizontal: AxisMap) -> Tensor:
    """Apply one linear map along each axis.

    Args:
        x: (B, C, H, W), `usable`.
        vertical: H -> H'.
        horizontal: W -> W'.

    Returns:
        (B, C, H', W') in the layout and precision of `x`; sums are in float32.
    """
    x = x.resolve_neg()
    batch, channels = x.shape[:2]
    shape = (batch, channels, vertical.n_out, horizontal.n_out)
    y = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=_layout(x))
    rows, row_weights = _table(vertical, x.device)
    columns, column_weights = _table(horizontal, x.device)
    block_c, block_j = _tile(x, channels, horizontal.n_out)
    blocks = (_ceil_div(horizontal.n_out, block_j), vertical.n_out, batch * _ceil_div(channels, block_c))
    with _on(x):
        _programs().blur_kernel[(math.prod(blocks),)](
            x, y, rows, row_weights, columns, column_weights,
            channels, vertical.n_out, horizontal.n_out, *x.stride(), *y.stride(),
            V=rows.shape[1], H=columns.shape[1], BLOCK_J=block_j, BLOCK_C=block_c,
        )  # fmt: skip
    return y


# A recorded CUDA graph reads them from where they lie, so none may go while there are a few thousand.
@functools.lru_cache(maxsize=2**14)
def _table(axis_map: AxisMap, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return which inputs and with which weights, (n_out, entries) each; shorter sums have zeros behind."""
    counts = np.diff(axis_map.starts)
    slots = np.arange(counts.max())
    taken = slots < counts[:, None]
    entries = np.where(taken, axis_map.starts[:-1, None] + slots, axis_map.starts[:-1, None])
    entries = entries.clip(max=len(axis_map.index) - 1)  # of an output without any, at the end
    index = torch.from_numpy(axis_map.index[entries].astype(np.int32))
    weights = torch.from_numpy(np.where(taken, axis_map.weights[entries], 0).astype(np.float32))
    return index.to(device), weights.to(device)


def _tile(x: Tensor, channels: int, width: int) -> tuple[int, int]:
    """Return how many channels and columns a program takes: neighbours in memory first."""
    if _is_channels_last(x):
        block_c = min(128, _power_of_2(channels))
        return block_c, min(BLUR_TILE // block_c, _power_of_2(width))
    block_j = min(256, _power_of_2(width))
    return min(BLUR_TILE // block_j, _power_of_2(channels)), block_j


def _is_channels_last(x: Tensor) -> bool:
    return x.shape[1] > 1 and x.stride(1) == 1


def _layout(x: Tensor) -> torch.memory_format:
    return torch.channels_last if _is_channels_last(x) else torch.contiguous_format


# ---- instance norm ----------------------------------------------------------------------------------------


class InstanceNormAct(torch.autograd.Function):
    """Instance norm and a LeakyReLU behind it, (B, C, H, W) -> the same.

    Arguments of `apply`: x, `usable`, of more than one pixel; the bias (C,) of the conv that made x, which is
    *not* in x, because the norm takes it away again: all it needs is its gradient, zero; the slope below 0
    (1: no activation); eps.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor | None, slope: float, eps: float) -> Tensor:
        """Normalise."""
        y, statistics = normalise(x, slope, eps)
        ctx.save_for_backward(x, statistics)
        ctx.slope, ctx.eps = slope, eps
        ctx.bias = None if bias is None else (bias.shape, bias.dtype)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        """Return the gradients of x and of the bias."""
        x, statistics = ctx.saved_tensors
        grad_x = grad_bias = None
        if ctx.needs_input_grad[0]:
            if torch.is_grad_enabled() or not untraced(grad):  # it is differentiated again, or one of many
                grad_x = _reference_gradient(grad, x, ctx.slope, ctx.eps)
            else:
                grad_x = normalise_backward(grad, x, statistics, ctx.slope)
        if ctx.needs_input_grad[1]:
            shape, dtype = ctx.bias
            grad_bias = torch.zeros(shape, dtype=dtype, device=grad.device)
        return grad_x, grad_bias, None, None


def _reference_gradient(grad: Tensor, x: Tensor, slope: float, eps: float) -> Tensor:
    with torch.enable_grad():
        y = F.leaky_relu(F.instance_norm(x, eps=eps), slope)
        (grad_x,) = torch.autograd.grad(y, x, grad, create_graph=True)
    return grad_x


def normalise(x: Tensor, slope: float, eps: float) -> tuple[Tensor, Tensor]:
    """Return the norm of `x` behind a LeakyReLU, and means and reciprocal deviations, (2, B, C) float32."""
    x = x.resolve_neg().contiguous(memory_format=_layout(x))
    y = torch.empty_like(x)
    statistics = torch.empty((2, *x.shape[:2]), dtype=torch.float32, device=x.device)
    partial, grid, shape, blocks = _plan(x)
    with _on(x):
        if partial is not None:
            _programs().sums_kernel[grid](x, partial, *shape, **blocks)
        _programs().norm_kernel[grid](
            x, y, statistics, partial, *shape, slope, eps, PARTS=_parts(partial), **blocks
        )
    return y, statistics


def normalise_backward(grad: Tensor, x: Tensor, statistics: Tensor, slope: float) -> Tensor:
    """Return the gradient of `x`, given that of what `normalise` made of it."""
    layout = _layout(x)
    x, grad = (t.resolve_neg().contiguous(memory_format=layout) for t in (x, grad))
    grad_x = torch.empty_like(x)
    partial, grid, shape, blocks = _plan(x)
    with _on(x):
        if partial is not None:
            _programs().grad_sums_kernel[grid](grad, x, statistics, partial, *shape, slope, **blocks)
        _programs().grad_kernel[grid](
            grad, x, grad_x, statistics, partial, *shape, slope, PARTS=_parts(partial), **blocks
        )
    return grad_x


def _plan(x: Tensor) -> tuple[Tensor | None, tuple[int, int, int], tuple[int, ...], dict[str, int]]:
    """Return room for partial sums (None: one program sees a whole map), grid, shape and block sizes."""
    batch, channels, height, width = x.shape
    pixels = height * width
    last = _is_channels_last(x)
    block_c = min(32, _power_of_2(channels)) if last else 1
    block_s = min(NORM_TILE // block_c, _power_of_2(pixels))
    chunk = NORM_CHUNK // block_c
    if pixels <= 2 * chunk:
        chunk = pixels
    chunk = max(chunk, _power_of_2(_ceil_div(pixels, MOST_PARTS)))
    parts = _ceil_div(pixels, chunk)
    strides = (x.stride(0), channels if last else 1, 1 if last else pixels)
    partial = None
    if parts > 1:
        partial = torch.empty((batch, parts, 2, channels), dtype=torch.float32, device=x.device)
    grid = (parts, _ceil_div(channels, block_c), batch)
    blocks = {"STEPS": _ceil_div(chunk, block_s), "BLOCK_S": block_s, "BLOCK_C": block_c}
    return partial, grid, (batch, channels, pixels, chunk, *strides), blocks


def _parts(partial: Tensor | None) -> int:
    return 0 if partial is None else _power_of_2(partial.shape[1])


def _power_of_2(n: int) -> int:
    """Return the least power of 2 that is not below n."""
    return 1 << (n - 1).bit_length()


def _ceil_div(n: int, by: int) -> int:
    return -(-n // by)
