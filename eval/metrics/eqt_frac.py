"""EQ-T under fractional translations (Karras et al. 2021, appendix E.2, there called EQ-T_frac).

As `eqt`, but translations are not rounded to whole pixels. Input and output go through one filter, the
Kaiser-windowed sinc of `subpixel`: the input circularly, the output for the unshifted window as it is, and
compared is what nothing wrapped into, less the filter's reach of 16 px a side. A network that does nothing
scores near the float floor. StyleGAN3 moves its outputs by a Lanczos filter of half-width 3 px, and its
input, a continuous field, exactly: that leaves more of the picture to compare, and charges the filter's error
near the Nyquist frequency to the network.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from steadypix.errors import InputError
from steadypix.eval.metrics.eqt import EQT_CHECKS, LARGEST, EqtScores
from steadypix.eval.shifts.fractional import REACH_PX, sinc_shift
from steadypix.eval.shifts.offsets import Offset, scaled, split
from steadypix.eval.shifts.protocols import inner, overlap
from steadypix.json_checks import record
from steadypix.sizes import sides, words

if TYPE_CHECKING:
    from torch import Tensor

STEPS = 256  # of a pixel: fine enough to be any fraction, and exact in results and file names


class EqtFracScores(EqtScores):
    """Squared errors under fractional translations, a picture after the other."""

    name = "eqt_frac"
    title = "EQ-T frac"
    meaning = (
        "StyleGAN3's EQ-T_frac: translations drawn uniformly from +-12.5 % of the window, not rounded; the "
        "input is shifted circularly, input and output by one Kaiser-windowed sinc (Lanczos there); compared "
        f"where nothing wrapped less the filter's {REACH_PX} px a side; squared errors pooled before the log"
    )
    checks: ClassVar = {"eqt_frac": record(EQT_CHECKS)}

    def offsets(self, index: int) -> list[Offset]:
        """Return the translations of picture `index`, whole multiples of 1/256 px.

        Raises:
            InputError: for a window of which the largest translation leaves nothing to compare.
        """
        window = np.array(sides(self.window_px))
        least = int(np.floor(window.min() * (1 - LARGEST))) - 2 * REACH_PX - 1
        if least < 1:
            raise InputError(
                f"window {words(self.window_px)} px: eqt_frac leaves out {REACH_PX} px a side of what 12.5 % "
                "leave; expected at least 40 px"
            )
        rng = np.random.default_rng((self.seed, index, 1))
        drawn = np.rint(rng.uniform(-LARGEST, LARGEST, (self.draws, 2)) * window * STEPS) + 0.5
        # Half a step aside, so that none is whole.
        return [(Fraction(int(2 * x), 2 * STEPS), Fraction(int(2 * y), 2 * STEPS)) for x, y in drawn]

    def windows(self, canvas: Tensor, index: int) -> Iterator[Tensor]:
        """Yield what the network must see of one canvas (1, C, S, S)."""
        from torch.nn.functional import pad

        base = self.protocol.base(canvas)
        for offset in self.offsets(index):
            (dx, dy), fraction = split(offset)
            wrapped = pad(base.roll((dy, dx), dims=(-2, -1)), [REACH_PX] * 4, mode="circular")
            yield inner(sinc_shift(wrapped, fraction), REACH_PX)

    def compared(self, base: Tensor, moved: Tensor, offset: Offset) -> tuple[Tensor, Tensor]:
        """Return the moved base output, and `moved`, where nothing wrapped less the sinc's reach."""
        factor = self.protocol.scale(moved)
        whole, fraction = split(scaled(offset, factor))
        first, second = overlap(sinc_shift(base.double(), fraction), moved, whole)
        return inner(first, factor * REACH_PX), inner(second, factor * REACH_PX)
