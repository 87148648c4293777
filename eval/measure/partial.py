"""An interrupted evaluation goes on where it stopped: what is measured is kept a line a picture.

`partial.jsonl` lies in the output folder while an evaluation runs. Its first line says what is being
measured (models by hash, pictures, protocols, versions); the others hold the numbers of one picture each,
and a checksum, so a line that is damaged is measured again.
Python writes floats so that they read back to the bit, so a resumed result equals an uninterrupted one.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from steadypix.errors import InputError

Rows = list[dict[str, Any]]  # one a model


class Partial:
    """The numbers of the pictures measured so far, in memory and in a file.

    Args:
        path: the file; None keeps nothing.
        heading: what is measured, as JSON values. A file that says otherwise is replaced.
    """

    def __init__(self, path: Path | None, heading: dict[str, Any]) -> None:
        self.path = path
        self.heading = heading
        self.done: dict[int, Rows] = dict(self._read())

    def __enter__(self) -> Partial:
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists() and not self.path.is_file():  # opening a pipe would wait for its reader
                raise InputError(f"{self.path}: is no regular file; expected none, or an evaluation's")
            # Written anew: a line that a kill cut in half must not stand before the next one.
            lines = [json.dumps(self.heading) + "\n", *(_line(i, rows) for i, rows in self.done.items())]
            self._file = open(self.path, "w", encoding="utf-8")
            self._file.writelines(lines)
        return self

    def __exit__(self, *exception: object) -> None:
        if self.path is not None:
            self._file.close()
            if not self.done:
                self.path.unlink()
                if not any(self.path.parent.iterdir()):
                    self.path.parent.rmdir()

    def add(self, index: int, rows: Rows) -> None:
        """Keep the numbers of picture `index`."""
        self.done[index] = rows
        if self.path is not None:
            self._file.write(_line(index, rows))
            self._file.flush()

    def _read(self) -> Iterator[tuple[int, Rows]]:
        if self.path is None or not self.path.is_file():
            return
        with open(self.path, encoding="utf-8", errors="replace") as file:
            if _parse(file.readline()) != json.loads(json.dumps(self.heading)):
                return
            for line in file:
                entry = _parse(line)
                index, rows = entry.get("index"), entry.get("rows")
                # Python writes an object in one way only, so an entry as it was written has the same text.
                if isinstance(index, int) and isinstance(rows, list) and line == _line(index, rows):
                    yield index, rows


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
