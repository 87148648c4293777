"""A generator applied to a picture that is read by rows: in strips, or in tiles where strips cannot look."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from steadypix.errors import InputError, printable

if TYPE_CHECKING:
    import argparse

    import torch
    from torch import nn

    from steadypix.data.pictures.tiff_rows import PictureRows
    from steadypix.gen.large.frozen import Statistics
    from steadypix.gen.large.journal import Journal
    from steadypix.gen.large.maps import RowMap
    from steadypix.gen.large.strips import Strips
    from steadypix.gen.large.tiles import Findings, Tiles
    from steadypix.gen.large.workspace import Tally, Workspace

AUTO = "auto"
CHANNELS_AT_ONCE = 16  # a strip of a map holds as many samples as a tile with so many channels
KEEP_SAMPLES = 1 << 22  # a map of so many is read from memory
UNKNOWN_MULTIPLE = 32  # the sample's grid in px, of a network that does not say what its own is


class ByRows:
    """A generator with the options that say how it is applied.

    Args:
        args: of the command `generate`: `checkpoint`, `tile`, `halo`, `statistics`, `bits`.
        generator: maps (1, C, H, W) to (1, C', H', W').
        device: where it runs.

    Attributes:
        tiles: how pictures are cut, once `cut` has found that they must be; None in strips.
    """

    def __init__(self, args: argparse.Namespace, generator: nn.Module, device: str) -> None:
        self.args = args
        self.generator = generator
        self.device = device
        self.tiles: Tiles | None = None
        self._plain: Any = getattr(generator, "network", generator)  # without its context

    # ---- strips or tiles -----------------------------------------------------------------------------

    def settle(self, file: Path, rows: PictureRows) -> None:
        """Find out by the first picture whether the generator runs in strips, and if not, how to cut tiles.

        Raises:
            InputError: naming the generator and the picture, if neither can be.
        """
        from steadypix.gen.large.maps import NotInStrips

        refused = None
        try:
            self._count(rows, self.largest_tile, journaled=False)
        except NotInStrips as error:
            refused = error
        except InputError:  # a program that takes pictures of another size
            refused = NotInStrips("a program")
        if refused is None:
            if self.args.halo is not None:
                raise InputError(f"--halo: {self.args.checkpoint} is run without tiles; expected no --halo")
            return
        if self.args.context:
            raise InputError(
                f"--context: {self.args.checkpoint} cannot be run in strips ({refused}), and tiles have a "
                "halo; expected no --context"
            )
        if self.args.statistics in ("first", "sampled") and self._looks():
            raise InputError(
                f"--statistics {self.args.statistics}: {self.args.checkpoint} cannot be run in strips "
                f"({refused}); expected --statistics FILE"
            )
        if self.args.tile == AUTO:
            raise InputError(
                f"--tile auto: {self.args.checkpoint} cannot be run in strips ({refused}), and what a tile "
                "of it takes is not known; expected --tile PX"
            )
        self.cut(file, rows)

    def cut(self, file: Path, rows: PictureRows) -> None:
        """Measure how the picture, and all that follow, are cut into tiles, and say so.

        Raises:
            InputError: naming the generator and the picture, if the generator takes no such tiles.
        """
        from steadypix.gen.large.tiles import plan_tiles

        dims = getattr(self._plain, "dims", (None,) * 4)
        halo = self.args.halo
        try:
            self.tiles, found = plan_tiles(
                self.generator,
                self._strips(rows, self.workspace(self.args.tile)),
                tile_px=self.args.tile,
                halo_px=None if halo in (None, AUTO) else halo,
                side_px=dims[2] or dims[3] or 0,
                grid_px=self._grid(),
            )
        except InputError as error:
            raise InputError(f"{self.args.checkpoint} on {file}: {error}") from None
        for line in tile_words(self.tiles, found, *rows.shape[:2]):
            print(f"generate: {printable(str(self.args.checkpoint))}: {line}", file=sys.stderr)

    @property
    def largest_tile(self) -> int:
        """The side that was asked for; 1024 of `auto`."""
        return 1024 if self.args.tile == AUTO else int(self.args.tile)

    def _grid(self) -> int:
        """Return the grid in px of a generator that says what it is, else 0."""
        from steadypix.gen.large.tiles import grid_of

        known = grid_of(self._plain)
        config: Any = getattr(self.generator, "config", {})
        downs = config.get("generator", {}).get("num_downs", 0)
        return known if known > 1 else 2**downs if isinstance(downs, int) and 0 < downs < 16 else 0

    # ---- what it costs -------------------------------------------------------------------------------

    def tally(self, file: Path, rows: PictureRows, tile_px: int, *, journaled: bool = True) -> Tally:
        """Return what the pass that paints the output costs.

        Raises:
            InputError: naming the generator and the picture, if the one does not take the other.
        """
        from steadypix.gen.large.maps import NotInStrips

        try:
            return self._count(rows, tile_px, journaled=journaled)
        except (NotInStrips, InputError) as error:
            raise InputError(f"{self.args.checkpoint} on {file}: {error}") from None

    def _count(self, rows: PictureRows, tile_px: int, *, journaled: bool) -> Tally:
        import torch

        from steadypix.gen.large.cost import count
        from steadypix.gen.large.frozen import blank_statistics, with_frozen

        height, width, channels = rows.shape
        blank = blank_statistics(self.generator) if self.needs_statistics() else {}
        with with_frozen(self.generator, blank):
            return count(
                self._apply,
                (1, channels, height, width),
                torch.zeros(1, device=self.device),
                strip_samples=CHANNELS_AT_ONCE * tile_px**2,
                keep_samples=KEEP_SAMPLES,
                journaled=journaled,
            )

    def memory_bytes(self, file: Path, rows: PictureRows, tile_px: int) -> int:
        """Return about what strips take beyond program and picture."""
        import torch

        from steadypix.gen.large.cost import memory_bytes

        return memory_bytes(self.tally(file, rows, tile_px), torch.zeros(1))

    # ---- running -------------------------------------------------------------------------------------

    def output(
        self,
        rows: PictureRows,
        tile_px: int,
        journal: Journal | None = None,
        made: Callable[[int], object] | None = None,
    ) -> Strips:
        """Return the output as a map; what must be stored of it is.

        Args:
            rows: the picture.
            tile_px: about so many px square are worked on at a time.
            journal: keeps maps so that a run which was killed goes on.
            made: called with the number of strips that were made.
        """
        # Frozen norms ask for no moments, which take a tenth of the time.
        moments = self._count(rows, tile_px, journaled=False).asks_moments
        return self._apply(self._strips(rows, self.workspace(tile_px, journal, made, moments=moments)))

    def pixels(self, file: Path, y: RowMap, top: int, bottom: int) -> np.ndarray:
        """Return rows (bottom - top, W, C) of the output.

        Raises:
            InputError: if they are not finite, or the generator cannot make them.
        """
        import torch

        from steadypix.data.pictures.transforms import to_pixels

        with torch.inference_mode():
            try:
                made = y.rows(top, bottom)
            except InputError as error:
                if self.tiles is None:  # of the picture's file
                    raise
                raise InputError(f"{self.args.checkpoint} on {file}: {error}") from None
            if not made.isfinite().all():
                what = f"an output of {file} that is not finite (NaN or infinity)"
                raise InputError(f"{self.args.checkpoint}: makes {what}")
            return np.ascontiguousarray(to_pixels(made[0], self.args.bits))

    def needs_statistics(self) -> bool:
        """Whether norms are to be frozen by what the first picture, or a sample, shows."""
        return self.args.statistics in ("first", "sampled") and self._looks()

    def _looks(self) -> bool:
        from steadypix.gen.large.frozen import looking_norms

        return bool(looking_norms(self.generator))

    def frozen(self, statistics: Statistics) -> contextlib.AbstractContextManager[None]:
        """Return a context in which the norms are frozen by statistics, if there are any."""
        from steadypix.gen.large.frozen import with_frozen

        return with_frozen(self.generator, statistics)

    def gather(
        self,
        rows: PictureRows,
        tile_px: int,
        journal: Journal | None = None,
        made: Callable[[int], object] | None = None,
    ) -> Statistics:
        """Return what the norms see in a picture."""
        from steadypix.gen.large.frozen import gather

        return gather(self.generator, [self._strips(rows, self.workspace(tile_px, journal, made))])

    def sample(self, rows: PictureRows) -> PictureRows:
        """Return a mosaic of a picture, or all of it if it is small."""
        from steadypix.data.pictures.tiff_rows import PictureRows
        from steadypix.gen.large.sampled import mosaic, sample_places, window_for
        from steadypix.gen.large.tiles import grid_of

        known = grid_of(self._plain)
        multiple = known if known > 1 else UNKNOWN_MULTIPLE
        window_px = window_for(multiple)
        places = sample_places(*rows.shape[:2], window_px=window_px, multiple=multiple)
        return PictureRows(mosaic(rows.pixels, places, window_px=window_px)) if places else rows

    def workspace(
        self,
        tile_px: int,
        journal: Journal | None = None,
        made: Callable[[int], object] | None = None,
        *,
        moments: bool = True,
    ) -> Workspace:
        """Return where maps are kept."""
        from steadypix.gen.large.workspace import Workspace

        workspace = Workspace(
            strip_samples=CHANNELS_AT_ONCE * tile_px**2,
            keep_samples=KEEP_SAMPLES,
            journal=journal,
            moments=moments,
        )
        workspace.made = made or workspace.made
        return workspace

    def _apply(self, picture: Strips) -> Strips:
        from steadypix.gen.large.strips import output_map
        from steadypix.gen.large.tiles import tiled_map

        if self.tiles is None:
            return output_map(self.generator, picture)
        return tiled_map(self.generator, picture, self.tiles)

    def _strips(self, rows: PictureRows, workspace: Workspace) -> Strips:
        from steadypix.data.pictures.transforms import to_tensor
        from steadypix.gen.large.strips import Strips

        def read(top: int, bottom: int) -> torch.Tensor:
            return to_tensor(rows.pixels(top, bottom))[None].to(self.device)

        height, width, channels = rows.shape
        return Strips(read, (1, channels, height, width), read(0, 1)[:, :, :, :1], workspace, stored=True)


def tile_words(tiles: Tiles, found: Findings | None, height: int, width: int) -> list[str]:
    """Return what is said of tiles before they are made: how many, their halo, and what they miss."""
    down, across = tiles.spans(height), tiles.spans(width)
    given = sum((r.end - r.start) * (c.end - c.start) for r in down for c in across) / (height * width)
    lines = [
        f"{len(down) * len(across)} tiles of {tiles.tile_px} px, halo {tiles.halo_px} px, which is cut off: "
        f"{given:.1f} times the px"
    ]
    if found is None:
        return lines
    if not found.is_local:
        apart = ""
        if found.neighbours_mse:
            apart = f", here by {10 * math.log10(4 / found.neighbours_mse):.1f} dB in their middle"
        lines.append(
            f"its norms go by each tile alone, or its layers reach across one, so neighbours differ{apart}; "
            "a checkpoint, which runs in strips, has no such seams"
        )
    if found.reach_px > tiles.halo_px:
        lines.append(
            f"its layers reach {found.reach_px} px or more, beyond the halo of {tiles.halo_px} px, so seams "
            "may show; expected a larger --tile"
        )
    return lines
