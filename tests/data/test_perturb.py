"""What a second look at an input may be: under another light, out of focus or noisy, both, or as it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from steadypix.data.pairs import perturb as module
from steadypix.data.pairs.folders import PairedImages
from steadypix.data.pairs.perturb import FOCUS, LIGHT, perturb
from steadypix.eval.metrics.perturb_kinds import lower_contrast


def picture(channels: int = 3) -> Tensor:
    return torch.rand(channels, 24, 31, generator=torch.Generator().manual_seed(0)) - 0.5


def alone(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing but one kind be drawn."""
    monkeypatch.setattr(module, "LIGHT", (kind if kind in LIGHT else "none",))
    monkeypatch.setattr(module, "FOCUS", (kind if kind in FOCUS else "none",))


def looks(kind: str, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    alone(kind, monkeypatch)
    return [perturb(picture(), np.random.default_rng(seed)) for seed in range(200)]


def test_light_and_focus_are_drawn_apart_and_are_a_function_of_what_is_drawn() -> None:
    seen = [perturb(picture(), np.random.default_rng(seed)) for seed in range(900)]
    same = sum(torch.allclose(look, picture(), atol=1e-6) for look in seen)
    assert 0.07 < same / len(seen) < 0.16  # neither: one in nine
    # Another light alone keeps the order of values.
    order = picture().flatten().argsort()
    kept = sum(bool((look.flatten()[order].diff() >= -1e-6).all()) for look in seen)
    assert 0.27 < kept / len(seen) < 0.4
    assert torch.equal(seen[7], perturb(picture(), np.random.default_rng(7)))
    assert all(look.abs().max() <= 1 and look.dtype == torch.float32 for look in seen)


def test_noise_has_the_deviations_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "clamp", lambda x, low, high: x)
    deviations = [((look - picture()) / 2).std().item() for look in looks("noise", monkeypatch)]
    assert 0.009 < min(deviations) < 0.012
    assert 0.14 < max(deviations) < 0.17
    assert 0.031 < np.median(deviations) < 0.052  # uniform in the logarithm: the root of 0.01 * 0.16


def test_a_blur_is_a_gaussian(monkeypatch: pytest.MonkeyPatch) -> None:
    alone("blur", monkeypatch)
    rng = np.random.default_rng(3)
    look = perturb(picture(), np.random.default_rng(3))
    rng.integers(1), rng.integers(1)
    sigma = rng.uniform(0.3, 3.0)
    expected = gaussian_filter(
        picture().numpy(), (0, sigma, sigma), mode="mirror", radius=(0, *[int(np.ceil(3 * sigma))] * 2)
    )
    np.testing.assert_allclose(look.numpy(), expected, atol=1e-5)


def fitted(look: Tensor, x: Tensor) -> tuple[float, float]:
    """Return slope and offset of the line that all that is not clipped lies on."""
    inside = (look.abs() < 1).flatten()
    y, x = look.flatten()[inside].numpy(), x.flatten()[inside].numpy()
    slope, offset = np.polyfit(x, y, 1)
    np.testing.assert_allclose(y, slope * x + offset, atol=1e-5)
    return slope, offset


def test_brightness_adds_to_every_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    found = np.array([fitted(look, picture()) for look in looks("brightness", monkeypatch)])
    np.testing.assert_allclose(found[:, 0], 1, atol=1e-4)
    assert -0.8 <= found[:, 1].min() < -0.7
    assert 0.7 < found[:, 1].max() <= 0.8


def test_contrast_is_scaled_about_the_mean_luma_as_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    blue = picture() * 0.5 + torch.tensor([-0.2, -0.1, 0.5])[:, None, None]
    alone("contrast", monkeypatch)
    factors = []
    for seed in range(200):
        look = perturb(blue, np.random.default_rng(seed))
        slope, offset = fitted(look, blue)
        luma = float(np.tensordot([0.299, 0.587, 0.114], blue.double().numpy(), 1).mean())  # ITU-R BT.601
        assert abs(offset - (1 - slope) * luma) < 1e-4
        expected = lower_contrast((blue[None] + 1) / 2, slope, seed=0)
        torch.testing.assert_close(look, 2 * expected[0] - 1, atol=1e-4, rtol=0)
        factors.append(slope)
    assert 0.3 - 1e-4 <= min(factors) < 0.35
    assert 0.95 < max(factors) <= 1 + 1e-4


@pytest.mark.parametrize("kind", [*LIGHT, *FOCUS[1:]])
@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 2, 3), (64, 5, 1)])
def test_any_size_and_channels(kind: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    alone(kind, monkeypatch)
    look = perturb(torch.zeros(shape), np.random.default_rng(0))
    assert look.shape == shape
    assert look.isfinite().all()


def test_only_the_moved_window_is_perturbed_and_nothing_else_is_drawn_otherwise(pair_folder: object) -> None:
    options = {"load_size": 40, "crop_size": 32, "shift_px": 3, "lighting": 0.1}
    plain = PairedImages(pair_folder, **options)
    perturbed = PairedImages(pair_folder, perturb_moved=True, **options)
    changed = 0
    for index in range(len(plain)):
        ours, theirs = perturbed[index], plain[index]
        for key in ("input", "target", "shift"):
            assert torch.equal(ours[key], theirs[key])
        changed += not torch.equal(ours["moved"], theirs["moved"])
    assert changed
