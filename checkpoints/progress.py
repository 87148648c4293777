"""How far a training run is: what its state holds besides weights and moments."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from steadypix.gen.training.schedules import Plateau


@dataclass
class Progress:
    """Where a run stands. Samples are counted over all processes together.

    Everything random in a step is drawn from the seed and these numbers, so there is no generator's state
    to keep.

    Args:
        epoch: finished epochs.
        place: samples of the epoch after those.
        seen: samples since the beginning.
        best: validation score so far, the lower the better.
        best_by: what that score is.
        plateau: of the learning rate.
    """

    epoch: int = 0
    place: int = 0
    seen: int = 0
    best: float | None = None
    best_by: str | None = None
    plateau: Plateau = field(default_factory=lambda: Plateau(patience=0))

    def advance(self, samples: int) -> None:
        """Count a step."""
        self.place += samples
        self.seen += samples

    def end_epoch(self) -> None:
        """Count an epoch; a tail that filled no step is dropped."""
        self.epoch, self.place = self.epoch + 1, 0

    def is_best(self, score: float, by: str) -> bool:
        """Take in a validation score, the lower the better; whether it is the best of its kind so far."""
        if by == self.best_by and self.best is not None and score >= self.best:
            return False
        self.best, self.best_by = score, by
        return True

    def to_json(self) -> dict[str, Any]:
        """Return this as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: object) -> Progress:
        """Read what `to_json` wrote.

        Raises:
            ValueError: naming the first value that cannot be.
        """
        if not isinstance(values, Mapping):
            raise ValueError("holds no progress of a run")
        counts = {name: _whole(values, name) for name in ("epoch", "place", "seen")}
        plateau, best_by = values.get("plateau"), values.get("best_by")
        if not isinstance(plateau, Mapping):
            raise ValueError("holds no progress of a run (plateau)")
        if best_by is not None and not isinstance(best_by, str):
            raise ValueError(f"best_by must be a name, not {best_by!r}")
        return cls(
            **counts,
            best=_number(values, "best"),
            best_by=best_by,
            plateau=Plateau(
                patience=_whole(plateau, "patience"),
                factor=1.0 if (factor := _number(plateau, "factor")) is None else factor,
                best=_number(plateau, "best"),
                waited=_whole(plateau, "waited"),
            ),
        )


def _whole(values: Mapping[str, Any], name: str) -> int:
    value = values.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 53:
        raise ValueError(f"{name} must be a count, not {str(value)[:40]}")
    return value


def _number(values: Mapping[str, Any], name: str) -> float | None:
    value = values.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, not {str(value)[:40]}")
    return float(value)
