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


def context_sides(size_px: int, context_px: int, multiple: int = 1) -> tuple[int, int]:
    """Return the context before and after `size_px` that a network is shown: the least for a multiple.

    A network that takes multiples alone would complete the rest at the right and bottom by mirroring what it
    is given, at the same cost. As context it is on both sides, and real where there is something real.

    Args:
        size_px: of what is kept.
        context_px: the least on each side; 0 leaves all as it is.
        multiple: of which the sum has to be one.

    >>> context_sides(128, 16, 32), context_sides(256, 16, 32), context_sides(256, 16, 256)
    ((16, 16), (16, 16), (128, 128))
    >>> context_sides(100, 16, 32)
    (30, 30)
    """
    if not context_px:
        return 0, 0
    extra = -(-(size_px + 2 * context_px) // multiple) * multiple - size_px
    return extra // 2, extra - extra // 2


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
