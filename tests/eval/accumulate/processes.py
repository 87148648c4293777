"""What each of two processes does in the test of shared pairs. It imports little, for each starts anew."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from steadypix import PairStability


def outputs() -> tuple[Tensor, Tensor]:
    x = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return x, x.flip(-1)


def share_of(rank: int) -> tuple[Tensor, Tensor]:
    """Unequal shares, so that a mean of means would show."""
    x, y = outputs()
    mine = slice(0, 1) if rank == 0 else slice(1, 5)
    return x[mine] / (rank + 1), y[mine]


def measure(rank: int, file: str) -> None:
    """Add one share; every process must compute the value of all."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    stability = PairStability()
    stability.update(*share_of(rank))
    with open(f"{file}.{rank}", "w", encoding="utf-8") as out:
        out.write(repr(stability.compute()))
    dist.destroy_process_group()
