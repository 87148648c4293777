"""The ranges of numbers that generators take and give, and which of several outputs is the picture.

Everything here measures pictures in [-1, 1]. A generator on [0, 1] or [0, 255] is given its own numbers, and
what it gives is brought back, so that scores are on one scale: the identity scores the same under all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from steadypix.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

Range = tuple[float, float]
COMMON: Range = (-1.0, 1.0)
TOLERANCE = 0.25  # of the range's width: how far outputs that are not clipped may leave it
EXPECTED = "expected two ascending numbers such as (0, 1), or two such pairs, of inputs and of outputs"
Output = str | int | Callable[[Any], Any]


def parse_range(text: str) -> tuple[Range, Range]:
    """Read `0,1`, or `0,1:-1,1` (inputs, outputs), into the ranges of inputs and outputs.

    >>> parse_range("0,255")
    ((0.0, 255.0), (0.0, 255.0))

    Raises:
        InputError: naming the text.
    """
    try:
        found = [tuple(map(float, part.split(","))) for part in text.split(":")]
    except ValueError:
        found = []
    fits = [len(each) == 2 and -math.inf < each[0] < each[1] < math.inf for each in found]
    if len(found) not in (1, 2) or not all(fits):
        raise InputError(f"range {text!r} not understood; expected 0,1, -1,1 or 0,255, or 0,1:-1,1")
    first, last = found[0], found[-1]
    return (first[0], first[1]), (last[0], last[1])


def read_range(data_range: Any) -> tuple[Range, Range]:
    """Return the ranges of inputs and outputs from `(low, high)`, or from two of these.

    Raises:
        InputError: if it is neither.
    """
    both: Any = data_range
    try:
        if not isinstance(both[0], Sequence):
            both = (both, both)
        (a, b), (c, d) = ((float(low), float(high)) for low, high in both)
    except (TypeError, ValueError, IndexError, KeyError):
        raise InputError(f"data_range {data_range!r} not understood; {EXPECTED}") from None
    if not (-math.inf < a < b < math.inf and -math.inf < c < d < math.inf):
        raise InputError(f"data_range {data_range!r} not understood; {EXPECTED}")
    return (a, b), (c, d)


class UnknownOutput(InputError):
    """It is not known which of several outputs is the picture."""


@dataclass
class Ranges:
    """The ranges of one generator, and the numbers that were seen.

    Attributes:
        inputs: low and high of what it takes.
        outputs: low and high of what it gives.
        stated: whether somebody said so. Outputs that leave a stated range are refused; a range that nobody
            stated is [-1, 1], and `remark` says where that is evidently wrong.
    """

    inputs: Range = COMMON
    outputs: Range = COMMON
    stated: bool = False
    _seen_in: list[float] = field(default_factory=lambda: [math.inf, -math.inf], init=False, repr=False)
    _seen: list[float] = field(default_factory=lambda: [math.inf, -math.inf], init=False, repr=False)

    def to_generator(self, x: Tensor) -> Tensor:
        """Return pictures in [-1, 1] as the generator takes them."""
        _widen(self._seen_in, x)
        low, high = self.inputs
        return x if self.inputs == COMMON else (x + 1) * ((high - low) / 2) + low

    def from_inputs(self, x: Tensor) -> Tensor:
        """Return pictures that the generator could take, in [-1, 1]."""
        return _to_common(x, self.inputs)

    def from_generator(self, y: Tensor) -> Tensor:
        """Return outputs in [-1, 1].

        Raises:
            InputError: if they leave the stated range by more than a quarter of its width.
        """
        _widen(self._seen, y)
        (low, high), (least, most) = self.outputs, self._seen
        room = TOLERANCE * (high - low)
        if self.stated and (least < low - room or most > high + room):
            culprit = least if least < low - room else most
            raise InputError(
                f"an output reaches {culprit:.4g}, outside of its stated range {_shown(self.outputs)}; "
                "expected the range that the generator gives"
            )
        return _to_common(y, self.outputs)

    def remark(self, how: str) -> str:
        """Return in a line that outputs evidently have another range than [-1, 1]; nothing if not.

        Args:
            how: how to state a range, with `{}` for the range.
        """
        least, most = self._seen
        if self.stated or not least < most:
            return ""
        if 8 < most <= 300 and least > -8:
            evident = f"outputs reach {most:.4g}, as on [0, 255]"
            return f"{evident}, but were taken as [-1, 1]: if so, give {how.format('0,255')}"
        lowest = self._seen_in[0]
        if least >= 0 and 0.05 < most <= 1 + 1e-3 and lowest < -0.25:
            return (
                f"outputs lie within [0, 1] while inputs reach {lowest:.2g}: both were taken as [-1, 1], and "
                "if the generator is on [0, 1], scores are about 6 dB too high; then give "
                f"{how.format('0,1')}"
            )
        return ""


def pick_output(outputs: Any, which: Output | None, how: str) -> Any:
    """Return the picture among what a network returned.

    Args:
        outputs: a tensor, or a dict, tuple or list with one inside.
        which: a key, a place, or what is called with the outputs; None where there is only a tensor.
        how: the option or argument that says so, for the message.

    Raises:
        UnknownOutput: if it is not known which, or there is no such output.
    """
    if callable(which):
        return which(outputs)
    keyed = isinstance(outputs, Mapping)
    if not keyed and not isinstance(outputs, tuple | list):
        return outputs
    known: list[Any] = list(outputs) if keyed else list(range(len(outputs)))
    shown = f"returns a {'dict' if keyed else 'tuple'} of {', '.join(map(repr, known)) or 'nothing'}"
    if which is None:
        example = known[0] if known else "out"
        raise UnknownOutput(f"the network {shown}; say which is the picture by {how.format(repr(example))}")
    place = int(which) if not keyed and str(which).lstrip("-").isdecimal() else which
    try:
        return outputs[place]
    except (KeyError, IndexError, TypeError):
        raise UnknownOutput(f"the network {shown}; there is no {which!r}") from None


def _widen(seen: list[float], x: Tensor) -> None:
    low, high = x.detach().float().aminmax() if x.numel() else (0.0, 0.0)
    # A comparison with NaN keeps what was seen; whoever runs the network refuses it.
    seen[0], seen[1] = min(seen[0], float(low)), max(seen[1], float(high))


def _to_common(x: Tensor, given: Range) -> Tensor:
    low, high = given
    return x if given == COMMON else (x - low) * (2 / (high - low)) - 1


def _shown(given: Range) -> str:
    return f"[{given[0]:g}, {given[1]:g}]"
