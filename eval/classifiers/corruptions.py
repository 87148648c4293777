"""Corruption error: fifteen kinds of damage at five severities, after ImageNet-C.

The kinds are those of Hendrycks and Dietterich (2019). `imagenet_c.py` has them with their constants, which
the study uses; the table at the end of this file is a second one with severities of our own, milder in noise,
whose lengths are parts of the picture's side. In both the same picture is damaged in the same way for every
network, rounded to 8 bits, and a severity of noise scales one pattern.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from steadypix.errors import InputError
from steadypix.eval.metrics.perturb_kinds import jpeg

N_SEVERITIES = 5
# Kinds that brighten a black ground; the others leave it black.
LIFTING = ("gaussian_noise", "impulse_noise", "snow", "frost", "fog", "brightness", "contrast")


@dataclass(frozen=True)
class Corruption:
    """One kind: the values of its severities, mildest first, and what is done."""

    values: tuple[Any, ...]
    make: Callable[[Tensor, Any, Generator], Tensor]
    """from a picture (C, H, W) in [0, 1], a value, and a source of random numbers that starts alike at every
    severity; the result is clipped later"""


def corrupt(
    picture: Tensor, kind: str, severity: int, *, seed: int = 0, table: Mapping[str, Corruption] | None = None
) -> Tensor:
    """Return a picture (C, H, W) uint8 damaged at a severity of 1 to 5 of a table, `CORRUPTIONS` if None.

    `seed` is of its random pattern.

    Raises:
        InputError: for an unknown kind or severity.
    """
    table = CORRUPTIONS if table is None else table
    if kind not in table:
        raise InputError(f"corruption {kind!r} is unknown; expected one of {', '.join(table)}")
    if not 1 <= severity <= N_SEVERITIES:
        raise InputError(f"severity {severity}: expected 1 to {N_SEVERITIES}")
    rule = table[kind]
    generator = torch.Generator().manual_seed(picture_seed(seed, list(table).index(kind)))
    return to_bytes(rule.make(picture.float() / 255, rule.values[severity - 1], generator))


def damage_all(
    pictures: Sequence[Tensor],
    kinds: Sequence[str] | None = None,
    *,
    seed: int = 0,
    table: Mapping[str, Corruption] | None = None,
) -> dict[str, list[Tensor]]:
    """Return kind -> pictures (C, H, W) uint8 of one size at each severity of a table, (B, C, H, W) uint8.

    Picture i has the pattern (seed, i), whatever the others are.
    """
    seeds = [picture_seed(seed, index) for index in range(len(pictures))]
    table = CORRUPTIONS if table is None else table

    def damaged(kind: str, severity: int) -> Tensor:
        pairs = zip(pictures, seeds, strict=True)
        return torch.stack([corrupt(x, kind, severity, seed=s, table=table) for x, s in pairs])

    severities = range(1, N_SEVERITIES + 1)
    return {kind: [damaged(kind, severity) for severity in severities] for kind in kinds or table}


def corruption_errors(
    predict: Callable[[Tensor], Tensor], damaged: Mapping[str, Sequence[Tensor]], labels: Tensor
) -> dict[str, list[float]]:
    """Return kind -> error in [0, 1] at each severity, of what `damage_all` made.

    `predict` takes windows (B, C, H, W) uint8 to classes (B,), which are held against `labels` (B,).
    """
    return {kind: [error(predict, x, labels) for x in severities] for kind, severities in damaged.items()}


def error(predict: Callable[[Tensor], Tensor], windows: Tensor, labels: Tensor) -> float:
    """Return the part of windows whose class is not their label."""
    return (predict(windows) != labels).double().mean().item()


def picture_seed(seed: int, index: int) -> int:
    """Return the seed of a picture's pattern."""
    return int(np.random.SeedSequence((seed, index)).generate_state(1)[0])


def to_bytes(x: Tensor) -> Tensor:
    """Return pictures on [0, 1], clipped and rounded, as uint8."""
    return (x.clamp(0, 1) * 255).round().byte()


def mean_ratio(found: Mapping[str, Any], baseline: Mapping[str, Any]) -> float | None:
    """Return the mean over kinds of figures relative to a baseline's, each summed over its severities.

    Of corruption errors this is mCE, of flip rates mFR (Hendrycks and Dietterich 2019). 1 is the baseline
    itself, less is better; None if one of the baseline's figures is 0, so that none can be relative to it.
    """
    bases = {kind: np.sum(baseline[kind]) for kind in found}
    if not all(bases.values()):
        return None
    return float(np.mean([np.sum(values) / bases[kind] for kind, values in found.items()]))


def _impulse_noise(x: Tensor, part: float, generator: Generator) -> Tensor:
    where = torch.rand(*x.shape, generator=generator)
    return torch.where(where < part, (torch.rand(*x.shape, generator=generator) < 0.5).to(x), x)


def filtered(x: Tensor, kernel: Tensor) -> Tensor:
    """Filter every channel by a kernel of odd sides that sums to 1, the border repeated."""
    reach = [side // 2 for side in kernel.shape]
    padded = F.pad(x[:, None], (reach[1], reach[1], reach[0], reach[0]), mode="replicate")
    return F.conv2d(padded, kernel[None, None].to(x))[:, 0]


def disk(radius_px: float) -> Tensor:
    """Return a disk as a kernel, its rim weighted by how much of a pixel lies inside."""
    reach = math.ceil(radius_px)
    axis = torch.arange(-reach, reach + 1).double()
    distance = torch.hypot(axis[:, None], axis)
    kernel = (radius_px + 0.5 - distance).clamp(0, 1)
    return kernel / kernel.sum()


def _glass_blur(x: Tensor, part: float, generator: Generator) -> Tensor:
    reach = part * x.shape[-1]
    moves = (2 * torch.rand(2, *x.shape[-2:], generator=generator) - 1) * reach
    return displaced(filtered(x, disk(reach / 2)), *moves)


def displaced(x: Tensor, dx: Tensor, dy: Tensor) -> Tensor:
    """Take every pixel from a place (dx, dy) px away, each (H, W), bilinearly, the border repeated."""
    height, width = x.shape[-2:]
    rows, columns = torch.arange(height).to(x), torch.arange(width).to(x)
    across = (columns + dx) * (2 / max(width - 1, 1)) - 1
    down = (rows[:, None] + dy) * (2 / max(height - 1, 1)) - 1
    grid = torch.stack(torch.broadcast_tensors(across, down), dim=-1)
    return F.grid_sample(x[None], grid[None], padding_mode="border", align_corners=True)[0]


def _motion_blur(x: Tensor, part: float, generator: Generator) -> Tensor:
    angle = math.pi * torch.rand(1, generator=generator).item()
    return filtered(x, line(part * x.shape[-1], angle))


def line(length_px: float, angle: float) -> Tensor:
    """Return a line through the middle as a kernel, each of its points shared by the pixels around it."""
    count = 8 * (math.ceil(length_px / 2) + 1) + 1
    points = torch.linspace(-length_px / 2, length_px / 2, count, dtype=torch.float64)
    return spread(points.tolist(), [1.0] * count, angle)


def spread(places: Sequence[float], weights: Sequence[float], angle: float) -> Tensor:
    """Return points on a line through the middle as a kernel, each shared by the four pixels around it.

    `places` are px from the middle, `weights` what each counts for, `angle` in radians.
    """
    reach = math.ceil(max(map(abs, places))) + 1
    kernel = torch.zeros(2 * reach + 1, 2 * reach + 1, dtype=torch.float64)
    for place, weight in zip(places, weights, strict=True):
        row, column = reach + place * math.sin(angle), reach + place * math.cos(angle)
        top, left = math.floor(row), math.floor(column)
        down, right = row - top, column - left
        kernel[top, left] += weight * (1 - down) * (1 - right)
        kernel[top, left + 1] += weight * (1 - down) * right
        kernel[top + 1, left] += weight * down * (1 - right)
        kernel[top + 1, left + 1] += weight * down * right
    return kernel / kernel.sum()


def _zoom_blur(x: Tensor, largest: float, generator: Generator) -> Tensor:
    factors = np.linspace(1, largest, 9).tolist()
    return torch.stack([zoomed(x, factor) for factor in factors]).mean(0)


def zoomed(x: Tensor, factor: float) -> Tensor:
    """Enlarge a picture (C, H, W) about its centre on the same frame, bilinearly."""
    height, width = x.shape[-2:]
    rows = torch.arange(height).to(x) - (height - 1) / 2
    columns = torch.arange(width).to(x) - (width - 1) / 2
    shrink = 1 / factor - 1
    return displaced(x, columns * shrink, rows[:, None] * shrink)


def fractal(generator: Generator, height: int, width: int, *, slope: float = 1.0) -> Tensor:
    """Return fractal noise (H, W) in [0, 1]: amplitudes fall as frequency to the power of -`slope`."""
    spectrum = torch.fft.rfft2(torch.randn(height, width, generator=generator))
    fy, fx = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
    frequency = torch.hypot(fy, fx)
    frequency[0, 0] = torch.inf  # no mean
    noise = torch.fft.irfft2(spectrum * frequency**-slope, s=(height, width))
    low, high = noise.aminmax()
    return (noise - low) / (high - low).clamp_min(1e-12)


def _snow(x: Tensor, part: float, generator: Generator) -> Tensor:
    height, width = x.shape[-2:]
    noise = torch.rand(height, width, generator=generator)
    wind = math.pi * (0.25 + 0.5 * torch.rand(1, generator=generator).item())
    flakes = (noise > torch.quantile(noise.flatten(), 1 - part)).to(x)
    flakes = filtered(flakes[None], line(0.06 * width, wind))
    return (0.9 * x + 0.1 * x.mean() + 0.05) * (1 - flakes) + flakes


def _frost(x: Tensor, weight: float, generator: Generator) -> Tensor:
    covered = weight * crystals(x, generator)
    return x * (1 - covered) + 0.9 * covered


def crystals(x: Tensor, generator: Generator) -> Tensor:
    """Return what frost looks like, (H, W) in [0, 1]: ridges where fractal noise passes its middle."""
    return (1 - (2 * fractal(generator, *x.shape[-2:], slope=1.2) - 1).abs()).square()


def _fog(x: Tensor, thickness: float, generator: Generator) -> Tensor:
    noise = fractal(generator, *x.shape[-2:], slope=1.5)
    most = x.max()
    return (x + thickness * noise) * most / (most + thickness)


def _contrast(x: Tensor, factor: float, generator: Generator) -> Tensor:
    mean = x.mean((1, 2), keepdim=True)
    return mean + factor * (x - mean)


def _elastic_transform(x: Tensor, part: float, generator: Generator) -> Tensor:
    from kornia.filters import gaussian_blur2d  # slow to import

    side = x.shape[-1]
    sigma = 0.06 * side
    kernel = 2 * min(math.ceil(3 * sigma), min(x.shape[-2:]) - 1) + 1
    noise = 2 * torch.rand(1, 2, *x.shape[-2:], generator=generator) - 1
    smooth = gaussian_blur2d(noise, (kernel, kernel), (sigma, sigma))[0]
    moves = smooth / torch.linalg.vector_norm(smooth, dim=0).mean().clamp_min(1e-12)
    return displaced(x, *(part * side * moves))


def _pixelate(x: Tensor, factor: float, generator: Generator) -> Tensor:
    size = [max(1, round(side * factor)) for side in x.shape[-2:]]
    small = F.interpolate(x[None], size, mode="area")
    return F.interpolate(small, tuple(x.shape[-2:]), mode="nearest-exact")[0]


# What is done; what its five numbers are.
CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": Corruption(  # standard deviation
        (0.04, 0.08, 0.12, 0.18, 0.26),
        lambda x, sigma, generator: x + sigma * torch.randn(*x.shape, generator=generator),
    ),
    "shot_noise": Corruption(  # Poisson; photons at white
        (60, 25, 12, 6, 3),
        lambda x, photons, generator: torch.poisson(x * photons, generator=generator) / photons,
    ),
    "impulse_noise": Corruption((0.01, 0.03, 0.06, 0.10, 0.17), _impulse_noise),  # salt and pepper; part
    "defocus_blur": Corruption(  # mean over a disk; radius
        (0.02, 0.03, 0.04, 0.055, 0.07), lambda x, part, _: filtered(x, disk(part * x.shape[-1]))
    ),
    "glass_blur": Corruption((0.02, 0.03, 0.045, 0.06, 0.08), _glass_blur),  # pixels from near places; reach
    "motion_blur": Corruption((0.06, 0.09, 0.13, 0.18, 0.25), _motion_blur),  # mean along a line; length
    "zoom_blur": Corruption((1.06, 1.11, 1.16, 1.21, 1.26), _zoom_blur),  # mean of enlargements; the largest
    "snow": Corruption((0.04, 0.08, 0.12, 0.17, 0.22), _snow),  # bright flakes moved by wind; part covered
    "frost": Corruption((0.2, 0.35, 0.5, 0.6, 0.7), _frost),  # crystals blended in; weight
    "fog": Corruption((0.3, 0.6, 1.0, 1.5, 2.0), _fog),  # fractal noise laid over; thickness
    "brightness": Corruption((0.1, 0.2, 0.3, 0.4, 0.5), lambda x, amount, _: x + amount),  # what is added
    "contrast": Corruption((0.6, 0.45, 0.3, 0.2, 0.1), _contrast),  # factor of the distance from the mean
    "elastic_transform": Corruption((0.015, 0.025, 0.035, 0.05, 0.065), _elastic_transform),  # reach
    "pixelate": Corruption((0.75, 0.6, 0.47, 0.35, 0.25), _pixelate),  # reduced and enlarged; factor
    "jpeg_compression": Corruption(  # a JPEG file; quality
        (40, 25, 18, 12, 7), lambda x, quality, _: jpeg(x[None], quality, seed=0)[0]
    ),
}
