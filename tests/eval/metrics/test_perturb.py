"""Perturbations against independent NumPy, and the laws that an ideal network would keep."""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from torch import Tensor, nn

from steadypix.errors import InputError
from steadypix.eval.metrics.perturb import PerturbationScores, describe
from steadypix.eval.metrics.perturb_kinds import (
    KINDS,
    N_SEVERITIES,
    parse_perturbations,
    perturbed_canvas,
    warp,
)
from steadypix.eval.shifts.protocols import Crop, Protocol

pytestmark = pytest.mark.slow

GEOMETRIC = [name for name, kind in KINDS.items() if kind.matrix is not None]
PHOTOMETRIC = [name for name in KINDS if name not in GEOMETRIC]
CANVAS_PX, WINDOW_PX = 44, 32


def canvas(seed: int = 0, channels: int = 3, side: int = CANVAS_PX) -> Tensor:
    """A picture of whole pixel values with slow waves and noise, (1, C, S, S) in [-1, 1]."""
    rng = np.random.default_rng(seed)
    waves = ndimage.gaussian_filter(rng.normal(0, 1, (channels, side, side)), (0, 3, 3)) * 4
    pixels = np.clip(128 + 60 * waves + rng.normal(0, 15, waves.shape), 0, 255).round()
    return torch.from_numpy(pixels[None]).float() / 127.5 - 1


def measure(
    network: Callable[[Tensor], Tensor], kinds: list[str], *, margin: int = 4, seed: int = 0, count: int = 2
) -> PerturbationScores:
    scores = PerturbationScores(Crop(CANVAS_PX, WINDOW_PX), kinds, margin, seed)
    for number in range(count):
        picture = canvas(number)
        outputs = [network(window) for window in scores.windows(picture)]
        scores.add(network(scores.protocol.base(picture)), iter(outputs), None, number)
    return scores


def db(mse: float) -> float:
    return 10 * math.log10(4 / mse)


# ---- what T does ------------------------------------------------------------------------------------


def numpy_blur(x: np.ndarray, sigma: float) -> np.ndarray:
    reach = math.ceil(4 * sigma)
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    taps /= taps.sum()
    rows = ndimage.correlate1d(x, taps, axis=1, mode="mirror")
    return ndimage.correlate1d(rows, taps, axis=2, mode="mirror")


def numpy_jpeg(x: np.ndarray, quality: float) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray((x.transpose(1, 2, 0) * 255).round().astype(np.uint8)).save(
        file, "JPEG", quality=int(quality)
    )
    return np.asarray(Image.open(file)).transpose(2, 0, 1) / 255


def numpy_contrast(x: np.ndarray, factor: float) -> np.ndarray:
    luma = (x * np.array([0.299, 0.587, 0.114])[:, None, None]).sum(axis=0).mean()
    return luma + factor * (x - luma)


NUMPY = {
    "blur": numpy_blur,
    "jpeg": numpy_jpeg,
    "brightness": lambda x, amount: x + amount,
    "contrast": numpy_contrast,
}


@pytest.mark.parametrize("name", NUMPY)
def test_photometric_identity_scores_the_perturbation_itself(name: str) -> None:
    """PSNR of T x against x over the window less the margin, computed with NumPy and SciPy alone."""
    summary = measure(nn.Identity(), [name], margin=4, count=1).table()[name]
    x = (canvas()[0].numpy().astype(np.float64) + 1) / 2
    inside = slice(6 + 4, 6 + 32 - 4)
    for value, row in zip(KINDS[name].values, summary.values(), strict=True):
        changed = np.clip(NUMPY[name](x, value), 0, 1)
        error = ((changed - x)[:, inside, inside] ** 2).mean()
        assert row["mean_db"] == pytest.approx(-10 * math.log10(error), abs=0.01)
        assert row["value"] == value


def test_noise_has_the_deviation_it_says() -> None:
    """On mid-grey nothing is clipped, so the identity scores -20 log10(sigma)."""
    grey = torch.zeros(1, 3, 128, 128)
    for sigma in KINDS["noise"].values[:4]:
        noisy = perturbed_canvas(grey, "noise", sigma, origin_px=0, window_px=128)
        assert db((noisy - grey).square().mean().item()) == pytest.approx(-20 * math.log10(sigma), abs=0.1)
        assert abs(noisy.mean().item()) < 0.02 * sigma * 5


def test_noise_is_a_function_of_seed_and_picture() -> None:
    """Not of what was measured before; severities are one pattern; other pictures and seeds differ."""

    def pattern(picture: Tensor, sigma: float = 0.01, seed: int = 0) -> Tensor:
        noisy = perturbed_canvas(picture, "noise", sigma, origin_px=0, window_px=32, seed=seed)
        return (noisy - picture) / sigma

    grey, other = torch.zeros(1, 3, 32, 32), torch.full((1, 3, 32, 32), 0.1)
    first = pattern(grey)
    pattern(other)
    assert torch.equal(first, pattern(grey))
    torch.testing.assert_close(pattern(grey, 0.02), first, atol=1e-4, rtol=0)
    for changed in (pattern(other), pattern(grey, seed=1)):
        correlation = np.corrcoef(first.ravel().numpy(), changed.ravel().numpy())[0, 1]
        assert abs(correlation) < 0.1


@pytest.mark.parametrize(
    ("name", "value", "goes"),
    [
        ("rotation", 90.0, lambda p: p.rot90(1, (-2, -1))),  # counter-clockwise on the screen
        ("rotation", 180.0, lambda p: p.flip(-1, -2)),
        ("scale", -1.0, lambda p: p.flip(-1, -2)),
    ],
)
def test_whole_turns_are_exact(name: str, value: float, goes: Callable[[Tensor], Tensor]) -> None:
    x = canvas(side=33)
    matrix = KINDS[name].matrix
    assert matrix is not None
    torch.testing.assert_close(warp(x, matrix(value), window_px=33), goes(x).double(), atol=1e-6, rtol=0)


def test_warps_go_where_they_say() -> None:
    """A spot's centroid moves as the matrix maps it, about the window's centre."""
    spot = torch.zeros(1, 1, 65, 65)
    spot[..., 32 + 10, 32 + 6] = 1  # 10 px below and 6 px right of the centre
    spot = torch.from_numpy(ndimage.gaussian_filter(spot.numpy(), (0, 0, 2, 2)))
    rows = torch.arange(65.0) - 32
    for name, value, expected in (
        ("shear", 0.3, (6 + 0.3 * 10, 10)),
        ("scale", 1.4, (8.4, 14)),
        ("rotation", 20.0, (6 * 0.9397 + 10 * 0.3420, 10 * 0.9397 - 6 * 0.3420)),
    ):
        matrix = KINDS[name].matrix
        assert matrix is not None
        moved = warp(spot, matrix(value), window_px=65)[0, 0]
        x, y = ((moved.sum(dim=axis) * rows).sum() / moved.sum() for axis in (0, 1))
        assert (x.item(), y.item()) == pytest.approx(expected, abs=0.02)


def test_a_sharper_oracle_agrees_with_the_warp() -> None:
    """SciPy's spline of a smooth picture, far from the border."""
    smooth = torch.from_numpy(ndimage.gaussian_filter(canvas(side=64).numpy(), (0, 0, 3, 3)))
    matrix = KINDS["rotation"].matrix
    assert matrix is not None
    ours = warp(smooth, matrix(10), window_px=64)[0, 0, 20:44, 20:44].numpy()
    theirs = ndimage.rotate(smooth[0, 0].numpy().astype(np.float64), 10, reshape=False, order=5)[20:44, 20:44]
    assert np.abs(ours - theirs).max() < 5e-3


def test_hard_edges_stay_within_what_a_picture_holds() -> None:
    """Bicubic warps overshoot at black-to-white edges; inputs and outputs are clipped alike."""
    hard = canvas().sign()
    for name in GEOMETRIC:
        scores = PerturbationScores(Crop(CANVAS_PX, WINDOW_PX), [name], 4)
        windows = list(scores.windows(hard))
        assert max(window.abs().max().item() for window in windows) == 1
        scores.add(scores.protocol.base(hard), iter(windows), None, 0)
        assert scores.mse().max() < 1e-13


def test_what_enters_beyond_the_canvas_is_reflected() -> None:
    white = torch.ones(1, 3, WINDOW_PX + 1, WINDOW_PX + 1)
    for window in PerturbationScores(Crop(WINDOW_PX + 1, WINDOW_PX), GEOMETRIC, 4).windows(white):
        torch.testing.assert_close(window, torch.ones_like(window))


# ---- what is compared -------------------------------------------------------------------------------


@pytest.mark.parametrize("margin", [0, 4])
@pytest.mark.parametrize("name", GEOMETRIC)
def test_geometric_identity_is_as_good_as_identical(name: str, margin: int) -> None:
    for row in measure(nn.Identity(), [name], margin=margin).table()[name].values():
        assert row["mean_db"] > 140


@settings(max_examples=10, deadline=None)
@given(st.floats(0.1, 0.9), st.floats(-0.1, 0.1))
def test_what_acts_on_each_pixel_alone_commutes_with_warps_where_they_copy(
    gain: float, offset: float
) -> None:
    """Affine in colour commutes with every linear interpolation, clipping aside."""
    scores = measure(lambda x: gain * 0.5 * x + offset, GEOMETRIC, count=1)
    clipped = [row["mean_db"] for kind in scores.table().values() for row in kind.values()]
    assert min(clipped) > 45


def keys_kernel(distance: np.ndarray) -> np.ndarray:
    """The cubic convolution kernel of Keys (1981) with a = -0.75, for distances up to 2."""
    d, a = np.abs(distance), -0.75
    return np.where(d <= 1, (a + 2) * d**3 - (a + 3) * d**2 + 1, a * (d**3 - 5 * d**2 + 8 * d - 4))


def test_a_pattern_fixed_to_the_frame_is_measured() -> None:
    """Stripes that ignore the input: T moves them in T G(x), not in G(T x); NumPy says by how much."""

    def wave(at: np.ndarray) -> np.ndarray:
        return 0.3 * np.cos(2 * np.pi * at / 16)

    stripes = torch.from_numpy(wave(np.arange(32.0))).float().expand(1, 3, 32, 32)
    scores = measure(lambda _: stripes, ["rotation"], count=1)
    y, x = np.mgrid[:32, :32] - 15.5
    for value, row in zip(KINDS["rotation"].values, scores.table()["rotation"].values(), strict=True):
        c, s = math.cos(math.radians(value)), math.sin(math.radians(value))
        source_x, source_y = c * x - s * y, s * x + c * y  # the inverse map
        first = np.floor(source_x + 15.5)
        taps = [first + step for step in (-1, 0, 1, 2)]
        moved = sum(keys_kernel(source_x + 15.5 - tap) * wave(tap) for tap in taps)
        # All four taps along each axis lie inside a margin of 4 px.
        inside = np.maximum(np.abs(x), np.abs(y)) < 12
        whole = inside & (np.maximum(np.abs(source_x), np.abs(source_y)) < 10.5)
        error = ((moved - wave(x + 15.5)) ** 2)[whole].mean()
        assert row["mean_db"] == pytest.approx(db(error), abs=0.01)


def test_a_constant_output_is_perfectly_stable() -> None:
    for kind in measure(lambda x: torch.full_like(x, 0.2), list(KINDS)).table().values():
        for row in kind.values():
            assert row["mean_db"] > 140


def test_severities_grow() -> None:
    """The identity's photometric scores fall with every step."""
    for kind in measure(nn.Identity(), PHOTOMETRIC).table().values():
        scores = [row["mean_db"] for row in kind.values()]
        assert scores == sorted(scores, reverse=True)


def test_borders_do_not_count() -> None:
    """What a network does within the margin changes nothing, geometric kinds included."""

    def spoil(x: Tensor) -> Tensor:
        y = x.clone()
        for edge in (y[..., :4, :], y[..., -4:, :], y[..., :4], y[..., -4:]):
            edge.neg_()
        return y

    clean, spoilt = (measure(network, list(KINDS), margin=4).mse() for network in (nn.Identity(), spoil))
    np.testing.assert_allclose(spoilt, clean, atol=1e-12)


def test_summary_and_description() -> None:
    scores = measure(nn.Identity(), ["noise", "scale"], count=3)
    assert scores.mse().shape == (3, 2 * N_SEVERITIES)
    summary = scores.table(seed=1)
    assert list(summary) == ["noise", "scale"]
    assert list(summary["noise"]) == ["1", "2", "3", "4", "5"]
    row = summary["noise"]["3"]
    assert row["mean_db"] == pytest.approx(np.mean([db(error) for error in scores.mse()[:, 2]]))
    assert row["ci95_db"][0] <= row["mean_db"] <= row["ci95_db"][1]
    assert describe(["noise"], 4) == {
        "margin_px": 4,
        "kinds": {
            "noise": {
                "meaning": "Gaussian noise, standard deviation on [0, 1]",
                "values": [0.01, 0.02, 0.04, 0.08, 0.16],
            }
        },
    }


def test_grey_and_many_channels() -> None:
    for channels, names in ((1, list(KINDS)), (5, [name for name in KINDS if name != "jpeg"])):
        rule: Protocol = Crop(CANVAS_PX, WINDOW_PX)
        scores = PerturbationScores(rule, names, 4)
        windows = list(scores.windows(canvas(channels=channels)))
        assert {tuple(window.shape) for window in windows} == {(1, channels, 32, 32)}
        assert all(window.abs().max() <= 1 and window.dtype == torch.float32 for window in windows)
    with pytest.raises(InputError, match=r"jpeg needs inputs of 1 or 3 channels; got 5"):
        list(PerturbationScores(rule, ["jpeg"], 4).windows(canvas(channels=5)))


def test_nothing_left_to_compare_is_refused() -> None:
    with pytest.raises(InputError, match=r"rotation by 1: nothing is left to compare at 15 px margin"):
        measure(nn.Identity(), ["rotation"], margin=15)


def test_names_are_checked() -> None:
    assert parse_perturbations("all") == tuple(KINDS)
    assert parse_perturbations("scale, noise,scale") == ("scale", "noise")
    for text in ("zoom", "noise,", ""):
        with pytest.raises(InputError, match=r"--perturb .*is unknown"):
            parse_perturbations(text)
    assert all(len(kind.values) == N_SEVERITIES for kind in KINDS.values())
