"""Fractional shifts against direct sums, analytic waves and their own laws; the protocols made of them."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import fourier_shift as scipy_fourier_shift
from scipy.special import i0
from torch import Tensor, nn

from steadypix.data.pairs.folders import PairedImages
from steadypix.errors import InputError
from steadypix.eval.metrics.decibels import psnr_db
from steadypix.eval.metrics.eqt import eqt
from steadypix.eval.metrics.pan import pan_flicker
from steadypix.eval.metrics.stability import Stability, shift_stability
from steadypix.eval.shifts.fractional import REACH_PX, fourier_shift, sinc_shift, sinc_taps
from steadypix.eval.shifts.offsets import exact, is_odd, longest, offsets_along, parse_shifts, plain, split
from steadypix.eval.shifts.protocols import inner, make_protocol
from tests.networks import AddPattern

pytestmark = pytest.mark.slow

HALF, QUARTER, EIGHTH = Fraction(1, 2), Fraction(1, 4), Fraction(1, 8)
FRACTIONS = st.fractions(-HALF, HALF, max_denominator=64)


def noise(size: int = 72, count: int = 2) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def wave(size: int, cycles_per_px: float, direction: float, dx: float = 0, dy: float = 0) -> Tensor:
    """A sinusoid whose content is moved right by dx and down by dy, by the formula; float64."""
    y, x = torch.meshgrid(*[torch.arange(size, dtype=torch.float64)] * 2, indexing="ij")
    along = math.cos(direction) * (x - dx) + math.sin(direction) * (y - dy)
    return torch.cos(2 * math.pi * cycles_per_px * along + 0.7)[None, None]


# ---- numbers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1/2", [HALF]),
        ("0.5,1/4,1/8,0.25", [EIGHTH, QUARTER, HALF]),
        ("0..2,1/2", [0, HALF, 1, 2]),
        ("-1/3,1.5", [Fraction(-1, 3), Fraction(3, 2)]),
        ("4/2, 3.0", [2, 3]),
    ],
)
def test_fractions_are_read_exactly(text: str, expected: list) -> None:
    shifts = parse_shifts(text)
    assert shifts == expected
    assert [type(shift) for shift in shifts] == [type(shift) for shift in expected]


@given(st.lists(st.fractions(-99, 99, max_denominator=999), min_size=1))
def test_parse_shifts_reads_what_a_person_writes(shifts: list[Fraction]) -> None:
    assert parse_shifts(",".join(map(str, shifts))) == sorted(set(shifts))


@given(st.fractions(-99, 99), st.fractions(-99, 99))
def test_split_is_the_nearest_whole_and_the_rest(dx: Fraction, dy: Fraction) -> None:
    whole, rest = split((exact(dx), exact(dy)))
    assert (whole[0] + rest[0], whole[1] + rest[1]) == (dx, dy)
    assert longest(rest) <= HALF
    assert all(isinstance(shift, int) for shift in whole)


def test_small_words_about_shifts() -> None:
    assert exact(2.0) == 2
    assert isinstance(exact(2.0), int)
    assert exact(0.125) == EIGHTH
    assert [plain(3), plain(HALF)] == [3, 0.5]
    assert longest((-3, HALF)) == 3
    assert offsets_along([HALF], "diagonal") == [(HALF, HALF)]
    assert not is_odd((HALF, 0))
    assert not is_odd((1, HALF))
    with pytest.raises(InputError, match="nan"):
        exact(math.nan)


# ---- the windowed sinc ------------------------------------------------------------------------------


@pytest.mark.parametrize("fraction", [HALF, QUARTER, EIGHTH, Fraction(-3, 8), Fraction(1, 3)])
def test_sinc_equals_a_direct_sum(fraction: Fraction) -> None:
    """y[n] = sum over m of x[m] h(n - f - m), written down as it is, with SciPy's Bessel function."""
    row = np.random.default_rng(1).uniform(-1, 1, 80)

    def h(t: float) -> float:
        window = i0(9.0 * math.sqrt(max(0.0, 1 - (t / 16) ** 2))) / i0(9.0)
        return float(np.sinc(t) * window) if abs(t) < 16 else 0.0

    f = float(fraction)
    gain = sum(h(m - f) for m in range(-20, 21))
    slow = [sum(row[m] * h(n - f - m) for m in range(80)) / gain for n in range(16, 64)]
    picture = torch.from_numpy(row).expand(1, 1, 3, 80)
    np.testing.assert_allclose(sinc_shift(picture, (fraction, 0))[0, 0, 1, 16:64], slow, atol=1e-13)
    upright = sinc_shift(picture.mT, (0, fraction))
    np.testing.assert_allclose(upright[0, 0, 16:64, 1], slow, atol=1e-13)


@settings(max_examples=40, deadline=None)
@given(dx=FRACTIONS, dy=FRACTIONS, direction=st.floats(0, 2 * math.pi), cycles=st.floats(0.0, 0.4))
def test_sinc_moves_band_limited_waves_as_the_formula_does(
    dx: Fraction, dy: Fraction, direction: float, cycles: float
) -> None:
    """Up to 0.8 of the Nyquist frequency in any direction the error is below 1e-4."""
    moved = sinc_shift(wave(56, cycles, direction), (exact(dx), exact(dy)))
    truth = wave(56, cycles, direction, float(dx), float(dy))
    assert inner(moved - truth, REACH_PX).abs().max() < 1e-4


@settings(max_examples=20, deadline=None)
@given(dx=FRACTIONS, dy=FRACTIONS, seed=st.integers(0, 99))
def test_forth_and_back_restores_band_limited_pictures(dx: Fraction, dy: Fraction, seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = [wave(80, rng.uniform(0, 0.4), rng.uniform(0, 7)) * rng.uniform(0, 0.25) for _ in range(4)]
    picture = sum(parts, torch.zeros(1, 1, 80, 80, dtype=torch.float64))
    forth = sinc_shift(picture, (exact(dx), exact(dy)))
    back = sinc_shift(forth, (exact(-dx), exact(-dy)))
    assert inner(back - picture, 2 * REACH_PX).abs().max() < 2e-4


def test_half_a_pixel_removes_the_nyquist_frequency() -> None:
    """The limit of the instrument, as documented: cos(pi x) between the samples is zero."""
    assert inner(sinc_shift(wave(56, 0.5, 0.0), (HALF, 0)), REACH_PX).abs().max() < 1e-3


@given(FRACTIONS)
def test_constants_stay_and_mirrors_mirror(fraction: Fraction) -> None:
    grey = torch.full((1, 2, 5, 9), 0.3, dtype=torch.float64)
    assert (sinc_shift(grey, (exact(fraction), exact(fraction))) - 0.3).abs().max() < 1e-12
    np.testing.assert_allclose(sinc_taps(fraction), sinc_taps(-fraction)[::-1], atol=1e-15)


def test_shift_zero_gives_the_picture_itself() -> None:
    picture = noise(20)
    assert sinc_shift(picture, (0, 0)) is picture
    assert sinc_shift(picture, (HALF, 0)).dtype == torch.float32


# ---- Fourier phases ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [15, 16])
def test_fourier_shift_equals_scipy(size: int) -> None:
    picture = np.random.default_rng(2).normal(size=(size, size))
    ours = fourier_shift(torch.from_numpy(picture)[None, None], (Fraction(5, 4), Fraction(-1, 3)))
    spectrum = np.fft.fft2(picture)
    if size % 2 == 0:  # at its Nyquist frequency SciPy's shift is not real; ours is tested below
        spectrum[size // 2] = spectrum[:, size // 2] = 0
        ours_spectrum = np.fft.fft2(ours[0, 0].numpy())
        ours_spectrum[size // 2] = ours_spectrum[:, size // 2] = 0
        ours = torch.from_numpy(np.fft.ifft2(ours_spectrum).real)[None, None]
    theirs = np.fft.ifft2(scipy_fourier_shift(spectrum, (-1 / 3, 5 / 4))).real
    np.testing.assert_allclose(ours[0, 0], theirs, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(-9, 9), st.integers(-9, 9), st.integers(4, 12))
def test_whole_fourier_shifts_are_rolls(dx: int, dy: int, size: int) -> None:
    picture = noise(size).double()
    rolled = picture.roll((dy, dx), (-2, -1))
    assert (fourier_shift(picture, (dx, dy)) - rolled).abs().max() < 1e-12


@given(st.fractions(-3, 3, max_denominator=16))
def test_fourier_shift_at_the_nyquist_frequency(shift: Fraction) -> None:
    moved = fourier_shift(wave(16, 0.5, 0.0), (exact(shift), 0))
    expected = wave(16, 0.5, 0.0) * math.cos(math.pi * shift)
    assert (moved - expected).abs().max() < 1e-12


# ---- the protocols ----------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", ["x", "y", "diagonal"])
@pytest.mark.parametrize("protocol", ["subpixel", "roll"])
def test_identity_is_above_100_db_at_fractions_and_identical_at_whole_shifts(
    protocol: str, axis: str
) -> None:
    shifts = [Fraction(-5, 2), -1, EIGHTH, QUARTER, HALF, 1, 2, Fraction(7, 3)]
    result = shift_stability(
        nn.Identity(), noise(), window_px=64, shifts=shifts, axis=axis, protocol=protocol, margins_px=[0, 4]
    )
    for margin in result.margins_px:
        rows = result.summary(margin)["per_shift"]
        for shift, row in zip(shifts, rows, strict=True):
            if isinstance(shift, int):
                assert row["n_identical"] == 2
            assert row["mean_db"] > 100


def test_identity_on_real_label_maps(real_data: Path) -> None:
    """Hard edges ring under the sinc, on both sides alike: over 100 dB all the same, also while panning."""
    pairs = PairedImages(real_data / "facades", "test", load_size=143, crop_size=128)
    labels = torch.stack([pairs.canvas(index)[0] for index in range(3)])
    moved = shift_stability(
        nn.Identity(), labels, window_px=128, shifts=[EIGHTH, QUARTER, HALF, 1], protocol="subpixel"
    )
    for margin in moved.margins_px:
        assert (psnr_db(moved.errors[margin]) > 100).all()
    assert pan_flicker(nn.Identity(), labels, window_px=96, speed=HALF, n_frames=8).image_db().min() > 100
    assert eqt(nn.Identity(), labels, window_px=128).db == 150.0


def test_subpixel_at_whole_shifts_is_crop_with_a_wider_margin() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 3, 3, stride=2, padding=1), nn.Upsample(scale_factor=2))
    shifts = [1, 2, 3]
    crop = shift_stability(network, noise(), window_px=64, shifts=shifts, margins_px=[18])
    fine = shift_stability(network, noise(), window_px=64, shifts=shifts, protocol="subpixel", margins_px=[2])
    np.testing.assert_array_equal(crop.errors[18], fine.errors[2])


@pytest.mark.parametrize("shift", [HALF, QUARTER, Fraction(3, 2), -EIGHTH])
def test_subpixel_scores_what_arithmetic_predicts(shift: Fraction) -> None:
    """A wave fixed to the frame, of period 4 px: moved by d it differs by 2 sin(pi d / 4) of its height."""
    height = 0.2
    pattern = height * torch.cos(math.pi / 2 * torch.arange(64) + 0.3)
    result = shift_stability(
        AddPattern(pattern), noise(), window_px=64, shifts=[shift], protocol="subpixel", margins_px=[0]
    )
    # The compared width holds whole periods, so the mean square of the difference is half its height's.
    width = 64 - abs(round(shift)) - 32
    place = torch.arange(width, dtype=torch.float64) + 16 + max(round(shift), 0)
    moved = torch.cos(math.pi / 2 * (place - float(shift)) + 0.3)
    mse = (height * (moved - torch.cos(math.pi / 2 * place + 0.3))).square().mean()
    assert result.mean_db(0) == pytest.approx(10 * math.log10(4 / mse), abs=0.01)
    if width % 4 == 0:
        assert mse == pytest.approx((2 * height * math.sin(math.pi * abs(shift) / 4)) ** 2 / 2)


def test_roll_at_fractions_scores_what_arithmetic_predicts() -> None:
    pattern = 0.2 * torch.cos(math.pi / 2 * torch.arange(32))
    result = shift_stability(AddPattern(pattern), noise(40), window_px=32, shifts=[0.5], protocol="roll")
    expected = 10 * math.log10(4 / ((0.4 * math.sin(math.pi / 8)) ** 2 / 2))
    assert result.mean_db(0) == pytest.approx(expected, abs=0.01)


def test_only_real_content_is_moved_into_the_compared_interior() -> None:
    """What is compared equals the wave moved by the formula, though the canvas ends 4 px from the window."""
    rule = make_protocol("subpixel", canvas_px=72, window_px=64)
    canvas = wave(72, 0.3, 0.5)
    offset = (Fraction(5, 2), -QUARTER)
    moved = rule.shifted(canvas, offset)
    truth = wave(72, 0.3, 0.5, 2.5, -0.25)[..., 4:68, 4:68]
    assert inner(moved - truth, 16).abs().max() < 1e-4


@settings(max_examples=20, deadline=None)
@given(st.lists(st.fractions(-4, 4, max_denominator=8), min_size=1, max_size=4))
def test_shared_area_shows_one_place_for_all_shifts(shifts: list[Fraction]) -> None:
    offsets = [(exact(d), exact(-d)) for d in shifts]
    canvas = wave(96, 0.2, 0.0) + wave(96, 0.1, math.pi / 2)  # periodic in the window too, for roll
    for name in ("subpixel", "roll"):
        rule = make_protocol(name, canvas_px=96, window_px=80)
        parts = [rule.shared(rule.shifted(canvas, d), d, offsets) for d in offsets]
        trusted = [inner(part, 16 if name == "subpixel" else 0) for part in parts]
        for part in trusted:
            assert (part - trusted[0]).abs().max() < 3e-4


def test_what_does_not_fit_is_refused_by_name() -> None:
    crop = make_protocol("crop", canvas_px=40, window_px=32)
    with pytest.raises(InputError, match=r"shift 1/2 px: crop .* subpixel"):
        crop.check((HALF, 0), 0)
    small = make_protocol("subpixel", canvas_px=40, window_px=32)
    with pytest.raises(InputError, match=r"window 32 px: subpixel has nothing .* over 33 px"):
        small.check((1, 0), 0)
    fine = make_protocol("subpixel", canvas_px=72, window_px=64)
    fine.check((4, Fraction(-7, 2)), 13)
    with pytest.raises(InputError, match=r"shift 9/2 px.*expected -4\.\.4"):
        fine.check((Fraction(9, 2), 0), 0)
    with pytest.raises(InputError, match=r"margin 16 px.*31 px overlap; expected at most 15"):
        fine.check((1, 0), 16)
    with pytest.raises(InputError, match="65/2 px"):
        make_protocol("roll", canvas_px=32, window_px=32).check((Fraction(65, 2), 0), 0)


def test_fractional_shifts_lead_where_they_are_measured() -> None:
    errors = {0: np.array([[0.1, 0.2, 0.4, 0.8]])}
    stability = Stability("subpixel", ((QUARTER, 0), (HALF, 0), (1, 0), (2, 0)), errors)
    assert stability.over == "fractional shifts"
    db = 10 * np.log10(4 / errors[0])
    assert stability.lead_db(0) == pytest.approx(db[:, :2].mean())
    summary = stability.summary(0)
    assert summary["fractional_mean_db"]["mean"] == pytest.approx(db[:, :2].mean())
    assert summary["fractional_pooled_db"] == pytest.approx(10 * math.log10(4 / 0.15))
    assert summary["odd_mean_db"]["mean"] == pytest.approx(db[:, 2].mean())
    assert [row["dx"] for row in summary["per_shift"]] == [0.25, 0.5, 1, 2]
    whole = stability.select([(1, 0), (2, 0)])
    assert whole.over == "odd shifts"
    assert whole.summary(0)["fractional_mean_db"] is None
