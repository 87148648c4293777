"""An exponential moving average of a generator's weights, which is less noisy than any one step's."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def make_ema(generator: nn.Module, decay: float) -> AveragedModel:
    """Return an average of `generator` that starts as its first update and follows every later one.

    Call `update_parameters(generator)` after a step; the averaged network is `.module`. Update t keeps
    `min(decay, (1 + t) / (10 + t))` of the old average, or the weights drawn at the start would stay in it
    for thousands of steps. Running statistics are copied: they are an average already.

    Args:
        generator: the network that is trained, not wrapped for several processes.
        decay: share of the old average that a late step keeps, in (0, 1).

    Raises:
        ValueError: if `decay` lies elsewhere.
    """
    if not 0 < decay < 1:
        raise ValueError(f"the decay of an average must lie between 0 and 1, not {decay}")

    def follow(averaged: Any, current: Any, _: Any) -> None:
        count = int(average.n_averaged)  # of its own: on the CPU, so no device waits
        get_ema_multi_avg_fn(min(decay, (1 + count) / (10 + count)))(averaged, current, count)

    average = AveragedModel(generator, multi_avg_fn=follow)
    average.requires_grad_(False)
    return average
