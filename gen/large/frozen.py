"""Norms with frozen statistics: every tile and every frame is normalised as one picture, or a set, was.

Instance and group norm look at the whole plane, so what happens in one corner changes all others, and a tile
is normalised unlike its neighbour. Frozen, each is a scale and an offset a channel.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from steadypix.errors import CheckpointError, InputError
from steadypix.gen.large.functions import of_groups
from steadypix.gen.large.strips import Strips
from steadypix.gen.weights.tensors import check_fit, read_tensors, write_tensors

FORMAT = "steadypix.statistics"
Statistics = dict[str, Tensor]  # `NORM.mean` and `NORM.variance`, each (C,)


class FrozenNorm(nn.Module):
    """An instance or group norm that has stopped looking: (B, C, H, W) -> (B, C, H, W).

    Args:
        norm: whose scale, offset and eps are taken.
        mean: of every channel, (C,).
        variance: the same.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, norm: nn.InstanceNorm2d | nn.GroupNorm, mean: Tensor, variance: Tensor) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps
        self.register_buffer("mean", mean)
        self.register_buffer("variance", variance)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `x`."""
        return F.batch_norm(x, self.mean, self.variance, self.weight, self.bias, eps=self.eps)


def looking_norms(network: nn.Module) -> dict[str, nn.InstanceNorm2d | nn.GroupNorm]:
    """Return the norms of a network in evaluation mode that look at the picture, by name."""
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.GroupNorm)
        or (isinstance(module, nn.InstanceNorm2d) and not module.track_running_stats)
    }


def gather(network: nn.Module, pictures: Iterable[Tensor | Strips]) -> Statistics:
    """Return the mean over pictures of what each norm sees: mean and variance of its channels.

    Of a single picture it is what the network normalises that picture by, so frozen the output is the same.

    Args:
        network: in evaluation mode; maps (1, C, H, W) to (1, C', H', W').
        pictures: each (1, C, H, W), whole or in strips; at least one.

    Raises:
        ValueError: if the network has no norm that looks at the picture, or there is no picture.
    """
    norms = looking_norms(network)
    if not norms:
        raise ValueError("no norm looks at the picture; there is nothing to freeze")
    sums: Statistics = {}

    def listen(name: str, norm: nn.InstanceNorm2d | nn.GroupNorm) -> RemovableHandle:
        def hook(_: nn.Module, args: tuple[Any, ...]) -> None:
            mean, variance = _channels(norm, args[0])
            for key, value in ((f"{name}.mean", mean), (f"{name}.variance", variance)):
                sums[key] = sums.get(key, 0) + value

        return norm.register_forward_pre_hook(hook)

    handles = [listen(name, norm) for name, norm in norms.items()]
    count = 0
    try:
        with torch.inference_mode():
            for picture in pictures:
                network(picture)
                count += 1
    finally:
        for handle in handles:
            handle.remove()
    if not count:
        raise ValueError("no picture to take statistics from")
    return {key: (value / count).float().clone() for key, value in sums.items()}


def _channels(norm: nn.InstanceNorm2d | nn.GroupNorm, x: Tensor | Strips) -> tuple[Tensor, Tensor]:
    """Return what a norm normalises each channel of its input by, in doubles."""
    if isinstance(x, Strips):
        mean, variance = x.moments()
    else:
        variance, mean = torch.var_mean(x.double(), (0, 2, 3), correction=0)
    return of_groups(mean, variance, norm.num_groups) if isinstance(norm, nn.GroupNorm) else (mean, variance)


def freeze(network: nn.Module, statistics: Mapping[str, Tensor]) -> nn.Module:
    """Put `FrozenNorm`s in the place of a network's norms, in place; return the network."""
    for name, norm in looking_norms(network).items():
        held = itertools.chain(network.parameters(), network.buffers(), [statistics[f"{name}.mean"]])
        like = norm.weight if norm.weight is not None else next(held)
        mean, variance = (statistics[f"{name}.{key}"].to(like) for key in ("mean", "variance"))
        network.set_submodule(name, FrozenNorm(norm, mean, variance))
    return network


@contextlib.contextmanager
def with_frozen(network: nn.Module, statistics: Mapping[str, Tensor]) -> Iterator[None]:
    """Freeze a network's norms for a while; without statistics nothing is changed."""
    norms = looking_norms(network) if statistics else {}
    if norms:
        freeze(network, statistics)
    try:
        yield
    finally:
        for name, norm in norms.items():
            network.set_submodule(name, norm)


def blank_statistics(network: nn.Module) -> Statistics:
    """Return statistics of the right shape: mean and variance of zeros."""
    blank: Statistics = {}
    for name, norm in looking_norms(network).items():
        channels = norm.num_channels if isinstance(norm, nn.GroupNorm) else norm.num_features
        blank |= {f"{name}.{key}": torch.zeros(channels) for key in ("mean", "variance")}
    return blank


def save_statistics(path: Path, statistics: Mapping[str, Tensor], *, pictures: int) -> None:
    """Write statistics to a safetensors file, whole or not at all.

    Args:
        path: of the file.
        statistics: what `gather` returned.
        pictures: of how many they are.
    """
    write_tensors(path, statistics, {"format": FORMAT, "pictures": pictures})


def load_statistics(path: Path, network: nn.Module) -> Statistics:
    """Read what `save_statistics` wrote, of this network.

    Raises:
        CheckpointError: if the file is missing, damaged, none of statistics, or of another network.
        InputError: if the network has no norm that looks at the picture.
    """
    if not looking_norms(network):
        raise InputError(f"{path}: no norm of the generator looks at the picture; expected no statistics")
    tensors, about = read_tensors(path)
    if about.get("format") != FORMAT:
        raise CheckpointError(f"{path}: holds no statistics; expected a file of `steadypix statistics`")
    check_fit(path, tensors, blank_statistics(network))
    for key, tensor in tensors.items():
        if key.endswith(".variance") and (tensor < 0).any():
            raise CheckpointError(f"{path}: {key} holds a negative variance")
    return tensors
