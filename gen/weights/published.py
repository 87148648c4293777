"""Generators trained with pytorch-CycleGAN-and-pix2pix (`latest_net_G.pth`), under our names.

Those files are pickled state dicts, read by `gen.weights.pickles`: nothing in them can run. They say nothing
of their architecture, but their names and shapes do: U-Net or ResNet, depth, width, channels and norm.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from steadypix.errors import CheckpointError
from steadypix.gen.weights.generators import build_generator
from steadypix.gen.weights.pickles import read_state

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
EXPECTED = "expected a state dict of pytorch-CycleGAN-and-pix2pix such as latest_net_G.pth"


def load_published(path: str | Path, device: str = "cpu") -> nn.Module:
    """Load the weights of a published `unet_*` or `resnet_*` generator.

    Args:
        path: a file that `torch.save(net.state_dict())` wrote, also from a wrapped (`module.`) network.
        device: where to put it.

    Returns:
        The network in eval mode, float32, with `.config` attached; its sampling is `strided`.

    Raises:
        CheckpointError: if the file is missing, damaged, holds anything but tensors, is of another
            architecture, or holds numbers that are not finite.
    """
    path = Path(path)
    state = {key.removeprefix("module."): tensor for key, tensor in read_state(path, EXPECTED).items()}
    try:
        names, arguments = _unet(state) if "model.model.0.weight" in state else _resnet(state)
    except (KeyError, ValueError):
        raise CheckpointError(f"{path}: holds no U-Net or ResNet generator known here; {EXPECTED}") from None
    arguments["norm"] = norm = _norm(path, state, names)
    tensors = _rename(path, state, names, plain_norm=norm != "batch")
    if norm == "none":  # the published `none` has no bias where ours has one
        for key in [key for key in tensors if key.endswith("conv.weight")]:
            outputs = tensors[key].shape[1 if key.startswith("decoder") else 0]
            tensors.setdefault(key.removesuffix("weight") + "bias", torch.zeros(outputs))
    model = build_generator(path, arguments, tensors)
    model.config = {"generator": arguments}  # type: ignore[assignment]
    return model.to(device).eval()


def _unet(state: Mapping[str, Tensor]) -> tuple[dict[str, str], dict[str, Any]]:
    """Return published layer -> our layer, and the arguments. KeyError, ValueError: it is none."""
    # A block is a Sequential of [down, inner block, ReLU, up, tanh] outermost, [LeakyReLU, down, norm, inner
    # block, ReLU, up, norm] below, and [LeakyReLU, down, ReLU, up, norm] innermost.
    levels = [{"down.conv": "model.model.0", "up.conv": "model.model.3"}]
    block = "model.model.1.model"
    while any(key.startswith(f"{block}.3.model.") for key in state):
        places = {"down.conv": 1, "down.norm": 2, "up.conv": 5, "up.norm": 6}
        levels.append({ours: f"{block}.{place}" for ours, place in places.items()})
        block += ".3.model"
    innermost = {"down.conv": 1, "up.conv": 3, "up.norm": 4}
    levels.append({ours: f"{block}.{place}" for ours, place in innermost.items()})
    names = {}
    for level, layers in enumerate(levels):
        for ours, theirs in layers.items():
            side, _, layer = ours.partition(".")
            place = f"encoder.{level}" if side == "down" else f"decoder.{len(levels) - 1 - level}"
            names[theirs] = f"{place}.{layer}"
    ngf, in_channels, *_ = _shape(state, "model.model.0")
    arguments = {
        "architecture": "unet",
        "in_channels": in_channels,
        "out_channels": _shape(state, "model.model.3")[1],
        "ngf": ngf,
        "num_downs": len(levels),
        "sampling": "strided",
        "padding": "zeros",
    }
    return names, arguments


def _resnet(state: Mapping[str, Tensor]) -> tuple[dict[str, str], dict[str, Any]]:
    """Return published layer -> our layer, and the arguments. KeyError, ValueError: it is none."""
    blocks = {int(m[1]) for key in state if (m := re.match(r"model\.(\d{1,4})\.conv_block\.", key))}
    first, count = 10, len(blocks)
    names = {"model.1": "stem.conv", "model.2": "stem.norm"}
    for level in range(2):
        names[f"model.{4 + 3 * level}"] = f"encoder.{level}.conv"
        names[f"model.{5 + 3 * level}"] = f"encoder.{level}.norm"
        names[f"model.{first + count + 3 * level}"] = f"decoder.{level}.conv"
        names[f"model.{first + count + 1 + 3 * level}"] = f"decoder.{level}.norm"
    names[f"model.{first + count + 7}"] = "head.conv"
    # A dropout layer between the two convs of a block moves the second by one place.
    dropout = (
        f"model.{first}.conv_block.6.weight" in state and f"model.{first}.conv_block.5.weight" not in state
    )
    for place in range(count):
        block = f"model.{first + place}.conv_block"
        names |= {f"{block}.1": f"blocks.{place}.first.conv", f"{block}.2": f"blocks.{place}.first.norm"}
        names[f"{block}.{6 if dropout else 5}"] = f"blocks.{place}.second.conv"
        names[f"{block}.{7 if dropout else 6}"] = f"blocks.{place}.second.norm"
    ngf, in_channels, *_ = _shape(state, "model.1")
    arguments = {
        "architecture": "resnet",
        "in_channels": in_channels,
        "out_channels": _shape(state, f"model.{first + count + 7}")[0],
        "ngf": ngf,
        "n_blocks": count,
        "sampling": "strided",
        "padding": "reflect",
        "dropout": dropout,
    }
    return names, arguments


def _shape(state: Mapping[str, Tensor], layer: str) -> tuple[int, ...]:
    shape = tuple(state[f"{layer}.weight"].shape)
    if len(shape) != 4:
        raise ValueError(layer)
    return shape


def _norm(path: Path, state: Mapping[str, Tensor], names: Mapping[str, str]) -> str:
    """Tell the norm from what its layers keep: batch has scales, instance leaves biases to the convs."""
    layers = [theirs for theirs, ours in names.items() if ours.endswith(".norm")]
    scaled = any(f"{layer}.weight" in state for layer in layers)
    tracked = any(f"{layer}.running_mean" in state for layer in layers)
    if scaled and not tracked:
        raise CheckpointError(
            f"{path}: its norm has scales but no statistics; expected batch or instance norm"
        )
    if scaled:
        return "batch"
    inner = next(theirs for theirs, ours in names.items() if ours == "encoder.1.conv")
    return "instance" if f"{inner}.bias" in state else "none"


def _rename(
    path: Path, state: Mapping[str, Tensor], names: Mapping[str, str], *, plain_norm: bool
) -> dict[str, Tensor]:
    tensors = {}
    for key, tensor in state.items():
        layer, _, entry = key.rpartition(".")
        if layer not in names:
            raise CheckpointError(
                f"{path}: holds {key}, unknown in the published graphs; it is of another architecture"
            )
        if plain_norm and names[layer].endswith(".norm") and entry in STATISTICS:
            continue  # instance norm kept statistics in 2017 and never used them
        tensors[f"{names[layer]}.{entry}"] = tensor
    return tensors
