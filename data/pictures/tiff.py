"""TIFFs of 16 bits, floats or many channels: read within bounds, written, by tifffile.

A header may claim anything, so sizes are checked against bounds and against the file before pixels are
decoded, and only compressions are taken whose decoders stop at the size they are told.
"""

from __future__ import annotations

import io
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from steadypix.budget import TooLargeError, require_picture
from steadypix.data.pictures.transforms import turn_upright

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_COMPRESSIONS = {1: "none", 5: "LZW", 8: "Deflate", 32946: "Deflate", 32773: "PackBits", 50000: "Zstandard"}
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _CMYK = 0, 1, 2, 5
_PHOTOMETRIC = (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _CMYK)
ALPHA = (1, 2)  # ExtraSamples: associated, unassociated
MAX_BYTES = 1 << 30
COPIES = 3  # of the pixels: as they are decoded, joined, and upright
SOFTWARE = "steadypix"  # what pictures of any format say that wrote them, see `saving.is_ours`

# What is wrong with a file becomes one line of ours; tifffile would log more of them on stderr.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


def is_tiff(path: Path) -> bool:
    """Whether a file starts as TIFFs do."""
    with open(path, "rb") as file:
        return file.read(4) in _MAGIC


def read_tiff(
    path: Path, channels: int = 1, *, floats: bool = False, filler: bool = True
) -> tuple[np.ndarray, bool]:
    """Decode the first picture of a TIFF, upright.

    Args:
        path: the file.
        channels: what will be asked for. If the file has as many grayscale pages of one size (a stack of
            channels), they are its channels; other pages than the first are not looked at otherwise.
        floats: whether pixels of 16 or 32 bits may be floats; they become float32.
        filler: whether a fourth sample beside RGB that is not declared alpha counts as such, or is dropped.

    Returns:
        (H, W, C) uint8, uint16 or float32, and whether the last channel is alpha.

    Raises:
        ValueError: saying what is wrong with the file.
        TooLargeError: if it would take more memory than it may.
        OSError: if it cannot be opened.
    """
    import tifffile

    with open(path, "rb") as file:
        try:
            with tifffile.TiffFile(file) as tiff:
                pages = pages_of(tiff, channels)
                for page in pages:
                    _check(page, path.stat().st_size, len(pages), floats)
                height, width = pages[0].shaped[2:4]
                needed = COPIES * len(pages) * math.prod(pages[0].shaped) * pages[0].dtype.itemsize
                require_picture(needed, f"{path}: {width} x {height} px")
                pixels = np.concatenate([_pixels(page) for page in pages], axis=2)
                upright = turn_upright(pixels, pages[0].tags.valueof(274, 1))
                alpha = has_alpha(pages[0])
                if alpha and not filler and int(pages[0].extrasamples[-1]) not in ALPHA:
                    upright, alpha = upright[..., :-1], False
                return np.ascontiguousarray(upright), alpha
        except (OSError, TooLargeError):
            raise
        except Exception as error:
            # A library that parses hostile bytes fails in any way: struct, index, type, codec errors.
            raise ValueError(str(error) or type(error).__name__) from None


def pages_of(tiff: Any, channels: int) -> list[Any]:
    """Return the pages of an open file that make a picture: the first, or one a channel; see `read_tiff`."""
    first = tiff.pages.first
    if channels > 1 and first.samplesperpixel == 1 and len(tiff.pages) == channels:
        stack = [tiff.pages[number].aspage() for number in range(channels)]
        if len({(page.samplesperpixel, page.shaped, str(page.dtype)) for page in stack}) == 1:
            return stack
    return [first]


def tiff_bytes(pixels: np.ndarray, *, alpha: bool = False) -> bytes:
    """Return (H, W, C) uint8, uint16 or float32 as a TIFF file: one page, channels interleaved, Deflate.

    `alpha` says that the last channel is alpha, beside colours that are not multiplied by it.
    """
    import tifffile

    channels = pixels.shape[2]
    buffer = io.BytesIO()
    plain = pixels[..., 0] if channels == 1 else pixels
    tifffile.imwrite(buffer, plain, **tiff_options(channels, alpha=alpha))
    return buffer.getvalue()


def tiff_options(channels: int, *, alpha: bool) -> dict[str, Any]:
    """Return how tifffile is to write this many channels, of which the last may be alpha."""
    colours = channels - alpha
    extra = ["unspecified"] * (colours - (3 if colours == 3 else 1)) + ["unassalpha"]
    return {
        "photometric": "rgb" if colours == 3 else "minisblack",
        "planarconfig": None if channels == 1 else "contig",
        "extrasamples": extra if alpha else None,
        "compression": "zlib",
        "predictor": True,
        "metadata": None,
        "software": SOFTWARE,
    }


def _check(page: Any, file_bytes: int, n_pages: int, floats: bool) -> None:
    """Refuse, before anything is allocated, a page that is too large, not ours, or lies about itself."""
    planes, _, height, width, samples = page.shaped
    check_page(page, file_bytes, floats=floats)
    bound = 2 * (Image.MAX_IMAGE_PIXELS or MAX_BYTES)  # where Pillow stops, too
    n_bytes = math.prod(page.shaped) * page.dtype.itemsize
    if height * width > bound or n_bytes * n_pages > MAX_BYTES:
        raise ValueError(f"{width} x {height} px of {planes * samples} channels are too many to decode")


def check_page(page: Any, file_bytes: int, *, floats: bool = False) -> None:
    """Refuse a page that is not ours to decode or that lies about itself; its size may be any.

    Args:
        page: of tifffile.
        file_bytes: size of the file.
        floats: whether pixels may be floats.

    Raises:
        ValueError: saying what is wrong.
    """
    as_floats = floats and page.dtype in (np.float16, np.float32) and page.bitspersample in (16, 32)
    if not as_floats and (page.dtype not in (np.uint8, np.uint16) or page.bitspersample not in (8, 16)):
        raise ValueError(f"pixels of {_kind(page)}; expected 8 or 16 bits a channel, whole and unsigned")
    if int(page.compression) not in _COMPRESSIONS:
        names = ", ".join(dict.fromkeys(_COMPRESSIONS.values()))
        raise ValueError(f"compression {int(page.compression)}; expected {names}")
    if int(page.photometric) not in _PHOTOMETRIC:
        raise ValueError(f"photometric {int(page.photometric)}; expected grayscale, RGB or plain channels")
    planes, depth, height, width, samples = page.shaped
    if depth != 1 or min(planes, height, width, samples) < 1:
        raise ValueError(f"a size of {width} x {height} x {depth}; expected a flat picture")
    n_bytes = math.prod(page.shaped) * page.dtype.itemsize
    decoded = int(page.compression) != 1  # what is not compressed is read row by row where it is large
    if decoded and math.prod(page.chunks) * page.dtype.itemsize > MAX_BYTES:
        raise ValueError(f"tiles of {' x '.join(map(str, page.chunks))} are too large to decode")
    n_segments = math.prod(page.chunked)
    offsets, counts = page.dataoffsets[:n_segments], page.databytecounts[:n_segments]
    whole = len(offsets) == len(counts) == n_segments
    if not whole or any(o <= 0 or n <= 0 or o + n > file_bytes for o, n in zip(offsets, counts, strict=True)):
        raise ValueError("its strips or tiles do not lie in the file; it may be cut short")
    if int(page.compression) == 1 and n_bytes > file_bytes:
        raise ValueError(f"{n_bytes} bytes of pixels in a file of {file_bytes}; it may be cut short")


def _pixels(page: Any) -> np.ndarray:
    """Return (H, W, C), native byte order, black at 0."""
    planes = page.asarray(squeeze=False, maxworkers=1)[:, 0]
    # Samples lie beside each other or in planes: one of both axes is 1.
    return black_at_zero(page, np.moveaxis(planes, 0, 2).reshape(*planes.shape[1:3], -1))


def black_at_zero(page: Any, pixels: np.ndarray) -> np.ndarray:
    """Return pixels (H, W, C) of a page in native byte order, black at 0; floats as float32."""
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    white = 1 if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype).max
    pixels = white - pixels if int(page.photometric) == _WHITE_IS_ZERO else pixels
    return pixels.astype(np.float32) if pixels.dtype.kind == "f" else pixels


def has_alpha(page: Any) -> bool:
    """Whether the last sample is alpha, or the filler beside RGB that Pillow drops as well."""
    colours = 3 if int(page.photometric) == _RGB else 1
    extra = tuple(map(int, page.extrasamples))
    return page.samplesperpixel == colours + 1 and (colours == 3 or any(kind in ALPHA for kind in extra[-1:]))


def _kind(page: Any) -> str:
    kinds = {1: "unsigned", 2: "signed", 3: "float"}
    kind = kinds.get(page.sampleformat, "unknown") if isinstance(page.sampleformat, int) else "mixed"
    return f"{page.bitspersample} bits, {kind}"
