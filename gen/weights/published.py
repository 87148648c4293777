"""Generators trained with pytorch-CycleGAN-and-pix2pix (`latest_net_G.pth`), under our names.

Those files are pickled state dicts, read by `gen.weights.pickles`: nothing in them can run. They say nothing
of their architecture, but their names and shapes do: U-Net or ResNet, depth, width, channels and norm; and
whether it is the anti-aliased ResNet of contrastive-unpaired-translation, whose blurs lie in the file.
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
# Taps of the blurs in contrastive-unpaired-translation, along one axis; those going up make up for the zeros
# between samples. Powers of two in the denominator: exact in every type that a file may have.
DOWN_TAPS = (0.25, 0.5, 0.25)
UP_TAPS = (0.25, 0.75, 0.75, 0.25)
EXPECTED = "expected a state dict of pytorch-CycleGAN-and-pix2pix such as latest_net_G.pth"


def load_published(path: str | Path, device: str = "cpu") -> nn.Module:
    """Load the weights of a published `unet_*` or `resnet_*` generator.

    Args:
        path: a file that `torch.save(net.state_dict())` wrote, also from a wrapped (`module.`) or compiled
            (`_orig_mod.`) network, or within `{"state_dict": ...}` or `{"model": ...}`.
        device: where to put it.

    Returns:
        The network in eval mode, float32, with `.config` attached; its sampling is `strided`, but for the
        anti-aliased ResNet of contrastive-unpaired-translation.

    Raises:
        CheckpointError: if the file is missing, damaged, holds anything but tensors, is of another
            architecture, or holds numbers that are not finite.
    """
    path = Path(path)
    state = read_state(path, EXPECTED)
    blurs = _take_blurs(path, state)
    try:
        is_unet = "model.model.0.weight" in state and not blurs
        names, arguments = _unet(state) if is_unet else _resnet(state, blurs)
    except (KeyError, ValueError):
        raise CheckpointError(f"{path}: holds no U-Net or ResNet generator known here; {EXPECTED}") from None
    arguments["norm"] = norm = _norm(path, state, names)
    tensors = _rename(path, state, names, plain_norm=norm != "batch")
    if norm == "none":  # the published `none` has no bias where ours has one
        transposed = () if arguments.get("upsampling") == "blur" else ("decoder",)
        for key in [key for key in tensors if key.endswith("conv.weight")]:
            outputs = tensors[key].shape[1 if key.startswith(transposed) else 0]
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


def _resnet(state: Mapping[str, Tensor], blurs: Mapping[str, int]) -> tuple[dict[str, str], dict[str, Any]]:
    """Return published layer -> our layer, and the arguments. KeyError, ValueError: it is none."""
    blocks = {int(m[1]) for key in state if (m := re.match(r"model\.(\d{1,4})\.conv_block\.", key))}
    count = len(blocks)
    names = {"model.1": "stem.conv", "model.2": "stem.norm"}
    # Layers are numbered in a row. Going down a blur stands behind conv, norm and ReLU, going up before them.
    place, below, above = 4, [], []
    for level in range(2):
        names |= {f"model.{place}": f"encoder.{level}.conv", f"model.{place + 1}": f"encoder.{level}.norm"}
        below.append(blurs.get(f"model.{place + 3}") == len(DOWN_TAPS))
        place += 4 if below[-1] else 3
    first = place
    place += count
    for level in range(2):
        above.append(blurs.get(f"model.{place}") == len(UP_TAPS))
        place += 1 if above[-1] else 0
        names |= {f"model.{place}": f"decoder.{level}.conv", f"model.{place + 1}": f"decoder.{level}.norm"}
        place += 3
    if below[0] != below[1] or above[0] != above[1] or sum(below) + sum(above) != len(blurs):
        raise ValueError("blurs elsewhere")
    head = f"model.{place + 1}"
    names[head] = "head.conv"
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
        "architecture": "cut" if blurs else "resnet",
        "in_channels": in_channels,
        "out_channels": _shape(state, head)[0],
        "ngf": ngf,
        "n_blocks": count,
        "sampling": "blur" if below[0] else "strided",
        "padding": "reflect",
        "dropout": dropout,
    }
    if blurs:
        arguments["upsampling"] = "blur" if above[0] else "strided"
    return names, arguments


def _take_blurs(path: Path, state: dict[str, Tensor]) -> dict[str, int]:
    """Take the blurs of contrastive-unpaired-translation out of a state: layer -> taps a side.

    Raises:
        CheckpointError: for taps that it has not been published with.
    """
    blurs = {}
    for key in [key for key in state if key.endswith(".filt")]:
        kernel = state.pop(key)
        taps = {len(DOWN_TAPS): DOWN_TAPS, len(UP_TAPS): UP_TAPS}.get(kernel.shape[-1] if kernel.ndim else 0)
        wanted = None if taps is None else torch.outer(torch.tensor(taps), torch.tensor(taps))
        if wanted is None or kernel.shape[1:] != (1, *wanted.shape) or not (kernel == wanted).all():
            raise CheckpointError(
                f"{path}: {key} is no blur of contrastive-unpaired-translation; expected [1, 2, 1] going "
                "down, [1, 3, 3, 1] going up"
            )
        blurs[key.removesuffix(".filt")] = len(wanted)
    return blurs


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
