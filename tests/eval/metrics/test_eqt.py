"""EQ-T against a slow loop, against arithmetic, and by its laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from steadypix.errors import InputError
from steadypix.eval.metrics.eqt import Eqt, EqtScores, draw_offsets, eqt
from tests.networks import AddPattern


def pictures(count: int = 3, size: int = 40) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


@settings(max_examples=30, deadline=None)
@given(st.integers(8, 256), st.integers(0, 5), st.integers(0, 500))
def test_translations_are_seeded_whole_and_at_most_an_eighth(window: int, seed: int, index: int) -> None:
    offsets = draw_offsets(window, seed=seed, index=index)
    assert len(offsets) == 8
    assert offsets == draw_offsets(window, seed=seed, index=index)
    for dx, dy in offsets:
        assert (dx, dy) != (0, 0)
        assert isinstance(dx, int)
        assert max(abs(dx), abs(dy)) <= round(window / 8 + 1e-9)


def test_translations_are_uniform_and_differ_between_images() -> None:
    draws = np.array([o for index in range(2000) for o in draw_offsets(64, seed=0, index=index)])
    counts = [(draws == d).mean() for d in range(-8, 9)]
    # Rounding a uniform variable gives its two ends half the weight of the others.
    expected = [1 / 32 if abs(d) == 8 else 1 / 16 for d in range(-8, 9)]
    np.testing.assert_allclose(counts, expected, atol=0.006)
    assert abs(np.corrcoef(draws.T)[0, 1]) < 0.03
    assert draw_offsets(64, seed=0, index=0) != draw_offsets(64, seed=0, index=1)
    assert draw_offsets(64, seed=0, index=0) != draw_offsets(64, seed=1, index=0)


def test_equals_a_slow_loop_that_pools_over_images_channels_and_valid_pixels() -> None:
    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv2d(3, 5, 3, stride=2, padding=1), nn.ReLU(), nn.Upsample(scale_factor=2))
    network.append(nn.Conv2d(5, 3, 3, padding=1)).append(nn.Tanh())
    result = eqt(network, pictures(), window_px=32, seed=7, draws=3, batch_size=2)
    squares, count = 0.0, 0
    for index, canvas in enumerate(pictures()):
        x = canvas[None, :, 4:36, 4:36]
        with torch.no_grad():
            base = network(x)
            for dx, dy in draw_offsets(32, seed=7, index=index, draws=3):
                moved = network(torch.roll(x, (dy, dx), (2, 3)))
                translated = torch.zeros_like(base)
                mask = torch.zeros_like(base)
                for row in range(32):
                    for column in range(32):
                        if 0 <= row - dy < 32 and 0 <= column - dx < 32:
                            translated[..., row, column] = base[..., row - dy, column - dx]
                            mask[..., row, column] = 1
                squares += ((moved - translated).double().square() * mask).sum().item()
                count += int(mask.sum())
    assert result.db == pytest.approx(10 * math.log10(4 / (squares / count)), abs=1e-6)
    assert result.counts.sum() == count


def test_identity_is_identical() -> None:
    summary = eqt(nn.Identity(), pictures(), window_px=32).summary()
    assert summary["db"] == 150.0
    assert summary["ci95_db"] == [150.0, 150.0]
    assert summary["n_identical"] == 3 * summary["n_draws"]


def test_fixed_pattern_scores_what_arithmetic_predicts() -> None:
    """+-a by columns differs by 2a where dx is odd and nowhere else: the share of such pixels decides."""
    a = 0.1
    pattern = torch.tensor([a, -a]).repeat(16)
    result = eqt(AddPattern(pattern), pictures(), window_px=32, seed=3)
    squares = values = 0
    for index in range(3):
        for dx, dy in draw_offsets(32, seed=3, index=index):
            area = 3 * (32 - abs(dx)) * (32 - abs(dy))
            values += area
            squares += area * (2 * a) ** 2 * (dx % 2)
    assert result.db == pytest.approx(10 * math.log10(4 / (squares / values)), abs=0.01)


def test_pooling_interval_and_gain() -> None:
    few = Eqt(np.array([[0.4], [4.0]]), np.array([[100], [100]]))
    assert few.db == pytest.approx(10 * math.log10(4 / 0.022))
    assert few.image_db() == pytest.approx([30.0, 20.0])
    low, high = few.summary()["ci95_db"]
    assert 20 - 1e-9 <= low <= few.db <= high <= 30 + 1e-9
    # Ten times the error in every image: 10 dB in every resample too.
    better = Eqt(few.squares / 10, few.counts)
    gain = better.gain_over(few)
    assert gain["mean"] == pytest.approx(10)
    assert gain["ci95"] == pytest.approx([10, 10])


def test_order_of_images_does_not_matter() -> None:
    """Images shared out or taken up again are the same images: the index decides, not the turn."""
    network = AddPattern(torch.linspace(-0.1, 0.1, 32))
    totals = []
    for order in ([0, 1, 2], [2, 0, 1]):
        scores = EqtScores(40, 32)
        for index in order:
            canvas = pictures()[index : index + 1]
            outputs = map(network, scores.windows(canvas, index))
            scores.add(network(scores.protocol.base(canvas)), outputs, None, index)
        totals.append(scores.result().db)
    assert totals[0] == pytest.approx(totals[1], abs=1e-9)


def test_refusals() -> None:
    with pytest.raises(InputError, match=r"window 7 px.*at least 8"):
        eqt(nn.Identity(), pictures(), window_px=7)
    with pytest.raises(InputError, match="no pictures"):
        eqt(nn.Identity(), iter(()), window_px=32)
