"""Normalisation layers by name, shared by generator and discriminator."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from gen import gpu_kernels

Norm = Literal["instance", "batch", "group", "none"]
NORMS: tuple[str, ...] = get_args(Norm)


def make_norm(name: str | None, channels: int) -> nn.Module:
    """Build a normalisation layer for (B, channels, H, W).

    Args:
        name: `instance` (no parameters, no statistics kept), `batch` (affine, running statistics at
            test), `group` (affine, 32 groups or the largest divisor of `channels` below), `none` or None.
        channels: number of channels.

    Raises:
        ValueError: if `name` is unknown.
    """
    if name is None or name == "none":
        return nn.Identity()
    if name == "instance":
        return nn.InstanceNorm2d(channels)
    if name == "batch":
        return nn.BatchNorm2d(channels)
    if name == "group":
        groups = next(g for g in range(min(32, channels), 0, -1) if channels % g == 0)
        return nn.GroupNorm(groups, channels)
    raise ValueError(f"norm {name!r} is unknown; expected one of {', '.join(NORMS)}")


def conv_needs_bias(norm: str) -> bool:
    """Whether the conv before `norm` carries a bias: only if the norm has none of its own."""
    return norm in ("instance", "none")


def fusable(norm: nn.Module, x: Tensor) -> bool:
    """Whether one kernel does `norm` and the activation behind it, of what a conv makes of `x`.

    Not where somebody listens to the norm, nor where derivatives are taken forwards, which it has none of.
    """
    plain = type(norm) is nn.InstanceNorm2d and not norm.affine and not norm.track_running_stats
    return plain and gpu_kernels.usable(x) and unhooked(norm) and forward_ad_level() < 0


def unhooked(module: nn.Module) -> bool:
    """Whether nobody asked to be called along with a module, so that another may do its work."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return not any(getattr(module, kind, None) for kind in kinds)


def forward_ad_level() -> int:
    """Return how deep forward-mode differentiation is nested, -1 for not at all."""
    return getattr(torch.autograd.forward_ad, "_current_level", -1)


def norm_act(norm: nn.Module, x: Tensor, bias: Tensor | None, slope: float) -> Tensor:
    """Return the norm of x + bias behind a LeakyReLU, in a kernel that knows the bias to cancel.

    Args:
        norm: `fusable`.
        x: (B, C, H, W), of a conv without its bias.
        bias: (C,); its gradient is 0 (None where the kernel cannot take what the conv made).
        slope: of the LeakyReLU below 0; 1 leaves it out.

    Raises:
        ValueError: for maps of a single pixel, as from torch.
    """
    if x.shape[-2] * x.shape[-1] == 1 or not gpu_kernels.usable(x):
        y = norm(x)
        return y if slope == 1 else F.leaky_relu(y, slope)
    return gpu_kernels.InstanceNormAct.apply(x, bias, slope, norm.eps)


def synchronise(network: nn.Module, *, device_type: str) -> nn.Module:
    """Return `network` with batch norms that take their statistics over all processes.

    Each process would otherwise normalise by its own share of the batch, and four processes with one
    picture each would train another network than one process with four. Other norms look at one
    sample at a time and stay as they are. Names and shapes of the state stay, too.

    Args:
        network: changed in place where it can be.
        device_type: `cuda` (torch's SyncBatchNorm) or another, for which torch has none.
    """
    if device_type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = _SharedBatchNorm2d
    return network


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
