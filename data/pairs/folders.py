"""Pairs from folders, in the two layouts pix2pix users have.

Side by side: `ROOT/train/1.png` holds A left and B right. Two folders: `ROOT/trainA/1.png` and
`ROOT/trainB/1.png` share a name (the suffix may differ). A folder of pairs side by side without splits is
taken as `train`. Where there is nothing but `train`, `held_out` says which tenth of it stands in for `test`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from steadypix.data.pairs.base import Pairs
from steadypix.data.pictures.images import MAX_CHANNELS, Picture, decode, read_image
from steadypix.data.pictures.listing import NO_IMAGES, list_images, natural_order, no_folder
from steadypix.data.pictures.sizing import RULES
from steadypix.data.pictures.transforms import to_load_size
from steadypix.errors import InputError

TRAIN = "train"
HELD_OUT = "held-out"  # the split of pairs that are held out of `train`
HELD_OUT_SHARE = 10  # one of so many
VALIDATION = ("test", "val")  # what a folder for it is called
USUAL = (
    TRAIN,
    *VALIDATION,
    "valid",
    "validation",
    "dev",
    "eval",
    "testing",
)  # of splits, as people name them
SIDES = ("", "A", "B")  # ends of a folder's name: pairs side by side, or one half of each


class PairedImages(Pairs):
    """Pairs of pictures from a folder; the layout is found by looking.

    Args:
        root: the folder that holds the split folders, or, for `train`, the pictures themselves.
        split: `train`, `val`, `test` or any other prefix; `held-out`: the pairs of `train` that `held_out`
            names.
        resize: `square` brings pictures to a square of `load_size` px, as pix2pix does; `keep` brings their
            shorter side to it; `none` leaves them as they are, and the shorter side must be that long.
        hold_out_seed: leave out what `held_out` names by this seed; for `held-out`, have nothing else.
        input_channels: 3 for RGB, 1 for grayscale, converted as Pillow does it; any other number must be
            the files' own.
        output_channels: the same for the target.
        **options: see `Pairs`.

    Raises:
        InputError: if a folder is missing or empty, halves have no partner, and, on reading, if a file
            is no image or has other channels, a side-by-side pair has an odd width, two halves differ in
            size, or a picture is too small.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        input_channels: int = 3,
        output_channels: int = 3,
        resize: str = "square",
        hold_out_seed: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if resize not in RULES:
            raise InputError(f"resize {resize!r} is unknown; expected one of {', '.join(RULES)}")
        self.resize = resize
        self.root = Path(root)
        self.split = split
        channels = (input_channels, output_channels)
        for count in channels:
            if not 1 <= count <= MAX_CHANNELS:
                raise InputError(f"channels must lie between 1 and {MAX_CHANNELS}, not {count}")
        self._channels = channels if self.direction == "AtoB" else channels[::-1]
        self._files = self._find(TRAIN if split == HELD_OUT else split)
        if hold_out_seed is not None:
            out = held_out([files[0].name for files in self._files], hold_out_seed)
            self._files = [files for files in self._files if (files[0].name in out) == (split == HELD_OUT)]

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self._files)

    def name(self, index: int) -> str:
        """Return the file's stem."""
        return self._files[index][0].stem

    def files(self, index: int) -> tuple[Path, ...]:
        """Return the file of a pair side by side, or one for each half."""
        return self._files[index]

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
        self._check_size(paths[0], halves[0])
        first, second = (to_load_size(half, self.load_px, self.resize) for half in halves)
        return first, second

    def _check_size(self, path: Path, half: np.ndarray) -> None:
        """Refuse a picture without room for the canvas, which one that is resized always has."""
        (width, height), (tall, wide) = self.load_px, half.shape[:2]
        if self.resize == "none" and (wide < width or tall < height):
            raise InputError(
                f"{path}: a picture of {_size(half)} is too small; without resizing, {width}x{height} px are "
                "needed at least; expected a smaller load size (canvas), or resize keep"
            )

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

    def _find(self, split: str) -> list[tuple[Path, ...]]:
        if not self.root.is_dir():
            raise InputError(f"{self.root}: no such folder; expected a folder of paired images")
        folder_a, folder_b = self.root / f"{split}A", self.root / f"{split}B"
        if folder_a.is_dir() and folder_b.is_dir():
            return _match(folder_a, folder_b)
        folder = self.root / split
        if not folder.is_dir():
            if split == TRAIN and is_bare(self.root):
                return [(path,) for path in list_images(self.root)]
            found = sorted(path.name for path in self.root.iterdir() if path.is_dir())
            raise no_folder(self.root, split, found)
        files = list_images(folder)
        if not files:
            raise InputError(f"{folder}: {NO_IMAGES}")
        return [(path,) for path in files]


def is_bare(root: Path) -> bool:
    """Whether the pictures lie in `root` itself, and no folder beside them is of a split."""
    return not _splits(root) and bool(list_images(root))


def must_hold_out(root: Path, train_split: str, val_split: str) -> bool:
    """Whether validation pairs have to come out of the training pairs, because no folder has any."""
    if train_split != TRAIN or val_split not in VALIDATION or not root.is_dir():
        return False
    return _splits(root) == {TRAIN} or is_bare(root)


def held_out(names: Sequence[str], seed: int) -> set[str]:
    """Return a tenth of `names`, one at least, none of fewer than two.

    It depends on the names and the seed alone, not on their order: the smallest SHA-256 of `seed/name`.
    """
    if len(names) < 2:
        return set()

    def lot(name: str) -> str:
        return hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogateescape")).hexdigest()

    return set(sorted(names, key=lot)[: max(1, len(names) // HELD_OUT_SHARE)])


def _splits(root: Path) -> set[str]:
    """Return the splits that have folders in `root`, by usual names; others may hold runs and outputs."""
    folders = {path.name.lower() for path in root.iterdir() if path.is_dir()}
    return {name for name in USUAL for end in SIDES if name + end.lower() in folders}


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
