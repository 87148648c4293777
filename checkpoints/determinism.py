"""What the last bits of a training depend on besides its options: in which order sums are added up.

On a CPU a run is the same to the bit for the same number of threads, which share the sums. The state says
with how many a run was trained.
"""

from __future__ import annotations

import os

import torch

# cuBLAS adds up in one order only if it is told so before it is first used.
_CUBLAS, _WORKSPACE = "CUBLAS_WORKSPACE_CONFIG", ":4096:8"


def make_deterministic() -> None:
    """Take deterministic algorithms alone, and as many threads on every machine: OMP_NUM_THREADS, or 1."""
    os.environ.setdefault(_CUBLAS, _WORKSPACE)
    torch.use_deterministic_algorithms(True)
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)


def settle_threads(recorded: int | None, *, deterministic: bool, device: str) -> str | None:
    """Take the number of threads of a run that goes on, or say that it is another one now.

    Args:
        recorded: of the run's state; None where it says nothing.
        deterministic: take that number.
        device: where the run goes on; elsewhere than on a CPU its threads add nothing up.

    Returns:
        A remark, or None.
    """
    now = torch.get_num_threads()
    if recorded is None or recorded == now:
        return None
    if deterministic:
        torch.set_num_threads(recorded)
        return None
    if device != "cpu":
        return None
    return (
        f"the run was trained with {recorded} threads and goes on with {now}, so the last bits will differ "
        "(--train.deterministic true takes as many as before)"
    )
