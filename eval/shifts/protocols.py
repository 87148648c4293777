"""Shift protocols: how an input is shifted, and where two outputs may be compared.

A protocol's name is its meaning. Offsets are `(dx, dy)` in px, `dx` right, `dy` down. Whole shifts are
made by slicing or rolling, so they are exact to the bit; fractions of a pixel by `eval.shifts.fractional`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from steadypix.errors import InputError
from steadypix.eval.shifts.fractional import REACH_PX, fourier_shift, sinc_shift
from steadypix.eval.shifts.offsets import Offset, is_whole, longest, split

if TYPE_CHECKING:
    from torch import Tensor


class Protocol(ABC):
    """How inputs are shifted and outputs aligned. Pictures are (B, C, H, W), the canvas is square.

    Args:
        canvas_px: side of the picture as loaded.
        window_px: side of what the network sees; it sits at floor((canvas - window) / 2).
    """

    name: ClassVar[str]
    meaning: ClassVar[str]
    uses_margins: ClassVar[bool]
    takes_fractions: ClassVar[bool]

    def __init__(self, canvas_px: int, window_px: int) -> None:
        if not 1 <= window_px <= canvas_px:
            raise InputError(f"window {window_px} px must lie between 1 px and the canvas of {canvas_px} px")
        self.canvas_px = canvas_px
        self.window_px = window_px
        self.origin_px = (canvas_px - window_px) // 2

    @property
    def room(self) -> range:
        """Whole shifts along an axis, in px, at which the window lies on its canvas."""
        return range(self.window_px + self.origin_px - self.canvas_px, self.origin_px + 1)

    def base(self, canvas: Tensor) -> Tensor:
        """Return the unshifted window of `canvas`."""
        return self._window(canvas, 0, 0)

    @abstractmethod
    def check(self, offset: Offset, margin_px: int) -> None:
        """Raise InputError if `offset` cannot be made, or nothing is left to compare."""

    @abstractmethod
    def compared_px(self, offset: Offset) -> int:
        """Return the shorter side of what `aligned` returns, in px; not positive if nothing is left."""

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
    takes_fractions = False

    def check(self, offset: Offset, margin_px: int) -> None:
        """Raise InputError if the window would leave the canvas or the margin eats the overlap."""
        if not self.takes_fractions and not is_whole(offset):
            raise InputError(
                f"shift {_listed(offset)} px: {self.name} slices, so it takes whole px; "
                "expected whole shifts, or the protocol subpixel"
            )
        for shift in offset:
            if not self.room[0] <= shift <= self.room[-1]:
                raise InputError(
                    f"shift {shift} px: the {self.window_px} px window would leave the {self.canvas_px} px "
                    f"canvas; expected {self.room[0]}..{self.room[-1]}"
                )
        left = self.compared_px(offset)
        if left <= 0:
            raise InputError(
                f"window {self.window_px} px: {self.name} has nothing to compare at shift "
                f"{_listed(offset)} px; expected a window over {self.window_px - left} px"
            )
        if left <= 2 * margin_px:
            raise InputError(
                f"margin {margin_px} px: nothing is left of the {left} px overlap; expected at most "
                f"{(left - 1) // 2} px"
            )

    def compared_px(self, offset: Offset) -> int:
        """Return the overlap's shorter side."""
        return self.window_px - math.ceil(longest(offset))

    def shifted(self, canvas: Tensor, offset: Offset) -> Tensor:
        """Return the window at (x0 - dx, y0 - dy)."""
        return self._window(canvas, *split(offset)[0])

    def aligned(self, base: Tensor, moved: Tensor, offset: Offset) -> tuple[Tensor, Tensor]:
        """Return the overlap, as seen by `base` and by `moved`."""
        return overlap(base, moved, split(offset)[0])

    def shared(self, picture: Tensor, offset: Offset, offsets: Sequence[Offset]) -> Tensor:
        """Return the intersection of all overlaps, as seen at `offset`."""
        own, every = split(offset)[0], [split(other)[0] for other in offsets]
        moved_back = overlap(picture, picture, own)[1]
        left, right = _span([dx for dx, _ in every], own[0])
        top, bottom = _span([dy for _, dy in every], own[1])
        height, width = moved_back.shape[-2:]
        return moved_back[..., top : height - bottom, left : width - right]


class Subpixel(Crop):
    """Fractions of a pixel too: the canvas is moved by a windowed sinc, then cut as in `crop`.

    With S the shift by the sinc, PSNR( G(S(x)), S(G(x)) ): the same filter acts on the canvas and on the
    base output. A network that does nothing therefore scores near the float floor (over 100 dB): both
    sides went through one filter, whatever that filter does to the picture. What is measured is how far
    the network commutes with *this* shift, which is exact up to 0.8 of the Nyquist frequency and
    removes part of what lies above, and which lets edges ring by some percent: on flat label maps the
    network meets values that it never saw in training, and has to carry them along linearly to score.

    Compared is the overlap less the filter's reach a side, at whole shifts too, so that one curve has one
    region. Whole shifts are slices: equal to `crop` at a margin that is 16 px wider.
    """

    name = "subpixel"
    meaning = (
        "crop for fractions of a pixel: the canvas and the base output are shifted by one Kaiser-windowed "
        f"sinc of half-width {REACH_PX} px (whole shifts by slicing); outputs are compared over the overlap "
        f"less those {REACH_PX} px and the margin a side"
    )
    takes_fractions = True

    def compared_px(self, offset: Offset) -> int:
        """Return the shorter side of the overlap less the filter's reach."""
        return self.window_px - math.ceil(longest(split(offset)[0])) - 2 * REACH_PX

    def shifted(self, canvas: Tensor, offset: Offset) -> Tensor:
        """Return the window of the canvas moved by `offset`."""
        return super().shifted(sinc_shift(canvas, split(offset)[1]), offset)

    def aligned(self, base: Tensor, moved: Tensor, offset: Offset) -> tuple[Tensor, Tensor]:
        """Return the overlap less the filter's reach: the moved base output, and `moved`."""
        first, second = super().aligned(base, moved, offset)
        fraction = split(offset)[1]
        if any(fraction):  # in doubles, so that the filter adds no rounding of its own
            first = sinc_shift(first.double(), fraction)
        return inner(first, REACH_PX), inner(second, REACH_PX)

    def shared(self, picture: Tensor, offset: Offset, offsets: Sequence[Offset]) -> Tensor:
        """Return the intersection of all overlaps less the filter's reach, moved back to the base's grid."""
        dx, dy = split(offset)[1]
        return inner(super().shared(sinc_shift(picture, (-dx, -dy)), offset, offsets), REACH_PX)


class Roll(Protocol):
    """Circular shifts of the base window, compared everywhere. Meaningful for circular padding.

    Fractions of a pixel are Fourier phase shifts, on the input and on the base output.
    """

    name = "roll"
    meaning = (
        "the input window is shifted circularly and outputs are compared everywhere; meaningful for "
        "circular padding, elsewhere the seam dominates; fractions of a pixel are Fourier phase shifts"
    )
    uses_margins = False
    takes_fractions = True

    def check(self, offset: Offset, margin_px: int) -> None:
        """Raise InputError for a shift as long as the window."""
        if longest(offset) >= self.window_px:
            raise InputError(f"shift {longest(offset)} px is as large as the picture of {self.window_px} px")

    def compared_px(self, offset: Offset) -> int:
        """Return the window's side."""
        return self.window_px

    def shifted(self, canvas: Tensor, offset: Offset) -> Tensor:
        """Return the base window rolled by `offset`."""
        base = self.base(canvas)
        return _rolled(base, *split(offset)[0]) if is_whole(offset) else fourier_shift(base, offset)

    def aligned(self, base: Tensor, moved: Tensor, offset: Offset) -> tuple[Tensor, Tensor]:
        """Return `base`, and `moved` rolled back; at a fraction, `base` shifted, and `moved`."""
        dx, dy = split(offset)[0]
        if is_whole(offset):
            return base, _rolled(moved, -dx, -dy)
        # Forward, as on the input: shifting back would not restore the Nyquist frequency.
        return fourier_shift(base.double(), offset), moved

    def shared(self, picture: Tensor, offset: Offset, offsets: Sequence[Offset]) -> Tensor:
        """Return all of `picture`, shifted back."""
        dx, dy = offset
        if is_whole(offset):
            return self.aligned(picture, picture, offset)[1]
        return fourier_shift(picture, (-dx, -dy))


def overlap(base: Tensor, moved: Tensor, offset: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the views of two equal-sized pictures that show one place, `moved` by whole px."""
    dx, dy = offset
    height, width = base.shape[-2] - abs(dy), base.shape[-1] - abs(dx)

    def cut(picture: Tensor, left: int, top: int) -> Tensor:
        return picture[..., top : top + height, left : left + width]

    return cut(base, max(-dx, 0), max(-dy, 0)), cut(moved, max(dx, 0), max(dy, 0))


def _rolled(picture: Tensor, dx: int, dy: int) -> Tensor:
    return picture.roll((dy, dx), dims=(-2, -1))


def _listed(offset: Offset) -> str:
    return ", ".join(str(shift) for shift in dict.fromkeys(offset) if shift) or "0"


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


PROTOCOLS: dict[str, type[Protocol]] = {"crop": Crop, "roll": Roll, "subpixel": Subpixel}


def make_protocol(name: str, *, canvas_px: int, window_px: int) -> Protocol:
    """Return the protocol of that name.

    Raises:
        InputError: if the name is unknown or the window does not fit.
    """
    if name not in PROTOCOLS:
        raise InputError(f"protocol {name!r} is unknown; expected one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name](canvas_px, window_px)
