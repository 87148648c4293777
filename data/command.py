"""The edge every command shares: one line for what the user got wrong, and the exit codes.

0 done, 1 failed, 2 bad usage or bad input, 130 interrupted, 143 terminated. An error that is the user's
to mend carries `exit_code`; anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.metadata
import io
import os
import signal
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from types import FrameType
from typing import NoReturn, Protocol, TypeVar

LONGEST_MESSAGE = 2000  # characters; a path of Linux may have twice as many, its ends say what is meant


class Main(Protocol):
    """A command's entry point."""

    def __call__(self, argv: Sequence[str] | None = None) -> int:
        """Run with these arguments, or with the process's own; return the exit code."""


class Terminated(BaseException):
    """SIGTERM, raised where the program stands so that `finally` blocks and context managers run."""


def version() -> str:
    """Return the installed version, or `0+unknown` in a source tree that was never installed."""
    try:
        return importlib.metadata.version("steadypix")
    except importlib.metadata.PackageNotFoundError:
        return "0+unknown"


def command(name: str) -> Callable[[Callable[[Sequence[str]], int]], Main]:
    """Decorate a `main(argv) -> int` so that it returns the documented exit codes.

    Args:
        name: the command's name, put before every message on stderr.
    """

    def decorate(main: Callable[[Sequence[str]], int]) -> Main:
        @functools.wraps(main)
        def wrapped(argv: Sequence[str] | None = None) -> int:
            previous = _raise_on_sigterm()
            if isinstance(sys.stdout, io.TextIOWrapper):  # a name that cannot be shown ends no evaluation
                sys.stdout.reconfigure(errors="backslashreplace")
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
    """Return an error's message as a single line that is fit for a terminal; an OSError names its file first.

    Messages quote what files hold, so they may hold anything: control characters are written out, and what
    is too long to be read loses its middle.
    """
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return printable(f"{where}{error.strerror}")
    text = str(error)
    if text.startswith("Caught ") and "DataLoader worker" in text:
        # torch hands on a worker's error with its traceback as the message; the last line is ours.
        text = text.strip().splitlines()[-1].partition(": ")[2]
    return printable(" ".join(text.split()))


def printable(text: str) -> str:
    """Return a text without characters that a terminal would act on, or that cannot be encoded."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    half = LONGEST_MESSAGE // 2
    return shown if len(shown) <= LONGEST_MESSAGE else f"{shown[:half]} ... {shown[-half:]}"


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


Item = TypeVar("Item")


def progress(items: Iterable[Item], total: int, *, unit: str = "image") -> Iterable[Item]:
    """Show how far an iteration is, on stderr: a moving bar in a terminal, a line now and then elsewhere."""
    from tqdm import tqdm

    return tqdm(items, total=total, unit=unit, mininterval=progress_interval_s(), disable=total == 1)


def progress_interval_s() -> float:
    """Return the least time between two states of a progress bar."""
    return 0.2 if sys.stderr.isatty() else 30.0


class UsageError(ValueError):
    """A command line that cannot be understood."""

    exit_code = 2


class Parser(argparse.ArgumentParser):
    """An argument parser whose usage errors are one line, and whose values may start with a minus."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage block and leaving."""
        raise UsageError(f"{message} (see --help)")

    def parse(self, argv: Sequence[str], *, signed: Sequence[str] = ()) -> argparse.Namespace:
        """Parse `argv`; the options in `signed` take values such as `-4..4`, which look like options."""
        words = list(argv)
        for place in range(len(words) - 1, 0, -1):
            if words[place - 1] in signed:
                words[place - 1 : place + 1] = [f"{words[place - 1]}={words[place]}"]
        return self.parse_args(words)


def add_common_options(
    parser: argparse.ArgumentParser, *, batch_size: int, without: Collection[str] = ()
) -> None:
    """Add the options commands on pictures have: device, batch size, workers, seed, version.

    Args:
        parser: to add them to.
        batch_size: the default.
        without: `workers` or `seed`, of a command that has no use for them.
    """
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="where to run"
    )
    parser.add_argument(
        "--batch_size",
        type=positive,
        default=batch_size,
        metavar="N",
        help="windows in one forward pass",
    )
    if "workers" not in without:
        parser.add_argument(
            "--workers", type=natural, default=0, metavar="N", help="processes that decode pictures"
        )
    if "seed" not in without:
        parser.add_argument("--seed", type=natural, default=0, metavar="N", help="of everything random")
    parser.add_argument("--version", action="version", version=f"steadypix {version()}")


def positive(text: str) -> int:
    """Read a whole number of at least 1, for argparse."""
    return _whole(text, 1)


def natural(text: str) -> int:
    """Read a whole number of at least 0, for argparse."""
    return _whole(text, 0)


def _whole(text: str, minimum: int) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) < minimum:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least {minimum}, got {text!r}")
    return int(text)


def pick_device(name: str) -> str:
    """Return a torch device for `auto`, `cpu`, `cuda` or `mps`.

    Raises:
        UsageError: if the device is not there.
    """
    import torch

    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return next(device for device, usable in there.items() if usable)
    if not there[name]:
        usable = ", ".join(device for device, here in there.items() if here)
        raise UsageError(f"--device {name}: is not available here; expected auto or one of {usable}")
    return name
