"""Frames of a folder of pictures or of a video file, as floats, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from steadypix.data.pictures.images import read_image
from steadypix.data.pictures.listing import NO_IMAGES, list_images
from steadypix.data.pictures.video import decoded, upright
from steadypix.errors import InputError

Frame = NDArray[np.float32]


def frames_of(path: Path, *, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
    """Yield the frames of a sequence, one at a time, so that memory does not grow with their number.

    Args:
        path: a folder of pictures, in natural order (`frame2.png` before `frame10.png`), or a video file.
        start: number of the first frame to yield, from 0. Earlier ones of a video are decoded all the same.
        stop: number of the frame to end before; None goes to the end.

    Yields:
        Frames (H, W, 3), float32 in [0, 1], upright; gray is repeated, alpha is dropped. Pictures have 8 or
        16 bits a channel, frames of a video 8.

    Raises:
        InputError: naming the file, and of a video the frame, if it is missing or cannot be read, if a frame
            has another size than the first, or if PyAV is needed and not installed.
    """
    frames = _pictures(path, start, stop) if path.is_dir() else islice(_video(path), start, stop)
    shape = None
    for where, frame in frames:
        shape = frame.shape if shape is None else shape
        if frame.shape != shape:
            found, first = (f"{width} x {height} px" for height, width, _ in (frame.shape, shape))
            raise InputError(f"{where}: is {found}; expected {first}, as the first frame")
        yield frame


def count_pictures(path: Path) -> int | None:
    """Return how many frames a folder has; None of a video, which says so only once it is decoded.

    Raises:
        InputError: if a folder has none.
    """
    return len(_files(path)) if path.is_dir() else None


def _pictures(folder: Path, start: int, stop: int | None) -> Iterator[tuple[str, Frame]]:
    for file in _files(folder)[start:stop]:
        yield str(file), _floats(read_image(file, 3))


def _files(folder: Path) -> list[Path]:
    files = list_images(folder)
    if not files:
        raise InputError(f"{folder}: {NO_IMAGES}; expected frames, or a video file instead of a folder")
    return files


def _video(path: Path) -> Iterator[tuple[str, Frame]]:
    if not path.exists():
        raise InputError(f"{path}: no such file; expected a folder of frames or a video file")
    for number, frame in enumerate(decoded(path), 1):
        yield f"{path}: frame {number}", _floats(upright(frame))


def _floats(pixels: np.ndarray) -> Frame:
    """Return pixels of 8 or 16 bits on [0, 1]."""
    return pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)
