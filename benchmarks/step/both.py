"""The published training step and ours from the same weights, and pictures for them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from benchmarks.step import reference as reference_step
from benchmarks.step.reference import ReferenceStep
from steadypix import PatchDiscriminator, UNetGenerator
from steadypix.gen.training.captured import make_adam
from steadypix.gen.training.step import Pix2PixStep
from steadypix.gen.weights.published import load_published


def make_step(
    generator: nn.Module,
    discriminator: nn.Module,
    *,
    device: str = "cpu",
    captured: bool = False,
    **words: Any,
) -> Pix2PixStep:
    """Return our training step of two networks on `device`, with the optimisers our trainer has.

    Args:
        generator: maps (B, 3, H, W) to the same shape.
        discriminator: maps (B, 6, H, W) to logits.
        device: where both are.
        captured: whether the step is going to be recorded as a CUDA graph.
        words: of `Pix2PixStep`.
    """
    adams = [
        make_adam(network, learning_rate=2e-4, betas=(0.5, 0.999), captured=captured)
        for network in (generator, discriminator)
    ]
    return Pix2PixStep(Accelerator(cpu=device == "cpu"), generator, discriminator, *adams, **words)


def build_both(
    *, ngf: int = 64, num_downs: int = 8, dropout: bool = True, n_layers: int = 3
) -> tuple[ReferenceStep, Pix2PixStep]:
    """Return the published step and ours, strided with batch norm, from the same weights."""
    torch.manual_seed(0)
    reference = reference_step.build(
        ngf=ngf, ndf=ngf, num_downs=num_downs, dropout=dropout, n_layers=n_layers
    )
    generator = UNetGenerator(ngf=ngf, num_downs=num_downs, sampling="strided", norm="batch", dropout=dropout)
    discriminator = PatchDiscriminator(ndf=ngf, n_layers=n_layers, norm="batch")
    with tempfile.TemporaryDirectory() as folder:  # the way that a user's published weights take
        torch.save(reference.generator.state_dict(), Path(folder) / "latest_net_G.pth")
        generator.load_state_dict(load_published(Path(folder) / "latest_net_G.pth").state_dict())
    # Both discriminators list their parameters from first to last.
    weights = zip(discriminator.parameters(), reference.discriminator.parameters(), strict=True)
    with torch.no_grad():
        for ours, theirs in weights:
            ours.copy_(theirs)
    return reference, make_step(generator, discriminator, together=False)


def pairs(batch: int, size: int, count: int) -> list[tuple[Tensor, Tensor]]:
    """Return `count` batches of smooth pictures in [-1, 1]."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(count, 2, batch, 3, size // 16, size // 16, generator=generator).mul(2).sub(1)
    smooth = (F.interpolate(both.flatten(0, 1), size=size, mode="bilinear").chunk(2) for both in coarse)
    return [(x, y) for x, y in smooth]
