"""The pictures of an evaluation at every size that its measures need, and the windows they show."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from steadypix.eval.measure.canvases import canvases
from steadypix.eval.measure.plan import Plan
from steadypix.eval.metrics.measure import Label, Measure
from steadypix.eval.shifts.protocols import Crop

if TYPE_CHECKING:
    from torch import Tensor

    from steadypix.data.pairs.base import Pairs

BASE = Label("base", (0, 0), "base")


@dataclass(frozen=True)
class Stage:
    """Pictures at one size, and the measures that look at them.

    Attributes:
        pairs: the pictures.
        names: of the measures.
    """

    pairs: Pairs
    names: Sequence[str]

    def base(self, canvas: Tensor) -> Tensor:
        """Return the unshifted window of a picture (1, C, S, S)."""
        return Crop(self.pairs.load_size, self.pairs.crop_size).base(canvas)

    def inputs(self, measures: Mapping[str, Measure], canvas: Tensor, index: int) -> Iterator[Tensor]:
        """Yield all that a network must see of one picture: the unshifted window first, where wanted."""
        first = [self.base(canvas)] if self.has_base(measures) else []
        return itertools.chain(first, *(measures[name].windows(canvas, index) for name in self.names))

    def labels(self, measures: Mapping[str, Measure], index: int) -> list[Label]:
        """Return what each of `inputs` shows."""
        first = [BASE] if self.has_base(measures) else []
        return [*first, *(label for name in self.names for label in measures[name].labels(index))]

    def has_base(self, measures: Mapping[str, Measure]) -> bool:
        """Whether any of the measures wants the output for the unshifted window."""
        return any(measures[name].needs_base for name in self.names)


def open_stages(plan: Plan, pairs: Pairs, reopen: Callable[[int], Pairs]) -> list[Stage]:
    """Return the stages of an evaluation, that of `pairs` first.

    Args:
        plan: what is measured.
        pairs: the pictures at the size that the generators know.
        reopen: opens them again, with sides of so many px at least.

    Raises:
        InputError: if a measure does not fit, before any work is done.
    """
    stages = []
    for least_px, names in plan.canvases_px(pairs).items():
        wide = reopen(least_px) if least_px > pairs.load_size else pairs
        stages.append(Stage(wide, names))
        plan.make(names, wide)
    return stages


def pictures(
    stages: Sequence[Stage], indices: Sequence[int], plan: Plan, skipped: list[str] | None = None
) -> Iterator[tuple[int, str, list[tuple[Tensor, Tensor]]]]:
    """Yield (index, name, input and target (1, C, S, S) on the device for every stage); see `canvases`."""
    return canvases([stage.pairs for stage in stages], indices, plan, skipped)
