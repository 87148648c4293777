"""Shift protocols: how an input is shifted, and where two outputs may be compared.

A protocol's name is its meaning. Offsets are `(dx, dy)` in whole pixels, `dx` right, `dy` down. All
shifts are by slicing or rolling, so they are exact to the bit.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from data.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

Offset = tuple[int, int]
AXES = ("x", "y", "diagonal")


def parse_shifts(text: str) -> list[int]:
    """Read `0..7`, `-4..4` (both ends included) or `1,3,5` into ascending, distinct shifts in px.

    >>> parse_shifts("0..3"), parse_shifts("5,-1"), parse_shifts("-1..1,4")
    ([0, 1, 2, 3], [-1, 5], [-1, 0, 1, 4])

    Raises:
        InputError: naming the text, if it is neither.
    """
    shifts: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(-?[0-9]{1,6})(?:\.\.(-?[0-9]{1,6}))?\s*", part)
        if match is None:
            raise InputError(f"shifts {text!r} not understood; expected 0..7, -4..4 or 1,3,5")
        first = int(match[1])
        last = first if match[2] is None else int(match[2])
        if last < first:
            raise InputError(f"shifts {text!r}: {first}..{last} runs backwards; expected {last}..{first}")
        shifts.update(range(first, last + 1))
    return sorted(shifts)


def offsets_along(shifts: Sequence[int], axis: str) -> list[Offset]:
    """Return the offsets of `shifts` along `x` (right), `y` (down) or `diagonal` (both)."""
    if axis not in AXES:
        raise InputError(f"axis {axis!r} is unknown; expected one of {', '.join(AXES)}")
    steps = {"x": (1, 0), "y": (0, 1), "diagonal": (1, 1)}
    step_x, step_y = steps[axis]
    return [(d * step_x, d * step_y) for d in shifts]


class Protocol(ABC):
    """How inputs are shifted and outputs aligned. Pictures are (B, C, H, W), the canvas is square.

    Args:
        canvas_px: side of the picture as loaded.
        window_px: side of what the network sees; it sits at floor((canvas - window) / 2).
    """

    name: ClassVar[str]
    meaning: ClassVar[str]
    uses_margins: ClassVar[bool]

    def __init__(self, canvas_px: int, window_px: int) -> None:
        if not 1 <= window_px <= canvas_px:
            raise InputError(f"window {window_px} px must lie between 1 px and the canvas of {canvas_px} px")
        self.canvas_px = canvas_px
        self.window_px = window_px
        self.origin_px = (canvas_px - window_px) // 2

    def base(self, canvas: Tensor) -> Tensor:
        """Return the unshifted window of `canvas`."""
        return self._window(canvas, 0, 0)

    @abstractmethod
    def check(self, offset: Offset, margin_px: int) -> None:
        """Raise InputError if `offset` cannot be made, or nothing is left to compare."""

    @abstractmethod
    def shifted(self, canvas: Tensor, offset: Offset) -> Tensor:
        """Return the window whose content lies `offset` further right and down than the base's."""

    @abstractmethod
    def aligned(self, base: Tensor, moved: Tensor, offset: Offset) -> tuple[Tensor, Tensor]:
        """Return the parts of two outputs that show the same place, as equal-sized views."""

    @abstractmethod
    def shared(self, picture: Tensor, offset: Offset, offsets: Sequence[Offset]) -> Tensor:
        """Return the part of an output for `offset` that the outputs for all `offsets` show.

        Cut at the same place of the scene, so the results for all offsets lie on each other.
        """

    def _window(self, canvas: Tensor, dx: int, dy: int) -> Tensor:
        left, top = self.origin_px - dx, self.origin_px - dy
        return canvas[..., top : top + self.window_px, left : left + self.window_px]


class Crop(Protocol):
    """Real content enters at the border: the window moves the other way over a larger canvas."""

    name = "crop"
    meaning = (
        "the input window slides over a larger canvas, so real content enters at the border; outputs "
        "are compared over the overlap less a margin a side"
    )
    uses_margins = True

    def check(self, offset: Offset, margin_px: int) -> None:
        """Raise InputError if the window would leave the canvas or the margin eats the overlap."""
        room_after = self.canvas_px - self.window_px - self.origin_px
        for shift in offset:
            if shift > self.origin_px or -shift > room_after:
                raise InputError(
                    f"shift {shift} px: the {self.window_px} px window would leave the {self.canvas_px} px "
                    f"canvas; expected {-room_after}..{self.origin_px}"
                )
        overlap = self.window_px - max(abs(shift) for shift in offset)
        if overlap <= 2 * margin_px:
            raise InputError(
                f"margin {margin_px} px: nothing is left of the {overlap} px overlap; expected at most "
                f"{max((overlap - 1) // 2, 0)} px"
            )

    def shifted(self, canvas: Tensor, offset: Offset) -> Tensor:
        """Return the window at (x0 - dx, y0 - dy)."""
        return self._window(canvas, *offset)

    def aligned(self, base: Tensor, moved: Tensor, offset: Offset) -> tuple[Tensor, Tensor]:
        """Return the overlap, as seen by `base` and by `moved`."""
        dx, dy = offset
        size = self.window_px

        def overlap(picture: Tensor, left: int, top: int) -> Tensor:
            return picture[..., top : top + size - abs(dy), left : left + size - abs(dx)]

        return overlap(base, max(-dx, 0), max(-dy, 0)), overlap(moved, max(dx, 0), max(dy, 0))

    def shared(self, picture: Tensor, offset: Offset, offsets: Sequence[Offset]) -> Tensor:
        """Return the intersection of all overlaps, as seen at `offset`."""
        moved_back = self.aligned(picture, picture, offset)[1]
        left, right = _span([dx for dx, _ in offsets], offset[0])
        top, bottom = _span([dy for _, dy in offsets], offset[1])
        height, width = moved_back.shape[-2:]
        return moved_back[..., top : height - bottom, left : width - right]


class Roll(Protocol):
    """Circular shifts of the base window, compared everywhere. Meaningful for circular padding."""

    name = "roll"
    meaning = (
        "the input window is shifted circularly and outputs are compared everywhere; meaningful for "
        "circular padding, elsewhere the seam dominates"
    )
    uses_margins = False

    def check(self, offset: Offset, margin_px: int) -> None:
        """Raise InputError for a shift as long as the window."""
        for shift in offset:
            if abs(shift) >= self.window_px:
                raise InputError(f"shift {shift} px is as large as the picture of {self.window_px} px")

    def shifted(self, canvas: Tensor, offset: Offset) -> Tensor:
        """Return the base window rolled by `offset`."""
        return self.base(canvas).roll((offset[1], offset[0]), dims=(-2, -1))

    def aligned(self, base: Tensor, moved: Tensor, offset: Offset) -> tuple[Tensor, Tensor]:
        """Return `base`, and `moved` rolled back."""
        return base, moved.roll((-offset[1], -offset[0]), dims=(-2, -1))

    def shared(self, picture: Tensor, offset: Offset, offsets: Sequence[Offset]) -> Tensor:
        """Return all of `picture`, rolled back."""
        return self.aligned(picture, picture, offset)[1]


def _span(shifts: Sequence[int], own: int) -> tuple[int, int]:
    """Return how much to cut before and after from what is left at the shift `own`, to fit all `shifts`.

    A base output at x shows what the output shifted by d shows at x + d: the overlap with the base lies
    at [max(-d, 0), size - max(d, 0)) of the base, and all overlaps share the smallest such range.
    """
    before, after = max(0, -min(shifts)), max(0, *shifts)
    return before - max(-own, 0), after - max(own, 0)


def inner(picture: Tensor, margin_px: int) -> Tensor:
    """Return `picture` (..., H, W) less a margin on each side, as a view."""
    if margin_px == 0:
        return picture
    return picture[..., margin_px:-margin_px, margin_px:-margin_px]


PROTOCOLS: dict[str, type[Protocol]] = {"crop": Crop, "roll": Roll}


def make_protocol(name: str, *, canvas_px: int, window_px: int) -> Protocol:
    """Return the protocol of that name.

    Raises:
        InputError: if the name is unknown or the window does not fit.
    """
    if name not in PROTOCOLS:
        raise InputError(f"protocol {name!r} is unknown; expected one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name](canvas_px, window_px)
