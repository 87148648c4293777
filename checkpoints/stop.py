"""A first SIGTERM or Ctrl-C remembered until the step is over."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

from steadypix.command import Terminated


class StopRequest:
    """Remembers a first SIGTERM or Ctrl-C until the step is over; a second one acts at once."""

    def __init__(self) -> None:
        self.signal: int | None = None

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
        if self.signal is not None:
            self.leave()
        self.signal = signum
