"""The same scene under another light, with noise or out of focus: what a second look at an input may be."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

LIGHT = ("none", "brightness", "contrast")
FOCUS = ("none", "blur", "noise")


def perturb(picture: Tensor, rng: np.random.Generator) -> Tensor:
    """Return a picture under another light, out of focus or with noise, or both, or as it is.

    Of light: none, brightness (up to 0.4 on [0, 1], either way) or contrast (a factor of 0.3 to 1 about the
    mean luma), each as likely. Of focus: none, Gaussian blur (sigma 0.3 to 3 px) or Gaussian noise (standard
    deviation 0.01 to 0.16 on [0, 1], uniform in the logarithm), each as likely. That is the reach of
    `eval_stability --perturb`.

    Args:
        picture: (C, H, W) in [-1, 1].
        rng: what is drawn from.
    """
    light, focus = (kinds[int(rng.integers(len(kinds)))] for kinds in (LIGHT, FOCUS))
    x = (picture + 1) / 2
    if light == "brightness":
        x = (x + rng.uniform(-0.4, 0.4)).clamp(0, 1)
    elif light == "contrast":
        from kornia.enhance import adjust_contrast_with_mean_subtraction

        x = adjust_contrast_with_mean_subtraction(x, rng.uniform(0.3, 1.0))
    if focus == "blur":
        from kornia.filters import gaussian_blur2d

        sigma = rng.uniform(0.3, 3.0)
        reach = min(math.ceil(3 * sigma), min(x.shape[-2:]) - 1)  # reflecting needs a larger picture
        x = gaussian_blur2d(x[None], 2 * reach + 1, (sigma, sigma))[0]
    elif focus == "noise":
        sigma = math.exp(rng.uniform(math.log(0.01), math.log(0.16)))
        x = x + sigma * torch.from_numpy(rng.standard_normal(tuple(x.shape), dtype=np.float32)).to(x.dtype)
    return 2 * x.clamp(0, 1) - 1
