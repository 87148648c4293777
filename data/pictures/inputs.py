"""The pictures that a command is given: files, and folders of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from steadypix.errors import InputError, printable

if TYPE_CHECKING:
    import numpy as np


def collect(inputs: Sequence[Path]) -> dict[str, Path]:
    """Return the picture files behind files and folders, by the name their output gets.

    Raises:
        InputError: if one is missing, a folder holds no picture, or two would write the same output.
    """
    from steadypix.data.pictures.exr import SUFFIX
    from steadypix.data.pictures.listing import SUFFIXES, list_images

    files: dict[str, Path] = {}
    for item in inputs:
        found = list_images(item, SUFFIXES | {SUFFIX}) if item.is_dir() else [item]
        if not found:
            raise InputError(f"{item}: holds no images")
        for file in found:
            if not file.exists():
                raise InputError(f"{file}: no such file; expected a picture or a folder of them")
            if file.stem in files:
                raise InputError(f"{file}: would overwrite the output of {files[file.stem]}; rename one")
            files[file.stem] = file
    return files


@dataclass(frozen=True)
class InputPicture:
    """What a generator is shown, and what is kept beside it.

    Attributes:
        pixels: (H, W, C) uint8, uint16, or float32 in [0, 1].
        alpha: (H, W) of the same type, if the file has alpha and the generator does not take it.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None


def read_input(path: Path, channels: int) -> InputPicture:
    """Read a picture of any kind: integers by Pillow, imagecodecs or tifffile, floats of TIFF and EXR files.

    Floats are taken as they stand, black at 0 and white at 1. Those beyond are clipped, which stderr is told.

    Raises:
        InputError: naming the file, if it is missing, unreadable, of other channels, or not finite.
    """
    import numpy as np

    from steadypix.data.pictures.exr import SUFFIX, read_exr
    from steadypix.data.pictures.images import Picture, decode

    is_exr = path.suffix.lower() == SUFFIX
    picture = Picture(path, *read_exr(path)) if is_exr else decode(path, channels, alpha=True, floats=True)
    pixels = picture.with_channels(channels)
    alpha = picture.pixels[..., -1] if picture.alpha and picture.pixels.shape[2] != channels else None
    if pixels.dtype.kind == "f":
        low, high = float(pixels.min()), float(pixels.max())
        if not np.isfinite([low, high]).all():
            raise InputError(f"{path}: holds values that are not finite (NaN or infinity)")
        if low < 0 or high > 1:
            where = printable(str(path))
            print(f"{where}: values from {low:g} to {high:g} are clipped to 0 to 1", file=sys.stderr)
            pixels = pixels.clip(0, 1)
    return InputPicture(pixels, alpha)
