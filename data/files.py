"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def write_text(path: Path, text: str, *, errors: str = "strict") -> None:
    """Write a text as UTF-8 with plain line ends, whole or not at all; see `write_whole`."""
    data = text.encode("utf-8", errors)
    write_whole(path, lambda temporary: temporary.write_bytes(data))


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write(temporary)` beside `path`, then rename: no half-written file is ever seen.

    The temporary name keeps the suffix, because writers of pictures go by it. The folder is made.

    Raises:
        OSError: as `write` or the system raises it; an older file at `path` stays, the temporary does not.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        write(temporary)
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is not None and error.filename is None:  # a full disk does not say where
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)
