"""Tiles for networks that strips cannot look into: on the network's grid, with a halo that is cut off.

A tile begins at a multiple of the network's grid, so its layers sample where they would in the whole picture.
Each side that has a neighbour gives up half of the overlap: what lies there has seen the tile's border. At
the picture's edge a tile ends where the picture does. Norms inside go by a tile; nothing is blended.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from steadypix.errors import InputError
from steadypix.gen.large.context import mirrored
from steadypix.gen.large.maps import RowMap
from steadypix.gen.large.strips import Strips
from steadypix.gen.networks.resnet import N_DOWNS, ResnetGenerator
from steadypix.gen.networks.unet import UNetGenerator

LEAST_PX = 32  # of a tile's side
UNKNOWN_GRID = 32  # px, of a network that takes any size and does not say what its grid is
MULTIPLES = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # that a network's sides may have to be of
THRESHOLD = 2e-4  # root mean squared change of a column on [-1, 1] that counts as none: 80 dB
ABOVE_FLOOR = 2.0  # where all of a window changes, the reach ends where a column changes this much more


@dataclass(frozen=True)
class Span:
    """A tile along one axis, in px: what the network is given, and what is kept of its output."""

    start: int
    end: int
    keep_from: int
    keep_to: int


@dataclass(frozen=True)
class Tiles:
    """How a picture is cut.

    Attributes:
        tile_px: side of a tile, halo included.
        halo_px: what is cut off at least on each side that has a neighbour.
        grid_px: tiles begin at multiples of it.
        multiple: the network takes sides that are multiples of it; what lacks is mirrored.
        channels: of the network's output.
    """

    tile_px: int
    halo_px: int
    grid_px: int
    multiple: int
    channels: int

    def spans(self, size: int) -> list[Span]:
        """Return the tiles along an axis of `size` px."""
        starts = [0]
        while starts[-1] + self.tile_px < size:
            starts.append(starts[-1] + self.step_px)
        earlier = (size - LEAST_PX) // self.grid_px * self.grid_px
        if len(starts) > 1 and max(starts[-2] + 1, size - self.tile_px) <= earlier < starts[-1]:
            starts[-1] = earlier  # else the last one would be a sliver
        cuts = [0, *((a + self.tile_px + b) // 2 for a, b in itertools.pairwise(starts)), size]
        return [
            Span(start, min(start + self.tile_px, size), low, high)
            for start, (low, high) in zip(starts, itertools.pairwise(cuts), strict=True)
        ]

    @property
    def step_px(self) -> int:
        """From one tile to the next."""
        return (self.tile_px - 2 * self.halo_px) // self.grid_px * self.grid_px


@dataclass(frozen=True)
class Findings:
    """What windows of a picture say of a network.

    Attributes:
        reach_px: how far a change in the input changes the output by more than `THRESHOLD`.
        is_local: whether there is such an end; a norm that looks at all of the picture has none.
        neighbours_mse: where all changes, the mean squared difference of two neighbours' outputs where both
            are, in the middle of that; else 0.
    """

    reach_px: int
    is_local: bool
    neighbours_mse: float = 0.0


def grid_of(network: nn.Module) -> int:
    """Return the px by which a network's sampling repeats; 1 where that is not known."""
    if isinstance(network, UNetGenerator):
        return 2**network.num_downs
    return 2**N_DOWNS if isinstance(network, ResnetGenerator) else 1


def tiled_map(network: nn.Module, picture: Strips, tiles: Tiles) -> Strips:
    """Return the output of a network on tiles as a map, a row of tiles computed when its rows are read.

    Args:
        network: maps (1, C, h, w) to (1, C', h, w), in evaluation mode.
        picture: (1, C, H, W).
        tiles: how it is cut.
    """
    height, width = picture.shape[2:]
    down, across = tiles.spans(height), tiles.spans(width)
    made: dict[Span, Tensor] = {}  # the row of tiles that was made last

    def band(rows: Span) -> Tensor:
        if rows not in made:
            made.clear()
            x = picture.rows(rows.start, rows.end)
            parts = []
            for columns in across:
                y = run_whole(network, x[..., columns.start : columns.end], tiles.multiple)
                kept = slice(columns.keep_from - columns.start, columns.keep_to - columns.start)
                parts.append(y[:, :, rows.keep_from - rows.start : rows.keep_to - rows.start, kept])
            made[rows] = torch.cat(parts, dim=3)
        return made[rows]

    def read(top: int, bottom: int) -> Tensor:
        parts = []
        for rows in down:
            low, high = max(top, rows.keep_from), min(bottom, rows.keep_to)
            if low < high:
                parts.append(band(rows)[:, :, low - rows.keep_from : high - rows.keep_from])
        return torch.cat(parts, dim=2)

    return picture.lazily(read, (1, tiles.channels, height, width))


def run_whole(network: nn.Module, x: Tensor, multiple: int) -> Tensor:
    """Run a network on `x` (1, C, h, w), mirrored at the right and bottom to multiples, and cut to (h, w).

    Raises:
        InputError: if the output is of another size than the input.
    """
    height, width = x.shape[2:]
    full = mirrored(x, (0, -height % multiple), (0, -width % multiple))
    with torch.inference_mode():
        y = network(full)
    if y.shape[2:] != full.shape[2:]:
        found, given = (f"{size[1]} x {size[0]} px" for size in (y.shape[2:], full.shape[2:]))
        raise InputError(f"gives {found} for a tile of {given}; expected the same")
    return y[:, :, :height, :width]


def plan_tiles(
    network: nn.Module, picture: RowMap, *, tile_px: int, halo_px: int | None, side_px: int, grid_px: int
) -> tuple[Tiles, Findings | None]:
    """Find out how a picture is to be cut for a network.

    Args:
        network: maps (1, C, h, w) to (1, C', h, w), in evaluation mode.
        picture: (1, C, H, W); windows from its middle are what the network is looked at with.
        tile_px: side of a tile.
        halo_px: None measures it.
        side_px: the only side that the network takes; 0 for any.
        grid_px: its grid; 0 where it is not known.

    Returns:
        The tiles, and what was measured: None if one tile is all of the picture.

    Raises:
        InputError: if the network cannot take such tiles, saying what was expected.
    """
    if side_px and side_px != tile_px:
        raise InputError(f"takes tiles of {side_px} px only; expected --tile {side_px}")
    multiple = side_px or accepted_multiple(network, middle(picture, tile_px))
    tile_px = tile_px // multiple * multiple
    window = middle(picture, tile_px)
    output = run_whole(network, window, multiple)
    grid_px = grid_px or (multiple if 1 < multiple < tile_px else UNKNOWN_GRID)
    channels = output.shape[1]
    if max(picture.shape[2:]) <= tile_px:
        return Tiles(tile_px, 0, min(grid_px, tile_px), multiple, channels), None
    most = (tile_px - grid_px) // 2  # one step is one grid then
    if most < 0 or (halo_px or 0) > most:
        least = -(-(grid_px + 2 * (halo_px or 0)) // multiple) * multiple
        expected = f"--halo {most} or less" if side_px and most >= 0 else f"--tile {least} or more"
        raise InputError(
            f"--tile {tile_px}: leaves nothing beside a halo of {halo_px or 0} px on a grid of {grid_px} px; "
            f"expected {expected}"
        )
    found = measure(network, window, output, multiple)
    if not found.is_local:
        found = Findings(found.reach_px, False, neighbours_mse(network, picture, tile_px, grid_px, multiple))
    if halo_px is None:
        halo_px = min(found.reach_px, most, tile_px // 4)  # of more than a quarter most would be cut off
    return Tiles(tile_px, halo_px, grid_px, multiple, channels), found


def measure(network: nn.Module, window: Tensor, output: Tensor, multiple: int) -> Findings:
    """Change the left half of a window, and see how far the right half of the output changes.

    Args:
        network: maps (1, C, h, w) to (1, C', h, w).
        window: (1, C, S, S).
        output: what the network makes of it.
        multiple: see `Tiles`.
    """
    half = window.shape[3] // 2
    changed = window.clone()
    changed[..., :half] = window[..., :half].flip(2)  # other content of the same mean and variance
    if torch.equal(changed, window):
        changed[..., :half] = torch.where(window[..., :half] > 0, -1.0, 1.0).to(window)
    apart = run_whole(network, changed, multiple) - output
    by_column = apart[..., half:].double().square().mean((0, 1, 2)).sqrt()
    floor = float(by_column[-max(1, half // 8) :].median())  # as far away as the window allows
    is_local = floor <= THRESHOLD
    beyond = by_column > (THRESHOLD if is_local else ABOVE_FLOOR * floor)
    reach = int(beyond.nonzero().max()) + 1 if beyond.any() else 0
    return Findings(reach, is_local)


def neighbours_mse(network: nn.Module, picture: RowMap, tile_px: int, grid_px: int, multiple: int) -> float:
    """Return the mean squared difference of two tiles' outputs in the middle of where they overlap."""
    shift = max(grid_px, tile_px // 2 // grid_px * grid_px)
    axis = 3 if picture.shape[3] >= picture.shape[2] else 2
    size = [tile_px, tile_px]
    size[axis - 2] += shift
    both = middle(picture, *size)
    first, second = (run_whole(network, both.narrow(axis, at, tile_px), multiple) for at in (0, shift))
    shared = tile_px - shift
    if not shared:
        return 0.0
    cut = shared // 4
    first = first.narrow(axis, shift + cut, shared - 2 * cut)
    second = second.narrow(axis, cut, shared - 2 * cut)
    return float((first - second).double().square().mean())


def middle(picture: RowMap, height: int, width: int | None = None) -> Tensor:
    """Return the window (1, C, height, width) in the middle of a picture, completed by mirroring."""
    sizes = (height, height if width is None else width)
    (top, left) = (max(0, (side - size) // 2) for side, size in zip(picture.shape[2:], sizes, strict=True))
    x: Any = picture.rows(top, min(top + sizes[0], picture.shape[2]))[..., left : left + sizes[1]]
    return mirrored(x, (0, sizes[0] - x.shape[2]), (0, sizes[1] - x.shape[3]))


def accepted_multiple(network: nn.Module, window: Tensor) -> int:
    """Return the least of `MULTIPLES` whose multiples a network takes as sides.

    Raises:
        InputError: if it takes none within the window.
    """
    side = window.shape[3]
    reason = ""
    for multiple in MULTIPLES:
        odd = (side // multiple - 1) // 2 * 2 + 1  # the largest odd multiple within the window
        if odd < 1:
            break
        part = window[..., : odd * multiple, : odd * multiple]
        try:
            run_whole(network, part, 1)
            return multiple
        except (InputError, RuntimeError) as error:  # a network of torch raises the latter at a sum or cat
            reason = " ".join(str(error).split())[:200]
    raise InputError(f"takes no tiles of {side} px and less ({reason}); expected another --tile")
