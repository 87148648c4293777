"""Pictures with class labels, each on a square canvas that a network's window is cut from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from steadypix.data.labelled.fashion_mnist import CLASSES, NAME, is_fashion_mnist, read_fashion_mnist
from steadypix.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Labelled:
    """Pictures of one source."""

    source: str  # its name or folder
    classes: tuple[str, ...]  # names; empty where no picture has a label
    labels: NDArray[np.int64]  # (N,) indices into `classes`, -1 where there is none
    pixels: NDArray[np.uint8] | None = None  # (N, H, W) grayscale in memory; None where `files` are read
    files: tuple[Path, ...] = ()
    channels: int = 1  # of every canvas, 1 or 3
    resampling: str = "lanczos"  # of files: Pillow's filter of that name

    def __len__(self) -> int:
        return len(self.labels)

    def canvas(self, index: int, canvas_px: int) -> Tensor:
        """Return a picture (C, S, S) uint8, S = `canvas_px`.

        Small pictures in memory lie on a black ground in the middle of the canvas, at their own size, so that
        shifts move real content; files are resized (shorter side, `resampling`) and cut square in the middle.

        Raises:
            InputError: naming a file that cannot be read, or pictures larger than the canvas.
        """
        import torch

        if self.pixels is not None:
            picture = self.pixels[index]
            room = [canvas_px - side for side in picture.shape]
            if min(room) < 0:
                raise InputError(
                    f"{self.source}: pictures of {picture.shape[1]} x {picture.shape[0]} px do not fit on a "
                    f"canvas of {canvas_px} px"
                )
            plane = np.pad(picture, [(space // 2, space - space // 2) for space in room])
            return torch.from_numpy(plane)[None].expand(self.channels, -1, -1)
        cut = _square(self.files[index], self.channels, canvas_px, self.resampling)
        return torch.from_numpy(cut).permute(2, 0, 1)

    def canvases(self, indices: Sequence[int], canvas_px: int) -> Tensor:
        """Return some pictures (B, C, S, S) uint8; see `canvas`."""
        import torch

        return torch.stack([self.canvas(index, canvas_px) for index in indices])

    def first(self, count: int | None) -> Labelled:
        """Return the first `count` pictures, or all."""
        pixels = None if self.pixels is None else self.pixels[:count]
        return replace(self, labels=self.labels[:count], pixels=pixels, files=self.files[:count])

    def sha256(self) -> str:
        """Return the hash of all pictures, pixels or whole files, and their labels, wherever they lie."""
        digest = hashlib.sha256(self.labels.tobytes())
        if self.pixels is not None:
            digest.update(f"{self.pixels.shape}".encode())
            digest.update(self.pixels.tobytes())
        for path in self.files:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()


def open_labelled(source: str | Path, split: str = "test", *, channels: int = 1) -> Labelled:
    """Open pictures for a classifier.

    Args:
        source: a folder with Fashion-MNIST's idx files, a folder of class folders (whose sorted names are
            the classes, as torchvision's ImageFolder has it), or a folder of pictures without labels.
        split: of Fashion-MNIST; of other folders the subfolder of that name, where there is one.
        channels: 1 or 3.

    Raises:
        InputError: if there is no such folder, or nothing in it.
    """
    folder = Path(source)
    if not folder.is_dir():
        hint = "" if folder.name != NAME else f"; `steadypix_data download {NAME} --out {folder.parent}`"
        raise InputError(f"{folder}: no such folder of pictures{hint}")
    if is_fashion_mnist(folder):
        pixels, labels = read_fashion_mnist(folder, split)
        return Labelled(str(source), CLASSES, labels.astype(np.int64), pixels, channels=channels)
    folder = folder / split if (folder / split).is_dir() else folder
    return _open_folder(folder, channels)


def _open_folder(folder: Path, channels: int) -> Labelled:
    from steadypix.data.pictures.listing import list_images

    inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    places = list(enumerate(inside)) or [(-1, folder)]
    found = [(file, label) for label, place in places for file in list_images(place)]
    if not found:
        empty = (
            "folders but no pictures in them; expected a folder for each class" if inside else "no pictures"
        )
        raise InputError(f"{folder}: holds {empty}")
    classes = tuple(path.name for path in inside)
    labels = np.array([label for _, label in found], dtype=np.int64)
    files = tuple(file for file, _ in found)
    return Labelled(str(folder), classes, labels, files=files, channels=channels)


def _square(file: Path, channels: int, side: int, resampling: str) -> NDArray[np.uint8]:
    from PIL import Image

    from steadypix.data.pictures.images import read_image

    pixels = read_image(file, channels)
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    scale = side / min(image.size)
    method = Image.Resampling[resampling.upper()]
    image = image.resize([max(side, round(length * scale)) for length in image.size], method)
    left, top = ((length - side) // 2 for length in image.size)
    cut = np.array(image.crop((left, top, left + side, top + side)))
    return cut[..., None] if channels == 1 else cut
