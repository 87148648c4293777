"""What a second look at an input may be: as it is, or under one of four perturbations within their reach."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from steadypix.data.pairs import perturb as module
from steadypix.data.pairs.folders import PairedImages
from steadypix.data.pairs.perturb import KINDS, perturb


def picture(channels: int = 3) -> Tensor:
    return torch.rand(channels, 24, 31, generator=torch.Generator().manual_seed(0)) - 0.5


def looks(kind: str, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    monkeypatch.setattr(module, "KINDS", (kind,))
    return [perturb(picture(), np.random.default_rng(seed)) for seed in range(200)]


def test_every_kind_is_as_likely_and_a_function_of_what_is_drawn() -> None:
    seen = [perturb(picture(), np.random.default_rng(seed)) for seed in range(500)]
    same = sum(torch.allclose(look, picture(), atol=1e-6) for look in seen)
    assert 0.13 < same / len(seen) < 0.27
    assert torch.equal(seen[7], perturb(picture(), np.random.default_rng(7)))
    assert all(look.abs().max() <= 1 and look.dtype == torch.float32 for look in seen)


def test_noise_has_the_deviations_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "clamp", lambda x, low, high: x)
    deviations = [((look - picture()) / 2).std().item() for look in looks("noise", monkeypatch)]
    assert 0.009 < min(deviations) < 0.012
    assert 0.14 < max(deviations) < 0.17
    assert 0.031 < np.median(deviations) < 0.052  # uniform in the logarithm: the root of 0.01 * 0.16


def test_a_blur_is_a_gaussian(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KINDS", ("blur",))
    rng = np.random.default_rng(3)
    look = perturb(picture(), np.random.default_rng(3))
    rng.integers(1)
    sigma = rng.uniform(0.3, 3.0)
    expected = gaussian_filter(
        picture().numpy(), (0, sigma, sigma), mode="mirror", radius=(0, *[int(np.ceil(3 * sigma))] * 2)
    )
    np.testing.assert_allclose(look.numpy(), expected, atol=1e-5)


def test_brightness_adds_and_contrast_scales_about_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    x = picture().flatten().numpy()
    for kind, slopes, means in (("brightness", (1, 1), 0.8), ("contrast", (0.3, 1), 1e-5)):
        fits = []
        for look in looks(kind, monkeypatch):
            y = look.flatten().numpy()
            inside = np.abs(y) < 1
            fits.append(np.polyfit(x[inside], y[inside], 1))
            np.testing.assert_allclose(y[inside], np.polyval(fits[-1], x[inside]), atol=1e-5)
        found = np.array(fits)
        assert slopes[0] - 1e-4 <= found[:, 0].min() <= found[:, 0].max() <= slopes[1] + 1e-4
        moved = np.abs(found[:, 1] + (found[:, 0] - 1) * x.mean())
        assert moved.max() <= means + 1e-4
    assert found[:, 0].min() < 0.35


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 2, 3), (64, 5, 1)])
def test_any_size_and_channels(kind: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KINDS", (kind,))
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
