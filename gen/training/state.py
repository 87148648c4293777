"""Everything a training run needs to go on, as one flat dict of tensors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

MOMENTS = ("exp_avg", "exp_avg_sq")  # of Adam, beside its count of steps


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
        ValueError: naming the first entry that is missing, unknown, of another shape or kind, or not finite;
            nothing is put back then. An optimiser without any entry is one of a run not begun.
    """
    _check(packed, models, optimizers)
    for name, model in models.items():
        model.load_state_dict(_under(packed, name))
    for name, optimizer in optimizers.items():
        parameters: list[Tensor] = [p for group in optimizer.param_groups for p in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in _under(packed, name).items():
            place, _, entry = key.partition("/")
            value = _laid_out_like(parameters[int(place)], tensor) if entry in MOMENTS else tensor
            state.setdefault(int(place), {})[entry] = value
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})


def _check(
    packed: Mapping[str, Tensor],
    models: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
) -> None:
    """Raise ValueError unless `packed` holds what `pack_state` of these would, and numbers that can be."""
    expected = {
        f"{name}/{key}": (tensor.shape, tensor.dtype)
        for name, model in models.items()
        for key, tensor in model.state_dict().items()
    }
    for name, optimizer in optimizers.items():
        if any(key.startswith(f"{name}/") for key in packed):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            for place, parameter in enumerate(parameters):
                expected[f"{name}/{place}/step"] = (torch.Size(), torch.float32)
                for moment in MOMENTS:
                    expected[f"{name}/{place}/{moment}"] = (parameter.shape, parameter.dtype)
    for key in sorted(expected.keys() | packed.keys()):
        if key not in packed:
            raise ValueError(f"lacks {key}")
        if key not in expected:
            raise ValueError(f"holds {key}, unknown here")
        shape, dtype = expected[key]
        if packed[key].shape != shape or packed[key].dtype != dtype:
            found = f"{packed[key].dtype} {tuple(packed[key].shape)}"
            raise ValueError(f"{key} is {found}, expected {dtype} {tuple(shape)}")
        if not torch.isfinite(packed[key]).all():
            raise ValueError(f"{key} holds values that are not finite")
        if key.endswith(("/exp_avg_sq", "/step", "running_var")) and (packed[key] < 0).any():
            raise ValueError(f"{key} holds values below 0")


def _laid_out_like(parameter: Tensor, moment: Tensor) -> Tensor:
    """Return a moment in its parameter's memory order; a fused update walks through both side by side."""
    return torch.empty_like(parameter, requires_grad=False).copy_(moment)


def _under(packed: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    prefix = f"{name}/"
    return {key.removeprefix(prefix): value for key, value in packed.items() if key.startswith(prefix)}
