"""The full training step, ours against the published one in plain PyTorch: the same losses, less time."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from benchmarks import reference_step
from benchmarks.floors import Floors
from benchmarks.generator import count_flops
from benchmarks.reference_step import ReferenceStep
from benchmarks.report import Bar, Cell, Table
from benchmarks.timing import take_turns
from benchmarks.training_process import TrainingProcess
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


def largest_difference(*, batch: int, size: int, ngf: int, num_downs: int = 8, double: bool = False) -> float:
    """Train both for ten steps; return the largest relative difference between their losses."""
    dtype = torch.float64 if double else torch.float32
    reference, step = build_both(ngf=ngf, num_downs=num_downs, dropout=False)
    for network in (reference.generator, reference.discriminator, step.generator, step.discriminator):
        network.to(dtype)
    worst = 0.0
    for x, y in pairs(batch, size, STEPS):
        x, y = x.to(dtype), y.to(dtype)
        theirs = reference.step(x, y)
        ours = step([{"input": x, "target": y}], [0])
        for expected, found in (
            (theirs.discriminator, ours["loss_d"]),
            (theirs.gan, ours["loss_gan"]),
            (theirs.l1, ours["loss_l1"]),
        ):
            worst = max(worst, abs(float(found / expected) - 1))
    return worst


def rounding(*, batch: int, size: int, ngf: int, num_downs: int = 8) -> float:
    """Return how far the published step's losses in float32 are from its own in doubles, over ten steps."""
    steps = [build_both(ngf=ngf, num_downs=num_downs, dropout=False)[0] for _ in range(2)]
    for network in (steps[1].generator, steps[1].discriminator):
        network.double()
    worst = 0.0
    for x, y in pairs(batch, size, STEPS):
        single, double = steps[0].step(x, y), steps[1].step(x.double(), y.double())
        for name in ("discriminator", "gan", "l1"):
            worst = max(worst, abs(float(getattr(single, name).double() / getattr(double, name)) - 1))
    return worst


def published_flops(*, batch: int, size: int, ngf: int, num_downs: int) -> float:
    """Return the operations of the published step; ours takes ways with fewer multiplications."""
    with torch.device("meta"):  # shapes alone
        reference, _ = build_both(ngf=ngf, num_downs=num_downs)
        x, y = torch.empty(2, batch, 3, size, size)
    return count_flops(lambda: reference.step(x, y))


def measure_training(
    floors: Floors, *, rounds: int, size: int = 256, ngf: int = 64, num_downs: int = 8
) -> Table:
    """Both steps, in turn in processes of their own, at batch 1 and 4."""
    rows: list[list[Cell]] = []
    bars: list[Bar] = []
    for batch, limit in LIMITS.items():
        shape: dict[str, Any] = {"batch": batch, "size": size, "ngf": ngf, "num_downs": num_downs}
        with TrainingProcess("reference", **shape) as theirs, TrainingProcess("ours", **shape) as ours:
            timing = take_turns({"reference": theirs.step, "ours": ours.step}, rounds=rounds)
        floor = floors.flops_ms(published_flops(**shape))
        ratio = timing.ratio("ours", "reference")
        single = largest_difference(**shape)
        half: dict[str, Any] = {**shape, "ngf": ngf // 2}
        double = largest_difference(**half, double=True)  # whole, they take minutes
        rows.append(
            [
                batch,
                timing.median_ms("reference"),
                timing.median_ms("ours"),
                floor,
                ratio,
                f"{double:.1e}",
                f"{single:.1e}",
                f"{rounding(**half):.1e}",
            ]
        )
        bars.append(Bar(f"ours / published step, batch {batch}", ratio, limit))
        bars.append(
            Bar(f"losses of ten steps in doubles, difference / 1e-3, batch {batch}", double / TOLERANCE, 1.0)
        )
    columns = ["batch", "published [ms]", "ours [ms]", "floor [ms]", "ours / published"]
    columns += ["difference in doubles", "in float32", "published, float32 to doubles"]
    note = (
        f"Strided, {size} px, ngf = ndf = {ngf}, batch norm, each in a process of its own. Floor: the "
        "published step's floating-point operations over the measured rate of a product. Difference: the "
        "largest relative one between the losses of ten steps without dropout, in doubles at half the width; "
        "the last column is how far rounding alone takes the published step from itself, at that width."
    )
    return Table("training", "The full training step", columns, rows, bars, [note])
