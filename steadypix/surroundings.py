"""What a command finds when it starts: streams that are closed or full, and remains of a launcher."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO, cast

from steadypix.errors import printable

PLACE = ("RANK", "LOCAL_RANK", "WORLD_SIZE")  # of a process among several
MEETING = ("MASTER_ADDR", "MASTER_PORT")  # where several find each other


class _Stream:
    """A standard stream: an error of its own names it."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream = stream
        self._called = name

    def write(self, text: str) -> int:
        return self._tried(self._stream.write, text) or 0

    def flush(self) -> None:
        self._tried(self._stream.flush)

    def _tried(self, work: Callable[..., int | None], *arguments: str) -> int | None:
        try:
            return work(*arguments)
        except OSError as error:
            error.filename = error.filename or self._called
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Messages(_Stream):
    """A stderr that fails nobody: what cannot be said, because it is full or unread, ends no work."""

    def _tried(self, work: Callable[..., int | None], *arguments: str) -> int | None:
        try:
            return work(*arguments)
        except (OSError, ValueError):
            _silence(self._stream)
            return None


@contextlib.contextmanager
def usable_streams() -> Iterator[None]:
    """Give the command streams that it may write to, whatever it was started with.

    Where stdin, stdout or stderr is closed, /dev/null takes its place: the next file that is opened would,
    otherwise, and messages would be written into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - as long as the process
    streams = sys.stdout, sys.stderr
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names may hold what no encoding has
        sys.stdout = cast(TextIO, _Stream(sys.stdout, "stdout"))
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr = cast(TextIO, _Messages(sys.stderr, "stderr"))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams
        try:
            sys.stdout.flush()
        except (OSError, ValueError):
            _silence(sys.stdout)  # the interpreter would try again at its end, and fail


def _silence(stream: TextIO) -> None:
    """Let what a stream still holds, and what comes, go nowhere."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def leave_out_remains(command: str) -> None:
    """Take what a launcher left in the environment away: processes that are not there would be waited for.

    torchrun and its like say which process this is of how many, and where they meet. Less than that, or what
    makes no sense, is of a shell that something was exported in.
    """
    found = {key: os.environ[key] for key in PLACE if key in os.environ}
    if not found or _is_launched():
        return
    for key in found:
        del os.environ[key]
    said = " ".join(f"{key}={value}" for key, value in found.items())
    note = f"{said} in the environment, without what torchrun sets besides: ignored"
    print(printable(f"{command}: {note}"), file=sys.stderr)


def _is_launched() -> bool:
    rank, local, world = (_whole(os.environ.get(key)) for key in PLACE)
    if local is None and "LOCAL_RANK" in os.environ:
        return False
    together = all(os.environ.get(key) for key in MEETING) and _whole(os.environ["MASTER_PORT"]) is not None
    return together and rank is not None and world is not None and rank < world


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else None
