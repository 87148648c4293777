"""A training step in a process of its own.

The published step runs with the memory allocator its users have, ours with the one our trainer sets up, and
that is a choice for a whole process.
"""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Iterator
from multiprocessing.connection import Connection

import torch

from benchmarks.step.both import build_both, pairs
from benchmarks.timing import Work
from steadypix.gen.kernels.allocator import keep_freed_memory


@contextlib.contextmanager
def elsewhere(kind: str, *, batch: int, size: int, ngf: int, num_downs: int) -> Iterator[Work]:
    """Start a process, and yield a function that returns when one step has been taken there.

    Args:
        kind: `reference` or `ours`.
        batch: pairs a step.
        size: px a side.
        ngf: width of both networks.
        num_downs: levels of the generator.

    Raises:
        EOFError: if the process ended; it has said why on stderr.
    """
    context = multiprocessing.get_context("spawn")  # a fork would inherit what this one has allocated
    connection, theirs = context.Pipe()
    numbers = (torch.get_num_threads(), batch, size, ngf, num_downs)
    process = context.Process(target=_take_steps, args=(theirs, kind, *numbers))
    process.start()
    theirs.close()  # so that the end of the process is the end of the connection

    def step() -> None:
        connection.send(None)
        connection.recv()

    try:
        connection.recv()
        yield step
    finally:
        connection.close()
        process.join()


def _take_steps(
    connection: Connection, kind: str, threads: int, batch: int, size: int, ngf: int, num_downs: int
) -> None:
    """Take a step whenever the connection asks for one, until it ends."""
    torch.set_num_threads(threads)
    if kind == "ours":
        keep_freed_memory()
    reference, step = build_both(ngf=ngf, num_downs=num_downs)
    x, y = pairs(batch, size, 1)[0]
    with contextlib.suppress(EOFError):
        while True:
            connection.send(None)  # ready
            connection.recv()
            if kind == "ours":
                step([{"input": x, "target": y}], [0])
            else:
                reference.step(x, y)
