"""Eight ways T to perturb an input, each at five severities, and what each does.

| kind | T | five severities |
|---|---|---|
| noise | Gaussian, the same for every model; standard deviation on [0, 1] | 0.01 0.02 0.04 0.08 0.16 |
| blur | Gaussian; sigma in px | 0.5 1 1.5 2 3 |
| jpeg | a JPEG file, libjpeg's quality, 4:2:0 | 90 70 50 30 10 |
| brightness | adds to every channel on [0, 1] | 0.05 0.1 0.2 0.3 0.4 |
| contrast | scales the distance from the picture's mean luma | 0.9 0.75 0.6 0.45 0.3 |
| rotation | counter-clockwise about the window's centre; degrees | 1 2 5 10 20 |
| scale | enlarges about the centre; a factor | 1.02 1.05 1.1 1.2 1.4 |
| shear | moves rows sideways; px a row | 0.02 0.05 0.1 0.2 0.3 |

JPEG is a real codec rather than kornia's differentiable one, whose soft rounding lies 1 to 2 dB off.
"""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from steadypix.errors import InputError
from steadypix.eval.metrics.decibels import PEAK, Array
from steadypix.sizes import Size, sides

if TYPE_CHECKING:
    from torch import Tensor

N_SEVERITIES = 5
RGB = 3


@dataclass(frozen=True)
class Kind:
    """One kind of perturbation."""

    meaning: str  # in words, with the unit of its values
    values: tuple[float, ...]  # of the five severities, mildest first
    # Changes pixels (canvas on [0, 1], value, seed); None for a geometric kind.
    photometric: Callable[[Tensor, float, int], Tensor] | None = None
    # Returns the 2 x 2 map of (x, y), y down, about the centre; None for a photometric kind.
    matrix: Callable[[float], Array] | None = None


def add_noise(canvas: Tensor, sigma: float, seed: int) -> Tensor:
    """Add Gaussian noise, a function of the seed and of the picture itself.

    So neither the order of pictures nor the number of processes changes it, and the severities of one
    picture are the same pattern, scaled.
    """
    import torch

    content = zlib.crc32((canvas * 255).round().byte().cpu().numpy().tobytes())
    noise = np.random.default_rng((seed, content)).standard_normal(tuple(canvas.shape), dtype=np.float32)
    return canvas + sigma * torch.from_numpy(noise).to(canvas)


def blur(canvas: Tensor, sigma: float, seed: int) -> Tensor:
    """Blur by a Gaussian cut off at four sigma, the border reflected."""
    from kornia.filters import gaussian_blur2d

    reach = min(math.ceil(4 * sigma), min(canvas.shape[-2:]) - 1)  # reflecting needs a larger picture
    return gaussian_blur2d(canvas, 2 * reach + 1, (sigma, sigma))


def jpeg(canvas: Tensor, quality: float, seed: int) -> Tensor:
    """Write the picture to a JPEG file in memory and read it back.

    Raises:
        InputError: for other than 1 or 3 channels.
    """
    import torch
    from PIL import Image

    from steadypix.data.pictures.transforms import to_pixels

    if canvas.shape[1] not in (1, RGB):
        raise InputError(f"jpeg needs inputs of 1 or 3 channels; got {canvas.shape[1]}")
    pixels = to_pixels(canvas[0] * PEAK - 1)
    file = io.BytesIO()
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    image.save(file, "JPEG", quality=int(quality), subsampling="4:2:0")
    decoded = np.asarray(Image.open(file, formats=["JPEG"])).reshape(pixels.shape)
    return torch.from_numpy(decoded.copy()).permute(2, 0, 1)[None].to(canvas) / 255


def brighten(canvas: Tensor, amount: float, seed: int) -> Tensor:
    """Add an amount to every channel."""
    return canvas + amount


def lower_contrast(canvas: Tensor, factor: float, seed: int) -> Tensor:
    """Scale the distance from the picture's mean luma."""
    from kornia.enhance import adjust_contrast_with_mean_subtraction

    return adjust_contrast_with_mean_subtraction(canvas, factor)


def rotate(degrees: float) -> Array:
    """Return the counter-clockwise rotation, as seen on a screen (y runs down)."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, s], [-s, c]])


def enlarge(factor: float) -> Array:
    """Return the enlargement by a factor."""
    return np.diag([factor, factor])


def shear(px_a_row: float) -> Array:
    """Return the map that moves each row to the right by so many px a row below the centre."""
    return np.array([[1.0, px_a_row], [0.0, 1.0]])


KINDS: dict[str, Kind] = {
    "noise": Kind("Gaussian noise, standard deviation on [0, 1]", (0.01, 0.02, 0.04, 0.08, 0.16), add_noise),
    "blur": Kind("Gaussian blur, sigma in px", (0.5, 1.0, 1.5, 2.0, 3.0), blur),
    "jpeg": Kind("JPEG, quality", (90, 70, 50, 30, 10), jpeg),
    "brightness": Kind("brightness, added on [0, 1]", (0.05, 0.1, 0.2, 0.3, 0.4), brighten),
    "contrast": Kind("contrast, factor", (0.9, 0.75, 0.6, 0.45, 0.3), lower_contrast),
    "rotation": Kind("rotation, degrees", (1, 2, 5, 10, 20), matrix=rotate),
    "scale": Kind("enlargement, factor", (1.02, 1.05, 1.1, 1.2, 1.4), matrix=enlarge),
    "shear": Kind("shear, px a row", (0.02, 0.05, 0.1, 0.2, 0.3), matrix=shear),
}


def parse_perturbations(text: str) -> tuple[str, ...]:
    """Read `all` or a comma list into names of `KINDS`.

    >>> parse_perturbations("noise,scale")
    ('noise', 'scale')

    Raises:
        InputError: naming an unknown kind.
    """
    names = tuple(KINDS) if text.strip() == "all" else [part.strip() for part in text.split(",")]
    for name in names:
        if name not in KINDS:
            raise InputError(f"--perturb {name}: is unknown; expected all, or of {', '.join(KINDS)}")
    return tuple(dict.fromkeys(names))


def warp(
    picture: Tensor, matrix: Array, *, window_px: Size, origin_px: Size = 0, padding: str = "zeros"
) -> Tensor:
    """Map a picture about the centre of its window, bicubically, on the same frame.

    Args:
        picture: (1, C, H, W).
        matrix: (2, 2), where (x, y) less the centre goes.
        window_px: size of the window.
        origin_px: left and top of the window in the picture; one number for both.
        padding: `zeros` or `reflection`, what lies outside.

    Returns:
        (1, C, H, W) in double precision, not clipped.
    """
    import torch
    from kornia.geometry.transform import warp_affine

    centre = np.array(sides(origin_px)) + (np.array(sides(window_px)) - 1) / 2
    affine = torch.from_numpy(np.column_stack([matrix, centre - matrix @ centre])[None])
    return warp_affine(
        picture.double(),
        affine.to(picture.device),
        (picture.shape[-2], picture.shape[-1]),
        mode="bicubic",
        padding_mode=padding,
        align_corners=True,
    )


def perturbed_canvas(
    canvas: Tensor, name: str, value: float, *, origin_px: Size, window_px: Size, seed: int = 0
) -> Tensor:
    """Return T x.

    Args:
        canvas: (1, C, S, S) in [-1, 1].
        name: of `KINDS`.
        value: of the severity.
        origin_px: left and top of the window; one number for both.
        window_px: its size; the geometric kinds turn about its centre.
        seed: of the noise.
    """
    kind = KINDS[name]
    if kind.matrix is not None:
        moved = warp(
            canvas, kind.matrix(value), origin_px=origin_px, window_px=window_px, padding="reflection"
        )
        return moved.clamp(-1, 1).to(canvas)
    assert kind.photometric is not None
    changed = kind.photometric((canvas + 1) / PEAK, value, seed)
    return changed.clamp(0, 1) * PEAK - 1
