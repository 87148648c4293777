"""A first SIGTERM or Ctrl-C remembered until the step is over."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

from steadypix.signals import LAST, Terminated, end_workers


class StopRequest:
    """Remembers a first SIGTERM or Ctrl-C until the step is over; a second one acts at once.

    A third one ends the process as it is, wherever it hangs.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._count = 0

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Remember the signals inside of this context."""
        previous = {s: signal.signal(s, self._remember) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def leave(self) -> NoReturn:
        """Raise what the signal means."""
        raise KeyboardInterrupt if self.signal == signal.SIGINT else Terminated

    def _remember(self, signum: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._count >= LAST:
            os._exit(128 + signum)
        if self.signal is not None:
            # Workers leave signals to us. One that is not told to end, because telling it is what this
            # interrupts, would be waited for without end.
            end_workers()
            self.leave()
        self.signal = signum
