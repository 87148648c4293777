"""Convolutions as matrix products where a library is slow at them, for the CPU.

The inner levels of a U-Net have millions of weights and a handful of pixels. A convolution library first
brings such weights into its own order, which reads and writes all of them at every pass; a product takes
them as they lie. The outermost level of `blur_late` has the opposite: three channels from a hundred at full
size, which leaves a library's registers empty; there one product makes all taps' shares, which are then
added, each at its place. Measured on two cores at batch 1, forward and backward: a quarter to three quarters
of the time (`benchmarks.step.compare` has what that is of a step). Dense convolutions between the two have
`steadypix.gen.kernels.winograd` while training.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from steadypix.gen.kernels import winograd

SMALL = (
    128  # pixels of the low-resolution map, all samples together; beyond, unfolding costs more than it saves
)
FEW = 4  # output channels of a conv that is a sum of shifted products


def conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, *, stride: int = 1, padding: int = 0) -> Tensor:
    """Return `F.conv2d(x, weight, bias, stride, padding)`, by a product where that is faster.

    Args:
        x: (B, C, H, W).
        weight: (C', C, k, k).
        bias: (C',) or None.
        stride: in samples.
        padding: zeros around `x`.
    """
    if x.device.type != "cpu":  # no padded copy there
        return F.conv2d(x, weight, bias, stride, padding)
    if padding:
        x = F.pad(x, (padding,) * 4)
    kernel = weight.shape[-1]
    height, width = ((size - kernel) // stride + 1 for size in x.shape[-2:])
    if not _usable(x, weight):
        return F.conv2d(x, weight, bias, stride)
    if stride == 1 and len(weight) <= FEW and height * width > SMALL:
        return _few_outputs(x, weight, bias)
    if not 0 < len(x) * height * width <= SMALL:
        if stride == 1 and torch.is_grad_enabled() and winograd.pays(x, weight):
            return winograd.conv2d(x, weight, bias)
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
    if not (_usable(x, weight) and _is_small(x)):
        return F.conv_transpose2d(x, weight, bias, stride, padding, output_padding)
    kernel = weight.shape[-1]
    patches = x.flatten(2).transpose(1, 2) @ weight.flatten(1)
    whole = ((x.shape[-2] - 1) * stride + kernel, (x.shape[-1] - 1) * stride + kernel)
    y = F.fold(patches.transpose(1, 2), whole, kernel, stride=stride)
    rows, columns = (slice(padding, size - padding + output_padding) for size in whole)
    y = y[..., rows, columns]
    return y if bias is None else y + bias[:, None, None]


def flipped_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the dense convolution inside of a transposed one, `F.conv2d` with its kernel turned around.

    Args:
        x: (B, C, H, W), padded already.
        weight: (C, C', k, k), as a transposed convolution has it.
        bias: (C',) or None.
    """
    if _usable(x, weight) and _is_small(x):  # turning millions of weights around takes longer than using them
        return conv_transpose2d(x, weight, bias, stride=1, padding=weight.shape[-1] - 1)
    return conv2d(x, weight.flip(2, 3).transpose(0, 1), bias)


def _is_small(x: Tensor) -> bool:
    return 0 < len(x) * x.shape[-2] * x.shape[-1] <= SMALL


def _few_outputs(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve sample by sample, which keeps what the taps give within the cache."""
    outputs, channels, kernel, _ = weight.shape
    taps = weight.permute(2, 3, 0, 1).reshape(-1, channels)
    height, width = (size - kernel + 1 for size in x.shape[-2:])

    def convolved(sample: Tensor) -> Tensor:
        shares = (taps @ sample.flatten(1)).view(kernel, kernel, outputs, *sample.shape[-2:])
        y = shares[0, 0, :, :height, :width]
        for tap in range(1, kernel**2):
            i, j = divmod(tap, kernel)
            y = y + shares[i, j, :, i : i + height, j : j + width]
        return y

    y = torch.stack([convolved(sample) for sample in x])
    return y if bias is None else y + bias[:, None, None]


def _usable(x: Tensor, weight: Tensor) -> bool:
    """Whether other ways than torch's are open; compilers and exporters get the convolution."""
    return (
        x.device.type == "cpu"
        and type(x) is Tensor
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not torch.is_autocast_enabled("cpu")
        # Not channels-last weights. Those of `blur_late` are a transposed conv's, seen from the other side.
        and (weight.is_contiguous() or weight.transpose(0, 1).is_contiguous())
        and x.dtype in (torch.float32, torch.float64)
    )
