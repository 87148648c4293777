"""Context: a network sees some px more than what is kept of its output.

At the border of a picture a network sees padding where it expects content, so its output there changes with
every shift. With context that border lies outside of what is kept. Where a picture has no surroundings they
are mirrored from it, about the middle of its outermost px.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch.nn.functional as F
from torch import Tensor, nn

from steadypix.gen.large.strips import Strips

Map = TypeVar("Map", Tensor, Strips)


def mirrored(x: Map, rows: tuple[int, int], columns: tuple[int, int]) -> Map:
    """Return a picture with mirrored surroundings, however small it is.

    Args:
        x: (B, C, H, W).
        rows: px added above and below.
        columns: px added at the left and right.

    Returns:
        (B, C, H + sum(rows), W + sum(columns)).
    """
    made: Any = x
    for axis, (before, after) in enumerate((rows, columns)):
        size = x.shape[2 + axis]
        # One step mirrors all but the edge itself, and ends at a px that is again one to mirror at.
        reach, mode = (size - 1, "reflect") if size > 1 else (max(before, after), "replicate")
        while before or after:
            first, second = min(before, reach), min(after, reach)
            made = F.pad(made, (first, second, 0, 0) if axis else (0, 0, first, second), mode=mode)
            before, after = before - first, after - second
    return cast(Map, made)


def with_context(x: Map, context_px: int, run: Callable[[Map], Map]) -> Map:
    """Run something on a picture with mirrored surroundings, and cut those off what it gives.

    Args:
        x: (B, C, H, W) in [-1, 1].
        context_px: on each side.
        run: maps (B, C, h, w) to (B, C', h, w).

    Returns:
        (B, C', H, W).
    """
    height, width = x.shape[-2:]
    y = run(mirrored(x, (context_px, context_px), (context_px, context_px)))
    return y[..., context_px : context_px + height, context_px : context_px + width]


class WithContext(nn.Module):
    """A network that is given mirrored surroundings of its input: (B, C, H, W) -> (B, C', H, W).

    Args:
        network: takes pictures of any size.
        context_px: on each side.
    """

    def __init__(self, network: nn.Module, context_px: int) -> None:
        super().__init__()
        self.network = network
        self.context_px = context_px
        self.config: Any = getattr(network, "config", {})

    def forward(self, x: Tensor) -> Tensor:
        """Run the network on `x` with its surroundings."""
        return with_context(x, self.context_px, self.network)
