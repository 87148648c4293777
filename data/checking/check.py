"""Reads every picture of a data set, in parallel, and says what is broken and what is odd."""

from __future__ import annotations

import collections
import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steadypix.data.checking.survey import Finding, Split, survey
from steadypix.data.pictures.images import decode, open_picture
from steadypix.errors import InputError
from steadypix.progress import progress

# What the reader takes as it is: grayscale, colour, 16-bit grayscale. A TIFF Pillow does not know has none.
_USUAL_MODES = ("L", "RGB", "I;16", "I;16B", "I;16L", "I;16N", "I")
_CHUNK = 8  # pairs that travel to a process at once
_PAIRS_A_WORKER = 64  # fewer are read sooner than another process has started


class ReaderDiedError(RuntimeError):
    """A process that read pictures was ended from outside; the system kills the largest when memory ends."""

    exit_code = 1


@dataclass(frozen=True)
class Seen:
    """What reading a pair came to."""

    size_px: tuple[int, int] | None  # of the file, or of both halves; None if they cannot be used
    findings: tuple[Finding, ...]


@dataclass
class Summary:
    """What a check came to."""

    # For each split: number of `pairs`, and `size_px` of most of them, or None.
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=lambda: {"error": 0, "remark": 0, "ignored": 0})

    @property
    def pairs(self) -> int:
        """Number of pairs in all splits."""
        return sum(split["pairs"] for split in self.splits.values())


def check(
    root: Path, *, splits: Sequence[str] = (), workers: int, report: Callable[[Finding], object]
) -> Summary:
    """Read every pair of a data set.

    Args:
        root: the folder that holds the split folders.
        splits: which of them; all if none is named.
        workers: processes that read, at most. Their number changes nothing in what is reported.
        report: called with every finding, in order: split by split, what is odd about the folder, then its
            files, then sizes that differ.

    Raises:
        InputError: if there is no such folder or split.
        ReaderDiedError: if a process that reads dies; everything before was reported.
    """
    found, beside = survey(root, splits)
    pairs = [pair for split in found for pair in split.pairs]
    summary = Summary()

    def tell(findings: Sequence[Finding]) -> None:
        for finding in findings:
            summary.counts[finding.level] += 1
            report(finding)

    results = _examine_all(pairs, min(workers, len(pairs) // _PAIRS_A_WORKER))
    seen = iter(progress(results, len(pairs), unit="pair"))
    tell(beside)
    for split in found:
        tell(split.findings)
        sizes: list[tuple[int, int] | None] = []
        for _ in split.pairs:
            result = next(seen)
            tell(result.findings)
            sizes.append(result.size_px)
        usual, odd = compare_sizes(split, sizes)
        tell(odd)
        summary.splits[split.name] = {"pairs": len(split.pairs), "size_px": usual}
    next(seen, None)  # lets the progress bar end
    return summary


def _examine_all(pairs: Sequence[tuple[Path, ...]], workers: int) -> Iterator[Seen]:
    """Yield what reading each pair came to, in order; with 0 or 1 workers everything happens here."""
    if workers <= 1:
        yield from map(examine, pairs)
        return
    done = 0
    # Spawned, because a fork would take the threads' locks along.
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(workers, mp_context=context, initializer=_start) as pool:
            for seen in pool.map(examine, pairs, chunksize=_CHUNK):
                yield seen
                done += 1
    except BrokenProcessPool:
        raise ReaderDiedError(
            f"{pairs[done][0]}: at this picture, or soon after it, the system ended a process that reads; "
            "mostly memory is full, and fewer --workers need less"
        ) from None


def _start() -> None:
    """Leave Ctrl-C to the main process, and end with it, even if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def examine(pair: tuple[Path, ...]) -> Seen:
    """Read a pair's one or two files; whatever is wrong with them becomes findings, never an error."""
    findings: list[Finding] = []
    sizes = [_examine_file(path, findings) for path in pair]
    if len(pair) == 1 and sizes[0] and sizes[0][0] % 2:
        message = f"width {sizes[0][0]} px is odd; a side-by-side pair has two halves of the same width"
        findings.append(Finding(pair[0], "error", message))
    if None not in sizes and len(set(sizes)) > 1:
        message = f"is {_text(sizes[0])} but {pair[1]} is {_text(sizes[1])}; halves must have the same size"
        findings.append(Finding(pair[0], "error", message))
    broken = any(finding.level == "error" for finding in findings)
    return Seen(None if broken else sizes[0], tuple(findings))


def compare_sizes(
    split: Split, sizes: Sequence[tuple[int, int] | None]
) -> tuple[tuple[int, int] | None, list[Finding]]:
    """Return the size in px that more than half of a split has, and findings about those that differ.

    `sizes` are width and height of each pair in px, None for those that cannot be used.
    """
    counts = collections.Counter(size for size in sizes if size is not None)
    if not counts:
        return None, []
    usual, count = counts.most_common(1)[0]
    if 2 * count <= counts.total():
        where = split.pairs[0][0].parent
        message = f"has pictures of {len(counts)} sizes, none of them in more than half of the files"
        return None, [Finding(where, "remark", message)]
    return usual, [
        Finding(pair[0], "remark", f"is {_text(size)}; most of {split.name} is {_text(usual)}")
        for pair, size in zip(split.pairs, sizes, strict=True)
        if size is not None and size != usual
    ]


def _examine_file(path: Path, findings: list[Finding]) -> tuple[int, int] | None:
    """Decode a file; return its size in px, upright, or None if it cannot be used."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        size = None
        try:
            if path.stat().st_size == 0:
                raise InputError("is empty (0 bytes)")
            mode = _mode(path)
            height, width = decode(path, 3, quiet=False).pixels.shape[:2]  # with any channels
            size = (width, height)
            if mode and mode not in _USUAL_MODES:
                message = f"has mode {mode}, is read as grayscale or RGB"
                findings.append(Finding(path, "remark", message))
        except Exception as error:  # decoders fail in every way there is, and the next file is not at fault
            message = str(error).removeprefix(f"{path}: ")
            if not isinstance(error, InputError):
                message = f"cannot be read ({type(error).__name__}: {message})"
            findings.append(Finding(path, "error", message))
    messages = dict.fromkeys(str(warning.message) for warning in warned)  # opened twice, warned of twice
    findings += [Finding(path, "remark", message) for message in messages]
    return size


def _mode(path: Path) -> str:
    """Return how the file's pixels are stored; an unreadable file is for `read_image` to name."""
    try:
        with open_picture(path) as image:
            return image.mode
    except Exception:
        return ""


def cores() -> int:
    """Return how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _text(size: tuple[int, int] | None) -> str:
    return f"{size[0]}x{size[1]} px" if size else "unknown"
