"""One writer a folder: who writes to one holds its lock, and the second is told who that is.

Where the system has `flock`, the lock ends with the process that holds it, however that ends. Elsewhere
(Windows, some network disks) the file alone is the lock: that of a process which is gone from this machine is
taken over, that of another machine has to be deleted by hand.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from steadypix.errors import InputError

LOCK = ".steadypix.lock"
MOST_BYTES = 1000  # of what a lock says
_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}

# What this process holds, in order: the lock's file, and what gives it back.
_held: list[tuple[Path, Callable[[], None]]] = []
_handles: list[int] = []


def hold(folder: Path, *, name: str = LOCK) -> None:
    """Take the lock of a folder until the command that runs now is over; see `steadypix.command`.

    The folder is made; where nothing is written to it, it goes with the lock. What this process holds already
    stays held. Of the processes of one torchrun the first holds it for all.

    Args:
        folder: that is written to.
        name: of the lock's file, where less than the folder is meant.

    Raises:
        InputError: naming who holds it, or why it cannot be had.
    """
    if not _is_first_process():
        return
    path = folder.resolve() / name
    if any(path == ours for ours, _ in _held):
        return
    made = [parent for parent in (path.parent, *path.parent.parents) if not parent.exists()]
    try:
        release = _take(path, folder)
    except OSError as error:
        _remove_empty(made)
        raise InputError(f"{folder}: cannot be written ({error.strerror})") from None

    def give_back() -> None:
        release()
        _remove_empty(made)

    _held.append((path, give_back))


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a folder's lock for the work within; see `hold`."""
    keep = held()
    hold(folder)
    try:
        yield
    finally:
        release(keep)


def held() -> int:
    """Return how many locks this process holds, for `release`."""
    return len(_held)


def release(keep: int = 0) -> None:
    """Give back every lock but the first `keep`."""
    while len(_held) > keep:
        _, give_back = _held.pop()
        give_back()


def _is_first_process() -> bool:
    return os.environ.get("RANK", "0") == "0" or os.environ.get("WORLD_SIZE", "1") == "1"


def _take(path: Path, folder: Path) -> Callable[[], None]:
    """Take a lock; return what gives it back."""
    while True:
        # A link or a pipe by this name is nobody's lock: it is not followed, and not waited for.
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, flags, 0o666)
        except FileNotFoundError:  # the one before has just removed its folder, which stayed empty
            continue
        try:
            locked = _flock(handle)
        except BlockingIOError:
            who = _read(handle)
            os.close(handle)
            raise InputError(_said(folder, who)) from None
        except OSError:
            os.close(handle)
            raise
        if not locked:
            os.close(handle)
            return _take_by_file(path, folder)
        # The one before may have deleted the file between our opening and our locking it.
        if _is_at(handle, path):
            break
        os.close(handle)
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, _about_us(), 0)
    except OSError:  # a full disk, or something that is no file: it is nobody's then
        os.close(handle)
        raise

    _handles.append(handle)

    def give_back() -> None:
        with contextlib.suppress(OSError):
            path.unlink()  # while it is held: nobody else's can lie there
        _handles.remove(handle)
        os.close(handle)

    return give_back


def _forget() -> None:
    """Leave the locks to the process that took them: a worker may live on for a while when that is killed."""
    for handle in _handles:
        os.close(handle)
    _handles.clear()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _flock(handle: int) -> bool:
    """Lock an open file; whether the system can.

    Raises:
        BlockingIOError: if another process has it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return False
        raise
    return True


def _take_by_file(path: Path, folder: Path) -> Callable[[], None]:
    """Take a lock where there is no `flock`: whoever's name stands in the file has it."""
    own = path.with_name(f"{path.name}.{os.getpid()}")
    own.write_bytes(_about_us())
    try:
        for _ in range(2):
            try:
                os.link(own, path)  # with all that it says, or not at all
                return lambda: path.unlink(missing_ok=True)
            except FileExistsError:
                handle = os.open(path, os.O_RDONLY)
                who = _read(handle)
                os.close(handle)
            if who and not _is_gone(who):
                hint = f"; if that process has ended, delete {path}"
                raise InputError(_said(folder, who) + hint) from None
            path.unlink(missing_ok=True)  # of a process that has ended, or empty: `_take` made it
    finally:
        own.unlink()
    raise InputError(_said(folder, {}))


def _is_gone(who: dict[str, object]) -> bool:
    """Whether a process is known to have ended: one of this machine, on a system that can be asked."""
    pid = who.get("pid")
    if who.get("host") != socket.gethostname() or type(pid) is not int or pid < 1:
        return False
    return not is_running(pid)


def is_running(pid: int) -> bool:
    """Whether a process of this machine is there; true as well on a system that cannot be asked."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _is_at(handle: int, path: Path) -> bool:
    try:
        ours, there = os.fstat(handle), os.lstat(path)
    except OSError:
        return False
    return (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)


def _about_us() -> bytes:
    since = datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    about = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
    return json.dumps(about).encode()


def _read(handle: int) -> dict[str, object]:
    """Return what a lock says of its holder; nothing where that makes no sense."""
    try:
        found = json.loads(os.read(handle, MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _said(folder: Path, who: dict[str, object]) -> str:
    known = ", ".join(
        f"{word} {str(who[key])[:100]}"
        for key, word in (("pid", "process"), ("host", "on"), ("since", "since"))
        if key in who
    )
    said = f"is being written by another command ({known or 'unknown'})"
    return f"{folder}: {said}; wait for it, or name another folder"


def _remove_empty(folders: list[Path]) -> None:
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()
