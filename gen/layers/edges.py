"""Where a picture's flat regions end: edges along one axis, at positions between pixels.

The picture is smoothed first: what noise, JPEG and the ringing of a sinc leave lies at the highest
frequencies, which the binomial filter takes out. Of a step or a ramp it makes a hump of differences, whose
top, by the parabola through the logarithms of three of them (exact for a Gaussian), is where the ramp crosses
its middle.

Everything is local, made from sums of neighbours, comparisons and shifts: the same content gives the same
edges to the bit wherever it lies in the window, on any device, and compilers and exporters take it (ONNX has
no running maximum, so nearest edges are found by doubling distances).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

LEAST_JUMP = 0.2  # on [-1, 1]: 25 of 255 grey levels
SHARE_OF_STRONGEST = 0.3  # of the strongest jump nearby, about which JPEG leaves noise
NEARBY_PX = 6  # 1 + 2 + 3, see `window_max`
RAMP_REACH = 4  # samples beyond a place and its neighbour that its edge is computed from
TINY = 1e-6


class Edges(NamedTuple):
    """Edges along the last axis. Place i lies between the samples i and i + 1.

    Attributes:
        found: (B, H, W), bool.
        ramps: (B, H, W), bool, `found` and those that the border may cut off.
        middle: (B, H, W), where the ramp's middle is, in px from the middle of its place.
        steps: (B, H, W), the largest difference of the two samples over the channels, unsmoothed.
        strongest: (B, H, W), the highest jump within `NEARBY_PX` along the axis.
    """

    found: Tensor
    ramps: Tensor
    middle: Tensor
    steps: Tensor
    strongest: Tensor


def find_edges(x: Tensor, *, circular: bool = False) -> Edges:
    """Find the edges along the last axis.

    Args:
        x: (B, C, H, W), nominally in [-1, 1].
        circular: whether the last sample's neighbour is the first. Else an edge whose ramp the border may cut
            off is left out, for nobody knows its middle.
    """
    steps = _differences(_smoothed(x, circular=circular), circular=circular)
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
    peak = _tops(energy, along[0], circular=circular) & (jump > LEAST_JUMP)
    strongest = window_max(torch.where(peak, jump, 0.0), circular=circular)
    ramps = peak & (jump > SHARE_OF_STRONGEST * strongest)
    return Edges(
        ramps if circular else ramps & _inside(x.shape[-2], x.shape[-1], x.device),
        ramps,
        _top_of_parabola(before[0], height, after[0]),
        _differences(x, circular=circular).abs().amax(1),
        strongest,
    )


def _smoothed(x: Tensor, *, circular: bool) -> Tensor:
    """Smooth by [1 4 6 4 1] / 16 along the last axis and [1 2 1] / 4 across; outermost samples repeat."""
    for axis, repeats in ((-1, 2), (-2, 1)):
        for _ in range(repeats):
            # Sums of two, not a convolution: libraries sum those in an order that depends on the place.
            first, last = x.narrow(axis, 0, 1), x.narrow(axis, x.shape[axis] - 1, 1)
            size = x.shape[axis]
            left = (
                torch.roll(x, 1, axis) if circular else torch.cat([first, x.narrow(axis, 0, size - 1)], axis)
            )
            right = (
                torch.roll(x, -1, axis) if circular else torch.cat([x.narrow(axis, 1, size - 1), last], axis)
            )
            x = (left + right) * 0.25 + x * 0.5
    return x


def _differences(x: Tensor, *, circular: bool) -> Tensor:
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


def _inside(height: int, width: int, device: torch.device) -> Tensor:
    """Whether all that an edge at a place is computed from lies in the window, (height, width)."""
    row, place = torch.arange(height, device=device), torch.arange(width, device=device)
    along = (place >= RAMP_REACH) & (place < width - 1 - RAMP_REACH)
    return along & ((row > 0) & (row < height - 1))[:, None]


def nearest(edges: Edges, doublings: int, *, circular: bool = False) -> tuple[Tensor, Tensor]:
    """Return how far the nearest edge before and behind each sample is.

    Args:
        edges: along the last axis.
        doublings: edges further than `2 ** doublings` px away are not seen.
        circular: as in `find_edges`.

    Returns:
        Two (B, H, W) in px, `2 ** doublings` where there is none. An edge within half a pixel of a sample
        may have a small negative distance.
    """
    far = float(2**doublings)
    left = torch.where(edges.found, 0.5 - edges.middle, far)
    right = torch.where(edges.found, 0.5 + edges.middle, far)
    return _spread(behind(left, 1, far, circular=circular), right, doublings, circular=circular)


def nearest_true(x: Tensor, doublings: int, *, circular: bool = False) -> tuple[Tensor, Tensor]:
    """Return how far the nearest True lies before and behind each sample, 0 where it is one itself."""
    start = torch.where(x, 0.0, float(2**doublings))
    return _spread(start, start, doublings, circular=circular)


def _spread(left: Tensor, right: Tensor, doublings: int, *, circular: bool) -> tuple[Tensor, Tensor]:
    """Let distances grow along the last axis, to the right and to the left, from the samples that have one.

    A distance is summed in the same order wherever it lies, so it is the same to the bit.
    """
    far = float(2**doublings)
    for k in range(doublings):
        left = torch.minimum(left, behind(left, 2**k, far, circular=circular) + 2**k)
        right = torch.minimum(right, ahead(right, 2**k, far, circular=circular) + 2**k)
    return left.clamp(max=far), right.clamp(max=far)


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
    """Return the maximum of `x` (B, H, W), not negative, within `NEARBY_PX` samples along the last axis."""
    left = right = x
    for k in (1, 2, 3):  # windows of 2, 4 and 7 samples
        left = torch.maximum(left, behind(left, k, 0.0, circular=circular))
        right = torch.maximum(right, ahead(right, k, 0.0, circular=circular))
    return torch.maximum(left, right)
