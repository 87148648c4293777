"""TIFFs read by rows: only the strips or tiles that hold the rows are decoded, so a file may be of any size.

`open_rows` returns None for what only a reader of whole pictures makes the same pixels of: palettes, CMYK,
JPEG, floats, alpha multiplied into colours, pictures that lie on their side.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from steadypix.data.pictures.images import Picture
from steadypix.data.pictures.tiff import ALPHA, black_at_zero, check_page, has_alpha, is_tiff, pages_of
from steadypix.errors import InputError

_RGB = 2
_MIRRORED = (2, 3)  # Orientation: columns from right to left
_FROM_BELOW = (3, 4)  # rows from bottom to top


class PictureRows:
    """A picture that is read by rows, here one that lies in memory.

    Args:
        pixels: (H, W, C) uint8, uint16 or float32.
        alpha: (H, W) of the same type, which is no channel of the pixels, or None.

    Attributes:
        shape: (H, W, C).
        has_alpha: whether there is alpha beside the channels.
    """

    def __init__(self, pixels: np.ndarray, alpha: np.ndarray | None = None) -> None:
        self.shape: tuple[int, ...] = pixels.shape
        self.has_alpha = alpha is not None
        self._pixels, self._alpha = pixels, alpha

    def pixels(self, top: int, bottom: int) -> np.ndarray:
        """Return the rows (bottom - top, W, C) from `top` to before `bottom`.

        Raises:
            InputError: naming the file, if they cannot be decoded.
        """
        return self._pixels[top:bottom]

    def alpha(self, top: int, bottom: int) -> np.ndarray | None:
        """Return alpha (bottom - top, W) of these rows, None if there is none."""
        return None if self._alpha is None else self._alpha[top:bottom]

    def close(self) -> None:
        """Close the file."""


class TiffRows(PictureRows):
    """A TIFF that is read by rows.

    Args:
        path: of the file.
        file: the file, open.
        pages: of tifffile: one, or one a channel.
        channels: that are asked for.
    """

    def __init__(self, path: Path, file: BinaryIO, pages: list[Any], channels: int) -> None:
        self.path = path
        self._file = file
        self._bands = [_Bands(file, page) for page in pages]
        page = pages[0]
        self._orientation: int = page.tags.valueof(274, 1)
        self._channels = channels
        planes, _, height, width, samples = page.shaped
        found = planes * samples * len(pages)
        self._last_is_alpha = has_alpha(page)
        declared = self._last_is_alpha and int(page.extrasamples[-1]) in ALPHA
        self.has_alpha = declared and found != channels
        Picture(path, np.empty((0, 1, found), page.dtype), self._last_is_alpha).with_channels(channels)
        self.shape = (height, width, channels)

    def pixels(self, top: int, bottom: int) -> np.ndarray:
        """Return the rows (bottom - top, W, C) from `top` to before `bottom`."""
        return Picture(self.path, self._rows(top, bottom), self._last_is_alpha).with_channels(self._channels)

    def alpha(self, top: int, bottom: int) -> np.ndarray | None:
        """Return alpha (bottom - top, W) of these rows, None if there is none."""
        return self._rows(top, bottom)[..., -1] if self.has_alpha else None

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _rows(self, top: int, bottom: int) -> np.ndarray:
        """Return these rows of the upright picture in all channels of the file."""
        below = self._orientation in _FROM_BELOW
        first, end = (self.shape[0] - bottom, self.shape[0] - top) if below else (top, bottom)
        try:
            rows = np.concatenate([bands.rows(first, end) for bands in self._bands], axis=2)
        except Exception as error:  # codecs raise anything on damaged bytes
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(f"{self.path}: cannot be read as an image ({reason})") from None
        rows = rows[::-1] if below else rows
        return rows[:, ::-1] if self._orientation in _MIRRORED else rows


class _Bands:
    """A page as bands of rows that are decoded together; those that were read last are kept."""

    def __init__(self, file: BinaryIO, page: Any) -> None:
        self.file, self.page = file, page
        self.planes, _, self.height, self.width, self.samples = page.shaped
        self.across = math.ceil(self.width / page.tilewidth) if page.is_tiled else 1
        self.band_rows: int = page.tilelength if page.is_tiled else min(page.rowsperstrip, self.height)
        self.down = math.ceil(self.height / self.band_rows)
        self.as_they_lie = int(page.compression) == 1 and not page.is_tiled
        self._kept: dict[int, np.ndarray] = {}

    def rows(self, first: int, end: int) -> np.ndarray:
        """Return rows (end - first, W, C) as they lie in the file, black at 0."""
        wanted = range(first // self.band_rows, -(-end // self.band_rows))
        if not self.as_they_lie:
            kept = self._kept
            self._kept = {band: kept[band] if band in kept else self._decode(band) for band in wanted}
        parts = []
        for band in wanted:
            top = band * self.band_rows
            low, high = max(first - top, 0), min(end - top, self.band_rows)
            parts.append(self._read(band, low, high) if self.as_they_lie else self._kept[band][low:high])
        return black_at_zero(self.page, np.concatenate(parts))

    def _read(self, band: int, low: int, high: int) -> np.ndarray:
        """Return some rows of a strip that is not compressed."""
        dtype = self.page.dtype.newbyteorder(self.page.parent.byteorder)
        row_bytes = self.width * self.samples * dtype.itemsize
        planes = []
        for plane in range(self.planes):
            self.file.seek(self.page.dataoffsets[plane * self.down + band] + low * row_bytes)
            data = self.file.read((high - low) * row_bytes)
            planes.append(np.frombuffer(data, dtype).reshape(high - low, self.width, self.samples))
        return np.concatenate(planes, axis=2)

    def _decode(self, band: int) -> np.ndarray:
        """Return the rows of a band of strips or tiles."""
        rows = min(self.band_rows, self.height - band * self.band_rows)
        out = np.zeros((self.planes, rows, self.width, self.samples), self.page.dtype)
        for plane in range(self.planes):
            for column in range(self.across):
                segment = (plane * self.down + band) * self.across + column
                self.file.seek(self.page.dataoffsets[segment])
                data = self.file.read(self.page.databytecounts[segment])
                tile, (_, _, _, left, _), shape = self.page.decode(data, segment)
                tile = tile[0, :rows, : self.width - left]
                if tile.shape[0] < min(rows, shape[1]):
                    raise ValueError("a strip or tile is shorter than its rows")
                out[plane, : tile.shape[0], left : left + tile.shape[1]] = tile
        return np.moveaxis(out, 0, 2).reshape(rows, self.width, -1)


def open_rows(path: Path, channels: int) -> TiffRows | None:
    """Open a TIFF to be read by rows, equal to the picture that `read_image` decodes.

    Args:
        path: the file.
        channels: as of `read_image`; the pages of a file count as channels if they are as many.

    Returns:
        None if it is no TIFF, is damaged, or must be decoded whole: the reader of whole pictures says which.

    Raises:
        InputError: naming the file, if its channels are others.
        OSError: if it cannot be opened.
    """
    import tifffile

    if not path.is_file() or not is_tiff(path):
        return None
    file = open(path, "rb")  # noqa: SIM115 (closed below, or by the rows)
    rows = None
    try:
        pages = pages_of(tifffile.TiffFile(file), channels)
        size = path.stat().st_size
        for page in pages:
            check_page(page, size)
        if all(map(_is_plain, pages)):
            rows = TiffRows(path, file, pages, channels)
    except (OSError, InputError):
        raise
    except Exception:  # whatever a library says of hostile bytes, the reader of whole pictures says it better
        rows = None
    finally:
        if rows is None:
            file.close()
    return rows


def _is_plain(page: Any) -> bool:
    """Whether a reader of whole pictures changes nothing of this page's samples but where black is."""
    extra = tuple(map(int, page.extrasamples))
    if page.tags.valueof(274, 1) not in (1, 2, 3, 4) or int(page.fillorder) != 1:
        return False
    if int(page.photometric) == _RGB and page.samplesperpixel > 3 and not extra:
        return False
    if page.bitspersample == 16:
        return True
    # Pillow reads these: it separates colours from the alpha that they are multiplied by, and converts CMYK.
    return 1 not in extra and int(page.photometric) in (0, 1, _RGB)
