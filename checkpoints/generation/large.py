"""Pictures of any size from file to file, strip by strip, gone on with after an interruption.

While a picture is not finished, `.unfinished/` beside the output holds a folder for it: `state.json` says
what it is of, `maps/` and `norms/` keep what the network has computed (see `steadypix.gen.large.journal`),
`rows.map` the output's rows. The output is written from these rows at the end, whole. When the command has
done all of its pictures, nothing is left of that.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from steadypix.checkpoints.generation.by_rows import AUTO, KEEP_SAMPLES, ByRows
from steadypix.checkpoints.generation.row_output import write_at, write_output
from steadypix.checkpoints.generation.sequence import identity, stamp, versions
from steadypix.checkpoints.generation.unfinished import FOLDER, STATE, Work
from steadypix.data.pictures.inputs import read_input
from steadypix.errors import InputError, printable
from steadypix.progress import progress_bar

if TYPE_CHECKING:
    import argparse

    from torch import nn

    from steadypix.data.pictures.tiff_rows import PictureRows
    from steadypix.gen.large.frozen import Statistics
    from steadypix.gen.large.journal import Record

AUTO_SIZES = (32, 64, 128, 256, 512, 1024)  # of --tile auto; more makes nothing faster
MEMORY_SHARE = 0.5  # of what is available, which --tile auto takes
STATISTICS = "statistics.safetensors"
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
        self.channels: int = config["generator"].get("in_channels", 3)
        self._by_rows = ByRows(args, generator, device)
        self._settled = False
        self._pixel_bytes = config["generator"].get("out_channels", 3) * args.bits // 8
        self._digest = digest
        self._outputs = outputs
        self._said: set[tuple[Any, ...]] = set()
        self._first: Statistics | None = None
        out, file = next(iter(outputs.items()))
        same = hashlib.sha256(json.dumps([self._same(file), args.tile]).encode()).hexdigest()
        self._first_file = out.parent / FOLDER / f"first-{same[:16]}.safetensors"

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
            if not self._settled:
                self._by_rows.settle(file, rows)
                self._settled = True
            asked = self._by_rows.largest_tile
            cost = self._by_rows.tally(file, rows, asked, journaled=False)
            if not cost.disk_bytes and cost.output_samples <= KEEP_SAMPLES:  # of no use to go on with
                self._translate_small(file, rows, out, asked)
                return
            work = Work(out.parent / FOLDER / out.name, self._same(file))
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
            folder = out.parent / FOLDER / out.name
            if (folder / STATE).is_file() and json.loads((folder / STATE).read_text()).get("finished"):
                shutil.rmtree(folder)
        self._first_file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # another command's pictures, or nothing
            self._first_file.parent.rmdir()

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
            "device": self._by_rows.device,
            "halo": self.args.halo,
            "versions": versions(),
        }

    def _choose(self, file: Path, out: Path, rows: PictureRows, work: Work) -> int:
        """Return the tile's side, after it is said what memory and disk it takes.

        Raises:
            InputError: if the memory or the disk is too small, or an unfinished picture is of another tile.
        """
        from steadypix.budget import available_bytes, limit_bytes, resident_bytes
        from steadypix.gen.large.cost import largest_that_fits

        def memory(tile_px: int) -> int:
            return resident_bytes() + self._by_rows.memory_bytes(file, rows, tile_px)

        asked, begun = self.args.tile, work.tile_px
        budget = limit_bytes(default=resident_bytes() + MEMORY_SHARE * available_bytes())
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
        needed = self._by_rows.tally(file, rows, tile_px).disk_bytes + 2 * height * width * self._pixel_bytes
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

    # ---- the picture itself ------------------------------------------------------------------------

    def _translate_small(self, file: Path, rows: PictureRows, out: Path, tile_px: int) -> None:
        """Translate a picture all of whose maps stay in memory."""
        from steadypix.data.pictures.saving import save_image

        with self._frozen(file, rows, None, tile_px):
            y = self._by_rows.output(rows, tile_px)
            pixels = np.concatenate(
                [self._by_rows.pixels(file, y, top, bottom) for top, bottom in y.strips()]
            )
        save_image(out, pixels, rows.alpha(0, rows.shape[0]))

    def _make(self, file: Path, out: Path, rows: PictureRows, work: Work, tile_px: int) -> None:
        """Compute what is missing, write the output and say that it is there."""
        from steadypix.gen.large.journal import Record

        output = Record(work.folder / ROWS)
        if not output.done:
            with self._frozen(file, rows, work, tile_px):
                self._compute(file, rows, work, tile_px, output)
        write_output(out, rows, output)
        work.finish(identity(out))

    def _frozen(
        self, file: Path, rows: PictureRows, work: Work | None, tile_px: int
    ) -> contextlib.AbstractContextManager[None]:
        """Return a context in which the norms have the statistics that are asked for."""
        asked = self._by_rows.needs_statistics()
        return self._by_rows.frozen(self._statistics(file, rows, work, tile_px) if asked else {})

    def _statistics(self, file: Path, rows: PictureRows, work: Work | None, tile_px: int) -> Statistics:
        """Return the statistics to freeze the norms by: kept ones, or gathered now and kept."""
        from steadypix.gen.large.frozen import load_statistics, save_statistics

        is_first = self.args.statistics == "first"
        if is_first and self._first is not None:
            return self._first
        kept = self._first_file if is_first else work.folder / STATISTICS if work is not None else None
        if kept is not None and kept.is_file():  # the first picture's, too, whatever the size of this one
            found = load_statistics(kept, self._by_rows.generator)
        else:
            found = self._gather(file, rows if is_first else self._by_rows.sample(rows), work, tile_px)
            if kept is not None and work is not None:  # a small picture is made anew, and they with it
                save_statistics(kept, found, pictures=1)
        if is_first:
            self._first = found
        return found

    def _gather(self, file: Path, rows: PictureRows, work: Work | None, tile_px: int) -> Statistics:
        from steadypix.gen.large.journal import Journal

        if work is None:
            return self._by_rows.gather(rows, tile_px)
        folder = work.folder / NORMS
        bar = progress_bar(None, unit="strip", what=f"statistics of {file.name}")
        with Journal(folder) as journal, bar:
            found = self._by_rows.gather(rows, tile_px, journal, bar.update)
        shutil.rmtree(folder)
        return found

    def _compute(self, file: Path, rows: PictureRows, work: Work, tile_px: int, output: Record) -> None:
        """Compute the output's rows that are missing into its file."""
        from steadypix.gen.large.journal import Journal

        total = self._by_rows.tally(file, rows, tile_px).strips
        folder = work.folder / MAPS
        with Journal(folder) as journal, progress_bar(total, unit="strip", what=file.name) as bar:
            y = self._by_rows.output(rows, tile_px, journal, bar.update)
            bar.update(-(-output.rows // y.strip_rows))
            with open(output.path, "r+b" if output.rows else "w+b", buffering=0) as raw:
                for top, bottom in y.strips(output.rows):
                    pixels = self._by_rows.pixels(file, y, top, bottom)
                    write_at(raw, top * pixels[0].nbytes, pixels, work.folder)
                    bar.update(1)
                    if y.ends_group(bottom):
                        facts = {"shape": [y.shape[2], *pixels.shape[1:]], "dtype": pixels.dtype.name}
                        output.keep(bottom, done=bottom == y.shape[2], **facts)
        shutil.rmtree(folder)


def _size(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"
