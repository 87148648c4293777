"""Random jitter that treats both halves of a pair alike, and the step from pixels to tensors.

Isola et al. 2017, section 6.2: resize to the load size, crop back at random, mirror at random.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def resize(pixels: np.ndarray, size: int) -> np.ndarray:
    """Resize (H, W, C) to a square of `size` px with Pillow's anti-aliased bicubic; a no-op at that size.

    uint8 is resized as Pillow does it. uint16 is filtered in float32 by the same taps, rounded and clipped,
    so it never goes through 8 bits. Every channel by itself: alpha, where asked for, is one among others.
    """
    if pixels.shape[:2] == (size, size):
        return pixels
    if pixels.dtype == np.uint8 and pixels.shape[2] == 3:
        return np.asarray(_resize(pixels, size))
    planes = [_resize(_plane(pixels[..., channel]), size) for channel in range(pixels.shape[2])]
    resized = np.dstack([np.asarray(plane) for plane in planes])
    if pixels.dtype == np.uint8:
        return resized
    return np.clip(np.rint(resized), 0, np.iinfo(pixels.dtype).max).astype(pixels.dtype)


def _plane(channel: np.ndarray) -> np.ndarray:
    return channel if channel.dtype == np.uint8 else channel.astype(np.float32)  # Pillow's modes L and F


def _resize(pixels: np.ndarray, size: int) -> Image.Image:
    return Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC)


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
    load_size: int, crop_size: int, *, flip: bool, rng: np.random.Generator
) -> tuple[int, int, bool]:
    """Draw one jitter: the window's left and top in px, and whether to mirror.

    Args:
        load_size: side of the picture in px.
        crop_size: side of the window in px, at most `load_size`.
        flip: whether mirroring is allowed; then it is drawn with probability 1/2.
        rng: the generator everything is drawn from.
    """
    left, top = rng.integers(0, load_size - crop_size + 1, size=2)
    return int(left), int(top), bool(flip and rng.random() < 0.5)


def cut(pixels: np.ndarray, left: int, top: int, size: int, *, mirrored: bool) -> np.ndarray:
    """Cut a (size, size, C) window out of (H, W, C) `pixels`; mirrored left to right if asked."""
    window = pixels[top : top + size, left : left + size]
    return window[:, ::-1] if mirrored else window


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
