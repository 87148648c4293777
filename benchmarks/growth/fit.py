"""An axis, what was measured along it, and the power law that is fitted to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Point = Mapping[str, int | str]


@dataclass(frozen=True)
class Axis:
    """What is varied, the rest held.

    Args:
        key: of the point.
        label: with its unit.
        base: the other values.
        values: ascending.
    """

    key: str
    label: str
    base: Point
    values: Sequence[int]

    @property
    def kind(self) -> str:
        """What is done at every point."""
        return "training step" if self.base["kind"] == "step" else "evaluation"


@dataclass(frozen=True)
class Fit:
    """cost = factor * value ** exponent, over the upper half of the points.

    Args:
        exponent: the slope of the logarithms.
        factor: cost where the value is 1.
        residual: the largest relative distance of a point from it.
        count: points it was fitted to.
    """

    exponent: float
    factor: float
    residual: float
    count: int


@dataclass(frozen=True)
class Curve:
    """What was measured along one axis.

    Args:
        axis: what was varied.
        milliseconds: a training step, or an evaluation.
        megabytes: the largest size of its process, less that of one with next to nothing to do.
    """

    axis: Axis
    milliseconds: Sequence[float]
    megabytes: Sequence[float]

    @property
    def time(self) -> Fit:
        """How time grows."""
        return fit(self.axis.values, self.milliseconds)

    @property
    def memory(self) -> Fit:
        """How memory grows."""
        return fit(self.axis.values, self.megabytes)


def fit(values: Sequence[float], costs: Sequence[float]) -> Fit:
    """Fit a power law by least squares on logarithms.

    >>> round(fit([1, 2, 4, 8], [9, 4, 16, 64]).exponent, 6)
    2.0
    """
    kept = min(len(values), max(3, (len(values) + 1) // 2))
    # Less than a page is no memory, and has no logarithm.
    x, y = np.log(np.asarray(values[-kept:], float)), np.log(np.maximum(costs[-kept:], 4 / 1024))
    exponent, constant = np.polyfit(x, y, 1)
    residual = np.abs(np.expm1(y - (exponent * x + constant))).max()
    return Fit(float(exponent), float(np.exp(constant)), float(residual), kept)
