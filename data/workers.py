"""Many items through several processes: results in order, memory flat, a process that dies is survived."""

from __future__ import annotations

import collections
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 4  # items in flight for each process: enough to keep it busy, few enough to hold in memory
_MAX_DEATHS = 20


class Died:
    """Stands for the result of an item that killed the process working on it, twice."""


class WorkersDieError(RuntimeError):
    """Processes die whatever they work on; the machine is at fault, not an item."""

    exit_code = 1


def cores() -> int:
    """Return how many CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def ordered(
    function: Callable[[Item], Result], items: Sequence[Item], *, workers: int, preload: Sequence[str] = ()
) -> Iterator[Result | Died]:
    """Yield `function(item)` for every item, in the order of the items.

    A process that dies (the system kills the largest when memory runs out) takes all items in flight with
    it. They are worked on again, one at a time, so the item that does it is known: it yields `Died`, the
    others their results.

    Args:
        function: importable by name; it should not raise.
        items: what it is called with.
        workers: number of processes; with 0 or 1 everything happens in this one.
        preload: modules that processes start with, where the system can fork them from one that has them.

    Raises:
        WorkersDieError: if more than a few items end that way.
    """
    if workers <= 1:
        yield from map(function, items)
        return
    deaths = 0
    rest = collections.deque(items)
    while rest:
        lost: list[Item] = []
        yield from _until_broken(function, rest, lost, workers=workers, preload=preload)
        while lost:
            yield from _until_broken(function, collections.deque(), lost, workers=1, preload=preload)
            if lost:  # the first of them was alone in its process
                deaths += 1
                if deaths > _MAX_DEATHS:
                    raise WorkersDieError("processes die one after another; expected memory for all workers")
                lost.pop(0)
                yield Died()


def _until_broken(
    function: Callable[[Item], Result],
    rest: collections.deque[Item],
    lost: list[Item],
    *,
    workers: int,
    preload: Sequence[str],
) -> Iterator[Result]:
    """Yield results in order until all is done or a process dies; `lost` then holds what was in flight.

    Items are taken from `lost` first, where only one is in flight at a time, then from `rest`.
    """
    flight: collections.deque[tuple[Item, Future[Result]]] = collections.deque()
    alone = bool(lost)
    source = collections.deque(lost) if alone else rest
    lost.clear()
    pool = _pool(workers, preload)
    try:
        while source or flight:
            while source and len(flight) < (1 if alone else _AHEAD * workers):
                future = pool.submit(function, source[0])
                flight.append((source.popleft(), future))
            yield flight[0][1].result()
            flight.popleft()
    except BrokenProcessPool:
        lost.extend(item for item, _ in flight)
        if alone:
            lost.extend(source)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _pool(workers: int, preload: Sequence[str]) -> ProcessPoolExecutor:
    # A fork server starts processes in milliseconds and, unlike a fork of this one, without its threads.
    forks = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if forks else "spawn")
    if forks:
        context.set_forkserver_preload(list(preload))
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_start)


def _start() -> None:
    """Leave Ctrl-C to the main process, and go when that one is gone, however it went."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
