"""The folder of a picture that is not finished: what it is of, and what is done of it."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from steadypix.checkpoints.generation.sequence import identity
from steadypix.errors import NOT_KEPT, InputError
from steadypix.files import write_text

FOLDER, STATE = ".unfinished", "state.json"


class Work:
    """The folder of an unfinished picture. The lock of the outputs' folder keeps other commands away.

    Args:
        folder: is made when the work begins.
        same: JSON values that must be the same to go on.

    Raises:
        InputError: if what an earlier run wrote down is damaged, or of something else.
    """

    def __init__(self, folder: Path, same: dict[str, Any]) -> None:
        self.folder = folder
        self.tile_px = 0  # of the run that this one goes on with
        self.went_on = False
        self._same: dict[str, Any] = json.loads(json.dumps(same))
        self._finished: list[int] = []
        if (self.folder / STATE).is_file():
            self._find()

    def _find(self) -> None:
        """Read what an earlier run wrote down."""
        try:
            found = json.loads((self.folder / STATE).read_text(encoding="utf-8"))
            before, self.tile_px, self._finished = found["same"], int(found["tile"]), found["finished"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise InputError(f"{self.folder}: is damaged; delete it to start again") from None
        for key in self._same:
            if before.get(key) != self._same[key]:
                raise self.other(f"{key} {before.get(key)}, now {self._same[key]}")
        self.went_on = not self._finished

    def other(self, what: str) -> InputError:
        """Return the error that says that something else lies here."""
        return InputError(
            f"{self.folder}: holds an unfinished picture of other options ({what}); repeat its command, or "
            "delete that folder to start again"
        )

    def finished_as(self, out: Path) -> bool:
        """Whether the output is there, made by the command that this one goes on with."""
        if self._finished and not (out.is_file() and identity(out) == self._finished):
            self.tile_px, self._finished = 0, []
        return bool(self._finished)

    def begin(self, tile_px: int) -> None:
        """Write down what begins, unless it is gone on with."""
        if self.went_on:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self._clear()  # what is there is of an output that was removed since, or of nobody knows what
        self.tile_px = tile_px
        self._write()
        if Work(self.folder, self._same).tile_px != tile_px:  # or it is refused there
            raise InputError(f"{self.folder}: {NOT_KEPT}")

    def finish(self, output: Sequence[int]) -> None:
        """Write down that the output is there, and remove all else."""
        self._finished = list(output)
        self._write()
        self._clear()

    def remove(self) -> None:
        """Remove the folder, and the one around it if it is empty."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.folder.parent.rmdir()

    def remove_if_new(self) -> None:
        """Remove the folder unless it holds what an earlier run made."""
        if not self.went_on:
            self.remove()

    def n_bytes(self) -> int:
        """Return what the files of the folder take."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    def _clear(self) -> None:
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != STATE:
                path.unlink()

    def _write(self) -> None:
        state = {"same": self._same, "tile": self.tile_px, "finished": self._finished}
        write_text(self.folder / STATE, json.dumps(state) + "\n")
