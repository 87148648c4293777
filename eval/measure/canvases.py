"""The pictures of an evaluation on their way to the networks: decoded by workers, one at a time."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from steadypix.errors import InputError, one_line

if TYPE_CHECKING:
    from torch import Tensor

    from steadypix.data.pairs.base import Pairs
    from steadypix.eval.measure.plan import Plan

Halves = tuple["Tensor", "Tensor"]  # input and target


def canvases(
    sizes: Sequence[Pairs], indices: Sequence[int], plan: Plan, skipped: list[str] | None = None
) -> Iterator[tuple[int, str, list[Halves]]]:
    """Yield (index, name, halves at every size) of some pictures, (1, C, S, S) on the device.

    With `on_error` `skip` those that cannot be read are passed over. Where `skipped` is given, the reason is
    said on stderr and added to it.

    Args:
        sizes: the same pictures, opened at one or more sizes.
        indices: which of them.
        plan: says device and workers.
        skipped: takes the reasons.

    Raises:
        InputError: if a picture cannot be read and `on_error` is `fail`.
    """
    from torch.utils.data import DataLoader
    from tqdm import tqdm

    loader: DataLoader[Any] = DataLoader(
        _Canvases(sizes, indices),  # type: ignore[arg-type]
        batch_size=None,
        num_workers=plan.workers,
    )
    for index, text, pictures in loader:
        if pictures is not None:
            yield index, text, [(x[None].to(plan.device), y[None].to(plan.device)) for x, y in pictures]
        elif skipped is not None:
            tqdm.write(f"skipped {text}", file=sys.stderr)
            skipped.append(text)


class _Canvases:
    def __init__(self, sizes: Sequence[Pairs], indices: Sequence[int]) -> None:
        self.sizes = sizes
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> tuple[int, str, list[Halves] | None]:
        """Return index, name and pictures; of an unreadable picture to be skipped, index and reason."""
        index = self.indices[place]
        try:
            # Two measures may ask for one size: it is decoded once.
            read = {id(pairs): pairs.canvas(index) for pairs in {id(p): p for p in self.sizes}.values()}
            return index, self.sizes[0].name(index), [read[id(pairs)] for pairs in self.sizes]
        except InputError as error:
            if self.sizes[0].on_error == "fail":
                raise
            return index, one_line(error), None
