"""Locality: something changes at the left side of the picture; how much changes how far away?

The camera stands still and the left px of the window become flat grey over their full height, as if an
object had entered. Outputs with and without it are compared by distance from the changed px. A norm that
looks at the whole picture changes all of it, so the same is measured with norms frozen on the unchanged
window. The rest comes through the layers' reach.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from steadypix.command import positive
from steadypix.errors import InputError
from steadypix.eval.metrics.decibels import Array, mean_with_interval, psnr_db
from steadypix.eval.metrics.forward import run_windows
from steadypix.eval.metrics.measure import Column, Conditions, Label, Measure, db_column
from steadypix.eval.metrics.stability import some
from steadypix.eval.shifts.protocols import Crop
from steadypix.json_checks import FIGURE_DB, count, listed, maybe, record, text

if TYPE_CHECKING:
    from torch import Tensor, nn

    from steadypix.command import Parser

EDGES_PX = (0, 16, 32, 64, 128)  # where bands of distance begin
GREY = 0.0  # the middle of [-1, 1]
MEANING = (
    "the left px of the window become flat grey; outputs with and without are compared by distance from the "
    "changed px, and over all that was not changed (beyond). Frozen: norms go by the statistics of the "
    "unchanged window"
)


@dataclass
class LocalityScores(Measure):
    """Squared errors of one network by distance from a change, a picture after the other."""

    protocol: Crop  # cuts the window out of the canvas
    changed_px: int  # columns that are changed, from the left
    _frozen: tuple[Tensor, Tensor] | None = None  # outputs with frozen norms: without the change and with it

    name = "locality"
    looks_inside = True
    pictures = ("locality.png",)
    checks: ClassVar = {
        "locality": record(
            {
                "bands": listed(
                    record(
                        {
                            "from_px": count,
                            "to_px": maybe(count),
                            "db": FIGURE_DB,
                            "frozen_db": maybe(FIGURE_DB),
                        }
                    ),
                    least=1,
                ),
                "beyond_db": FIGURE_DB,
                "frozen_beyond_db": maybe(FIGURE_DB),
            }
        )
    }
    checks_about: ClassVar = {"locality": record({"meaning": text, "changed_px": count})}

    def __post_init__(self) -> None:
        width = self.protocol.window[0]
        if self.changed_px >= width:
            raise InputError(
                f"--locality {self.changed_px}: changes all of a window of {width} px; "
                f"expected at most {width - 1}"
            )

    @classmethod
    def add_options(cls, parser: Parser) -> None:
        """Add `--locality`."""
        about = "measure too how far away outputs change when the left PX px of the window do"
        parser.add_argument("--locality", type=positive, metavar="PX", help=about)

    @classmethod
    def read(cls, args: Any, *, named: bool) -> Any:
        """Return how many px are changed."""
        return args.locality

    @classmethod
    def make(cls, settings: Any, conditions: Conditions) -> Self:
        """Return one."""
        return cls(Crop(conditions.canvas_px, conditions.window_px), settings)

    def windows(self, canvas: Tensor, index: int = 0) -> Iterator[Tensor]:
        """Yield the changed window of one canvas (1, C, S, S)."""
        window = self.protocol.base(canvas).clone()
        window[..., : self.changed_px] = GREY
        yield window

    def labels(self, index: int = 0) -> list[Label]:
        """Return its name."""
        return [Label(self.name, (0, 0), f"{self.name}_{self.changed_px}")]

    def look_into(self, network: nn.Module, canvas: Tensor, index: int, *, batch_size: int) -> None:
        """Run both windows with norms that go by the unchanged one, where they can be frozen."""
        from steadypix.eval.large.freezing import can_be_seen, frozen

        self._frozen = None
        if can_be_seen(network):
            still, base = frozen(network, self.protocol.base(canvas))
            changed = next(run_windows(still, self.windows(canvas), batch_size=1))
            self._frozen = base, changed

    def add(self, base: Tensor | None, outputs: Iterator[Tensor], target: Tensor | None, index: int) -> None:
        """Score one picture: a squared error a band and one beyond the change, as it is and frozen."""
        plain = self._errors(some(base), next(outputs))
        self.rows.append([plain, None if self._frozen is None else self._errors(*self._frozen)])
        self._frozen = None

    def _errors(self, base: Tensor, changed: Tensor) -> list[float]:
        squares = (base - changed).double().square()[..., self.changed_px :]
        return [squares[..., low:high].mean().item() for low, high in [*self.bands, (0, None)]]

    @property
    def bands(self) -> list[tuple[int, int | None]]:
        """Where bands of distance begin and end, in px; the last goes on to the window's edge."""
        room = self.protocol.window[0] - self.changed_px
        begins = [edge for edge in EDGES_PX if edge < room]
        return list(zip(begins, [*begins[1:], None], strict=True))

    def image_db_by_band(self) -> tuple[Array, Array | None]:
        """Return dB (images, bands and all beyond the change), as it is and frozen."""
        plain, still = zip(*self.rows, strict=True)
        return psnr_db(plain), None if None in still else psnr_db(still)

    def summary(self, *, seed: int) -> dict[str, Any]:
        """Return the dB of every band and beyond."""
        plain, still = self.image_db_by_band()

        def figures(db: Array | None) -> list[Any]:
            if db is None:
                return [None] * (len(self.bands) + 1)
            return [mean_with_interval(column, seed=seed) for column in db.T]

        *near, beyond = zip(figures(plain), figures(still), strict=True)
        bands = [
            {"from_px": low, "to_px": high, "db": db, "frozen_db": frozen_db}
            for (low, high), (db, frozen_db) in zip(self.bands, near, strict=True)
        ]
        return {self.name: {"bands": bands, "beyond_db": beyond[0], "frozen_beyond_db": beyond[1]}}

    def gains(self, reference: Self, *, seed: int) -> list[dict[str, Any]]:
        """Return the paired difference beyond the change."""
        ours, theirs = (each.image_db_by_band()[0][:, -1] for each in (self, reference))
        over = f"all beyond {self.changed_px} changed px"
        gain = mean_with_interval(ours - theirs, seed=seed)
        return [{"protocol": self.name, "margin_px": 0, "over": over, "gain_db": gain}]

    @classmethod
    def about(cls, settings: Any, conditions: Conditions) -> dict[str, Any]:
        """Return the meaning, and how many px are changed."""
        return {cls.name: {"meaning": MEANING, "changed_px": settings}}

    @classmethod
    def columns(cls, results: Mapping[str, Any]) -> list[Column]:
        """Return what changes beyond, and farthest away, as it is and frozen."""
        if not cls.was_measured(results):
            return []
        found = [model[cls.name] for model in results["models"]]
        far = f"{found[0]['bands'][-1]['from_px']} px away and more"
        every = [
            ("beyond", "all but the changed px", [each["beyond_db"] for each in found]),
            ("far", far, [each["bands"][-1]["db"] for each in found]),
            ("far, frozen", f"{far}, norms frozen", [each["bands"][-1]["frozen_db"] for each in found]),
        ]
        return [
            db_column(
                title=f"{cls.name}, {title}",
                note=note,
                figures=[db or {"mean": None, "ci95": None} for db in figures],
            )
            for title, note, figures in every
        ]

    @classmethod
    def notes(cls, results: Mapping[str, Any]) -> list[str]:
        """Return a line a generator: dB by distance."""
        if not cls.was_measured(results):
            return []
        lines = []
        for model in results["models"]:
            shown = ", ".join(
                f"{band_words(band)} {band['db']['mean']:.1f}"
                + (f" (frozen {band['frozen_db']['mean']:.1f})" if band["frozen_db"] else "")
                for band in model[cls.name]["bands"]
            )
            lines.append(f"{model['name']}, locality, dB by distance in px: {shown}")
        return lines

    @classmethod
    def words(cls, results: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return the meaning, and a line a generator."""
        return cls.meaning_and_notes(results, "{changed_px} px change")

    @classmethod
    def outline(cls, model: Mapping[str, Any]) -> Any:
        """Return where bands begin."""
        return [band["from_px"] for band in model[cls.name]["bands"]] if cls.name in model else None

    @classmethod
    def draw(cls, out: Path, results: dict[str, Any]) -> None:
        """Write the chart of dB by distance."""
        from steadypix.eval.charts.locality_chart import draw_locality

        draw_locality(out / "locality.png", results)


def band_words(band: Mapping[str, Any]) -> str:
    """Return a band of distance as people say it.

    >>> band_words({"from_px": 16, "to_px": 32}), band_words({"from_px": 64, "to_px": None})
    ('16-32', '64+')
    """
    return f"{band['from_px']}+" if band["to_px"] is None else f"{band['from_px']}-{band['to_px']}"
