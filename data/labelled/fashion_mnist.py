"""Fashion-MNIST (Xiao et al. 2017), read from its four idx files: ten kinds of clothes, grayscale, 28 px."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from steadypix.errors import InputError

NAME = "fashion-mnist"
CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
PREFIX = {"train": "train", "test": "t10k"}
MAX_BYTES = 1 << 28  # unpacked; the training pictures are 47 MB
_UNSIGNED_BYTES = 8  # idx's code of the kind of its numbers


def read_fashion_mnist(
    folder: str | Path, split: str = "train"
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read a split.

    Args:
        folder: holds the four files, packed or unpacked.
        split: `train` (60,000 pictures) or `test` (10,000).

    Returns:
        Pictures (N, 28, 28) uint8, and labels (N,) uint8, indices into `CLASSES`.

    Raises:
        InputError: naming the file that is missing, damaged, empty, or does not belong to the other.
    """
    if split not in PREFIX:
        raise InputError(f"split {split!r} is unknown; expected one of {', '.join(PREFIX)}")
    folder = Path(folder)
    files = [_find(folder, f"{PREFIX[split]}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1")]
    pictures, labels = (read_idx(file) for file in files)
    if pictures.ndim != 3 or labels.shape != pictures.shape[:1]:
        raise InputError(
            f"{files[1]}: holds numbers of shape {labels.shape}; expected a label for each of the "
            f"{pictures.shape[0]} pictures in {files[0].name}"
        )
    if not pictures.size:
        raise InputError(f"{files[0]}: holds no pictures; expected at least one of at least 1 x 1 px")
    if labels.max() >= len(CLASSES):
        raise InputError(f"{files[1]}: holds the label {labels.max()}; expected 0 to {len(CLASSES) - 1}")
    return pictures, labels


def is_fashion_mnist(folder: str | Path) -> bool:
    """Whether a folder holds idx files of this name."""
    return any(Path(folder).glob("t*-images-idx3-ubyte*"))


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an idx file of unsigned bytes, gzipped or not.

    Raises:
        InputError: if it is missing, damaged, cut short, or claims more than `MAX_BYTES`.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            magic = file.read(4)
            if len(magic) < 4 or magic[:3] != bytes((0, 0, _UNSIGNED_BYTES)) or not 1 <= magic[3] <= 4:
                raise InputError(f"{path}: is no idx file of unsigned bytes")
            axes = file.read(4 * magic[3])
            if len(axes) < 4 * magic[3]:
                raise InputError(f"{path}: is damaged or cut short in its header")
            sizes = np.frombuffer(axes, ">u4").tolist()
            count = math.prod(sizes)
            if count > MAX_BYTES:
                raise InputError(f"{path}: is damaged: it claims to hold {sizes} numbers")
            content = file.read(count + 1)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise InputError(f"{path}: is damaged or cut short ({error})") from None
    if len(content) != count:
        found = len(content) if len(content) < count else "more"
        raise InputError(f"{path}: is damaged or cut short: it claims {count} bytes and has {found}")
    return np.frombuffer(content, np.uint8).reshape(sizes)


def _find(folder: Path, name: str) -> Path:
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return path
    raise InputError(f"{folder / name}.gz: no such file; expected Fashion-MNIST's four idx files")
