"""Stability of the whole frame when a network sees some px around the window it is asked for.

Near its border a network sees padding instead of content, so the full frame is less stable than its
interior. With context the same windows are compared over the full frame, but the network is given the
window with its surroundings, and those are cut off the output.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from steadypix.command import positive
from steadypix.eval.metrics.decibels import mean_with_interval
from steadypix.eval.metrics.measure import Column, Conditions, Label, Measure, db_column
from steadypix.eval.metrics.stability import CropScores, Stability, shift_label
from steadypix.eval.results.lead import summary_figure
from steadypix.eval.shifts.offsets import Offset, split
from steadypix.json_checks import FIGURE_DB, count, maybe, number, pair, record, text

if TYPE_CHECKING:
    from torch import Tensor

    from steadypix.command import Parser

MEANING = (
    "the windows of crop, each given to the generator with more px on every side, which are cut off its "
    "output; outputs are compared over the full frame. The surroundings are those of the canvas, and beyond "
    "its edge mirrored ones"
)


@dataclass
class ContextScores(Measure):
    """Squared errors of one network whose windows have context, a picture after the other."""

    scores: CropScores  # compares what is left when the context is cut off
    context_px: int  # on each side

    name = "context"
    looks_inside = True
    needs_base = False
    checks: ClassVar = {"context": record({"mean_db": FIGURE_DB, "odd_mean_db": maybe(FIGURE_DB)})}
    checks_about: ClassVar = {
        "context": record(
            {"meaning": text, "context_px": count, "real_px": pair(count), "area_factor": number}
        )
    }

    @classmethod
    def add_options(cls, parser: Parser) -> None:
        """Add `--context`."""
        about = "measure the full frame too where generators see PX px more on each side"
        parser.add_argument("--context", type=positive, metavar="PX", help=about)

    @classmethod
    def read(cls, args: Any, *, named: bool) -> Any:
        """Return how much context."""
        return args.context

    @classmethod
    def make(cls, settings: Any, conditions: Conditions) -> Self:
        """Return one for the whole shifts of the evaluation."""
        whole_frame = dataclasses.replace(conditions, map_offsets=(), margins_px=(0,))
        return cls(CropScores.make({}, whole_frame), settings)

    @property
    def _offsets(self) -> list[Offset]:
        return [(0, 0), *self.scores.moving]

    def windows(self, canvas: Tensor, index: int = 0) -> Iterator[Tensor]:
        """Yield the unshifted window of one canvas (1, C, S, S) and all others, with their context."""
        from steadypix.gen.large.context import mirrored

        around, rule = (self.context_px, self.context_px), self.scores.protocol
        # In the larger picture a window with its context begins where it began without.
        large = mirrored(canvas, around, around)
        width, height = (side + sum(around) for side in rule.window)
        for offset in self._offsets:
            dx, dy = split(offset)[0]
            left, top = rule.origin[0] - dx, rule.origin[1] - dy
            yield large[..., top : top + height, left : left + width]

    def labels(self, index: int = 0) -> list[Label]:
        """Return the shift of every window; the name tells how much context, too."""
        labels = (shift_label(self.name, offset) for offset in self._offsets)
        return [dataclasses.replace(label, suffix=f"{label.suffix}_{self.context_px}") for label in labels]

    def add(self, base: Tensor | None, outputs: Iterator[Tensor], target: Tensor | None, index: int) -> None:
        """Score one picture: what is left of the outputs without their context."""
        width, height = self.scores.protocol.window
        rows, columns = (slice(self.context_px, self.context_px + side) for side in (height, width))
        cut = (next(outputs)[..., rows, columns] for _ in self._offsets)
        self.scores.add(next(cut), cut, target, index)
        self.rows.append(self.scores.take())

    def result(self) -> Stability:
        """Return what was measured so far."""
        scores = CropScores(self.scores.protocol, self.scores.offsets, (0,))
        scores.rows = self.rows
        return scores.result()

    def summary(self, *, seed: int) -> dict[str, Any]:
        """Return the summary of the full frame."""
        return {self.name: self.result().summary(0, seed=seed)}

    def gains(self, reference: Self, *, seed: int) -> list[dict[str, Any]]:
        """Return the paired differences over the shifts that lead."""
        ours, theirs = self.result(), reference.result()
        gain = mean_with_interval(ours.lead_db(0) - theirs.lead_db(0), seed=seed)
        return [{"protocol": self.name, "margin_px": 0, "over": ours.over, "gain_db": gain}]

    @classmethod
    def about(cls, settings: Any, conditions: Conditions) -> dict[str, Any]:
        """Return how much context there is, how much of it is real, and what it costs."""
        scores = cls.make(settings, conditions).scores
        rule, rooms = scores.protocol, []
        for offset in scores.moving:
            for axis, shift in enumerate(split(offset)[0]):
                before = rule.origin[axis] - shift
                after = rule.canvas[axis] - rule.window[axis] - before
                rooms += [min(settings, before), min(settings, after)]
        width, height = rule.window
        area_factor = (width + 2 * settings) * (height + 2 * settings) / (width * height)
        about = {"meaning": MEANING, "context_px": settings}
        return {cls.name: {**about, "real_px": [min(rooms), max(rooms)], "area_factor": area_factor}}

    @classmethod
    def columns(cls, results: Mapping[str, Any]) -> list[Column]:
        """Return the mean that leads."""
        if not cls.was_measured(results):
            return []
        about, models = results[cls.name], results["models"]
        px = about["context_px"]
        return [
            db_column(
                title=cls.name,
                heading=f"full frame, context {px} px [dB]",
                note=f"full frame, {px} px of context, {about['area_factor']:.2f} times the area",
                figures=[summary_figure(model[cls.name]) for model in models],
            )
        ]

    @classmethod
    def notes(cls, results: Mapping[str, Any]) -> list[str]:
        """Return what it costs, and how much of it is mirrored."""
        if not cls.was_measured(results):
            return []
        about = results[cls.name]
        least, most = about["real_px"]
        words = f"{about['context_px']} px a side, {about['area_factor']:.2f} times the area"
        return [f"Context: {words}; {least} to {most} px of it on the canvas, the rest mirrored."]

    @classmethod
    def words(cls, results: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return meaning, costs and how much is mirrored."""
        lines = cls.notes(results)
        return [(cls.name, f"{results[cls.name]['meaning']}. {line}") for line in lines]

    @classmethod
    def outline(cls, model: Mapping[str, Any]) -> Any:
        """Return whether it was measured."""
        return cls.name in model
