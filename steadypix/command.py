"""What every command shares: errors in one line, exit codes, an argument parser, the device.

Exit codes: 0 done, 1 failed, 2 bad usage or bad input, 130 interrupted, 143 terminated. An error that the
user can fix carries `exit_code`; any other exception is a bug and keeps its traceback. What the process was
started with (streams, the environment) is in `steadypix.surroundings`.
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import os
import sys
from collections.abc import Callable, Collection, Sequence
from typing import NoReturn, Protocol

from steadypix import budget, locks
from steadypix.errors import InputError, one_line
from steadypix.json_checks import LARGEST_NUMBER
from steadypix.signals import Signals, Terminated, end_workers, workers
from steadypix.surroundings import leave_out_remains, usable_streams

MOST = 10**9  # of anything that is counted; what so many take of memory is asked elsewhere
MOST_THREADS = 1024
LONGEST = 20  # digits of a number that is looked at
MAX_MEMORY = (
    "memory that the command with all of its processes may take, as 2G or as a share of what is available, "
    "75%%; more is refused before it is begun (default: 90%%)"
)


class Main(Protocol):
    """A command's entry point."""

    def __call__(self, argv: Sequence[str] | None = None) -> int:
        """Run with these arguments, or with the process's own; return the exit code."""


def version() -> str:
    """Return the installed version, or `0+unknown` in a source tree that was never installed."""
    try:
        return importlib.metadata.version("steadypix")
    except importlib.metadata.PackageNotFoundError:
        return "0+unknown"


def command(name: str) -> Callable[[Callable[[Sequence[str]], int]], Main]:
    """Decorate a `main(argv) -> int` so that it ends with one of the exit codes above.

    Args:
        name: the command's name, put before every message on stderr.
    """

    def decorate(main: Callable[[Sequence[str]], int]) -> Main:
        @functools.wraps(main)
        def wrapped(argv: Sequence[str] | None = None) -> int:
            held, others = locks.held(), workers()
            with usable_streams(), budget.of_a_command(), Signals(last=argv is None) as signals:
                try:
                    leave_out_remains(name)
                    code = main(sys.argv[1:] if argv is None else argv)
                    sys.stdout.flush()  # what cannot be printed is no success
                except BaseException as error:
                    # From here on a second signal is not to disturb what is said and given back.
                    signals.over = True
                    end_workers(keep=others)
                    ended = _end(name, error)
                    if ended is None:
                        raise
                    code = ended
                finally:
                    signals.over = True
                    locks.release(keep=held)
            return code

        return wrapped

    return decorate


def _end(name: str, error: BaseException) -> int | None:
    """Say what ended a command; return its exit code, or None for a bug."""
    if isinstance(error, KeyboardInterrupt):
        print(f"{name}: interrupted", file=sys.stderr)
        return 130
    if isinstance(error, Terminated):
        print(f"{name}: terminated", file=sys.stderr)
        return 143
    if isinstance(error, BrokenPipeError):  # the reader of our stdout left (`| head`)
        return 1
    code = _exit_code(error)
    if code is not None:
        print(f"{name}: error: {one_line(error)}", file=sys.stderr)
    return code


def _exit_code(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.strerror:
        return 2  # a full disk, a missing permission: for the user to fix, no bug
    return getattr(error, "exit_code", None) if isinstance(error, Exception) else None


class Parser(argparse.ArgumentParser):
    """An argument parser whose usage errors are one line, and whose values may start with a minus."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage block and leaving."""
        unknown = first_option(message)
        hint = did_you_mean(unknown, _options(self)) if unknown else ""
        raise InputError(f"{message}{hint} (see --help)")

    def parse(
        self, argv: Sequence[str], *, signed: Sequence[str] = (), intermixed: bool = False
    ) -> argparse.Namespace:
        """Parse `argv`; the options in `signed` take values such as `-4..4`, which look like options.

        With `intermixed` positional arguments may stand behind options, or not at all.
        """
        words = list(argv)
        for place in range(len(words) - 1, 0, -1):
            if words[place - 1] in signed:
                words[place - 1 : place + 1] = [f"{words[place - 1]}={words[place]}"]
        return self.parse_intermixed_args(words) if intermixed else self.parse_args(words)


def first_option(message: str) -> str | None:
    """Return the first option in argparse's message about unknown arguments; None for another message."""
    start, _, words = message.partition("unrecognized arguments: ")
    if start or not words:
        return None
    options = (word.partition("=")[0] for word in words.split() if word.startswith("--"))
    return next(options, None)


def did_you_mean(option: str, known: Collection[str]) -> str:
    """Return `; did you mean --shifts?` for an option close to a known one, else nothing.

    Args:
        option: what was typed, such as `--shfits`.
        known: options there are. Of dotted ones (`--train.epochs`) the last part is compared as well.
    """
    import difflib

    def plain(text: str) -> str:
        return text.lstrip("-").replace("_", "-").lower()

    names = {plain(name): name for name in sorted(known, reverse=True) if name.startswith("--")}
    parts = {plain(name.rpartition(".")[2]): name for name in sorted(known, reverse=True) if "." in name}
    for words in (names, parts):
        close = difflib.get_close_matches(plain(option), words, n=1, cutoff=0.7)
        if close:
            return f"; did you mean {words[close[0]]}?"
    return ""


def _options(parser: argparse.ArgumentParser) -> set[str]:
    """Return the options of a parser and of its subcommands."""
    options = set(parser._option_string_actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                options |= _options(inner)
    return options


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
    budget.allow(None)
    parser.add_argument("--max_memory", type=_allow, metavar="SIZE", help=MAX_MEMORY)
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
        parser.add_argument("--seed", type=seed, default=0, metavar="N", help="of everything random")
    parser.add_argument("--version", action="version", version=f"steadypix {version()}")


def positive(text: str) -> int:
    """Read a whole number of at least 1, for argparse."""
    return _whole(text, 1)


def natural(text: str) -> int:
    """Read a whole number of at least 0, for argparse."""
    return _whole(text, 0)


def seed(text: str) -> int:
    """Read a seed, for argparse: a whole number that results and checkpoints are read back with."""
    return _whole(text, 0, int(LARGEST_NUMBER))


def threads(text: str) -> int:
    """Read a number of threads, for argparse; 0 leaves it to torch."""
    return _whole(text, 0, MOST_THREADS)


def _whole(text: str, minimum: int, maximum: int = MOST) -> int:
    digits = text.isascii() and text.isdigit()
    if not digits or len(text) > LONGEST or not minimum <= int(text) <= maximum:
        expected = f"at least {minimum}"
        if digits and (len(text) > LONGEST or int(text) > maximum):
            expected = f"{minimum} to {maximum}"
        raise argparse.ArgumentTypeError(f"expected a whole number of {expected}, got {_short(text)!r}")
    return int(text)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _allow(text: str) -> str:
    try:
        budget.allow(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def pick_device(name: str) -> str:
    """Return a torch device for `auto`, `cpu`, `cuda` or `mps`.

    Raises:
        InputError: if the device is not there.
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
        raise InputError(
            f"--device {name}: is not available here ({why_not(name)}); expected auto or one of {usable}"
        )
    return name


def why_not(device: str) -> str:
    """Say why `cuda` or `mps` is not available: the build of torch, the driver, or no device."""
    import torch

    build = f"torch {torch.__version__} is a build without {'CUDA' if device == 'cuda' else 'MPS'}"
    if device != "cuda":
        return "macOS or its GPU is too old for it" if torch.backends.mps.is_built() else build
    if torch.version.cuda is None and torch.version.hip is None:
        return build
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        if "no NVIDIA driver" in str(error):
            return "no NVIDIA driver is found"
        if "driver" in str(error) and "too old" in str(error):
            return f"the NVIDIA driver is too old for torch {torch.__version__}"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "no device is found" + ("" if visible is None else f", with CUDA_VISIBLE_DEVICES={visible!r}")
