"""Corruptions and flip rates: the makings against independent statements, and the laws of the figures."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from steadypix.data.labelled.labelled import Labelled, open_labelled
from steadypix.errors import InputError
from steadypix.eval.classifiers.corruptions import (
    CORRUPTIONS,
    LIFTING,
    N_SEVERITIES,
    corrupt,
    corruption_errors,
    damage_all,
    disk,
    fractal,
    line,
    mean_ratio,
    picture_seed,
)
from steadypix.eval.classifiers.flips import FRAMES, SEQUENCES, flip_rates, sequence
from steadypix.eval.shifts.protocols import Crop
from tests.classifiers import write_fashion_mnist

pytestmark = pytest.mark.slow

PROTOCOL = Crop(40, 32)


def picture(channels: int = 1, side: int = 32, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    waves = ndimage.gaussian_filter(rng.normal(size=(channels, side, side)), (0, 1.5, 1.5))
    pixels = 127 + 90 * waves / abs(waves).max() + rng.normal(0, 8, waves.shape)
    return torch.from_numpy(pixels.clip(0, 255).round().astype(np.uint8))


def distance(kind: str, severity: int, seed: int = 0) -> float:
    """Root mean square change of a picture, on [0, 1]."""
    x = picture(seed=seed)
    return ((corrupt(x, kind, severity, seed=seed).double() - x.double()) / 255).square().mean().sqrt().item()


# ---- laws -------------------------------------------------------------------------------------------


def test_there_are_fifteen_kinds_of_five_severities() -> None:
    assert len(CORRUPTIONS) == 15
    assert all(len(rule.values) == N_SEVERITIES for rule in CORRUPTIONS.values())


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_damage_grows_with_severity(kind: str) -> None:
    means = [np.mean([distance(kind, level, seed) for seed in range(4)]) for level in range(1, 6)]
    assert means[0] > 0.004
    # Of blurs and small pictures a step may hide in rounding, but the order holds.
    assert all(later > 0.98 * earlier for earlier, later in itertools.pairwise(means)), means
    assert means[-1] > 1.3 * means[0]


@pytest.mark.parametrize("kind", CORRUPTIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_damage_is_a_function_of_its_seed(kind: str, channels: int) -> None:
    x = picture(channels)
    first = corrupt(x, kind, 3, seed=7)
    assert first.dtype == torch.uint8
    assert first.shape == x.shape
    state = torch.get_rng_state()
    assert torch.equal(first, corrupt(x, kind, 3, seed=7))
    assert torch.equal(torch.get_rng_state(), state)  # nobody else's random numbers change
    drawn = ("noise", "glass", "motion", "snow", "frost", "fog", "elastic")
    if any(word in kind for word in drawn):
        assert not torch.equal(first, corrupt(x, kind, 3, seed=8))


@pytest.mark.parametrize("kind", CORRUPTIONS)
@pytest.mark.parametrize("side", [9, 64])
def test_any_size(kind: str, side: int) -> None:
    assert corrupt(picture(3, side), kind, 5).shape == (3, side, side)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_which_kinds_brighten_a_black_ground(kind: str) -> None:
    """Far from all that is bright: a small square in the middle of a large black picture."""
    x = torch.zeros(1, 64, 64, dtype=torch.uint8)
    x[:, 24:40, 24:40] = 200
    corner = corrupt(x, kind, 3)[:, :8, :8].double().mean().item()
    assert (corner > 2.5) == (kind in LIFTING)


def test_unknown_words() -> None:
    with pytest.raises(InputError, match="'rain' is unknown"):
        corrupt(picture(), "rain", 1)
    with pytest.raises(InputError, match="severity 6"):
        corrupt(picture(), "fog", 6)
    with pytest.raises(InputError, match="1 or 3 channels; got 2"):
        corrupt(picture(2), "jpeg_compression", 1)


# ---- against independent statements -----------------------------------------------------------------


def test_noise_has_the_deviation_it_says() -> None:
    grey = torch.full((1, 256, 256), 128, dtype=torch.uint8)
    for level, sigma in enumerate((0.04, 0.08, 0.12), 1):
        noise = (corrupt(grey, "gaussian_noise", level).double() - 128) / 255
        assert noise.std().item() == pytest.approx(sigma, rel=0.03)
    shot = corrupt(grey, "shot_noise", 1).double() / 255
    assert shot.std().item() == pytest.approx(np.sqrt(128 / 255 / 60), rel=0.03)
    salted = corrupt(grey, "impulse_noise", 4)
    assert (salted != 128).double().mean().item() == pytest.approx(0.10, abs=0.01)
    assert set(salted.unique().tolist()) == {0, 128, 255}


def test_blurs_are_correlations_with_their_kernel() -> None:
    x = picture(side=48)
    kernel = disk(0.04 * 48).numpy()
    expected = ndimage.correlate(x[0].double().numpy() / 255, kernel, mode="nearest")
    got = corrupt(x, "defocus_blur", 3)[0].double().numpy() / 255
    assert abs(got - expected).max() < 0.5 / 255 + 1e-6
    for made in (disk(2.3), line(5.0, 0.7)):
        assert made.sum().item() == pytest.approx(1)
        torch.testing.assert_close(made, made.flip(0, 1))  # centred
    flat = line(4.0, 0.0)
    assert flat.sum(1).nonzero().tolist() == [[flat.shape[0] // 2]]  # one row


def test_simple_kinds() -> None:
    x = picture(3)
    unit = x.double() / 255
    bright = ((unit + 0.1).clamp(0, 1) * 255).round()
    assert (corrupt(x, "brightness", 1).double() - bright).abs().max() <= 1  # a tenth is 25.5 levels
    mean = unit.mean((1, 2), keepdim=True)
    low = ((mean + 0.3 * (unit - mean)).clamp(0, 1) * 255).round()
    assert (corrupt(x, "contrast", 3).double() - low).abs().max() <= 1
    buffer = io.BytesIO()
    Image.fromarray(x.permute(1, 2, 0).numpy()).save(buffer, format="JPEG", quality=18)
    np.testing.assert_array_equal(
        corrupt(x, "jpeg_compression", 3).permute(1, 2, 0).numpy(), np.array(Image.open(buffer))
    )
    coarse = corrupt(picture(side=40), "pixelate", 5)[0]  # a quarter: squares of 4 x 4
    means = picture(side=40)[0].double().reshape(10, 4, 10, 4).mean((1, 3))
    assert (coarse.double() - means.repeat_interleave(4, 0).repeat_interleave(4, 1)).abs().max() <= 0.5


def test_a_flat_picture_has_nothing_to_move() -> None:
    grey = torch.full((1, 32, 32), 77, dtype=torch.uint8)
    for kind in ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "elastic_transform", "pixelate"):
        assert (corrupt(grey, kind, 5).int() - 77).abs().max() <= 1


def test_fractal_noise_falls_as_it_says() -> None:
    """Its spectrum, averaged over draws, is a straight line of the slope in log-log."""
    power = np.mean(
        [
            np.abs(np.fft.rfft2(fractal(torch.Generator().manual_seed(seed), 128, 128, slope=1.5).numpy())[0])
            ** 2
            for seed in range(30)
        ],
        axis=0,
    )
    frequency = np.arange(2, 40)
    slope = np.polyfit(np.log(frequency), np.log(power[2:40]), 1)[0]
    assert slope == pytest.approx(-3, abs=0.4)


# ---- figures ----------------------------------------------------------------------------------------


def test_errors_are_counted_against_the_labels() -> None:
    pictures = [picture(seed=seed) for seed in range(4)]
    damaged = damage_all(pictures, ["fog", "contrast"])
    assert list(damaged) == ["fog", "contrast"]
    assert [len(levels) for levels in damaged.values()] == [5, 5]
    assert torch.equal(damaged["fog"][1][2], corrupt(pictures[2], "fog", 2, seed=picture_seed(0, 2)))

    def first_class(windows: Tensor) -> Tensor:
        return torch.zeros(len(windows), dtype=torch.long)

    errors = corruption_errors(first_class, damaged, torch.tensor([0, 1, 2, 0]))
    assert errors == {"fog": [0.5] * 5, "contrast": [0.5] * 5}


def test_mean_corruption_error() -> None:
    base = {"a": [0.1, 0.3], "b": [0.5, 0.5]}
    assert mean_ratio(base, base) == 1
    assert mean_ratio({"a": [0.1, 0.1], "b": [0.5, 0.25]}, base) == pytest.approx((0.5 + 0.75) / 2)
    assert mean_ratio(base, {"a": [0.0, 0.0], "b": [1.0]}) is None


@pytest.fixture
def pictures(tmp_path: Path) -> Labelled:
    return open_labelled(write_fashion_mnist(tmp_path), "test").first(3)


def test_sequences_start_where_they_say(pictures: Labelled) -> None:
    canvas = pictures.canvas(0, 40)
    for kind in SEQUENCES:
        frames = sequence(canvas, kind, PROTOCOL)
        assert frames.dtype == torch.uint8
        assert frames.shape[1:] == (1, 32, 32)
        assert len(frames) == (9 if kind == "translate" else FRAMES)
    assert torch.equal(sequence(canvas, "scale", PROTOCOL)[0], PROTOCOL.base(canvas))
    assert torch.equal(sequence(canvas, "rotate", PROTOCOL)[FRAMES // 2], PROTOCOL.base(canvas))
    moved = sequence(canvas, "translate", PROTOCOL)
    assert torch.equal(moved[4], PROTOCOL.base(canvas))
    assert torch.equal(moved[5][..., 1:, 1:], moved[4][..., :-1, :-1])  # right and down by a pixel
    with pytest.raises(InputError, match="'wobble' is unknown"):
        sequence(canvas, "wobble", PROTOCOL)
    with pytest.raises(InputError, match="has no room"):
        sequence(canvas[..., 4:36, 4:36], "translate", Crop(32, 32))


def test_flip_rates_of_known_classifiers(pictures: Labelled) -> None:
    def constant(windows: Tensor) -> Tensor:
        return torch.zeros(len(windows))

    def counting(windows: Tensor) -> Tensor:
        return torch.arange(len(windows))

    assert flip_rates(constant, pictures, PROTOCOL) == dict.fromkeys(SEQUENCES, 0.0)
    assert flip_rates(counting, pictures, PROTOCOL) == dict.fromkeys(SEQUENCES, 1.0)

    def blinking(windows: Tensor) -> Tensor:
        return torch.arange(len(windows)) % 2

    rates = flip_rates(blinking, pictures, PROTOCOL)
    assert rates["translate"] == rates["rotate"] == rates["scale"] == 1.0
    assert rates["noise"] == 0.5  # held against the first frame, not the one before


def test_mean_flip_rate() -> None:
    base = {"noise": 0.2, "scale": 0.1}
    assert mean_ratio(base, base) == 1
    assert mean_ratio({"noise": 0.1, "scale": 0.1}, base) == pytest.approx(0.75)
    assert mean_ratio(base, {"noise": 0.2, "scale": 0.0}) is None
