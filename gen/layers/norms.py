"""Normalisation layers by name, shared by generator and discriminator."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steadypix.gen.kernels import gpu_kernels

Norm = Literal["instance", "batch", "renorm", "group", "none"]
NORMS: tuple[str, ...] = get_args(Norm)


def make_norm(name: str | None, channels: int) -> nn.Module:
    """Build a normalisation layer for (B, channels, H, W).

    Args:
        name: `instance` (no parameters, no statistics kept), `batch` (affine, running statistics at
            test), `renorm` (`BatchRenorm2d`), `group` (affine, 32 groups or the largest divisor of
            `channels` below), `none` or None.
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
    if name == "renorm":
        return BatchRenorm2d(channels)
    if name == "group":
        groups = next(g for g in range(min(32, channels), 0, -1) if channels % g == 0)
        return nn.GroupNorm(groups, channels)
    raise ValueError(f"norm {name!r} is unknown; expected one of {', '.join(NORMS)}")


class BatchRenorm2d(nn.Module):
    """Batch renormalisation (Ioffe 2017): trained with the statistics it has at test time.

    Batch norm at batch 1 is trained as an instance norm and tested with running statistics, another function.
    Here the output in training is the one of the running statistics, as far as `r` and `d` reach (section 3,
    algorithm 1); gradients are those of batch norm. Affine; begins as batch norm, and opens the bounds of r
    and d to 3 and 5 over the first `WARM_UP` batches.

    Shape:
        input and output (B, channels, H, W).
    """

    WARM_UP = 1000
    MOMENTUM = 0.01

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `x`; in training mode, take its statistics into the running ones."""
        if not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        precise = x.to(self.running_mean.dtype)  # under autocast x is bfloat16
        mean, variance = self.moments(precise)
        deviation = (variance + self.eps).sqrt()
        with torch.no_grad():
            seen = self.num_batches_tracked.to(precise.dtype)
            opened = (seen / self.WARM_UP).clamp(max=1)
            running = (self.running_var + self.eps).sqrt()
            r_max, d_max = 1 + 2 * opened, 5 * opened
            r = torch.minimum(torch.maximum(deviation / running, 1 / r_max), r_max)
            d = torch.minimum(torch.maximum((mean - self.running_mean) / running, -d_max), d_max)
            # The first batches count more, or the initial 0 and 1 would stay for hundreds of them.
            share = (1 / (seen + 1)).clamp(min=self.MOMENTUM)
            self.running_mean.lerp_(mean, share)
            self.running_var.lerp_(variance, share)
            self.num_batches_tracked.add_(1)
        scale = self.weight * r / deviation
        offset = self.bias + self.weight * d - mean * scale
        return (precise * scale[:, None, None] + offset[:, None, None]).to(x.dtype)

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance of each channel."""
        variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
        return mean, variance


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
