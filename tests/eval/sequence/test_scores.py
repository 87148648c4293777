"""Flicker of sequences against slow loops, against `--pan`, and by its laws."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from steadypix import SyntheticPairs, load_generator, temporal_flickering, warp_error
from steadypix.errors import InputError
from steadypix.eval.metrics.pan import PanSpeed, pan_flicker
from steadypix.eval.metrics.quality import total_variation
from steadypix.eval.sequence.flow import Motion, estimate_motion
from steadypix.eval.sequence.scores import SequenceScores, error_db
from tests.eval.sequence.sequences import as_read, pan, texture
from tests.networks import AddPattern

needs_opencv = pytest.mark.usefixtures("opencv")


@pytest.fixture
def opencv() -> None:
    pytest.importorskip("cv2", reason="needs OpenCV: pip install 'steadypix[flow]'")


def frames(count: int, height: int = 24, width: int = 32) -> list[np.ndarray]:
    return [texture(height, width, seed=seed) for seed in range(count)]


# ---- temporal_flickering ----------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 5), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.integers(0, 99))
def test_temporal_flickering_is_a_slow_loop_on_8_bits(
    count: int, height: int, width: int, channels: int, seed: int
) -> None:
    levels = np.random.default_rng(seed).integers(0, 256, (count, height, width, channels))
    means = []
    for before, after in zip(levels[:-1].tolist(), levels[1:].tolist(), strict=True):
        differences = [
            abs(before[y][x][c] - after[y][x][c])
            for y in range(height)
            for x in range(width)
            for c in range(channels)
        ]
        means.append(sum(differences) / len(differences))
    expected = (255 - sum(means) / len(means)) / 255
    assert temporal_flickering(iter(levels.astype(np.float32) / 255)) == pytest.approx(expected, abs=1e-6)


def test_what_stands_still_does_not_flicker_and_what_alternates_scores_nothing() -> None:
    still = texture(8, 8)
    assert temporal_flickering([still] * 3) == 1.0
    black, white = np.zeros((4, 4, 3)), np.ones((4, 4, 3))
    assert temporal_flickering([black, white, black]) == 0.0


@pytest.mark.parametrize(
    ("given", "culprit"),
    [
        ([], "0 frames"),
        ([np.zeros((4, 4, 3))], "1 frame; expected at least 2"),
        ([np.zeros((4, 4, 3)), np.zeros((4, 5, 3))], r"frame 2: is \(4, 5, 3\); expected \(4, 4, 3\)"),
        ([np.zeros((4, 4, 3)), np.full((4, 4, 3), 1.5)], r"frame 2: .* in \[0, 1\]"),
        ([np.zeros((4, 4, 3)), np.full((4, 4, 3), np.nan)], r"frame 2: .* in \[0, 1\]"),
        ([np.zeros((4, 4, 3), np.uint8)] * 2, "frame 1: .* uint8; expected floats"),
        ([np.zeros((4, 4))] * 2, r"frame 1: .*\(H, W, C\)"),
    ],
)
def test_what_is_no_sequence_is_refused(given: list[np.ndarray], culprit: str) -> None:
    with pytest.raises(InputError, match=culprit):
        temporal_flickering(given)


# ---- warp_error -------------------------------------------------------------------------------------


@needs_opencv
def test_is_the_mean_of_a_slow_loop_over_visible_pixels() -> None:
    """Along the same motion: each visible pixel is looked up by hand."""
    inputs = as_read(pan(texture(32, 48), (40, 32), speed=2, count=3))
    outputs = frames(3, 32, 40)
    means = []
    for number in range(2):
        motion = estimate_motion(inputs[number], inputs[number + 1])
        squares = []
        for y in range(3, 29):
            for x in range(3, 37):
                if not motion.visible[y, x]:
                    continue
                u, v = (float(part) for part in motion.flow[y, x])
                left, top = math.floor(x + u), math.floor(y + v)
                a, b = x + u - left, y + v - top
                after = outputs[number + 1].astype(np.float64)
                right, low = min(left + 1, 39), min(top + 1, 31)
                above = after[top, left] * (1 - a) + after[top, right] * a
                below = after[low, left] * (1 - a) + after[low, right] * a
                squares.append(((outputs[number][y, x] - above * (1 - b) - below * b) ** 2).mean())
        means.append(np.mean(squares))
    assert warp_error(inputs, outputs, margin_px=3) == pytest.approx(np.mean(means), rel=1e-4)


@needs_opencv
def test_where_the_input_stands_still_it_is_the_squared_difference() -> None:
    still = [texture(20, 20)] * 3
    assert warp_error(still, still) == 0.0
    outputs = frames(3, 20, 20)
    expected = np.mean([np.square(a - b).mean() for a, b in itertools.pairwise(outputs)])
    assert warp_error(iter(still), iter(outputs)) == pytest.approx(expected, rel=1e-5)


@needs_opencv
@pytest.mark.parametrize("speed", [1, 3])
def test_a_pan_by_whole_pixels_leaves_next_to_nothing(speed: int) -> None:
    """Frames that only move do not flicker: over 60 dB all over, over 100 dB away from the border."""
    inputs = pan(texture(96, 150), (128, 96), speed=speed, count=5)
    assert error_db(warp_error(inputs, inputs)) > 60
    assert error_db(warp_error(inputs, inputs, margin_px=24)) > 100
    assert temporal_flickering(inputs) < 0.98


@needs_opencv
@pytest.mark.parametrize("scene", [0, 1, 2])
def test_the_floor_of_a_procedural_pan(scene: int) -> None:
    """Photos of facades: over 60 dB all over, over 110 dB less 16 px a side."""
    canvas = SyntheticPairs(count=3, load_size=192, crop_size=128, seed=1).canvas(scene)[1][None]
    inputs = [to_frame(window) for window in PanSpeed(192, 128, 1, 5).windows(canvas)]
    assert error_db(warp_error(inputs, inputs)) > 60
    assert error_db(warp_error(inputs, inputs, margin_px=16)) > 110


def to_frame(picture: torch.Tensor) -> np.ndarray:
    """(1, C, H, W) in [-1, 1] as (H, W, C) in [0, 1]."""
    return ((picture[0].permute(1, 2, 0).numpy() + 1) / 2).astype(np.float32)


def pan_and_warp(network: nn.Module, canvas: torch.Tensor, speed: int) -> tuple[float, float]:
    """The flicker of a network along a pan, dB: with the motion known, and with the flow of its input."""
    path = PanSpeed(canvas.shape[-1], 128, speed, 6)
    windows = list(path.windows(canvas))
    with torch.no_grad():
        outputs = [to_frame(network(window)) for window in windows]
    known = pan_flicker(network, canvas, window_px=128, speed=speed, n_frames=6).image_db()[0]
    inputs = [to_frame(window) for window in windows]
    return float(known), error_db(warp_error(inputs, outputs, margin_px=path.margin_px))


@needs_opencv
@pytest.mark.parametrize("speed", [1, 2])
def test_agrees_with_the_pan_of_eval_stability_where_flicker_is_the_same_everywhere(speed: int) -> None:
    """Columns of period 4 px that stay where they are: within 0.05 dB."""
    canvas = torch.from_numpy(texture(180, 180) * 1.6 - 0.8).permute(2, 0, 1)[None]
    network = AddPattern(0.15 * torch.tensor([1.0, 1.0, -1.0, -1.0]).repeat(32))
    known, measured = pan_and_warp(network, canvas, speed)
    assert known < 25
    assert measured == pytest.approx(known, abs=0.05)


@needs_opencv
@pytest.mark.parametrize("scene", [0, 1, 2])
def test_agrees_with_the_pan_of_eval_stability_for_a_network(scene: int) -> None:
    """Strided layers on photos: within 0.5 dB, though a pan compares only what all frames show."""
    torch.manual_seed(scene)
    network = nn.Sequential(nn.Conv2d(3, 3, 3, stride=2, padding=1), nn.Upsample(scale_factor=2), nn.Tanh())
    canvas = SyntheticPairs(count=3, load_size=192, crop_size=128, seed=1).canvas(scene)[1][None]
    known, measured = pan_and_warp(network, canvas, 1)
    assert known < 35
    assert measured == pytest.approx(known, abs=0.5)


@pytest.mark.slow
@needs_opencv
@pytest.mark.parametrize(("name", "within_db"), [("facades-strided", 0.6), ("facades-steady", 2.0)])
def test_agrees_with_the_pan_of_eval_stability_for_released_generators(name: str, within_db: float) -> None:
    """At 22 and 49 dB, if the flow is that of the photos; its own errors count at 49 dB."""
    pair = SyntheticPairs(count=1, load_size=192, crop_size=128, seed=1).canvas(0)
    labels, photo = (part[None] for part in pair)
    path, network = PanSpeed(192, 128, 1, 6), load_generator(name)
    with torch.no_grad():
        outputs = [to_frame(network(window)) for window in path.windows(labels)]
    known = pan_flicker(network, labels, window_px=128, n_frames=6).image_db()[0]
    flow_of = [to_frame(window) for window in path.windows(photo)]
    assert error_db(warp_error(flow_of, outputs, margin_px=16)) == pytest.approx(known, abs=within_db)


@needs_opencv
def test_larger_outputs_are_compared_along_the_enlarged_flow() -> None:
    inputs = pan(texture(64, 80), (64, 64), speed=2, count=4)
    larger = [frame.repeat(2, axis=0).repeat(2, axis=1) for frame in inputs]
    assert error_db(warp_error(inputs, larger, margin_px=48)) > 90
    moved = [np.roll(frame, number, axis=1) for number, frame in enumerate(larger)]
    assert error_db(warp_error(inputs, moved, margin_px=48)) < 50


@needs_opencv
@pytest.mark.parametrize(
    ("inputs", "outputs", "margin_px", "culprit"),
    [
        (frames(1), frames(1), 0, "1 frame; expected at least 2"),
        ([], [], 0, "0 frames"),
        (frames(3), frames(2), 0, "outputs: 2 frames; expected more"),
        (frames(2), frames(3), 0, "inputs: 2 frames; expected more"),
        (frames(2), frames(2, 48, 32), 0, "output 1: is 32 x 48 px and the input 32 x 24 px; .*multiple"),
        (frames(2), frames(2, 12, 16), 0, "output 1: is 16 x 12 px"),
        (frames(2), frames(2), 12, "a margin of 12 px leaves nothing of 32 x 24 px"),
        ([np.zeros((24, 32, 3), np.float32)] * 2, [texture(24, 32) * 2] * 2, 0, r"output 1: .*\[0, 1\]"),
    ],
)
def test_what_does_not_fit_is_refused(
    inputs: list[np.ndarray], outputs: list[np.ndarray], margin_px: int, culprit: str
) -> None:
    with pytest.raises(InputError, match=culprit):
        warp_error(inputs, outputs, margin_px=margin_px)


# ---- the accumulator --------------------------------------------------------------------------------


def scored(outputs: list[np.ndarray], visible: list[np.ndarray], margin_px: int = 0) -> SequenceScores:
    scores = SequenceScores(margin_px)
    scores.add(outputs[0], None)
    for output, seen in zip(outputs[1:], visible, strict=True):
        scores.add(output, Motion(np.zeros((*seen.shape, 2), np.float32), seen))
    return scores


def test_a_pair_that_shares_nothing_is_left_out() -> None:
    outputs = frames(3)
    seen, hidden = np.ones((24, 32), np.bool_), np.zeros((24, 32), np.bool_)
    scores = scored(outputs, [hidden, seen])
    assert scores.warp_errors == [None, pytest.approx(np.square(outputs[1] - outputs[2]).mean(), rel=1e-5)]
    assert scores.warp_error() == scores.warp_errors[1]
    none = scored(outputs, [hidden, hidden]).summary()
    assert none["warp_error"] is None
    assert none["warp_db"] is None


def test_the_margin_is_left_out() -> None:
    outputs = [np.zeros((24, 32, 3), np.float32), np.zeros((24, 32, 3), np.float32)]
    outputs[1][:4] = outputs[1][:, -4:] = 1.0
    outputs[1][10, 10] = 0.5
    scores = scored(outputs, [np.ones((24, 32), np.bool_)], margin_px=4)
    assert scores.warp_error() == pytest.approx(0.25 / (16 * 24), rel=1e-6)
    assert scores.energy is not None
    assert np.count_nonzero(scores.energy) == 1
    assert scores.seen is not None
    assert scores.seen.sum() == 16 * 24


def test_sharpness_is_that_of_the_other_measures() -> None:
    scores = scored(frames(2), [np.ones((24, 32), np.bool_)])
    picture = torch.from_numpy(frames(1)[0]).permute(2, 0, 1) * 2 - 1
    assert scores.sharpness[0] == pytest.approx(total_variation(picture), rel=1e-5)


def test_decibels() -> None:
    assert error_db(0.01) == pytest.approx(20.0)
    assert error_db(0.0) == 150.0
