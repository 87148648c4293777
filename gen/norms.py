"""Normalisation layers by name, shared by generator and discriminator."""

from __future__ import annotations

from typing import Literal, get_args

from torch import nn

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
