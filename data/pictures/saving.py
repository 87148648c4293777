"""Pixels to picture files: PNG for grayscale and RGB, TIFF for any number of channels, EXR for floats.

Each file says which software wrote it, so that no other is overwritten unasked.
"""

from __future__ import annotations

import functools
import io
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from steadypix.data.pictures.tiff import SOFTWARE, tiff_bytes
from steadypix.errors import InputError
from steadypix.files import write_whole

SUFFIXES = {"png": ".png", "tiff": ".tif", "exr": ".exr"}
PNG_CHANNELS = (1, 3)
PNG_HEAD = 33  # bytes of signature and IHDR, which every PNG begins with
OVERWRITE = "another --out, or --overwrite to replace it"  # for `refuse_foreign`, where there is the option


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


PNG_MARK = png_chunk(b"tEXt", b"Software\0" + SOFTWARE.encode())  # behind the head


def is_ours(path: Path) -> bool:
    """Whether a file says that `save_image` wrote it, and nobody since."""
    if not path.is_file():
        return False
    try:
        if path.suffix == SUFFIXES["png"]:
            with open(path, "rb") as file:
                return file.read(PNG_HEAD + len(PNG_MARK))[PNG_HEAD:] == PNG_MARK
        if path.suffix == SUFFIXES["tiff"]:
            import tifffile

            with tifffile.TiffFile(path) as tiff:
                return bool(tiff.pages.first.tags.valueof(305) == SOFTWARE)
        if path.suffix == SUFFIXES["exr"]:
            from steadypix.data.pictures.exr import software

            return software(path) == SOFTWARE
    except Exception:  # whatever is wrong with it, we did not write it so
        return False
    return False


def refuse_foreign(paths: Iterable[Path], *, expected: str = "another folder") -> None:
    """Refuse to write over files that `save_image` did not write.

    Args:
        paths: what would be written.
        expected: what the message asks for, in the words of the command's options.

    Raises:
        InputError: naming the first of them.
    """
    for path in paths:
        if path.exists() and not is_ours(path):
            raise InputError(
                f"{path}: is there, and was not written by steadypix, or by an earlier version; expected "
                f"{expected}"
            )


def suffix_for(channels: int, form: str | None = None, bits: int = 8) -> str:
    """Return the suffix of a picture's file: `.png` where PNG can hold it, else `.tif`, or as `form` says.

    Args:
        channels: of the picture.
        form: a key of `SUFFIXES`.
        bits: a channel: 8 or 16, or 32 for floats.

    Raises:
        InputError: if the format that is asked for has no place for such pixels.
    """
    if (form == "png" and bits == 32) or (form == "exr" and bits != 32):
        expected = "tiff or exr" if form == "png" else "--bits 32"
        raise InputError(f"--format {form}: holds no pixels of --bits {bits}; expected {expected}")
    if form == "png" and channels not in PNG_CHANNELS:
        raise InputError(f"--format png: holds 1 or 3 channels, not {channels}; expected tiff")
    return SUFFIXES[form or ("png" if channels in PNG_CHANNELS and bits != 32 else "tiff")]


def save_image(path: Path, pixels: np.ndarray, alpha: np.ndarray | None = None) -> None:
    """Write (H, W, C) pixels in the format of the path's suffix, whole or not at all.

    Args:
        path: ends in .png (then C is 1 or 3), .tif or .exr (then of float32).
        pixels: uint8, uint16 or float32.
        alpha: (H, W) of any of these types, kept beside the colours; its full range becomes that of `pixels`.
            Of another size than the pixels it is left out.

    Raises:
        OSError: as the system raises it.
    """
    if alpha is not None:
        alpha = in_type(alpha, pixels.dtype) if alpha.shape == pixels.shape[:2] else None
    if path.suffix == SUFFIXES["exr"]:
        from steadypix.data.pictures.exr import write_exr

        write_whole(path, functools.partial(write_exr, pixels=pixels, alpha=alpha))
        return
    planes = pixels if alpha is None else np.concatenate([pixels, alpha[..., None]], axis=2)
    is_tiff = path.suffix == SUFFIXES["tiff"]
    content = tiff_bytes(planes, alpha=alpha is not None) if is_tiff else _png_bytes(planes)
    write_whole(path, functools.partial(Path.write_bytes, data=content))


def in_type(plane: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return a plane in another type of pixels, 0 to 0 and full to full, rounded where that is coarser."""
    if plane.dtype == dtype:
        return plane
    tops = [1.0 if kind.kind == "f" else float(np.iinfo(kind).max) for kind in (plane.dtype, dtype)]
    scaled = plane.astype(np.float64) * (tops[1] / tops[0])
    return (scaled if dtype.kind == "f" else np.rint(np.clip(scaled, 0, tops[1]))).astype(dtype)


def _png_bytes(pixels: np.ndarray) -> bytes:
    plain = np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    if pixels.dtype == np.uint16:  # of which Pillow writes grayscale alone
        import imagecodecs

        content = bytes(imagecodecs.png_encode(plain))
    else:
        buffer = io.BytesIO()
        Image.fromarray(plain).save(buffer, format="PNG")
        content = buffer.getvalue()
    return content[:PNG_HEAD] + PNG_MARK + content[PNG_HEAD:]
