"""A generator on overlapping tiles, blended by ramps."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


def run_tiled(generator: nn.Module, x: Tensor, tile_px: int, batch_size: int) -> Tensor:
    """Run a generator on overlapping tiles and blend them with linear ramps.

    Tiles overlap by a quarter of their side at least. A network with instance norm sees each tile by
    itself, so tiles may differ in tone; the ramps hide the seam, not the difference.

    Args:
        generator: maps (B, C, h, w) to (B, C', h, w).
        x: (1, C, H, W) in [-1, 1].
        tile_px: side of a tile.
        batch_size: tiles in one forward pass.

    Returns:
        (1, C', H, W) in [-1, 1].
    """
    import torch

    height, width = x.shape[-2:]
    tile_y, tile_x = min(tile_px, height), min(tile_px, width)
    places = [(top, left) for top in starts(height, tile_y) for left in starts(width, tile_x)]
    weight = ramp(tile_y)[:, None] * ramp(tile_x)[None, :]
    weight = weight.to(x)
    total: Tensor | None = None
    weights = torch.zeros(1, 1, height, width, device=x.device, dtype=x.dtype)
    for first in range(0, len(places), batch_size):
        chunk = places[first : first + batch_size]
        outputs = generator(
            torch.cat([x[..., top : top + tile_y, left : left + tile_x] for top, left in chunk])
        )
        if total is None:
            total = outputs.new_zeros(1, outputs.shape[1], height, width)
        for (top, left), output in zip(chunk, outputs, strict=True):
            area = (..., slice(top, top + tile_y), slice(left, left + tile_x))
            total[area] += output * weight
            weights[area] += weight
    assert total is not None
    return total / weights


def starts(size: int, tile: int) -> list[int]:
    """Return evenly spread tile positions that cover `size` px with an overlap of at least a quarter."""
    if tile >= size:
        return [0]
    step = tile - tile // 4
    count = -(-(size - tile) // step) + 1
    return [round(place * (size - tile) / (count - 1)) for place in range(count)]


def ramp(size: int) -> Tensor:
    """Return weights (size,) that rise over the first quarter and fall over the last, never 0."""
    import torch

    distance = torch.minimum(torch.arange(size), torch.arange(size).flip(0)) + 1.0
    return (distance / max(size // 4, 1)).clamp(max=1.0)
