"""Convolutions of small maps as matrix products, for the CPU.

The inner levels of a U-Net have millions of weights and a handful of pixels. A convolution library first
brings such weights into its own order, which reads and writes all of them at every pass; a product takes
them as they lie. Measured on two cores at batch 1, forward and backward: a quarter to three quarters of the
time (`benchmarks.training` has what that is of a step).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SMALL = (
    128  # pixels of the low-resolution map, all samples together; beyond, unfolding costs more than it saves
)


def conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, *, stride: int = 1) -> Tensor:
    """Return `F.conv2d(x, weight, bias, stride)`, of a small output by a product.

    Args:
        x: (B, C, H, W), padded already.
        weight: (C', C, k, k).
        bias: (C',) or None.
        stride: in samples.
    """
    kernel = weight.shape[-1]
    height, width = ((size - kernel) // stride + 1 for size in x.shape[-2:])
    if not _pays(x, weight, len(x) * height * width):
        return F.conv2d(x, weight, bias, stride)
    patches = F.unfold(x, kernel, stride=stride).transpose(1, 2)
    y = F.linear(patches, weight.flatten(1), bias)
    return y.transpose(1, 2).reshape(len(x), len(weight), height, width)


def conv_transpose2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    stride: int = 2,
    padding: int = 0,
    output_padding: int = 0,
) -> Tensor:
    """Return `F.conv_transpose2d` with these arguments, of a small input by a product.

    Args:
        x: (B, C, H, W).
        weight: (C, C', k, k).
        bias: (C',) or None.
        stride: in samples.
        padding: what is cut off around the output.
        output_padding: what of that is left at its end, at most `padding`.
    """
    if not _pays(x, weight, len(x) * x.shape[-2] * x.shape[-1]):
        return F.conv_transpose2d(x, weight, bias, stride, padding, output_padding)
    kernel = weight.shape[-1]
    patches = x.flatten(2).transpose(1, 2) @ weight.flatten(1)
    whole = ((x.shape[-2] - 1) * stride + kernel, (x.shape[-1] - 1) * stride + kernel)
    y = F.fold(patches.transpose(1, 2), whole, kernel, stride=stride)
    rows, columns = (slice(padding, size - padding + output_padding) for size in whole)
    y = y[..., rows, columns]
    return y if bias is None else y + bias[:, None, None]


def _pays(x: Tensor, weight: Tensor, pixels: int) -> bool:
    """Whether a product is the faster way; compilers and exporters get the convolution."""
    return (
        0 < pixels <= SMALL
        and x.device.type == "cpu"
        and type(x) is Tensor
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not torch.is_autocast_enabled("cpu")
        and weight.is_contiguous()
        and x.dtype in (torch.float32, torch.float64)
    )
