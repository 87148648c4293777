"""Shifts as exact numbers of pixels: read from text, laid along an axis, split into whole and fraction.

A shift is an `int`, or a `Fraction` where it is not whole; an offset is `(dx, dy)`, `dx` right, `dy` down.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from fractions import Fraction

from steadypix.errors import InputError

Shift = int | Fraction
Offset = tuple[Shift, Shift]
AXES = ("x", "y", "diagonal")

_RANGE = re.compile(r"\s*(-?[0-9]{1,6})\.\.(-?[0-9]{1,6})\s*")
_NUMBER = re.compile(r"\s*(-?[0-9]{1,6}(?:/[0-9]{1,4}|\.[0-9]{1,6})?)\s*")


def parse_shifts(text: str) -> list[Shift]:
    """Read `0..7`, `-4..4` (both ends included), `1,3,5` or `1/2,0.25` into ascending, distinct shifts in px.

    Whole numbers come as `int`, others as the exact `Fraction` that is written.

    >>> parse_shifts("0..3"), parse_shifts("5,-1"), parse_shifts("-1..1,4")
    ([0, 1, 2, 3], [-1, 5], [-1, 0, 1, 4])
    >>> parse_shifts("1,1/2,0.25,2/2")
    [Fraction(1, 4), Fraction(1, 2), 1]

    Raises:
        InputError: naming the text, if it is none of these.
    """
    shifts: set[Shift] = set()
    for part in text.split(","):
        if match := _RANGE.fullmatch(part):
            first, last = int(match[1]), int(match[2])
            if last < first:
                raise InputError(f"shifts {text!r}: {first}..{last} runs backwards; expected {last}..{first}")
            shifts.update(range(first, last + 1))
        elif (match := _NUMBER.fullmatch(part)) and not re.search("/0+$", match[1]):
            shifts.add(exact(Fraction(match[1])))
        else:
            raise InputError(f"shifts {text!r} not understood; expected 0..7, -4..4, 1,3,5 or 1/2,0.25")
    return sorted(shifts)


def exact(shift: float | Fraction) -> Shift:
    """Return a shift as an `int` if it is whole, else as a `Fraction`; a float is taken at its exact value.

    Raises:
        InputError: if it is not finite.
    """
    if not math.isfinite(shift):
        raise InputError(f"shift {shift} px is not a number; expected a finite number of px")
    fraction = Fraction(shift)
    return fraction.numerator if fraction.denominator == 1 else fraction


def plain(shift: Shift) -> int | float:
    """Return a shift as JSON holds it: whole px as a whole number, else the nearest float."""
    return shift if isinstance(shift, int) else float(shift)


def is_whole(offset: Offset) -> bool:
    """Whether an offset moves by whole px along both axes."""
    return all(isinstance(shift, int) for shift in offset)


def is_odd(offset: Offset) -> bool:
    """Whether an offset moves by whole px, an odd number of them along x or y."""
    return is_whole(offset) and any(shift % 2 for shift in offset)


def longest(offset: Offset) -> Shift:
    """Return the larger of an offset's two lengths, in px."""
    return exact(max(abs(Fraction(shift)) for shift in offset))


def scaled(offset: Offset, factor: int) -> Offset:
    """Return an offset in a picture that is larger by a whole factor.

    >>> scaled((3, Fraction(1, 2)), 2)
    (6, 1)
    """
    dx, dy = offset
    return offset if factor == 1 else (exact(factor * dx), exact(factor * dy))


def split(offset: Offset) -> tuple[tuple[int, int], Offset]:
    """Return the nearest whole offset, and what is left of each axis, in [-1/2, 1/2].

    >>> split((3, Fraction(-7, 4)))
    ((3, -2), (0, Fraction(1, 4)))
    """
    dx, dy = offset
    whole = round(dx), round(dy)
    return whole, (exact(dx - whole[0]), exact(dy - whole[1]))


def offsets_along(shifts: Sequence[Shift], axis: str) -> list[Offset]:
    """Return the offsets of `shifts` along `x` (right), `y` (down) or `diagonal` (both)."""
    if axis not in AXES:
        raise InputError(f"axis {axis!r} is unknown; expected one of {', '.join(AXES)}")
    steps = {"x": (1, 0), "y": (0, 1), "diagonal": (1, 1)}
    step_x, step_y = steps[axis]
    return [(d * step_x, d * step_y) for d in shifts]
