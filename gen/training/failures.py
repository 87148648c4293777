"""What ends a training from outside, in one line that says what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch

from steadypix.gen.training.step import NonFiniteLossError


class TrainingError(RuntimeError):
    """A run that cannot go on."""

    exit_code = 1


@contextlib.contextmanager
def failures_explained(seen: Callable[[], int]) -> Iterator[None]:
    """Turn failures of losses, memory, processes and compilers into a TrainingError; bugs pass.

    Args:
        seen: returns the number of samples seen so far.

    Raises:
        TrainingError: for a loss that is not finite, exhausted memory, a worker or another process that
            died, or a compiler that is missing.
    """
    try:
        yield
    except RuntimeError as error:
        advice = _advice(error)
        if advice is None:
            raise
        what = " ".join(str(error).split())[:200]
        raise TrainingError(f"{what}, after {seen()} samples; {advice}") from None


def _advice(error: RuntimeError) -> str | None:
    text = str(error)
    if isinstance(error, NonFiniteLossError):
        return "stopped before the update. Try a smaller train.learning_rate, or train.precision fp32"
    if isinstance(error, torch.OutOfMemoryError):
        return "try a smaller batch_size with train.accumulate, or train.checkpointing true"
    if text.startswith("DataLoader worker"):
        return (
            "a process that loads data is gone. Often memory ran out: try fewer workers, or data.cache "
            "false. The same command goes on from the last checkpoint"
        )
    if isinstance(error, torch.distributed.DistError) or "gloo" in text.lower():
        return (
            "another process of this run is gone. The same command goes on from the last checkpoint, also "
            "with another number of processes"
        )
    if type(error).__module__.startswith(("torch._inductor", "torch._dynamo")):
        return "torch could not compile the networks; expected a C++ compiler, or train.compile false"
    unordered = "does not have a deterministic implementation" in text
    return "expected train.deterministic false, or device cpu" if unordered else None
