"""Modules of torch that change the resolution: what they do, and how each is made to blur."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from steadypix.gen.layers.gated_pool import GatedPool2d
from steadypix.gen.layers.resample import BlurPool2d
from steadypix.gen.retrofit.blurs import (
    AFTER,
    BEFORE,
    CALLS,
    CeilPool,
    FloorPool,
    attach,
    blur_of,
    dense_blur_of,
    pair,
)
from steadypix.gen.retrofit.edits import Edits
from steadypix.gen.retrofit.flow import LAYERS, NO_MAPS, Flow, Step

BY_SIZE = (nn.Upsample, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.FractionalMaxPool2d, nn.MaxUnpool2d)
PATCH = 4  # from this stride on, a conv's dense form costs 16 times as much and more


@dataclass(frozen=True)
class Options:
    """What `antialias` was asked for, checked."""

    filter: str
    padding: str
    sampling: str
    patches: str
    shortcut: str
    pool_window: int | None


@dataclass
class Rewriter:
    """Rewrites layers, and keeps what is to be seen on the probe afterwards.

    Args:
        options: what was asked for.
        flow: of the network as it was.
        sizes: output shapes of its modules on the probe, by name; empty where there was none.
        edits: where everything is noted.
        place: puts a blur on the device of the network.
        modules: of the network, by name.

    Attributes:
        activated: activations that are functions, and the blurs that go behind them, by the calling module.
        watched: by layer, the modules that have to run, and the shapes they have to give as often as the
            layer ran; None where those are not known.
    """

    options: Options
    flow: Flow
    sizes: dict[str, list[tuple[int, ...]]]
    edits: Edits
    place: Callable[[nn.Module], nn.Module]
    modules: dict[str, nn.Module]
    watched: list[tuple[str, nn.Module, list[tuple[int, ...]] | None]] = field(default_factory=list)
    activated: dict[str, list[tuple[Step, nn.Module]]] = field(default_factory=dict)

    def down(self, channels: int | None, stride: int) -> nn.Module:
        """Return a blur that subsamples."""
        return self.place(blur_of(channels, self.options.filter, stride, self.options.padding))

    def dense(self, channels: int | None, factor: float, *, upward: bool) -> nn.Module:
        """Return a blur at the higher of two resolutions."""
        options = self.options
        return self.place(dense_blur_of(channels, options.filter, factor, options.padding, upward=upward))

    def hang(
        self, layer: str, module: nn.Module, where: str, blur: nn.Module, *, resizes: bool = True
    ) -> None:
        """Attach a blur for a layer. If it `resizes`, it gives the height and width the layer gave."""
        attach(self.edits, module, where, blur)
        self.watch(layer, blur, resizes=resizes)

    def watch(self, layer: str, module: nn.Module, *, resizes: bool = True) -> None:
        """Expect a module to run, and if it `resizes`, to give the height and width the layer gave."""
        sizes = [shape[-2:] for shape in self.sizes.get(layer, [])]
        self.watched.append((layer, module, sizes if resizes and sizes else None))

    def conv(self, conv: nn.Conv2d, name: str, stride: int) -> str:
        """Let a strided conv blur; return where, in words."""
        options = self.options
        if options.sampling == "preblur" and conv.kernel_size != (1, 1):
            blur = self.dense(conv.in_channels, stride, upward=False)
            self.hang(name, conv, BEFORE, blur, resizes=False)
            return "blurred before"
        halved = options.patches == "half" and is_patch(conv, stride)  # its stride is even, else it is left
        kept = stride // 2 if halved else 1
        stride //= kept
        activation, why = self.flow.activation_after(name)
        self.edits.set(conv, "stride", (kept, kept))
        pointwise = conv.kernel_size == (1, 1) and conv.padding in ((0, 0), "valid")
        if pointwise and (
            options.sampling == "preblur" or (activation is None and options.shortcut == "before")
        ):
            self.hang(name, conv, BEFORE, self.down(conv.in_channels, stride), resizes=True)
            return "blurred before"
        blur = self.down(conv.out_channels, stride)
        if activation is not None:
            module = self.flow.module_of(activation)
            if module is not None:
                self.hang(name, module, AFTER, blur)
                return f"blurred after {activation.name}"
            consumer = self.flow.consumer_of(activation)
            if consumer is not None and consumer.module is not None:
                self.hang(name, consumer.module, BEFORE, blur)
                return f"blurred after its activation, before {consumer.name}"
            if self._is_alone(activation):
                self.activated.setdefault(activation.owner, []).append((activation, blur))
                self.watch(name, blur)
                return f"blurred after {activation.name}, a function"
            why = f"its activation {activation.name} is called elsewhere, too"
        self.hang(name, conv, AFTER, blur)
        return f"blurred after itself: {why}"

    def _is_alone(self, step: Step) -> bool:
        """Whether a function is called once in its module's own forward, so that its name tells which."""
        if step.module is not None or not self.sizes or hasattr(self.modules[step.owner], CALLS):
            return False
        same = [
            s for s in self.flow.steps if s.module is None and (s.owner, s.name) == (step.owner, step.name)
        ]
        return len(same) == 1

    def pool(self, pool: nn.MaxPool2d | nn.AvgPool2d, name: str, stride: int) -> str:
        """Let a pool blur; return where, in words."""
        where, blur = self.pool_blur(pool, stride)
        self.hang(name, pool, AFTER, blur)
        return where

    def pool_blur(self, pool: nn.MaxPool2d | nn.AvgPool2d, stride: int) -> tuple[str, nn.Module]:
        """Make a pool dense; return what to say, and the blur that belongs behind it."""
        edits, window = self.edits, self.options.pool_window
        average = isinstance(pool, nn.AvgPool2d)
        plain = pair(pool.kernel_size) == (2, 2) and stride == 2 and pair(pool.padding) == (0, 0)
        if average and plain and not pool.ceil_mode:
            # The blur takes the mean's place; a mean of one sample is the identity.
            edits.set(pool, "kernel_size", 1)
            edits.set(pool, "stride", 1)
            return "blurred in its place", FloorPool(self.down(None, 2))
        if window is not None and not average and not pool.ceil_mode:
            edits.set(pool, "kernel_size", window)
            edits.set(pool, "padding", 0)
            edits.set(pool, "dilation", 1)
        edits.set(pool, "stride", 1)
        blur = self.down(None, stride)
        return "blurred after", CeilPool(blur, pool, stride) if pool.ceil_mode else blur

    def layer(self, module: Any, name: str, stride: int) -> str:
        """Rewrite a layer that `change_of` found and nothing speaks for leaving; return where the blur is."""
        if isinstance(module, nn.Conv2d):
            return self.conv(module, name, stride)
        if isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
            return self.pool(module, name, stride)
        if isinstance(module, nn.PixelUnshuffle):
            self.hang(name, module, BEFORE, self.dense(None, stride, upward=False), resizes=False)
            return "blurred before"
        channels = module.out_channels if isinstance(module, nn.ConvTranspose2d) else None
        self.hang(name, module, AFTER, self.dense(channels, stride, upward=True))
        return "blurred after"


def is_patch(conv: nn.Conv2d, stride: int) -> bool:
    """Whether a conv cuts a picture into patches: stride 4 or more, and a kernel that covers all samples."""
    return stride >= PATCH and min(conv.kernel_size) >= stride


def is_blurred(module: nn.Module) -> bool:
    """Return whether an earlier call gave a blur to a layer that keeps its stride.

    Before a conv there may also lie the blur of the conv before it, which has that one's stride.
    """
    place = BEFORE if isinstance(module, nn.Conv2d | nn.PixelUnshuffle) else AFTER
    blurs = getattr(module, place, nn.Identity()).modules()
    return any(isinstance(blur, BlurPool2d) and blur.stride == 1 for blur in blurs)


def change_of(module: nn.Module, calls: list[Step]) -> tuple[float, float]:
    """Return by what a module changes height and width: 2 for half of it, 1/2 for double, 1 for none.

    Args:
        module: any; layers of torch that are known say it, the others are looked up.
        calls: of it on the probe; may be empty.
    """
    if isinstance(module, BY_SIZE):
        return _by_size(module, calls)
    if isinstance(module, nn.PixelShuffle):
        return (1 / module.upscale_factor,) * 2
    if isinstance(module, nn.PixelUnshuffle):
        return (module.downscale_factor,) * 2
    if not isinstance(module, LAYERS):
        return 1, 1
    stride: Any = getattr(module, "stride", None) or getattr(module, "kernel_size", 1)
    vertical, horizontal = pair(stride)
    transposed = isinstance(module, nn.ConvTranspose2d | nn.ConvTranspose1d | nn.ConvTranspose3d)
    return (1 / vertical, 1 / horizontal) if transposed else (vertical, horizontal)


def _by_size(module: Any, calls: list[Step]) -> tuple[float, float]:
    for step in calls:
        before, after = step.sizes
        if len(before) == len(after) == 4:
            return before[-2] / after[-2], before[-1] / after[-1]
    factor = getattr(module, "scale_factor", None)
    if factor is None:
        return 1, 1
    factors = (factor, factor) if isinstance(factor, int | float) else factor
    return 1 / factors[0], 1 / factors[-1]


# Of kinds that cannot be changed, why.
FIXED: tuple[tuple[tuple[type[nn.Module], ...], str], ...] = (
    ((nn.LPPool2d, GatedPool2d), "it has no low-pass counterpart here"),
    (
        (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
        "its output has a fixed size, so its windows depend on the input's",
    ),
    ((nn.FractionalMaxPool2d, nn.MaxUnpool2d), "its places depend on chance or on the data"),
    (NO_MAPS, "it works on no map (B, C, H, W)"),
)


def reason_to_leave(module: nn.Module, factor: tuple[float, float]) -> str:
    """Return why a layer that changes the resolution by `factor` cannot be changed; empty if it can."""
    reason = next((why for kinds, why in FIXED if isinstance(module, kinds)), "")
    if not reason and factor[0] != factor[1]:
        reason = f"its strides {_number(factor[0])} and {_number(factor[1])} differ"
    elif not reason and isinstance(module, nn.Upsample) and factor[0] > 1:
        reason = "it makes maps smaller; nn.functional.interpolate has antialias=True for that"
    elif not reason and getattr(module, "return_indices", False):
        reason = "it returns indices"
    return reason


def _number(factor: float) -> str:
    return f"{factor:g}" if factor >= 1 else f"{1 / factor:g}"
