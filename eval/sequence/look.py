"""Which frames and which part of them a report shows: where outputs flicker most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from steadypix.data.pictures.frames import Frame
from steadypix.eval.charts.drawing import Pixels
from steadypix.eval.sequence.measure import FEW, Measured, side_by_side

CLOSE_UP_PX = 256  # side of the part that is shown, in px of the largest sequence
PROFILE_FRAMES = 96
FILM_FRAMES = 24
STRIP_FRAMES = 3


@dataclass(frozen=True)
class Look:
    """What is shown: frames from `start` up to `stop`, and a part of them in px of the input.

    Attributes:
        start: number of the first frame, from 0.
        stop: number of the frame to end before.
        film: the same of the animation, within them.
        strip: the same of the few frames side by side.
        box: left, top, right, bottom.
        row: y of the row that is followed through time, within the box.
    """

    start: int
    stop: int
    film: tuple[int, int]
    strip: tuple[int, int]
    box: tuple[int, int, int, int]
    row: int


@dataclass(frozen=True)
class Shown:
    """What a sequence looks like there, at the size of the largest sequence.

    Attributes:
        film: frames (N, h, w, 3) uint8.
        strip: frames (n, h, w, 3) uint8.
        profile: the row through time (T, w, 3) uint8.
        flicker: root mean squared warp error of every pixel over all pairs, (h, w), in levels of 255.
    """

    film: Pixels
    strip: Pixels
    profile: Pixels
    flicker: NDArray[np.float64]


def choose_look(measured: Sequence[Measured], shares: Sequence[float]) -> Look:
    """Return where and when the least steady output flickers most; pairs that look like cuts do not count."""
    source, *outputs = measured
    maps = [_on_the_inputs_grid(one) for one in outputs]
    energy = max(maps, key=np.sum)
    width, height = source.size_px
    side = CLOSE_UP_PX // max(one.factor for one in measured)
    tall, wide = min(side, height), min(side, width)
    top, left = _busiest(energy, (tall, wide))
    row = top + int(_largest_at(energy[top : top + tall, left : left + wide].sum(axis=1)))

    errors = np.array([one.scores.warp_errors for one in outputs], dtype=np.float64)
    errors = np.where(np.asarray(shares) < FEW, 0.0, np.nan_to_num(errors)).sum(axis=0)
    count = len(errors) + 1
    start, stop = _busiest_span(errors, 0, count, PROFILE_FRAMES)
    film = _busiest_span(errors, start, stop, FILM_FRAMES)
    strip = _busiest_span(errors, *film, STRIP_FRAMES)
    return Look(start, stop, film, strip, (left, top, left + wide, top + tall), row)


def read_look(measured: Sequence[Measured], look: Look) -> list[Shown]:
    """Read the frames of a look again, and keep of them what is shown."""
    largest = max(one.factor for one in measured)
    films: list[list[Pixels]] = [[] for _ in measured]
    profiles: list[list[Pixels]] = [[] for _ in measured]
    paths = [one.path for one in measured]
    for number, frames in enumerate(side_by_side(paths, start=look.start, stop=look.stop), look.start):
        for one, frame, film, profile in zip(measured, frames, films, profiles, strict=True):
            part = _part(frame, look, one.factor, largest)
            row = (look.row - look.box[1]) * largest + largest // 2
            profile.append(part[row].copy())
            if look.film[0] <= number < look.film[1]:
                film.append(part)
    within = slice(look.strip[0] - look.film[0], look.strip[1] - look.film[0])
    shown = []
    for one, film, profile in zip(measured, films, profiles, strict=True):
        frames_shown = np.stack(film)
        flicker = _flicker(one, look, largest)
        shown.append(Shown(frames_shown, frames_shown[within], np.stack(profile), flicker))
    return shown


def _part(frame: Frame, look: Look, factor: int, largest: int) -> Pixels:
    """Return the look's part of a frame as pixels, at `largest` times the input's size."""
    left, top, right, bottom = (edge * factor for edge in look.box)
    pixels = np.rint(frame[top:bottom, left:right] * 255).astype(np.uint8)
    size = (right - left) * largest // factor, (bottom - top) * largest // factor
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST))


def _flicker(one: Measured, look: Look, largest: int) -> NDArray[np.float64]:
    energy, seen = one.scores.energy, one.scores.seen
    assert energy is not None
    assert seen is not None
    left, top, right, bottom = (edge * one.factor for edge in look.box)
    flicker = 255 * np.sqrt(energy / np.maximum(seen, 1))[top:bottom, left:right]
    size = (right - left) * largest // one.factor, (bottom - top) * largest // one.factor
    image = Image.fromarray(flicker.astype(np.float32)).resize(size, Image.Resampling.NEAREST)
    return np.asarray(image, dtype=np.float64)


def _on_the_inputs_grid(one: Measured) -> NDArray[np.float64]:
    energy, factor = one.scores.energy, one.factor
    assert energy is not None
    height, width = (side // factor for side in energy.shape)
    return energy.reshape(height, factor, width, factor).sum(axis=(1, 3))


def _busiest(energy: NDArray[np.float64], size: tuple[int, int]) -> tuple[int, int]:
    """Return (top, left) of the rectangle (height, width) with the largest sum; of equal ones the midmost."""
    tall, wide = size
    total = np.pad(energy, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    sums = total[tall:, wide:] - total[:-tall, wide:] - total[tall:, :-wide] + total[:-tall, :-wide]
    best = np.argwhere(sums >= sums.max() * (1 - 1e-9))
    top, left = best[np.square(best - best.mean(axis=0)).sum(axis=1).argmin()]
    return int(top), int(left)


def _largest_at(values: NDArray[np.float64]) -> int:
    """Return the place of the largest value; of equal ones the midmost."""
    best = np.flatnonzero(values == values.max())
    return int(best[np.abs(best - best.mean()).argmin()])


def _busiest_span(errors: NDArray[np.float64], start: int, stop: int, most: int) -> tuple[int, int]:
    """Return first and end of the `most` frames within start..stop that err most; of equal ones the first."""
    if stop - start <= most:
        return start, stop
    total = np.concatenate([[0.0], errors[start : stop - 1].cumsum()])
    sums = total[most - 1 :] - total[: -(most - 1)]
    first = start + int(sums.argmax())
    return first, first + most
