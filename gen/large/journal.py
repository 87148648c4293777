"""What a run in strips has computed, kept in a folder, so that the run goes on after it was killed.

The network's forward pass stores its maps in the same order every time. So the n-th map of a run that is
begun again is the n-th map of the run that was killed: what is whole is read, or left out where whatever
needed it is whole too, and the one that was being made is gone on with. Moments of the channels (the
statistics of the norms) lie beside each map.

A run goes on only between groups of strips, where it forgets in any case which rows were made last. So every
number is computed by the same calls, killed or not, and the output is equal to the bit.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from steadypix.errors import NOT_KEPT, InputError
from steadypix.files import write_text

KINDS = {"rows": int, "done": bool, "boot": str, "facts": dict}  # of what is known of a map's file
GROUP_STRIPS = 32  # so many strips are made between two places where a run can go on


class Record:
    """A file of rows that grows from the top, and what is known of it.

    Args:
        path: of the file; what is known lies beside it under the suffix `.json`.

    Attributes:
        rows: how many of it are there, from the top.
        done: whether these are all.
        facts: what else was kept.

    Raises:
        InputError: if what is known of it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.about = path.with_suffix(".json")
        kept = self._read()
        self.done: bool = kept.get("done", False)
        # Rows that were not yet synced are there as long as the system runs, even if the process was killed.
        sound = self.done or (path.exists() and kept.get("boot") and kept["boot"] == boot())
        self.rows: int = kept["rows"] if sound else 0
        self.facts: dict[str, Any] = kept["facts"] if sound else {}

    def _read(self) -> dict[str, Any]:
        """Return what is known of the file, nothing where none is."""
        if not self.about.exists():
            return {}
        try:
            kept = json.loads(self.about.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            kept = None
        if not isinstance(kept, dict) or any(type(kept.get(key)) is not kind for key, kind in KINDS.items()):
            raise InputError(f"{self.about}: is not what an interrupted run wrote down; expected {[*KINDS]}")
        return kept

    def keep(self, rows: int, *, done: bool, **facts: Any) -> None:
        """Note that the file holds this many rows; `facts` are plain JSON values.

        Raises:
            OSError: as the system raises it.
            InputError: if it is not read as it was written.
        """
        if done and self.path.exists():
            with open(self.path, "rb") as file:
                os.fsync(file.fileno())
        text = json.dumps({"rows": rows, "done": done, "boot": boot(), "facts": facts})
        write_text(self.about, text)
        if json.dumps(self._read()) != text:
            raise InputError(f"{self.about}: {NOT_KEPT}")
        self.rows, self.done, self.facts = rows, done, facts


class Journal:
    """The files of one run in a folder. As a context, it leaves them there if the run ends by an exception.

    Args:
        folder: is made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kept = False
        self._count = 0
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.kept = self.kept or kind is not None

    def next_map(self) -> Record:
        """Return the record of the map that the network stores next."""
        self._count += 1
        return Record(self.folder / f"{self._count:04d}.map")

    def drop(self, path: Path) -> None:
        """Remove the file of a map that no other map needs any more; what is known of it stays."""
        if not self.kept:
            path.unlink(missing_ok=True)


def boot() -> str:
    """Return what names this run of the operating system, empty where it has no name."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
