"""Pictures from files: upright, 8 or 16 bits a channel, in the number of channels that is asked for.

Floats are read where they are asked for, by `decode`.

Pillow reads most of them. It would reduce colour of 16 bits to 8 and does not know many channels, so such
PNGs go to imagecodecs and such TIFFs to tifffile.
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps

from steadypix.budget import TooLargeError, require_picture
from steadypix.data.pictures.tiff import is_tiff, read_tiff
from steadypix.data.pictures.transforms import turn_upright
from steadypix.errors import InputError

logging.getLogger("PIL").setLevel(logging.CRITICAL)  # what is wrong is said here, in one line
MAX_CHANNELS = 64
# What Pillow may take a file for, whatever its name says. Of its other decoders some start programs (EPS runs
# Ghostscript, WMF the system's own) and most are hardly ever tried on what is damaged.
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF")
_MODES = {1: "L", 3: "RGB"}
# What else Pillow decodes, and the mode whose channels are meant. Others are those channels already.
_PLAIN = {"1": "L", "P": "RGB", "PA": "RGBA", "La": "LA", "RGBa": "RGBA"}
_PLAIN |= {"YCbCr": "RGB", "LAB": "RGB", "HSV": "RGB"}
_WITH_ALPHA = ("LA", "RGBA", "RGBX")
_ALPHA = ((1,), (2,))  # TIFF's ExtraSamples
_PNG_COLOUR = {2: 3, 4: 2, 6: 4}  # IHDR's colour type -> channels (PNG specification, 11.2.1)


@dataclass(frozen=True)
class Picture:
    """A decoded file."""

    path: Path
    pixels: np.ndarray  # (H, W, C) uint8 or uint16; float32 if asked for
    alpha: bool = False  # whether the last channel is alpha

    def with_channels(self, channels: int) -> np.ndarray:
        """Return (H, W, channels): alpha dropped, gray repeated or colour turned gray as need be.

        Raises:
            InputError: naming the file, if none of that gives this number of channels.
        """
        found = self.pixels.shape[2]
        if found == channels:
            return self.pixels
        colour = self.pixels[..., :-1] if self.alpha else self.pixels
        if colour.shape[2] == channels:
            return colour
        if (colour.shape[2], channels) == (1, 3):
            return colour.repeat(3, axis=2)
        if (colour.shape[2], channels) == (3, 1):
            return luma(colour)
        plural = "" if found == 1 else "s"
        raise InputError(f"{self.path}: has {found} channel{plural}; expected {channels}")


def read_image(path: Path, channels: int = 3) -> np.ndarray:
    """Decode an image fully, upright, as (H, W, channels) uint8 or, of a file of 16 bits, uint16.

    Grayscale becomes RGB and RGB grayscale as Pillow does it, alpha is dropped where it is not asked for;
    any other number of channels must be the file's own.

    Raises:
        InputError: naming the file, if it is missing, no image, cut short, too large, or has other channels.
        TooLargeError: an InputError, if it would take more memory than it may.
    """
    return decode(path, channels).with_channels(channels)


def decode(
    path: Path, channels: int, *, quiet: bool = True, alpha: bool = False, floats: bool = False
) -> Picture:
    """Decode an image fully and upright.

    Args:
        path: the file.
        channels: what will be asked of the picture (at most): what Pillow itself turns into grayscale (1)
            or RGB (3), palettes and CMYK for example, it does; the pages of a TIFF count as channels if
            they are as many.
        quiet: leave out what the readers warn of: a file is read, or refused in one line of ours.
        alpha: beside 1 or 3 channels, keep as the last one what the file declares as alpha or transparent.
        floats: also take TIFFs of floats.

    Raises:
        InputError: as `read_image`, but for the number of channels.
    """
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for its writer
            raise ValueError("no regular file")
        with warnings.catch_warnings():
            if quiet:
                warnings.simplefilter("ignore")
            return _decode(path, channels, alpha, floats)
    except TooLargeError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected an image") from None
    except Exception as error:
        # A truncated file is an OSError; of hostile bytes every reader makes any kind: type, key, struct, ...
        usual = isinstance(error, OSError | SyntaxError | ValueError | Image.DecompressionBombError)
        reason = str(error) if usual and str(error) else f"{type(error).__name__}: {error}"
        expected = f"not an image of {', '.join(FORMATS)}"
        reason = expected if "cannot identify" in reason else " ".join(reason.split())
        raise InputError(f"{path}: cannot be read as an image ({reason})") from None


def open_picture(source: Path | IO[bytes]) -> Image.Image:
    """Open a picture of one of `FORMATS`, found by its content: a JPEG named .png is read as the JPEG it is.

    Raises:
        PIL.UnidentifiedImageError: if it is of no such format.
        OSError: as the system raises it.
    """
    return Image.open(source, formats=FORMATS)


def luma(pixels: np.ndarray) -> np.ndarray:
    """Turn (H, W, 3) into (H, W, 1), ITU-R 601-2 in 16 fractional bits, as Pillow's mode L."""
    if pixels.dtype.kind == "f":
        return (pixels @ (np.array([19595, 38470, 7471], np.float32) / 65536))[..., None]
    red, green, blue = (pixels[..., c].astype(np.uint32) for c in range(3))
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).astype(pixels.dtype)[..., None]


def _decode(path: Path, channels: int, alpha: bool, floats: bool) -> Picture:
    filler = not alpha or channels not in _MODES
    try:
        image = open_picture(path)
    except Image.UnidentifiedImageError:
        if is_tiff(path):  # of more channels than Pillow knows
            return Picture(path, *read_tiff(path, channels, floats=floats, filler=filler))
        raise
    with image:
        if image.format == "TIFF" and _beyond_pillow(image, channels):
            return Picture(path, *read_tiff(path, channels, floats=floats, filler=filler))
        samples = _deep_colour(path) if image.format == "PNG" else 0
        require_picture(
            _decoded_bytes(image, channels, samples), f"{path}: {image.width} x {image.height} px"
        )
        if samples:
            orientation = image.getexif().get(0x0112, 1)  # decodes all of it: a cut file ends here
            return Picture(path, turn_upright(_read_deep_png(path, samples), orientation), samples != 3)
        return Picture(path, *_pillow_pixels(ImageOps.exif_transpose(image), channels, alpha))


def _decoded_bytes(image: Image.Image, channels: int, deep_samples: int) -> int:
    """Return about what decoding takes, from the header: what Pillow holds, turns, converts and hands over.

    Pillow has a byte for a pixel of 1 bit, four for colour, and as much again while it turns or converts. Of
    a PNG of 16 bits it looks at all, and imagecodecs decodes it; alpha is copied once more.
    """
    stored = 1 if image.mode in ("1", "L", "P") else 4
    a_pixel = 2 * stored + 4 + 2 * max(channels, len(image.getbands()))
    if deep_samples:
        a_pixel = 4 + 2 * deep_samples * (1 if deep_samples == 3 else 2)
    return image.width * image.height * a_pixel


def _pillow_pixels(image: Image.Image, channels: int, alpha: bool) -> tuple[np.ndarray, bool]:
    """Return pixels, and whether the last channel is alpha."""
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)[..., None], False
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode}; expected 8 or 16 bits a channel")
    if channels in _MODES:
        colour = image.convert(_MODES[channels])
        if alpha and ("A" in image.getbands() or "transparency" in image.info):
            plane = image.convert("RGBA").getchannel("A")
            return np.dstack([np.asarray(colour), np.asarray(plane)]), True
        image = colour
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    elif image.mode in _PLAIN:
        image = image.convert(_PLAIN[image.mode])
    return np.atleast_3d(np.asarray(image)), image.mode in _WITH_ALPHA


def _beyond_pillow(image: Image.Image, channels: int) -> bool:
    """Whether Pillow would drop bits, samples or pages of this TIFF."""
    tags = image.tag_v2  # type: ignore[attr-defined]
    samples = tags.get(277, 1)
    if max(tags.get(258, (1,))) > 8 or samples > len(image.getbands()):
        return True
    if samples == 2 and tags.get(338, ())[:1] not in _ALPHA:  # two channels of anything, not gray with alpha
        return True
    return samples == 1 and channels > 1 and getattr(image, "n_frames", 1) == channels


def _deep_colour(path: Path) -> int:
    """Return the channels of a PNG of 16 bits that Pillow would reduce to 8; 0 for any other."""
    with open(path, "rb") as file:
        header = file.read(26)
    return _PNG_COLOUR.get(header[25], 0) if len(header) == 26 and header[24] == 16 else 0


def _read_deep_png(path: Path, samples: int) -> np.ndarray:
    import imagecodecs

    try:
        pixels = imagecodecs.png_decode(path.read_bytes())
    except RuntimeError as error:  # of which its own errors are a kind
        raise ValueError(str(error)) from None
    # A colour named transparent would come as one channel more.
    return np.ascontiguousarray(pixels[..., :samples])
