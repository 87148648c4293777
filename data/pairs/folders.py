"""Pairs from folders, in the two layouts pix2pix users have.

Side by side: `ROOT/train/1.png` holds A left and B right. Two folders: `ROOT/trainA/1.png` and
`ROOT/trainB/1.png` share a name (the suffix may differ).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from steadypix.data.pairs.base import Pairs
from steadypix.data.pictures.images import MAX_CHANNELS, Picture, decode, read_image
from steadypix.data.pictures.listing import NO_IMAGES, list_images, natural_order, no_folder
from steadypix.data.pictures.transforms import resize
from steadypix.errors import InputError


class PairedImages(Pairs):
    """Pairs of pictures from a folder; the layout is found by looking.

    Pictures are resized to a square of `load_size` px, as pix2pix does.

    Args:
        root: the folder that holds the split folders.
        split: `train`, `val`, `test` or any other prefix.
        input_channels: 3 for RGB, 1 for grayscale, converted as Pillow does it; any other number must be
            the files' own.
        output_channels: the same for the target.
        **options: see `Pairs`.

    Raises:
        InputError: if a folder is missing or empty, halves have no partner, and, on reading, if a file
            is no image or has other channels, a side-by-side pair has an odd width, or two halves differ in
            size.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        input_channels: int = 3,
        output_channels: int = 3,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.root = Path(root)
        self.split = split
        channels = (input_channels, output_channels)
        for count in channels:
            if not 1 <= count <= MAX_CHANNELS:
                raise InputError(f"channels must lie between 1 and {MAX_CHANNELS}, not {count}")
        self._channels = channels if self.direction == "AtoB" else channels[::-1]
        self._files = self._find()

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self._files)

    def name(self, index: int) -> str:
        """Return the file's stem."""
        return self._files[index][0].stem

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Read, check and resize the halves (A, B) of a pair."""
        paths = self._files[index]
        if len(paths) == 1:
            halves = self._split_sides(paths[0])
        else:
            first, second = halves = [read_image(p, c) for p, c in zip(paths, self._channels, strict=True)]
            if first.shape[:2] != second.shape[:2]:
                raise InputError(
                    f"{paths[0]}: is {_size(first)} but {paths[1]} is {_size(second)}; "
                    "the halves of a pair must have the same size"
                )
        return resize(halves[0], self.load_size), resize(halves[1], self.load_size)

    def _split_sides(self, path: Path) -> list[np.ndarray]:
        whole = decode(path, max(self._channels))
        width = whole.pixels.shape[1]
        if width % 2:
            raise InputError(
                f"{path}: width {width} px is odd; a side-by-side pair has two halves of the same width"
            )
        sides = (whole.pixels[:, : width // 2], whole.pixels[:, width // 2 :])
        return [
            Picture(path, side, whole.alpha).with_channels(channels)
            for side, channels in zip(sides, self._channels, strict=True)
        ]

    def _find(self) -> list[tuple[Path, ...]]:
        if not self.root.is_dir():
            raise InputError(f"{self.root}: no such folder; expected a folder of paired images")
        folder_a, folder_b = self.root / f"{self.split}A", self.root / f"{self.split}B"
        if folder_a.is_dir() and folder_b.is_dir():
            return _match(folder_a, folder_b)
        folder = self.root / self.split
        if not folder.is_dir():
            found = sorted(path.name for path in self.root.iterdir() if path.is_dir())
            raise no_folder(self.root, self.split, found)
        files = list_images(folder)
        if not files:
            raise InputError(f"{folder}: {NO_IMAGES}")
        return [(path,) for path in files]


def _match(folder_a: Path, folder_b: Path) -> list[tuple[Path, ...]]:
    by_stem_a, by_stem_b = (_by_stem(list_images(folder)) for folder in (folder_a, folder_b))
    if not by_stem_a and not by_stem_b:
        raise InputError(f"{folder_a}: {NO_IMAGES}")
    for stem in sorted(by_stem_a.keys() ^ by_stem_b.keys()):
        alone = by_stem_a.get(stem) or by_stem_b[stem]
        other = folder_b if stem in by_stem_a else folder_a
        raise InputError(f"{alone}: has no partner of the same name in {other}")
    return [(by_stem_a[stem], by_stem_b[stem]) for stem in sorted(by_stem_a, key=natural_order)]


def _by_stem(files: list[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in files:
        if path.stem in found:
            raise InputError(f"{path}: has the same name as {found[path.stem]}; which one is the partner?")
        found[path.stem] = path
    return found


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]} px"
