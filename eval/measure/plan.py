"""What is measured, and under which conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from steadypix.eval.measure.registry import MEASURES
from steadypix.eval.metrics.measure import Conditions, Measure
from steadypix.eval.shifts.offsets import Offset
from steadypix.sizes import Size, size_of

if TYPE_CHECKING:
    from steadypix.data.pairs.base import Pairs


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure."""

    asked: Mapping[str, Any]  # name of a measure -> its settings; the first protocol leads
    offsets: Sequence[Offset]  # shifts (dx, dy) in px along the axis
    map_offsets: Sequence[Offset] = ()  # further shifts of the (dx, dy) map, or none
    margins_px: Sequence[int] = (0, 16)  # borders left out, each reported
    batch_size: int = 8  # windows in one forward pass
    workers: int = 0  # processes that decode pictures
    seed: int = 0  # of the bootstrap and of everything random
    limit: int | None = None  # pictures used at most; None takes all
    device: str = "cpu"  # a torch device

    def count(self, pairs: Pairs) -> int:
        """Return how many of the pictures are measured."""
        return min(len(pairs), self.limit or len(pairs))

    def conditions(self, pairs: Pairs) -> Conditions:
        """Return what the measures on these pictures share."""
        return Conditions(
            canvas_px=size_of(*pairs.load_px),
            window_px=size_of(*pairs.crop_px),
            offsets=self.offsets,
            map_offsets=self.map_offsets,
            margins_px=self.margins_px,
            seed=self.seed,
        )

    def canvases_px(self, pairs: Pairs) -> dict[Size, list[str]]:
        """Return the measures by the size of the canvas that they need; 0 is that of `pairs`."""
        sizes: dict[Size, list[str]] = {0: []}
        for name, settings in self.asked.items():
            least = MEASURES[name].least_canvas_px(settings, size_of(*pairs.crop_px))
            sizes.setdefault(least, []).append(name)
        return sizes

    def make(self, names: Sequence[str], pairs: Pairs) -> dict[str, Measure]:
        """Return measures without numbers, for one generator.

        Raises:
            InputError: if nothing moves, or a shift, margin or window does not fit.
        """
        conditions = self.conditions(pairs)
        return {name: MEASURES[name].make(self.asked[name], conditions) for name in names}
