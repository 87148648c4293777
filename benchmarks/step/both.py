"""The published training step and ours from the same weights, and pictures for them."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from benchmarks.step import reference as reference_step
from benchmarks.step.reference import ReferenceStep
from steadypix.gen import PatchDiscriminator, UNetGenerator
from steadypix.gen.training.captured import make_adam
from steadypix.gen.training.step import Pix2PixStep


def make_step(
    generator: nn.Module,
    discriminator: nn.Module,
    *,
    device: str = "cpu",
    captured: bool = False,
    **words: Any,
) -> Pix2PixStep:
    """Return our training step of two networks, with the optimisers our trainer has.

    Args:
        generator: on `device`.
        discriminator: the same.
        device: where they are.
        captured: whether the step is going to be recorded as a CUDA graph.
        words: of `Pix2PixStep`.
    """
    adams = [
        make_adam(network, learning_rate=2e-4, betas=(0.5, 0.999), captured=captured)
        for network in (generator, discriminator)
    ]
    return Pix2PixStep(Accelerator(cpu=device == "cpu"), generator, discriminator, *adams, **words)


def build_both(
    *, ngf: int = 64, num_downs: int = 8, dropout: bool = True
) -> tuple[ReferenceStep, Pix2PixStep]:
    """Return the published step and ours, strided with batch norm, from the same weights."""
    torch.manual_seed(0)
    reference = reference_step.build(ngf=ngf, ndf=ngf, num_downs=num_downs, dropout=dropout)
    generator = UNetGenerator(ngf=ngf, num_downs=num_downs, sampling="strided", norm="batch", dropout=dropout)
    discriminator = PatchDiscriminator(ndf=ngf, norm="batch")
    reference_step.copy_from(reference, generator, discriminator)
    return reference, make_step(generator, discriminator, together=False)


def pairs(batch: int, size: int, count: int) -> list[tuple[Tensor, Tensor]]:
    """Return `count` batches of smooth pictures in [-1, 1]."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(count, 2, batch, 3, size // 16, size // 16, generator=generator).mul(2).sub(1)
    found = []
    for both in coarse:
        x, y = nn.functional.interpolate(both.flatten(0, 1), size=size, mode="bilinear").chunk(2)
        found.append((x, y))
    return found
