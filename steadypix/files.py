"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path

from steadypix import locks
from steadypix.errors import InputError

# What `write_whole` names its temporary files, and no other file of ours is named.
TEMPORARY = re.compile(r"\..+\.(\d+)\.tmp(\.[^.]+)?")


def write_text(path: Path, text: str, *, errors: str = "strict") -> None:
    """Write a text as UTF-8 with plain line ends, whole or not at all; see `write_whole`."""
    data = text.encode("utf-8", errors)
    write_whole(path, lambda temporary: temporary.write_bytes(data))


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write(temporary)` beside `path`, sync and rename: no half-written file is ever seen.

    The folder is made. The temporary name keeps the suffix, because writers of pictures go by it. On any
    failure (a full disk, an interrupt) the temporary is removed and an older file at `path` stays as it was.

    Raises:
        OSError: as `write` or the system raises it; it names a file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path, os.getpid())
    try:
        temporary.touch()  # with the permissions that the user's umask leaves
        mode = temporary.stat().st_mode
        write(temporary)
        temporary.chmod(mode)  # safetensors makes files that only their owner can read
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        # The rename itself is durable only once the folder is.
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        if error.errno is not None and error.filename is None:  # a full disk does not say where
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(path: Path, process: int | str) -> Path:
    return path.with_name(f".{path.stem}.{process}.tmp{path.suffix}")


def prepare_output(out: Path, *, only: Path | None = None) -> None:
    """See that the output folder can be made and written, before any work is done, and take its lock.

    The lock is held until the command is over, see `steadypix.locks`; a folder to which nothing is written
    goes with it. What a killed command left half-written in the folder is removed.

    Args:
        out: the folder.
        only: the one file that is written to it; then others may write other files there.

    Raises:
        InputError: naming the folder and the reason, or who is writing to it.
    """
    existed = out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / f".writable.{os.getpid()}"
        probe.touch()
        probe.unlink()
        if not existed:
            with contextlib.suppress(OSError):  # another command may have begun to write there
                out.rmdir()  # what follows may still fail; whoever writes first makes it again
    except FileExistsError:
        raise InputError(f"{out}: is a file; expected a folder to write to") from None
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror})") from None
    locks.hold(out, name=locks.LOCK if only is None else f".{only.name}.lock")
    remove_half_written(out, only)


def remove_half_written(folder: Path, only: Path | None = None) -> None:
    """Remove what `write_whole` had begun in a folder, or in those within, when its process was killed.

    Args:
        folder: of the finished files.
        only: what would have become this file alone.
    """
    for path in (*folder.glob(".*.tmp*"), *folder.glob("*/.*.tmp*")):
        found = TEMPORARY.fullmatch(path.name)
        wanted = only is None or path == _temporary(only, found[1] if found else "")
        if found and wanted and not locks.is_running(int(found[1])):
            path.unlink(missing_ok=True)
