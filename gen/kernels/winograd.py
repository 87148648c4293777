"""Dense convolutions with fewer multiplications (Winograd), for training on the CPU.

A tile of m x m outputs of a k x k convolution is a product of polynomials, and a product is known by its
values at m + k - 1 points: (m + k - 1)^2 multiplications a tile and pair of channels instead of m^2 k^2, 49
instead of 256 for the 4x4 kernels here (Toom 1963, Cook 1966; Winograd 1980; for networks Lavin and Gray,
*Fast Algorithms for Convolutional Neural Networks*, CVPR 2016, equations 7 and 8). Rounding grows: 3e-6 of
the output's size in float32, ten times a plain convolution's. That is far below what a training step's own
noise is, but an evaluation measures plain convolutions: this is for steps that compute gradients.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.polynomial import polynomial
from torch import Tensor

TILE = 4  # outputs a side
POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5)  # and infinity; of sizes that lose little by rounding
LEAST_TILES = 64  # below, transforming the weights costs more than it saves
LEAST_PAIRS = 128**2  # input times output channels; below, transforming the maps does


def pays(x: Tensor, weight: Tensor) -> bool:
    """Whether `conv2d` is the faster way for a padded `x` and stride 1, on a CPU with gradients."""
    outputs, channels, height, width = weight.shape
    tiles = len(x)
    for size, kernel in zip(x.shape[-2:], (height, width), strict=True):
        tiles *= max(0, (size - kernel + TILE) // TILE)
    return height == width == 4 and tiles >= LEAST_TILES and channels * outputs >= LEAST_PAIRS


def conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return `F.conv2d(x, weight, bias)`, to rounding.

    Args:
        x: (B, C, H, W), padded already.
        weight: (C', C, k, k), k at most 4.
        bias: (C',) or None.
    """
    batch, channels, height, width = x.shape
    outputs, _, kernel, _ = weight.shape
    points = TILE + kernel - 1
    to_values, weight_to_values, to_outputs = _transforms(kernel, x.dtype)
    rows, columns = height - kernel + 1, width - kernel + 1
    tiles_y, tiles_x = math.ceil(rows / TILE), math.ceil(columns / TILE)
    x = F.pad(x, (0, tiles_x * TILE - columns, 0, tiles_y * TILE - rows))
    tiles = F.unfold(x, points, stride=TILE).view(batch, channels, points**2, -1)

    values = (to_values @ tiles.permute(2, 1, 0, 3).reshape(points**2, -1)).view(points**2, channels, -1)
    weights = (weight_to_values @ weight.reshape(-1, kernel**2).T).view(points**2, outputs, channels)
    y = to_outputs @ (weights @ values).view(points**2, -1)

    y = y.view(TILE, TILE, outputs, batch, tiles_y, tiles_x).permute(3, 2, 4, 0, 5, 1)
    y = y.reshape(batch, outputs, tiles_y * TILE, tiles_x * TILE)[..., :rows, :columns]
    return y if bias is None else y + bias[:, None, None]


@lru_cache
def _transforms(kernel: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Return what takes tiles and weights to values at the points and values to outputs, both axes at once.

    Lagrange: values at all points give back the product by polynomials that vanish at all points but one.
    Convolutions here are correlations, which transposes the first and the last matrix.
    """
    points = POINTS[: TILE + kernel - 2]
    size = len(points) + 1
    inputs, weights, outputs = np.zeros((size, size)), np.zeros((size, kernel)), np.zeros((TILE, size))
    for row, point in enumerate(points):
        others = [other for other in points if other != point]
        inputs[row, :-1] = polynomial.polyfromroots(others)
        weights[row] = point ** np.arange(kernel) / np.prod(point - np.array(others))
        outputs[:, row] = point ** np.arange(TILE)
    inputs[-1] = polynomial.polyfromroots(points)
    weights[-1, -1] = outputs[-1, -1] = 1
    # A power of two changes no digits and keeps both factors of a product of like size.
    scale = 2.0 ** np.round(np.log2(np.abs(inputs).sum(axis=1, keepdims=True)))
    matrices = inputs / scale, weights * scale, outputs
    to_values, weight_to_values, to_outputs = (torch.tensor(np.kron(m, m), dtype=dtype) for m in matrices)
    return to_values, weight_to_values, to_outputs
