"""Several processes share an evaluation: `torchrun --nproc_per_node=2 eval/eval_stability.py ...`.

Process r of n measures every n-th picture; the first one gathers the numbers and writes everything.
"""

from __future__ import annotations

import os
from typing import Any


class Processes:
    """This process among those that torchrun started; alone if it did not."""

    def __init__(self) -> None:
        self.rank = int(os.environ.get("RANK", "0"))  # number of this process
        self.world = int(os.environ.get("WORLD_SIZE", "1"))  # how many there are
        self.local_rank = int(os.environ.get("LOCAL_RANK", "0"))  # on this machine: the number of its GPU

    @property
    def first(self) -> bool:
        """Whether this process writes the results."""
        return self.rank == 0

    def device(self, name: str) -> str:
        """Return this process's own device of a kind."""
        return f"cuda:{self.local_rank}" if name == "cuda" and self.world > 1 else name

    def gather(self, value: Any) -> list[Any]:
        """Return every process's value, in order of rank; an empty list on all but the first."""
        if self.world == 1:
            return [value]
        import torch.distributed as dist

        # A few numbers a picture: the CPU's backend does, also where the networks run on GPUs.
        dist.init_process_group("gloo")
        try:
            gathered: list[Any] | None = [None] * self.world if self.first else None
            dist.gather_object(value, gathered)
            return gathered or []
        finally:
            dist.destroy_process_group()
