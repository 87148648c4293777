"""Normalisation layers by name, shared by generator and discriminator."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steadypix.gen.kernels import gpu_kernels

Norm = Literal["instance", "batch", "group", "none"]
NORMS: tuple[str, ...] = get_args(Norm)


def make_norm(name: str | None, channels: int) -> nn.Module:
    """Build a normalisation layer for (B, channels, H, W).

    Args:
        name: `instance` (no parameters, no statistics kept), `batch` (affine, running statistics at
            test), `group` (affine, 32 groups or the largest divisor of `channels` below), `none` or None.
        channels: number of channels.

    Raises:
        ValueError: if `name` is unknown.
    """
    if name is None or name == "none":
        return nn.Identity()
    if name == "instance":
        return nn.InstanceNorm2d(channels)
    if name == "batch":
        return nn.BatchNorm2d(channels)
    if name == "group":
        groups = next(g for g in range(min(32, channels), 0, -1) if channels % g == 0)
        return nn.GroupNorm(groups, channels)
    raise ValueError(f"norm {name!r} is unknown; expected one of {', '.join(NORMS)}")


def conv_needs_bias(norm: str) -> bool:
    """Whether the conv before `norm` carries a bias: only if the norm has none of its own."""
    return norm in ("instance", "none")


def fusable(norm: nn.Module, x: Tensor) -> bool:
    """Whether one kernel does `norm` and the activation behind it, of what a conv makes of `x`.

    Not where somebody listens to the norm, nor where derivatives are taken forwards, which it has none of.
    """
    plain = type(norm) is nn.InstanceNorm2d and not norm.affine and not norm.track_running_stats
    return plain and gpu_kernels.usable(x) and unhooked(norm) and forward_ad_level() < 0


def unhooked(module: nn.Module) -> bool:
    """Whether nobody asked to be called along with a module, so that another may do its work."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return not any(getattr(module, kind, None) for kind in kinds)


def forward_ad_level() -> int:
    """Return how deep forward-mode differentiation is nested, -1 for not at all."""
    return getattr(torch.autograd.forward_ad, "_current_level", -1)


def norm_act(norm: nn.Module, x: Tensor, bias: Tensor | None, slope: float) -> Tensor:
    """Return the norm of x + bias behind a LeakyReLU, in a kernel that knows the bias to cancel.

    Args:
        norm: `fusable`.
        x: (B, C, H, W), of a conv without its bias.
        bias: (C,); its gradient is 0 (None where the kernel cannot take what the conv made).
        slope: of the LeakyReLU below 0; 1 leaves it out.

    Raises:
        ValueError: for maps of a single pixel, as from torch.
    """
    if x.shape[-2] * x.shape[-1] == 1 or not gpu_kernels.usable(x):
        y = norm(x)
        return y if slope == 1 else F.leaky_relu(y, slope)
    return gpu_kernels.InstanceNormAct.apply(x, bias, slope, norm.eps)
