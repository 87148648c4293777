"""The measurement itself: every generator on every picture, streamed, one result as plain JSON values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steadypix.errors import InputError
from steadypix.eval.measure.partial import Partial
from steadypix.eval.measure.plan import Plan
from steadypix.eval.measure.processes import Processes
from steadypix.eval.measure.registry import MEASURES
from steadypix.eval.measure.stage import Halves, Stage, pictures
from steadypix.eval.metrics.decibels import Array
from steadypix.eval.metrics.forward import run_windows
from steadypix.eval.metrics.measure import Measure
from steadypix.eval.repeat.floor import seeded
from steadypix.progress import progress

if TYPE_CHECKING:
    from steadypix.eval.generators.models import Model


@dataclass
class Measurement:
    """What is known of one generator so far.

    `images` are the numbers of the pictures measured: an unreadable one may have been skipped.
    """

    model: Model
    stages: Sequence[Stage]
    measures: dict[str, Measure]
    images: list[int] = field(default_factory=list)

    def add(self, canvases: Sequence[Halves], *, index: int, batch_size: int) -> None:
        """Measure picture number `index`: input and target (1, C, H, W) for every stage."""
        for stage, (source, target) in zip(self.stages, canvases, strict=True):
            inputs = stage.inputs(self.measures, source, index)
            same_size = not all(self.measures[name].any_size for name in stage.names)
            outputs = run_windows(self.model.module, inputs, batch_size=batch_size, same_size=same_size)
            base = next(outputs) if stage.has_base(self.measures) else None
            if base is not None and target is not None and base.shape[1] != target.shape[1]:
                raise InputError(f"gives {base.shape[1]} channels, but the targets have {target.shape[1]}")
            for name in stage.names:
                self.measures[name].look_into(self.model.module, source, index, batch_size=batch_size)
                self.measures[name].add(base, outputs, stage.target(target, base), index)

    def take(self) -> dict[str, Any]:
        """Give the last picture's numbers away, as plain JSON values; `put` takes them back."""
        return {name: measure.take() for name, measure in self.measures.items()}

    def put(self, index: int, row: Mapping[str, Any]) -> None:
        """Add picture number `index`, measured by another process or before."""
        self.images.append(index)
        for name, measure in self.measures.items():
            measure.put(row[name])

    @property
    def leading(self) -> Measure:
        """The measure that ranks generators: the first protocol with shifts, else the first protocol."""
        protocols = [m for m in self.measures.values() if MEASURES[m.name].asked_by == "protocol"]
        return next((measure for measure in protocols if measure.rule), protocols[0])

    def lead_db(self) -> Array:
        """Return one value a picture of the measure that leads."""
        values = self.leading.image_db()
        assert values is not None
        return values


def measure(
    models: Sequence[Model],
    stages: Sequence[Stage],
    plan: Plan,
    *,
    processes: Processes | None = None,
    partial: Path | None = None,
    heading: Mapping[str, Any] | None = None,
) -> tuple[list[Measurement], int]:
    """Measure every generator on every picture.

    A picture is decoded once and held alone; squared errors (a few numbers a picture) are all that stays.

    Args:
        models: the generators.
        stages: the pictures, see `eval.measure.stage.open_stages`.
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
        Measurement(model, stages, {k: v for s in stages for k, v in plan.make(s.names, s.pairs).items()})
        for model in models
    ]
    processes = processes or Processes()
    n_images = plan.count(stages[0].pairs)
    skipped: list[str] = []
    with Partial(partial, heading or {}, processes.run) as kept:
        todo = [index for index in range(processes.rank, n_images, processes.world) if index not in kept.done]
        for index, name, canvases in progress(pictures(stages, todo, plan, skipped), len(todo)):
            for measurement in measurements:
                try:
                    with seeded(plan.device, plan.seed, index):
                        measurement.add(canvases, index=index, batch_size=plan.batch_size)
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
