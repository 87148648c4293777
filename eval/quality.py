"""Quality of outputs against targets, one value an image: a stable output may just be a soft one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eval.decibels import PEAK, psnr_db

if TYPE_CHECKING:
    from torch import Tensor


def l1(output: Tensor, target: Tensor) -> float:
    """Return the mean absolute difference on [0, 1] of pictures (..., H, W) given in [-1, 1]."""
    return (output - target).abs().mean().item() / PEAK


def psnr(output: Tensor, target: Tensor) -> float:
    """Return the PSNR in dB of pictures (..., H, W) in [-1, 1] (peak 2), capped at 150."""
    return float(psnr_db((output - target).double().square().mean().item()))


def total_variation(picture: Tensor) -> float:
    """Return TV = mean |d/dx| + mean |d/dy| on [0, 1] of a picture (..., H, W) given in [-1, 1].

    The anisotropic total variation a pixel, by forward differences (Zhang 2019, table 4, shows it
    times 100): how much detail there is, sharp or noisy.
    """
    across = (picture[..., :, 1:] - picture[..., :, :-1]).abs().mean()
    down = (picture[..., 1:, :] - picture[..., :-1, :]).abs().mean()
    return (across + down).item() / PEAK


def quality(output: Tensor, target: Tensor) -> dict[str, float]:
    """Return every quality figure of one output (1, C, H, W) against its target."""
    return {
        "l1": l1(output, target),
        "psnr_db": psnr(output, target),
        "tv": total_variation(output),
        "target_tv": total_variation(target),
    }
