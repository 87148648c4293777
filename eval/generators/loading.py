"""Generators by what a user types: one way for every command and for the API.

A generator is a file or run folder of ours, the short name of a released one (`facades-blur`), weights of
pytorch-CycleGAN-and-pix2pix (`latest_net_G.pth`), an ONNX model, a torch.export program (`.pt2`) or a Python
callable (`package.module:function`). The last two can run code, so they are loaded only when trusted.
`eval_stability` also takes a folder of outputs made elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steadypix.errors import CheckpointError, InputError
from steadypix.eval.generators.formats import FORMATS, find_format, require_trust
from steadypix.eval.generators.released import list_generators, locate

if TYPE_CHECKING:
    from torch import nn

__all__ = ["find_generator", "initialise", "list_generators", "load_generator", "load_network"]


def load_generator(what: str | Path, device: str = "cpu", *, trust: bool = False) -> nn.Module:
    """Load a generator of any format.

    Args:
        what: a file, a run folder, the short name of a released generator (see `list_generators`), or
            `package.module:function`.
        device: where to put it.
        trust: also load what can run code.

    Returns:
        A network in eval mode that maps (B, C, H, W) in [-1, 1] to the same range. Its `.config` holds what
        the file tells: `generator` (architecture) and `data` (direction, sizes).

    Raises:
        InputError: naming what cannot be loaded and what was expected.
        CheckpointError: the same, of weights.
    """
    file, kind = find_generator(what)
    if kind == "outputs":
        raise InputError(f"{file}: is {FORMATS[kind]}; expected a generator, which takes any picture")
    require_trust(file, kind, trust=trust)
    module, config = load_network(file, kind, device)
    module.config = config  # type: ignore[assignment]
    return module


def find_generator(what: str | Path) -> tuple[Path, str]:
    """Return the file behind what a user typed, and its format: a key of `FORMATS`.

    Raises:
        CheckpointError: for a plain name that is neither a file nor a released generator.
        InputError: for a file that no loader reads; one that is missing is left to the loader.
    """
    path = locate(what)
    kind = find_format(path)
    if kind == "steadypix":
        from steadypix.gen.weights.generators import resolve

        file = resolve(path)
        return file, kind if file == path else find_format(file)
    return path, kind


def load_network(file: Path, kind: str, device: str) -> tuple[nn.Module, dict[str, Any]]:
    """Load a generator whose format is known; return it in eval mode with what its file tells.

    Raises:
        InputError: if it cannot be used.
        CheckpointError: the same, of weights.
    """
    if kind in ("steadypix", "pix2pix"):
        from steadypix.gen.weights import generators, published

        load = generators.load_generator if kind == "steadypix" else published.load_published
        ours = load(file, device)
        config: Any = ours.config
        return ours, config
    module, config = _foreign_loader(kind)(file, device)
    return module.eval(), config


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

    file, kind = find_generator(what)
    if kind == "steadypix":
        return load_weights(network, file)
    if kind == "pix2pix":
        return take_weights(network, load_published(file).state_dict(), file)
    wanted = f"{FORMATS['steadypix']} or {FORMATS['pix2pix']}"
    raise CheckpointError(f"{file}: is {FORMATS[kind]}; expected {wanted} to start from")


def _foreign_loader(kind: str) -> Callable[[Path, str], tuple[nn.Module, dict[str, Any]]]:
    if kind == "outputs":
        from steadypix.eval.generators.outputs import load_outputs

        return load_outputs
    if kind == "retrofitted":
        from steadypix.eval.generators.retrofitted import load_retrofitted

        return load_retrofitted
    from steadypix.eval.generators import programs

    loaders = {
        "program": programs.load_program,
        "onnx": programs.load_onnx,
        "callable": programs.load_callable,
    }
    return loaders[kind]
