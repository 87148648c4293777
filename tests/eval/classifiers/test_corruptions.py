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
from skimage import color, transform
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
from steadypix.eval.classifiers.flips import FRAMES, NOISES, SEQUENCES, flip_rates, seen, sequence, tilt
from steadypix.eval.classifiers.imagenet_c import IMAGENET_C, brighten, trail, with_snow
from steadypix.eval.metrics.perturb_kinds import rotate
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


# ---- with ImageNet-C's constants --------------------------------------------------------------------


def unit(x: Tensor) -> np.ndarray:
    return x.double().numpy() / 255


@pytest.mark.parametrize("kind", IMAGENET_C)
@pytest.mark.parametrize(("channels", "side"), [(1, 32), (3, 9), (3, 64)])
def test_all_kinds_at_any_size(kind: str, channels: int, side: int) -> None:
    x = picture(channels, side)
    made = [corrupt(x, kind, severity, seed=7, table=IMAGENET_C) for severity in range(1, 6)]
    assert all(y.shape == x.shape and y.dtype == torch.uint8 for y in made)
    assert torch.equal(made[2], corrupt(x, kind, 3, seed=7, table=IMAGENET_C))
    assert side == 9 or not torch.equal(made[4], x)  # a blur of half a pixel may be none


def test_noise_is_imagenet_c_s() -> None:
    grey = torch.full((1, 256, 256), 128, dtype=torch.uint8)
    for level, (sigma, photons, part) in enumerate(((0.08, 60, 0.03), (0.12, 25, 0.06)), 1):
        noise, shot, salt = (
            corrupt(grey, f"{kind}_noise", level, table=IMAGENET_C)
            for kind in ("gaussian", "shot", "impulse")
        )
        assert unit(noise).std() == pytest.approx(sigma, rel=0.03)
        assert unit(shot).std() == pytest.approx(np.sqrt(128 / 255 / photons), rel=0.03)
        assert (salt != 128).double().mean().item() == pytest.approx(part, abs=0.01)


def test_brightness_is_the_value_of_hsv() -> None:
    x = picture(3)
    hsv = color.rgb2hsv(unit(x).transpose(1, 2, 0))
    hsv[..., 2] = (hsv[..., 2] + 0.3).clip(0, 1)
    expected = color.hsv2rgb(hsv).transpose(2, 0, 1)
    np.testing.assert_allclose(unit(corrupt(x, "brightness", 3, table=IMAGENET_C)), expected, atol=0.51 / 255)
    black = torch.zeros(3, 2, 2)
    assert torch.equal(brighten(black, 0.3), black + 0.3)


def test_motion_blur_is_half_a_gaussian_at_224_px() -> None:
    """One tap a pixel at full size, and the same kernel a seventh as long on a seventh of the side."""
    weights = np.exp(-((np.arange(21) / 3) ** 2) / 2)
    kernel = trail(10, 3, 0.0, 1.0).numpy()
    middle = kernel.shape[0] // 2
    np.testing.assert_allclose(kernel[middle, middle : middle + 21], weights / weights.sum(), atol=1e-12)
    small = trail(10, 3, 0.0, 1 / 7).numpy()
    places = [np.arange(k.shape[0]) - k.shape[0] // 2 for k in (kernel, small)]
    means = [(k.sum(0) * at).sum() for k, at in zip((kernel, small), places, strict=True)]
    assert means[1] == pytest.approx(means[0] / 7)


def test_zoom_blur_is_the_mean_of_enlargements_and_the_picture() -> None:
    x, middle = picture(side=33), 16
    total = unit(x)[0].copy()
    factors = np.arange(1, 1.11, 0.01)
    for factor in factors:
        matrix = transform.AffineTransform(scale=1 / factor, translation=(middle * (1 - 1 / factor),) * 2)
        total += transform.warp(unit(x)[0], matrix, order=1, mode="edge")
    expected = total / (len(factors) + 1)
    np.testing.assert_allclose(
        unit(corrupt(x, "zoom_blur", 1, table=IMAGENET_C))[0], expected, atol=0.52 / 255
    )


def test_snow_without_flakes_is_a_paler_picture() -> None:
    x = torch.from_numpy(unit(picture(3)))
    luma = color.rgb2gray(x.numpy().transpose(1, 2, 0), channel_axis=-1)
    made = with_snow(x, torch.zeros(1, 32, 32), 0.8).numpy()
    expected = 0.8 * x.numpy() + 0.2 * np.maximum(x.numpy(), 1.5 * luma + 0.5)
    np.testing.assert_allclose(made, expected, atol=0.06)  # scikit-image's luma is BT.709's, this is BT.601's


def test_elastic_moves_as_far_as_it_says() -> None:
    """A ramp shows the displacement itself, away from the border."""
    ramp = torch.arange(224.0).expand(1, 224, 224) / 255
    rule = IMAGENET_C["elastic_transform"]
    lengths = []
    for seed in range(3):
        moved = rule.make(ramp, (2.51, 2.44, 0.0), torch.Generator().manual_seed(seed))
        lengths.append(((moved - ramp) * 255)[..., 20:-20].abs().mean().item())
    # One axis of a length of which both are normal: the mean of a half-normal over a Rayleigh's.
    assert np.mean(lengths) == pytest.approx(2.51 * 2 / np.pi, rel=0.05)


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
    base = PROTOCOL.base(canvas)
    assert len(SEQUENCES) == 10
    clean = dict.fromkeys((*NOISES, "zoom_blur"), 0) | {
        "brightness": 15,
        "rotate": 15,
        "tilt": 15,
        "scale": 24,
    }
    for kind in SEQUENCES:
        frames = sequence(canvas, kind, PROTOCOL)
        assert frames.dtype == torch.uint8
        assert frames.shape[1:] == (1, 32, 32)
        assert len(frames) == (9 if kind == "translate" else FRAMES)
        assert len(frames.unique(dim=0)) > len(frames) // 2
        if kind in clean:
            assert torch.equal(frames[clean[kind]], base)
    moved = sequence(canvas, "translate", PROTOCOL)
    assert torch.equal(moved[4], base)
    assert torch.equal(moved[5][..., :, 1:], moved[4][..., :, :-1])  # right by a pixel
    with pytest.raises(InputError, match="'wobble' is unknown"):
        sequence(canvas, "wobble", PROTOCOL)
    with pytest.raises(InputError, match="has no room"):
        sequence(canvas[..., 4:36, 4:36], "translate", Crop(32, 32))


def test_frames_of_noise_are_drawn_anew_about_the_clean_picture() -> None:
    canvas = torch.full((1, 74, 74), 128, dtype=torch.uint8)
    frames = sequence(canvas, "gaussian_noise", Crop(74, 64)).double() / 255
    assert frames[1:].std().item() == pytest.approx(0.03, rel=0.02)
    assert (frames[1:].mean(0) - 128 / 255).std().item() == pytest.approx(0.03 / np.sqrt(30), rel=0.05)
    shot = sequence(canvas, "shot_noise", Crop(74, 64)).double() / 255
    assert shot[1:].std().item() == pytest.approx(np.sqrt(128 / 255 / 300), rel=0.02)


def test_maps_of_the_plane_are_scikit_image_s(pictures: Labelled) -> None:
    canvas = pictures.canvas(1, 41)
    protocol = Crop(41, 33)
    plane = np.eye(3)
    plane[:2, :2] = rotate(20)
    for matrix in (plane, tilt(12, 40.0), np.diag([0.5, 0.5, 1.0])):
        centre = np.array([[1, 0, 20], [0, 1, 20], [0, 0, 1]])
        whole = centre @ matrix @ np.linalg.inv(centre)
        expected = transform.warp(unit(canvas)[0], np.linalg.inv(whole), order=1, mode="constant")[4:37, 4:37]
        found = seen(canvas.double() / 255, [matrix], protocol)[0, 0].numpy()
        np.testing.assert_allclose(found, expected, atol=1e-9)


def test_a_tilt_keeps_its_centre_and_shows_the_nearer_side_larger() -> None:
    matrix = tilt(15, 50.0)
    points = matrix @ np.array([[0.0, 0, 1], [10, 10, 1], [-10, -10, 1]]).T
    centre, near, far = (points[:2] / points[2]).T
    np.testing.assert_allclose(centre, 0, atol=1e-12)
    assert np.linalg.norm(near) != pytest.approx(np.linalg.norm(far), rel=0.01)
    np.testing.assert_allclose(tilt(0, 50.0) / 50, np.eye(3))


def slow_flip_rate(classes: list[int], *, noise: bool) -> float:
    """Section 3.3's two sums, written out."""
    flips = 0
    for place in range(1, len(classes)):
        before = classes[0] if noise else classes[place - 1]
        if classes[place] != before:
            flips += 1
    return flips / (len(classes) - 1)


def test_flip_rates_are_the_slow_ones(pictures: Labelled) -> None:
    """Of a classifier that thresholds the mean, so that frames of every kind flip now and then."""

    def mean_class(windows: Tensor) -> Tensor:
        return (windows.double().mean((1, 2, 3)) * 40).long() % 3

    found = flip_rates(mean_class, pictures, PROTOCOL, seed=3)
    for kind in SEQUENCES:
        slow = [
            slow_flip_rate(
                [
                    int(mean_class(frame[None]))
                    for frame in sequence(pictures.canvas(i, 40), kind, PROTOCOL, seed=picture_seed(3, i))
                ],
                noise=kind.endswith("noise"),
            )
            for i in range(len(pictures))
        ]
        assert found[kind] == pytest.approx(np.mean(slow))
    assert sum(rate > 0 for rate in found.values()) > 5


def test_noise_is_held_against_the_clean_picture(pictures: Labelled) -> None:
    """A network that tells noisy from clean flips at every frame, though no two noisy ones differ."""
    clean = {PROTOCOL.base(pictures.canvas(i, 40)).numpy().tobytes() for i in range(len(pictures))}

    def is_clean(windows: Tensor) -> Tensor:
        return torch.tensor([int(x.numpy().tobytes() in clean) for x in windows])

    rates = flip_rates(is_clean, pictures, PROTOCOL)
    assert [rates[kind] for kind in NOISES] == [1.0, 1.0]


def test_flip_rates_of_known_classifiers(pictures: Labelled) -> None:
    def constant(windows: Tensor) -> Tensor:
        return torch.zeros(len(windows))

    assert flip_rates(constant, pictures, PROTOCOL) == dict.fromkeys(SEQUENCES, 0.0)

    def blinking(windows: Tensor) -> Tensor:
        return torch.arange(len(windows)) % 2

    rates = flip_rates(blinking, pictures, PROTOCOL)
    assert rates == {kind: 0.5 if kind in NOISES else 1.0 for kind in SEQUENCES}


def test_mean_flip_rate() -> None:
    base = {"noise": 0.2, "scale": 0.1}
    assert mean_ratio(base, base) == 1
    assert mean_ratio({"noise": 0.1, "scale": 0.1}, base) == pytest.approx(0.75)
    assert mean_ratio(base, {"noise": 0.2, "scale": 0.0}) is None
