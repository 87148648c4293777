"""The measurement of a sequence and of what others made of it, all of them read side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from steadypix.data.pictures.frames import Frame, count_pictures, frames_of
from steadypix.errors import InputError
from steadypix.eval.sequence.flow import MIN_SIDE_PX, Motion, estimate_motion, require_opencv
from steadypix.eval.sequence.scores import SequenceScores, check_margin, enlargement, too_few
from steadypix.progress import progress

FEW = 0.3  # of the pixels: of frames of two scenes 5 to 27 % pass the checks, of one scene nearly all


@dataclass
class Measured:
    """A measured sequence.

    Attributes:
        path: of its folder or file.
        name: short and unique.
        size_px: width and height of a frame.
        factor: by which it is larger than the input.
        scores: what was measured.
    """

    path: Path
    name: str
    size_px: tuple[int, int]
    factor: int
    scores: SequenceScores

    def summary(self, source: Measured) -> dict[str, Any]:
        """Return the entry of sequence.json; `source` is the input."""
        found, floor = self.scores.summary(), source.scores.summary()
        error, own = found["warp_error"], floor["warp_error"]
        entry = {
            "name": self.name,
            "path": str(self.path),
            "width_px": self.size_px[0],
            "height_px": self.size_px[1],
            "scale": self.factor,
            **found,
        }
        if self is source:
            return entry
        return entry | {
            "excess": None if error is None else error - own,
            "ratio": error / own if error is not None and own else None,
            "tv_ratio": found["tv"] / floor["tv"] if floor["tv"] else None,
        }


def measure_sequences(
    source: Path, outputs: Sequence[Path], *, margin_px: int = 0, limit: int | None = None
) -> tuple[list[Measured], list[float]]:
    """Measure the flicker of sequences along the motion of their input; holds two frames of each.

    Args:
        source: folder or video that the motion is taken from.
        outputs: folders or videos with as many frames, of its size or a whole multiple of it.
        margin_px: what the warp error leaves out a side, in px of the input.
        limit: measure the first frames alone.

    Returns:
        The input and then the outputs; and of every pair of frames which part of the input is compared,
        0 to 1.

    Raises:
        InputError: naming the file, if one cannot be read, or sequences do not fit each other.
    """
    require_opencv()
    paths = [source, *outputs]
    names = name_apart(paths)
    count = check_counts(paths, limit)
    measured: list[Measured] = []
    shares: list[float] = []
    before: Frame | None = None
    for frames in progress(side_by_side(paths, stop=limit), count, unit="frame"):
        if before is None:
            measured = [
                _begin(*each, frames[0], margin_px) for each in zip(paths, names, frames, strict=True)
            ]
        motion = None if before is None else estimate_motion(before, frames[0])
        motions: dict[int, Motion | None] = {1: motion}
        for one, frame in zip(measured, frames, strict=True):
            if one.factor not in motions:
                motions[one.factor] = None if motion is None else motion.enlarged(one.factor)
            one.scores.add(frame, motions[one.factor])
        if motion is not None:
            inner = motion.visible[margin_px : -margin_px or None, margin_px : -margin_px or None]
            shares.append(float(inner.mean()))
        before = frames[0]
    if not shares:
        raise InputError(f"{source}: has {too_few(len(measured[:1]))}")
    return measured, shares


def side_by_side(
    paths: Sequence[Path], *, start: int = 0, stop: int | None = None
) -> Iterator[tuple[Frame, ...]]:
    """Yield the frames of several sequences together: first all first ones, and so on.

    Args:
        paths: folders and videos.
        start: number of the first frame to yield, from 0.
        stop: number of the frame to end before.

    Raises:
        InputError: naming the one that ends before others.
    """
    readers = [frames_of(path, start=start, stop=stop) for path in paths]
    for number, frames in enumerate(zip_longest(*readers)):
        ended = [path for path, frame in zip(paths, frames, strict=True) if frame is None]
        going = [path for path, frame in zip(paths, frames, strict=True) if frame is not None]
        if ended:
            raise InputError(
                f"{ended[0]}: has {start + number} frames, but {going[0]} has more; expected equal numbers"
            )
        yield frames


def check_counts(paths: Sequence[Path], limit: int | None) -> int:
    """Return how many frames will be read, 0 of videos alone, which do not say so beforehand.

    Raises:
        InputError: naming two folders of unequal numbers of frames, before anything is measured.
    """
    counts = [(path, count) for path in paths if (count := count_pictures(path)) is not None]
    counts = [(path, count if limit is None else min(count, limit)) for path, count in counts]
    for path, count in counts[1:]:
        first, expected = counts[0]
        if count != expected:
            raise InputError(
                f"{path}: has {count} frames, but {first} has {expected}; expected equal numbers"
            )
    return counts[0][1] if counts else 0


def name_apart(paths: Sequence[Path]) -> list[str]:
    """Return a short name of every sequence; of equal ones as many folders as it takes, else the path."""
    parts = [(path if path.is_dir() else path.with_suffix("")).absolute().parts[1:] for path in paths]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _begin(path: Path, name: str, frame: Frame, source: Frame, margin_px: int) -> Measured:
    """Return a sequence with nothing measured yet, once its first frame is known to fit the input's."""
    height, width = frame.shape[:2]
    factor = enlargement(frame, source, str(path))
    if min(source.shape[:2]) < MIN_SIDE_PX:
        raise InputError(
            f"{path}: is {width} x {height} px; expected {MIN_SIDE_PX} px a side, which flow needs"
        )
    check_margin(margin_px, source)
    return Measured(path, name, (width, height), factor, SequenceScores(margin_px * factor))
