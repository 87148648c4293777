"""Pictures of any size from file to file, strip by strip, gone on with after an interruption.

While a picture is not finished, `.unfinished/` beside the output holds a folder for it: `state.json` says
what it is of, `maps/` and `norms/` keep what the network has computed (see `steadypix.gen.large.journal`),
`rows.map` the output's rows. The output is written from these rows at the end, whole. When the command has
done all of its pictures, nothing is left of that.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from steadypix.checkpoints.sequence import identity, stamp, versions
from steadypix.data.pictures.inputs import read_input
from steadypix.errors import InputError, printable
from steadypix.files import write_text, write_whole
from steadypix.progress import progress_bar

if TYPE_CHECKING:
    import argparse

    import torch
    from torch import nn

    from steadypix.data.pictures.tiff_rows import PictureRows
    from steadypix.gen.large.frozen import Statistics
    from steadypix.gen.large.journal import Journal, Record
    from steadypix.gen.large.strips import Strips, Tally, Workspace

AUTO = "auto"
AUTO_SIZES = (32, 64, 128, 256, 512, 1024)  # of --tile auto; more makes nothing faster
MEMORY_SHARE = 0.5  # of what is available, which --tile auto takes
CHANNELS_AT_ONCE = 16  # a strip of a map holds as many samples as a tile with so many channels
KEEP_SAMPLES = 1 << 22  # a map of so many is read from memory
UNKNOWN_MULTIPLE = 32  # the sample's grid in px, of a network that does not say what its own is
WORK, STATE, STATISTICS = ".unfinished", "state.json", "statistics.safetensors"
MAPS, NORMS, ROWS = "maps", "norms", "rows.map"


class LargePictures:
    """Translates pictures of files by strips.

    Args:
        args: of the command `generate`: `checkpoint`, `tile`, `statistics`, `bits`, `format`.
        generator: maps (1, C, H, W) to (1, C', H', W'); its norms are frozen if a file says how.
        digest: of the generator's file.
        device: where it runs.
        outputs: every output of the command with its input, in order.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        generator: nn.Module,
        *,
        digest: str,
        device: str,
        outputs: dict[Path, Path],
    ) -> None:
        config: Any = generator.config
        self.args = args
        self.generator = generator
        self.channels: int = config["generator"].get("in_channels", 3)
        self.device = device
        self._pixel_bytes = config["generator"].get("out_channels", 3) * args.bits // 8
        self._digest = digest
        self._outputs = outputs
        self._said: set[tuple[Any, ...]] = set()
        self._first: Statistics | None = None
        same = json.dumps([self._same(next(iter(outputs.values()))), args.tile])
        self._first_name = f"first-{hashlib.sha256(same.encode()).hexdigest()[:16]}.safetensors"

    def open(self, file: Path) -> PictureRows:
        """Open a picture: a TIFF by rows where that is possible, else all of it is decoded.

        Raises:
            InputError: naming the file, if it cannot be read.
        """
        from steadypix.data.pictures.tiff_rows import PictureRows, open_rows

        rows = open_rows(file, self.channels)
        if rows is not None:
            return rows
        read = read_input(file, self.channels)
        return PictureRows(read.pixels, read.alpha)

    def translate(self, file: Path, rows: PictureRows, out: Path) -> None:
        """Translate one picture, or what is missing of it, and close it.

        Raises:
            InputError: naming what is wrong: with the picture, the network, the memory, the disk, or with
                what an interrupted command left.
            OSError: of a full disk, for example; what is done is kept.
        """
        with contextlib.closing(rows):
            asked = AUTO_SIZES[-1] if self.args.tile == AUTO else self.args.tile
            if not self._tally(rows, asked, journaled=False).disk_bytes:  # of no use to go on with
                self._translate_small(file, rows, out, asked)
                return
            with _Work(out.parent / WORK / out.name, self._same(file)) as work:
                if not work.finished_as(out):
                    tile_px = self._choose(file, out, rows, work)
                    try:
                        self._make(file, out, rows, work, tile_px)
                    except InputError:  # no later run would come further
                        work.remove()
                        raise

    def finish(self) -> None:
        """Remove what only an unfinished command needs."""
        for out in self._outputs:
            folder = out.parent / WORK / out.name
            if (folder / STATE).is_file() and json.loads((folder / STATE).read_text()).get("finished"):
                shutil.rmtree(folder)
        for root in {out.parent / WORK for out in self._outputs}:
            (root / self._first_name).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # another command's pictures, or nothing
                root.rmdir()

    # ---- before anything is computed ---------------------------------------------------------------

    def _same(self, file: Path) -> dict[str, Any]:
        """Return what must be the same to go on, as JSON values."""
        statistics = self.args.statistics
        if statistics == "first":
            first = next(iter(self._outputs.values()))
            statistics = ["first", str(first.resolve()), stamp(first)]
        elif statistics not in ("picture", "sampled"):
            statistics = hashlib.sha256(Path(statistics).read_bytes()).hexdigest()
        return {
            "picture": [str(file.resolve()), *stamp(file)],
            "generator": self._digest,
            "bits": self.args.bits,
            "statistics": statistics,
            "device": self.device,
            "versions": versions(),
        }

    def _choose(self, file: Path, out: Path, rows: PictureRows, work: _Work) -> int:
        """Return the tile's side, after it is said what memory and disk it takes.

        Raises:
            InputError: if the memory or the disk is too small, or an unfinished picture is of another tile.
        """
        from steadypix.gen.large.cost import available_bytes, largest_that_fits, resident_bytes

        def memory(tile_px: int) -> int:
            return resident_bytes() + self._memory(rows, tile_px)

        asked, begun = self.args.tile, work.tile_px
        budget = resident_bytes() + MEMORY_SHARE * available_bytes()
        if begun and asked not in (AUTO, begun):
            raise work.other(f"--tile {begun}, now {asked}")
        if asked != AUTO or begun:
            tile_px = begun or asked
        else:
            tile_px, least = largest_that_fits(AUTO_SIZES, memory, budget)
            if least > budget:
                raise InputError(
                    f"--tile auto: {file} takes about {_size(least)} of memory even with --tile {tile_px}, "
                    f"and {_size(budget)} may be taken; expected --tile {tile_px} to try all the same"
                )
        height, width = rows.shape[:2]
        # The output's rows, and its file.
        needed = self._tally(rows, tile_px).disk_bytes + 2 * height * width * self._pixel_bytes
        work.begin(tile_px)
        free = shutil.disk_usage(work.folder).free + work.n_bytes()
        if needed > free:
            work.remove_if_new()
            raise InputError(
                f"{out.parent}: has {_size(free)} free, and {file} takes about {_size(needed)} there"
            )
        name = printable(str(file))
        if (rows.shape, tile_px) not in self._said:
            self._said.add((rows.shape, tile_px))
            takes = f"about {_size(memory(tile_px))} of memory and {_size(needed)} of disk; --tile {tile_px}"
            print(f"generate: {name}: {width} x {height} px take {takes}", file=sys.stderr)
        if work.went_on:
            print(f"generate: {name}: going on where it was interrupted", file=sys.stderr)
        return tile_px

    def _tally(self, rows: PictureRows, tile_px: int, *, journaled: bool = True) -> Tally:
        """Return what the pass that paints the output costs."""
        import torch

        from steadypix.gen.large.cost import count
        from steadypix.gen.large.frozen import blank_statistics, with_frozen
        from steadypix.gen.large.strips import NotInStrips

        height, width, channels = rows.shape
        sampled = self.args.statistics == "sampled"
        try:
            with with_frozen(self.generator, blank_statistics(self.generator) if sampled else {}):
                return count(
                    self.generator,
                    (1, channels, height, width),
                    torch.zeros(1, device=self.device),
                    strip_samples=CHANNELS_AT_ONCE * tile_px**2,
                    keep_samples=KEEP_SAMPLES,
                    journaled=journaled,
                )
        except NotInStrips as error:
            raise InputError(
                f"{self.args.checkpoint}: --tile cannot run {error}; expected --statistics tile"
            ) from None
        except InputError as error:  # a program that takes pictures of another size
            raise InputError(f"{self.args.checkpoint}: {error}") from None

    def _memory(self, rows: PictureRows, tile_px: int) -> int:
        import torch

        from steadypix.gen.large.cost import memory_bytes

        return memory_bytes(self._tally(rows, tile_px), torch.zeros(1))

    # ---- the picture itself ------------------------------------------------------------------------

    def _translate_small(self, file: Path, rows: PictureRows, out: Path, tile_px: int) -> None:
        """Translate a picture all of whose maps stay in memory."""
        from steadypix.data.pictures.saving import save_image

        with self._frozen(file, rows, None, tile_px):
            y = self._output(rows, self._workspace(tile_px))
            pixels = np.concatenate([self._pixels(file, y, top, bottom) for top, bottom in y.strips()])
        save_image(out, pixels, rows.alpha(0, rows.shape[0]))

    def _make(self, file: Path, out: Path, rows: PictureRows, work: _Work, tile_px: int) -> None:
        """Compute what is missing, write the output and say that it is there."""
        from steadypix.gen.large.journal import Record

        output = Record(work.folder / ROWS)
        if not output.done:
            with self._frozen(file, rows, work, tile_px):
                self._compute(file, rows, work, tile_px, output)
        _write(out, rows, output)
        work.finish(identity(out))

    def _frozen(
        self, file: Path, rows: PictureRows, work: _Work | None, tile_px: int
    ) -> contextlib.AbstractContextManager[object]:
        """Return a context in which the norms have the statistics that are asked for."""
        from steadypix.gen.large.frozen import looking_norms, with_frozen

        asked = self.args.statistics in ("first", "sampled") and looking_norms(self.generator)
        return with_frozen(self.generator, self._statistics(file, rows, work, tile_px) if asked else {})

    def _statistics(self, file: Path, rows: PictureRows, work: _Work | None, tile_px: int) -> Statistics:
        """Return the statistics to freeze the norms by: kept ones, or gathered now and kept."""
        from steadypix.gen.large.frozen import load_statistics, save_statistics

        is_first = self.args.statistics == "first"
        if is_first and self._first is not None:
            return self._first
        kept = None
        if work is not None:
            kept = work.folder.parent / self._first_name if is_first else work.folder / STATISTICS
        if kept is not None and kept.is_file():
            found = load_statistics(kept, self.generator)
        else:
            found = self._gather(file, rows if is_first else self._sample(rows), work, tile_px)
            if kept is not None:
                save_statistics(kept, found, pictures=1)
        if is_first:
            self._first = found
        return found

    def _sample(self, rows: PictureRows) -> PictureRows:
        """Return a mosaic of a picture, or all of it if it is small."""
        from steadypix.data.pictures.tiff_rows import PictureRows
        from steadypix.gen.large.context import size_multiple
        from steadypix.gen.large.sampled import mosaic, sample_places, window_for

        known = size_multiple(getattr(self.generator, "network", self.generator))  # without its context
        multiple = known if known > 1 else UNKNOWN_MULTIPLE
        window_px = window_for(multiple)
        places = sample_places(*rows.shape[:2], window_px=window_px, multiple=multiple)
        return PictureRows(mosaic(rows.pixels, places, window_px=window_px)) if places else rows

    def _gather(self, file: Path, rows: PictureRows, work: _Work | None, tile_px: int) -> Statistics:
        from steadypix.gen.large.frozen import gather
        from steadypix.gen.large.journal import Journal

        if work is None:
            return gather(self.generator, [self._strips(rows, self._workspace(tile_px))])
        folder = work.folder / NORMS
        bar = progress_bar(None, unit="strip", what=f"statistics of {file.name}")
        with Journal(folder) as journal, bar:
            workspace = self._workspace(tile_px, journal, bar.update)
            found = gather(self.generator, [self._strips(rows, workspace)])
        shutil.rmtree(folder)
        return found

    def _compute(self, file: Path, rows: PictureRows, work: _Work, tile_px: int, output: Record) -> None:
        """Compute the output's rows that are missing into its file."""
        from steadypix.gen.large.journal import Journal

        total = self._tally(rows, tile_px).strips
        folder = work.folder / MAPS
        with Journal(folder) as journal, progress_bar(total, unit="strip", what=file.name) as bar:
            y = self._output(rows, self._workspace(tile_px, journal, bar.update))
            bar.update(-(-output.rows // y.strip_rows))
            with open(output.path, "r+b" if output.rows else "w+b", buffering=0) as raw:
                for top, bottom in y.strips(output.rows):
                    pixels = self._pixels(file, y, top, bottom)
                    _write_at(raw, top * pixels[0].nbytes, pixels, work.folder)
                    bar.update(1)
                    if y.ends_group(bottom):
                        facts = {"shape": [y.shape[2], *pixels.shape[1:]], "dtype": pixels.dtype.name}
                        output.keep(bottom, done=bottom == y.shape[2], **facts)
        shutil.rmtree(folder)

    def _pixels(self, file: Path, y: Strips, top: int, bottom: int) -> np.ndarray:
        """Return rows (bottom - top, W, C) of the output.

        Raises:
            InputError: if they are not finite.
        """
        import torch

        from steadypix.data.pictures.transforms import to_pixels

        with torch.inference_mode():
            made = y.rows(top, bottom)
            if not made.isfinite().all():
                what = f"an output of {file} that is not finite (NaN or infinity)"
                raise InputError(f"{self.args.checkpoint}: makes {what}")
            return np.ascontiguousarray(to_pixels(made[0], self.args.bits))

    def _output(self, rows: PictureRows, workspace: Workspace) -> Strips:
        from steadypix.gen.large.strips import output_map

        return output_map(self.generator, self._strips(rows, workspace))

    def _workspace(
        self, tile_px: int, journal: Journal | None = None, made: Callable[[int], object] | None = None
    ) -> Workspace:
        from steadypix.gen.large.strips import Workspace

        workspace = Workspace(
            strip_samples=CHANNELS_AT_ONCE * tile_px**2, keep_samples=KEEP_SAMPLES, journal=journal
        )
        workspace.made = made or workspace.made
        return workspace

    def _strips(self, rows: PictureRows, workspace: Workspace) -> Strips:
        from steadypix.data.pictures.transforms import to_tensor
        from steadypix.gen.large.strips import Strips

        def read(top: int, bottom: int) -> torch.Tensor:
            return to_tensor(rows.pixels(top, bottom))[None].to(self.device)

        height, width, channels = rows.shape
        return Strips(read, (1, channels, height, width), read(0, 1)[:, :, :, :1], workspace, stored=True)


class _Work:
    """The folder of an unfinished picture. As a context, it is locked: no two commands write one picture.

    Args:
        folder: is made when the work begins.
        same: JSON values that must be the same to go on.
    """

    def __init__(self, folder: Path, same: dict[str, Any]) -> None:
        self.folder = folder
        self.tile_px = 0  # of the run that this one goes on with
        self.went_on = False
        self._same: dict[str, Any] = json.loads(json.dumps(same))
        self._finished: list[int] = []
        self._lock: Any = None

    def __enter__(self) -> _Work:
        if (self.folder / STATE).is_file():
            try:
                self._find()
            except InputError:
                self.__exit__()
                raise
        return self

    def _find(self) -> None:
        """Read what an earlier run wrote down."""
        self._take_lock()
        try:
            found = json.loads((self.folder / STATE).read_text(encoding="utf-8"))
            before, self.tile_px, self._finished = found["same"], int(found["tile"]), found["finished"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise InputError(f"{self.folder}: is damaged; delete it to start again") from None
        for key in self._same:
            if before.get(key) != self._same[key]:
                raise self.other(f"{key} {before.get(key)}, now {self._same[key]}")
        self.went_on = not self._finished

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.close()

    def other(self, what: str) -> InputError:
        """Return the error that says that something else lies here."""
        return InputError(
            f"{self.folder}: holds an unfinished picture of other options ({what}); repeat its command, or "
            "delete that folder to start again"
        )

    def finished_as(self, out: Path) -> bool:
        """Whether the output is there, made by the command that this one goes on with."""
        if self._finished and not (out.is_file() and identity(out) == self._finished):
            self.tile_px, self._finished = 0, []
        return bool(self._finished)

    def begin(self, tile_px: int) -> None:
        """Write down what begins, unless it is gone on with."""
        if self.went_on:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        self._clear()  # what is there is of an output that was removed since, or of nobody knows what
        self.tile_px = tile_px
        self._write()

    def finish(self, output: Sequence[int]) -> None:
        """Write down that the output is there, and remove all else."""
        self._finished = list(output)
        self._write()
        self._clear()

    def remove(self) -> None:
        """Remove the folder, and the one around it if it is empty."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.folder.parent.rmdir()

    def remove_if_new(self) -> None:
        """Remove the folder unless it holds what an earlier run made."""
        if not self.went_on:
            self.remove()

    def n_bytes(self) -> int:
        """Return what the files of the folder take."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    def _clear(self) -> None:
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name not in (STATE, "lock"):
                path.unlink()

    def _write(self) -> None:
        state = {"same": self._same, "tile": self.tile_px, "finished": self._finished}
        write_text(self.folder / STATE, json.dumps(state) + "\n")

    def _take_lock(self) -> None:
        try:
            import fcntl
        except ImportError:  # no POSIX system
            return
        self._lock = self._lock or open(self.folder / "lock", "w")  # noqa: SIM115 (closed at the end)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{self.folder}: another command is at work on this picture") from None


def _write_at(raw: Any, place: int, pixels: np.ndarray, folder: Path) -> None:
    """Write pixels into an unbuffered file; a full disk names the folder."""
    data = pixels.reshape(-1).view(np.uint8).data
    try:
        raw.seek(place)
        while data:
            data = data[raw.write(data) :]
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from None


def _write(out: Path, rows: PictureRows, output: Record) -> None:
    """Write the output from its rows, with the alpha of the input where both are of one size."""
    from steadypix.data.pictures.row_files import write_rows
    from steadypix.data.pictures.saving import SUFFIXES, in_type, save_image

    height, width, channels = output.facts["shape"]
    dtype = np.dtype(output.facts["dtype"])
    row_bytes = width * channels * dtype.itemsize
    alpha = rows.has_alpha and rows.shape[:2] == (height, width)
    with open(output.path, "rb") as raw:

        def read(top: int, bottom: int) -> np.ndarray:
            raw.seek(top * row_bytes)
            data = raw.read((bottom - top) * row_bytes)
            pixels = np.frombuffer(data, dtype).reshape(bottom - top, width, channels)
            plane = rows.alpha(top, bottom) if alpha else None
            return pixels if plane is None else np.dstack([pixels, in_type(plane, dtype)])

        if out.suffix not in (SUFFIXES["png"], SUFFIXES["tiff"]):
            whole = read(0, height)
            save_image(out, whole[..., :channels], whole[..., -1] if alpha else None)
            return
        shape = (height, width, channels + alpha)
        write_whole(out, functools.partial(write_rows, read=read, shape=shape, alpha=alpha))


def _size(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"
