"""Adversarial losses on patch logits: vanilla, least squares and hinge."""

from __future__ import annotations

from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor

GanMode = Literal["vanilla", "lsgan", "hinge"]
GAN_MODES: tuple[str, ...] = get_args(GanMode)


def discriminator_loss(real: Tensor, fake: Tensor, *, mode: str) -> Tensor:
    """Return the discriminator's loss, the mean of its real and its fake half.

    Args:
        real: logits of real pairs, any shape.
        fake: logits of generated pairs, any shape.
        mode: `vanilla` (Goodfellow et al. 2014, binary cross-entropy), `lsgan` (Mao et al. 2017,
            targets 1 and 0) or `hinge` (Lim and Ye 2017).

    Returns:
        A scalar. The half keeps the discriminator slow beside the generator (Isola et al. 2017, 3.3).

    Raises:
        ValueError: if `mode` is unknown.
    """
    if mode == "vanilla":
        return 0.5 * (F.softplus(-real).mean() + F.softplus(fake).mean())
    if mode == "lsgan":
        return 0.5 * ((real - 1).square().mean() + fake.square().mean())
    if mode == "hinge":
        return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())
    raise _unknown(mode)


def generator_loss(fake: Tensor, *, mode: str) -> Tensor:
    """Return the generator's adversarial loss: how far `fake` logits are from being taken as real.

    Args:
        fake: logits of generated pairs, any shape.
        mode: as in `discriminator_loss`; `vanilla` is the non-saturating form.

    Returns:
        A scalar.

    Raises:
        ValueError: if `mode` is unknown.
    """
    if mode == "vanilla":
        return F.softplus(-fake).mean()
    if mode == "lsgan":
        return (fake - 1).square().mean()
    if mode == "hinge":
        return -fake.mean()
    raise _unknown(mode)


def _unknown(mode: str) -> ValueError:
    return ValueError(f"gan mode {mode!r} is unknown; expected one of {', '.join(GAN_MODES)}")
