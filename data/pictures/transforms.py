"""Random jitter that treats both halves of a pair alike, and the step from pixels to tensors.

Isola et al. 2017, section 6.2: resize to the load size, crop back at random, mirror at random. There every
picture becomes a square; `sizing` has the rules that leave its aspect alone.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from steadypix.data.pictures.sizing import sides_after
from steadypix.sizes import Size, sides


def resize(pixels: np.ndarray, size: int, rule: str = "square") -> np.ndarray:
    """Resize (H, W, C) by a rule of `sizing` with Pillow's anti-aliased bicubic; a no-op at the size it has.

    uint8 is resized as Pillow does it. uint16 is filtered in float32 by the same taps, rounded and clipped,
    so it never goes through 8 bits; so are floats, which stay in [0, 1]. Every channel by itself: alpha,
    where asked for, is one among others.
    """
    height, width = pixels.shape[:2]
    return resize_to(pixels, *sides_after(height, width, size, rule))


def cover(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize (H, W, C), aspect kept, to the smallest picture that holds `size`, a width and height in px."""
    height, width = pixels.shape[:2]
    factor = max(size[0] / width, size[1] / height)
    return resize_to(pixels, max(size[1], round(factor * height)), max(size[0], round(factor * width)))


def to_load_size(pixels: np.ndarray, load_px: tuple[int, int], rule: str) -> np.ndarray:
    """Bring (H, W, C) to the load size, a width and height in px.

    By a rule of `sizing`; a rectangle is covered, unless the rule is `none`.
    """
    if load_px[0] != load_px[1] and rule != "none":
        return cover(pixels, load_px)
    return resize(pixels, min(load_px), rule)


def resize_to(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize (H, W, C) to so many px, as `resize` does."""
    if pixels.shape[:2] == (height, width):
        return pixels
    if pixels.dtype == np.uint8 and pixels.shape[2] == 3:
        return np.asarray(_resize(pixels, (height, width)))
    planes = [_resize(_plane(pixels[..., channel]), (height, width)) for channel in range(pixels.shape[2])]
    resized = np.dstack([np.asarray(plane) for plane in planes])
    if pixels.dtype == np.uint8:
        return resized
    if pixels.dtype.kind == "f":
        return resized.clip(0, 1)  # the filter's taps reach beyond what is there
    return np.clip(np.rint(resized), 0, np.iinfo(pixels.dtype).max).astype(pixels.dtype)


def _plane(channel: np.ndarray) -> np.ndarray:
    return channel if channel.dtype == np.uint8 else channel.astype(np.float32)  # Pillow's modes L and F


def _resize(pixels: np.ndarray, sides: tuple[int, int]) -> Image.Image:
    height, width = sides
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


def turn_upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return (H, W, C) as the EXIF or TIFF tag Orientation (1 to 8; others count as 1) wants it shown."""
    turned = {
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.swapaxes(0, 1),
        6: np.rot90(pixels, -1),
        7: pixels[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(pixels, 1),
    }
    return turned.get(orientation, pixels)


def random_window(
    height: int, width: int, crop_size: int, *, flip: bool, rng: np.random.Generator
) -> tuple[int, int, bool]:
    """Draw one jitter: the window's left and top in px, and whether to mirror.

    Args:
        height: of the picture in px.
        width: of the picture in px.
        crop_size: side of the window in px, at most the picture's.
        flip: whether mirroring is allowed; then it is drawn with probability 1/2.
        rng: the generator everything is drawn from.
    """
    left, top = (int(rng.integers(0, side - crop_size + 1)) for side in (width, height))
    return left, top, bool(flip and rng.random() < 0.5)


def cut(pixels: np.ndarray, left: int, top: int, size: int, *, mirrored: bool) -> np.ndarray:
    """Cut a (size, size, C) window out of (H, W, C) `pixels`; mirrored left to right if asked."""
    window = pixels[top : top + size, left : left + size]
    return window[:, ::-1] if mirrored else window


def cut_around(
    pixels: np.ndarray, left: int, top: int, size: int, context_px: int, *, mirrored: bool
) -> np.ndarray:
    """Cut a window as `cut` does, with what surrounds it in the picture.

    Args:
        pixels: (H, W, C).
        left: of the window, without its surroundings.
        top: the same.
        size: side of the window in px.
        context_px: added on each side. What lies outside of the picture is mirrored about its outermost px.
        mirrored: left to right, as a whole.
    """
    rows, columns = (
        _mirrored_places(start - context_px, start + size + context_px, side)
        for start, side in zip((top, left), pixels.shape, strict=False)
    )
    window = pixels[rows][:, columns]
    return window[:, ::-1] if mirrored else window


def _mirrored_places(start: int, stop: int, length: int) -> np.ndarray:
    """Return which px of an axis is seen at `start`, ... `stop` - 1 where the picture is mirrored outside."""
    last = length - 1
    return last - np.abs(last - np.arange(start, stop) % max(2 * last, 1))


def cut_centre(pixels: np.ndarray, size: Size) -> np.ndarray:
    """Cut the square of `size` px, or the rectangle, in the middle of (H, W, C) `pixels`, a view."""
    (width, height), (tall, wide) = sides(size), pixels.shape[:2]
    top, left = (tall - height) // 2, (wide - width) // 2
    return pixels[top : top + height, left : left + width]


def to_tensor(pixels: np.ndarray) -> Tensor:
    """Turn (H, W, C) uint8, uint16 or float32 pixels into a (C, H, W) float32 tensor in [-1, 1].

    The range is that of the type: 0 becomes -1, and 255, 65535 or 1.0 becomes 1.
    """
    half = 0.5 if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype).max / 2
    planes = pixels.transpose(2, 0, 1)
    if pixels.dtype != np.uint8:
        planes = planes.astype(np.float32)  # exact; torch knows little of uint16
    tensor = torch.from_numpy(planes.copy())  # a decoder's pixels may be read-only
    return tensor.float().div_(half).sub_(1.0)


def to_pixels(tensor: Tensor, bits: int = 8) -> np.ndarray:
    """Turn a (C, H, W) tensor in [-1, 1] into (H, W, C) pixels of 8 or 16 bits, rounded and clipped.

    Of 32 bits they are floats, -1 at 0 and 1 at 1, neither rounded nor clipped.
    """
    if bits == 32:
        return tensor.detach().double().add(1).div(2).float().cpu().numpy().transpose(1, 2, 0)
    top = 2**bits - 1
    scaled = tensor.detach().float().add(1.0).mul(top / 2).round().clamp(0, top)
    if bits == 8:
        return scaled.to(torch.uint8).cpu().numpy().transpose(1, 2, 0)
    return scaled.cpu().numpy().astype(np.uint16).transpose(1, 2, 0)
