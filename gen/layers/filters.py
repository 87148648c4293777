"""Low-pass filters by name: the binomial taps of Zhang (2019), section 4.1, and their neighbours.

`rect2`, `tri3` and `bin5` are the paper's Rect-2, Tri-3 and Bin-5: repeated convolution of [1, 1] with
itself. More taps cut more of the band that subsampling would fold back, and blur more.
"""

from __future__ import annotations

import math

FILTERS: dict[str, int] = {"rect2": 2, "tri3": 3, "bin4": 4, "bin5": 5, "bin6": 6, "bin7": 7}


def binomial_taps(name: str) -> list[float]:
    """Return the 1-D taps of a filter: binomial coefficients that sum to 1.

    Args:
        name: one of `FILTERS`, for example `"bin5"` -> `[1, 4, 6, 4, 1] / 16`.

    Returns:
        The taps, exact in binary floating point (integers over a power of two).

    Raises:
        ValueError: if `name` is no known filter.
    """
    if name not in FILTERS:
        raise ValueError(f"filter {name!r} is unknown; expected one of {', '.join(FILTERS)}")
    order = FILTERS[name] - 1
    return [math.comb(order, k) / 2**order for k in range(order + 1)]
