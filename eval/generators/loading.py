"""Generators by what a user types: one way for every command and for the API.

A generator is a file or run folder of ours, the short name of a released one (`facades-blur`), weights of
pytorch-CycleGAN-and-pix2pix (`latest_net_G.pth`), an ONNX model, a torch.export program (`.pt2`) or a Python
callable (`package.module:function`). The last two can run code, so they are loaded only when trusted.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from steadypix.errors import CheckpointError
from steadypix.eval.generators.formats import FORMATS, find_format
from steadypix.eval.generators.models import load_models
from steadypix.eval.generators.released import list_generators, locate

if TYPE_CHECKING:
    from torch import nn

__all__ = ["initialise", "list_generators", "load_generator"]


def load_generator(what: str | Path, device: str = "cpu", *, trust: bool = False) -> nn.Module:
    """Load a generator of any format.

    Args:
        what: a file, a run folder, a folder of outputs, the short name of a released generator (see
            `list_generators`), or `package.module:function`.
        device: where to put it.
        trust: also load what can run code.

    Returns:
        A network in eval mode that maps (B, C, H, W) in [-1, 1] to the same range. Its `.config` holds what
        the file tells: `generator` (architecture) and `data` (direction, sizes).

    Raises:
        InputError: naming what cannot be loaded and what was expected.
    """
    model = load_models([what], device, trust=trust)[0]
    model.module.config = model.config  # type: ignore[assignment]
    return model.module


def initialise(network: nn.Module, what: str | Path) -> list[str]:
    """Copy a trained generator's weights into `network`, which may resample differently (retrofit).

    Args:
        network: takes the weights.
        what: a generator of ours, the short name of a released one, or weights of
            pytorch-CycleGAN-and-pix2pix.

    Returns:
        A phrase for each weight that `network` has and the file has not: texture and head stay as drawn.

    Raises:
        CheckpointError: if it is a program, whose weights have no names, or a name or shape does not fit.
    """
    from steadypix.gen.weights.generators import load_weights, take_weights
    from steadypix.gen.weights.published import load_published

    path = locate(what)
    kind = find_format(path)
    if kind == "steadypix":
        return load_weights(network, path)
    if kind == "pix2pix":
        return take_weights(network, load_published(path).state_dict(), path)
    wanted = f"{FORMATS['steadypix']} or {FORMATS['pix2pix']}"
    raise CheckpointError(f"{path}: is {FORMATS[kind]}; expected {wanted} to start from")
