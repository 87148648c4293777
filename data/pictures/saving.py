"""Pixels to picture files: PNG for grayscale and RGB, TIFF for any number of channels, 8 or 16 bits."""

from __future__ import annotations

import functools
import io
from pathlib import Path

import numpy as np
from PIL import Image

from steadypix.data.pictures.tiff import tiff_bytes
from steadypix.errors import InputError
from steadypix.files import write_whole

SUFFIXES = {"png": ".png", "tiff": ".tif"}
PNG_CHANNELS = (1, 3)


def suffix_for(channels: int, form: str | None = None) -> str:
    """Return the suffix of a picture's file: `.png` where PNG can hold it, or as `png` or `tiff` says.

    Raises:
        InputError: if PNG is asked for and has no place for this number of channels.
    """
    if form == "png" and channels not in PNG_CHANNELS:
        raise InputError(f"--format png: holds 1 or 3 channels, not {channels}; expected tiff")
    return SUFFIXES[form or ("png" if channels in PNG_CHANNELS else "tiff")]


def save_image(path: Path, pixels: np.ndarray) -> None:
    """Write (H, W, C) uint8 or uint16 pixels in the format of the path's suffix, whole or not at all.

    Args:
        path: ends in .png (then C is 1 or 3) or .tif.
        pixels: what to write.

    Raises:
        OSError: as the system raises it.
    """
    content = tiff_bytes(pixels) if path.suffix == SUFFIXES["tiff"] else _png_bytes(pixels)
    write_whole(path, functools.partial(Path.write_bytes, data=content))


def _png_bytes(pixels: np.ndarray) -> bytes:
    plain = np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    if pixels.dtype == np.uint16:  # of which Pillow writes grayscale alone
        import imagecodecs

        return bytes(imagecodecs.png_encode(plain))
    buffer = io.BytesIO()
    Image.fromarray(plain).save(buffer, format="PNG")
    return buffer.getvalue()
