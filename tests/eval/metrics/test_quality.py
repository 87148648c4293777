"""Quality figures against scikit-image, against closed forms, and against planted patterns."""

from __future__ import annotations

import math
import urllib.error
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage.metrics import structural_similarity
from torch import Tensor

from steadypix.errors import InputError
from steadypix.eval.measure.registry import MEASURES, parse_names
from steadypix.eval.metrics.lpips_metric import SMALLEST_PX, Lpips
from steadypix.eval.metrics.measure import Conditions
from steadypix.eval.metrics.quality import (
    psnr,
    psnr_reference,
    quality,
    ssim,
    ssim_reference,
)
from steadypix.eval.metrics.spectrum import (
    FLOOR,
    checkerboard,
    checkerboard_octaves,
    octave_edges,
    power_spectrum,
    radial,
    spectrum_figures,
    summarise_spectrum,
)

pytestmark = pytest.mark.slow


def noise(side: int = 64, channels: int = 3, seed: int = 0, sigma: float = 0.2) -> Tensor:
    """White noise of standard deviation sigma on [0, 1], around mid-grey, as a picture in [-1, 1]."""
    values = np.random.default_rng(seed).normal(0.5, sigma, (1, channels, side, side))
    return torch.from_numpy(values * 2 - 1).float().clamp(-1, 1)


def smooth(side: int = 64) -> Tensor:
    """A picture of slow waves."""
    y, x = np.mgrid[:side, :side] / side
    wave = 0.4 * np.sin(2 * np.pi * (1.3 * x + 0.4)) + 0.4 * np.cos(2 * np.pi * (0.7 * y + 0.9 * x))
    return torch.from_numpy(wave).float().expand(1, 3, -1, -1)


def photo(root: Path, number: int) -> Tensor:
    """The photo half of a real facade, (1, 3, 256, 256) in [-1, 1]."""
    with Image.open(root / "facades" / "test" / f"{number}.png") as image:
        pixels = np.asarray(image.convert("RGB"))[:, :256]
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1


# ---- PSNR and SSIM ----------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(st.integers(11, 40), st.sampled_from([1, 3]), st.integers(0, 99), st.floats(0.0, 1.0))
def test_ssim_is_scikit_images(side: int, channels: int, seed: int, mix: float) -> None:
    target = noise(side, channels, seed)
    output = (1 - mix) * target + mix * noise(side, channels, seed + 1)
    arrays = [(p[0].numpy().astype(np.float64) + 1) / 2 for p in (output, target)]
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1}
    expected = structural_similarity(*arrays, channel_axis=0, **options)
    assert ssim(output, target) == pytest.approx(expected, abs=1e-3)
    assert ssim_reference(output, target) == pytest.approx(expected, abs=1e-6)


def test_ssim_and_psnr_agree_with_the_reference_on_photos(real_data: Path) -> None:
    """Flat areas, saturated ones and real detail, at several qualities."""
    target = photo(real_data, 1)
    for output in (photo(real_data, 2), target.roll(1, -1), (target + 0.05).clamp(-1, 1), target * 0.2):
        assert ssim(output, target) == pytest.approx(ssim_reference(output, target), abs=1e-3)
        assert psnr(output, target) == pytest.approx(psnr_reference(output, target), abs=1e-4)


def test_a_picture_is_wholly_similar_to_itself() -> None:
    for picture in (noise(16), torch.full((1, 3, 16, 16), -1.0)):
        assert ssim(picture, picture) == pytest.approx(1, abs=1e-12)
        assert ssim_reference(picture, picture) == pytest.approx(1, abs=1e-12)
        assert psnr_reference(picture, picture) == psnr(picture, picture) == 150
    assert ssim(noise(16), -noise(16)) < 0
    with pytest.raises(InputError, match="SSIM needs pictures of at least 11 px; got 10 x 10"):
        ssim(noise(10), noise(10))


# ---- figures by name --------------------------------------------------------------------------------


CONDITIONS = Conditions(canvas_px=64, window_px=64)


def measured(name: str, pairs: list[tuple[Tensor, Tensor]], settings: Any = None) -> dict[str, Any]:
    """What a quality figure says of outputs beside their targets."""
    scores = MEASURES[name].make(settings, CONDITIONS)
    for index, (output, target) in enumerate(pairs):
        scores.add(output, iter(()), target, index)
    return scores.summary(seed=0)


def test_figures_are_found_by_name() -> None:
    assert parse_names("", "quality") == []
    assert parse_names(" spectrum , l1", "quality") == ["spectrum", "l1"]
    every = {"l1", "psnr", "tv", "tv_ratio", "ssim", "lpips", "spectrum", "checkerboard"}
    assert set(parse_names("all", "quality")) == every
    with pytest.raises(InputError, match="--quality sim: is unknown"):
        parse_names("ssim,sim", "quality")
    output, target = noise(seed=1), noise(seed=2)
    assert set(quality(output, target)) == {"l1", "psnr_db", "tv", "target_tv"}
    pairs, reference = [(output, target)], {"reference": True}
    assert measured("ssim", pairs, reference)["quality"]["ssim"]["mean"] == ssim_reference(output, target)
    assert measured("psnr", pairs, reference)["quality"]["psnr_db"]["mean"] == psnr_reference(output, target)


def test_the_ratio_of_detail_is_that_of_the_means() -> None:
    pairs = [(noise(seed=s), smooth()) for s in range(3)]
    tv = measured("tv", pairs)["quality"]
    ratio = measured("tv_ratio", pairs)["quality"]["tv_ratio"]
    assert ratio == pytest.approx(tv["tv"]["mean"] / tv["target_tv"]["mean"])
    flat = [(noise(), torch.zeros(1, 3, 64, 64))]
    assert measured("tv_ratio", flat)["quality"]["tv_ratio"] is None


# ---- spectra ----------------------------------------------------------------------------------------


def test_white_noise_has_its_variance_at_every_frequency() -> None:
    """sigma 0.1 on one channel: P is 0.01 on average, in every ring that is wide enough to tell."""
    powers = [power_spectrum(noise(64, 1, seed, 0.1)) for seed in range(20)]
    mean, counts = radial(np.mean(powers, axis=0))
    assert np.mean(powers) == pytest.approx(0.01, rel=0.02)
    assert mean[8:] == pytest.approx(np.full(24, 0.01), rel=0.25)
    assert len(mean) == 32
    assert counts[0] == 8  # the eight neighbours of frequency 0 lie 1 or 1.4 bins away


def test_radial_means_against_a_slow_loop() -> None:
    power = power_spectrum(noise(16))
    mean, counts = radial(power)
    for ring in range(1, 9):
        members = [
            power[v % 16, u % 16]
            for v in range(-8, 8)
            for u in range(-8, 8)
            if round(math.hypot(u, v)) == ring
        ]
        assert counts[ring - 1] == len(members)
        assert mean[ring - 1] == pytest.approx(np.mean(members))


def test_a_wave_is_found_at_its_frequency() -> None:
    """A quarter cycle a pixel along a slanted direction of whole bins: 3-4-5."""
    y, x = np.mgrid[:80, :80]
    wave = 0.5 * np.cos(2 * np.pi * (12 * x + 16 * y) / 80)
    mean, _ = radial(power_spectrum(torch.from_numpy(wave)[None, None]))
    assert int(mean.argmax()) + 1 == 20


@pytest.mark.parametrize("gain", [0.25, 1.0, 2.0])
def test_octave_ratios_are_the_gain(gain: float) -> None:
    """Detail scaled by g has g^2 the power, in every octave."""
    target = noise(64, 3, 5, 0.1)
    figures = spectrum_figures(target * gain, target)
    assert figures["octaves_db"] == pytest.approx([20 * math.log10(gain)] * 4, abs=0.05)
    assert len(figures["octaves_db"]) == len(octave_edges(64))
    assert len(figures["spectrum"]) == len(figures["target_spectrum"]) == 32


def test_blur_takes_the_finest_octave_first() -> None:
    target = noise(64)
    blurred = (target + target.roll(1, -1)) / 2
    blurred = (blurred + blurred.roll(1, -2)) / 2
    ratios = spectrum_figures(blurred, target)["octaves_db"]
    assert ratios == sorted(ratios)
    assert ratios[0] < -5 < -1 < ratios[-1] < 0


def test_spectra_of_flat_and_tiny_pictures() -> None:
    flat = torch.full((1, 3, 20, 33), 0.3)
    figures = spectrum_figures(flat, flat)
    assert figures["octaves_db"] == [0.0, 0.0, 0.0][: len(figures["octaves_db"])]
    assert figures["spectrum"] == pytest.approx([FLOOR] * 8)
    with pytest.raises(InputError, match="at least 16 px; got 15 x 40"):
        power_spectrum(torch.zeros(1, 3, 15, 40))


def test_spectrum_summary_averages_power_not_decibels() -> None:
    rows = [spectrum_figures(noise(32, 3, s), smooth(32)) for s in range(4)]
    summary = summarise_spectrum(rows, seed=0)
    expected = 10 * math.log10(np.mean([row["spectrum"][3] for row in rows]))
    assert summary["power_db"][3] == pytest.approx(expected)
    assert summary["cycles_per_px"][-1] == 0.5
    assert [(o["from"], o["to"]) for o in summary["octaves"]] == octave_edges(32)
    finest = summary["octaves"][0]["ratio_db"]
    assert finest["ci95"][0] <= finest["mean"] <= finest["ci95"][1]


# ---- checkerboards ----------------------------------------------------------------------------------


def board(period: int, side: int = 128) -> Tensor:
    """A checkerboard of +-1 whose wave has this period along both axes."""
    y, x = np.mgrid[:side, :side]
    wave = np.cos(2 * np.pi * x / period + 0.3) * np.cos(2 * np.pi * y / period + 0.3)
    return torch.from_numpy(wave / np.abs(wave).max()).float()[None, None]


@pytest.mark.parametrize("period", [2, 4, 8, 16])
def test_a_planted_checkerboard_is_found_in_its_octave(period: int) -> None:
    clean = smooth(128) * 0.5
    before = checkerboard_octaves(clean)
    after = checkerboard_octaves(clean + 0.05 * board(period))
    assert after[period] > before[period] + 20
    assert checkerboard(clean + 0.05 * board(period)) == after[period]
    for other in {2, 4, 8, 16} - {period}:
        assert after[other] == pytest.approx(before[other], abs=1.0)


def test_both_diagonals_count() -> None:
    """Waves that fall and waves that rise to the right are the same to the score."""
    y, x = np.mgrid[:64, :64]
    scores = []
    for slant in (x + y, x - y):
        wave = torch.from_numpy(0.1 * np.cos(2 * np.pi * slant / 4))[None, None]
        scores.append(checkerboard_octaves(noise(64, 1, 3, 0.05) + wave)[4])
    assert min(scores) > 12
    assert scores[0] == pytest.approx(scores[1], abs=2)


def test_a_board_stays_in_its_bins() -> None:
    """On a flat picture all of it lies within a bin, and around it there is nothing but the floor."""
    y, x = np.mgrid[:64, :64]
    flat = torch.from_numpy(0.2 * (-1.0) ** (x + y))[None, None]  # +-0.1 on [0, 1]
    expected = 10 * math.log10((64**2 * 0.1**2 / 9 + FLOOR) / FLOOR)
    assert checkerboard_octaves(flat)[2] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("amplitude", [0.02, 0.1])
def test_the_score_is_what_arithmetic_predicts(amplitude: float) -> None:
    """Amplitude a on noise of variance s^2: 10 log10(n^2 a^2 / (9 s^2) + 1), on [0, 1]."""
    y, x = np.mgrid[:128, :128]
    alternating = torch.from_numpy((-1.0) ** (x + y))[None, None]
    # A picture in [-1, 1] has twice the amplitude of the same on [0, 1].
    found = [
        checkerboard_octaves(noise(128, 1, seed, 0.05) + 2 * amplitude * alternating)[2] for seed in range(8)
    ]
    expected = 10 * math.log10(128**2 * amplitude**2 / (9 * 0.05**2) + 1)
    assert np.mean(found) == pytest.approx(expected, abs=0.5)


def test_pictures_without_one_score_about_zero(real_data: Path) -> None:
    assert checkerboard(smooth(128)) < 1
    assert checkerboard(torch.zeros(1, 3, 32, 32)) == 0
    scores = [list(checkerboard_octaves(noise(128, 3, seed)).values()) for seed in range(8)]
    assert np.mean(scores) == pytest.approx(0, abs=0.5)
    photos = [checkerboard(photo(real_data, number)) for number in range(1, 6)]
    assert max(photos) < 8
    y, x = np.mgrid[:256, :256]
    planted = photo(real_data, 1) + 0.06 * torch.from_numpy((-1.0) ** (x + y)).float()
    assert checkerboard(planted) > 15


def test_an_uneven_transposed_convolution_is_caught() -> None:
    """A 3x3 kernel at stride 2 overlaps unevenly, a 4x4 one evenly (Odena et al. 2016)."""
    low = torch.full((1, 1, 40, 40), 0.4) + 0.1 * noise(40, 1)
    uneven = torch.nn.functional.conv_transpose2d(low, torch.full((1, 1, 3, 3), 0.3), stride=2)
    even = torch.nn.functional.conv_transpose2d(low, torch.full((1, 1, 4, 4), 0.25), stride=2)
    crop = slice(4, 68)
    assert checkerboard(uneven[..., crop, crop]) > checkerboard(even[..., crop, crop]) + 15


# ---- LPIPS ------------------------------------------------------------------------------------------


@pytest.fixture
def weights(real_data: Path) -> Path:
    """torchvision's squeezenet1_1, rounded to half precision."""
    return real_data / "weights" / "squeezenet1_1_fp16rounded.pth"


def test_lpips_on_real_facades(real_data: Path, weights: Path) -> None:
    """Identical 0; a shift of 1 px about 0.03; another facade about 0.44."""
    before = torch.get_rng_state()
    lpips = Lpips("squeeze", weights=weights)
    assert torch.equal(before, torch.get_rng_state())
    first, second = photo(real_data, 20), photo(real_data, 40)
    assert lpips(first, first) == {"lpips": 0.0}
    assert lpips(first[..., 1:], first[..., :-1])["lpips"] == pytest.approx(0.03, abs=0.015)
    different = lpips(first, second)["lpips"]
    assert different == pytest.approx(0.44, abs=0.03)
    assert lpips(second, first)["lpips"] == pytest.approx(different, abs=1e-6)
    described = lpips.describe()
    assert (described["net"], described["weights"]) == ("squeeze", weights.name)
    assert len(described["sha256"]) == 64


def test_lpips_takes_grey_pictures_and_refuses_others(weights: Path) -> None:
    lpips = Lpips("squeeze", weights=weights)
    grey = [noise(32, 1, seed) for seed in (0, 1)]
    colour = [picture.repeat(1, 3, 1, 1) for picture in grey]
    assert lpips(*grey) == lpips(*colour)
    with pytest.raises(InputError, match="grayscale or RGB pictures; got 5"):
        lpips(noise(32, 5), noise(32, 5))
    smallest = SMALLEST_PX["squeeze"]
    assert math.isfinite(lpips(noise(smallest), noise(smallest, seed=1))["lpips"])
    with pytest.raises(InputError, match=f"at least {smallest} px; got 16 x 16"):
        lpips(noise(smallest - 1), noise(smallest - 1))


def test_wrong_lpips_weights_are_refused(weights: Path, tmp_path: Path) -> None:
    """Every key is checked: nothing of a random backbone may remain."""
    state = torch.load(weights, weights_only=True)
    without = {key: value for key, value in state.items() if key != "features.7.squeeze.bias"}
    reshaped = {**state, "features.0.weight": torch.zeros(64, 3, 5, 5)}
    broken = {**state, "features.0.bias": torch.full((64,), math.nan)}
    for name, content, words in (
        ("part.pth", without, "has no features.7.squeeze.bias"),
        ("shape.pth", reshaped, r"features.0.weight is \(64, 3, 5, 5\), not \(64, 3, 3, 3\)"),
        ("nan.pth", broken, "features.0.bias is not finite"),
        ("more.pth", {**state, "features.13.weight": torch.zeros(1)}, "has features.13.weight"),
        ("list.pth", [1, 2], "of no named tensors"),
        ("object.pth", {"weights": Path("x")}, "a pickle of more than tensors"),
    ):
        torch.save(content, tmp_path / name)
        with pytest.raises(InputError, match=f"{name}.*{words}"):
            Lpips("squeeze", weights=tmp_path / name)
    (tmp_path / "cut.pth").write_bytes(weights.read_bytes()[:1000])
    for file, words in ((tmp_path / "cut.pth", "is damaged"), (tmp_path / "none.pth", "no such checkpoint")):
        with pytest.raises(InputError, match=words):
            Lpips("squeeze", weights=file)
    with pytest.raises(InputError, match="expected torchvision's alexnet"):
        Lpips("alex", weights=weights)
    with pytest.raises(InputError, match="--lpips-net inception"):
        Lpips("inception")


def test_lpips_without_weights_and_network_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from steadypix.eval.torchvision_shim import import_torchvision

    def offline(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(import_torchvision("torchvision.models._api"), "load_state_dict_from_url", offline)
    with pytest.raises(InputError, match=r"squeezenet1_1 cannot be downloaded.*--lpips-weights"):
        Lpips("squeeze")
