"""How speed is measured: functions timed in turn in one process, compared by the ratios within each round.

A shared machine slows everything for a while and then nothing, so absolute times are noise. Functions that
take turns, round by round, are slowed alike: the ratio within a round is what counts, and its median over
many rounds is what is reported.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

Work = Callable[[], object]
SAMPLE_S = 2e-3  # a sample repeats a short work until it lasts this long


@dataclass(frozen=True)
class Timing:
    """Seconds a call, by the work's name: one list entry a round, the same rounds for every work."""

    seconds: Mapping[str, list[float]]

    def median_ms(self, name: str) -> float:
        """Milliseconds a call, the median over rounds."""
        return statistics.median(self.seconds[name]) * 1e3

    def best_ms(self, name: str) -> float:
        """Milliseconds a call in the fastest round: what the machine does when nobody disturbs it."""
        return min(self.seconds[name]) * 1e3

    def ratio(self, name: str, to: str) -> float:
        """Time of `name` over that of `to`: the median of the ratios within each round."""
        pairs = zip(self.seconds[name], self.seconds[to], strict=True)
        return statistics.median(a / b for a, b in pairs)


def take_turns(works: Mapping[str, Work], *, rounds: int, device: str = "cpu") -> Timing:
    """Time works in turn, `rounds` times each, after a round that warms up.

    Every round has another order: what ran before leaves its mark in the caches.

    Args:
        works: by name.
        rounds: samples of each.
        device: `cuda` waits for the device before a clock is read.
    """
    wait: Work = torch.cuda.synchronize if device == "cuda" else lambda: None
    repeats = {}
    for name, work in works.items():
        work()
        repeats[name] = max(1, int(SAMPLE_S / max(_clock(work, 1, wait), 1e-7)))
    names = list(works)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    shuffle = random.Random(0).shuffle
    for _ in range(rounds):
        shuffle(names)
        for name in names:
            seconds[name].append(_clock(works[name], repeats[name], wait))
    return Timing(seconds)


def _clock(work: Work, repeats: int, wait: Work) -> float:
    wait()
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    wait()
    return (time.perf_counter() - start) / repeats
