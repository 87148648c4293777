"""The pictures of an evaluation at every size that its measures need, and the windows they show."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from steadypix.errors import InputError, one_line
from steadypix.eval.measure.plan import Plan
from steadypix.eval.metrics.measure import Label, Measure
from steadypix.eval.shifts.protocols import Crop
from steadypix.sizes import Size, sides, size_of

if TYPE_CHECKING:
    from torch import Tensor

    from steadypix.data.pairs.base import Pairs

Halves = tuple["Tensor", "Tensor | None"]  # input and target
BASE = Label("base", (0, 0), "base")


@dataclass(frozen=True)
class Stage:
    """Pictures at one size, and the measures that look at them."""

    pairs: Pairs  # the pictures
    names: Sequence[str]  # of the measures

    def base(self, canvas: Tensor) -> Tensor:
        """Return the unshifted window of a picture (1, C, H, W)."""
        return Crop(size_of(*self.pairs.load_px), size_of(*self.pairs.crop_px)).base(canvas)

    def target(self, canvas: Tensor | None, output: Tensor | None) -> Tensor | None:
        """Return what an output should be; None where that is not known.

        Of a target that is larger than the output, its middle: what valid convolutions leave.
        """
        if canvas is None or output is None:
            return None if canvas is None else self.base(canvas)
        window, (height, width) = self.base(canvas), output.shape[-2:]
        top, left = (window.shape[-2] - height) // 2, (window.shape[-1] - width) // 2
        return window[..., top : top + height, left : left + width] if min(top, left) >= 0 else None

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


def open_stages(plan: Plan, pairs: Pairs, reopen: Callable[[Size], Pairs]) -> list[Stage]:
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
        fits = all(least <= side for least, side in zip(sides(least_px), pairs.load_px, strict=True))
        wide = pairs if fits else reopen(least_px)
        stages.append(Stage(wide, names))
        plan.make(names, wide)
    return stages


def pictures(
    stages: Sequence[Stage], indices: Sequence[int], plan: Plan, skipped: list[str] | None = None
) -> Iterator[tuple[int, str, list[Halves]]]:
    """Yield (index, name, halves for every stage) of some pictures, (1, C, S, S) on the device.

    With `on_error` `skip` those that cannot be read are passed over. Where `skipped` is given, the reason is
    said on stderr and added to it.

    Raises:
        InputError: if a picture cannot be read and `on_error` is `fail`.
    """
    from torch.utils.data import DataLoader
    from tqdm import tqdm

    from steadypix.data.pairs.sampler import ignore_signals

    decoded: Any = _Canvases([stage.pairs for stage in stages], indices)
    loader: DataLoader[Any] = DataLoader(
        decoded, batch_size=None, num_workers=plan.workers, worker_init_fn=ignore_signals
    )
    for index, text, halves in loader:
        if halves is not None:
            device = plan.device
            yield (
                index,
                text,
                [(x[None].to(device), None if y is None else y[None].to(device)) for x, y in halves],
            )
        elif skipped is not None:
            tqdm.write(f"skipped {text}", file=sys.stderr)
            skipped.append(text)


@dataclass
class _Canvases:
    """What a worker decodes: some pictures, opened at one or more sizes."""

    sizes: Sequence[Pairs]
    indices: Sequence[int]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> tuple[int, str, list[Halves] | None]:
        """Return index, name and pictures; of an unreadable picture to be skipped, index and reason."""
        index = self.indices[place]
        try:
            # Two measures may ask for one size: it is decoded once.
            read = {id(pairs): pairs.shown(index) for pairs in {id(p): p for p in self.sizes}.values()}
            return index, self.sizes[0].name(index), [read[id(pairs)] for pairs in self.sizes]
        except InputError as error:
            if self.sizes[0].on_error == "fail":
                raise
            return index, one_line(error), None
