"""Pictures without targets: a folder of photos, the frames of a sequence, one side of unpaired folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from steadypix.data.pairs.base import Pairs
from steadypix.data.pictures.images import read_image
from steadypix.data.pictures.listing import NO_IMAGES, list_images
from steadypix.data.pictures.transforms import to_load_size
from steadypix.errors import InputError

LOOKED_AT = 8  # pictures of a folder whose middle is looked at
STEP_RATIO = 4.0  # of the step across the middle over the median of all columns


class SinglePictures(Pairs):
    """Inputs alone, behind the face of pairs: in natural order, so that frames stay in theirs.

    Args:
        folder: holds the pictures.
        input_channels: 3 for RGB, 1 for grayscale, converted as Pillow does it; any other number must be the
            files' own.
        resize: how pictures are brought to the load size, see `steadypix.data.pictures.sizing.RULES`.
        **options: see `Pairs`; the direction means nothing here.

    Raises:
        InputError: if there are no pictures, and, on reading, if a file is no image or is too small.
    """

    has_targets: ClassVar[bool] = False

    def __init__(
        self, folder: str | Path, *, input_channels: int = 3, resize: str = "square", **options: Any
    ) -> None:
        super().__init__(**options)
        self.folder = Path(folder)
        self.resize = resize
        self._channels = input_channels
        self._files = list_images(self.folder)
        if not self._files:
            raise InputError(f"{folder}: {NO_IMAGES}")

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self._files)

    def name(self, index: int) -> str:
        """Return the file's stem."""
        return self._files[index].stem

    def files(self, index: int) -> tuple[Path, ...]:
        """Return the picture's file."""
        return (self._files[index],)

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Read and resize a picture, which stands in for both halves."""
        path = self._files[index]
        pixels = to_load_size(read_image(path, self._channels), self.load_px, self.resize)
        (height, width), (wide, tall) = pixels.shape[:2], self.load_px
        if width < wide or height < tall:
            raise InputError(
                f"{path}: a picture of {width}x{height} px is too small; expected {wide}x{tall} px at least"
            )
        return pixels, pixels

    def shown(self, index: int) -> tuple[Tensor, Tensor | None]:
        """Return the picture, and None."""
        return self.canvas(index)[0], None


def looks_like_halves(pixels: np.ndarray) -> bool:
    """Whether a picture (H, W, C) looks like two side by side, as pix2pix keeps its pairs.

    The step across the middle, the mean absolute difference of its two columns, is then the largest of all
    columns, and `STEP_RATIO` times their median.
    """
    width = pixels.shape[1]
    if width < 4 or width % 2:
        return False
    steps = np.abs(np.diff(pixels.astype(np.float32), axis=1)).mean(axis=(0, 2))
    middle = steps[width // 2 - 1]
    return bool(middle > 0 and middle >= steps.max() and middle >= STEP_RATIO * np.median(steps))


def count_halves(files: Sequence[Path]) -> tuple[int, int]:
    """Return how many of the first few pictures look like two halves, and how many could be read."""
    found = []
    for path in files[:LOOKED_AT]:
        try:
            found.append(looks_like_halves(read_image(path)))
        except InputError:  # said when it is measured
            continue
    return sum(found), len(found)
