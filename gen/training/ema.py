"""An exponential moving average of a generator's weights, which is less noisy than any one step's."""

from __future__ import annotations

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def make_ema(generator: nn.Module, decay: float) -> AveragedModel:
    """Return an average of `generator` that starts as its first update and follows every later one.

    Call `update_parameters(generator)` after a step; the averaged network is `.module`. Running statistics
    of batch norm are copied, not averaged: they are an average already.

    Args:
        generator: the network that is trained, not wrapped for several processes.
        decay: share of the old average that a step keeps, in (0, 1).

    Raises:
        ValueError: if `decay` lies elsewhere.
    """
    if not 0 < decay < 1:
        raise ValueError(f"the decay of an average must lie between 0 and 1, not {decay}")
    average = AveragedModel(generator, multi_avg_fn=get_ema_multi_avg_fn(decay))
    average.requires_grad_(False)
    return average
