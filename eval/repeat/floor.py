"""The floor of a generator: how far its outputs for equal inputs lie apart.

It is what a shift by nothing would score, so a stability near it says nothing of shifts. A generator that is
random has one, and one that normalises by its batch. Others only round, which stays above `AGREE_DB`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from steadypix.errors import InputError
from steadypix.eval.metrics.decibels import psnr_db
from steadypix.eval.metrics.forward import run_windows
from steadypix.eval.repeat.shown import floor_words

if TYPE_CHECKING:
    from torch import Tensor, nn

# Convolutions may sum in another order for another batch: in float32 that leaves 110 dB and more.
AGREE_DB = 90.0


@dataclass(frozen=True)
class Floor:
    """PSNR between outputs of one generator for one input, in dB at a peak of 2; 150 where they are equal."""

    repeat_db: float  # of two runs
    batch_db: float  # of a run alone and one beside another picture

    @property
    def db(self) -> float:
        """The lower of the two."""
        return min(self.repeat_db, self.batch_db)

    @property
    def cause(self) -> str:
        """`random`, `batch`, or nothing where the outputs agree but for rounding."""
        if self.db >= AGREE_DB:
            return ""
        return "random" if self.repeat_db < AGREE_DB else "batch"

    def as_json(self) -> dict[str, Any]:
        """Return what results.json holds of it."""
        return {
            "cause": self.cause,
            "db": self.db,
            "repeat_db": self.repeat_db,
            "batch_db": self.batch_db,
        }


def find_floor(generator: nn.Module, window: Tensor, *, seed: int = 0, batches: bool = True) -> Floor:
    """Run a generator on a picture twice, and once more beside the same picture at half its contrast.

    Args:
        generator: maps (B, C, H, W) to (B, C', H', W') in [-1, 1]; in the mode in which it is measured.
        window: (1, C, H, W).
        seed: of torch's random numbers, which are as before afterwards.
        batches: False leaves the third run out, for a generator that never sees more than one picture.

    Raises:
        InputError: if an output is not finite, or of a size that `run_windows` does not take.
    """
    with seeded(window.device, seed):
        first, second = run_windows(generator, [window, window], batch_size=1)
        beside = [window, window / 2] if batches else [window]
        third = next(run_windows(generator, beside, batch_size=2)) if batches else first
    repeat, batch = (
        float(psnr_db((first - other).double().square().mean().item())) for other in (second, third)
    )
    return Floor(repeat, batch)


class FloorCheck:
    """Finds the floor of one network before something is measured of it, for `measure_alone`.

    Args:
        allow_random: take a network that has one.
        batch_size: windows in one forward pass of the measurement.

    Attributes:
        floor: what was found.
    """

    def __init__(self, *, allow_random: bool, batch_size: int) -> None:
        self.allow_random = allow_random
        self.batches = batch_size > 1
        self.floor: Floor | None = None

    def __call__(self, network: nn.Module, window: Tensor) -> None:
        """Look at a window (1, C, H, W); raise InputError, as `refuse` does, if no floor is allowed."""
        self.floor = find_floor(network, window, batches=self.batches)
        if not self.allow_random:
            refuse("the network", self.floor, "allow_random=True", "batch_size=1")

    @property
    def db(self) -> float | None:
        """The floor, or None where there is none."""
        return self.floor.db if self.floor and self.floor.cause else None


def refuse(
    name: object, floor: Floor, allowing: str = "--allow-random", alone: str = "--batch_size 1"
) -> None:
    """Refuse a generator that has a floor.

    Args:
        name: of the generator.
        floor: what was found.
        allowing: the option that allows it.
        alone: the option by which it sees a picture at a time.

    Raises:
        InputError: naming it, its floor and what allows it.
    """
    if floor.cause:
        instead = f"{alone}, or " if floor.cause == "batch" else ""
        raise InputError(
            f"{floor_words(str(name), floor.as_json())}, so its stability is no verdict; expected {instead}"
            f"{allowing} to measure it beside that floor"
        )


@contextlib.contextmanager
def seeded(device: Any, *numbers: int) -> Iterator[None]:
    """Let torch draw the random numbers that these whole numbers say, and go on as before afterwards.

    So what a random generator gives for a picture does not depend on which pictures were measured before.
    """
    import torch

    device = torch.device(device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))
        yield
