"""Unpacks a tar.gz archive from elsewhere without trusting it.

Python's own `data` filter refuses most of what is hostile and is used; what it lets pass (links inside of the
folder, bombs, headers that ask for gigabytes of memory) is refused here before anything is written.
"""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from data.command import progress
from data.errors import InputError
from data.space import require_free, size_text

# tarfile copies in blocks of 16 KiB; only a header that claims to be huge makes it read more at once.
_MAX_READ = 2**20
_TAR_BLOCK = 512


def unpack(archive: Path, folder: Path, *, max_members: int, max_bytes: int, members: int) -> None:
    """Unpack regular files and folders of a tar.gz archive into `folder`.

    Args:
        archive: the tar.gz file.
        folder: an existing folder that nobody else uses. After an error it holds a part of the archive and
            is the caller's to remove.
        max_members: more members than this are refused.
        max_bytes: more bytes than this, unpacked, are refused.
        members: how many are expected, for the progress bar.

    Raises:
        InputError: naming the archive, and the member that is refused, or saying that it is cut short or no
            archive at all.
        OSError: if the disk is full or the folder cannot be written to.
    """
    if not hasattr(tarfile, "data_filter"):
        raise InputError(f"{archive}: unpacking it safely needs Python 3.11.4 or newer")
    try:
        # Headers and padding take up to three blocks a member beside the bytes of the files.
        with _Limited(archive, max_bytes + 3 * _TAR_BLOCK * max_members) as stream:
            with tarfile.open(fileobj=stream, mode="r:") as tar:
                seen = bytes_seen = 0
                for member in progress(tar, members, unit="file"):
                    seen, bytes_seen = seen + 1, bytes_seen + member.size
                    _refuse_hostile(archive, member)
                    if seen > max_members:
                        raise InputError(f"{archive}: has more than {max_members} members; refused")
                    if bytes_seen > max_bytes:
                        raise _too_large(archive, max_bytes)
                    _extract(tar, member, folder, archive)
            stream.drain()  # the checksum stands at the end, behind what tarfile reads
    except InputError:
        raise
    except (EOFError, zlib.error, tarfile.ReadError, RecursionError, ValueError) as error:
        raise _unreadable(archive, error) from None
    except tarfile.TarError as error:
        raise InputError(f"{archive}: refused ({error})") from None
    except gzip.BadGzipFile as error:
        raise _unreadable(archive, error) from None


def require_space(archive: Path, folder: Path) -> None:
    """Check that the disk under `folder` has room for what the archive unpacks to, as far as it tells.

    Raises:
        InputError: if it has not.
    """
    packed = archive.stat().st_size
    with archive.open("rb") as file:
        file.seek(max(0, packed - 4))
        # RFC 1952: gzip ends with the unpacked size modulo 2^32, so this is the least that it can be.
        unpacked = int.from_bytes(file.read(4), "little")
    require_free(folder, max(packed, unpacked), what=f"{archive.name} unpacked")


class _Limited(gzip.GzipFile):
    """A gzip file that is read once, forwards, in small steps, and not beyond a limit."""

    def __init__(self, archive: Path, max_bytes: int) -> None:
        super().__init__(archive, "rb")
        self._archive = archive
        self._max_bytes = max_bytes

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= _MAX_READ:
            raise InputError(f"{self._archive}: has a header of more than {size_text(_MAX_READ)}; refused")
        self._check(self.tell() + size - _MAX_READ)
        return super().read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        if (offset, whence) == (0, 1):
            return super().seek(0, 1)  # this is how `tell` asks
        if whence != 0 or offset < self.tell():
            raise InputError(f"{self._archive}: a member points backwards; refused")
        self._check(offset)
        return super().seek(offset)

    def drain(self) -> None:
        """Read what is left."""
        while self.read(2**16):
            pass

    def _check(self, position: int) -> None:
        if position > self._max_bytes:
            raise _too_large(self._archive, self._max_bytes)


def _refuse_hostile(archive: Path, member: tarfile.TarInfo) -> None:
    """Raise for a member that is no plain file or folder inside of the destination."""
    path = PurePosixPath(member.name)
    if member.issym() or member.islnk():
        fault = f"is a link to {member.linkname!r}"
    elif not (member.isfile() or member.isdir()):
        fault = "is a device, a pipe or something else that is no file"
    elif path.is_absolute() or "\\" in member.name or ":" in member.name.partition("/")[0]:
        fault = "has an absolute path or one of another system"
    elif ".." in path.parts:
        fault = "leaves the folder"
    else:
        return
    raise InputError(f"{archive}: member {member.name!r} {fault}; refused, nothing was kept")


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, archive: Path) -> None:
    try:
        tar.extract(member, folder, filter="data")
    except (NotADirectoryError, IsADirectoryError, FileExistsError):
        raise InputError(
            f"{archive}: member {member.name!r} is a file and a folder at once; refused"
        ) from None
    except OSError as error:
        if error.errno is not None and error.filename is None:  # a full disk does not say where
            error.filename = os.fspath(folder / member.name)
        raise


def _unreadable(archive: Path, error: BaseException) -> InputError:
    cut = isinstance(error, EOFError) or "unexpected end" in str(error)
    fault = "is cut short" if cut else f"cannot be read as a tar.gz archive ({error})"
    return InputError(f"{archive}: {fault}; delete it to download it again")


def _too_large(archive: Path, max_bytes: int) -> InputError:
    return InputError(f"{archive}: unpacks to more than {size_text(max_bytes)}; refused, nothing was kept")
