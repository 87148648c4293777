"""The full training step, ours against the published one in plain PyTorch: the same losses, less time."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.floors import Floors
from benchmarks.generator import count_flops
from benchmarks.report import Bar, Cell, Table
from benchmarks.step.both import build_both, pairs
from benchmarks.step.process import elsewhere
from benchmarks.step.reference import Losses, build
from benchmarks.timing import take_turns

LIMITS = {1: 0.72, 4: 0.90}  # by batch: ours over the reference
STEPS = 10
TOLERANCE = 1e-3


def largest_difference(*, batch: int, size: int, ngf: int, num_downs: int = 8, double: bool = False) -> float:
    """Train both for ten steps; return the largest relative difference between their losses."""
    dtype = torch.float64 if double else torch.float32
    reference, step = build_both(ngf=ngf, num_downs=num_downs, dropout=False)
    for network in (reference.generator, reference.discriminator, step.generator, step.discriminator):
        network.to(dtype)
    worst = 0.0
    for x, y in pairs(batch, size, STEPS):
        x, y = x.to(dtype), y.to(dtype)
        worst = max(worst, _apart(step([{"input": x, "target": y}], [0]), reference.step(x, y)))
    return worst


def rounding(*, batch: int, size: int, ngf: int, num_downs: int = 8) -> float:
    """Return how far the published step's losses in float32 are from its own in doubles, over ten steps."""
    single, double = (build_both(ngf=ngf, num_downs=num_downs, dropout=False)[0] for _ in range(2))
    for network in (double.generator, double.discriminator):
        network.double()
    return max(
        _apart(single.step(x, y), double.step(x.double(), y.double())) for x, y in pairs(batch, size, STEPS)
    )


def _apart(found: Losses, expected: Losses) -> float:
    """Return the largest relative difference between losses of one step."""
    return max(abs(float(found[name].double() / loss.double()) - 1) for name, loss in expected.items())


def published_flops(*, batch: int, size: int, ngf: int, num_downs: int) -> float:
    """Return the operations of the published step; ours takes ways with fewer multiplications."""
    with torch.device("meta"):  # shapes alone
        reference = build(ngf=ngf, ndf=ngf, num_downs=num_downs)
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
        with elsewhere("reference", **shape) as theirs, elsewhere("ours", **shape) as ours:
            timing = take_turns({"reference": theirs, "ours": ours}, rounds=rounds)
        floor = floors.flops_ms(published_flops(**shape))
        ratio = timing.ratio("ours", "reference")
        single = largest_difference(**shape)
        half: dict[str, Any] = {**shape, "ngf": ngf // 2}
        double = largest_difference(**half, double=True)  # whole, they take minutes
        times = [timing.median_ms("reference"), timing.median_ms("ours"), floor, ratio]
        rows.append([batch, *times, *(f"{worst:.1e}" for worst in (double, single, rounding(**half)))])
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
