"""Random jitter that treats both halves of a pair alike, and the step from pixels to tensors.

Isola et al. 2017, section 6.2: resize to the load size, crop back at random, mirror at random.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def resize(image: Image.Image, size: int) -> Image.Image:
    """Resize to a square of `size` px with Pillow's anti-aliased bicubic; a no-op at that size."""
    return image if image.size == (size, size) else image.resize((size, size), Image.Resampling.BICUBIC)


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
    """Turn (H, W, C) uint8 pixels into a (C, H, W) float32 tensor in [-1, 1]."""
    tensor = torch.from_numpy(pixels.transpose(2, 0, 1).copy())  # a decoder's pixels may be read-only
    return tensor.float().div_(127.5).sub_(1.0)


def to_pixels(tensor: Tensor) -> np.ndarray:
    """Turn a (C, H, W) tensor in [-1, 1] into (H, W, C) uint8 pixels, rounded and clipped."""
    scaled = tensor.detach().float().add(1.0).mul(127.5).round().clamp(0, 255)
    return scaled.to(torch.uint8).cpu().numpy().transpose(1, 2, 0)
