"""Networks of others that were made anti-aliased, as files: weights, and who builds the network.

The file names a `module:function`, which is called for the network, and the options of `antialias`, which
rewrites it again; then the weights fit. Calling runs code, so such a file is loaded only when trusted.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from steadypix.errors import CheckpointError, InputError
from steadypix.eval.generators.formats import CALLABLE, RETROFITTED
from steadypix.eval.generators.programs import Program, load_callable
from steadypix.gen.retrofit.antialias import antialias
from steadypix.gen.retrofit.result import Retrofit
from steadypix.gen.weights.tensors import check_fit, read_tensors, write_tensors

OPTIONS = ("sampling", "filter")
LARGEST_PROBE = 1 << 24  # numbers


def rewrite(network: nn.Module, options: Mapping[str, Any]) -> Retrofit:
    """Rewrite a network by the options of a file: `sampling`, `filter`, and `probe`, the shape it is run on.

    Raises:
        ValueError: as `antialias`.
    """
    parameter = next(network.parameters(), None)
    device = None if parameter is None else parameter.device
    words = {key: options[key] for key in OPTIONS}
    return antialias(network, example=torch.zeros(*options["probe"], device=device), **words)


def save_retrofitted(
    path: Path,
    network: nn.Module,
    *,
    builder: str,
    options: Mapping[str, Any],
    config: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> None:
    """Write a rewritten network so that `load_retrofitted` builds it again.

    Args:
        path: the file to write.
        network: rewritten by `options`; its parameters and persistent buffers are stored.
        builder: `module:function` that returns the network as it was before.
        options: see `rewrite`.
        config: JSON-able: `generator` (channels, where they are known) and `data`.
        provenance: JSON-able facts about where the weights come from.
    """
    metadata = {
        "format": RETROFITTED,
        "builder": builder,
        "options": dict(options),
        "config": dict(config),
        "provenance": dict(provenance),
    }
    # Tied weights share memory, which the format does not have.
    tensors = {key: tensor.detach().clone() for key, tensor in network.state_dict().items()}
    write_tensors(path, tensors, metadata)


def load_retrofitted(path: Path, device: str) -> tuple[nn.Module, dict[str, Any]]:
    """Call the builder that a file names, rewrite its network again and give it the file's weights.

    Raises:
        InputError: if there is no such builder, or its network cannot be rewritten so.
        CheckpointError: if the file is damaged, or its weights do not fit that network.
    """
    tensors, metadata = read_tensors(path)
    builder, options, config = (metadata.get(key) for key in ("builder", "options", "config"))
    if not isinstance(builder, str) or not CALLABLE.fullmatch(builder):
        raise CheckpointError(f"{path}: names {builder!r} as its builder; expected module:function")
    if not isinstance(options, dict) or not _are_options(options):
        raise CheckpointError(f"{path}: its options cannot be read; expected sampling, filter and probe")
    sections = {
        name: config.get(name) if isinstance(config, dict) else None for name in ("generator", "data")
    }
    if not all(isinstance(section, dict) for section in sections.values()):
        raise CheckpointError(f"{path}: its metadata holds no generator and data sections")
    program, _ = load_callable(Path(builder), "cpu")
    assert isinstance(program, Program)
    network: Any = program.run
    if not isinstance(network, nn.Module):
        raise InputError(f"{path}: {builder} gives a function of pictures; expected a torch.nn.Module")
    try:
        rewrite(network, options)
    except ValueError as error:
        raise InputError(f"{path}: {builder} gives a network that cannot be rewritten ({error})") from None
    check_fit(path, tensors, network.state_dict())
    network.load_state_dict(tensors)
    network.to(device)
    program.builder = builder  # type: ignore[assignment]
    provenance = metadata.get("provenance")
    program.provenance = provenance if isinstance(provenance, dict) else {}  # type: ignore[assignment]
    return program, config if isinstance(config, dict) else {}


def _are_options(options: Mapping[str, Any]) -> bool:
    if options.keys() != {*OPTIONS, "probe"}:
        return False
    probe = options["probe"]
    if not isinstance(probe, list) or len(probe) != 4 or not all(type(n) is int and n >= 1 for n in probe):
        return False
    numbers = probe[0] * probe[1] * probe[2] * probe[3]
    return numbers <= LARGEST_PROBE and all(isinstance(options[key], str) for key in OPTIONS)
