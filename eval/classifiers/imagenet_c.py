"""The fifteen corruptions with the constants of ImageNet-C (Hendrycks and Dietterich 2019, their release).

The constants are for pictures of 224 px. What has no length (deviations, photons, parts, factors, qualities)
is the same at every size; a length is scaled by side / 224, and so are displacements. The making is our own:

| kind | what differs from the original |
|---|---|
| defocus blur | the disk's rim is weighted by how much of a pixel lies inside, instead of blurred |
| glass blur | pixels are moved bilinearly, as far as shuffles move them: small lengths cannot be shuffled |
| motion blur, snow | the blur's taps lie between pixels where lengths are scaled |
| snow | a flake is not smaller than a pixel |
| frost | crystals of fractal noise in place of six photographs |
| fog | noise whose spectrum falls as diamond-square's does, in place of it |
| elastic transform | the border is repeated instead of mirrored; the severities are out of order there too |
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Generator, Tensor

from steadypix.eval.classifiers.corruptions import (
    CORRUPTIONS,
    Corruption,
    crystals,
    disk,
    displaced,
    filtered,
    fractal,
    spread,
    zoomed,
)

SIDE_PX = 224


def scale_of(x: Tensor) -> float:
    """Return what the lengths of pictures (C, H, W) are multiplied by."""
    return x.shape[-1] / SIDE_PX


def trail(radius_px: float, sigma_px: float, angle: float, scale: float) -> Tensor:
    """Return motion blur as a kernel: half a Gaussian of 2 * radius + 1 taps, from the middle along `angle`.

    Lengths are those at 224 px, `angle` in radians; the taps lie `scale` px apart.
    """
    taps = torch.arange(2 * math.ceil(radius_px) + 1, dtype=torch.float64)
    return spread((taps * scale).tolist(), torch.exp(-((taps / sigma_px) ** 2) / 2).tolist(), angle)


def snow_layer(x: Tensor, values: Sequence[float], generator: Generator) -> Tensor:
    """Return flakes (1, H, W) in [0, 1] before the wind: loc, scale, zoom and threshold of normal noise."""
    loc, deviation, zoom, threshold = values
    noise = loc + deviation * torch.randn(1, *x.shape[-2:], generator=generator)
    layer = zoomed(noise, max(1.0, zoom * scale_of(x)))
    return torch.where(layer < threshold, 0.0, layer).clamp(0, 1)


def with_snow(x: Tensor, layer: Tensor, keep: float) -> Tensor:
    """Return a picture (C, H, W) under a layer of flakes (1, H, W), itself made paler; `keep` of it stays."""
    weights = (0.299, 0.587, 0.114) if len(x) == 3 else (1 / len(x),) * len(x)  # of luma
    luma = (torch.tensor(weights, dtype=x.dtype)[:, None, None] * x).sum(0, keepdim=True)
    pale = keep * x + (1 - keep) * torch.maximum(x, 1.5 * luma + 0.5)
    return pale + layer + layer.rot90(2, (1, 2))


def brighten(x: Tensor, amount: float) -> Tensor:
    """Add to the value of HSV, the largest channel: hue and saturation stay."""
    value = x.amax(0, keepdim=True)
    raised = (value + amount).clamp(0, 1)
    return torch.where(value > 0, x * raised / value.clamp_min(1e-12), raised)


def _uniform(low: float, high: float, generator: Generator) -> float:
    return low + (high - low) * torch.rand(1, generator=generator).item()


def _smooth(x: Tensor, sigma_px: float, truncate: float = 4.0) -> Tensor:
    from scipy.ndimage import gaussian_filter

    return torch.from_numpy(gaussian_filter(x.numpy(), (0, sigma_px, sigma_px), truncate=truncate))


def _glass_blur(x: Tensor, values: Sequence[float], generator: Generator) -> Tensor:
    sigma, delta, iterations = values
    # A pixel is shuffled about twice an iteration: its own turn, and another's.
    reach = delta * math.sqrt(2 * iterations) * scale_of(x)
    moves = (2 * torch.rand(2, *x.shape[-2:], generator=generator) - 1) * reach
    return _smooth(displaced(_smooth(x, sigma * scale_of(x)), *moves), sigma * scale_of(x))


def _motion_blur(x: Tensor, values: Sequence[float], generator: Generator) -> Tensor:
    radius, sigma = values
    return filtered(x, trail(radius, sigma, math.radians(_uniform(-45, 45, generator)), scale_of(x)))


def _zoom_blur(x: Tensor, values: Sequence[float], _: Generator) -> Tensor:
    end, step = values
    factors = np.arange(1, end, step).tolist()  # rounding adds a last one to some, as it did there
    return (x + sum(zoomed(x, factor) for factor in factors)) / (len(factors) + 1)


def _snow(x: Tensor, values: Sequence[float], generator: Generator) -> Tensor:
    *flakes, radius, sigma, keep = values
    layer = snow_layer(x, flakes, generator)
    wind = math.radians(_uniform(-135, -45, generator))
    return with_snow(x, filtered(layer, trail(radius, sigma, wind, scale_of(x))), keep)


def _frost(x: Tensor, values: Sequence[float], generator: Generator) -> Tensor:
    keep, weight = values
    return keep * x + weight * crystals(x, generator)


def _fog(x: Tensor, values: Sequence[float], generator: Generator) -> Tensor:
    thickness, decay = values
    # Diamond-square's noise falls by the square of `decay` an octave, its spectrum by one power more.
    noise = fractal(generator, *x.shape[-2:], slope=1 + 2 * math.log2(decay))
    most = x.max()
    return (x + thickness * noise) * most / (most + thickness)


def _elastic_transform(x: Tensor, values: Sequence[float], generator: Generator) -> Tensor:
    """Move three points, and with them the picture; then every pixel along smooth noise."""
    length, sigma, jitter = (value * scale_of(x) for value in values)
    height, width = x.shape[-2:]
    centre, arm = torch.tensor([width // 2, height // 2]).double(), min(height, width) // 3
    points = centre + arm * torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]], dtype=torch.float64)
    moved = points + jitter * (2 * torch.rand(3, 2, generator=generator).double() - 1)
    one = torch.ones(3, 1, dtype=torch.float64)
    back = torch.linalg.lstsq(torch.cat([moved, one], 1), points).solution  # from where it is to where it was
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack([columns, rows, torch.ones_like(rows)], -1).double() @ back
    x = displaced(x, (places[..., 0] - columns).to(x), (places[..., 1] - rows).to(x))
    moves = _smooth(2 * torch.rand(2, height, width, generator=generator) - 1, sigma, truncate=3)
    return displaced(x, *(moves * length / torch.linalg.vector_norm(moves, dim=0).mean().clamp_min(1e-12)))


# What is done; what its five values are. Lengths are in px at 224 px.
IMAGENET_C: dict[str, Corruption] = {
    "gaussian_noise": Corruption((0.08, 0.12, 0.18, 0.26, 0.38), CORRUPTIONS["gaussian_noise"].make),
    "shot_noise": Corruption((60, 25, 12, 5, 3), CORRUPTIONS["shot_noise"].make),
    "impulse_noise": Corruption((0.03, 0.06, 0.09, 0.17, 0.27), CORRUPTIONS["impulse_noise"].make),
    "defocus_blur": Corruption(  # radius
        (3, 4, 6, 8, 10), lambda x, radius, _: filtered(x, disk(radius * scale_of(x)))
    ),
    "glass_blur": Corruption(  # sigma, reach of a shuffle, shuffles
        ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)), _glass_blur
    ),
    "motion_blur": Corruption(((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)), _motion_blur),  # radius, sigma
    "zoom_blur": Corruption(  # factors from 1 to the first number, in steps of the second
        ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)), _zoom_blur
    ),
    "snow": Corruption(  # mean, deviation, zoom, threshold; radius and sigma of the wind; part that stays
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
        _snow,
    ),
    "frost": Corruption(((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)), _frost),  # two weights
    "fog": Corruption(((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)), _fog),  # thickness, decay
    "brightness": Corruption((0.1, 0.2, 0.3, 0.4, 0.5), lambda x, amount, _: brighten(x, amount)),
    "contrast": Corruption((0.4, 0.3, 0.2, 0.1, 0.05), CORRUPTIONS["contrast"].make),
    # Mean length of a displacement, as their alpha and sigma give it at 224 px; sigma; jitter of the points.
    "elastic_transform": Corruption(
        ((1.9, 170.8, 24.4), (5.8, 19.52, 48.8), (1.05, 2.44, 4.88), (1.46, 2.44, 4.88), (2.51, 2.44, 4.88)),
        _elastic_transform,
    ),
    "pixelate": Corruption((0.6, 0.5, 0.4, 0.3, 0.25), CORRUPTIONS["pixelate"].make),
    "jpeg_compression": Corruption((25, 18, 15, 10, 7), CORRUPTIONS["jpeg_compression"].make),
}
# By the words of `eval_classifiers --severities`.
SEVERITIES = {"imagenet-c": IMAGENET_C, "own": CORRUPTIONS}
