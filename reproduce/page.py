"""What is known of a study's trainings: what its page is made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reproduce.measuring import points
from reproduce.plan import VARIANTS, Run, counterpart
from reproduce.sharpness import Point

Rows = Mapping[str, Sequence[Mapping[str, Any]]]  # by run: its checkpoints, in the order of training


@dataclass(frozen=True)
class Baseline:
    """The baseline, the mean of its seeds.

    Args:
        db: stability.
        tv: total variation of its outputs.
        seeds: how many.
    """

    db: float
    tv: float
    seeds: int


@dataclass(frozen=True)
class Page:
    """What a page is made from.

    Args:
        study: a key of `STUDIES`.
        scale: a key of `SCALES`.
        rows: by run's name, its checkpoints in the order of training.
        finals: by the name of a run that is trained to the end, its last generator measured in full.
        command: what made all of it.
        pictures: file -> what it shows, in order.
        losses: by run's name, the discriminator's mean loss in the last eighth of its training.
    """

    study: str
    scale: str
    rows: Rows
    finals: Mapping[str, Mapping[str, Any]]
    command: str
    pictures: Mapping[str, str]
    losses: Mapping[str, float]

    def runs(self) -> list[Run]:
        """Return the runs that there are, in the paper's order, whatever was trained first."""
        found = [Run.named(self.study, self.scale, name) for name in sorted(self.rows)]
        return sorted(found, key=lambda run: list(VARIANTS).index(run.variant))

    def done(self) -> list[Run]:
        """Return those of them that are trained to the end."""
        return [run for run in self.runs() if run.name in self.finals]

    def trained(self, variant: str) -> list[list[Point]]:
        """Return the finished trainings of a variant, seed by seed."""
        return [points(self.rows[run.name]) for run in self.done() if run.variant == variant]

    def baseline(self, variant: str, epoch: float | None = None) -> Baseline | None:
        """Return what a variant is compared with, at the end or after some epochs; None if there is none."""
        of = self.trained(counterpart(variant, "baseline"))
        found = [run[-1] for run in of]
        if epoch is not None:
            found = [point for run in of for point in run if point.epoch == epoch]
        if not found:
            return None
        count = len(found)
        db, tv = (sum(getattr(point, key) for point in found) / count for key in ("db", "tv"))
        return Baseline(db, tv, count)

    def beside_late(self) -> Iterator[tuple[Run, Point, list[Point]]]:
        """Yield every checkpoint of Bin-5 with the training of `blur_late` before the same discriminator."""
        for run in self.done():
            late = f"{counterpart(run.variant, 'blur_late')}-0"
            if run.variant.startswith("bin5") and late in self.finals:
                for point in points(self.rows[run.name]):
                    yield run, point, points(self.rows[late])
