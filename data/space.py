"""Room on a disk: asked for before a long write, and sizes in words."""

from __future__ import annotations

import shutil
from pathlib import Path

from data.errors import InputError


def require_free(folder: Path, needed: int, *, what: str) -> None:
    """Check that `needed` bytes are free on the disk of `folder`.

    Raises:
        InputError: if they are not; it names the folder and `what` needs the room.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(f"{folder}: {size_text(free)} are free, but {what} takes {size_text(needed)}")


def size_text(count: int) -> str:
    """Return a number of bytes for people, in decimal units."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} bytes"
