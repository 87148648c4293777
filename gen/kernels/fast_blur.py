"""Blurs without a padded copy and without anything kept for the backward pass.

Padding a map before it is blurred copies it, and the backward pass copies it again. A blur is linear and
separable, y = V x H^T with one banded matrix an axis (`gen.kernels.axis_map`) in which the borders are
contained: a kernel, `gen/kernels/blur_kernel.c` on a CPU and `gen.kernels.gpu_kernels` on a GPU, reads x once
and writes y once. The backward pass is the same with transposed matrices. `gen.layers.resample` holds the
slow reference and says where this path is taken; the tests hold both together.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from steadypix.gen.kernels import gpu_kernels, native
from steadypix.gen.kernels.axis_map import AxisMap
from steadypix.gen.kernels.tracing import untraced


def usable(x: Tensor) -> bool:
    """Whether a kernel can take `x` as it is: on a CPU or an NVIDIA GPU, nobody tracing, one compiled."""
    if x.device.type == "cuda":
        return gpu_kernels.usable(x)
    return (
        untraced(x)
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and x.numel() > 0
        and not torch.is_autocast_enabled("cpu")
        and native.library() is not None
    )


def separable(x: Tensor, vertical: AxisMap, horizontal: AxisMap) -> Tensor:
    """Apply one linear map along each axis, differentiably to any order.

    Args:
        x: (B, C, H, W).
        vertical: H -> H'.
        horizontal: W -> W'.

    Returns:
        (B, C, H', W') in the memory format of `x` where it is `usable`.
    """
    if usable(x):
        return _Separable.apply(x, vertical, horizontal)
    # A gradient may be what no layer's input was: a batch of gradients under vmap, for one.
    rows, columns = (torch.as_tensor(m.dense()).to(x) for m in (vertical, horizontal))
    return rows @ x @ columns.T


class _Separable(torch.autograd.Function):
    """Linear, so its derivatives of every order are itself and its transpose."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, vertical: AxisMap, horizontal: AxisMap) -> Tensor:
        ctx.maps = vertical, horizontal
        return (gpu_kernels if x.is_cuda else native).blur(x, vertical, horizontal)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        vertical, horizontal = ctx.maps
        return separable(grad, vertical.transpose(), horizontal.transpose()), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return separable(tangent, *ctx.maps)
