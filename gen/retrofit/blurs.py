"""The blurs that a retrofit hangs on modules, and how they are called: as children, by forward hooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from steadypix.gen.layers.resample import BlurPool2d
from steadypix.gen.retrofit.edits import Edits

BEFORE, AFTER, CALLS = "blur_before", "blur_after", "blur_calls"


class SpreadBlur2d(BlurPool2d):
    """A blur whose taps lie `spread` samples apart: (B, C, H, W) -> (B, C, H, W).

    Followed by narrower ones, it takes away what an upsampling by more than 2 repeats.

    Args:
        filter: taps by name, see `steadypix.gen.layers.filters`.
        spread: samples from tap to tap.
        padding: as of `BlurPool2d`.
        upward: as of `BlurPool2d`.
    """

    def __init__(self, *, filter: str, spread: int, padding: str, upward: bool) -> None:
        super().__init__(None, filter=filter, stride=1, padding=padding, upward=upward)
        self.spread = spread
        self.before, self.after = self.before * spread, self.after * spread

    def forward(self, x: Tensor) -> Tensor:
        """Blur `x` (B, C, H, W)."""
        self._check(x)
        return self.reference(x)

    def _convolve(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self._kernel_for(x), dilation=self.spread, groups=x.shape[1])

    def extra_repr(self) -> str:
        """Return the arguments shown by `print(module)`."""
        return f"{super().extra_repr()}, spread={self.spread}"


def blur_of(channels: int | None, filter: str, stride: int, padding: str) -> nn.Module:
    """Return the blur for a stride: of 4, 8, ... in steps of 2, because binomial taps cut one octave."""
    steps = [2] * (stride.bit_length() - 1) if stride > 1 and stride & (stride - 1) == 0 else [stride]
    blurs = [BlurPool2d(channels, filter=filter, stride=step, padding=padding) for step in steps]
    return blurs[0] if len(blurs) == 1 else nn.Sequential(*blurs)


def dense_blur_of(
    channels: int | None, filter: str, factor: float, padding: str, *, upward: bool
) -> nn.Module:
    """Return the blur at the higher of two resolutions that differ by a factor, an octave at a time.

    Going up by 4 it begins with taps 2 samples apart, going down it ends with them.
    """
    octaves = max(1, round(factor).bit_length() - 1)
    near = BlurPool2d(channels, filter=filter, stride=1, padding=padding, upward=upward)
    far = [
        SpreadBlur2d(filter=filter, spread=2**octave, padding=padding, upward=upward)
        for octave in range(1, octaves)
    ]
    if not far:
        return near
    return nn.Sequential(*far[::-1], near) if upward else nn.Sequential(near, *far)


class FloorPool(nn.Module):
    """A BlurPool of stride 2 that gives floor(H / 2), as the average pool whose place it takes."""

    def __init__(self, blur: nn.Module) -> None:
        super().__init__()
        self.blur = blur

    def forward(self, x: Tensor) -> Tensor:
        """Blur and subsample `x` (B, C, H, W), without a last odd row or column."""
        height, width = x.shape[-2:]
        return self.blur(x[..., : height // 2 * 2, : width // 2 * 2])


class CeilPool(nn.Module):
    """A BlurPool that gives as many samples as a pool with `ceil_mode` did.

    Args:
        blur: of the pool's stride.
        pool: says kernel, padding and dilation.
        stride: the pool had.
    """

    def __init__(self, blur: nn.Module, pool: nn.MaxPool2d | nn.AvgPool2d, stride: int) -> None:
        super().__init__()
        self.blur = blur
        self.stride = stride
        self.padding = pair(pool.padding)
        reaches = (pair(pool.kernel_size), pair(getattr(pool, "dilation", 1)))
        self.reach = tuple(d * (k - 1) for k, d in zip(*reaches, strict=True))

    def forward(self, x: Tensor) -> Tensor:
        """Blur and subsample a dense map (B, C, H, W); it is continued as far as the pool's last window."""
        extra = [self._missing(x.shape[axis - 2], axis) for axis in (0, 1)]
        if any(extra):
            x = F.pad(x, (0, extra[1], 0, extra[0]), mode="replicate")
        return self.blur(x)

    def _missing(self, dense: int, axis: int) -> int:
        before = dense + self.reach[axis] - 2 * self.padding[axis]
        windows = -(-(dense - 1) // self.stride) + 1
        if (windows - 1) * self.stride >= before + self.padding[axis]:  # it would start in the padding
            windows -= 1
        return max(0, (windows - 1) * self.stride + 1 - dense)


def pair(value: int | Sequence[int]) -> tuple[int, int]:
    """Return what is stated once for both axes, or twice, as two numbers."""
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def attach(edits: Edits, module: nn.Module, place: str, blur: nn.Module) -> None:
    """Hang a blur on a module, at `BEFORE` or `AFTER`, behind one that hangs there already."""
    known = getattr(module, place, None)
    if known is not None:  # a conv that blurs for the one before it, and for itself
        edits.set(module, place, nn.Sequential(known, blur))
        return
    edits.set(module, place, blur)
    if place == BEFORE:
        edits.hook_before(module, _blur_before)
    else:
        edits.hook_after(module, _blur_after)


def _blur_before(module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return (module.blur_before(args[0]), *args[1:])


def _blur_after(module: Any, args: tuple[Any, ...], output: Tensor) -> Tensor:
    blurred: Tensor = module.blur_after(output)
    return blurred
