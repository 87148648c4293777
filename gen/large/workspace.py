"""What a run in strips keeps: maps in memory or on disk, moments of their channels, and the count of both."""

from __future__ import annotations

import math
import tempfile
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from steadypix.gen.large.journal import Journal, Record

if TYPE_CHECKING:
    from steadypix.gen.large.maps import RowMap

Read = Callable[[int, int], Tensor]


class Workspace:
    """Where maps are kept and how many samples a strip may have.

    Args:
        folder: of the files, which are gone when nobody needs them; None: the system's for temporary ones.
        strip_samples: what a strip of one map may hold, channels times rows times columns.
        keep_samples: maps of at most so many samples stay in memory.
        journal: keeps maps so that a run which was killed goes on; None: maps vanish with the process.
        moments: take the moments of every map as it is stored. Without, a norm that asks for them reads the
            map again; for networks all of whose norms are frozen, which ask for none.
        tally: only count what a run would cost, computing nothing, see `steadypix.gen.large.cost`.

    Attributes:
        made: called with the number of strips that were made, or found made, of a stored map.
    """

    def __init__(
        self,
        folder: str | None = None,
        *,
        strip_samples: int = 1 << 24,
        keep_samples: int = 1 << 22,
        journal: Journal | None = None,
        moments: bool = True,
        tally: Tally | None = None,
    ) -> None:
        self.folder = folder
        self.strip_samples = strip_samples
        self.keep_samples = keep_samples
        self.journal = journal
        self.moments = moments
        self.tally = tally
        self.made: Callable[[int], object] = lambda strips: None
        self.group = 0  # grows where the rows that were made last are forgotten


class Tally:
    """What a run in strips costs.

    Args:
        journaled: whether small maps would be written to disk as well.

    Attributes:
        strips: of all maps that are stored.
        strip_samples: of the largest strip.
        disk_bytes: of the maps that lie on disk at the same time, at most.
        memory_bytes: the same of the maps that stay in memory.
        output_samples: of the output.
        asks_moments: whether a norm looks at a map.
    """

    def __init__(self, *, journaled: bool = False) -> None:
        self.journaled = journaled
        self.strips = 0
        self.asks_moments = False
        self.strip_samples = 0
        self.disk_bytes = self.memory_bytes = self.output_samples = 0
        self._held = {True: 0, False: 0}  # by whether it is on disk

    def add(self, x: RowMap) -> Read:
        """Count a map that would be stored; return what reads it: zeros."""
        self.count(x)
        small = x.shape.numel() <= x.workspace.keep_samples
        zeros = _Zeros(x)
        for on_disk, counts in ((True, self.journaled or not small), (False, small)):
            if counts:
                self._hold(on_disk, zeros.n_bytes)
                weakref.finalize(zeros, self._hold, on_disk, -zeros.n_bytes)
        return zeros.read

    def count(self, x: RowMap) -> None:
        """Count the strips of a map."""
        for top, bottom in x.strips():
            self.strips += 1
            self.strip_samples = max(self.strip_samples, int((bottom - top) * x.row_samples))

    def _hold(self, on_disk: bool, n_bytes: int) -> None:
        self._held[on_disk] += n_bytes
        self.disk_bytes = max(self.disk_bytes, self._held[True])
        self.memory_bytes = max(self.memory_bytes, self._held[False])


class _Zeros:
    """Stands for a stored map whose cost is counted."""

    def __init__(self, x: RowMap) -> None:
        self.shape, self.like = x.shape, x.like
        self.n_bytes = x.shape.numel() * x.like.element_size()

    def read(self, top: int, bottom: int) -> Tensor:
        return self.like.new_zeros(1, self.shape[1], bottom - top, self.shape[3])


class Moments:
    """Mean and variance of every channel, gathered from parts in doubles (Chan et al. 1979, eq. 2.1)."""

    def __init__(self, channels: int, device: torch.device) -> None:
        self.count = 0
        self.mean = torch.zeros(channels, dtype=torch.float64, device=device)
        self.spread = torch.zeros_like(self.mean)

    def add(self, x: Tensor) -> None:
        """Count the samples of `x` (B, C, H, W)."""
        count = x.numel() // x.shape[1]
        variance, mean = (part.double() for part in torch.var_mean(x, (0, 2, 3), correction=0))
        total = self.count + count
        if not total:
            return
        apart = mean - self.mean
        self.spread += variance * count + apart.square() * (self.count * count / total)
        self.mean += apart * (count / total)
        self.count = total

    def facts(self) -> dict[str, Any]:
        """Return all of it as plain JSON values, exactly."""
        return {"count": self.count, "mean": self.mean.tolist(), "spread": self.spread.tolist()}

    def restore(self, facts: dict[str, Any]) -> None:
        """Take what `facts` returned, or nothing."""
        if facts:
            self.count = facts["count"]
            self.mean, self.spread = (
                torch.tensor(facts[key], dtype=torch.float64, device=self.mean.device)
                for key in ("mean", "spread")
            )

    def result(self) -> tuple[Tensor, Tensor]:
        """Return mean and biased variance, each (C,)."""
        return self.mean, self.spread / max(self.count, 1)


class Kept:
    """A map in memory if it is small, else in a file that vanishes with the last reference to it.

    Under a journal it lies in a file in any case, which outlives a process that is killed.
    """

    def __init__(
        self, shape: Sequence[int], like: Tensor, workspace: Workspace, record: Record | None
    ) -> None:
        self.shape = shape
        self.like = like
        self.file: Any = None
        self.memory: Tensor | None = None
        self.row_bytes = shape[1] * shape[3] * like.element_size()
        small = math.prod(shape) <= workspace.keep_samples
        # Files are unbuffered, so that what a full disk refuses is not tried again at the end, and no
        # mappings, whose pages would count as the process's own.
        if record is not None:
            assert workspace.journal is not None
            self.folder = str(workspace.journal.folder)
            self.file = open(record.path, "r+b" if record.rows else "w+b", buffering=0)  # noqa: SIM115
            weakref.finalize(self, _close, self.file, workspace.journal, record.path).atexit = False
        elif not small:
            self.folder = workspace.folder or tempfile.gettempdir()
            self.file = tempfile.TemporaryFile(buffering=0, dir=self.folder)  # noqa: SIM115 (closed below)
            weakref.finalize(self, self.file.close)
        if small:
            kept = self.read(0, record.rows) if record else like.new_empty(1, shape[1], 0, shape[3])
            self.memory = like.new_empty(tuple(shape))
            self.memory[:, :, : kept.shape[2]] = kept

    def write(self, top: int, rows: Tensor) -> None:
        """Put rows (1, C, n, W) at their place.

        Raises:
            OSError: of a full disk, naming the folder.
        """
        if self.memory is not None:
            self.memory[:, :, top : top + rows.shape[2]] = rows
        if self.file is None:
            return
        # By rows, so that a strip is one piece of the file.
        data = rows[0].transpose(0, 1).contiguous().cpu().view(torch.uint8).numpy().reshape(-1).data
        try:
            self.file.seek(top * self.row_bytes)
            while data:
                data = data[self.file.write(data) :]
        except OSError as error:  # a full disk, which does not say where
            raise OSError(error.errno, error.strerror, self.folder) from None

    def read(self, top: int, bottom: int) -> Tensor:
        """Return the rows from `top` to before `bottom`."""
        if self.memory is not None:
            return self.memory[:, :, top:bottom]
        data = bytearray((bottom - top) * self.row_bytes)
        if not data:
            return self.like.new_empty(1, self.shape[1], 0, self.shape[3])
        self.file.seek(top * self.row_bytes)
        view = memoryview(data)
        while view:  # one call reads 2 GB at most
            if not (count := self.file.readinto(view)):
                raise OSError("a temporary file is shorter than what was written to it")
            view = view[count:]
        rows = torch.frombuffer(data, dtype=self.like.dtype).view(bottom - top, self.shape[1], self.shape[3])
        return rows.transpose(0, 1)[None].to(self.like.device)


def _close(file: Any, journal: Journal, path: Path) -> None:
    file.close()
    journal.drop(path)
