"""Shift protocols: how an input is shifted, and where two outputs may be compared.

A protocol's name is its meaning. Offsets are `(dx, dy)` in px, `dx` right, `dy` down. Whole shifts are
made by slicing or rolling, so they are exact to the bit; fractions of a pixel by `eval.shifts.fractional`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar

from steadypix.errors import InputError
from steadypix.eval.shifts.fractional import REACH_PX, fourier_shift, sinc_shift
from steadypix.eval.shifts.offsets import Offset, is_whole, longest, scaled, split
from steadypix.sizes import Size, sides, size_of, words

if TYPE_CHECKING:
    from torch import Tensor


class Protocol(ABC):
    """How inputs are shifted and outputs aligned. Pictures are (B, C, H, W).

    Outputs may be larger than the window by a whole factor (super-resolution): a shift of s px of the input
    is one of factor * s px of the output, and so are margins. Or they may lack a border of the same px on
    both sides (valid convolutions).

    Args:
        canvas_px: size of the picture as loaded.
        window_px: size of what the network sees; it sits at floor((canvas - window) / 2).

    Attributes:
        canvas, window, origin: width and height of both, and left and top of the window.
    """

    name: ClassVar[str]
    meaning: ClassVar[str]
    uses_margins: ClassVar[bool]
    takes_fractions: ClassVar[bool]

    def __init__(self, canvas_px: Size, window_px: Size) -> None:
        self.canvas, self.window = sides(canvas_px), sides(window_px)
        if not all(1 <= inside <= side for inside, side in zip(self.window, self.canvas, strict=True)):
            raise InputError(
                f"window {words(window_px)} px must lie between 1 px and the canvas of {words(canvas_px)} px"
            )
        (width, height), (left, top) = self.window, self.canvas
        self.origin = ((left - width) // 2, (top - height) // 2)

    @property
    def canvas_px(self) -> int:
        """Side of a square canvas; the shorter one of a rectangle."""
        return min(self.canvas)

    @property
    def window_px(self) -> int:
        """Side of a square window; the shorter one of a rectangle."""
        return min(self.window)

    @property
    def origin_px(self) -> int:
        """Left of the window on its canvas; where both are squares, its top too."""
        return self.origin[0]

    @property
    def room(self) -> range:
        """Whole shifts along x, in px, at which the window lies on its canvas."""
        return self.room_along(0)

    def room_along(self, axis: int) -> range:
        """Whole shifts along x (0) or y (1), in px, at which the window lies on its canvas."""
        start = self.origin[axis]
        return range(self.window[axis] + start - self.canvas[axis], start + 1)

    def scale(self, output: Tensor) -> int:
        """Return how many px of an output a px of the window became: 1, or the factor of super-resolution."""
        return max(1, output.shape[-1] // self.window[0])

    def _overlap_px(self, offset: Offset) -> int:
        """Return the shorter side of what two windows share."""
        return min(
            side - math.ceil(abs(Fraction(shift))) for side, shift in zip(self.window, offset, strict=True)
        )

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
        (width, height), left, top = self.window, self.origin[0] - dx, self.origin[1] - dy
        return canvas[..., top : top + height, left : left + width]


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
        window, canvas = words(size_of(*self.window)), words(size_of(*self.canvas))
        for axis, shift in enumerate(offset):
            room = self.room_along(axis)
            if not room[0] <= shift <= room[-1]:
                raise InputError(
                    f"shift {shift} px: the {window} px window would leave the {canvas} px canvas; expected "
                    f"{room[0]}..{room[-1]}"
                )
        left = self.compared_px(offset)
        if left <= 0:
            raise InputError(
                f"window {window} px: {self.name} has nothing to compare at shift "
                f"{_listed(offset)} px; expected a window over {self.window_px - left} px"
            )
        if left <= 2 * margin_px:
            raise InputError(
                f"margin {margin_px} px: nothing is left of the {left} px overlap; expected at most "
                f"{(left - 1) // 2} px"
            )

    def compared_px(self, offset: Offset) -> int:
        """Return the overlap's shorter side."""
        return self._overlap_px(offset)

    def shifted(self, canvas: Tensor, offset: Offset) -> Tensor:
        """Return the window at (x0 - dx, y0 - dy)."""
        return self._window(canvas, *split(offset)[0])

    def aligned(self, base: Tensor, moved: Tensor, offset: Offset) -> tuple[Tensor, Tensor]:
        """Return the overlap, as seen by `base` and by `moved`."""
        return overlap(base, moved, split(scaled(offset, self.scale(moved)))[0])

    def shared(self, picture: Tensor, offset: Offset, offsets: Sequence[Offset]) -> Tensor:
        """Return the intersection of all overlaps, as seen at `offset`."""
        factor = self.scale(picture)
        own = split(scaled(offset, factor))[0]
        every = [split(scaled(other, factor))[0] for other in offsets]
        moved_back = overlap(picture, picture, own)[1]
        left, right = _span([dx for dx, _ in every], own[0])
        top, bottom = _span([dy for _, dy in every], own[1])
        height, width = moved_back.shape[-2:]
        return moved_back[..., top : max(0, height - bottom), left : max(0, width - right)]


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
        return self._overlap_px(split(offset)[0]) - 2 * REACH_PX

    def shifted(self, canvas: Tensor, offset: Offset) -> Tensor:
        """Return the window of the canvas moved by `offset`."""
        return super().shifted(sinc_shift(canvas, split(offset)[1]), offset)

    def aligned(self, base: Tensor, moved: Tensor, offset: Offset) -> tuple[Tensor, Tensor]:
        """Return the overlap less the filter's reach: the moved base output, and `moved`."""
        first, second = super().aligned(base, moved, offset)
        factor = self.scale(moved)
        fraction = split(scaled(offset, factor))[1]
        if any(fraction):  # in doubles, so that the filter adds no rounding of its own
            first = sinc_shift(first.double(), fraction)
        return inner(first, factor * REACH_PX), inner(second, factor * REACH_PX)

    def shared(self, picture: Tensor, offset: Offset, offsets: Sequence[Offset]) -> Tensor:
        """Return the intersection of all overlaps less the filter's reach, moved back to the base's grid."""
        factor = self.scale(picture)
        dx, dy = split(scaled(offset, factor))[1]
        return inner(super().shared(sinc_shift(picture, (-dx, -dy)), offset, offsets), factor * REACH_PX)


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
        if any(abs(Fraction(shift)) >= side for shift, side in zip(offset, self.window, strict=True)):
            size = words(size_of(*self.window))
            raise InputError(f"shift {longest(offset)} px is as large as the picture of {size} px")

    def compared_px(self, offset: Offset) -> int:
        """Return the window's shorter side."""
        return self.window_px

    def shifted(self, canvas: Tensor, offset: Offset) -> Tensor:
        """Return the base window rolled by `offset`."""
        base = self.base(canvas)
        return _rolled(base, *split(offset)[0]) if is_whole(offset) else fourier_shift(base, offset)

    def aligned(self, base: Tensor, moved: Tensor, offset: Offset) -> tuple[Tensor, Tensor]:
        """Return `base`, and `moved` rolled back; at a fraction, `base` shifted, and `moved`."""
        factor, (width, height) = self.scale(moved), self.window
        if moved.shape[-2:] != (factor * height, factor * width):
            raise InputError(
                f"roll compares everywhere, but the network makes {moved.shape[-1]}x{moved.shape[-2]} px of "
                f"{width}x{height} px; expected --protocol crop"
            )
        offset = scaled(offset, factor)
        dx, dy = split(offset)[0]
        if is_whole(offset):
            return base, _rolled(moved, -dx, -dy)
        # Forward, as on the input: shifting back would not restore the Nyquist frequency.
        return fourier_shift(base.double(), offset), moved

    def shared(self, picture: Tensor, offset: Offset, offsets: Sequence[Offset]) -> Tensor:
        """Return all of `picture`, shifted back."""
        dx, dy = scaled(offset, self.scale(picture))
        if isinstance(dx, int) and isinstance(dy, int):
            return _rolled(picture, -dx, -dy)
        return fourier_shift(picture, (-dx, -dy))


def overlap(base: Tensor, moved: Tensor, offset: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the views of two equal-sized pictures that show one place, `moved` by whole px."""
    dx, dy = offset
    height, width = max(0, base.shape[-2] - abs(dy)), max(0, base.shape[-1] - abs(dx))

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


def make_protocol(name: str, *, canvas_px: Size, window_px: Size) -> Protocol:
    """Return the protocol of that name.

    Raises:
        InputError: if the name is unknown or the window does not fit.
    """
    if name not in PROTOCOLS:
        raise InputError(f"protocol {name!r} is unknown; expected one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name](canvas_px, window_px)
