"""The full training step, ours against the published one in plain PyTorch: the same losses, less time."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from benchmarks import reference_step
from benchmarks.floors import Floors
from benchmarks.generator import count_flops
from benchmarks.reference_step import ReferenceStep
from benchmarks.report import Bar, Cell, Table
from benchmarks.timing import take_turns
from gen import PatchDiscriminator, UNetGenerator
from gen.step import Pix2PixStep

LIMITS = {1: 0.72, 4: 0.90}  # by batch: ours over the reference
STEPS = 10
TOLERANCE = 1e-3


def build_both(
    *, ngf: int = 64, num_downs: int = 8, dropout: bool = True
) -> tuple[ReferenceStep, Pix2PixStep]:
    """Return the published step and ours, strided with batch norm, from the same weights."""
    torch.manual_seed(0)
    reference = reference_step.build(ngf=ngf, ndf=ngf, num_downs=num_downs, dropout=dropout)
    generator = UNetGenerator(ngf=ngf, num_downs=num_downs, sampling="strided", norm="batch", dropout=dropout)
    discriminator = PatchDiscriminator(ndf=ngf, norm="batch")
    reference_step.copy_from(reference, generator, discriminator)
    adams = [
        torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.999), fused=True)
        for network in (generator, discriminator)
    ]
    step = Pix2PixStep(Accelerator(cpu=True), generator, discriminator, *adams, together=False)
    return reference, step


def pairs(batch: int, size: int, count: int) -> list[tuple[Tensor, Tensor]]:
    """Return `count` batches of smooth pictures in [-1, 1]."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(count, 2, batch, 3, size // 16, size // 16, generator=generator).mul(2).sub(1)
    return [
        (x, y)
        for x, y in (
            nn.functional.interpolate(both.flatten(0, 1), size=size, mode="bilinear").chunk(2)
            for both in coarse
        )
    ]


def largest_difference(*, batch: int, size: int, ngf: int, num_downs: int = 8) -> float:
    """Train both for ten steps; return the largest relative difference between their losses."""
    reference, step = build_both(ngf=ngf, num_downs=num_downs, dropout=False)
    worst = 0.0
    for x, y in pairs(batch, size, STEPS):
        theirs = reference.step(x, y)
        ours = step([{"input": x, "target": y}], [0])
        for expected, found in (
            (theirs.discriminator, ours["loss_d"]),
            (theirs.gan, ours["loss_gan"]),
            (theirs.l1, ours["loss_l1"]),
        ):
            worst = max(worst, abs(float(found / expected) - 1))
    return worst


def measure_training(
    floors: Floors, *, rounds: int, size: int = 256, ngf: int = 64, num_downs: int = 8
) -> Table:
    """Both steps, interleaved, at batch 1 and 4."""
    rows: list[list[Cell]] = []
    bars: list[Bar] = []
    for batch, limit in LIMITS.items():
        reference, step = build_both(ngf=ngf, num_downs=num_downs)
        x, y = pairs(batch, size, 1)[0]
        works = {
            "reference": lambda x=x, y=y, reference=reference: reference.step(x, y),
            "ours": lambda x=x, y=y, step=step: step([{"input": x, "target": y}], [0]),
        }
        timing = take_turns(works, rounds=rounds)
        floor = floors.flops_ms(count_flops(works["ours"]))
        ratio = timing.ratio("ours", "reference")
        difference = largest_difference(batch=batch, size=size, ngf=ngf, num_downs=num_downs)
        rows.append(
            [
                batch,
                timing.median_ms("reference"),
                timing.median_ms("ours"),
                floor,
                ratio,
                f"{difference:.1e}",
            ]
        )
        bars.append(Bar(f"ours / published step, batch {batch}", ratio, limit))
        bars.append(
            Bar(f"losses of ten steps, difference / 1e-3, batch {batch}", difference / TOLERANCE, 1.0)
        )
    columns = ["batch", "published [ms]", "ours [ms]", "floor [ms]", "ours / published", "difference"]
    note = f"Strided, {size} px, ngf = ndf = {ngf}, batch norm; losses compared without dropout."
    return Table("training", "The full training step", columns, rows, bars, [note])
