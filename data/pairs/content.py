"""What a set of pictures is: their names and what their files hold, wherever they lie.

Two sets are the same if every picture has its partner of the same name and the same bytes. Files are hashed
with SHA-256, and read once in a process as long as size and times stay the same.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from steadypix.errors import InputError, printable

if TYPE_CHECKING:
    from steadypix.data.pairs.base import Pairs

MARK_BYTES = 8  # of a picture's hash, where only a difference has to be found
_REMEMBERED = 1 << 16  # files


@dataclass(frozen=True)
class Content:
    """Names and hashes of some pictures, in their order.

    Attributes:
        names: of the pictures.
        hashes: for every picture, SHA-256 of its name and of the content of its files.
    """

    names: tuple[str, ...]
    hashes: tuple[bytes, ...]

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.names)

    @functools.cached_property
    def sha256(self) -> str:
        """The hash of all pictures, in whatever order, in hexadecimal."""
        return hashlib.sha256(b"".join(sorted(self.hashes))).hexdigest()

    @property
    def fingerprint(self) -> str:
        """What tells these names from others: how many, and the beginning of their hash."""
        names = "\n".join(self.names).encode("utf-8", "surrogateescape")
        return f"{len(self)} pairs, {hashlib.sha256(names).hexdigest()[:12]}"

    @property
    def words(self) -> str:
        """What tells these pictures from others, short: how many, and the beginning of the hash."""
        return f"{len(self)} pictures, {self.sha256[:16]}"

    @property
    def marks(self) -> np.ndarray:
        """The first bytes of every hash (N, 8) uint8, by which `first_other` finds what differs."""
        head = b"".join(each[:MARK_BYTES] for each in self.hashes)
        return np.frombuffer(head, np.uint8).reshape(len(self), MARK_BYTES)

    def first_other(self, marks: np.ndarray) -> str | None:
        """Return the name of the first picture that differs from as many others, known by their `marks`."""
        differs = (marks != self.marks).any(axis=1) if marks.shape == self.marks.shape else np.zeros(1, bool)
        return self.names[int(differs.argmax())] if differs.any() else None

    def require_same(self, everyone: Callable[[Any], Sequence[Any]]) -> None:
        """See that every process has these pictures before it.

        Args:
            everyone: gives every process's value, in order of rank, to each of them.

        Raises:
            InputError: on every process alike, if two see different pictures.
        """
        seen = everyone(self.sha256)
        if len(set(seen)) == 1:
            return
        contents = everyone(self)
        other = next(rank for rank, theirs in enumerate(seen) if theirs != seen[0])
        here, there = contents[0], contents[other]
        what = f"process 0 has {len(here)}, process {other} has {len(there)}"
        if (name := here.first_other(there.marks)) is not None:
            what = f"{name} is the first in which process 0 and process {other} differ"
        raise InputError(printable(f"the processes see different pictures: {what}; expected the same"))


def content_of(pairs: Pairs, count: int | None = None) -> Content:
    """Return names and hashes of the first `count` pictures, or of all.

    A file that cannot be read has no content; whoever needs it will name it.
    """
    places = range(len(pairs) if count is None else min(count, len(pairs)))
    names = tuple(pairs.name(index) for index in places)
    origin = pairs.origin()
    hashes = (_hash(name, pairs.files(i), origin) for i, name in zip(places, names, strict=True))
    return Content(names, tuple(hashes))


def file_hash(path: Path) -> bytes:
    """Return the SHA-256 of a file's content; of a file that cannot be read nothing."""
    try:
        found = os.stat(path)
        return _read(os.fspath(path), found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    except OSError:
        return b""


@functools.lru_cache(maxsize=_REMEMBERED)
def _read(path: str, *_: int) -> bytes:
    """Hash a file; by what else is given, a file that was changed is another one."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _hash(name: str, files: Sequence[Path], origin: bytes) -> bytes:
    whole = hashlib.sha256(name.encode("utf-8", "surrogateescape") + origin)
    for file in files:
        whole.update(b"\0" + file_hash(file))
    return whole.digest()
