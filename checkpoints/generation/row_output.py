"""The rows of an output in a file of their own, and the picture that is written from them at the end."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from steadypix.files import write_whole

if TYPE_CHECKING:
    from steadypix.data.pictures.tiff_rows import PictureRows
    from steadypix.gen.large.journal import Record


def write_at(raw: Any, place: int, pixels: np.ndarray, folder: Path) -> None:
    """Write pixels into an unbuffered file; a full disk names the folder."""
    data = pixels.reshape(-1).view(np.uint8).data
    try:
        raw.seek(place)
        while data:
            data = data[raw.write(data) :]
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from None


def write_output(out: Path, rows: PictureRows, output: Record) -> None:
    """Write the output from its rows, with the alpha of the input where both are of one size."""
    from steadypix.data.pictures.row_files import write_rows
    from steadypix.data.pictures.saving import SUFFIXES, in_type, save_image

    height, width, channels = output.facts["shape"]
    dtype = np.dtype(output.facts["dtype"])
    row_bytes = width * channels * dtype.itemsize
    alpha = rows.has_alpha and rows.shape[:2] == (height, width)
    with open(output.path, "rb") as raw:

        def read(top: int, bottom: int) -> np.ndarray:
            raw.seek(top * row_bytes)
            data = raw.read((bottom - top) * row_bytes)
            pixels = np.frombuffer(data, dtype).reshape(bottom - top, width, channels)
            plane = rows.alpha(top, bottom) if alpha else None
            return pixels if plane is None else np.dstack([pixels, in_type(plane, dtype)])

        if out.suffix not in (SUFFIXES["png"], SUFFIXES["tiff"]):
            whole = read(0, height)
            save_image(out, whole[..., :channels], whole[..., -1] if alpha else None)
            return
        shape = (height, width, channels + alpha)
        write_whole(out, functools.partial(write_rows, read=read, shape=shape, alpha=alpha))
