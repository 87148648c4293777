"""A map (1, C, H, W) that is made by rows when somebody reads them, and stored where it must be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Self

import torch
from torch import Tensor

from steadypix.gen.large.journal import GROUP_STRIPS
from steadypix.gen.large.workspace import Kept, Moments, Read, Workspace

SMALL = 1 << 16  # samples of a map that may always be held at once


class NotInStrips(RuntimeError):
    """A network does what strips cannot: a function that is not listed, a batch of several."""


class RowMap:
    """A map (1, C, H, W) that is made by rows.

    Args:
        read: returns rows (1, C, bottom - top, W) of it.
        shape: (1, C, H, W).
        like: a tensor of its dtype and device.
        workspace: of the whole run.
        stored: whether reading is a matter of copying.
        row_samples: what the widest of the maps behind it holds for a row of it.
    """

    def __init__(
        self,
        read: Read,
        shape: Sequence[int],
        like: Tensor,
        workspace: Workspace,
        *,
        stored: bool = False,
        row_samples: float = 0,
    ) -> None:
        if shape[0] != 1:
            raise NotInStrips(f"a batch of {shape[0]}; expected one picture at a time")
        self.shape = torch.Size(shape)
        self.like = like
        self.workspace = workspace
        self.stored = stored
        self.row_samples = max(row_samples, shape[1] * shape[3])
        self._read = read
        self._moments: tuple[Tensor, Tensor] | None = None
        self._left_out = False  # as whatever needs it was made by the run that this one goes on with
        self._group = workspace.group
        # The rows that were read last: the next reader wants some of them again.
        self._top, self._rows = 0, like.new_empty(1, shape[1], 0, shape[3])

    @classmethod
    def of(cls, picture: Tensor, workspace: Workspace) -> Self:
        """Return a picture (1, C, H, W) that lies in memory as such a map."""
        return cls(
            lambda top, bottom: picture[..., top:bottom, :], picture.shape, picture, workspace, stored=True
        )

    @property
    def device(self) -> torch.device:
        """Where rows are computed."""
        return self.like.device

    def whole(self) -> Tensor:
        """Return all rows at once, of a map at an inner level of a network that is a few samples wide.

        Raises:
            NotInStrips: if the map is larger than what the workspace keeps in memory.
        """
        if self.shape.numel() > max(self.workspace.keep_samples, SMALL):
            raise NotInStrips(f"a map of {tuple(self.shape)} at once")
        return self.rows(0, self.shape[2])

    def rows(self, top: int, bottom: int) -> Tensor:
        """Return the rows from `top` to before `bottom`; those that were read last are not made again."""
        if bottom <= top:
            return self.like.new_empty(1, self.shape[1], 0, self.shape[3])
        if self.stored:
            return self._read(top, bottom)
        if self._group != self.workspace.group:
            self._group, self._rows = self.workspace.group, self._rows[:, :, :0]
        first, end = self._top, self._top + self._rows.shape[2]
        if first <= top < end < bottom:
            rows = torch.cat([self._rows[:, :, top - first :], self._read(end, bottom)], dim=2)
        elif first <= top and bottom <= end:
            return self._rows[:, :, top - first : bottom - first]
        else:
            rows = self._read(top, bottom)
        self._top, self._rows = top, rows
        return rows

    def lazily(self, read: Read, shape: Sequence[int], *, rows_a_row: float = 1.0) -> Self:
        """Return a map that is made from this one when it is read, of which a row takes `rows_a_row`."""
        samples = self.row_samples * rows_a_row
        return type(self)(read, shape, self.like, self.workspace, row_samples=samples)

    @property
    def strip_rows(self) -> int:
        """The rows of a strip that all maps behind this one can take."""
        return max(1, int(self.workspace.strip_samples // self.row_samples))

    def strips(self, begin: int = 0) -> Iterator[tuple[int, int]]:
        """Yield the first row and the row behind the last of every strip from row `begin` on.

        Under a journal the rows that were made last are forgotten before every group of strips.
        """
        rows = self.strip_rows
        for top in range(begin, self.shape[2], rows):
            if self.workspace.journal is not None and top // rows % GROUP_STRIPS == 0:
                self.workspace.group += 1
            yield top, min(top + rows, self.shape[2])

    def ends_group(self, bottom: int) -> bool:
        """Whether a run can go on at this row."""
        return bottom == self.shape[2] or bottom % (self.strip_rows * GROUP_STRIPS) == 0

    def store(self) -> Self:
        """Make all rows now and keep them, with the moments of every channel; return this map."""
        if self.stored or self._left_out:
            return self
        workspace = self.workspace
        moments = Moments(self.shape[1], self.device)
        if workspace.tally is not None:
            self._moments = moments.result()
            self._read, self.stored = workspace.tally.add(self), True
            self.row_samples = self.shape[1] * self.shape[3]
            return self
        record = None if workspace.journal is None else workspace.journal.next_map()
        if record is not None:
            moments.restore(record.facts)
            workspace.made(-(-record.rows // self.strip_rows))
        if record is not None and record.done and not record.path.exists():
            self._left_out = True
        else:
            keep = Kept(self.shape, self.like, workspace, record)
            for top, bottom in self.strips(record.rows if record else 0):
                rows = self.rows(top, bottom)
                if workspace.moments:
                    moments.add(rows)
                keep.write(top, rows)
                workspace.made(1)
                if record is not None and self.ends_group(bottom):
                    record.keep(bottom, done=bottom == self.shape[2], **moments.facts())
            self._read, self.stored = keep.read, True
        self._moments = moments.result() if moments.count else None
        self.row_samples = self.shape[1] * self.shape[3]
        self._rows = self._rows[:, :, :0]
        return self

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return mean and biased variance (C,) of every channel over the whole map, in doubles."""
        self.store()
        if self.workspace.tally is not None:
            self.workspace.tally.asks_moments = True
        if self._moments is None:  # a picture in memory, or none were taken
            moments = Moments(self.shape[1], self.device)
            for top, bottom in self.strips():
                moments.add(self.rows(top, bottom))
            self._moments = moments.result()
        return self._moments
