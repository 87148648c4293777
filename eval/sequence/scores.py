"""Flicker of a sequence of frames: what changes from one to the next, as it is and along the motion.

`temporal_flickering` (Huang et al., "VBench", CVPR 2024): the mean absolute difference of successive frames
on 0..255, as the score (255 - mean) / 255. It takes camera and scene to stand still, and VBench measures it
on static videos alone: whatever moves lowers it.

`warp_error` (Lai et al., "Learning Blind Video Temporal Consistency", ECCV 2018, E_warp in the section on
evaluation metrics): frame t is compared with frame t + 1 moved back along the motion of the *input*, where
both show the same place:

    E(t) = sum_i M_i |V_t,i - W(V_t+1)_i|^2 / sum_i M_i,   E = mean of E(t) over t

Here the square is the mean over channels on [0, 1], as in the authors' code, so that E is a mean squared
error and 10 log10(1 / E) its PSNR. In dB it is what `eval_stability --pan` measures where the motion is
known.

Flow errors, and bilinear interpolation of what moves by fractions of a pixel, leave an error even in
sequences that do not flicker. The input's own warp error shows how much, except where the input is flat and
the output is not: there the flow is a guess that the input does not show.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steadypix.data.pictures.frames import Frame
from steadypix.errors import InputError
from steadypix.eval.metrics.decibels import PEAK, psnr_db
from steadypix.eval.sequence.flow import Motion, estimate_motion


@dataclass
class SequenceScores:
    """What was measured of one sequence, a frame after the other; holds one frame and two maps.

    Attributes:
        margin_px: what the warp error leaves out a side, in px of the sequence's own frames.
        changes: mean absolute difference to the next frame on 0..255, one for each pair of frames.
        warp_errors: E(t) of each pair; None where the input's frames share nothing.
        sharpness: total variation of each frame, mean |d/dx| + mean |d/dy| on [0, 1].
        energy: (H, W) sum of squared errors over pairs, 0 where hidden; None before the first pair.
        seen: (H, W) number of pairs in which a pixel is visible.
    """

    margin_px: int = 0
    changes: list[float] = field(default_factory=list)
    warp_errors: list[float | None] = field(default_factory=list)
    sharpness: list[float] = field(default_factory=list)
    energy: NDArray[np.float64] | None = None
    seen: NDArray[np.int64] | None = None
    _before: Frame | None = None

    def add(self, frame: Frame, motion: Motion | None) -> None:
        """Take the next frame, (H, W, C) in [0, 1].

        Args:
            frame: of one size and number of channels in all calls.
            motion: from the frame before to this one, at this sequence's size; None for the first frame.
        """
        self.sharpness.append(_total_variation(frame))
        if self._before is not None and motion is not None:
            self.changes.append(_change(self._before, frame))
            self._add_warped(motion.squared_error(self._before, frame), motion.visible)
        self._before = frame

    def _add_warped(self, errors: NDArray[np.float64], visible: NDArray[np.bool_]) -> None:
        inner = np.zeros_like(visible)
        rows, columns = (slice(self.margin_px, side - self.margin_px) for side in visible.shape)
        inner[rows, columns] = visible[rows, columns]
        if self.energy is None or self.seen is None:
            self.energy, self.seen = np.zeros(errors.shape), np.zeros(errors.shape, np.int64)
        errors = np.where(inner, errors, 0.0)
        self.energy += errors
        self.seen += inner
        count = int(inner.sum())
        self.warp_errors.append(float(errors.sum() / count) if count else None)

    def temporal_flickering(self) -> float:
        """Return VBench's score: 1 where nothing changes."""
        return (255 - float(np.mean(self.changes))) / 255

    def warp_error(self) -> float | None:
        """Return E; None if no pair of frames can be compared."""
        found = [error for error in self.warp_errors if error is not None]
        return float(np.mean(found)) if found else None

    def summary(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        error = self.warp_error()
        return {
            "temporal_flickering": self.temporal_flickering(),
            "warp_error": error,
            "warp_db": None if error is None else error_db(error),
            "tv": float(np.mean(self.sharpness)),
            "pairs": {"change": self.changes, "warp_error": self.warp_errors},
        }


def error_db(error: float) -> float:
    """Return the PSNR of a mean squared error on [0, 1]; none at all counts as 150 dB, as everywhere here."""
    return float(psnr_db(PEAK**2 * error))


def temporal_flickering(frames: Iterable[Frame]) -> float:
    """Return VBench's temporal flickering of a sequence: 1 for one that stands still, 0 at worst.

    Of use where nothing should move: camera and scene stand still.

    Args:
        frames: (H, W, C) floats in [0, 1], one after the other; two are held at a time.

    Raises:
        InputError: for fewer than two frames, of unequal shapes, or values outside of [0, 1].

    >>> temporal_flickering([np.zeros((8, 8, 3)), np.full((8, 8, 3), 0.25)])
    0.75
    """
    changes, before = [], None
    for number, frame in enumerate(frames, 1):
        checked = _checked(frame, f"frame {number}", before)
        if before is not None:
            changes.append(_change(before, checked))
        before = checked
    if not changes:
        raise too_few(0 if before is None else 1)
    return (255 - float(np.mean(changes))) / 255


def warp_error(inputs: Iterable[Frame], outputs: Iterable[Frame], *, margin_px: int = 0) -> float:
    """Return how much outputs flicker along the motion of their inputs (Lai et al. 2018): E above.

    Compare with `warp_error(inputs, inputs)`, what errors of the flow leave; 10 log10(1 / E) is in dB. Needs
    OpenCV (`pip install 'steadypix[flow]'`).

    Args:
        inputs: frames (H, W, C), floats in [0, 1], of one or three channels and at least 16 px a side.
        outputs: as many of the same size, or of a whole multiple of it.
        margin_px: what is left out a side, in px of the outputs.

    Raises:
        InputError: if there are fewer than two frames, their numbers or sizes do not fit, values lie outside
            of [0, 1], no place is in two frames, or OpenCV is missing.
    """
    scores = SequenceScores(margin_px)
    source: Frame | None = None
    made: Frame | None = None
    pairs = zip_longest(inputs, outputs)
    for number, (entered, left) in enumerate(pairs, 1):
        if entered is None or left is None:
            raise InputError(
                f"{'inputs' if entered is None else 'outputs'}: {number - 1} frames; expected more"
            )
        following = _checked(entered, f"input {number}", source)
        made = _checked(left, f"output {number}", made)
        factor = enlargement(made, following, f"output {number}")
        check_margin(margin_px, made)
        motion = None if source is None else estimate_motion(source, following).enlarged(factor)
        scores.add(made, motion)
        source = following
    if not scores.changes:
        raise too_few(0 if source is None else 1)
    error = scores.warp_error()
    if error is None:
        raise InputError(
            "the flow finds no place that two frames show; expected successive frames of one scene"
        )
    return error


def enlargement(output: Frame, source: Frame, name: str) -> int:
    """Return by which whole factor a frame is larger than its input.

    Raises:
        InputError: naming the frame, if it is not.
    """
    (height, width), (source_height, source_width) = output.shape[:2], source.shape[:2]
    factor = height // source_height
    if factor < 1 or (height, width) != (factor * source_height, factor * source_width):
        raise InputError(
            f"{name}: is {width} x {height} px and the input {source_width} x {source_height} px; expected "
            "the same size, or a whole multiple of it"
        )
    return factor


def too_few(count: int) -> InputError:
    """Return the error that a sequence has too few frames."""
    return InputError(f"{count} frame{'' if count == 1 else 's'}; expected at least 2, which flicker needs")


def check_margin(margin_px: int, frame: Frame) -> None:
    """Refuse a margin that leaves nothing of a frame.

    Raises:
        InputError: naming the margin.
    """
    height, width = frame.shape[:2]
    if 2 * margin_px >= min(height, width):
        raise InputError(f"a margin of {margin_px} px leaves nothing of {width} x {height} px")


def _checked(frame: Frame, name: str, before: Frame | None) -> Frame:
    if frame.ndim != 3 or frame.dtype.kind != "f" or not (frame.min() >= 0 and frame.max() <= 1):
        raise InputError(f"{name}: is {frame.shape} {frame.dtype}; expected floats (H, W, C) in [0, 1]")
    if before is not None and frame.shape != before.shape:
        raise InputError(f"{name}: is {frame.shape}; expected {before.shape}, as the frame before it")
    return frame.astype(np.float32, copy=False)


def _change(before: Frame, after: Frame) -> float:
    """Return the mean absolute difference on 0..255."""
    return float(np.abs(after - before).mean(dtype=np.float64)) * 255


def _total_variation(frame: Frame) -> float:
    """Return mean |d/dx| + mean |d/dy|, as `quality` measures it on tensors."""
    return sum(float(np.abs(np.diff(frame, axis=axis)).mean(dtype=np.float64)) for axis in (0, 1))
