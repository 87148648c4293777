"""Borders for networks that are written down once for all sizes: no decision depends on a picture's size.

An exporter follows one picture through a network and records what it sees. `pad2d` mirrors a large map and
repeats a small one; only one of the two would be recorded, and the program would be wrong for other sizes.
Within `sizes_open` borders are looked up by computed places instead, where all sizes do not pad alike.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steadypix.gen.layers import resample
from steadypix.gen.layers.resample import BlurPool2d, BlurUpsample2d

_open = False


@contextlib.contextmanager
def sizes_open() -> Iterator[None]:
    """Let the networks of this package compute their borders for any size. Not for threads."""
    global _open  # noqa: PLW0603 - compilers can look at a module's name, not at a context variable
    before, _open = _open, True
    try:
        yield
    finally:
        _open = before


def are_open() -> bool:
    """Whether a network is being written down for any size."""
    return _open


def for_any_size(network: nn.Module) -> nn.Module:
    """Return a copy of a network whose blurs can be written down for any size, their taps as constants."""
    network = copy.deepcopy(network)
    for module in network.modules():
        for kind, twin in ((BlurPool2d, _OpenBlurPool2d), (BlurUpsample2d, _OpenBlurUpsample2d)):
            if type(module) is kind:
                module.__class__ = twin
    return network


def pad2d(x: Tensor, before: int, after: int, mode: str) -> Tensor:
    """Do what `steadypix.gen.layers.resample.pad2d` does, within `sizes_open` for any size."""
    if not _open or before == after == 0 or mode == "zeros":
        return resample.pad2d(x, before, after, mode)
    reach = max(before, after)
    if _known(x.shape[-2] > reach) and _known(x.shape[-1] > reach):
        return F.pad(x, (before, after, before, after), mode=mode)
    for axis in (-2, -1):
        x = x.index_select(axis, _places(x.shape[axis], before, after, reach, mode, x.device))
    return x


def completed(x: Tensor, height: int, width: int) -> Tensor:
    """Complete `x` (B, C, H, W) at the right and bottom, as `completed` of `networks.levels` does."""
    for axis, side in ((-2, height), (-1, width)):
        size = x.shape[axis]
        x = x.index_select(axis, _places(size, 0, side - size, side - size, "reflect", x.device))
    return x


def larger(size: int, least: int) -> int:
    """Return the larger of a size of a map and a number."""
    if not _open:
        return max(size, least)
    if torch.jit.is_tracing():  # sizes are tensors there
        return torch.as_tensor(size).clamp(min=least)  # type: ignore[return-value]
    return torch.sym_max(size, least)


def cropped(x: Tensor, height: int, width: int) -> Tensor:
    """Return the first rows and columns of `x` (B, C, H, W)."""
    if not _open:
        return x[..., :height, :width]
    return x.narrow(-2, 0, height).narrow(-1, 0, width)


def _places(size: int, before: int, after: int, reach: int, mode: str, device: torch.device) -> Tensor:
    """Return which samples of an axis a padded one shows."""
    place = torch.arange(-before, size + after, device=device)
    if mode == "circular":
        return place % size
    last = size - 1
    repeated = place.clamp(0, last)
    if mode == "replicate":
        return repeated
    mirrored = last - (last - place.abs()).abs()
    # Mirroring needs an axis that is longer than its pad.
    return torch.where(torch.full((), size, device=device) > reach, mirrored, repeated)


def _known(condition: object) -> bool:
    """Whether a condition on sizes holds for all of them."""
    if torch.jit.is_tracing():  # it tells of one size alone
        return False
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    return bool(statically_known_true(condition))  # type: ignore[arg-type]


class _OpenBlurPool2d(BlurPool2d):
    def forward(self, x: Tensor) -> Tensor:
        return self.unpadded(pad2d(x, self.before, self.after, self.padding))

    def unpadded(self, x: Tensor) -> Tensor:
        return F.conv2d(x, _kernel(self, x), stride=self.stride, groups=self.channels or x.shape[1])


class _OpenBlurUpsample2d(BlurUpsample2d):
    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        reach = max(self.before, self.after)
        x = pad2d(x, reach, reach, self.padding)
        crop = 2 * reach + (self.taps - 1) // 2
        groups = self.channels or x.shape[1]
        x = F.conv_transpose2d(x, _kernel(self, x), stride=2, groups=groups)
        return x[..., crop : crop + 2 * height, crop : crop + 2 * width]


def _kernel(blur: BlurPool2d | BlurUpsample2d, x: Tensor) -> Tensor:
    """Return the taps as they lie in the layer: older exporters want a constant, of a constant size."""
    return blur.kernel if blur.channels else blur.kernel.expand(x.shape[1], -1, -1, -1)
