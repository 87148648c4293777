"""OpenEXR files, read and written as floats, by the package OpenEXR (the extra `exr`)."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np

from steadypix.budget import require_picture
from steadypix.data.pictures.tiff import SOFTWARE
from steadypix.errors import InputError

SUFFIX = ".exr"
MISSING = "an EXR file needs OpenEXR, which is not installed; expected: pip install 'steadypix[exr]'"
MAX_BYTES = 1 << 30
_COLOURS = {1: ("Y",), 3: ("R", "G", "B")}


def read_exr(path: Path) -> tuple[np.ndarray, bool]:
    """Read the first part of an EXR file.

    R, G, B (or Y alone) come in this order, alpha (A) last; other channels come in the order of their names.

    Returns:
        (H, W, C) float32, and whether the last channel is alpha.

    Raises:
        InputError: naming the file, if it cannot be read, is deep or too large, or its pixels do not fill the
            picture.
    """
    exr = _library()
    if not path.exists():
        raise InputError(f"{path}: no such file; expected a picture")
    if not path.is_file():  # opening a pipe would wait for its writer
        raise InputError(f"{path}: is no regular file; expected a picture")
    try:
        header = exr.File(str(path), header_only=True).header()
        planes = _planes(exr, path, header)
    except InputError:
        raise
    except Exception as error:  # of damaged bytes the library raises several kinds
        raise InputError(f"{path}: cannot be read as an EXR file ({' '.join(str(error).split())})") from None
    names = sorted(planes)
    colours = next((c for c in _COLOURS.values() if set(names) in ({*c}, {*c, "A"})), None)
    if colours is not None:
        names = [*colours, *(["A"] if "A" in planes else [])]
    pixels = np.stack([planes[name].astype(np.float32) for name in names], axis=2)
    return pixels, colours is not None and names[-1] == "A"


def software(path: Path) -> str | None:
    """Return what a file says of the software that wrote it."""
    found = _library().File(str(path), header_only=True).header().get("software")
    return found if isinstance(found, str) else None


def write_exr(path: Path, pixels: np.ndarray, alpha: np.ndarray | None = None) -> None:
    """Write pixels as an EXR file of 32 bits, compressed without loss.

    Args:
        path: of the file.
        pixels: (H, W, C) float32; one channel is Y, three are R, G and B, others are numbered.
        alpha: (H, W) float32, or None.

    Raises:
        InputError: if the package is missing.
        OSError: if it cannot be written.
    """
    exr = _library()
    count = pixels.shape[2]
    names = _COLOURS.get(count, tuple(f"c{number:02d}" for number in range(count)))
    planes = {name: np.ascontiguousarray(pixels[..., place]) for place, name in enumerate(names)}
    if alpha is not None:
        planes["A"] = np.ascontiguousarray(alpha)
    header = {"compression": exr.ZIP_COMPRESSION, "type": exr.scanlineimage, "software": SOFTWARE}
    try:
        exr.File(header, planes).write(str(path))
    except Exception as error:  # the library does not hand on the system's number
        raise OSError(errno.EIO, f"cannot be written ({' '.join(str(error).split())})") from None


def _planes(exr: Any, path: Path, header: dict[str, Any]) -> dict[str, np.ndarray]:
    """Decode the channels of a file whose header is sound."""
    if header.get("type", exr.scanlineimage) not in (exr.scanlineimage, exr.tiledimage):
        raise InputError(f"{path}: is a deep EXR file; expected a flat picture")
    (left, top), (right, bottom) = header["dataWindow"]
    width, height = int(right) - int(left) + 1, int(bottom) - int(top) + 1
    bytes_claimed = 4 * width * height * len(header["channels"])
    if min(width, height) < 1 or bytes_claimed > MAX_BYTES:
        raise InputError(f"{path}: {width} x {height} px are none, or too many to decode")
    require_picture(3 * bytes_claimed, f"{path}: {width} x {height} px")
    if any((window != header["dataWindow"][end]).any() for end, window in enumerate(header["displayWindow"])):
        raise InputError(f"{path}: holds a part of its picture only; expected all of it")
    try:
        channels = exr.File(str(path), separate_channels=True).channels()
    except Exception:  # what the library raises here is about the part it did not read
        raise InputError(f"{path}: its pixels are damaged or cut short") from None
    planes = {name: np.asarray(channel.pixels) for name, channel in channels.items()}
    if any(plane.shape != (height, width) for plane in planes.values()) or not planes:
        raise InputError(f"{path}: has channels of several sizes; expected one")
    return planes


def _library() -> Any:
    try:
        import OpenEXR
    except ImportError:
        raise InputError(MISSING) from None
    return OpenEXR
