"""The pictures of an evaluation on their way to the networks: decoded by workers, one at a time."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from data.command import one_line
from data.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from data.pairs import Pairs
    from eval.evaluate import Plan


def canvases(
    pairs: Pairs, indices: Sequence[int], plan: Plan, skipped: list[str] | None = None
) -> Iterator[tuple[int, str, Tensor, Tensor]]:
    """Yield (index, name, input, target) of some pictures, (1, C, S, S) on the device.

    With `pairs.on_error` `skip` those that cannot be read are passed over. Where `skipped` is given, the
    reason is said on stderr and added to it.

    Raises:
        InputError: if a picture cannot be read and `pairs.on_error` is `fail`.
    """
    from torch.utils.data import DataLoader
    from tqdm import tqdm

    loader: DataLoader[Any] = DataLoader(
        _Canvases(pairs, indices),  # type: ignore[arg-type]
        batch_size=None,
        num_workers=plan.workers,
    )
    for index, text, source, target in loader:
        if source is not None:
            yield index, text, source[None].to(plan.device), target[None].to(plan.device)
        elif skipped is not None:
            tqdm.write(f"skipped {text}", file=sys.stderr)
            skipped.append(text)


class _Canvases:
    def __init__(self, pairs: Pairs, indices: Sequence[int]) -> None:
        self.pairs = pairs
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> tuple[int, str, Tensor | None, Tensor | None]:
        """Return index, name, input and target; of an unreadable picture to be skipped, index and reason."""
        index = self.indices[place]
        try:
            return (index, self.pairs.name(index), *self.pairs.canvas(index))
        except InputError as error:
            if self.pairs.on_error == "fail":
                raise
            return index, one_line(error), None, None
