"""A generator with frozen statistics beside the generator: what looks at the whole picture is told apart."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from steadypix.errors import InputError
from steadypix.gen.large.frozen import freeze, gather, looking_norms

if TYPE_CHECKING:
    from collections.abc import Callable

# Norms by the argument that says that they take statistics of their input; None: they always do.
LOOKING: dict[Callable[..., Any], str | None] = {
    F.instance_norm: "use_input_stats",
    F.batch_norm: "training",
    F.group_norm: None,
    F.layer_norm: None,
}


def can_be_seen(network: nn.Module) -> bool:
    """Whether a network has layers that can be reached: ONNX, exported programs and folders have none."""
    return any(True for _ in network.children())


def require_layers(option: str, generators: Mapping[str, nn.Module]) -> None:
    """Refuse generators whose norms cannot be reached, and inputs that are only exported.

    Args:
        option: that asks for it.
        generators: by the name of their file.

    Raises:
        InputError: naming the generator.
    """
    wanted = "expected weights or a Python callable, whose norms can be frozen"
    if not generators:
        raise InputError(
            f"{option}: runs generators with frozen norms, which no exported input can; {wanted}"
        )
    for name, network in generators.items():
        if not can_be_seen(network):
            raise InputError(f"{name}: {option} cannot freeze its norms; {wanted}")


def frozen(network: nn.Module, window: Tensor) -> tuple[nn.Module, Tensor]:
    """Return a network whose norms go by the statistics of one picture, and its output for that picture.

    Args:
        network: in eval mode; it stays as it is.
        window: (1, C, H, W) in [-1, 1].

    Returns:
        A copy that shares the weights, or the network itself where no norm looks at the picture; and
        (1, C', H, W).

    Raises:
        InputError: if a norm looks at the picture that is no layer and cannot be frozen.
    """
    if looking_norms(network):
        shared = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
        network = copy.deepcopy(network, shared)
        freeze(network, gather(network, [window]))
    watch = _Watch()
    with torch.inference_mode(), watch:
        output = network(window)
    if watch.seen:
        raise InputError(f"calls {watch.seen}, which is no layer, so it cannot be frozen")
    return network, output.float()


class _Watch(TorchFunctionMode):
    """Remembers a norm that takes statistics of its input."""

    seen = ""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function in LOOKING:
            argument = LOOKING[function]
            bound = inspect.signature(function).bind(*args, **kwargs)
            bound.apply_defaults()
            if argument is None or bound.arguments[argument]:
                self.seen = function.__name__
        return function(*args, **kwargs)
