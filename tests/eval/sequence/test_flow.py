"""Motion between frames: warping against SciPy, what a moving square hides, flow where it is known."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from steadypix.errors import InputError
from steadypix.eval.sequence.flow import Motion, estimate_motion, visible
from tests.eval.sequence.sequences import pan, texture

needs_opencv = pytest.mark.usefixtures("opencv")


@pytest.fixture
def opencv() -> None:
    pytest.importorskip("cv2", reason="needs OpenCV: pip install 'steadypix[flow]'")


def constant(height: int, width: int, u: float, v: float) -> np.ndarray:
    return np.broadcast_to(np.array([u, v], np.float32), (height, width, 2)).copy()


def everywhere(height: int, width: int) -> np.ndarray:
    return np.ones((height, width), np.bool_)


# ---- warping ----------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 20), st.integers(2, 20), st.integers(1, 4), st.integers(0, 99))
def test_warping_is_scipys_map_coordinates(height: int, width: int, channels: int, seed: int) -> None:
    """Linear, and from the nearest pixel of the edge outside."""
    rng = np.random.default_rng(seed)
    frame = rng.random((height, width, channels), dtype=np.float32)
    flow = rng.normal(scale=5, size=(height, width, 2)).astype(np.float32)
    warped = Motion(flow, everywhere(height, width)).warp(frame)
    y, x = np.indices((height, width), dtype=np.float64)
    places = [y + flow[..., 1], x + flow[..., 0]]
    for channel in range(channels):
        theirs = map_coordinates(frame[..., channel].astype(np.float64), places, order=1, mode="nearest")
        np.testing.assert_allclose(warped[..., channel], theirs, atol=5e-6)


def test_warping_by_whole_pixels_is_slicing_to_the_bit() -> None:
    frame = texture(20, 30)
    warped = Motion(constant(20, 30, 3, -2), everywhere(20, 30)).warp(frame)
    assert np.array_equal(warped[2:, :-3], frame[:-2, 3:])


def test_the_error_is_the_mean_over_channels_and_nothing_where_hidden() -> None:
    before, after = np.zeros((16, 16, 3), np.float32), np.zeros((16, 16, 3), np.float32)
    after[4, 5] = (0.3, 0.0, 0.6)
    after[9, 9] = 1.0
    seen = everywhere(16, 16)
    seen[9, 9] = False
    error = Motion(constant(16, 16, 0, 0), seen).squared_error(before, after)
    assert error[4, 5] == pytest.approx((0.09 + 0.36) / 3, rel=1e-6)
    assert np.count_nonzero(error) == 1


@pytest.mark.parametrize("factor", [2, 3])
def test_an_enlarged_motion_moves_whole_blocks_and_hides_them(factor: int) -> None:
    seen = everywhere(16, 20)
    seen[3, 4] = False
    larger = Motion(constant(16, 20, 2, 1), seen).enlarged(factor)
    frame = texture(16 * factor, 20 * factor)
    assert np.array_equal(larger.warp(frame)[:-factor, : -2 * factor], frame[factor:, 2 * factor :])
    assert not larger.visible[3 * factor : 4 * factor, 4 * factor : 5 * factor].any()
    inner = larger.visible[:-factor, : -2 * factor]
    assert (~inner).sum() == factor**2


def test_an_enlarged_motion_follows_a_zoom() -> None:
    """Flow grows from pixel to pixel, so centres of pixels must be where they are."""
    y, x = np.indices((24, 24), dtype=np.float32)
    zoom = np.stack([0.1 * (x - 11.5), 0.1 * (y - 11.5)], axis=2)
    larger = Motion(zoom, everywhere(24, 24)).enlarged(2)
    y, x = np.indices((48, 48), dtype=np.float32)
    expected = np.stack([0.1 * (x - 23.5), 0.1 * (y - 23.5)], axis=2)
    np.testing.assert_allclose(larger.flow[2:-2, 2:-2], expected[2:-2, 2:-2], atol=1e-5)


# ---- what both frames show --------------------------------------------------------------------------

SIDE, LEFT, SQUARE, STEP = 96, 28, 32, 6  # a square of 32 px moves right by 6 px over a still background


def square_flows() -> tuple[np.ndarray, np.ndarray]:
    forward, backward = constant(SIDE, SIDE, 0, 0), constant(SIDE, SIDE, 0, 0)
    rows = slice(LEFT, LEFT + SQUARE)
    forward[rows, LEFT : LEFT + SQUARE, 0] = STEP
    backward[rows, LEFT + STEP : LEFT + STEP + SQUARE, 0] = -STEP
    return forward, backward


def occluded() -> np.ndarray:
    """What the square covers in the next frame, but not in this one."""
    hidden = np.zeros((SIDE, SIDE), np.bool_)
    hidden[LEFT : LEFT + SQUARE, LEFT + SQUARE : LEFT + SQUARE + STEP] = True
    return hidden


def edge() -> np.ndarray:
    """The square's outline in this frame, a pixel on either side: there the true flow jumps."""
    inside = np.zeros((SIDE, SIDE), np.bool_)
    inside[LEFT : LEFT + SQUARE, LEFT : LEFT + SQUARE] = True
    padded = np.pad(inside, 1, mode="edge")
    crossed = [padded[1:-1, :-2], padded[1:-1, 2:], padded[:-2, 1:-1], padded[2:, 1:-1]]
    return np.any([neighbour != inside for neighbour in crossed], axis=0)


def test_hidden_is_what_a_moving_square_covers_and_its_outline() -> None:
    seen = visible(*square_flows())
    assert np.array_equal(~seen, occluded() | edge())


def test_hidden_is_what_leaves_the_frame() -> None:
    forward, backward = constant(20, 30, 4, -3), constant(20, 30, -4, 3)
    seen = visible(forward, backward)
    assert seen[3:, :-4].all()
    assert not seen[:3].any()
    assert not seen[:, -4:].any()


def test_a_flow_that_does_not_come_back_is_hidden() -> None:
    assert visible(constant(20, 20, 0.3, 0), constant(20, 20, 0.3, 0)).any()  # 0.36 < 0.5
    assert not visible(constant(20, 20, 0.5, 0), constant(20, 20, 0.5, 0)).any()  # 1 > 0.5


@needs_opencv
def test_the_covered_part_of_a_real_square_is_found() -> None:
    background, square = texture(SIDE, SIDE), texture(SQUARE, SQUARE, seed=1)
    frames = []
    for left in (LEFT, LEFT + STEP):
        frame = background.copy()
        frame[LEFT : LEFT + SQUARE, left : left + SQUARE] = square
        frames.append(frame)
    motion = estimate_motion(*frames)
    assert motion.visible[occluded()].mean() < 0.1
    far = np.ones((SIDE, SIDE), np.bool_)
    far[LEFT - 8 : LEFT + SQUARE + 8, LEFT - 8 : LEFT + SQUARE + STEP + 8] = False
    assert motion.visible[far].mean() > 0.95
    middle = (slice(LEFT + 6, LEFT + SQUARE - 6),) * 2
    assert motion.visible[middle].all()
    np.testing.assert_allclose(motion.flow[middle], constant(20, 20, STEP, 0), atol=0.1)


# ---- flow -------------------------------------------------------------------------------------------


@needs_opencv
@pytest.mark.parametrize("sigma_px", [0.5, 1.5, 3.0])
@pytest.mark.parametrize("speed", [1, 3, 7])
def test_a_pan_by_whole_pixels_is_found_to_a_thousandth(sigma_px: float, speed: int) -> None:
    first, second = pan(texture(96, 140, sigma_px=sigma_px), (128, 96), speed=speed, count=2)
    motion = estimate_motion(first, second)
    inner = (slice(24, -24), slice(24, -24))
    np.testing.assert_allclose(motion.flow[inner], constant(48, 80, -speed, 0), atol=1e-3)
    assert motion.visible[inner].all()
    assert motion.visible.mean() > 0.85


@needs_opencv
def test_equal_frames_do_not_move() -> None:
    frame = texture(40, 40)
    motion = estimate_motion(frame, frame.copy())
    assert not motion.flow.any()
    assert motion.visible.all()


@needs_opencv
def test_gray_frames_move_like_coloured_ones() -> None:
    gray = texture(48, 60)[..., :1]
    frames = pan(gray, (48, 48), speed=2, count=2)
    coloured = [frame.repeat(3, axis=2) for frame in frames]
    assert np.array_equal(estimate_motion(*frames).flow, estimate_motion(*coloured).flow)


@needs_opencv
def test_what_is_too_small_for_flow_is_refused() -> None:
    with pytest.raises(InputError, match="15 x 40 px is too small for flow; expected 16 px"):
        estimate_motion(texture(40, 15), texture(40, 15, seed=1))


def test_without_opencv_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(InputError, match=r"needs OpenCV.*steadypix\[flow\]"):
        estimate_motion(texture(20, 20), texture(20, 20, seed=1))
