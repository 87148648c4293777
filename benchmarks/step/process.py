"""A training step in a process of its own, which takes a step for every line it is sent.

The published step runs with the memory allocator its users have, ours with the one our trainer sets up, and
that is a choice for a whole process: `python -m benchmarks.step.process ours 1 256 64 8`.
"""

from __future__ import annotations

import subprocess
import sys
from types import TracebackType
from typing import Self

import torch

from benchmarks.step.both import build_both, pairs
from steadypix.gen.kernels.allocator import keep_freed_memory

READY = "ready\n"


class TrainingProcess:
    """Takes steps somewhere else; a context manager that ends the process.

    Args:
        kind: `reference` or `ours`.
        batch: pairs a step.
        size: px a side.
        ngf: width of both networks.
        num_downs: levels of the generator.
    """

    def __init__(self, kind: str, *, batch: int, size: int, ngf: int, num_downs: int) -> None:
        numbers = map(str, (batch, size, ngf, num_downs, torch.get_num_threads()))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.step.process", kind, *numbers],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def __enter__(self) -> Self:
        self._wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def step(self) -> None:
        """Return when one step has been taken."""
        assert self._process.stdin is not None
        self._process.stdin.write("step\n")
        self._wait()

    def _wait(self) -> None:
        assert self._process.stdout is not None
        if (said := self._process.stdout.readline()) != READY:
            raise RuntimeError(f"the training process ended: expected {READY!r}, not {said!r}")


def main(kind: str, *numbers: str) -> None:
    """Take a step for each line of stdin."""
    batch, size, ngf, num_downs, threads = map(int, numbers)
    torch.set_num_threads(threads)
    if kind == "ours":
        keep_freed_memory()
    reference, step = build_both(ngf=ngf, num_downs=num_downs)
    x, y = pairs(batch, size, 1)[0]
    sys.stdout.write(READY)
    sys.stdout.flush()
    for _ in sys.stdin:
        if kind == "ours":
            step([{"input": x, "target": y}], [0])
        else:
            reference.step(x, y)
        sys.stdout.write(READY)
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
