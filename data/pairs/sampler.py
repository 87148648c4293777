"""The order of training samples: a function of (seed, epoch), entered at any place."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """Yield batches of `(epoch, index)` keys of one epoch, from a place on, for one process of several.

    The global order is a permutation drawn from (seed, epoch). A step's samples are cut into one piece a
    process, and that into `accumulate` batches. The tail that does not fill a step is dropped, so every
    process does the same number of steps.

    Args:
        length: number of samples in the data set.
        batch_size: samples of a batch.
        seed: of the order.
        epoch: which pass; `enter` moves on to another.
        start: samples of this epoch already seen by all processes together.
        accumulate: batches a process takes a step.
        rank: this process.
        world_size: number of processes.

    Raises:
        ValueError: if not even one step fits into the data.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        *,
        seed: int,
        epoch: int = 0,
        start: int = 0,
        accumulate: int = 1,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.a_step = batch_size * accumulate * world_size
        if length < self.a_step:
            raise ValueError(f"{length} samples do not fill one step of {self.a_step}")
        self.length = length
        self.batch_size = batch_size
        self.accumulate = accumulate
        self.seed = seed
        self.rank = rank
        self.enter(epoch, start=start)

    def enter(self, epoch: int, *, start: int = 0) -> None:
        """Move to an epoch, `start` samples into it."""
        self.epoch = epoch
        order = np.random.default_rng((self.seed, epoch)).permutation(self.length)[start:]
        self._steps = order[: len(order) - len(order) % self.a_step].reshape(-1, self.a_step)

    def __len__(self) -> int:
        """Return the number of batches left in this epoch for this process."""
        return len(self._steps) * self.accumulate

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """Yield one list of keys a batch."""
        share = self.batch_size * self.accumulate
        for step in self._steps:
            mine = step[self.rank * share : (self.rank + 1) * share]
            for batch in mine.reshape(self.accumulate, self.batch_size):
                yield [(self.epoch, int(index)) for index in batch]


def ignore_signals(worker: int) -> None:
    """Leave SIGINT and SIGTERM to the process that asks (for `DataLoader(worker_init_fn=...)`).

    A signal to the whole process group would end the workers first, and a trainer could not finish its step
    and save. `steadypix.signals.end_workers` ends them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
