"""An interrupted evaluation goes on where it stopped: what is measured is kept a line a picture.

`partial-R-of-N.jsonl` lies in the output folder while process R of N evaluates. Its first line says which run
writes it and what is being measured (models and pictures by hash, protocols, versions); the others hold the
numbers of one picture each, and a checksum, so a line that is damaged is measured again.
Python writes floats so that they read back to the bit, so a resumed result equals an uninterrupted one.

A file is begun beside the one that it replaces, and a line is synced before the next picture: whenever a
process is killed, what it loses is the picture it was at. A process that outlives its run writes to a file
that nobody sees any more, and removes none but its own.
"""

from __future__ import annotations

import json
import os
import sys
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from steadypix.errors import NOT_KEPT, InputError, printable
from steadypix.files import remove_half_written, write_text

Rows = list[dict[str, Any]]  # one a model
NAME = "partial-{rank}-of-{world}.jsonl"
PATTERN = "partial-*-of-*.jsonl"
LONGEST_SHOWN = 120  # characters of two values that differ


class Partial:
    """The numbers of the pictures measured so far, in memory and in a file.

    Args:
        path: the file; None keeps nothing.
        heading: what is measured, as JSON values. A file that says otherwise is replaced, and why is said.
        run: tells this run from earlier ones.
    """

    def __init__(self, path: Path | None, heading: Mapping[str, Any], run: str = "") -> None:
        self.path = path
        self.heading: dict[str, Any] = json.loads(json.dumps(dict(heading)))
        self.run = run
        self.stale = ""  # why what is there does not count
        self.done: dict[int, Rows] = dict(self._read())

    def __enter__(self) -> Partial:
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists() and not self.path.is_file():  # opening a pipe would wait for its reader
                raise InputError(f"{self.path}: is no regular file; expected none, or an evaluation's")
            if self.stale:
                print(printable(f"{self.path}: {self.stale}; measured anew"), file=sys.stderr)
            # Written anew: a line that a kill cut in half must not stand before the next one.
            first = json.dumps({"run": self.run, "heading": self.heading}) + "\n"
            write_text(self.path, first + "".join(_line(index, rows) for index, rows in self.done.items()))
            written = Partial(self.path, self.heading, self.run)
            if written.stale or written.done != self.done:
                raise InputError(f"{self.path}: {NOT_KEPT}")
            self._file = open(self.path, "a", encoding="utf-8")
        return self

    def __exit__(self, *exception: object) -> None:
        if self.path is not None:
            self._file.close()
            if not self.done:
                self.path.unlink(missing_ok=True)
                if not any(self.path.parent.iterdir()):
                    self.path.parent.rmdir()

    def add(self, index: int, rows: Rows) -> None:
        """Keep the numbers of picture `index`, on the disk before this returns."""
        self.done[index] = rows
        if self.path is not None:
            self._file.write(_line(index, rows))
            self._file.flush()
            os.fsync(self._file.fileno())

    def _read(self) -> Iterator[tuple[int, Rows]]:
        if self.path is None or not self.path.is_file():
            return
        with open(self.path, encoding="utf-8", errors="replace") as file:
            first = _parse(file.readline())
            theirs = first.get("heading")
            if theirs != self.heading:
                self.stale = _why(theirs, self.heading)
                return
            for line in file:
                entry = _parse(line)
                index, rows = entry.get("index"), entry.get("rows")
                # Python writes an object in one way only, so an entry as it was written has the same text.
                if isinstance(index, int) and isinstance(rows, list) and line == _line(index, rows):
                    yield index, rows


def run_of(path: Path) -> str | None:
    """Return the run that a file of numbers says it is of."""
    if not path.is_file():
        return None
    with open(path, encoding="utf-8", errors="replace") as file:
        run = _parse(file.readline()).get("run")
    return run if isinstance(run, str) else None


def remove(folder: Path, run: str, *, others: bool) -> None:
    """Remove the files of a run that has its results.

    Args:
        folder: where they lie.
        run: its own.
        others: remove what earlier runs left too, with other contents or another number of processes.
    """
    for path in folder.glob(PATTERN):
        if others or run_of(path) == run:
            path.unlink(missing_ok=True)
    if others:
        remove_half_written(folder)


def _why(theirs: object, ours: Mapping[str, Any]) -> str:
    """Say in which respect a file is of something else."""
    if not isinstance(theirs, dict):
        return "is damaged, or of another version"
    for key in [*ours, *(key for key in theirs if key not in ours)]:
        before, now = theirs.get(key), ours.get(key)
        if before != now:
            values = f"{before}, now {now}"
            return f"is of other {key}" + (f" ({values})" if len(values) <= LONGEST_SHOWN else "")
    return ""


def _line(index: int, rows: Rows) -> str:
    """Return a picture's line: its numbers, and a checksum by which a damaged line is known."""
    written = json.dumps({"index": index, "rows": rows})
    return json.dumps({"index": index, "crc32": zlib.crc32(written.encode()), "rows": rows}) + "\n"


def _parse(line: str) -> dict[str, Any]:
    """Return a line's JSON; of one that is damaged, for one because a kill cut it short, nothing."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return entry if isinstance(entry, dict) else {}
