"""How much memory a command may take, and whether what it is asked for fits, before any of it is taken.

Everything that decides about memory comes from somebody: options, a configuration, a checkpoint's metadata, a
picture's header. What would be taken is estimated from these numbers, on the large side but within a factor
of about two, and held against `--max_memory`, which counts a command with all of its processes.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from steadypix.errors import InputError

SHARE = 0.9  # of the memory that is available, where nobody says otherwise
PROGRAM_BYTES = 600 * 10**6  # Python, torch and the libraries behind them, once a command
WORKER_BYTES = 100 * 10**6  # what a process that decodes pictures has for itself
NOT_WORTH_ASKING = 64 * 10**6  # bytes that any machine has: smaller pictures are read without a look
EXPECTED = "expected a size such as 2G or 500M, or a share of what is available such as 75%"

_MEMORY = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)([MGT])i?B?|(\d{1,3})%", re.ASCII | re.IGNORECASE)
_UNITS = {"M": 10**6, "G": 10**9, "T": 10**12}
_NO_LIMIT = 1 << 62  # control groups write about so much where there is none


class TooLargeError(InputError):
    """More memory would be taken than may be. The message says how much, and which option helps."""


@dataclass(frozen=True)
class Part:
    """Something that takes memory."""

    n_bytes: float  # an estimate for the whole command
    what: str  # takes it: the options that decide, with their values
    helps: str  # which options would make it less


@dataclass
class _Command:
    """What the running command was told."""

    max_memory: str | None = None
    has_option: bool = False  # --max_memory
    readers: int = 1  # pictures that are decoded at the same time


_command = _Command()


def memory(text: str) -> str:
    """Check `2G`, `1.5GB`, `500M` or `75%` (of what is available; more than 100% is taken, too).

    Raises:
        InputError: naming the text, if it is none of these.
    """
    match = _MEMORY.fullmatch(text.strip())
    if not match or not float(match[1] or match[3]):
        raise InputError(f"memory {text!r} not understood; {EXPECTED}")
    return text.strip()


def parse_memory(text: str, available: int) -> int:
    """Return the bytes of what `memory` takes, of so many available.

    >>> parse_memory("2G", 0), parse_memory("75%", 1000)
    (2000000000, 750)

    Raises:
        InputError: as `memory`.
    """
    match = _MEMORY.fullmatch(memory(text))
    assert match is not None
    if match[3]:
        return int(match[3]) * available // 100
    return int(float(match[1]) * _UNITS[match[2].upper()])


def allow(max_memory: str | None) -> None:
    """Set what the running command, which has the option, may take; None takes the default."""
    _command.has_option = True
    _command.max_memory = None if max_memory is None else memory(max_memory)


def share_among(readers: int) -> None:
    """Say how many processes decode pictures at the same time; each may take its share of the memory."""
    _command.readers = max(1, readers)


@contextlib.contextmanager
def of_a_command() -> Iterator[None]:
    """Have a command begin with the defaults, and leave nothing of its own behind."""
    kept = _Command(**vars(_command))
    vars(_command).update(vars(_Command()))
    try:
        yield
    finally:
        vars(_command).update(vars(kept))


def limit_bytes(default: float | None = None) -> int:
    """Return how much memory the running command may take in all, what it has already among it.

    Args:
        default: where `--max_memory` is not given; None is `SHARE` of what is available.
    """
    available = available_bytes() + resident_bytes()
    if _command.max_memory is None:
        return int(SHARE * available if default is None else default)
    return parse_memory(_command.max_memory, available)


def require(*parts: Part) -> None:
    """Check that a command may take all of these together, beside what any command takes.

    Raises:
        TooLargeError: in one line: what the largest of them takes, what there is, what helps.
    """
    total = PROGRAM_BYTES + sum(part.n_bytes for part in parts)
    limit = limit_bytes()
    if total > limit:
        most = max(parts, key=lambda part: part.n_bytes)
        there = _command.max_memory or f"{SHARE:.0%} of what is available"
        option = ", or another --max_memory" if _command.has_option else ""
        raise TooLargeError(
            f"{most.what}: would take about {size_text(most.n_bytes)} of memory, {size_text(total)} in all, "
            f"but {size_text(limit)} may be taken ({there}); expected {most.helps}{option}"
        )


def require_picture(n_bytes: int, what: str) -> None:
    """Check that a picture may be decoded, by every reader at the same time.

    Args:
        n_bytes: that its decoding takes, from its header.
        what: its file and size.

    Raises:
        TooLargeError: as `require`.
    """
    readers = _command.readers
    if n_bytes > NOT_WORTH_ASKING:
        at_once = f", decoded by {readers} processes at once" if readers > 1 else ""
        helps = "fewer --workers" if readers > 1 else "a smaller picture"
        require(Part(readers * n_bytes, f"{what}{at_once}", helps))


def available_bytes() -> int:
    """Return the memory that this process could still take.

    It is the least of what the system has free or can free, what the control groups (version 1 or 2) leave,
    and what the process's own limit of addresses does. Outside of Linux it is all that the machine has.
    """
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):  # no Linux
        free = _physical_bytes()
    return max(0, min([free, *_left_by_groups(), *_left_by_limits()]))


def resident_bytes() -> int:
    """Return the memory that this process has now, 0 where the system does not say."""
    return _own_bytes(1)


def size_text(n_bytes: float) -> str:
    """Return bytes for people, in decimal units.

    >>> size_text(1.5e9), size_text(2e7), size_text(3e30)
    ('1.5 GB', '20 MB', 'more than 1000 PB')
    """
    for exponent, unit in ((15, "PB"), (12, "TB"), (9, "GB")):
        if n_bytes >= 1e18:
            return "more than 1000 PB"
        if n_bytes >= 10**exponent:
            return f"{n_bytes / 10**exponent:.1f} {unit}"
    return f"{n_bytes / 1e6:.0f} MB"


def _physical_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not even POSIX: the system has to say it itself
        return _NO_LIMIT


def _left_by_groups(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> list[int]:
    """Return what the control groups around this process still leave it, each that has a limit."""
    try:
        lines = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        return []
    left = []
    for number, controllers, path in (line for line in lines if len(line) == 3):
        if number == "0":
            top, most, used, freed = root, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            top, most, used = root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            freed = "total_inactive_file"
        else:
            continue
        folder = top / path.strip("/")
        # Inside of a container the path may be one of the host, of which nothing is seen here but the top.
        for group in {top, *(place for place in (folder, *folder.parents) if place.is_relative_to(top))}:
            limit = _number(group / most)
            if limit is not None and limit < _NO_LIMIT:
                left.append(limit - (_number(group / used) or 0) + _cached(group / "memory.stat", freed))
    return left


def _left_by_limits() -> list[int]:
    """Return how many addresses the process's own limit leaves, if it has one."""
    try:
        import resource
    except ImportError:
        return []
    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    return [] if soft == resource.RLIM_INFINITY else [soft - _own_bytes(0)]


def _own_bytes(column: int) -> int:
    """Return a column of what Linux says of this process's memory: 0 its addresses, 1 what it holds."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[column])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # none, or no limit ("max")
        return None


def _cached(path: Path, key: str) -> int:
    """Return the bytes of files that a group holds and would give back."""
    try:
        pairs = dict(line.split(" ", 1) for line in path.read_text().splitlines())
        return int(pairs.get(key, 0))
    except (OSError, ValueError):
        return 0
