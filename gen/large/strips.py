"""A network applied to a picture of any size, strip by strip, exactly as if it were applied at once.

`Strips` stands in for a tensor (1, C, H, W). A network's own forward pass, run on it, computes nothing: it
builds maps that know how to make their rows from rows of others. Rows are made when somebody reads them. A
map is put on disk only where it must be: before a norm, whose statistics need all of it, and where two
readers wait for it. So statistics are those of the whole picture, there are no tiles and no seams, and
memory holds a few strips.

torch hands every function called on such an object to `Strips.__torch_function__`; what is not listed in
`_FUNCTIONS` is refused by name.
"""

from __future__ import annotations

import math
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steadypix.gen.large.journal import GROUP_STRIPS, Journal, Record

Read = Callable[[int, int], Tensor]
SMALL = 1 << 16  # samples of a map that may always be held at once


class NotInStrips(RuntimeError):
    """A network does what strips cannot: a function that is not listed, a batch of several."""


class Workspace:
    """Where maps are kept and how many samples a strip may have.

    Args:
        folder: of the files, which are gone when nobody needs them; None: the system's for temporary ones.
        strip_samples: what a strip of one map may hold, channels times rows times columns.
        keep_samples: maps of at most so many samples stay in memory.
        journal: keeps maps so that a run which was killed goes on; None: maps vanish with the process.
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
        tally: Tally | None = None,
    ) -> None:
        self.folder = folder
        self.strip_samples = strip_samples
        self.keep_samples = keep_samples
        self.journal = journal
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
    """

    def __init__(self, *, journaled: bool = False) -> None:
        self.journaled = journaled
        self.strips = 0
        self.strip_samples = 0
        self.disk_bytes = self.memory_bytes = 0
        self._held = {True: 0, False: 0}  # by whether it is on disk

    def add(self, x: Strips) -> Read:
        """Count a map that would be stored; return what reads it: zeros."""
        self.count(x)
        small = x.shape.numel() <= x.workspace.keep_samples
        zeros = _Zeros(x)
        for on_disk, counts in ((True, self.journaled or not small), (False, small)):
            if counts:
                self._hold(on_disk, zeros.n_bytes)
                weakref.finalize(zeros, self._hold, on_disk, -zeros.n_bytes)
        return zeros.read

    def count(self, x: Strips) -> None:
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

    def __init__(self, x: Strips) -> None:
        self.shape, self.like = x.shape, x.like
        self.n_bytes = x.shape.numel() * x.like.element_size()

    def read(self, top: int, bottom: int) -> Tensor:
        return self.like.new_zeros(1, self.shape[1], bottom - top, self.shape[3])


class Strips:
    """A map (1, C, H, W) that is made by rows.

    Args:
        read: returns rows (1, C, bottom - top, W) of it.
        shape: (1, C, H, W).
        like: a tensor of its dtype and device.
        workspace: of the whole run.
        stored: whether reading is a matter of copying.
        row_samples: what the widest of the maps behind it holds for a row of it.
    """

    requires_grad = False
    is_cuda = False

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
    def of(cls, picture: Tensor, workspace: Workspace) -> Strips:
        """Return a picture (1, C, H, W) that lies in memory as such a map."""
        return cls(
            lambda top, bottom: picture[..., top:bottom, :], picture.shape, picture, workspace, stored=True
        )

    # ---- what a tensor has, as far as networks ask for it --------------------------------------------

    @property
    def ndim(self) -> int:
        """4."""
        return 4

    @property
    def dtype(self) -> torch.dtype:
        """Of the rows."""
        return self.like.dtype

    @property
    def device(self) -> torch.device:
        """Where rows are computed."""
        return self.like.device

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

    def whole(self) -> Tensor:
        """Return all rows at once, of a map at an inner level of a network that is a few samples wide.

        Raises:
            NotInStrips: if the map is larger than what the workspace keeps in memory.
        """
        if self.shape.numel() > max(self.workspace.keep_samples, SMALL):
            raise NotInStrips(f"a map of {tuple(self.shape)} at once")
        return self.rows(0, self.shape[2])

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
        return _FUNCTIONS[torch.add](self, other)

    def __mul__(self, other: Any) -> Any:
        return _FUNCTIONS[torch.mul](self, other)

    __radd__, __rmul__ = __add__, __mul__

    def __sub__(self, other: Any) -> Any:
        return _FUNCTIONS[torch.sub](self, other)

    def __neg__(self) -> Any:
        return _FUNCTIONS[torch.neg](self)

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function not in _FUNCTIONS:
            name = getattr(function, "__name__", str(function))
            raise NotInStrips(f"the function {name} on a map that is made in strips")
        return _FUNCTIONS[function](*args, **(kwargs or {}))

    # ---- rows --------------------------------------------------------------------------------------

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

    def lazily(self, read: Read, shape: Sequence[int], *, rows_a_row: float = 1.0) -> Strips:
        """Return a map that is made from this one when it is read, of which a row takes `rows_a_row`."""
        samples = self.row_samples * rows_a_row
        return Strips(read, shape, self.like, self.workspace, row_samples=samples)

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

    def store(self) -> Strips:
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
            keep = _Kept(self.shape, self.like, workspace, record)
            for top, bottom in self.strips(record.rows if record else 0):
                rows = self.rows(top, bottom)
                moments.add(rows)
                keep.write(top, rows)
                workspace.made(1)
                if record is not None and self.ends_group(bottom):
                    record.keep(bottom, done=bottom == self.shape[2], **moments.facts())
            self._read, self.stored = keep.read, True
        self._moments = moments.result()
        self.row_samples = self.shape[1] * self.shape[3]
        self._rows = self._rows[:, :, :0]
        return self

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return mean and biased variance (C,) of every channel over the whole map, in doubles."""
        self.store()
        if self._moments is None:  # a picture in memory
            moments = Moments(self.shape[1], self.device)
            for top, bottom in self.strips():
                moments.add(self.rows(top, bottom))
            self._moments = moments.result()
        return self._moments


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


class _Kept:
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


# ---- functions -------------------------------------------------------------------------------------------


def _pointwise(function: Callable[..., Tensor]) -> Callable[..., Strips]:
    """Of one map, sample by sample."""

    def apply(x: Strips, *args: Any, **kwargs: Any) -> Strips:
        kwargs.pop("inplace", None)
        return x.lazily(lambda top, bottom: function(x.rows(top, bottom), *args, **kwargs), x.shape)

    return apply


def _of_two(function: Callable[..., Tensor]) -> Callable[..., Strips]:
    """Of a map and another one, or something that is the same in all rows."""

    def apply(a: Any, b: Any) -> Strips:
        maps = [part for part in (a, b) if isinstance(part, Strips)]
        if len({part.shape[2:] for part in maps}) > 1:
            raise NotInStrips(f"maps of {maps[0].shape} and {maps[1].shape} px joined sample by sample")
        for part in (a, b):
            if isinstance(part, Tensor) and part.ndim > 2 and part.shape[-2] != 1:
                raise NotInStrips("a tensor with rows of its own joined to a map")

        def read(top: int, bottom: int) -> Tensor:
            return function(
                *(part.rows(top, bottom) if isinstance(part, Strips) else part for part in (a, b))
            )

        if len(maps) == 1:
            return maps[0].lazily(read, maps[0].shape)
        for part in maps:
            part.store()
        # A sum has two readers at the next sum.
        return maps[0].lazily(read, maps[0].shape).store()

    return apply


def _cat(maps: Sequence[Strips], dim: int = 0) -> Strips:
    if dim in (2, 3, -2, -1):
        return Strips.of(torch.cat([part.whole() for part in maps], dim), maps[0].workspace)
    if dim not in (1, -3) or len({part.shape[2:] for part in maps}) > 1:
        raise NotInStrips(f"maps {[tuple(part.shape) for part in maps]} joined along axis {dim}")
    for part in maps:
        part.store()
    shape = (1, sum(part.shape[1] for part in maps), *maps[0].shape[2:])
    return maps[0].lazily(lambda top, bottom: torch.cat([m.rows(top, bottom) for m in maps], dim=1), shape)


def _pad(x: Strips, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Strips:
    left, right, up, down = (*pad, 0, 0)[:4]
    height = x.shape[2]

    def read(top: int, bottom: int) -> Tensor:
        if mode == "constant":
            rows = x.rows(max(top - up, 0), min(bottom - up, height))
            above = min(max(up - top, 0), bottom - top)
            below = bottom - top - above - rows.shape[2]
            return F.pad(rows, (left, right, above, below), value=value or 0.0)
        inside = _inside(torch.arange(top - up, bottom - up), height, mode)
        first, end = int(inside.min()), int(inside.max()) + 1
        rows = x.rows(first, end)
        if len(inside) != end - first or not torch.equal(inside, torch.arange(first, end)):
            rows = rows.index_select(2, (inside - first).to(rows.device))
        return F.pad(rows, (left, right, 0, 0), mode=mode) if left or right else rows

    return x.lazily(read, (1, x.shape[1], height + up + down, x.shape[3] + left + right))


def _inside(places: Tensor, size: int, mode: str) -> Tensor:
    """Return which row a place outside of 0..size - 1 repeats."""
    if mode == "replicate":
        return places.clamp(0, size - 1)
    if mode == "circular":
        return places % size
    if mode == "reflect":
        period = max(2 * size - 2, 1)
        places = places % period
        return torch.where(places < size, places, period - places)
    raise NotInStrips(f"padding {mode!r}")


def _conv(
    x: Strips,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Strips:
    (sy, sx), (dy, dx) = _two(stride), _two(dilation)
    if isinstance(padding, str):
        if padding != "valid":
            raise NotInStrips(f"a convolution with padding {padding!r}")
        padding = 0
    py, px = _two(padding)
    reach_y, reach_x = (dy * (weight.shape[2] - 1), dx * (weight.shape[3] - 1))
    padded = _pad(x, (0, 0, py, py)) if py else x
    height = (padded.shape[2] - reach_y - 1) // sy + 1
    width = (x.shape[3] + 2 * px - reach_x - 1) // sx + 1

    def read(top: int, bottom: int) -> Tensor:
        rows = padded.rows(top * sy, (bottom - 1) * sy + reach_y + 1)
        return F.conv2d(rows, weight, bias, (sy, sx), (0, px), (dy, dx), groups)

    made = x.lazily(read, (1, weight.shape[0], height, width), rows_a_row=sy)
    return made.store() if sy > 1 else made  # a quarter of its input, and in a U-Net read twice


def _conv_transpose(
    x: Strips,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Strips:
    (sy, sx), (py, px), (oy, ox) = _two(stride), _two(padding), _two(output_padding)
    if _two(dilation) != (1, 1):
        raise NotInStrips("a transposed convolution with dilation")
    kernel_y, kernel_x = weight.shape[2:]
    height = (x.shape[2] - 1) * sy - 2 * py + kernel_y + oy
    width = (x.shape[3] - 1) * sx - 2 * px + kernel_x + ox
    channels = weight.shape[1] * groups

    def read(top: int, bottom: int) -> Tensor:
        # Row o of the whole output has shares of the rows i with i * sy <= o + py < i * sy + kernel.
        first = min(max(0, -((kernel_y - 1 - top - py) // sy)), x.shape[2])
        end = max(min(x.shape[2], (bottom - 1 + py) // sy + 1), first)
        start = first * sy - py  # of the first row that those give
        rows = x.like.new_zeros(1, channels, bottom - top, width)
        if end > first:
            made = F.conv_transpose2d(x.rows(first, end), weight, None, (sy, sx), (0, px), (0, ox), groups)
            low, high = max(top, start), min(bottom, start + made.shape[2])
            rows[:, :, low - top : high - top] = made[:, :, low - start : high - start]
        return rows if bias is None else rows + bias[:, None, None]

    return x.lazily(read, (1, channels, height, width), rows_a_row=1 / sy)


def _pool(function: Callable[..., Tensor]) -> Callable[..., Strips]:
    def apply(x: Strips, kernel_size: Any, stride: Any = None, padding: Any = 0, **kwargs: Any) -> Strips:
        if _two(padding) != (0, 0) or any(kwargs.get(key) for key in ("ceil_mode", "return_indices")):
            raise NotInStrips("a pool with padding, ceil_mode or indices")
        (ky, kx), (sy, sx) = _two(kernel_size), _two(kernel_size if stride in (None, []) else stride)
        height, width = (x.shape[2] - ky) // sy + 1, (x.shape[3] - kx) // sx + 1

        def read(top: int, bottom: int) -> Tensor:
            return function(x.rows(top * sy, (bottom - 1) * sy + ky), (ky, kx), (sy, sx))

        made = x.lazily(read, (*x.shape[:2], height, width), rows_a_row=sy)
        return made.store() if sy > 1 else made

    return apply


def _normalised(
    x: Strips, mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Strips:
    scale = (variance + eps).rsqrt()
    if weight is not None:
        scale = scale * weight
    offset = -mean * scale if bias is None else bias - mean * scale
    scale, offset = (part.to(x.like)[:, None, None] for part in (scale, offset))
    return x.lazily(lambda top, bottom: x.rows(top, bottom) * scale + offset, x.shape)


def _instance_norm(
    x: Strips,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Strips:
    if not use_input_stats:
        return _batch_norm(x, running_mean, running_var, weight, bias, eps=eps)
    return _normalised(x, *x.moments(), weight, bias, eps)


def _batch_norm(
    x: Strips,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Strips:
    if training or running_mean is None or running_var is None:
        return _normalised(x, *x.moments(), weight, bias, eps)
    return _normalised(x, running_mean.double(), running_var.double(), weight, bias, eps)


def _group_norm(
    x: Strips, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Strips:
    return _normalised(x, *of_groups(*x.moments(), num_groups), weight, bias, eps)


def of_groups(mean: Tensor, variance: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Return for each channel the mean and variance of its group, from those of the channels, all (C,)."""
    means, variances = mean.view(groups, -1), variance.view(groups, -1)
    middle = means.mean(1, keepdim=True)
    spread = (variances + (means - middle).square()).mean(1, keepdim=True)
    return middle.expand_as(means).flatten(), spread.expand_as(means).flatten()


def _dropout(x: Strips, p: float = 0.5, training: bool = True, inplace: bool = False) -> Strips:
    if training:
        raise NotInStrips("dropout in training mode")
    return x


def _two(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (tuple(value) * 2)[:2]


_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    function: _pointwise(function)
    for function in (
        *(F.relu, torch.relu, F.leaky_relu, F.elu, F.gelu, F.silu, F.selu, F.softplus, F.hardtanh, F.mish),
        *(torch.tanh, F.tanh, torch.sigmoid, F.sigmoid, torch.clamp, torch.abs, torch.neg),
    )
}
_FUNCTIONS |= {function: _of_two(function) for function in (torch.add, torch.mul, torch.sub)}
_FUNCTIONS |= {
    torch.cat: _cat,
    F.pad: _pad,
    F.conv2d: _conv,
    torch.conv2d: _conv,
    F.conv_transpose2d: _conv_transpose,
    torch.conv_transpose2d: _conv_transpose,
    F.max_pool2d: _pool(F.max_pool2d),
    F.avg_pool2d: _pool(F.avg_pool2d),
    F.instance_norm: _instance_norm,
    F.batch_norm: _batch_norm,
    F.group_norm: _group_norm,
    F.dropout: _dropout,
}


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
