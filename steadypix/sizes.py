"""Sizes in px: one number for a square, (width, height) for a rectangle."""

from __future__ import annotations

import re
from collections.abc import Sequence

from steadypix.errors import InputError

Size = int | tuple[int, int]
_SIZE = re.compile(r"([1-9]\d{0,5})(?:[xX]([1-9]\d{0,5}))?", re.ASCII)


def sides(size: Size) -> tuple[int, int]:
    """Return width and height."""
    return (size, size) if isinstance(size, int) else size


def size_of(width: int, height: int) -> Size:
    """Return the size of so many px: one number where it is a square."""
    return width if width == height else (width, height)


def largest(*sizes: Size) -> Size:
    """Return the smallest size that holds all of these.

    >>> largest(4, (5, 3))
    (5, 4)
    """
    width, height = (max(each) for each in zip(*map(sides, sizes), strict=True))
    return size_of(width, height)


def side_of(size: Size, who: str) -> int:
    """Return the side of a square.

    Raises:
        InputError: naming who takes nothing else.
    """
    if not isinstance(size, int):
        raise InputError(f"{who}: takes squares alone, not {words(size)} px; expected one side in px")
    return size


def words(size: Size) -> str:
    """Return a size as people say it: `256`, or `384x256` (width first)."""
    return str(size) if isinstance(size, int) else f"{size[0]}x{size[1]}"


def as_json(size: Size) -> int | list[int]:
    """Return a size as JSON holds it: a number, or [width, height]."""
    return size if isinstance(size, int) else list(size)


def from_json(size: int | Sequence[int]) -> Size:
    """Return what `as_json` wrote; a size stays what it is."""
    return size if isinstance(size, int) else size_of(*size)


def parse_size(text: str) -> Size:
    """Read `256`, or `384x256` (width first).

    >>> parse_size("384x256"), parse_size("64x64")
    ((384, 256), 64)

    Raises:
        InputError: naming the text, if it is neither.
    """
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise InputError(f"size {text!r} not understood; expected px such as 256, or 384x256 (width first)")
    width = int(match[1])
    return size_of(width, int(match[2] or width))
