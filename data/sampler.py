"""The order of training samples: a function of (seed, epoch), entered at any place."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """Yield batches of `(epoch, index)` keys of one epoch, from a place on, for one process of several.

    The global order is a permutation drawn from (seed, epoch). A global batch is cut into one piece a
    process. The tail that does not fill a global batch is dropped, so every process does the same
    number of steps.

    Args:
        length: number of samples in the data set.
        batch_size: samples a process takes a step.
        seed: of the order.
        epoch: which pass; `enter` moves on to another.
        start: samples of this epoch already seen by all processes together.
        rank: this process.
        world_size: number of processes.

    Raises:
        ValueError: if not even one global batch fits into the data.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        *,
        seed: int,
        epoch: int = 0,
        start: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.global_batch = batch_size * world_size
        if length < self.global_batch:
            raise ValueError(f"{length} samples do not fill one batch of {self.global_batch}")
        self.length = length
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.enter(epoch, start=start)

    def enter(self, epoch: int, *, start: int = 0) -> None:
        """Move to an epoch, `start` samples into it."""
        self.epoch = epoch
        order = np.random.default_rng((self.seed, epoch)).permutation(self.length)
        self._rest = order[start : self.length - self.length % self.global_batch]

    def __len__(self) -> int:
        """Return the number of batches left in this epoch."""
        return len(self._rest) // self.global_batch

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """Yield one list of keys a step."""
        for step in range(len(self)):
            first = step * self.global_batch + self.rank * self.batch_size
            yield [(self.epoch, int(index)) for index in self._rest[first : first + self.batch_size]]


def ignore_signals(worker: int) -> None:
    """Leave SIGINT and SIGTERM to the trainer (for `DataLoader(worker_init_fn=...)`).

    A signal to the whole process group would end the workers first, and the trainer could not finish its
    step and save.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
