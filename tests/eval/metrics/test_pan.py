"""Flicker of a panning window against a slow loop, against arithmetic, and by its laws."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from steadypix.errors import InputError
from steadypix.eval.metrics.pan import (
    PanSpeed,
    canvas_for,
    pan_flicker,
    pan_offsets,
    parse_speeds,
    temporal_energy,
)
from steadypix.eval.shifts.offsets import Shift, longest
from tests.networks import AddPattern

HALF = Fraction(1, 2)


def pictures(size: int, count: int = 2) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def canvas_of(window: int, speed: Shift, n_frames: int, axis: str = "x") -> int:
    return canvas_for(window, pan_offsets(speed, n_frames=n_frames, axis=axis))


# ---- the path ---------------------------------------------------------------------------------------


def test_speeds() -> None:
    assert parse_speeds("1,1/2") == [HALF, 1]
    for text, culprit in (("0", "speed 0"), ("-1", "speed -1"), ("fast", "'fast'")):
        with pytest.raises(InputError, match=culprit):
            parse_speeds(text)


@given(st.fractions(Fraction(1, 8), 9, max_denominator=8), st.integers(2, 40))
def test_the_path_is_steady_starts_whole_and_fits_its_canvas(speed: Fraction, n_frames: int) -> None:
    offsets = pan_offsets(speed, n_frames=n_frames, axis="y")
    assert len(offsets) == n_frames
    assert isinstance(offsets[0][1], int)
    assert all(b[1] - a[1] == -speed for a, b in itertools.pairwise(offsets))
    room = (canvas_for(50, offsets) - 50) // 2
    assert 16 <= room - max(map(longest, offsets)) < 17


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="at least 2"):
        pan_offsets(1, n_frames=1)
    with pytest.raises(InputError, match=r"pan at 1 px a frame: needs a canvas of 88 px, not 87"):
        PanSpeed(87, 48, 1, 8)
    with pytest.raises(InputError, match=r"pan at 2 px.*8 frames of 46 px share.*16 px"):
        PanSpeed(200, 46, 2, 8)
    assert PanSpeed(200, 47, 2, 8).region_px == (1, 15)
    with pytest.raises(InputError, match="no pictures"):
        pan_flicker(nn.Identity(), iter(()), window_px=48)


# ---- the measure ------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", ["x", "diagonal"])
def test_equals_a_slow_loop_at_whole_speeds(axis: str) -> None:
    """Each pixel of the scene is looked up in every frame that shows it; NumPy does the rest."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 3, 3, stride=2, padding=1), nn.Upsample(scale_factor=2), nn.Tanh())
    n_frames, window, speed = 6, 56, 2
    side = canvas_of(window, speed, n_frames, axis)
    flicker = pan_flicker(
        network, pictures(side), window_px=window, speed=speed, n_frames=n_frames, axis=axis
    )
    # The camera's own corner in the scene: it starts 5 px back from the middle and moves 2 px a frame.
    lefts = [(side - window) // 2 - 5 + 2 * n for n in range(n_frames)]
    tops = lefts if axis == "diagonal" else [(side - window) // 2] * n_frames
    for image in range(2):
        frames = []
        for left, top in zip(lefts, tops, strict=True):
            with torch.no_grad():
                x = pictures(side)[image : image + 1, :, top : top + window, left : left + window]
                y = network(x)[0].double().numpy()
            rows = slice(max(tops) + 16 - top, min(tops) + window - 16 - top)
            columns = slice(max(lefts) + 16 - left, min(lefts) + window - 16 - left)
            frames.append(y[:, rows, columns])
        video = np.stack(frames)
        assert flicker.region_px == (video.shape[3], video.shape[2])
        assert flicker.differences[image] == pytest.approx((np.diff(video, axis=0) ** 2).mean(), rel=1e-9)
        full = np.abs(np.fft.fft(video, axis=0) / n_frames) ** 2
        both = full.reshape(n_frames, -1).mean(axis=1)
        assert flicker.energies[image] == pytest.approx(
            [both[1] + both[5], both[2] + both[4], both[3]], rel=1e-9
        )


@pytest.mark.parametrize("speed", [1, 3, HALF, Fraction(1, 4), Fraction(3, 2)])
def test_identity_does_not_flicker(speed: Shift) -> None:
    window = 96
    canvas = pictures(canvas_of(window, speed, 8))
    flicker = pan_flicker(nn.Identity(), canvas, window_px=window, speed=speed, n_frames=8)
    assert (flicker.image_db() > 100).all()
    if isinstance(speed, int):
        assert flicker.summary(n_frames=8)["n_identical"] == 2


@pytest.mark.parametrize(("speed", "bin_of_8"), [(1, 4), (2, None), (3, 4)])
def test_fixed_columns_flicker_as_arithmetic_predicts(speed: int, bin_of_8: int | None) -> None:
    """+-a by columns: at odd speeds every pixel changes by 2a a frame, all of it at half a cycle a frame."""
    a, window = 0.1, 64
    canvas = pictures(canvas_of(window, speed, 8))
    flicker = pan_flicker(
        AddPattern(torch.tensor([a, -a]).repeat(32)), canvas, window_px=window, speed=speed, n_frames=8
    )
    summary = flicker.summary(n_frames=8)
    if bin_of_8 is None:
        assert summary["difference_db"]["mean"] > 130
        return
    assert summary["difference_db"]["mean"] == pytest.approx(10 * math.log10(4 / (2 * a) ** 2), abs=0.01)
    energy = dict(zip(summary["cycles_per_frame"], summary["energy"], strict=True))
    assert energy.pop(0.5) == pytest.approx(a**2, rel=1e-4)
    assert max(energy.values()) < 1e-9


@pytest.mark.parametrize(("speed", "window"), [(HALF, 100), (Fraction(3, 2), 102)])
def test_a_fixed_wave_flickers_as_arithmetic_predicts_at_fractional_speeds(
    speed: Fraction, window: int
) -> None:
    """A wave of period 4 px turns by pi v / 2 a frame: 2 h sin(pi v / 4), all at v / 4 cycles a frame."""
    height, n_frames = 0.2, 8
    pattern = height * torch.cos(math.pi / 2 * torch.arange(window) + 0.3)
    canvas = pictures(canvas_of(window, speed, n_frames))
    flicker = pan_flicker(AddPattern(pattern), canvas, window_px=window, speed=speed, n_frames=n_frames)
    assert flicker.region_px[0] % 4 == 0  # whole periods, so a square's mean is half its height
    step = (2 * height * math.sin(math.pi * float(speed) / 4)) ** 2 / 2
    summary = flicker.summary(n_frames=n_frames)
    assert summary["difference_db"]["mean"] == pytest.approx(10 * math.log10(4 / step), abs=0.01)
    energy = dict(zip(summary["cycles_per_frame"], summary["energy"], strict=True))
    assert energy[float(speed) / 4] == pytest.approx(height**2 / 2, rel=2e-3)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 17), st.integers(0, 99))
def test_energies_add_up_to_the_variance_over_time(n_frames: int, seed: int) -> None:
    frames = torch.from_numpy(np.random.default_rng(seed).normal(size=(n_frames, 2, 3, 4)))
    assert temporal_energy(frames).sum() == pytest.approx(frames.numpy().var(axis=0).mean(), rel=1e-9)
    assert len(temporal_energy(frames)) == n_frames // 2


def test_batch_size_and_the_mode_of_the_network_change_nothing() -> None:
    network = nn.Sequential(nn.Conv2d(3, 3, 3, stride=2, padding=1), nn.Upsample(scale_factor=2)).train()
    canvas = pictures(canvas_of(56, 1, 8))
    one = pan_flicker(network, canvas, window_px=56, n_frames=8, batch_size=1)
    many = pan_flicker(network, iter(canvas.split(1)), window_px=56, n_frames=8, batch_size=5)
    np.testing.assert_allclose(one.differences, many.differences, rtol=1e-4)
    assert network.training
