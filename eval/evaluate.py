"""The measurement itself: every model on every picture, streamed, one result as plain JSON values."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data.command import progress
from data.errors import InputError
from eval.canvases import canvases
from eval.decibels import Array
from eval.eqt import EqtScores
from eval.offsets import Offset, is_whole
from eval.partial import Partial
from eval.perturb import PerturbationScores
from eval.processes import Processes
from eval.quality import Figures, Measure, quality, quality_measures
from eval.shifts import Protocol, Roll, make_protocol
from eval.stability import StabilityScores, run_windows

if TYPE_CHECKING:
    from torch import Tensor

    from data.pairs import Pairs
    from eval.models import Model


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure.

    Attributes:
        protocols: names, the first one leads.
        eqt: measure EQ-T too; it leads where there is no protocol.
        offsets: shifts (dx, dy) in px along the axis; a protocol leaves out those it cannot make.
        map_offsets: further shifts of the (dx, dy) map, or none.
        margins_px: borders left out, each reported.
        batch_size: windows in one forward pass.
        workers: processes that decode pictures.
        measures: quality figures by name, see `eval.quality.quality_measures`.
        perturbations: kinds of perturbation by name, or none.
        seed: of the bootstrap and the noise.
        limit: pictures used at most; None takes all.
        device: a torch device.
    """

    protocols: Sequence[str]
    offsets: Sequence[Offset]
    eqt: bool = False
    map_offsets: Sequence[Offset] = ()
    margins_px: Sequence[int] = (0, 16)
    batch_size: int = 8
    workers: int = 0
    measures: Mapping[str, Measure] = field(default_factory=quality_measures)
    perturbations: Sequence[str] = ()
    seed: int = 0
    limit: int | None = None
    device: str = "cpu"

    def rules(self, pairs: Pairs) -> list[Protocol]:
        """Return the protocols for the pictures of `pairs`."""
        return [
            make_protocol(name, canvas_px=pairs.load_size, window_px=pairs.crop_size)
            for name in self.protocols
        ]

    def offsets_of(self, rule: Protocol, *, mapped: bool = False) -> list[Offset]:
        """Return the offsets along the axis (`mapped`: of the map too) that a protocol can make."""
        offsets = {*self.offsets, *(self.map_offsets if mapped else ())}
        return sorted(offset for offset in offsets if rule.takes_fractions or is_whole(offset))

    def margins_of(self, rule: Protocol) -> list[int]:
        """Return the margins that leave something of a small window; at least the smallest."""
        room = min(map(rule.compared_px, self.offsets_of(rule, mapped=True)), default=0)
        return [margin for margin in self.margins_px if 2 * margin < room] or list(self.margins_px[:1])

    def scores(self, pairs: Pairs) -> list[StabilityScores]:
        """Return empty scores, one a protocol.

        Raises:
            InputError: if nothing moves, or a shift or margin does not fit.
        """
        scores = [
            StabilityScores(rule, self.offsets_of(rule, mapped=True), self.margins_of(rule))
            for rule in self.rules(pairs)
        ]
        for score in scores:
            if not score.moving and any(map(any, self.offsets)):
                name = score.protocol.name
                raise InputError(
                    f"{name}: takes whole shifts; expected one in --shifts, or --protocol subpixel"
                )
            if not score.moving:
                raise InputError("shift 0 alone moves nothing; expected others in --shifts, such as 0..7")
        return scores

    def eqt_scores(self, pairs: Pairs) -> EqtScores | None:
        """Return empty scores of EQ-T, if it is measured."""
        return EqtScores(pairs.load_size, pairs.crop_size, seed=self.seed) if self.eqt else None

    def perturbed(self, pairs: Pairs) -> PerturbationScores:
        """Return empty scores of the perturbations, at the widest margin that fits the first protocol."""
        rules = self.rules(pairs) or [Roll(pairs.load_size, pairs.crop_size)]
        fitting = [margin for margin in self.margins_px if 2 * margin < pairs.crop_size] or [0]
        margins = self.margins_of(rules[0]) if rules[0].uses_margins else fitting
        return PerturbationScores(rules[0], self.perturbations, max(margins), self.seed)


@dataclass
class Measurement:
    """What is known of one model so far: its stability a protocol, its quality an image.

    `images` are the numbers of the pictures measured: an unreadable one may have been skipped.
    """

    model: Model
    scores: list[StabilityScores]
    perturbed: PerturbationScores
    measures: Mapping[str, Measure]
    eqt: EqtScores | None = None
    quality: list[Figures] = field(default_factory=list)
    images: list[int] = field(default_factory=list)

    def add(self, source: Tensor, target: Tensor, *, index: int, batch_size: int) -> None:
        """Measure picture number `index`, input and target (1, C, S, S) at canvas size."""
        rule = self.perturbed.protocol
        every: list[StabilityScores | PerturbationScores] = [*self.scores, self.perturbed]
        windows = [scores.windows(source) for scores in every]
        if self.eqt:
            windows.append(self.eqt.windows(source, index))
        inputs = itertools.chain([rule.base(source)], *windows)
        outputs = run_windows(self.model.module, inputs, batch_size=batch_size)
        base = next(outputs)
        if base.shape[1] != target.shape[1]:
            raise InputError(f"gives {base.shape[1]} channels, but the targets have {target.shape[1]}")
        self.quality.append(quality(base, rule.base(target), self.measures))
        for scores in every:
            scores.add(base, outputs)
        if self.eqt:
            self.eqt.add(base, outputs, index)

    def take(self) -> dict[str, Any]:
        """Give the last picture's numbers away, as plain JSON values; `put` takes them back."""
        return {
            "quality": self.quality.pop(),
            "scores": [scores.take() for scores in self.scores],
            "perturbed": self.perturbed.take(),
            "eqt": self.eqt.take() if self.eqt else None,
        }

    def put(self, index: int, row: Mapping[str, Any]) -> None:
        """Add picture number `index`, measured by another process or before."""
        self.images.append(index)
        self.quality.append(row["quality"])
        for scores, errors in zip(self.scores, row["scores"], strict=True):
            scores.put(errors)
        self.perturbed.put(row["perturbed"])
        if self.eqt:
            self.eqt.put(row["eqt"])

    def lead_db(self) -> Array:
        """Return one value an image: the first protocol's mean at its widest margin, or else EQ-T."""
        if not self.scores:
            assert self.eqt is not None
            return self.eqt.result().image_db()
        stability = self.scores[0].result()
        return stability.image_db(stability.margins_px[-1])


def measure(
    models: Sequence[Model],
    pairs: Pairs,
    plan: Plan,
    *,
    processes: Processes | None = None,
    partial: Path | None = None,
    heading: Mapping[str, Any] | None = None,
) -> tuple[list[Measurement], int]:
    """Measure every model on every picture.

    A picture is decoded once and held alone; squared errors (a few numbers a picture) are all that stays.

    Args:
        models: the generators.
        pairs: the pictures.
        plan: what to measure.
        processes: those that share the pictures; None is this one alone.
        partial: file that keeps what is measured, for an evaluation that is interrupted; None keeps nothing.
        heading: what is measured, as JSON values; another heading's file is not gone on with.

    Returns:
        The finished measurements, and how many pictures were skipped because they cannot be read; empty
        ones and 0 on all processes but the first.

    Raises:
        InputError: if a shift or margin does not fit, a picture cannot be read (if `pairs.on_error` is
            `skip`: none can), or an output is not finite; the message names the model and the picture.
    """
    measurements = [
        Measurement(
            model,
            plan.scores(pairs),
            plan.perturbed(pairs),
            plan.measures,
            plan.eqt_scores(pairs),
        )
        for model in models
    ]
    processes = processes or Processes()
    n_images = min(len(pairs), plan.limit or len(pairs))
    skipped: list[str] = []
    with Partial(partial, dict(heading or {})) as kept:
        todo = [index for index in range(processes.rank, n_images, processes.world) if index not in kept.done]
        for index, name, source, target in progress(canvases(pairs, todo, plan, skipped), len(todo)):
            for measurement in measurements:
                try:
                    measurement.add(source, target, index=index, batch_size=plan.batch_size)
                except InputError as error:
                    raise InputError(f"{measurement.model.path} on {name}: {error}") from None
            kept.add(index, [measurement.take() for measurement in measurements])
    # In the order of the pictures, whoever measured them: sums and intervals depend on it.
    shares = processes.gather((kept.done, skipped))
    everything = {i: rows for done, _ in shares for i, rows in done.items() if i < n_images}
    for index in sorted(everything):
        for measurement, row in zip(measurements, everything[index], strict=True):
            measurement.put(index, row)
    reasons = [reason for _, theirs in shares for reason in theirs]
    if reasons and not everything:
        raise InputError(f"none of {n_images} pictures can be read; the first: {reasons[0]}")
    return measurements, len(reasons)


def strip_outputs(
    model: Model, canvas: Tensor, rule: Protocol, offsets: Sequence[Offset], *, batch_size: int
) -> np.ndarray:
    """Return the outputs for every offset, moved back in place, as pixels for pictures.

    Args:
        model: the generator.
        canvas: (1, C, S, S) in [-1, 1].
        rule: the protocol.
        offsets: shifts (dx, dy) in px.
        batch_size: windows in one forward pass.

    Returns:
        (len(offsets), H, W, 3) uint8 over the area that all shifts share.
    """
    from data.transforms import to_pixels

    windows = (rule.shifted(canvas, offset) for offset in offsets)
    outputs = run_windows(model.module, windows, batch_size=batch_size)
    return np.stack(
        [
            as_rgb(to_pixels(rule.shared(output, offset, offsets)[0]))
            for offset, output in zip(offsets, outputs, strict=True)
        ]
    )


def as_rgb(pixels: np.ndarray) -> np.ndarray:
    """Return what can be shown of (H, W, C) as (H, W, 3): the first three channels, or the first as gray."""
    return pixels[..., :3] if pixels.shape[2] >= 3 else np.repeat(pixels[..., :1], 3, axis=2)
