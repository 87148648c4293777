"""From squared errors to decibels, means and intervals. NumPy only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

PEAK = 2.0  # outputs lie in [-1, 1]; never taken from the data
IDENTICAL_DB = 150.0  # what an identical pair counts as, about the floor of float32
RESAMPLES = 1000


def psnr_db(mse: ArrayLike, *, peak: float = PEAK) -> Array:
    """Return 10 log10(peak^2 / mse) in dB, capped at `IDENTICAL_DB`, elementwise.

    >>> psnr_db([0.04, 0.0], peak=2.0).tolist()
    [20.0, 150.0]
    """
    mse = np.asarray(mse, dtype=np.float64)
    floor = peak**2 * 10 ** (-IDENTICAL_DB / 10)
    return 10 * np.log10(peak**2 / np.maximum(mse, floor))


def pooled_db(mse: ArrayLike, *, peak: float = PEAK) -> float:
    """Return the PSNR of the mean error, as EQ-T pools it (Karras et al. 2021, appendix E)."""
    return float(psnr_db(np.asarray(mse, dtype=np.float64).mean(), peak=peak))


def bootstrap(
    statistic: Callable[[NDArray[np.int64]], float],
    count: int,
    *,
    seed: int = 0,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of any statistic of `count` images.

    Args:
        statistic: its value over the images of these indices, (count,), drawn with repetition.
        count: number of images.
        seed: of the resampling, so the same scores give the same interval.
        level: coverage.
        resamples: number of draws.
    """
    rng = np.random.default_rng(seed)
    values = [statistic(rng.integers(0, count, count)) for _ in range(resamples)]
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_interval(values: ArrayLike, **options: Any) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean of (n,) values, one an image; see `bootstrap`."""
    values = np.asarray(values, dtype=np.float64)
    return bootstrap(lambda images: float(values[images].mean()), len(values), **options)


def mean_with_interval(values: ArrayLike, *, seed: int = 0) -> dict[str, object]:
    """Return `{"mean": m, "ci95": [low, high]}` of one value an image; one image alone has no interval."""
    return {
        "mean": float(np.asarray(values, dtype=np.float64).mean()),
        "ci95": list(bootstrap_interval(values, seed=seed)) if np.size(values) > 1 else None,
    }
