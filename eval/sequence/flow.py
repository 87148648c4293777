"""How one frame moves to the next: optical flow, what both frames show, and warping along it.

Flow is that of OpenCV's DIS (Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016),
which needs neither weights nor a GPU. It is refined at full size: stopping at half or a quarter of it, as
the presets do, leaves errors of up to 0.2 px on a pan by whole pixels, and so a warp error where nothing
flickers.

*Visible* is what passes two checks of Ruder et al., "Artistic style transfer for videos", GCPR 2016, section
3.2, which Lai et al. (2018) use too. With w the flow of a pixel and b the backward flow where it arrives:

    disoccluded         |w + b|^2 > 0.01 (|w|^2 + |b|^2) + 0.5
    motion boundary     |grad u|^2 + |grad v|^2 > 0.01 |w|^2 + 0.002,   w = (u, v)

and what arrives outside of the next frame is hidden as well.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steadypix.data.pictures.frames import Frame
from steadypix.errors import InputError

MISSING = "the warp error needs OpenCV, which is not installed; expected: pip install 'steadypix[flow]'"
METHOD = (
    "DIS (OpenCV, preset medium, finest scale 0), forward-backward check and motion boundaries of Ruder 2016"
)
MIN_SIDE_PX = 16  # of a frame: DIS matches patches of 8 px, from half the size on
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601

# Of each point: which pixel is left and above, and how far right of it and below it the point lies.
Taps = tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True)
class Motion:
    """How the pixels of a frame move to the next frame.

    Attributes:
        flow: (H, W, 2) float32 in px: what is at (x, y) is at (x + u, y + v) in the next frame.
        visible: (H, W) bool: whether both frames show it.
    """

    flow: NDArray[np.float32]
    visible: NDArray[np.bool_]

    def warp(self, following: Frame) -> Frame:
        """Return the next frame (H, W, C) as it is seen from this one, interpolated bilinearly."""
        return _gather(following, self._taps)

    def squared_error(self, frame: Frame, following: Frame) -> NDArray[np.float64]:
        """Return the squared difference of a frame and the next one, warped, mean over channels: (H, W).

        What is hidden counts as 0.
        """
        difference = frame - self.warp(following)
        return np.where(self.visible, np.square(difference, dtype=np.float64).mean(axis=2), 0.0)

    def enlarged(self, factor: int) -> Motion:
        """Return the motion of frames that are a whole `factor` times as large."""
        if factor == 1:
            return self
        height, width = (side * factor for side in self.visible.shape)
        # Centres of pixels, at the smaller size.
        y, x = ((np.indices((height, width)) + 0.5) / factor - 0.5).astype(np.float32)
        flow = _gather(self.flow, _taps(x, y, self.visible.shape)) * np.float32(factor)
        inside = _inside(*_arrivals(flow))
        return Motion(flow, self.visible.repeat(factor, axis=0).repeat(factor, axis=1) & inside)

    @functools.cached_property
    def _taps(self) -> Taps:
        return _taps(*_arrivals(self.flow), self.visible.shape)


def estimate_motion(frame: Frame, following: Frame) -> Motion:
    """Return how a frame moves to the next, both (H, W, C) in [0, 1] with one or three channels.

    Equal frames do not move.

    Raises:
        InputError: if OpenCV is not installed, or a side has less than `MIN_SIDE_PX`.
    """
    cv2 = require_opencv()
    height, width = frame.shape[:2]
    if min(height, width) < MIN_SIDE_PX:
        raise InputError(
            f"a frame of {width} x {height} px is too small for flow; expected {MIN_SIDE_PX} px a side"
        )
    if np.array_equal(frame, following):
        return Motion(np.zeros((height, width, 2), np.float32), np.ones((height, width), np.bool_))
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setFinestScale(0)
    first, second = _gray(frame), _gray(following)
    forward, backward = search.calc(first, second, None), search.calc(second, first, None)
    return Motion(forward, visible(forward, backward))


def visible(forward: NDArray[np.float32], backward: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which pixels of a frame the next one shows too, (H, W), by the checks above.

    Args:
        forward: flow from the frame to the next, (H, W, 2) in px.
        backward: flow from the next frame to this one, likewise.
    """
    x, y = _arrivals(forward)
    returning = _gather(backward, _taps(x, y, x.shape))
    size, there_and_back = _square(forward), _square(forward + returning)
    disoccluded = there_and_back > 0.01 * (size + _square(returning)) + 0.5
    down, across = (np.asarray(slope, np.float32) for slope in np.gradient(forward, axis=(0, 1)))
    steepness = _square(down) + _square(across)
    return _inside(x, y) & ~disoccluded & ~(steepness > 0.01 * size + 0.002)


def require_opencv() -> Any:
    """Return OpenCV's module.

    Raises:
        InputError: saying what to install, if it is missing.
    """
    try:
        import cv2
    except ImportError:
        raise InputError(MISSING) from None
    return cv2


def _gray(frame: Frame) -> NDArray[np.uint8]:
    """Return what DIS takes: luma, 8 bits."""
    luma = frame @ LUMA if frame.shape[2] == 3 else frame[..., 0]
    return np.ascontiguousarray(np.rint(luma * 255), np.uint8)


def _square(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the squared length of vectors (H, W, 2)."""
    return np.square(vectors).sum(axis=2)


def _arrivals(flow: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the x and the y at which each pixel arrives."""
    height, width = flow.shape[:2]
    x = flow[..., 0] + np.arange(width, dtype=np.float32)
    y = flow[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    return np.asarray(x, np.float32), np.asarray(y, np.float32)


def _inside(x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.bool_]:
    height, width = x.shape
    return (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)


def _taps(x: NDArray[np.float32], y: NDArray[np.float32], shape: tuple[int, ...]) -> Taps:
    """Return how to interpolate a frame of `shape` at points (x, y); those outside are moved to its edge."""
    height, width = shape
    x, y = x.clip(0, width - 1), y.clip(0, height - 1)
    left = np.minimum(x.astype(np.intp), width - 2)
    above = np.minimum(y.astype(np.intp), height - 2)
    return (
        above * width + left,
        (x - left).astype(np.float32)[..., None],
        (y - above).astype(np.float32)[..., None],
    )


def _gather(frame: NDArray[np.float32], taps: Taps) -> NDArray[np.float32]:
    """Interpolate (H, W, C) bilinearly; at whole pixels it is the pixel, to the bit."""
    width, pixels = frame.shape[1], frame.reshape(-1, frame.shape[2])
    place, right, below = taps

    def row(place: NDArray[np.intp]) -> NDArray[np.float32]:
        return pixels[place] * (1 - right) + pixels[place + 1] * right

    return row(place) * (1 - below) + row(place + width) * below
