"""Picture files written by rows: memory holds a few of them, whatever the picture's size."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from steadypix.data.pictures.saving import PNG_MARK, SUFFIXES, png_chunk
from steadypix.data.pictures.tiff import tiff_options

STRIP_BYTES = 1 << 18  # of a TIFF, as tifffile cuts what it writes at once
CLASSIC_BYTES = 4_000_000_000  # offsets of a TIFF that is no BigTIFF have 32 bits
ReadRows = Callable[[int, int], np.ndarray]


def write_rows(path: Path, read: ReadRows, shape: tuple[int, int, int], *, alpha: bool = False) -> None:
    """Write a picture in the format of the path's suffix; `steadypix.files.write_whole` makes it whole.

    A TIFF is equal to the byte to the one that `save_image` writes, but for what is beyond 4 GB (BigTIFF).

    Args:
        path: ends in .png (then C is 1 or 3, with alpha 2 or 4, of integers) or .tif.
        read: returns rows (bottom - top, W, C) uint8, uint16 or float32 from `top` to before `bottom`.
        shape: (H, W, C).
        alpha: whether the last channel is alpha.

    Raises:
        ValueError: for another suffix.
        OSError: as the system raises it.
    """
    if path.suffix == SUFFIXES["tiff"]:
        _write_tiff(path, read, shape, alpha)
    elif path.suffix == SUFFIXES["png"]:
        with open(path, "wb") as file:
            _write_png(file, read, shape)
    else:
        raise ValueError(f"{path}: is not written by rows; expected .png or .tif")


def _write_tiff(path: Path, read: ReadRows, shape: tuple[int, int, int], alpha: bool) -> None:
    import imagecodecs
    import tifffile

    height, width, channels = shape
    dtype = read(0, 1).dtype
    row_bytes = width * channels * dtype.itemsize
    rows = min(height, max(1, STRIP_BYTES // row_bytes))
    differences = imagecodecs.floatpred_encode if dtype.kind == "f" else imagecodecs.delta_encode

    def strips() -> Iterator[bytes]:
        for top in range(0, height, rows):
            strip = np.ascontiguousarray(read(top, min(top + rows, height)))
            coded = np.ascontiguousarray(differences(strip, axis=-2))
            yield bytes(imagecodecs.deflate_encode(coded.tobytes()))

    # Deflate may need a little more than what it cannot compress.
    big = row_bytes * height * 1.01 > CLASSIC_BYTES
    with tifffile.TiffWriter(path, bigtiff=big) as writer:
        writer.write(
            strips(),
            shape=shape if channels > 1 else shape[:2],
            dtype=dtype,
            rowsperstrip=rows,
            **tiff_options(channels, alpha=alpha),
        )


def _write_png(file: BinaryIO, read: ReadRows, shape: tuple[int, int, int]) -> None:
    """Write a PNG (the specification's third edition; sections in brackets)."""
    height, width, channels = shape
    dtype = read(0, 1).dtype
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]  # [11.2.1]
    header = struct.pack(">IIBBBBB", width, height, 8 * dtype.itemsize, colour, 0, 0, 0)
    file.write(b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + PNG_MARK)
    packed = zlib.compressobj()
    step = channels * dtype.itemsize  # bytes between a sample and the same of the pixel to the left
    above = np.zeros((1, width * step), np.uint8)
    rows = max(1, STRIP_BYTES // (width * step))
    for top in range(0, height, rows):
        strip = np.ascontiguousarray(read(top, min(top + rows, height)).astype(dtype.newbyteorder(">")))
        lines = strip.view(np.uint8).reshape(len(strip), -1)
        data = packed.compress(_filtered(np.concatenate([above, lines]), step).tobytes())
        if data:
            file.write(png_chunk(b"IDAT", data))
        above = lines[-1:]
    file.write(png_chunk(b"IDAT", packed.flush()) + png_chunk(b"IEND", b""))


def _filtered(lines: np.ndarray, step: int) -> np.ndarray:
    """Return each line but the first as the filter that leaves least of it makes it [9.2, 12.7].

    Args:
        lines: (n + 1, bytes) uint8, of which the first is the line above.
        step: bytes of a pixel.

    Returns:
        (n, 1 + bytes) uint8, the filter's number in front.
    """
    now = lines[1:].astype(np.int16)
    up = lines[:-1].astype(np.int16)
    left, corner = (np.pad(part, ((0, 0), (step, 0)))[:, :-step] for part in (now, up))
    predicted = [np.zeros_like(now), left, up, (left + up) // 2, _paeth(left, up, corner)]
    ways = [(now - guess).astype(np.uint8) for guess in predicted]
    left_over = np.stack([np.abs(way.view(np.int8).astype(np.int16)).sum(1, dtype=np.int64) for way in ways])
    best = left_over.argmin(0)
    chosen = np.stack(ways)[best, np.arange(len(best))]
    return np.concatenate([best[:, None].astype(np.uint8), chosen], axis=1)


def _paeth(left: np.ndarray, up: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """Return which of three neighbours is nearest to left + up - corner [9.4]."""
    by_left, by_up = np.abs(up - corner), np.abs(left - corner)
    by_corner = np.abs(left + up - 2 * corner)
    nearer = np.where(by_up <= by_corner, up, corner)
    return np.where((by_left <= by_up) & (by_left <= by_corner), left, nearer)
