"""Batch normalisation whose statistics are shared by all processes."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from steadypix.gen.layers.norms import BatchRenorm2d


def synchronise(network: nn.Module, *, device_type: str) -> nn.Module:
    """Return `network` with batch norms that take their statistics over all processes.

    Each process would otherwise normalise by its own share of the batch, and four processes with one
    picture each would train another network than one process with four. Other norms look at one
    sample at a time and stay as they are. Names and shapes of the state stay, too.

    Args:
        network: changed in place where it can be.
        device_type: `cuda` (torch's SyncBatchNorm) or another, for which torch has none.
    """
    for module in network.modules():
        if type(module) is BatchRenorm2d:
            module.__class__ = _SharedBatchRenorm2d
        elif type(module) is nn.BatchNorm2d and device_type != "cuda":
            module.__class__ = _SharedBatchNorm2d
    return nn.SyncBatchNorm.convert_sync_batchnorm(network) if device_type == "cuda" else network


class _SharedBatchRenorm2d(BatchRenorm2d):
    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = _mean_over_processes(x.mean((0, 2, 3)))
        return mean, _mean_over_processes((x - mean[:, None, None]).square().mean((0, 2, 3)))


class _SharedBatchNorm2d(nn.BatchNorm2d):
    """What torch's SyncBatchNorm does on a GPU, for other devices: every process has as many samples."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        mean = _mean_over_processes(input.mean((0, 2, 3)))
        centred = input - mean[:, None, None]
        variance = _mean_over_processes(centred.square().mean((0, 2, 3)))
        count = input.numel() / input.shape[1] * dist.get_world_size()
        if self.running_mean is not None and self.running_var is not None:
            self.running_mean.lerp_(mean.detach(), self.momentum or 0.0)
            self.running_var.lerp_(variance.detach() * count / (count - 1), self.momentum or 0.0)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        scale = self.weight * (variance + self.eps).rsqrt()
        return centred * scale[:, None, None] + self.bias[:, None, None]


def _mean_over_processes(value: Tensor) -> Tensor:
    return _AllReduce.apply(value) / dist.get_world_size()


class _AllReduce(torch.autograd.Function):
    """The sum over processes. Every process's loss depends on it, so gradients are summed as well."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total
