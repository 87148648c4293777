"""From squared errors to decibels, means and intervals. NumPy only."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

PEAK = 2.0  # outputs lie in [-1, 1]; never taken from the data
IDENTICAL_DB = 150.0  # what an identical pair counts as, about the floor of float32
RESAMPLES, LEVEL = 1000, 0.95
_DRAWN_AT_ONCE = 2**20  # indices, 8 MB


def psnr_db(mse: ArrayLike) -> Array:
    """Return 10 log10(PEAK^2 / mse) in dB, capped at `IDENTICAL_DB`, elementwise.

    >>> psnr_db([0.04, 0.0]).tolist()
    [20.0, 150.0]
    """
    floor = PEAK**2 * 10 ** (-IDENTICAL_DB / 10)
    return 10 * np.log10(PEAK**2 / np.maximum(np.asarray(mse, dtype=np.float64), floor))


def pooled_db(mse: ArrayLike) -> float:
    """Return the PSNR of the mean error, as EQ-T pools it (Karras et al. 2021, appendix E)."""
    return float(psnr_db(np.asarray(mse, dtype=np.float64).mean()))


def bootstrap(
    statistic: Callable[[NDArray[np.int64]], float], count: int, *, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of any statistic of `count` images.

    Args:
        statistic: its value over the images of these indices, (count,), drawn with repetition.
        count: number of images.
        seed: of the resampling, so the same scores give the same interval.
        resamples: number of draws.
    """
    drawn = _resamples(count, seed=seed, resamples=resamples)
    return _percentiles(np.array([statistic(images) for rows in drawn for images in rows]))


def bootstrap_interval(
    values: ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of the mean of (n,) values; see `bootstrap`.

    The same to the bit as `bootstrap` with the mean for its statistic, many draws at a time.
    """
    values = np.asarray(values, dtype=np.float64)
    drawn = _resamples(len(values), seed=seed, resamples=resamples)
    return _percentiles(np.concatenate([values[rows].mean(axis=1) for rows in drawn]))


def _resamples(count: int, *, seed: int, resamples: int) -> Iterator[NDArray[np.int64]]:
    """Yield every draw as a row of indices (some draws, count), in pieces of bounded size."""
    rng = np.random.default_rng(seed)
    at_once = max(1, _DRAWN_AT_ONCE // max(count, 1))
    for start in range(0, resamples, at_once):
        yield rng.integers(0, count, (min(at_once, resamples - start), count))


def _percentiles(values: Array) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def mean_with_interval(values: ArrayLike, *, seed: int = 0) -> dict[str, object]:
    """Return `{"mean": m, "ci95": [low, high]}` of one value an image; one image alone has no interval."""
    return {
        "mean": float(np.asarray(values, dtype=np.float64).mean()),
        "ci95": list(bootstrap_interval(values, seed=seed)) if np.size(values) > 1 else None,
    }
