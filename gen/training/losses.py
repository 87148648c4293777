"""Adversarial losses on patch logits, and the loss of a generator that does not move with its input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

GanMode = Literal["vanilla", "lsgan", "hinge", "relativistic"]
GAN_MODES: tuple[str, ...] = get_args(GanMode)


def discriminator_loss(real: Tensor, fake: Tensor, *, mode: str) -> Tensor:
    """Return the discriminator's loss, the mean of its real and its fake half.

    Args:
        real: logits of real pairs, any shape.
        fake: logits of generated pairs, any shape.
        mode: `vanilla` (Goodfellow et al. 2014, binary cross-entropy), `lsgan` (Mao et al. 2017,
            targets 1 and 0), `hinge` (Lim and Ye 2017) or `relativistic` (Jolicoeur-Martineau 2019; Huang et
            al. 2024, equation 2: each real logit against the generated one of the same input and place).

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
    if mode == "relativistic":
        return F.softplus(fake - real).mean()
    raise _unknown(mode)


def generator_loss(fake: Tensor, real: Tensor | None = None, *, mode: str) -> Tensor:
    """Return the generator's adversarial loss: how far `fake` logits are from being taken as real.

    Args:
        fake: logits of generated pairs, any shape.
        real: logits of the real pairs of the same inputs, which `relativistic` asks for.
        mode: as in `discriminator_loss`; `vanilla` is the non-saturating form.

    Returns:
        A scalar.

    Raises:
        ValueError: if `mode` is unknown, or `relativistic` without `real`.
    """
    if mode == "relativistic":
        if real is None:
            raise ValueError("gan mode 'relativistic' compares with real logits; got none")
        return F.softplus(real - fake).mean()
    if mode == "vanilla":
        return F.softplus(-fake).mean()
    if mode == "lsgan":
        return (fake - 1).square().mean()
    if mode == "hinge":
        return -fake.mean()
    raise _unknown(mode)


def equivariance_loss(
    output: Tensor, moved: Tensor, shifts: Sequence[tuple[int, int]], *, margin_px: int
) -> Tensor:
    """Return the mean distance |G(shift(x)) - shift(G(x))| where both show the same place.

    Args:
        output: G(x), (B, C, H, W).
        moved: G(shift(x)), (B, C, H, W): what `output` shows at (x, y) lies at (x + dx, y + dy).
        shifts: (dx, dy) in whole px of each of the B samples.
        margin_px: left out on each side of the overlap, where padding reaches.

    Returns:
        A scalar: the mean over samples of their L1 distance. Gradients reach both outputs.

    Raises:
        ValueError: if a shift and the margins leave nothing to compare.
    """
    distances = []
    for one, other, (dx, dy) in zip(output, moved, shifts, strict=True):
        height, width = one.shape[-2] - abs(dy) - 2 * margin_px, one.shape[-1] - abs(dx) - 2 * margin_px
        if height < 1 or width < 1:
            raise ValueError(
                f"shift ({dx}, {dy}) px and margins of {margin_px} px leave nothing of "
                f"{tuple(one.shape[-2:])} px"
            )
        top, left = max(-dy, 0) + margin_px, max(-dx, 0) + margin_px
        here = one[:, top : top + height, left : left + width]
        there = other[:, top + dy : top + dy + height, left + dx : left + dx + width]
        distances.append(F.l1_loss(there, here))
    return torch.stack(distances).mean()


def _unknown(mode: str) -> ValueError:
    return ValueError(f"gan mode {mode!r} is unknown; expected one of {', '.join(GAN_MODES)}")
