"""Internal feature distance: where in a network equivariance to shifts is lost (Zhang 2019, figure 5).

d(F, X, dh, dw) = 1 - cos( Shift(up(F(X))), up(F(Shift(X))) ), the cosine over channels at every position, the
mean over positions and pictures. Shifts are circular. `up` brings a layer's map to the input's size, by the
paper's author's rule: twofold bilinear interpolation with circular borders, as often as it takes. So a
layer that subsamples by 4 and is perfectly anti-aliased scores 0 at every shift, and one that is not scores 0
at shifts by multiples of 4 alone.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steadypix.errors import InputError
from steadypix.eval.metrics.decibels import Array

ATTACHED = ("blur_before", "blur_after", "blur_calls", "wrap")  # what gen.retrofit hangs on a module


def layer_names(module: nn.Module, x: Tensor, *, depth: int = 2) -> list[str]:
    """Return the layers that are measured: modules `depth` names deep, and those above that hold none.

    Only those that give a map (B, C, H, W) of more than one sample count; in the order they are called. A
    `depth` of 2 takes the blocks of a ResNet and the layers of a VGG.
    """
    names = []
    for name, child in module.named_modules():
        parts = name.split(".")
        if not name or len(parts) > depth or any(part in ATTACHED for part in parts):
            continue
        if len(parts) == depth or all(key in ATTACHED for key, _ in child.named_children()):
            names.append(name)
    found = feature_maps(module, x, names)
    return list(dict.fromkeys(key.partition(":")[0] for key, output in found.items() if _is_map(output)))


def _is_map(output: Tensor) -> bool:
    return output.ndim == 4 and output[0, 0].numel() > 1


def feature_maps(module: nn.Module, x: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    """Return the outputs of some modules for one input, in the order of their calls; the second is `NAME:2`.

    What follows may write in place (`ReLU(inplace=True)`), so what is kept are copies.
    """
    maps: dict[str, Tensor] = {}

    def keep(_: nn.Module, __: Any, output: Any, *, name: str) -> None:
        if hasattr(output, "shape"):
            calls = 1 + sum(key.partition(":")[0] == name for key in maps)
            maps[name if calls == 1 else f"{name}:{calls}"] = output.detach().clone()

    with contextlib.ExitStack() as hooks, torch.inference_mode():
        for name in names:
            handle = module.get_submodule(name).register_forward_hook(functools.partial(keep, name=name))
            hooks.callback(handle.remove)
        module(x)
    return maps


def upsample_circular(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring a map (B, C, h, w) to `size` (H, W): twofold, bilinear, with circular borders, again and again.

    A size that is no power of two times the map's is reached by one more interpolation between circular
    neighbours, or by leaving out samples.
    """
    while 2 * x.shape[-2] <= size[0] and 2 * x.shape[-1] <= size[1]:
        x = _twice(_twice(x, -2), -1)
    for axis, side in ((-2, size[0]), (-1, size[1])):
        old = x.shape[axis]
        if old != side:
            # Places are found on the CPU, in doubles, which MPS lacks.
            place = (torch.arange(side, dtype=torch.float64) + 0.5) * old / side - 0.5
            low = place.floor()
            weight = (place - low).to(x).reshape((-1, 1) if axis == -2 else (-1,))
            first, second = (((low.long() + step) % old).to(x.device) for step in (0, 1))
            x = torch.lerp(x.index_select(axis, first), x.index_select(axis, second), weight)
    return x


def _twice(x: Tensor, axis: int) -> Tensor:
    # Samples at -1/4 and +1/4 of a step: the half-pixel rule of torch's own interpolation.
    nearer = 0.75 * x
    both = torch.stack([nearer + 0.25 * x.roll(step, axis) for step in (1, -1)], dim=-1)
    return both.flatten(-2) if axis == -1 else both.transpose(-1, -2).flatten(-3, -2)


def cosine_distance(a: Tensor, b: Tensor) -> Tensor:
    """Return 1 - cos over the channels of two maps (B, C, H, W), as (B, H, W) in [0, 2].

    Computed as half the squared distance of the normalised vectors, which is exactly 0 for equal ones. A
    vector of zeros lies at distance 0 from another, and at 1 from anything else. Computed in doubles, on the
    CPU where the maps are on MPS, which has none.
    """
    a, b = ((part.cpu() if part.device.type == "mps" else part).double() for part in (a, b))
    distance = (F.normalize(a, eps=1e-30) - F.normalize(b, eps=1e-30)).square().sum(1) / 2
    one_is_none = (a == 0).all(1) != (b == 0).all(1)
    return torch.where(one_is_none, torch.ones_like(distance), distance)


@dataclass
class FeatureDistance:
    """Distances of one network in eval mode, a batch of pictures after the other."""

    module: nn.Module
    names: Sequence[str]
    """of its layers, see `layer_names`"""
    moves: Sequence[tuple[int, int]]
    """(dx, dy) in px, dx right, dy down"""
    strides: dict[str, int] = field(default_factory=dict)
    """what each layer's map is smaller by than the input"""
    _sums: dict[str, Array] = field(default_factory=dict)
    _count: int = 0

    def add(self, x: Tensor) -> None:
        """Measure inputs (B, C, H, W), as the network takes them.

        Raises:
            InputError: naming a layer whose values are not finite.
        """
        size = (x.shape[-2], x.shape[-1])
        base = self._upsampled(x, size)
        for place, (dx, dy) in enumerate(self.moves):
            moved = self._upsampled(x.roll((dy, dx), (-2, -1)), size)
            for name, expected in base.items():
                distance = cosine_distance(expected.roll((dy, dx), (-2, -1)), moved[name])
                total = distance.mean((1, 2)).sum().item()
                if not np.isfinite(total):
                    raise InputError(f"{name}: gives values that are not finite (NaN or infinity)")
                self._sums.setdefault(name, np.zeros(len(self.moves)))[place] += total
        self._count += len(x)

    def result(self) -> dict[str, Array]:
        """Return layer -> mean distance for every move, (moves,)."""
        return {name: sums / self._count for name, sums in self._sums.items()}

    def _upsampled(self, x: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
        # A layer that is called again may give something else than a map then.
        outputs = feature_maps(self.module, x, self.names)
        maps = {name: output for name, output in outputs.items() if _is_map(output)}
        for name, found in maps.items():
            self.strides.setdefault(name, max(1, round(size[0] / found.shape[-2])))
        return {name: upsample_circular(found, size) for name, found in maps.items()}


def downsampling_layers(strides: dict[str, int]) -> list[str]:
    """Return the layers whose map is smaller than that of the layer before them."""
    found, least = [], 1
    for name, stride in strides.items():
        if stride > least:
            found.append(name)
            least = stride
    return found
