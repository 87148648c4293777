"""How the learning rate falls: the policies of pix2pix, as factors of an epoch.

A factor is a function of the epoch alone, so a run that goes on needs no state of a scheduler. Only
`Plateau` looks at results; what it remembers is three numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch

LrPolicy = Literal["linear", "cosine", "step", "plateau"]
LR_POLICIES: tuple[str, ...] = get_args(LrPolicy)


def lr_factor(policy: str, epoch: int, *, epochs: int, decay_epochs: int, step_epochs: int) -> float:
    """Return the learning rate's factor in an epoch.

    Args:
        policy: `linear` (1, then falling to 0 over the last `decay_epochs`; Isola et al. 2017 use half of the
            run), `cosine` (Loshchilov and Hutter 2017, eq. 5, one period), `step` (a tenth every
            `step_epochs`) or `plateau` (1 here: `Plateau` has the factor).
        epoch: counted from 0.
        epochs: length of the run.
        decay_epochs: length of the fall of `linear`, in 0..epochs.
        step_epochs: between the steps of `step`.

    Raises:
        ValueError: if `policy` is unknown.
    """
    if policy == "linear":
        return 1.0 - max(0, epoch + 1 - (epochs - decay_epochs)) / (decay_epochs + 1)
    if policy == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * epoch / epochs))
    if policy == "step":
        return 0.1 ** (epoch // step_epochs)
    if policy == "plateau":
        return 1.0
    raise ValueError(f"lr_policy {policy!r} is unknown; expected one of {', '.join(LR_POLICIES)}")


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Give all of an optimiser's weights the learning rate `value`.

    One held as a tensor is overwritten in place: a recorded step reads that memory.
    """
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(value)
        else:
            group["lr"] = value


@dataclass
class Plateau:
    """Lowers the learning rate to a fifth once a score has not fallen for a while.

    The rule is torch's `ReduceLROnPlateau` with the published factor and threshold; the published code feeds
    it a constant, so it never saw a score.

    Args:
        patience: further scores without improvement that are waited for.
        factor: what the learning rate is multiplied by now.
        best: the lowest score so far.
        waited: scores since then.
    """

    patience: int
    factor: float = 1.0
    best: float | None = None
    waited: int = 0

    LOWERED_BY = 0.2
    THRESHOLD = 0.01  # of the best score: a smaller gain counts as none

    def update(self, score: float) -> None:
        """Take in a score, the lower the better."""
        if self.best is None or score < self.best * (1 - self.THRESHOLD):
            self.best, self.waited = score, 0
            return
        self.waited += 1
        if self.waited > self.patience:
            self.factor, self.waited = self.factor * self.LOWERED_BY, 0
