"""The same scene under another light, with noise or out of focus: what a second look at an input may be."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

KINDS = ("none", "noise", "blur", "brightness", "contrast")


def perturb(picture: Tensor, rng: np.random.Generator) -> Tensor:
    """Return a picture as it is, or under one of four perturbations, each as likely.

    Gaussian noise (standard deviation 0.01 to 0.16 on [0, 1], uniform in its logarithm), Gaussian blur (sigma
    0.3 to 3 px), brightness (up to 0.4 on [0, 1], either way), contrast (a factor of 0.3 to 1 about the
    mean): the reach of `eval_stability --perturb`.

    Args:
        picture: (C, H, W) in [-1, 1].
        rng: what is drawn from.
    """
    kind = KINDS[int(rng.integers(len(KINDS)))]
    x = (picture + 1) / 2
    if kind == "noise":
        sigma = math.exp(rng.uniform(math.log(0.01), math.log(0.16)))
        x = x + sigma * torch.from_numpy(rng.standard_normal(tuple(x.shape), dtype=np.float32)).to(x.dtype)
    elif kind == "blur":
        from kornia.filters import gaussian_blur2d

        sigma = rng.uniform(0.3, 3.0)
        reach = min(math.ceil(3 * sigma), min(x.shape[-2:]) - 1)  # reflecting needs a larger picture
        x = gaussian_blur2d(x[None], 2 * reach + 1, (sigma, sigma))[0]
    elif kind == "brightness":
        x = x + rng.uniform(-0.4, 0.4)
    elif kind == "contrast":
        x = x.mean() + rng.uniform(0.3, 1.0) * (x - x.mean())
    return 2 * x.clamp(0, 1) - 1
