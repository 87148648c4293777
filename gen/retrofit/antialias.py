"""Retrofit: make any network low-pass before it subsamples (Zhang 2019, section 3.2).

| layer | becomes | paper |
|---|---|---|
| max pool, stride s | the same window densely, then BlurPool | eq. 7 |
| conv, activation | the conv densely, the activation, then BlurPool | eq. 8 |
| average pool 2x2 | BlurPool | eq. 9 |
| transposed conv | the same, then a blur | its mirror, as in `steadypix.gen.networks.unet` |

Nothing else changes: the modules stay the objects they were, with their weights and names, so a state dict
fits before and after, and an optimiser keeps its parameters. A blur is a child of the module it belongs to
(`print(model)` shows it), called by a forward hook.

Where a conv's activation is, only the network's graph tells. It is traced symbolically; where it cannot be,
the blur follows the conv itself. A 1x1 conv without an activation, the shortcut of a residual block, is
blurred before: the two commute, and the conv then works at the low rate.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from steadypix.gen.layers.filters import binomial_taps
from steadypix.gen.layers.gated_pool import GatedPool2d
from steadypix.gen.layers.norms import BatchRenorm2d
from steadypix.gen.layers.resample import PADDINGS, BlurPool2d, BlurUpsample2d, MaxBlurPool2d

SAMPLINGS = ("blur", "preblur")
ACTIVATIONS: tuple[type[nn.Module], ...] = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish,
    nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Softsign,
)  # fmt: skip
# Between a conv and its activation, sample by sample, so that the blur may go behind them.
POINTWISE: tuple[type[nn.Module], ...] = (
    nn.BatchNorm2d, nn.SyncBatchNorm, BatchRenorm2d, nn.GroupNorm, nn.InstanceNorm2d, nn.Dropout,
    nn.Dropout2d, nn.Identity,
)  # fmt: skip
FUNCTIONAL_ACTIVATIONS = {
    getattr(F, name)
    for name in ("relu", "relu_", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "mish", "hardswish")
}
FUNCTIONAL_ACTIVATIONS |= {torch.relu, torch.relu_, torch.sigmoid, torch.tanh}
FUNCTIONAL_POOLS = {F.max_pool2d, F.avg_pool2d, torch.max_pool2d, F.lp_pool2d}
UNCHANGED_POOLS = (nn.LPPool2d, GatedPool2d)


@dataclass(frozen=True)
class Change:
    """What became of one module.

    Attributes:
        module: its name in the network; empty for the network itself.
        kind: its class.
        stride: what it subsampled or upsampled by.
        blur: where the blur is, in words.
    """

    module: str
    kind: str
    stride: int
    blur: str


@dataclass(frozen=True)
class Left:
    """A layer that subsamples and was left as it is.

    Attributes:
        module: its name, or the function in the network's graph; empty for the network itself.
        reason: why.
    """

    module: str
    reason: str


@dataclass(frozen=True)
class Retrofit:
    """What `antialias` did to a network; prints as a list of lines.

    Attributes:
        model: the network, the same object that was given.
        changes: in the order of the network's modules.
        left: layers that subsample still.
    """

    model: nn.Module
    changes: tuple[Change, ...]
    left: tuple[Left, ...]

    def __str__(self) -> str:
        lines = [f"{c.module or '(root)'}: {c.kind} stride {c.stride}, {c.blur}" for c in self.changes]
        return "\n".join(lines + [f"{item.module or '(root)'}: left, {item.reason}" for item in self.left])


def antialias(
    model: nn.Module,
    *,
    filter: str = "bin5",
    padding: str = "reflect",
    sampling: str = "blur",
    skip: Collection[str] = (),
) -> Retrofit:
    """Rewrite a network's strided convs, pools and transposed convs, in place; those rewritten before stay.

    Args:
        model: any network on maps (B, C, H, W). Weights, names and the shapes of all outputs are kept.
        filter: taps by name, see `steadypix.gen.layers.filters`.
        padding: of the blurs.
        sampling: `blur`, the paper's; or `preblur`, which blurs before a conv that keeps its stride and so
            costs next to nothing, but leaves the activation's harmonics.
        skip: names of modules to leave alone, with all that is in them: `("conv1",)` keeps the first
            conv of a ResNet strided, as the paper does on ImageNet to save memory.

    Returns:
        What was changed, and what could not be.

    Raises:
        ValueError: for an unknown filter, padding or sampling, or a name in `skip` that the network lacks.
    """
    binomial_taps(filter)
    for word, value, known in (("padding", padding, PADDINGS), ("sampling", sampling, SAMPLINGS)):
        if value not in known:
            raise ValueError(f"{word} {value!r} is unknown; expected one of {', '.join(known)}")
    modules = dict(model.named_modules())
    for name in skip:
        if name not in modules:
            raise ValueError(f"skip: the network has no module {name!r}")
    graph = Graph(model)

    device = next((parameter.device for parameter in model.parameters()), None)

    def blur(channels: int | None, stride: int, *, upward: bool = False) -> nn.Module:
        return blur_of(channels, filter, stride, padding, upward=upward).to(device)

    changes: list[Change] = []
    left = [Left(name, "a function, not a module") for name in graph.functional_pools]
    if not graph.whole:
        left.append(Left("", "cannot be traced in full: pools that are functions may be in it"))
    for name, module in modules.items():
        if any(name == kept or name.startswith(f"{kept}.") for kept in skip):
            continue
        stride, reason = _stride(module)
        if reason:
            left.append(Left(name, reason))
        if stride == 1 or _is_blurred(module):
            continue
        kind = type(module).__name__
        if isinstance(module, nn.ConvTranspose2d):
            where = _attach(module, "blur_after", blur(module.out_channels, 1, upward=True))
        elif isinstance(module, nn.Conv2d):
            where = _dense_conv(module, name, stride, graph, blur, preblur=sampling == "preblur")
        else:
            where = _dense_pool(module, stride, blur)
        changes.append(Change(name, kind, stride, where))
    return Retrofit(model, tuple(changes), tuple(left))


def blur_of(
    channels: int | None, filter: str, stride: int, padding: str, *, upward: bool = False
) -> nn.Module:
    """Return the blur for a stride: of 4, 8, ... in steps of 2, because binomial taps cut one octave."""
    steps = [2] * (stride.bit_length() - 1) if stride > 1 and stride & (stride - 1) == 0 else [stride]
    blurs = [
        BlurPool2d(channels, filter=filter, stride=step, padding=padding, upward=upward) for step in steps
    ]
    return blurs[0] if len(blurs) == 1 else nn.Sequential(*blurs)


class Graph:
    """What comes after a module in a network, as far as symbolic tracing tells.

    Args:
        model: the network; one that cannot be traced has no graph, and every answer is None.

    Attributes:
        whole: whether all of the network's own code was traced, and not only what is between its modules.
    """

    def __init__(self, model: nn.Module) -> None:
        self.modules = dict(model.named_modules())
        self.whole = True
        self.nodes = _trace(model, inside=True)
        if not self.nodes:
            self.whole = False
            self.nodes = _trace(model, inside=False)
        self.calls: dict[str, list[fx.Node]] = {}
        for node in self.nodes:
            if node.op == "call_module":
                self.calls.setdefault(str(node.target), []).append(node)

    @property
    def functional_pools(self) -> list[str]:
        """Names of pools that are function calls."""
        return [node.name for node in self.nodes if node.target in FUNCTIONAL_POOLS and subsamples(node)]

    def module_of(self, node: fx.Node) -> nn.Module | None:
        """Return the module a node calls; None if it calls none, or one that is called elsewhere too."""
        if node.op != "call_module" or len(self.calls[str(node.target)]) != 1:
            return None
        return self.modules[str(node.target)]

    def activation_after(self, name: str) -> fx.Node | None:
        """Return the activation that alone uses a module's output, be there norms between."""
        calls = self.calls.get(name, [])
        if len(calls) != 1:
            return None
        node = calls[0]
        while len(node.users) == 1:
            node = next(iter(node.users))
            if node.op == "call_module":
                module = self.modules[str(node.target)]
                if isinstance(module, ACTIVATIONS):
                    return node
                if isinstance(module, POINTWISE):
                    continue
            if node.target in FUNCTIONAL_ACTIVATIONS or node.target in ("relu", "relu_", "sigmoid", "tanh"):
                return node
            return None
        return None


# Known for what they are, also where a class of the user's own inherits from them.
LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.MaxPool2d, nn.AvgPool2d)
LEAVES = (*LAYERS, *UNCHANGED_POOLS, *ACTIVATIONS, *POINTWISE, BlurPool2d, BlurUpsample2d, MaxBlurPool2d)


class _Tracer(fx.Tracer):
    def __init__(self, *, inside: bool) -> None:
        super().__init__()
        self.inside = inside

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Look into modules that are made of others; if `inside`, into all but torch's and ours."""
        if isinstance(m, LEAVES) or super().is_leaf_module(m, module_qualified_name):
            return True
        return not self.inside and not list(m.children())


def _trace(model: nn.Module, *, inside: bool) -> list[fx.Node]:
    try:
        return list(_Tracer(inside=inside).trace(model).nodes)
    except Exception:  # control flow that depends on data fails in whatever way the network's code does
        return []


def subsamples(pool: fx.Node) -> bool:
    """Return whether a call of a pooling function has a stride; without one, its window is its stride."""
    first = 2 if pool.target is F.lp_pool2d else 1  # behind the map, and the norm of a power average
    words = dict(zip(("kernel_size", "stride"), pool.args[first:], strict=False)) | pool.kwargs
    return (words.get("stride") or words.get("kernel_size")) not in (1, (1, 1))


def _is_blurred(module: nn.Module) -> bool:
    """Return whether an earlier call gave a blur to a layer that keeps its stride.

    Before a conv there may also lie the blur of the conv before it, which has that one's stride.
    """
    place = "blur_after" if isinstance(module, nn.ConvTranspose2d) else "blur_before"
    blurs = getattr(module, place, nn.Identity()).modules()
    return any(isinstance(blur, BlurPool2d) and blur.stride == 1 for blur in blurs)


def _stride(module: nn.Module) -> tuple[int, str]:
    """Return what a module subsamples by, and why it is left alone if that cannot be helped."""
    if not isinstance(module, (*LAYERS, *UNCHANGED_POOLS)):
        return 1, ""
    pair = _pair(module.stride or module.kernel_size)  # a power-average pool may state its kernel alone
    if pair == (1, 1):
        return 1, ""
    if isinstance(module, UNCHANGED_POOLS):
        return 1, f"{type(module).__name__} has no low-pass counterpart here"
    if pair[0] != pair[1]:
        return 1, f"its strides {pair[0]} and {pair[1]} differ"
    if isinstance(module, nn.MaxPool2d) and module.return_indices:
        return 1, "it returns indices"
    return int(pair[0]), ""


Blur = Callable[..., nn.Module]


def _dense_conv(conv: nn.Conv2d, name: str, stride: int, graph: Graph, blur: Blur, *, preblur: bool) -> str:
    activation = graph.activation_after(name)
    if preblur and conv.kernel_size != (1, 1):
        return _attach(conv, "blur_before", blur(conv.in_channels, 1))
    conv.stride = (1, 1)
    if conv.kernel_size == (1, 1) and conv.padding in ((0, 0), "valid") and (preblur or activation is None):
        return _attach(conv, "blur_before", blur(conv.in_channels, stride))
    if activation is not None:
        place = graph.module_of(activation)
        if place is not None:
            _attach(place, "blur_after", blur(conv.out_channels, stride))
            return f"blurred after {activation.target}"
        users = list(activation.users)
        consumer = graph.module_of(users[0]) if len(users) == 1 else None
        if consumer is not None and users[0].args[:1] == (activation,):
            _attach(consumer, "blur_before", blur(conv.out_channels, stride))
            return f"blurred after its activation, before {users[0].target}"
    return _attach(conv, "blur_after", blur(conv.out_channels, stride))


def _dense_pool(pool: nn.MaxPool2d | nn.AvgPool2d, stride: int, blur: Blur) -> str:
    sides = (pool.kernel_size,) * 2 if isinstance(pool.kernel_size, int) else tuple(pool.kernel_size)
    box = isinstance(pool, nn.AvgPool2d) and sides == (2, 2) and stride == 2 and pool.padding in (0, (0, 0))
    if box and not pool.ceil_mode:
        # The blur takes the mean's place; a mean of one sample is the identity.
        pool.kernel_size = pool.stride = 1
        _attach(pool, "blur_after", FloorPool(blur(None, 2)))
        return "blurred in its place"
    if pool.ceil_mode:
        pool.stride = 1
        return _attach(pool, "blur_after", CeilPool(blur(None, stride), pool, stride))
    pool.stride = 1
    return _attach(pool, "blur_after", blur(None, stride))


class FloorPool(nn.Module):
    """A BlurPool of stride 2 that gives floor(H / 2), as the average pool whose place it takes."""

    def __init__(self, blur: nn.Module) -> None:
        super().__init__()
        self.blur = blur

    def forward(self, x: Tensor) -> Tensor:
        """Blur and subsample `x` (B, C, H, W), without a last odd row or column."""
        height, width = x.shape[-2:]
        return self.blur(x[..., : height // 2 * 2, : width // 2 * 2])


class CeilPool(nn.Module):
    """A BlurPool that gives as many samples as a pool with `ceil_mode` did.

    Args:
        blur: of the pool's stride.
        pool: says kernel, padding and dilation.
        stride: the pool had.
    """

    def __init__(self, blur: nn.Module, pool: nn.MaxPool2d | nn.AvgPool2d, stride: int) -> None:
        super().__init__()
        self.blur = blur
        self.stride = stride
        self.padding = _pair(pool.padding)
        reaches = (_pair(pool.kernel_size), _pair(getattr(pool, "dilation", 1)))
        self.reach = tuple(d * (k - 1) for k, d in zip(*reaches, strict=True))

    def forward(self, x: Tensor) -> Tensor:
        """Blur and subsample a dense map (B, C, H, W); it is continued as far as the pool's last window."""
        extra = [self._missing(x.shape[axis - 2], axis) for axis in (0, 1)]
        if any(extra):
            x = F.pad(x, (0, extra[1], 0, extra[0]), mode="replicate")
        return self.blur(x)

    def _missing(self, dense: int, axis: int) -> int:
        before = dense + self.reach[axis] - 2 * self.padding[axis]
        windows = -(-(dense - 1) // self.stride) + 1
        if (windows - 1) * self.stride >= before + self.padding[axis]:  # it would start in the padding
            windows -= 1
        return max(0, (windows - 1) * self.stride + 1 - dense)


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _attach(module: nn.Module, name: str, blur: nn.Module) -> str:
    known = getattr(module, name, None)
    if known is not None:  # a conv that blurs for the one before it, and for itself
        setattr(module, name, nn.Sequential(known, blur))
    else:
        module.add_module(name, blur)
        if name == "blur_before":
            module.register_forward_pre_hook(_blur_before)
        else:
            module.register_forward_hook(_blur_after)
    return "blurred before" if name == "blur_before" else "blurred after"


def _blur_before(module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return (module.blur_before(args[0]), *args[1:])


def _blur_after(module: Any, args: tuple[Any, ...], output: Tensor) -> Tensor:
    blurred: Tensor = module.blur_after(output)
    return blurred
