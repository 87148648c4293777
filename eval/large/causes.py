"""Why a generator is unstable under shifts: sampling, statistics, border.

    full frame = sampling - statistics - border      [dB, under the protocol crop]

*sampling*: stability over the interior (less a margin) with norms frozen, which go by the statistics of the
unshifted window. What is left is how the layers sample.
*statistics*: what the same interior loses when norms look at each window: new content changes their
statistics, and so every px.
*border*: what the full frame loses against its interior, where the network sees padding instead of content.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

from steadypix.errors import InputError
from steadypix.eval.metrics.decibels import Array, mean_with_interval
from steadypix.eval.metrics.forward import run_windows
from steadypix.eval.metrics.measure import Column, Conditions, Label, Measure, db_column
from steadypix.eval.metrics.stability import CropScores, some
from steadypix.json_checks import FIGURE_DB, count, record, text

if TYPE_CHECKING:
    from torch import Tensor, nn

    from steadypix.command import Parser

MEANING = (
    "stability under crop over the full frame = sampling - statistics - border, in dB. Sampling: over the "
    "interior, less a margin, with norms that go by the statistics of the unshifted window. Statistics: what "
    "the interior loses when norms look at every window. Border: what the full frame loses against the "
    "interior"
)
PARTS = ("full_frame", "interior", "sampling", "statistics", "border")


@dataclass
class CauseScores(Measure):
    """Squared errors of one network with and without frozen norms, a picture after the other."""

    scores: CropScores  # over the full frame and the interior
    _frozen: Iterator[Tensor] = field(default_factory=lambda: iter(()), repr=False)

    name = "causes"
    looks_inside = True
    checks: ClassVar = {
        "causes": record({"over": text, **{f"{part}_db": FIGURE_DB for part in PARTS}}),
    }
    checks_about: ClassVar = {"causes": record({"meaning": text, "margin_px": count})}

    @classmethod
    def add_options(cls, parser: Parser) -> None:
        """Add `--causes`."""
        about = "split instability under crop into sampling, statistics and border too: norms are frozen"
        parser.add_argument("--causes", action="store_true", help=about)

    @classmethod
    def read(cls, args: Any, *, named: bool) -> Any:
        """Return no settings."""
        return {} if args.causes else None

    @classmethod
    def suit(cls, settings: Any, generators: Mapping[str, nn.Module]) -> Any:
        """Refuse generators whose norms cannot be reached."""
        from steadypix.eval.large.freezing import require_layers

        require_layers("--causes", generators)
        return settings

    @classmethod
    def make(cls, settings: Any, conditions: Conditions) -> Self:
        """Return one for the full frame and the widest margin that fits.

        Raises:
            InputError: if there is no margin, so that nothing is known of the border.
        """
        wanted = tuple(sorted({0, *conditions.margins_px}))
        scores = CropScores.make({}, dataclasses.replace(conditions, map_offsets=(), margins_px=wanted))
        margins = (0, scores.margins_px[-1])
        if not margins[1]:
            raise InputError("--causes: has no margin that fits; expected one over 0 px in --margins")
        return cls(CropScores(scores.protocol, scores.offsets, margins))

    def windows(self, canvas: Tensor, index: int = 0) -> Iterator[Tensor]:
        """Yield the shifted windows of one canvas (1, C, S, S)."""
        return self.scores.windows(canvas, index)

    def labels(self, index: int = 0) -> list[Label]:
        """Return the labels of crop, whose windows these are."""
        return self.scores.labels(index)

    def look_into(self, network: nn.Module, canvas: Tensor, index: int, *, batch_size: int) -> None:
        """Run the same windows through the network with frozen norms."""
        from steadypix.eval.large.freezing import frozen

        still, base = frozen(network, self.scores.protocol.base(canvas))
        moved: Iterable[Tensor] = ()
        if still is not network:  # else nothing was frozen, and the outputs are known
            moved = run_windows(still, self.windows(canvas), batch_size=batch_size)
        self._frozen = itertools.chain([base], moved)

    def add(self, base: Tensor | None, outputs: Iterator[Tensor], target: Tensor | None, index: int) -> None:
        """Score one picture: errors as it is, and with frozen norms."""
        self.scores.add(some(base), outputs, target, index)
        plain = self.scores.take()
        self.rows.append([plain, self._frozen_errors(target, index) or plain])

    def _frozen_errors(self, target: Tensor | None, index: int) -> Any:
        base, first = next(self._frozen), next(self._frozen, None)
        if first is None:
            return None
        self.scores.add(base, itertools.chain([first], self._frozen), target, index)
        return self.scores.take()

    def parts(self) -> dict[str, Array]:
        """Return for each of `PARTS` one value in dB an image, the mean over the shifts that lead."""
        margin = self.scores.margins_px[-1]
        plain, still = (self._scored(place) for place in (0, 1))
        full, interior = plain.along().lead_db(0), plain.along().lead_db(margin)
        sampling = still.along().lead_db(margin)
        parts = (full, interior, sampling, sampling - interior, interior - full)
        return dict(zip(PARTS, parts, strict=True))

    def _scored(self, place: int) -> CropScores:
        scores = CropScores(self.scores.protocol, self.scores.offsets, self.scores.margins_px)
        scores.rows = [row[place] for row in self.rows]
        return scores

    def summary(self, *, seed: int) -> dict[str, Any]:
        """Return the parts, and over which shifts they are means."""
        figures = {f"{part}_db": mean_with_interval(db, seed=seed) for part, db in self.parts().items()}
        return {self.name: {"over": self._scored(0).along().over, **figures}}

    def gains(self, reference: Self, *, seed: int) -> list[dict[str, Any]]:
        """Return the paired difference of what sampling alone leaves."""
        ours, theirs = (each.parts()["sampling"] for each in (self, reference))
        margin, over = self.scores.margins_px[-1], f"{self._scored(0).along().over}, norms frozen"
        gain = mean_with_interval(ours - theirs, seed=seed)
        return [{"protocol": "sampling", "margin_px": margin, "over": over, "gain_db": gain}]

    @classmethod
    def about(cls, settings: Any, conditions: Conditions) -> dict[str, Any]:
        """Return the meaning and the margin."""
        margin = cls.make(settings, conditions).scores.margins_px[-1]
        return {cls.name: {"meaning": MEANING, "margin_px": margin}}

    @classmethod
    def columns(cls, results: Mapping[str, Any]) -> list[Column]:
        """Return the three causes."""
        if not cls.was_measured(results):
            return []
        margin, models = results[cls.name]["margin_px"], results["models"]

        def figures(part: str) -> list[Any]:
            return [model[cls.name][f"{part}_db"] for model in models]

        return [
            db_column(
                title="sampling", note=f"norms frozen, {margin} px left out", figures=figures("sampling")
            ),
            db_column(
                title="statistics", note="lost when norms look", figures=figures("statistics"), better=""
            ),
            db_column(title="border", note="lost in the full frame", figures=figures("border"), better=""),
        ]

    @classmethod
    def notes(cls, results: Mapping[str, Any]) -> list[str]:
        """Return a line a generator."""
        if not cls.was_measured(results):
            return []
        lines = []
        for model in results["models"]:
            full, _, *parts = (model[cls.name][f"{part}_db"]["mean"] for part in PARTS)
            shown = " - ".join(f"{name} {db:.2f}" for name, db in zip(PARTS[2:], parts, strict=True))
            lines.append(f"{model['name']}: full frame {full:.2f} dB = {shown}")
        return lines

    @classmethod
    def words(cls, results: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return the meaning, and a line a generator."""
        return cls.meaning_and_notes(results, "margin {margin_px} px")

    @classmethod
    def outline(cls, model: Mapping[str, Any]) -> Any:
        """Return whether it was measured."""
        return cls.name in model
