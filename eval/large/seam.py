"""Seams: what tiles cost a picture that a generator could also take as a whole.

A generator is shown the whole canvas, and the same canvas in overlapping tiles, each by itself, so norms go
by the statistics of a tile. The tiles' outputs are joined in two ways: *cropped*, each giving the px that
lie nearest to its middle, and *blended* by linear ramps over the overlap, as `generate --statistics tile`
does. Both are compared with the output of the whole, and two neighbours with each other where they overlap.
*strips* is what `generate --tile` does: strip by strip, with the statistics of the whole picture.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from steadypix.errors import InputError
from steadypix.eval.metrics.decibels import Array, mean_with_interval, psnr_db
from steadypix.eval.metrics.forward import run_windows
from steadypix.eval.metrics.measure import Column, Conditions, Label, Measure, db_column
from steadypix.eval.metrics.scene import Scene, as_rgb, widest_spread
from steadypix.eval.results.lines import table_lines
from steadypix.json_checks import FIGURE_DB, count, listed, maybe, record, size, text
from steadypix.sizes import Size, as_json, from_json, sides, words

if TYPE_CHECKING:
    from torch import Tensor, nn

    from steadypix.command import Parser

MIN_TILE_PX = 32  # as `generate --tile`
CHANNELS_AT_ONCE = 16  # a strip holds as many samples as a tile with so many channels
WAYS = ("cropped", "blended", "overlap", "strips")
MEANING = (
    "the output of overlapping tiles, each normalised by itself, against that of the whole canvas: cropped "
    "to what is nearest to a tile's middle, or blended by ramps over twice the halo; overlap: neighbouring "
    "tiles against each other where both are; strips: strip by strip with the statistics of the whole canvas"
)


def parse_tiles(words: str) -> list[tuple[int, int]]:
    """Read `64,128/32` into sides of tiles and halos in px; without one, the halo is an eighth of the side.

    >>> parse_tiles("64,128/32")
    [(64, 8), (128, 32)]

    Raises:
        InputError: naming the part that is no tile.
    """
    tiles = []
    for part in words.split(","):
        found = re.fullmatch(r"([0-9]{1,5})(?:/([0-9]{1,5}))?", part.strip())
        if not found:
            raise InputError(
                f"--seam {words}: {part.strip()!r} is no tile; expected PX or PX/HALO, as 64,128/32"
            )
        side = int(found[1])
        tile = side, side // 8 if found[2] is None else int(found[2])
        if tile[0] < MIN_TILE_PX:
            raise InputError(f"--seam {words}: a tile of {tile[0]} px; expected at least {MIN_TILE_PX} px")
        if 2 * tile[1] >= tile[0]:
            raise InputError(
                f"--seam {words}: a halo of {tile[1]} px leaves nothing of {tile[0]} px; expected less"
            )
        tiles.append(tile)
    return list(dict.fromkeys(tiles))


@dataclass(frozen=True)
class Tiling:
    """Tiles over a canvas: where they lie, and how their outputs become one.

    Raises:
        InputError: if one tile is the whole canvas.
    """

    canvas_px: Size  # of the picture
    tile_px: int  # side of a tile; where the picture is shorter than that, so is the tile
    halo_px: int  # least overlap on each side, which `cropped` leaves out

    def __post_init__(self) -> None:
        if self.tile_px >= max(sides(self.canvas_px)):
            raise InputError(
                f"--seam {self.tile_px}: one tile is the whole picture of {words(self.canvas_px)} px; "
                "expected less"
            )

    @property
    def starts(self) -> tuple[list[int], list[int]]:
        """Where tiles begin along y and along x, evenly spread."""
        width, height = sides(self.canvas_px)
        return self._starts(height), self._starts(width)

    def _starts(self, side: int) -> list[int]:
        room, step = side - self.tile_px, self.tile_px - 2 * self.halo_px
        if room <= 0:
            return [0]
        tiles = -(-room // step) + 1
        return [round(place * room / (tiles - 1)) for place in range(tiles)]

    @property
    def places(self) -> list[tuple[int, int]]:
        """Top and left of every tile, row by row."""
        return list(itertools.product(*self.starts))

    def windows(self, canvas: Tensor) -> Iterator[Tensor]:
        """Yield the tiles of a canvas (1, C, H, W)."""
        side = self.tile_px
        return (canvas[..., top : top + side, left : left + side] for top, left in self.places)

    def cropped(self, outputs: Sequence[Tensor]) -> Tensor:
        """Return (1, C, H, W): of every tile the px that lie nearest to its middle."""
        width, height = sides(self.canvas_px)
        down, across = (
            self._cuts(starts, side) for starts, side in zip(self.starts, (height, width), strict=True)
        )
        whole = outputs[0].new_empty(1, outputs[0].shape[1], height, width)
        for (top, left), output in zip(self.places, outputs, strict=True):
            (up, low), (near, far) = down[top], across[left]
            whole[..., up:low, near:far] = output[..., up - top : low - top, near - left : far - left]
        return whole

    def _cuts(self, starts: list[int], side: int) -> dict[int, tuple[int, int]]:
        inside = [(a + self.tile_px + b) // 2 for a, b in itertools.pairwise(starts)]
        return dict(zip(starts, itertools.pairwise([0, *inside, side]), strict=True))

    def blended(self, outputs: Sequence[Tensor]) -> Tensor:
        """Return (1, C, H, W): the mean of all tiles, weighted by ramps over twice the halo."""
        import torch

        width, height = sides(self.canvas_px)
        rows, columns = (self._ramp(side, outputs[0]) for side in outputs[0].shape[-2:])
        weight = rows[:, None] * columns[None, :]
        total = outputs[0].new_zeros(1, outputs[0].shape[1], height, width)
        weights = torch.zeros_like(total[:, :1])
        for (top, left), output in zip(self.places, outputs, strict=True):
            area = (..., slice(top, top + self.tile_px), slice(left, left + self.tile_px))
            total[area] += output * weight
            weights[area] += weight
        return total / weights

    def _ramp(self, side: int, like: Tensor) -> Tensor:
        import torch

        place = torch.arange(side).to(like)
        edge = torch.minimum(place, place.flip(0)) + 1
        return (edge / max(2 * self.halo_px, 1)).clamp(max=1)

    def overlap_mse(self, outputs: Sequence[Tensor]) -> float | None:
        """Return the mean squared difference of all neighbours where both are; None if none overlap."""
        by_place = dict(zip(self.places, outputs, strict=True))
        down, across = self.starts
        # A pair of neighbours shares the last samples of the one along the axis where they lie side by side.
        pairs = [
            *(((a, x), (b, x), -2) for (a, b), x in itertools.product(itertools.pairwise(down), across)),
            *(((y, a), (y, b), -1) for (a, b), y in itertools.product(itertools.pairwise(across), down)),
        ]
        squares, samples = 0.0, 0
        for one, other, axis in pairs:
            shared = self.tile_px - (other[axis] - one[axis])
            if shared > 0:
                first = by_place[one].narrow(axis, self.tile_px - shared, shared)
                difference = first - by_place[other].narrow(axis, 0, shared)
                squares += difference.double().square().sum().item()
                samples += difference.numel()
        return squares / samples if samples else None


@dataclass
class SeamScores(Measure):
    """Squared errors of one network in tiles, a picture after the other."""

    tilings: Sequence[Tiling]
    _strips: list[Tensor | None] = field(default_factory=list, repr=False)  # the whole in strips, a tiling

    name = "seam"
    looks_inside = True
    needs_base = False
    pictures = ("seam.png",)
    checks: ClassVar = {
        "seam": listed(
            record(
                {
                    **dict.fromkeys(("tile_px", "halo_px", "n_tiles"), count),
                    **dict.fromkeys(("cropped_db", "blended_db"), FIGURE_DB),
                    **dict.fromkeys(("overlap_db", "strips_db"), maybe(FIGURE_DB)),
                }
            ),
            least=1,
        )
    }
    checks_about: ClassVar = {"seam": record({"meaning": text, "canvas_px": size})}

    @classmethod
    def add_options(cls, parser: Parser) -> None:
        """Add `--seam`."""
        about = "compare tiles of PX px with the whole canvas too: 64,128 or with a halo 64/16,128/32"
        parser.add_argument("--seam", metavar="PX,...", help=about)

    @classmethod
    def read(cls, args: Any, *, named: bool) -> Any:
        """Return sides and halos of the tiles."""
        return None if args.seam is None else [list(tile) for tile in parse_tiles(args.seam)]

    @classmethod
    def make(cls, settings: Any, conditions: Conditions) -> Self:
        """Return one for all sizes."""
        return cls([Tiling(conditions.canvas_px, *tile) for tile in settings])

    def windows(self, canvas: Tensor, index: int = 0) -> Iterator[Tensor]:
        """Yield the canvas (1, C, H, W), and its tiles of every size."""
        return itertools.chain([canvas], *(tiling.windows(canvas) for tiling in self.tilings))

    def labels(self, index: int = 0) -> list[Label]:
        """Return the size and place of every tile; tiles of two halos can be one."""
        names = [self.name, *(f"{self.name}_{t.tile_px}_{y}_{x}" for t in self.tilings for y, x in t.places)]
        return [Label(self.name, (0, 0), name) for name in names]

    def look_into(self, network: nn.Module, canvas: Tensor, index: int, *, batch_size: int) -> None:
        """Run the canvas in strips, where the network can be run so."""
        self._strips = [in_strips(network, canvas, tiling.tile_px) for tiling in self.tilings]

    def add(self, base: Tensor | None, outputs: Iterator[Tensor], target: Tensor | None, index: int) -> None:
        """Score one picture: for every size a squared error of each of `WAYS`."""
        whole = next(outputs)
        row = []
        for tiling, strips in zip(self.tilings, self._strips, strict=True):
            parts = list(itertools.islice(outputs, len(tiling.places)))
            joined = (tiling.cropped(parts), tiling.blended(parts), None, strips)
            errors = [None if each is None else _mse(whole, each) for each in joined]
            errors[2] = tiling.overlap_mse(parts)
            row.append(errors)
        self._strips = []
        self.rows.append(row)

    def image_db_of(self, place: int, way: str) -> Array | None:
        """Return one value in dB an image, of one size and one of `WAYS`; None where there is none."""
        errors = [row[place][WAYS.index(way)] for row in self.rows]
        return None if None in errors else psnr_db(errors)

    def summary(self, *, seed: int) -> dict[str, Any]:
        """Return an entry a size."""
        entries = []
        for place, tiling in enumerate(self.tilings):
            db = {way: self.image_db_of(place, way) for way in WAYS}
            figures = {
                f"{w}_db": None if v is None else mean_with_interval(v, seed=seed) for w, v in db.items()
            }
            size = {"tile_px": tiling.tile_px, "halo_px": tiling.halo_px, "n_tiles": len(tiling.places)}
            entries.append({**size, **figures})
        return {self.name: entries}

    @classmethod
    def about(cls, settings: Any, conditions: Conditions) -> dict[str, Any]:
        """Return the meaning, and the side of the whole."""
        return {cls.name: {"meaning": MEANING, "canvas_px": as_json(conditions.canvas_px)}}

    @classmethod
    def columns(cls, results: Mapping[str, Any]) -> list[Column]:
        """Return blended tiles of every size, as `generate` makes them."""
        if not cls.was_measured(results):
            return []
        models = results["models"]
        return [
            db_column(
                title=f"{cls.name}, {size_words(first)}",
                note="tiles, blended, against the whole",
                figures=[model[cls.name][place]["blended_db"] for model in models],
            )
            for place, first in enumerate(models[0][cls.name])
        ]

    @classmethod
    def notes(cls, results: Mapping[str, Any]) -> list[str]:
        """Return a table of its own: a row a generator and size."""
        if not cls.was_measured(results):
            return []
        rows = [(model["name"], entry) for model in results["models"] for entry in model[cls.name]]
        side = words(from_json(results[cls.name]["canvas_px"]))
        table = [(f"tiles against {side} px untiled [dB]", [f"{n}, {size_words(e)}" for n, e in rows])]
        for way in WAYS:
            figures = [entry[f"{way}_db"] for _, entry in rows]
            table.append((way, ["-" if each is None else f"{each['mean']:.2f}" for each in figures]))
        return ["", *table_lines(table), ""]

    @classmethod
    def words(cls, results: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return the meaning, and a line a generator and size."""
        if not cls.was_measured(results):
            return []
        lines = [f"{results[cls.name]['meaning']}."]
        for model in results["models"]:
            for entry in model[cls.name]:
                known = [(way, entry[f"{way}_db"]) for way in WAYS if entry[f"{way}_db"]]
                shown = ", ".join(f"{way} {figure['mean']:.1f}" for way, figure in known)
                lines.append(f"{model['name']}, {size_words(entry)}: {shown} dB.")
        return [(cls.name, " ".join(lines))]

    @classmethod
    def outline(cls, model: Mapping[str, Any]) -> Any:
        """Return sizes and halos."""
        return [(entry["tile_px"], entry["halo_px"]) for entry in model.get(cls.name, ())]

    @classmethod
    def show(cls, scene: Scene, out: Path) -> None:
        """Write where tiles differ from the whole, of the picture where generators differ most."""
        from steadypix.data.pictures.transforms import to_pixels
        from steadypix.eval.charts.seam_chart import Seams, draw_seams

        ours: list[Any] = [measures[cls.name] for measures in scene.measures]
        source = scene.canvas(
            cls.name, scene.images[widest_spread([s.image_db_of(0, "cropped") for s in ours])]
        )[0]
        rows = []
        for network, model, scores in zip(scene.networks, scene.results["models"], ours, strict=True):
            outputs = run_windows(network, scores.windows(source), batch_size=scene.batch_size)
            whole = next(outputs)
            for tiling, entry in zip(scores.tilings, model[cls.name], strict=True):
                parts = list(itertools.islice(outputs, len(tiling.places)))
                joined = {"cropped": tiling.cropped(parts), "blended": tiling.blended(parts)}
                changes = [
                    (f"{way}, {entry[f'{way}_db']['mean']:.1f} dB", _levels(whole, each))
                    for way, each in joined.items()
                ]
                tiled = as_rgb(to_pixels(joined["cropped"][0].clamp(-1, 1)))
                pixels = as_rgb(to_pixels(whole[0].clamp(-1, 1)))
                rows.append(Seams(f"{model['name']}, {size_words(entry)}", pixels, tiled, changes))
        draw_seams(out / "seam.png", rows)


def in_strips(network: nn.Module, canvas: Tensor, tile_px: int) -> Tensor | None:
    """Return the output (1, C', S, S) for a canvas (1, C, S, S) run in strips; None if it cannot be."""
    import torch

    from steadypix.eval.large.freezing import can_be_seen
    from steadypix.gen.large.maps import NotInStrips
    from steadypix.gen.large.strips import run_in_strips
    from steadypix.gen.large.workspace import Workspace

    if not can_be_seen(network):
        return None
    workspace = Workspace(strip_samples=CHANNELS_AT_ONCE * tile_px**2)
    try:
        return torch.cat(list(run_in_strips(network, canvas, workspace)), dim=2).float()
    except (NotInStrips, InputError):  # a callable's module is behind a face that names what it cannot take
        return None


def size_words(entry: Mapping[str, Any]) -> str:
    """Return a size as people say it."""
    return f"{entry['tile_px']} px, halo {entry['halo_px']}"


def _mse(first: Tensor, second: Tensor) -> float:
    return (first - second).double().square().mean().item()


def _levels(first: Tensor, second: Tensor) -> Array:
    """Return how far two outputs are apart at every px, mean over channels, in levels of 255."""
    difference = (first - second).abs().mean(dim=1)[0] * 127.5
    return np.asarray(difference.double().cpu().numpy())
