"""Stability at a given sharpness: softness is stability for free, so only this compares two generators."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Point:
    """A generator along its training.

    Args:
        epoch: how far.
        tv: total variation of its outputs.
        db: stability.
        low_db: lower end of the 95 % interval over images.
        high_db: upper end.
    """

    epoch: float
    tv: float
    db: float
    low_db: float
    high_db: float


def at_sharpness(run: Sequence[Point], tv: float) -> Point | None:
    """Return a run's stability where its outputs have this total variation.

    Between two successive checkpoints everything is taken as linear in the sharpness. Where a run passes the
    level more than once, its last passage counts: that generator has learnt the most.

    Args:
        run: in the order of training.
        tv: the level.

    Returns:
        The point between two checkpoints, or None if the run never passes the level.
    """
    for before, after in reversed(list(itertools.pairwise(run))):
        low, high = sorted((before.tv, after.tv))
        if not low <= tv <= high:
            continue
        share = 0.5 if low == high else (tv - before.tv) / (after.tv - before.tv)

        def between(a: float, b: float, share: float = share) -> float:
            return a + share * (b - a)

        return Point(
            between(before.epoch, after.epoch),
            tv,
            between(before.db, after.db),
            between(before.low_db, after.low_db),
            between(before.high_db, after.high_db),
        )
    return None
