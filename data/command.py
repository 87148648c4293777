"""The edge every command shares: one line for what the user got wrong, and the exit codes.

0 done, 1 failed, 2 bad usage or bad input, 130 interrupted, 143 terminated. An error that is the user's
to mend carries `exit_code`; anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType

Main = Callable[[Sequence[str] | None], int]


class Terminated(BaseException):
    """SIGTERM, raised where the program stands so that `finally` blocks and context managers run."""


def version() -> str:
    """Return the installed version, or `0+unknown` in a source tree that was never installed."""
    try:
        return importlib.metadata.version("steadypix")
    except importlib.metadata.PackageNotFoundError:
        return "0+unknown"


def command(name: str) -> Callable[[Main], Main]:
    """Decorate a `main(argv) -> int` so that it returns the documented exit codes.

    Args:
        name: the command's name, put before every message on stderr.
    """

    def decorate(main: Main) -> Main:
        @functools.wraps(main)
        def wrapped(argv: Sequence[str] | None = None) -> int:
            previous = _raise_on_sigterm()
            try:
                return main(sys.argv[1:] if argv is None else argv)
            except KeyboardInterrupt:
                print(f"{name}: interrupted", file=sys.stderr)
                return 130
            except Terminated:
                print(f"{name}: terminated", file=sys.stderr)
                return 143
            except BrokenPipeError:
                # The reader of our stdout left (`| head`); keep the interpreter's own flush quiet.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return 1
            except Exception as error:
                code = _exit_code(error)
                if code is None:
                    raise
                print(f"{name}: error: {one_line(error)}", file=sys.stderr)
                return code
            finally:
                if previous is not None:
                    signal.signal(signal.SIGTERM, previous)

        return wrapped

    return decorate


def one_line(error: BaseException) -> str:
    """Return an error's message as a single line; an OSError names its file first."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}"
    return " ".join(str(error).split())


def _exit_code(error: Exception) -> int | None:
    if isinstance(error, OSError) and error.strerror:
        return 2  # a full disk, a missing permission: the user's to mend, not a bug
    return getattr(error, "exit_code", None)


def _raise_on_sigterm() -> signal.Handlers | Callable[[int, FrameType | None], object] | int | None:
    def handler(signum: int, frame: FrameType | None) -> None:
        raise Terminated

    try:
        return signal.signal(signal.SIGTERM, handler)
    except ValueError:  # not the main thread: signals are somebody else's
        return None
