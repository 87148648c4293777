"""Self-describing checkpoints: safetensors with the configuration and provenance as metadata.

A generator's file needs no flag and no other file to load. Everything is written to a temporary name,
synced and renamed, so a kill at any instant leaves the old file or the new one. Nothing is ever
unpickled.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from steadypix.errors import CheckpointError
from steadypix.gen.networks.cut import CutResnetGenerator
from steadypix.gen.networks.resnet import ResnetGenerator
from steadypix.gen.networks.unet import UNetGenerator
from steadypix.gen.weights.tensors import check_fit, read_tensors, write_tensors

ARCHITECTURES: dict[str, type[nn.Module]] = {
    "unet": UNetGenerator,
    "resnet": ResnetGenerator,
    "cut": CutResnetGenerator,
}
GENERATOR_FILE = "generator.safetensors"
PRETRAINED_FILE = "model.safetensors"  # the same in a folder as users of Hugging Face know it
FORMAT = "steadypix.generator.v1"
FEW = 1024  # channels or blocks that cost next to no memory


def save_generator(
    path: str | Path,
    model: nn.Module,
    *,
    config: Mapping[str, Any],
    provenance: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a generator so that `load_generator` needs nothing else.

    Args:
        path: the file to write.
        model: the generator; its parameters and persistent buffers are stored.
        config: JSON-able; `config["generator"]` holds the arguments of the network, and which one under
            `architecture`: `unet` (also where it says nothing), `resnet` or `cut`.
        provenance: JSON-able facts about where the weights come from.
        dtype: store floating-point tensors in this type (for example `torch.float16`); None keeps it.
    """
    state = {
        key: tensor.to(dtype) if dtype and tensor.is_floating_point() else tensor
        for key, tensor in model.state_dict().items()
    }
    metadata = {"format": FORMAT, "config": dict(config), "provenance": dict(provenance or {})}
    write_tensors(Path(path), state, metadata)


def load_generator(path: str | Path, device: str = "cpu") -> nn.Module:
    """Load a generator from its file or run directory.

    Args:
        path: a `.safetensors` file, or a directory that holds `generator.safetensors`.
        device: where to put it.

    Returns:
        The network in eval mode, float32, with `.config` and `.provenance` (dicts) attached.

    Raises:
        CheckpointError: if the file is missing, a pickle, cut short, foreign, of another architecture
            than it claims, or holds numbers that are not finite.
    """
    path = resolve(path)
    tensors, metadata = read_tensors(path)
    config = metadata.get("config")
    if metadata.get("format") != FORMAT or not isinstance(config, dict):
        raise CheckpointError(f"{path}: is no steadypix generator (no {FORMAT} metadata in it)")
    provenance = metadata.get("provenance", {})
    if not isinstance(provenance, dict):
        raise CheckpointError(f"{path}: its provenance cannot be read; expected a map of plain values")
    model = build_generator(path, config.get("generator"), tensors)
    model.config = config  # type: ignore[assignment]
    model.provenance = provenance  # type: ignore[assignment]
    return model.to(device).eval()


def load_weights(model: nn.Module, path: str | Path) -> list[str]:
    """Copy a generator's weights into `model`, which may resample differently (retrofit, `--init`).

    Where `model` has texture or a head and the file's network has not, what fits is copied and the rest
    stays as it was drawn: the head, the conv that feeds it, and in the first conv what sees the carriers.

    Returns:
        A phrase for each weight that is new, such as `encoder.0.conv.weight: 4 of 7 inputs`.

    Raises:
        CheckpointError: as `load_generator`, or if a name or shape does not fit `model`.
    """
    path = resolve(path)
    return take_weights(model, read_tensors(path)[0], path)


def take_weights(model: nn.Module, tensors: dict[str, Tensor], path: Path) -> list[str]:
    """Copy tensors under our names into `model`; see `load_weights`. `path` is named in errors."""
    expected = model.state_dict()
    tensors, new = _grown(tensors, expected, getattr(model, "grown_parts", None))
    check_fit(path, tensors, expected)
    model.load_state_dict(tensors)
    return new


def _grown(
    tensors: dict[str, Tensor], expected: Mapping[str, Tensor], parts: tuple[str, str] | None
) -> tuple[dict[str, Tensor], list[str]]:
    """Complete the weights of a network without texture and head by those of one that has some.

    Returns:
        The weights, and what of them is new; both as they came where the file's network has as much.
    """
    if parts is None:
        return tensors, []
    first, last = parts
    grown, new = dict(tensors), []
    ours = expected[first]
    theirs = tensors.get(first)
    if theirs is not None and theirs.ndim == ours.ndim and theirs.is_floating_point():
        same = (*theirs.shape[:1], *theirs.shape[2:]) == (*ours.shape[:1], *ours.shape[2:])
        if same and theirs.shape[1] < ours.shape[1]:
            grown[first] = torch.cat([theirs.to(ours), ours[:, theirs.shape[1] :]], dim=1)
            new.append(f"{first}: {ours.shape[1] - theirs.shape[1]} of {ours.shape[1]} inputs")
    heads = [key for key in expected if key.startswith("detail.")]
    if heads and not any(key in tensors for key in heads):
        new_keys = [*heads, *(key for key in expected if key.startswith(last))]
        grown |= {key: expected[key] for key in new_keys}
        new += new_keys
    return grown, new


def resolve(path: str | Path) -> Path:
    """Return the generator's file for a file, a run directory or a folder of `save_pretrained`."""
    path = Path(path)
    if not path.is_dir():
        return path
    pretrained = path / PRETRAINED_FILE
    own = path / GENERATOR_FILE
    return pretrained if pretrained.exists() and not own.exists() else own


def build_generator(path: Path, arguments: object, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Build the network that `arguments` describe and give it its weights.

    Args:
        path: named in errors.
        arguments: what a configuration holds under `generator`.
        tensors: the weights, under our names.

    Raises:
        CheckpointError: if the arguments cannot be, or the weights do not fit them or are not finite.
    """
    if not isinstance(arguments, dict):
        raise CheckpointError(f"{path}: its metadata holds no generator configuration")
    arguments = dict(arguments)
    name = arguments.pop("architecture", "unet")
    if not isinstance(name, str) or name not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise CheckpointError(f"{path}: its architecture {name!r} is unknown; expected one of {known}")
    held = sum(tensor.numel() for tensor in tensors.values())
    # Each of these has a weight at least. Blurs have taps for every channel, in memory whatever the device.
    for key in ("ngf", "n_blocks"):
        if type(arguments.get(key)) is int and arguments[key] > max(held, FEW):
            raise CheckpointError(
                f"{path}: its {key} is {arguments[key]}, more than the {held} weights that it holds"
            )
    if name == "unet":
        arguments.setdefault("late_levels", None)  # a file from before the option has all levels late
    try:
        # On the meta device: a hostile width costs no memory before its shapes are compared, and no weights
        # are drawn that the file's replace.
        with torch.device("meta"):
            model = ARCHITECTURES[name](**arguments)
        expected = model.state_dict()
        check_fit(path, tensors, expected)
    except CheckpointError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path}: its generator configuration cannot be built ({reason})") from None
    model.load_state_dict({key: x.to(expected[key].dtype) for key, x in tensors.items()}, assign=True)
    return model
