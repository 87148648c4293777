"""EQ-T under fractional translations."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from steadypix.errors import InputError
from steadypix.eval.metrics.eqt_frac import EqtFracScores
from steadypix.eval.shifts.fractional import fourier_shift
from steadypix.eval.shifts.offsets import is_whole
from tests.networks import AddPattern


def score(network: Callable[[Tensor], Tensor], canvas: Tensor, window_px: int = 64) -> float:
    scores = EqtFracScores(canvas.shape[-1], window_px, seed=3)
    for index in range(2):
        outputs = [network(window) for window in scores.windows(canvas, index)]
        scores.add(network(scores.protocol.base(canvas)), iter(outputs), None, index)
    return scores.result().db


def picture(size: int = 64) -> Tensor:
    return torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_what_commutes_with_translations_scores_as_identical() -> None:
    assert score(nn.Identity(), picture()) == 150.0
    assert score(lambda x: x * 0.5 + 0.25, picture()) > 120
    assert score(lambda x: torch.full_like(x, 0.3), picture()) > 120


def test_a_pattern_fixed_to_the_window_is_measured() -> None:
    """The mean square of a pattern minus the moved pattern, over the compared region, by another way."""
    pattern = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 0.1
    network, canvas = AddPattern(pattern), picture()
    scores = EqtFracScores(64, 64, seed=3)
    assert 5 < score(network, canvas) < 60
    assert score(network, canvas) < score(nn.Identity(), canvas)
    assert all(not is_whole(offset) for index in range(20) for offset in scores.offsets(index))


def test_the_input_is_moved_as_a_fourier_phase_moves_what_is_periodic_and_smooth() -> None:
    waves = torch.arange(64, dtype=torch.float64) * (2 * torch.pi / 16)
    canvas = (waves.sin()[None] * waves.cos()[:, None])[None, None]
    scores = EqtFracScores(64, 64)
    for offset, window in zip(scores.offsets(0), scores.windows(canvas, 0), strict=True):
        assert (window - fourier_shift(canvas, offset)).abs().max() < 1e-3


def test_translations_are_a_function_of_seed_and_picture() -> None:
    first, again, other = (EqtFracScores(64, 64, seed=seed) for seed in (0, 0, 1))
    assert first.offsets(5) == again.offsets(5)
    assert first.offsets(5) != other.offsets(5)
    assert first.offsets(5) != first.offsets(6)
    assert all(abs(shift) <= 8.01 for index in range(50) for o in first.offsets(index) for shift in o)


def test_a_window_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="window 36 px: eqt_frac"):
        EqtFracScores(40, 36)
