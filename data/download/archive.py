"""Unpacks a tar.gz archive from elsewhere without trusting it.

Python's own `data` filter keeps members inside of the folder. What it lets pass (links inside of the folder,
sparse files, bombs, headers that ask for gigabytes of memory) is refused here.
"""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from pathlib import Path
from typing import Self

from steadypix.data.download.fetch import require_free, size_text
from steadypix.errors import InputError
from steadypix.progress import progress

_MAX_HEADER = 2**20  # bytes; tarfile reads a header of long names and attributes in one piece
# What tarfile and gzip raise on bytes that make no sense to them.
_BROKEN = (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError)
_LYING = (RecursionError, LookupError, ArithmeticError)


def unpack(archive: Path, folder: Path, *, max_members: int, max_bytes: int, members: int) -> None:
    """Unpack regular files and folders of a tar.gz archive into `folder`.

    Args:
        archive: the tar.gz file.
        folder: exists, and nobody else uses it. After an error it holds a part, the caller's to remove.
        max_members: more are refused.
        max_bytes: more, unpacked, are refused.
        members: how many are expected, for the progress bar.

    Raises:
        InputError: naming the archive, and the member that is refused, or what makes it unreadable; or the
            folder whose disk has no room.
        OSError: if the disk is full or the folder cannot be written to.
    """
    if not hasattr(tarfile, "data_filter"):
        raise InputError(f"{archive}: unpacking it safely needs Python 3.11.4 or newer")
    packed = archive.stat().st_size
    with archive.open("rb") as file:
        file.seek(max(0, packed - 4))
        # RFC 1952: gzip ends with the unpacked size modulo 2^32, so this is the least that it can be.
        least = int.from_bytes(file.read(4), "little")
    require_free(folder, max(packed, least), what=f"{archive.name} unpacked")
    try:
        # Headers and padding take up to three blocks a member beside the bytes of the files.
        with _Capped(archive, max_bytes + 3 * tarfile.BLOCKSIZE * max_members) as stream:
            with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as tar:
                unpacked = 0
                for count, member in enumerate(progress(tar, members, unit="file"), start=1):
                    if count > max_members:
                        raise tarfile.TarError(f"has more than {max_members} members")
                    # Claims are held against the limit too: tarfile would look for the end of the file.
                    unpacked += member.size
                    if unpacked > max_bytes:
                        raise tarfile.TarError(f"unpacks to more than {size_text(max_bytes)}")
                    _extract(tar, member, folder)
            while stream.read(2**16):  # gzip's checksum stands at the end, behind what tarfile reads
                pass
    except (*_BROKEN, *_LYING) as error:
        raise InputError(
            f"{archive}: cannot be unpacked ({error}); nothing was kept; delete it to download it again"
        ) from None


class _Capped(gzip.GzipFile):
    """A gzip file that is not read beyond a limit."""

    def __init__(self, archive: Path, max_bytes: int) -> None:
        super().__init__(archive, "rb")
        self._max_bytes = max_bytes

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() > self._max_bytes:
            raise tarfile.TarError(f"unpacks to more than {size_text(self._max_bytes)}")
        return super().read(size)


class _Member(tarfile.TarInfo):
    """A member whose header is not read into memory, however large it claims to be."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        info = super().frombuf(buf, encoding, errors)
        if info.size > _MAX_HEADER and not info.isreg():
            raise tarfile.TarError(f"has a header of more than {size_text(_MAX_HEADER)}")
        return info


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    if not (member.isreg() or member.isdir()) or member.issparse():
        raise tarfile.TarError(f"member {member.name!r} is a link, a device or no plain file")
    # The filter would take the first for a path inside of the folder, and the last for a name but on Windows.
    if member.name.startswith("/") or ".." in member.name.split("/") or "\\" in member.name:
        raise tarfile.TarError(f"member {member.name!r} leaves the folder")
    try:
        tar.extract(member, folder, filter="data")
    except (NotADirectoryError, IsADirectoryError, FileExistsError):
        raise tarfile.TarError(f"member {member.name!r} is a file and a folder at once") from None
    except OSError as error:
        if error.errno is not None and error.filename is None:  # a full disk does not say where
            error.filename = os.fspath(folder / member.name)
        raise
