"""A network applied to a picture of any size, strip by strip, exactly as if it were applied at once.

`Strips` stands in for a tensor (1, C, H, W). A network's own forward pass, run on it, computes nothing: it
builds maps that know how to make their rows from rows of others. Rows are made when somebody reads them. A
map is put on disk only where it must be: before a norm, whose statistics need all of it, and where two
readers wait for it. So statistics are those of the whole picture, there are no tiles and no seams, and
memory holds a few strips.

torch hands every function called on such an object to `Strips.__torch_function__`; what is not listed in
`steadypix.gen.large.functions` is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from steadypix.gen.large.functions import FUNCTIONS
from steadypix.gen.large.maps import NotInStrips, RowMap
from steadypix.gen.large.workspace import Workspace


class Strips(RowMap):
    """A map that stands in for a tensor (1, C, H, W) where a network's own code runs on it."""

    requires_grad = False
    is_cuda = False

    @property
    def ndim(self) -> int:
        """4."""
        return 4

    @property
    def dtype(self) -> torch.dtype:
        """Of the rows."""
        return self.like.dtype

    def dim(self) -> int:
        """Return 4."""
        return 4

    def size(self, axis: int | None = None) -> Any:
        """Return the shape, or the size of one axis."""
        return self.shape if axis is None else self.shape[axis]

    def detach(self) -> Strips:
        """Return this map: nothing here has a gradient."""
        return self

    contiguous = detach

    def to(self, dtype: torch.dtype) -> Strips:
        """Return this map, of the dtype it has.

        Raises:
            NotInStrips: for another dtype.
        """
        if dtype != self.dtype:
            raise NotInStrips(f"a map of {self.dtype} turned into {dtype}")
        return self

    def narrow(self, axis: int, start: int, length: int) -> Strips:
        """Return a part along one axis of a small map."""
        return Strips.of(self.whole().narrow(axis, start, length), self.workspace)

    def expand(self, sizes: Sequence[int]) -> Strips:
        """Return a small map whose axes of size 1 are repeated."""
        return Strips.of(self.whole().expand(*sizes), self.workspace)

    def index_select(self, axis: int, places: Tensor) -> Strips:
        """Return these rows, columns or channels of a small map."""
        return Strips.of(self.whole().index_select(axis, places), self.workspace)

    def by_strips(self, function: Callable[[Tensor], Tensor], channels: int, reach_px: int) -> Strips:
        """Return what a function of the same size makes of each strip with its surroundings.

        Args:
            function: maps (1, C, h, W) to (1, channels, h, W); a row depends on rows within `reach_px`.
            channels: of its output.
            reach_px: rows on either side.
        """
        self.store()

        def read(top: int, bottom: int) -> Tensor:
            first, end = max(0, top - reach_px), min(self.shape[2], bottom + reach_px)
            return function(self.rows(first, end))[:, :, top - first : bottom - first]

        return self.lazily(read, (1, channels, *self.shape[2:]))

    def __getattr__(self, name: str) -> Any:
        raise NotInStrips(f"the method {name} on a map that is made in strips")

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: Any) -> Strips:
        index = index if isinstance(index, tuple) else (index,)
        if Ellipsis in index:
            place = index.index(Ellipsis)
            index = (*index[:place], *[slice(None)] * (5 - len(index)), *index[place + 1 :])
        index = (*index, *[slice(None)] * (4 - len(index)))
        if not all(isinstance(part, slice) for part in index) or index[0] != slice(None):
            raise NotInStrips(f"the index {index}")
        _, channels, rows, columns = index
        first, end, step = rows.indices(self.shape[2])
        if step != 1:
            raise NotInStrips(f"rows with a step of {step}")
        shape = (1, len(range(self.shape[1])[channels]), end - first, len(range(self.shape[3])[columns]))
        return self.lazily(
            lambda top, bottom: self.rows(first + top, first + bottom)[:, channels, :, columns], shape
        )

    def __add__(self, other: Any) -> Any:
        return FUNCTIONS[torch.add](self, other)

    def __mul__(self, other: Any) -> Any:
        return FUNCTIONS[torch.mul](self, other)

    __radd__, __rmul__ = __add__, __mul__

    def __sub__(self, other: Any) -> Any:
        return FUNCTIONS[torch.sub](self, other)

    def __neg__(self) -> Any:
        return FUNCTIONS[torch.neg](self)

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function not in FUNCTIONS:
            name = getattr(function, "__name__", str(function))
            raise NotInStrips(f"the function {name} on a map that is made in strips")
        return FUNCTIONS[function](*args, **(kwargs or {}))


def run_in_strips(
    network: nn.Module, picture: Tensor | Strips, workspace: Workspace, *, begin: int = 0
) -> Iterator[Tensor]:
    """Yield the output of a network by strips of rows, from top to bottom.

    Equal to `network(picture)` but for rounding: sums are taken in another order.

    Args:
        network: maps (1, C, H, W) to (1, C', H', W'), in evaluation mode.
        picture: (1, C, H, W); a `Strips` where it is read from a file.
        workspace: see `Workspace`.
        begin: the first row that is wanted, where an earlier strip ended.

    Yields:
        (1, C', rows, W').

    Raises:
        NotInStrips: if the network does what strips cannot; the message names it.
    """
    with torch.inference_mode():
        y = output_map(network, picture if isinstance(picture, Strips) else Strips.of(picture, workspace))
        for top, bottom in y.strips(begin):
            yield y.rows(top, bottom)


def output_map(network: nn.Module, picture: Strips) -> Strips:
    """Return the output of a network as a map, which is made when it is read; what must be stored is.

    Raises:
        NotInStrips: if the network does what strips cannot; the message names it.
    """
    with torch.inference_mode():
        try:
            y = network(picture)
        except TypeError as error:  # an operator or an argument that a map does not take
            raise NotInStrips(f"an operation on a map that is made in strips ({error})") from error
    if not isinstance(y, Strips):
        raise NotInStrips(f"an output that is no map, but {type(y).__name__}")
    return y
