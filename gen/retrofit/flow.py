"""What follows a layer in a network: steps in order, each with the steps that use its output.

`steadypix.gen.retrofit.probe` records them while the network runs. `trace` reads them from the code by
`torch.fx`, for networks without a picture to run on; of submodules, where the whole cannot be traced.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import fx, nn

from steadypix.gen.layers.gated_pool import GatedPool2d
from steadypix.gen.layers.norms import BatchRenorm2d
from steadypix.gen.layers.resample import BlurPool2d, BlurUpsample2d, MaxBlurPool2d

ACTIVATIONS: tuple[type[nn.Module], ...] = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish,
    nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Softsign,
)  # fmt: skip
NORMS: tuple[type[nn.Module], ...] = (
    nn.BatchNorm2d, nn.SyncBatchNorm, BatchRenorm2d, nn.GroupNorm, nn.InstanceNorm2d, nn.LayerNorm,
)  # fmt: skip
# Between a conv and its activation, sample by sample, so that the blur may go behind them.
POINTWISE: tuple[type[nn.Module], ...] = (*NORMS, nn.Dropout, nn.Dropout2d, nn.Identity)
ACTIVATION_FUNCTIONS = frozenset({
    "relu", "relu_", "relu6", "leaky_relu", "leaky_relu_", "prelu", "elu", "elu_", "selu", "celu", "gelu",
    "silu", "mish", "hardswish", "hardsigmoid", "hardtanh", "sigmoid", "sigmoid_", "tanh", "tanh_",
    "softplus", "softsign",
})  # fmt: skip
POINTWISE_FUNCTIONS = frozenset({
    "batch_norm", "group_norm", "instance_norm", "layer_norm", "dropout", "dropout2d", "contiguous", "clone",
})  # fmt: skip
# Known for what they are, also where a class of the user's own inherits from them.
CHANGED = (
    nn.Conv2d,
    nn.ConvTranspose2d,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.Upsample,
    nn.PixelShuffle,
    nn.PixelUnshuffle,
)
NO_MAPS = (
    nn.Conv1d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose3d, nn.MaxPool1d, nn.MaxPool3d, nn.AvgPool1d,
    nn.AvgPool3d,
)  # fmt: skip
UNCHANGED = (
    nn.LPPool2d, GatedPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.FractionalMaxPool2d,
    nn.MaxUnpool2d, *NO_MAPS,
)  # fmt: skip
LAYERS = (*CHANGED, *UNCHANGED)
LEAVES = (*LAYERS, *ACTIVATIONS, *POINTWISE, BlurPool2d, BlurUpsample2d, MaxBlurPool2d)


@dataclass
class Step:
    """A module or a function that was called.

    Attributes:
        name: of the module; of the function.
        owner: the module whose forward calls it.
        module: None for a function.
        words: arguments of a function, tensors replaced by None.
        sizes: shapes of the first map in and of the first map out, () where there is none.
        source: the step that made its first input, -1 if none did.
        users: steps that use its output, -1 for the network's own output.
        macs: its multiply-accumulates, 0 where nobody counted.
    """

    name: str
    owner: str = ""
    module: nn.Module | None = None
    words: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})
    sizes: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    source: int = -1
    users: list[int] = field(default_factory=list)
    macs: int = 0


class Flow:
    """Steps of a network, and what follows what.

    Args:
        steps: in the order they are called.
        untraced: modules whose own code nobody saw, where the steps come from `trace`.
    """

    def __init__(self, steps: list[Step], untraced: tuple[str, ...] = ()) -> None:
        self.steps = steps
        self.untraced = untraced
        self.calls: dict[str, list[Step]] = {}
        for step in steps:
            if step.module is not None:
                self.calls.setdefault(step.name, []).append(step)

    def module_of(self, step: Step) -> nn.Module | None:
        """Return the module a step calls; None if it calls none, or one that is called elsewhere too."""
        if step.module is None or len(self.calls[step.name]) != 1:
            return None
        return step.module

    def activation_after(self, name: str) -> tuple[Step | None, str]:
        """Return the activation that alone uses a module's output, norms between or not; or why none."""
        calls = self.calls.get(name, [])
        if len(calls) != 1:
            return None, "it is called more than once" if calls else "its place in the network is not known"
        step = calls[0]
        while True:
            if len(step.users) != 1:
                return None, "its output is used more than once" if step.users else "nothing follows it"
            if step.users[0] < 0:
                return None, "nothing follows it"
            follower = self.steps[step.users[0]]
            if activates(follower):
                return follower, ""
            if not passes(follower) or self.steps[follower.source] is not step:
                what = follower.name if follower.module is None else type(follower.module).__name__
                return None, f"{what} follows it"
            step = follower

    def consumer_of(self, step: Step) -> Step | None:
        """Return the module, called only here, that alone takes a step's output, as its first input."""
        if len(step.users) != 1 or step.users[0] < 0:
            return None
        user = self.steps[step.users[0]]
        first = user.source >= 0 and self.steps[user.source] is step
        return user if first and self.module_of(user) is not None else None


def activates(step: Step) -> bool:
    """Whether a step is an activation, or a norm that has one inside, such as timm's `BatchNormAct2d`."""
    if step.module is None:
        return step.name in ACTIVATION_FUNCTIONS
    return isinstance(step.module, ACTIVATIONS) or _is_fused(step.module)


def passes(step: Step) -> bool:
    """Whether a step works sample by sample and is no activation."""
    if step.module is None:
        return step.name in POINTWISE_FUNCTIONS
    return isinstance(step.module, POINTWISE)


def _is_fused(module: nn.Module) -> bool:
    return isinstance(module, NORMS) and any(isinstance(child, ACTIVATIONS) for child in module.children())


class _Tracer(fx.Tracer):
    def __init__(self, *, inside: bool) -> None:
        super().__init__()
        self.inside = inside

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Look into modules that are made of others; if `inside`, into all but torch's and ours."""
        if isinstance(m, LEAVES) or super().is_leaf_module(m, module_qualified_name):
            return True
        return not self.inside and not list(m.children())


def trace(model: nn.Module) -> Flow:
    """Read the steps of a network from its code; of its submodules, where it cannot be traced whole."""
    steps: list[Step] = []
    untraced: list[str] = []

    def read(module: nn.Module, name: str) -> None:
        nodes = _nodes(module, inside=True)
        if not nodes:
            untraced.append(name)
            nodes = _nodes(module, inside=False)
        if nodes:
            _append(steps, nodes, module, name)
            return
        if isinstance(module, LEAVES):
            return
        for child_name, child in module.named_children():
            read(child, f"{name}.{child_name}".lstrip("."))

    read(model, "")
    return Flow(steps, tuple(untraced))


def _nodes(module: nn.Module, *, inside: bool) -> list[fx.Node]:
    try:
        return list(_Tracer(inside=inside).trace(module).nodes)
    except Exception:  # control flow that depends on data fails in whatever way the network's code does
        return []


def _append(steps: list[Step], nodes: list[fx.Node], root: nn.Module, prefix: str) -> None:
    places = {node: len(steps) + number for number, node in enumerate(nodes)}
    modules = dict(root.named_modules())
    for node in nodes:
        module, name = None, str(node.target)
        if node.op == "call_module":
            module, name = modules[name], f"{prefix}.{name}".lstrip(".")
        elif node.op == "call_function":
            name = getattr(node.target, "__name__", name)
        first = node.args[0] if node.args else None
        words = fx.map_arg((node.args, node.kwargs), lambda _: None)
        steps.append(
            Step(
                name if node.op != "output" else "output",
                owner=prefix,
                module=module,
                words=words,
                source=places[first] if isinstance(first, fx.Node) else -1,
                users=[places[user] for user in node.users],
            )
        )
