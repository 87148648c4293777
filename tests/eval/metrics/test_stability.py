"""The metric against scikit-image, against arithmetic, and against an obvious slow version."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio
from torch import Tensor, nn

from steadypix.errors import InputError
from steadypix.eval.metrics.decibels import bootstrap, bootstrap_interval, pooled_db, psnr_db
from steadypix.eval.metrics.forward import run_windows
from steadypix.eval.metrics.quality import l1, psnr, quality, total_variation
from steadypix.eval.metrics.stability import Stability, shift_stability
from steadypix.eval.shifts.offsets import is_odd
from tests.networks import AddPattern


def pictures(count: int = 2, size: int = 40) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("protocol", ["crop", "roll"])
@pytest.mark.parametrize("axis", ["x", "y", "diagonal"])
def test_identity_is_identical(protocol: str, axis: str) -> None:
    result = shift_stability(
        nn.Identity(),
        pictures(),
        window_px=32,
        shifts=range(-4, 5),
        axis=axis,
        protocol=protocol,
        margins_px=[0, 4],
    )
    for margin in result.margins_px:
        summary = result.summary(margin)
        assert summary["n_identical"] == 2 * 8
        assert summary["mean_db"] == {"mean": 150.0, "ci95": [150.0, 150.0]}
        assert summary["pooled_db"] == 150.0


@pytest.mark.parametrize("amplitude", [0.5, 0.1, 0.01])
def test_fixed_pattern_scores_what_arithmetic_predicts(amplitude: float) -> None:
    """+-a in alternating columns differs by 2a everywhere at odd shifts, by nothing at even ones."""
    columns = torch.tensor([1.0, -1.0]).repeat(16) * amplitude
    result = shift_stability(
        AddPattern(columns), pictures(), window_px=32, shifts=range(1, 5), margins_px=[0]
    )
    expected = 10 * math.log10(2.0**2 / (2 * amplitude) ** 2)
    rows = {row["dx"]: row["mean_db"] for row in result.summary(0)["per_shift"]}
    assert rows[1] == pytest.approx(expected, abs=0.01)
    assert rows[3] == pytest.approx(expected, abs=0.01)
    # An even shift meets the same column again; what is left is rounding of x + pattern.
    assert rows[2] > 130
    assert rows[4] > 130
    assert result.odd_mean_db(0) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("protocol", ["crop", "roll"])
def test_equals_scikit_image_and_a_slow_loop(protocol: str) -> None:
    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Upsample(scale_factor=2))
    network.append(nn.Conv2d(8, 3, 3, padding=1)).append(nn.Tanh())
    x = pictures(3, 44)
    margins = [0, 3]
    result = shift_stability(
        network, x, window_px=32, shifts=[0, 1, 3, 5], protocol=protocol, margins_px=margins, batch_size=3
    )
    for image in range(3):
        with torch.no_grad():
            base = network(x[image : image + 1, :, 6:38, 6:38])[0]
            for column, d in enumerate([1, 3, 5]):
                if protocol == "crop":
                    moved = network(x[image : image + 1, :, 6:38, 6 - d : 38 - d])[0]
                    first, second = base[:, :, : 32 - d], moved[:, :, d:]
                else:
                    moved = network(x[image : image + 1, :, 6:38, 6:38].roll(d, -1))[0]
                    first, second = base, moved.roll(-d, -1)
                for margin in result.margins_px:
                    inside = slice(margin, -margin or None)
                    a, b = first[:, inside, inside].numpy(), second[:, inside, inside].numpy()
                    ours = psnr_db(result.errors[margin][image, column])
                    assert ours == pytest.approx(peak_signal_noise_ratio(a, b, data_range=2.0), abs=1e-4)


def test_constant_output_is_perfectly_stable() -> None:
    class Grey(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.zeros_like(x)

    result = shift_stability(Grey(), pictures(), window_px=32, shifts=[1, 2], margins_px=[0])
    assert result.mean_db(0) == 150.0


def test_batch_size_and_iterable_change_nothing() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 3, 3, stride=2, padding=1), nn.Upsample(scale_factor=2))
    x = pictures(3)
    one = shift_stability(network, x, window_px=32, shifts=range(5), margins_px=[0], batch_size=1)
    many = shift_stability(network, iter(x.split(2)), window_px=32, shifts=range(5), margins_px=[0])
    np.testing.assert_allclose(one.errors[0], many.errors[0], rtol=1e-5)


def test_mode_is_given_back_and_dropout_is_off() -> None:
    network = nn.Sequential(nn.Dropout(0.5)).train()
    result = shift_stability(network, pictures(), window_px=32, shifts=[1], margins_px=[0])
    assert result.mean_db(0) == 150.0
    assert network.training


def test_windows_are_streamed() -> None:
    """No more than one batch of windows is ever taken ahead of the output that is used."""
    taken = 0

    def windows() -> Iterator[Tensor]:
        nonlocal taken
        for _ in range(20):
            taken += 1
            yield torch.zeros(1, 1, 4, 4)

    outputs = run_windows(nn.Identity(), windows(), batch_size=4)
    next(outputs)
    assert taken == 4
    assert sum(1 for _ in outputs) == 19


class Broken(nn.Module):
    def __init__(self, scale: int, value: float) -> None:
        super().__init__()
        self.scale, self.value = scale, value

    def forward(self, x: Tensor) -> Tensor:
        return x[..., :: self.scale, :: self.scale] * self.value


def test_nan_and_wrong_size_are_refused() -> None:
    with pytest.raises(InputError, match="not finite"):
        shift_stability(Broken(1, math.nan), pictures(), window_px=32, shifts=[1], margins_px=[0])
    with pytest.raises(InputError, match="input's size"):
        shift_stability(Broken(2, 1.0), pictures(), window_px=32, shifts=[1], margins_px=[0])
    with pytest.raises(InputError, match="no pictures"):
        shift_stability(nn.Identity(), iter(()), window_px=32)


def test_select_and_odd() -> None:
    errors = {0: np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])}
    stability = Stability("crop", ((1, 0), (2, 0), (3, 0)), errors)
    assert stability.select([(0, 0), (3, 0)]).errors[0].tolist() == [[0.3], [0.6]]
    odd = psnr_db(errors[0][:, [0, 2]]).mean()
    assert stability.odd_mean_db(0) == pytest.approx(odd)
    even = stability.select([(2, 0)])
    assert not even.has_odd
    assert even.summary(0)["odd_mean_db"] is None
    with pytest.raises(InputError, match="no odd shift"):
        even.odd_mean_db(0)
    assert is_odd((0, 3))
    assert not is_odd((2, -4))


# ---- decibels ---------------------------------------------------------------------------------------


@given(st.floats(1e-12, 4.0))
def test_psnr_inverts(mse: float) -> None:
    db = float(psnr_db(mse))
    assert db == pytest.approx(min(150.0, 10 * math.log10(4 / mse)), abs=1e-9)


def test_pooled_is_the_db_of_the_mean_error() -> None:
    """Pooling is dominated by the worst picture; the mean of dB is not (Jensen)."""
    errors = np.array([0.04, 0.0004])
    assert pooled_db(errors) == pytest.approx(10 * math.log10(4 / 0.0202))
    assert pooled_db(errors) < psnr_db(errors).mean()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0, 100), min_size=1, max_size=30), st.integers(0, 5))
def test_interval_holds_its_laws(values: list[float], seed: int) -> None:
    low, high = bootstrap_interval(values, seed=seed, resamples=200)
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
    assert (low, high) == bootstrap_interval(values, seed=seed, resamples=200)


@pytest.mark.parametrize("count", [1, 2, 7, 50, 107, 3001])
def test_interval_equals_that_of_draws_one_by_one(count: int) -> None:
    """To the bit: the same stream of draws, the same sums; 3001 images take several pieces."""
    values = np.random.default_rng(1).normal(30, 2, count)
    rng = np.random.default_rng(5)
    means = [values[rng.integers(0, count, count)].mean() for _ in range(1000)]
    one_by_one = tuple(np.quantile(means, [0.025, 0.975]).tolist())
    assert bootstrap_interval(values, seed=5) == one_by_one
    assert bootstrap(lambda images: float(values[images].mean()), count, seed=5) == one_by_one


def test_interval_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        low, high = bootstrap_interval(rng.normal(30, 2, 40), seed=trial, resamples=300)
        hits += low <= 30 <= high
    assert 0.88 <= hits / 200 <= 0.99


# ---- quality ----------------------------------------------------------------------------------------


def test_quality_against_numpy_and_scikit_image() -> None:
    output, target = pictures(2, 24).split(1)
    a, b = (p.numpy().astype(np.float64) / 2 + 0.5 for p in (output, target))
    assert l1(output, target) == pytest.approx(np.abs(a - b).mean(), rel=1e-5)
    assert psnr(output, target) == pytest.approx(peak_signal_noise_ratio(a, b, data_range=1.0), abs=1e-4)
    slow = np.abs(np.diff(a, axis=-1)).mean() + np.abs(np.diff(a, axis=-2)).mean()
    assert total_variation(output) == pytest.approx(slow, rel=1e-5)
    assert quality(output, target)["target_tv"] == pytest.approx(total_variation(target))


def test_quality_of_a_picture_with_itself() -> None:
    picture = pictures(1, 16)
    figures = quality(picture, picture)
    assert figures["l1"] == 0
    assert figures["psnr_db"] == 150.0
    assert total_variation(torch.ones(1, 3, 8, 8)) == 0
