"""What the machine can do at best, measured beside everything else: multiplications and copies a second."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from benchmarks.report import Table
from benchmarks.timing import take_turns


@dataclass(frozen=True)
class Floors:
    """Rates of one machine in one run."""

    gemm_flops: float
    """floating-point operations a second of a large product; a multiplication and an addition count as two"""
    copy_bytes: float
    """bytes a second that a copy moves, read and written together"""

    def flops_ms(self, flops: float) -> float:
        """Milliseconds that arithmetic alone takes."""
        return flops / self.gemm_flops * 1e3

    def bytes_ms(self, moved: float) -> float:
        """Milliseconds that reading and writing alone takes."""
        return moved / self.copy_bytes * 1e3


def measure_floors(*, device: str = "cpu", side: int = 2048, megabytes: int = 64) -> Floors:
    """Measure the best rate of a product (side x side) and of a copy far larger than the cache.

    The fastest of many, because a floor is what nothing gets below.
    """
    left, right = torch.randn(2, side, side, device=device)
    source = torch.randn(megabytes * 2**20 // 4, device=device)
    target = torch.empty_like(source)
    works = {"gemm": lambda: left @ right, "copy": lambda: target.copy_(source)}
    timing = take_turns(works, rounds=15, device=device)
    return Floors(
        gemm_flops=2 * side**3 / timing.best_ms("gemm") * 1e3,
        copy_bytes=2 * source.nbytes / timing.best_ms("copy") * 1e3,
    )


def describe(floors: Floors) -> Table:
    """The machine's own rates."""
    rows = [[floors.gemm_flops / 1e9, floors.copy_bytes / 1e9]]
    note = "The fastest of many. Every floor below is computed from these two."
    return Table("floors", "What the machine can do", ["product [GFLOP/s]", "copy [GB/s]"], rows, (), [note])
