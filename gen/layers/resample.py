"""Anti-aliased resampling layers (Zhang 2019, section 3.2): low-pass first, then subsample.

Geometry, shared by all layers here and by the generator: a filter of `k` taps pads `(k - 1) // 2`
before and `k // 2` after going down, and the other way round going up. Even filters are centred
between two samples, so this makes one level down plus one level up move a feature by 0 px.

Borders: going up, the map is padded at *low* resolution, before the zeros are inserted. Padding the
zero-filled grid instead would repeat or skip zeros at the border and break the DC gain there.

`reference` of each layer is the obvious statement: pad, convolve. `gen.kernels.fast_blur` computes the same
faster, wherever a compiled kernel is at hand.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steadypix.gen.kernels import fast_blur
from steadypix.gen.kernels.axis_map import blur_map, upsample_map, valid_map
from steadypix.gen.layers.filters import binomial_taps

Padding = Literal["zeros", "reflect", "replicate", "circular"]
PADDINGS: tuple[str, ...] = get_args(Padding)


def pad2d(x: Tensor, before: int, after: int, mode: str) -> Tensor:
    """Pad the last two axes of `x` by `before` (top, left) and `after` (bottom, right) samples.

    Unlike `F.pad`, a small map never fails: `circular` wraps by modulo index however large the pad is,
    and `reflect` falls back to `replicate` on an axis that is not longer than its pad.

    Args:
        x: (B, C, H, W).
        before: samples added at the top and at the left.
        after: samples added at the bottom and at the right.
        mode: `zeros`, `reflect`, `replicate` or `circular`.

    Returns:
        (B, C, H + before + after, W + before + after).

    Raises:
        ValueError: if `mode` is unknown.
    """
    if mode not in PADDINGS:
        raise ValueError(f"padding {mode!r} is unknown; expected one of {', '.join(PADDINGS)}")
    if before == after == 0:
        return x
    if mode == "zeros":
        return F.pad(x, (before, after, before, after))
    reach = max(before, after)
    height, width = x.shape[-2:]
    # torch 2.13 compiles the backward pass of replicate padding into code that fails on some layouts.
    compiled = mode == "replicate" and torch.compiler.is_compiling()
    if reach < min(height, width) and not compiled:
        return F.pad(x, (before, after, before, after), mode=mode)
    for axis, size in ((-2, height), (-1, width)):
        if mode == "circular":
            x = x.index_select(axis, torch.arange(-before, size + after, device=x.device) % size)
        elif mode == "replicate" or reach >= size:
            x = _replicate(x, axis, before, after)
        else:
            x = F.pad(x, (before, after, 0, 0) if axis == -1 else (0, 0, before, after), mode=mode)
    return x


def _replicate(x: Tensor, axis: int, before: int, after: int) -> Tensor:
    """Repeat the first and the last sample of an axis."""
    sizes = [-1] * x.ndim
    first, last = x.narrow(axis, 0, 1), x.narrow(axis, x.shape[axis] - 1, 1)
    sizes[axis] = before
    parts = [first.expand(sizes), x]
    sizes[axis] = after
    return torch.cat([*parts, last.expand(sizes)], dim=axis)


class _Blur(nn.Module):
    """What the blur layers share: checked arguments and the 2-D kernel as a non-persistent buffer."""

    kernel: Tensor

    def __init__(self, channels: int | None, filter: str, padding: str) -> None:
        super().__init__()
        if channels is not None and channels < 1:
            raise ValueError(f"channels must be at least 1, not {channels}")
        if padding not in PADDINGS:
            raise ValueError(f"padding {padding!r} is unknown; expected one of {', '.join(PADDINGS)}")
        # Also where a network is built on the meta device: the taps are in no file that could fill them in.
        taps = torch.tensor(binomial_taps(filter), dtype=torch.float64, device="cpu")
        self.channels = channels
        self.filter = filter
        self.padding = padding
        self.taps = len(taps)
        kernel = torch.outer(taps, taps).to(torch.get_default_dtype())
        kernel = kernel.expand(channels or 1, 1, -1, -1).contiguous()
        self.register_buffer("kernel", kernel, persistent=False)

    def _check(self, x: Tensor) -> None:
        if x.ndim != 4 or self.channels not in (None, x.shape[1]):
            raise ValueError(
                f"{type(self).__name__} was built for (B, {self.channels or 'C'}, H, W), got {tuple(x.shape)}"
            )

    def _kernel_for(self, x: Tensor) -> Tensor:
        """Return the kernel (C, 1, taps, taps) for a map of C channels."""
        return self.kernel.to(x.dtype).expand(x.shape[1], -1, -1, -1)

    def extra_repr(self) -> str:
        """Return the arguments shown by `print(module)`."""
        return f"{self.channels}, filter={self.filter!r}, padding={self.padding!r}"


class BlurPool2d(_Blur):
    """Low-pass every channel, then keep every `stride`-th sample (Zhang 2019, section 3.2, "BlurPool").

    Input `(B, C, H, W)`, output `(B, C, ceil(H / stride), ceil(W / stride))`, for odd and even
    filters alike. DC gain is 1 up to the border for every padding but `zeros`.

    Args:
        channels: C; None takes maps of any number of channels.
        filter: taps by name, see `steadypix.gen.layers.filters`.
        stride: subsampling factor; 1 only blurs.
        padding: `reflect`, `replicate`, `circular` or `zeros`.
        upward: use the alignment of the way up (an even filter shifts by half a sample to the other
            side), for a blur that follows an upsampling.

    Raises:
        ValueError: for an unknown filter or padding, `stride` < 1, or an input of other channels.
    """

    def __init__(
        self,
        channels: int | None,
        *,
        filter: str = "bin5",
        stride: int = 2,
        padding: str = "reflect",
        upward: bool = False,
    ) -> None:
        super().__init__(channels, filter, padding)
        if stride < 1:
            raise ValueError(f"stride must be at least 1, not {stride}")
        self.stride = stride
        self.upward = upward
        short, long = (self.taps - 1) // 2, self.taps // 2
        self.before, self.after = (long, short) if upward else (short, long)

    def forward(self, x: Tensor) -> Tensor:
        """Blur and subsample `x` (B, C, H, W)."""
        self._check(x)
        if not fast_blur.usable(x):
            return self.reference(x)
        maps = (blur_map(n, self.filter, self.stride, self.padding, self.upward) for n in x.shape[-2:])
        return fast_blur.separable(x, *maps)

    def reference(self, x: Tensor) -> Tensor:
        """Do the same as `forward`, slowly: pad, then convolve."""
        return self._convolve(pad2d(x, self.before, self.after, self.padding))

    def unpadded(self, x: Tensor) -> Tensor:
        """Blur and subsample a map that already carries `before` and `after` samples around it."""
        if not fast_blur.usable(x):
            return self._convolve(x)
        return fast_blur.separable(x, *(valid_map(n, self.filter, self.stride) for n in x.shape[-2:]))

    def _convolve(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self._kernel_for(x), stride=self.stride, groups=x.shape[1])


class MaxBlurPool2d(nn.Module):
    """Dense max pooling, then `BlurPool2d` (Zhang 2019, eq. 7: the anti-aliased max pool).

    Input `(B, C, H, W)`, output `(B, C, ceil(H / stride), ceil(W / stride))`. The max window reaches
    `(kernel_size - 1) // 2` samples before and `kernel_size // 2` after, past the border by the same
    padding as the blur.

    Args:
        channels: C; None takes maps of any number of channels.
        kernel_size: side of the max window in samples.
        filter: taps by name, see `steadypix.gen.layers.filters`.
        stride: subsampling factor of the blur; the max itself is dense.
        padding: `reflect`, `replicate`, `circular` or `zeros`.

    Raises:
        ValueError: as `BlurPool2d`, and for `kernel_size` < 1.
    """

    def __init__(
        self,
        channels: int | None,
        *,
        kernel_size: int = 2,
        filter: str = "bin5",
        stride: int = 2,
        padding: str = "reflect",
    ) -> None:
        super().__init__()
        if kernel_size < 1:
            raise ValueError(f"kernel_size must be at least 1, not {kernel_size}")
        self.kernel_size = kernel_size
        self.blur = BlurPool2d(channels, filter=filter, stride=stride, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        """Max-pool densely, blur and subsample `x` (B, C, H, W)."""
        x = pad2d(x, (self.kernel_size - 1) // 2, self.kernel_size // 2, self.blur.padding)
        return self.blur(F.max_pool2d(x, self.kernel_size, stride=1))


class BlurUpsample2d(_Blur):
    """Insert zeros between samples, then low-pass (the transpose of `BlurPool2d`'s down-sampling).

    Input `(B, C, H, W)`, output `(B, C, 2H, 2W)`. The weightless layer multiplies by 4 to give back
    what the zeros took: a constant stays that constant, also at the border (but for `zeros`).
    With `gain=1` it is the interpolator inside the generator, whose convolutions carry the factor.

    Args:
        channels: C; None takes maps of any number of channels.
        filter: taps by name, see `steadypix.gen.layers.filters`.
        padding: applied to the low-resolution map, before the zeros are inserted.
        gain: the factor on the blurred grid.

    Raises:
        ValueError: for an unknown filter or padding, or an input of other channels.
    """

    def __init__(
        self, channels: int | None, *, filter: str = "bin5", padding: str = "reflect", gain: float = 4.0
    ) -> None:
        super().__init__(channels, filter, padding)
        self.gain = gain
        self.kernel.mul_(gain)
        # Samples beyond the border that a tap can reach, in low-resolution steps.
        self.before = self.taps // 4
        self.after = ((self.taps - 1) // 2 + 1) // 2

    def forward(self, x: Tensor) -> Tensor:
        """Upsample `x` (B, C, H, W) twofold."""
        self._check(x)
        if self.gain <= 0 or not fast_blur.usable(x):
            return self.reference(x)
        maps = (upsample_map(n, self.filter, self.padding, self.gain**0.5) for n in x.shape[-2:])
        return fast_blur.separable(x, *maps)

    def reference(self, x: Tensor) -> Tensor:
        """Do the same as `forward`, slowly: pad, then insert zeros and convolve."""
        height, width = x.shape[-2:]
        reach = max(self.before, self.after)
        x = pad2d(x, reach, reach, self.padding)
        # A depthwise transposed conv is zero-insertion and blur in one, without the zero-filled grid.
        # Its sample 2 * reach + (taps - 1) // 2 is the first of the output (taps are symmetric).
        crop = 2 * reach + (self.taps - 1) // 2
        x = F.conv_transpose2d(x, self._kernel_for(x), stride=2, groups=x.shape[1])
        return x[..., crop : crop + 2 * height, crop : crop + 2 * width]
