"""Texture that moves with the scene: fixed noise looked up at the distances to the nearest edges.

A generator that commutes with shifts can only answer a flat region with a flat region. These carriers give it
something to make texture from: at each pixel, noise at (signed distance to an edge along the row, the same
along the column), so that shifting the picture shifts the noise, by whole pixels to the bit, by fractions as
far as the noise is band-limited. Only an edge that enters or leaves the window changes anything.

Half-way between two edges the noise of one fades into that of the other, at a constant loudness. An edge of
little presence leaves the rest of its weight to the next one behind it. Where an axis has no edge within
reach, or nothing is flat (a photo), the carriers fade to 0: noise by one coordinate alone would be stripes.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steadypix.gen.layers.edges import (
    FULLY,
    LIGHTLY,
    Anchors,
    Edges,
    ahead,
    behind,
    differences,
    find_edges,
    nearest,
    nearest_true,
    smooth,
    smoothstep,
)

DOUBLINGS = 6
REACH_PX = 2**DOUBLINGS  # of an anchor
FADES_FROM = 0.3  # of the reach. An edge that enters the window far away changes little.
LENDS = 0.9  # power of the weights from which on a sample lends its distances to its neighbours
CROSSFADE = 0.2  # of the way between two edges
SAMPLES_PER_PX = 4  # of the noise: halves and quarters of a pixel fall on samples, the rest is bilinear
BAND = (0.25, 0.45)  # cycles/px where the finest octave begins and has ended to fall off
LOUDNESS = 0.5  # standard deviation of a carrier where all anchors are near
# A difference of neighbours, lightly smoothed, that is no longer flat, on [-1, 1]: for itself, and more
# beside high edges, so that noise leaves a label map flat.
FLAT, FLAT_BY_EDGE = 0.01, 0.08
FLAT_WINDOW_PX = 15
FLAT_SHARE = (0.15, 0.3)  # of that window: from none to all of the loudness
MAX_CHANNELS = 16
MAX_OCTAVES = 4
SEED = 0x57EAD1


class AnchoredTexture(nn.Module):
    """Carriers of texture: (B, C, H, W) -> (B, channels, H, W), a function of the window alone.

    Has no weights and lets no gradient through. Computed in float32 at least, whatever the input.

    Args:
        channels: carriers; they take the octaves in turn.
        octaves: bands of the noise; each next one is half as fine.
        circular: whether the picture goes on at the opposite border.

    Raises:
        ValueError: for a count that is out of range.
    """

    table: Tensor

    def __init__(self, channels: int = 4, *, octaves: int = 2, circular: bool = False) -> None:
        super().__init__()
        if not 1 <= channels <= MAX_CHANNELS or not 1 <= octaves <= MAX_OCTAVES:
            raise ValueError(
                f"texture_channels {channels}, texture_octaves {octaves}: expected 1 to {MAX_CHANNELS} "
                f"and 1 to {MAX_OCTAVES}"
            )
        self.channels = channels
        self.octaves = octaves
        self.circular = circular
        self.register_buffer("table", noise_table(channels, octaves).clone(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the carriers of `x` (B, C, H, W) in [-1, 1], of its dtype."""
        if not isinstance(x, Tensor):  # a picture that is read by rows, see `steadypix.gen.large.strips`
            return x.by_strips(
                self, self.channels, REACH_PX + 32
            )  # smoothing and flatness see beyond an anchor
        picture = x.detach()
        if picture.dtype not in (torch.float32, torch.float64):
            picture = picture.float()
        light = smooth(picture, LIGHTLY, circular=self.circular)
        picture = smooth(light, FULLY, circular=self.circular)
        rows = find_edges(picture, circular=self.circular)
        columns = find_edges(picture.transpose(-1, -2), circular=self.circular)
        noise = self._look_up(*_both_axes(rows, columns, circular=self.circular))
        return (noise * flatness(light, rows, columns, circular=self.circular)[:, None]).to(x.dtype)

    def _look_up(self, across: Tensor, down: Tensor) -> Tensor:
        """Mix the noise of all pairs of distances, of candidates (2, 2, B, H, W)."""
        batch, height, width = across.shape[2:]
        pairs = torch.broadcast_tensors(across[:, :, None], down[:, None])
        (x, y), weights = (one[0] for one in pairs), pairs[0][1] * pairs[1][1]
        # One lookup for all: the table's own coordinates are px over the reach, in [-1, 1].
        grid = (torch.stack([x, y], dim=-1) / REACH_PX).reshape(1, -1, width, 2)
        table = self.table.to(grid.dtype)[None]
        noise = F.grid_sample(table, grid, mode="bilinear", padding_mode="border", align_corners=True)
        noise = noise.reshape(self.channels, 4, batch, height, width)
        return (noise * weights.reshape(4, batch, height, width)).sum(1).transpose(0, 1)

    def extra_repr(self) -> str:
        """Return the arguments shown by `print(module)`."""
        return f"{self.channels}, octaves={self.octaves}, circular={self.circular}"


def _both_axes(rows: Edges, columns: Edges, *, circular: bool) -> tuple[Tensor, Tensor]:
    """Return what counts along the rows and along the columns, borrowed where an axis has nothing.

    Here and below, candidates are (2, K, B, H, W): K distances in px to edges before (positive) or behind
    (negative), and their weights.
    """
    across = between(*nearest(rows, DOUBLINGS, circular=circular))
    down = between(*nearest(columns, DOUBLINGS, circular=circular))
    # Each axis borrows along the other one.
    across = with_borrowed(across.transpose(-1, -2), circular=circular)
    down = with_borrowed(down.transpose(-1, -2), circular=circular)
    return across.transpose(-1, -2), down


def between(before: Anchors, after: Anchors) -> Tensor:
    """Return the two candidates that count most of the edges before and those behind.

    The squares of the weights sum to 1 between near edges of full presence and to 0 out of their reach.
    """
    left, right = (torch.stack([side.presence, 1 - side.presence]) for side in (before, after))
    near, far = before.distance.clamp(min=0)[:, None], after.distance.clamp(min=0)[None]
    share = near / (near + far).clamp(min=1e-3)
    power = smoothstep((share - 0.5) / CROSSFADE + 0.5)
    both = left[:, None] * right[None]
    weight = torch.cat([(both * (1 - power).sqrt()).sum(1), (both * power.sqrt()).sum(0)])
    weight = weight * _fade(torch.cat([before.distance, after.distance]))
    return loudest_two(torch.stack([torch.cat([before.distance, -after.distance]), weight]))


def loudest_two(four: Tensor) -> Tensor:
    """Return the two candidates of highest weight out of four, at each place, the highest first."""
    higher, lower = _ordered(four[:, ::2], four[:, 1::2])
    first, second = _ordered(higher[:, 0], higher[:, 1])
    rest = torch.where(higher[1, 1] > higher[1, 0], lower[:, 1], lower[:, 0])
    return torch.stack([first, torch.where(rest[1] > second[1], rest, second)], dim=1)


def _ordered(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    swap = b[1] > a[1]
    return torch.where(swap, b, a), torch.where(swap, a, b)


def with_borrowed(own: Tensor, *, circular: bool) -> Tensor:
    """Let samples without an edge along one axis take the distances of their nearest neighbour across it.

    A band that crosses the whole window has no edge along it, but what stands on it has. One coordinate alone
    would make stripes; a neighbour's moves with the scene as well.

    Args:
        own: two candidates, the axis across last.
        circular: as in `find_edges`.

    Returns:
        The two that count most of its own and the neighbour's, laid out as they came.
    """
    power = own[1].square().sum(0).clamp(max=1)
    before, behind_it = nearest_true(power > LENDS, DOUBLINGS, circular=circular)
    size = power.shape[-1]
    place = torch.arange(size, device=power.device)
    step = torch.where(before <= behind_it, -before, behind_it)
    source = (place + step.long()) % size if circular else (place + step.long()).clamp(0, size - 1)
    distance, weight = own.gather(-1, source.expand_as(own))
    lent = torch.stack([distance, weight * (_fade(step.abs()) * smoothstep(1 - power))])
    return loudest_two(torch.cat([own, lent], dim=1))


def _fade(distance: Tensor) -> Tensor:
    return 1 - smoothstep((distance / REACH_PX - FADES_FROM) / (1 - FADES_FROM))


def flatness(light: Tensor, rows: Edges, columns: Edges, *, circular: bool = False) -> Tensor:
    """Return where carriers belong, (B, H, W) in [0, 1]: 1 in and beside regions that are flat but for edges.

    Args:
        light: (B, C, H, W), the picture, lightly smoothed.
        rows: edges along the rows.
        columns: edges along the columns, transposed as they were found.
        circular: as in `find_edges`.
    """
    limit = FLAT + FLAT_BY_EDGE * torch.maximum(rows.strongest, columns.strongest.transpose(-1, -2))
    calm_x, near_x = _calm(light, rows, limit, circular=circular)
    calm_y, near_y = _calm(light.transpose(-1, -2), columns, limit.transpose(-1, -2), circular=circular)
    calm = torch.where(near_x | near_y.transpose(-1, -2), 0.0, calm_x * calm_y.transpose(-1, -2))[:, None]
    half = FLAT_WINDOW_PX // 2
    for axis, (reach_y, reach_x) in ((-1, (0, half)), (-2, (half, 0))):
        if circular:
            around = [torch.roll(calm, k % calm.shape[axis], axis) for k in range(-half, half + 1)]
            calm = functools.reduce(torch.add, around) / len(around)  # in one order everywhere
        else:
            window, padding = (2 * reach_y + 1, 2 * reach_x + 1), (reach_y, reach_x)
            calm = F.avg_pool2d(calm, window, stride=1, padding=padding, count_include_pad=False)
    low, high = FLAT_SHARE
    return smoothstep((calm[:, 0] - low) / (high - low))


def _calm(light: Tensor, edges: Edges, limit: Tensor, *, circular: bool) -> tuple[Tensor, Tensor]:
    """Return how flat it is about each sample along one axis, and whether an edge's ramp lies there."""
    steps = differences(light, circular=circular).abs().amax(1)
    before = behind(steps, 1, 0.0, circular=circular)
    quiet = (-(torch.maximum(steps, before) / limit).square()).exp()
    # A sample's ramp may be centred up to two places before or one behind its own.
    near = edges.ramps | ahead(edges.ramps, 1, False, circular=circular)
    for k in (1, 2):
        near = near | behind(edges.ramps, k, False, circular=circular)
    return quiet, near


@functools.lru_cache(maxsize=8)
def noise_table(channels: int, octaves: int) -> Tensor:
    """Return band-limited noise (channels, N, N) over distances of -REACH_PX..REACH_PX px, rows downwards.

    The same numbers everywhere: NumPy keeps the raw stream of a bit generator from version to version.
    Each carrier has the standard deviation `LOUDNESS` and no direction of its own.
    """
    size = 2 * REACH_PX * SAMPLES_PER_PX
    frequency = np.fft.fftfreq(size, 1 / SAMPLES_PER_PX)  # cycles/px
    radius = np.hypot(frequency[:, None], frequency[None, : size // 2 + 1])
    planes = []
    for channel in range(channels):
        raw = np.random.Philox(key=SEED + channel).random_raw(size * size)
        white = (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53 - 0.5
        scale = 2.0 ** (channel % octaves)
        fall = np.clip((radius * scale - BAND[0]) / (BAND[1] - BAND[0]), 0, 1)
        spectrum = np.fft.rfft2(white.reshape(size, size)) * np.cos(fall * np.pi / 2) ** 2
        spectrum[0, 0] = 0
        plane = np.fft.irfft2(spectrum, s=(size, size))
        planes.append(np.pad(plane * (LOUDNESS / plane.std()), (0, 1), mode="wrap"))
    # Not where a network is built on the meta device: the noise is in no file that could fill it in.
    return torch.tensor(np.stack(planes), dtype=torch.float32, device="cpu")
