"""Where a picture's flat regions end: edges along one axis, at positions between pixels.

The picture is smoothed first, so that noise, JPEG and the ringing of a sinc move nothing. Of a step or a ramp
that makes a hump of differences, whose top, by the parabola through the logarithms of three of them (exact
for a Gaussian), is where the ramp crosses its middle.

Nothing is decided by a threshold alone: between no edge and an edge lies a presence from 0 to 1, so what
changes the picture a little changes what hangs on its edges a little.

Everything is local, made from sums of neighbours, comparisons and shifts: the same content gives the same
edges to the bit wherever it lies in the window, on any device, and compilers and exporters take it (ONNX has
no running minimum, so nearest edges are found by doubling distances).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

# [1 2 1] / 4 with so many px between its taps, one after the other: together nearly a Gaussian of 2.2 px.
LIGHTLY, FULLY = (1, 1, 2), (2,)
# From no edge to an edge: its jump on [-1, 1] after smoothing, and as a share of the strongest jump nearby.
# Where regions differ much, noise is no edge; roads of a map differ by less.
JUMP = (0.03, 0.09)
SHARE_OF_STRONGEST = (0.15, 0.4)
NEARBY_PX = 11
WINDOW_STEPS = (1, 2, 4, 8, 7)  # a maximum of two maxima so far apart, each: 1 + 22 samples
# Samples beyond a place and its neighbour that its edge should have. What lies further away, and is still
# smoothed into it, has under a tenth of the weight.
RAMP_REACH = 4
TINY = 1e-6


class Edges(NamedTuple):
    """Edges along the last axis. Place i lies between the samples i and i + 1.

    Attributes:
        presence: (B, H, W) in [0, 1], 0 where there is no edge.
        ramps: (B, H, W), bool, edges and those that the border may cut off.
        middle: (B, H, W), where the ramp's middle is, in px from the middle of its place.
        strongest: (B, H, W), the highest jump within `NEARBY_PX`.
    """

    presence: Tensor
    ramps: Tensor
    middle: Tensor
    strongest: Tensor


def find_edges(x: Tensor, *, circular: bool = False) -> Edges:
    """Find the edges along the last axis.

    Args:
        x: (B, C, H, W), nominally in [-1, 1], smoothed lightly and fully.
        circular: whether the last sample's neighbour is the first. Else an edge whose ramp the border may cut
            off is left out, for nobody knows its middle.
    """
    steps = differences(x, circular=circular)
    energy = steps.square().sum(1)
    height = energy.sqrt().clamp(min=TINY)
    # How far the next differences go the same way, in the measure of `height`.
    along = [(steps * ahead(steps, k, 0.0, circular=circular)).sum(1) for k in (1, 2)]
    after = [F.relu(product) / height for product in along]
    before = [
        F.relu(behind(product, k, 0.0, circular=circular)) / height for k, product in enumerate(along, 1)
    ]
    # A hump falls off from its top: what lies two apart counts no more than what lies between.
    total = height + after[0] + before[0]
    total = total + torch.minimum(after[1], after[0]) + torch.minimum(before[1], before[0])
    jump = total * steps.abs().amax(1) / height
    jump = torch.where(_tops(energy, along[0], circular=circular), jump, 0.0)
    strongest = window_max(jump, circular=circular)
    presence = _rise(jump, JUMP) * _rise(jump / strongest.clamp(min=TINY), SHARE_OF_STRONGEST)
    ramps = presence > 0
    if not circular:
        presence = presence * _inside(x.shape[-1], x.device)
    return Edges(presence, ramps, _top_of_parabola(before[0], height, after[0]), strongest)


def smooth(x: Tensor, dilations: Sequence[int], *, circular: bool = False) -> Tensor:
    """Smooth (B, C, H, W) along both axes: `LIGHTLY`, and then `FULLY`. Outermost samples repeat."""
    for dilation in dilations:
        for axis, padding in ((-1, (dilation, dilation, 0, 0)), (-2, (0, 0, dilation, dilation))):
            # Sums of two, not a convolution: libraries sum those in an order that depends on the place.
            if circular:
                left, right = torch.roll(x, dilation, axis), torch.roll(x, -dilation, axis)
            else:
                padded, size = F.pad(x, padding, mode="replicate"), x.shape[axis]
                left, right = padded.narrow(axis, 0, size), padded.narrow(axis, 2 * dilation, size)
            x = (left + right) * 0.25 + x * 0.5
    return x


def smoothstep(x: Tensor) -> Tensor:
    """Rise smoothly from 0 at 0 to 1 at 1, level beyond."""
    x = x.clamp(0, 1)
    return x * x * (3 - 2 * x)


def _rise(x: Tensor, over: tuple[float, float]) -> Tensor:
    low, high = over
    return smoothstep((x - low) / (high - low))


def differences(x: Tensor, *, circular: bool) -> Tensor:
    """Return what the next sample has more, of the shape of `x`; nothing lies behind the last."""
    if circular:
        return torch.roll(x, -1, -1) - x
    return F.pad(x[..., 1:] - x[..., :-1], (0, 1))


def _tops(energy: Tensor, along: Tensor, *, circular: bool) -> Tensor:
    """Whether a place is the steepest of its ramp, the first of equals. Shapes (B, H, W).

    Neighbours in the opposite direction belong to another edge: a line has two.
    """
    same = along > 0
    lower = same & (ahead(energy, 1, 0.0, circular=circular) > energy)
    higher = same & ~lower
    return ~lower & ~behind(higher, 1, False, circular=circular)


def _top_of_parabola(before: Tensor, height: Tensor, after: Tensor) -> Tensor:
    """Return where the parabola through three logarithms has its top, in [-1, 1] from the middle one."""
    left, middle, right = ((part + 1e-4 * height).log() for part in (before, height, after))
    bend = (2 * middle - left - right).clamp(min=1e-3)
    return ((right - left) / (2 * bend)).clamp(-1, 1)


def _inside(width: int, device: torch.device) -> Tensor:
    """Whether all that an edge at a place is computed from along its axis lies in the window, (width,)."""
    place = torch.arange(width, device=device)
    return (place >= RAMP_REACH) & (place < width - 1 - RAMP_REACH)


class Anchors(NamedTuple):
    """What lies on one side of each sample: the nearest edge, and the nearest of full presence.

    Attributes:
        distance: (2, B, H, W), to both in px, `2 ** doublings` where there is none. Within half a pixel of an
            edge it may be a little below 0.
        presence: (B, H, W), of the nearest.
    """

    distance: Tensor
    presence: Tensor


def nearest(edges: Edges, doublings: int, *, circular: bool = False) -> tuple[Anchors, Anchors]:
    """Return the edges before and behind each sample.

    Args:
        edges: along the last axis.
        doublings: edges further than `2 ** doublings` px away are not seen.
        circular: as in `find_edges`.
    """
    reach = 2**doublings
    far = float(reach)
    sides = []
    for sign in (-1, 1):
        place = 0.5 + sign * edges.middle
        weak = torch.where(edges.presence > 0, place, far)
        strong = torch.where(edges.presence >= 1, place, far)
        # Place i - 1 lies before sample i.
        around = (reach, -1) if sign < 0 else (0, reach - 1)
        near = _extended(torch.stack([weak, strong]), around, far, circular=circular)
        presence = _extended(edges.presence, around, 0.0, circular=circular)
        for k in range(doublings):
            here, there = _and_further(near, 2**k, sign)
            # A distance is summed in the same order wherever it lies, so it is the same to the bit.
            there = there + 2**k
            own, other = _and_further(presence, 2**k, sign)
            presence = torch.where(there[0] < here[0], other, own)
            near = torch.minimum(here, there)
        sides.append(Anchors(near.clamp(max=far), presence))
    return sides[0], sides[1]


def nearest_true(x: Tensor, doublings: int, *, circular: bool = False) -> tuple[Tensor, Tensor]:
    """Return how far the nearest True lies before and behind each sample, 0 where it is one itself."""
    reach = 2**doublings
    far = float(reach)
    sides = []
    for sign, around in ((-1, (reach - 1, 0)), (1, (0, reach - 1))):
        near = _extended(torch.where(x, 0.0, far), around, far, circular=circular)
        for k in range(doublings):
            here, there = _and_further(near, 2**k, sign)
            near = torch.minimum(here, there + 2**k)
        sides.append(near.clamp(max=far))
    return sides[0], sides[1]


def _extended(x: Tensor, around: tuple[int, int], fill: float, *, circular: bool) -> Tensor:
    """Add so many samples before and behind along the last axis; a negative count takes some away."""
    if circular:
        size = x.shape[-1]
        return x[..., torch.arange(-around[0], size + around[1], device=x.device) % size]
    return F.pad(x, around, value=fill)


def _and_further(x: Tensor, count: int, sign: int) -> tuple[Tensor, Tensor]:
    """Return all samples that have one `count` further along the last axis, and those; `sign` is the way."""
    first, last = x[..., :-count], x[..., count:]
    return (first, last) if sign > 0 else (last, first)


def ahead(x: Tensor, count: int, fill: float, *, circular: bool) -> Tensor:
    """Return what lies `count` samples further along the last axis."""
    size = x.shape[-1]
    if circular:
        return torch.roll(x, -(count % size), -1)
    return F.pad(x[..., min(count, size) :], (0, min(count, size)), value=fill)


def behind(x: Tensor, count: int, fill: float, *, circular: bool) -> Tensor:
    """Return what lies `count` samples before along the last axis."""
    size = x.shape[-1]
    if circular:
        return torch.roll(x, count % size, -1)
    return F.pad(x[..., : size - min(count, size)], (min(count, size), 0), value=fill)


def window_max(x: Tensor, *, circular: bool) -> Tensor:
    """Return the maximum of `x` (B, H, W), not negative, within `NEARBY_PX` samples along both axes."""
    for _ in range(2):
        x = _extended(x, (NEARBY_PX, NEARBY_PX), 0.0, circular=circular)
        for step in WINDOW_STEPS:
            x = torch.maximum(*_and_further(x, step, 1))
        x = x.transpose(-1, -2)
    return x
