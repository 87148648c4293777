"""Flip rates along ten sequences, after ImageNet-P (Hendrycks and Dietterich 2019, sections 3.3 and 4.2).

A sequence is one picture in 31 frames. What counts is how often the class changes from a frame to the next;
in noise, whose frames have no order, from the first frame, which is the clean picture, to each other one.

| kind | frame i of 0 to 30 |
|---|---|
| gaussian noise | 0 is clean; the others with Gaussian noise of standard deviation 0.03, drawn anew |
| shot noise | 0 is clean; the others with Poisson noise of 300 photons at white, drawn anew |
| motion blur | half a Gaussian, radius 10 and sigma 3 px, at 4 (i - 30) degrees |
| zoom blur | the mean of enlargements by 1 + 0.004 j, j from 0 to i |
| snow | flakes in a wind of 4 i - 150 degrees |
| brightness | 0.02 (i - 15) is added |
| translate | the window lies 1 px further left on the canvas; a frame for each place |
| rotate | by i - 15 degrees |
| tilt | by i - 15 degrees about both axes, seen from as far as the canvas's diagonal |
| scale | by 0.4 + 0.025 i |

Constants are those of its release. The lengths of blur and snow are scaled by side / 224; translations are of
1 px at every size, and as many as the canvas has room for, instead of 41. Frames are not compressed as video.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Generator, Tensor

from steadypix.data.labelled.labelled import Labelled
from steadypix.errors import InputError
from steadypix.eval.classifiers.corruptions import filtered, picture_seed, to_bytes
from steadypix.eval.classifiers.imagenet_c import brighten, scale_of, snow_layer, trail, with_snow
from steadypix.eval.metrics.perturb_kinds import enlarge, rotate
from steadypix.eval.shifts.protocols import Protocol

FRAMES = 31
SIGMA = 0.03
PHOTONS = 300
NOISES = ("gaussian_noise", "shot_noise")
SEQUENCES = (
    *NOISES,
    "motion_blur",
    "zoom_blur",
    "snow",
    "brightness",
    "translate",
    "rotate",
    "tilt",
    "scale",
)
Matrix = NDArray[np.float64]


def sequence(canvas: Tensor, kind: str, protocol: Protocol, *, seed: int = 0) -> Tensor:
    """Return the frames (N, C, H, W) uint8 of a picture's canvas (C, S, S) uint8.

    `translate` has a frame for each place of the window along x, the others have `FRAMES`.

    Raises:
        InputError: for an unknown kind, or if there is no room to translate.
    """
    if kind == "translate":
        if len(protocol.room) < 2:
            raise InputError(f"translate: the {protocol.window_px} px window has no room on its canvas")
        return torch.stack([protocol.shifted(canvas, (shift, 0)) for shift in protocol.room])
    if kind not in SEQUENCES:
        raise InputError(f"perturbation {kind!r} is unknown; expected one of {', '.join(SEQUENCES)}")
    generator = torch.Generator().manual_seed(seed)
    if kind in ("rotate", "tilt", "scale", "zoom_blur"):
        frames = seen(canvas.double() / 255, _matrices(kind, protocol), protocol)
        if kind == "zoom_blur":
            frames = frames.cumsum(0) / torch.arange(1, FRAMES + 1)[:, None, None, None]
    else:
        frames = torch.stack([*_photometric(protocol.base(canvas).double() / 255, kind, generator)])
    return to_bytes(frames)


def flip_rates(
    predict: Callable[[Tensor], Tensor], pictures: Labelled, protocol: Protocol, *, seed: int = 0
) -> dict[str, float]:
    """Return kind -> how often the class changes, in [0, 1], over all pictures and frames.

    `predict` takes windows (B, C, H, W) uint8 to classes (B,); `protocol` cuts them; `seed` is of the noise.
    """
    rates = {}
    for kind in SEQUENCES:
        flips = []
        for index in range(len(pictures)):
            canvas = pictures.canvas(index, protocol.canvas_px)
            found = predict(sequence(canvas, kind, protocol, seed=picture_seed(seed, index)))
            changed = found[1:] != (found[:1] if kind in NOISES else found[:-1])
            flips.append(changed.double().mean().item())
        rates[kind] = float(np.mean(flips))
    return rates


def seen(canvas: Tensor, matrices: Iterable[Matrix], protocol: Protocol) -> Tensor:
    """Return the window of a canvas (C, S, S) after maps of the plane, (N, C, H, W), black from outside.

    Each matrix (3, 3) takes (x, y, 1) less the window's centre, y down, to where it goes, up to a factor;
    pixels are read bilinearly.
    """
    (width, height), (left, top) = protocol.window, protocol.origin
    across, down = np.meshgrid(np.arange(width), np.arange(height))
    centre = (width - 1) / 2, (height - 1) / 2
    points = np.stack([across - centre[0], down - centre[1], np.ones_like(across)], -1)
    sides = np.array([canvas.shape[-1], canvas.shape[-2]])
    grids = []
    for matrix in matrices:
        came = points @ np.linalg.inv(matrix).T
        place = came[..., :2] / came[..., 2:] + [left + centre[0], top + centre[1]]
        grids.append(2 * place / (sides - 1) - 1)
    grid = torch.from_numpy(np.stack(grids)).to(canvas)
    pictures = canvas[None].expand(len(grid), -1, -1, -1)
    return F.grid_sample(pictures, grid, padding_mode="zeros", align_corners=True)


def tilt(degrees: float, distance_px: float) -> Matrix:
    """Return the turn of the picture's plane about its x and its y axis, seen from a distance."""
    angle = math.radians(degrees)
    c, s = math.cos(angle), math.sin(angle)
    about_x = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    about_y = np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])
    plane = (about_x @ about_y)[:, :2]  # where the plane's two axes point
    away = np.array([[0.0], [0.0], [distance_px]])
    return np.diag([distance_px, distance_px, 1.0]) @ np.hstack([plane, away])


def _matrices(kind: str, protocol: Protocol) -> list[Matrix]:
    if kind == "tilt":
        return [tilt(i - 15, math.hypot(*protocol.canvas)) for i in range(FRAMES)]
    flat = {
        "rotate": lambda i: rotate(15 - i),  # torchvision's angles run clockwise
        "scale": lambda i: enlarge(0.4 + 0.025 * i),
        "zoom_blur": lambda i: enlarge(1 + 0.004 * i),
    }[kind]
    matrices = [np.eye(3) for _ in range(FRAMES)]
    for i, matrix in enumerate(matrices):
        matrix[:2, :2] = flat(i)
    return matrices


def _photometric(x: Tensor, kind: str, generator: Generator) -> Iterable[Tensor]:
    """Yield the frames of a window (C, H, W) in [0, 1]."""
    scale = scale_of(x)
    if kind in NOISES:
        yield x
        for _ in range(1, FRAMES):
            if kind == "gaussian_noise":
                yield x + SIGMA * torch.randn(x.shape, generator=generator, dtype=x.dtype)
            else:
                yield torch.poisson(x * PHOTONS, generator=generator) / PHOTONS
    elif kind == "motion_blur":
        for i in range(FRAMES):
            yield filtered(x, trail(10, 3, math.radians(4 * (i - 30)), scale))
    elif kind == "snow":
        layer = snow_layer(x, (0.05, 0.3, 3, 0.5), generator).to(x)
        for i in range(FRAMES):
            wind = math.radians(4 * i - 150)
            yield with_snow(x, filtered(layer, trail(14, 4, wind, scale)), 0.85)
    else:
        for i in range(FRAMES):
            yield brighten(x, 0.02 * (i - 15))
