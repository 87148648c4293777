"""The low-pass filters: binomial taps by name."""

from __future__ import annotations

from math import fsum

import numpy as np
import pytest

from steadypix.gen.layers.filters import FILTERS, binomial_taps


def convolved_box(taps: int) -> np.ndarray:
    """[1, 1] convolved with itself until it has `taps` samples, scaled to sum 1."""
    kernel = np.array([1.0])
    while len(kernel) < taps:
        kernel = np.convolve(kernel, [1.0, 1.0])
    return kernel / kernel.sum()


def test_the_names_and_lengths_are_the_papers_and_their_neighbours() -> None:
    assert FILTERS == {"rect2": 2, "tri3": 3, "bin4": 4, "bin5": 5, "bin6": 6, "bin7": 7}


@pytest.mark.parametrize("name", FILTERS)
def test_taps_are_repeated_convolutions_of_a_box(name: str) -> None:
    assert binomial_taps(name) == convolved_box(FILTERS[name]).tolist()


@pytest.mark.parametrize("name", FILTERS)
def test_taps_sum_to_one_and_are_symmetric(name: str) -> None:
    taps = binomial_taps(name)
    assert len(taps) == FILTERS[name]
    assert fsum(taps) == 1.0
    assert taps == taps[::-1]


@pytest.mark.parametrize("name", FILTERS)
def test_taps_remove_the_nyquist_frequency(name: str) -> None:
    """Every filter has gain 0 where twofold subsampling folds onto a constant."""
    assert fsum((-1) ** k * tap for k, tap in enumerate(binomial_taps(name))) == 0.0


def test_bin5_is_the_papers_bin5() -> None:
    assert binomial_taps("bin5") == [1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16]


@pytest.mark.parametrize("name", ["bin8", "", "Bin5", "gauss"])
def test_an_unknown_name_is_named_with_the_known_ones(name: str) -> None:
    with pytest.raises(ValueError, match=f"filter '{name}' is unknown.*rect2.*bin7"):
        binomial_taps(name)
