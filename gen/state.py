"""Everything a training run needs to go on, as one flat dict of tensors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def pack_state(
    models: Mapping[str, nn.Module], optimizers: Mapping[str, torch.optim.Optimizer]
) -> dict[str, Tensor]:
    """Collect weights, buffers and optimiser moments under names such as `generator/encoder.0.conv.weight`.

    The tensors are the live ones, no copies: write them before the next step.

    Args:
        models: by name, not wrapped for several processes.
        optimizers: by name; only tensor state is kept (Adam's moments and step counts).
    """
    packed = {
        f"{name}/{key}": tensor
        for name, model in models.items()
        for key, tensor in model.state_dict().items()
    }
    for name, optimizer in optimizers.items():
        for place, entries in optimizer.state_dict()["state"].items():
            for key, value in entries.items():
                packed[f"{name}/{place}/{key}"] = torch.as_tensor(value)
    return packed


def unpack_state(
    packed: Mapping[str, Tensor],
    models: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
) -> None:
    """Put back what `pack_state` collected.

    Raises:
        RuntimeError: if weights are missing or of another shape.
        ValueError: if some of an optimiser's moments are missing. None at all is a run not begun.
    """
    for name, model in models.items():
        model.load_state_dict(_under(packed, name))
    for name, optimizer in optimizers.items():
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in _under(packed, name).items():
            place, _, entry = key.partition("/")
            state.setdefault(int(place), {})[entry] = tensor
        groups = optimizer.state_dict()["param_groups"]
        expected = {place for group in groups for place in group["params"]}
        if state and state.keys() != expected:
            raise ValueError(f"the state of {name} covers {len(state)} of {len(expected)} parameters")
        parameters: list[Tensor] = [p for group in optimizer.param_groups for p in group["params"]]
        for number, entries in state.items():
            for key, value in entries.items():
                entries[key] = _laid_out_like(parameters[number], value, f"{name}/{number}/{key}")
        optimizer.load_state_dict({"state": state, "param_groups": groups})


def _laid_out_like(parameter: Tensor, value: Tensor, name: str) -> Tensor:
    """Return a moment in its parameter's memory order; a fused update walks through both side by side."""
    if value.ndim == 0:  # a count of steps
        return value
    if value.shape != parameter.shape:
        raise ValueError(f"{name} is {tuple(value.shape)}, its parameter {tuple(parameter.shape)}")
    return torch.empty_like(parameter, requires_grad=False).copy_(value)


def _under(packed: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    prefix = f"{name}/"
    return {key.removeprefix(prefix): value for key, value in packed.items() if key.startswith(prefix)}
