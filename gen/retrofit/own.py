"""The networks of this package, rewritten by their own `sampling`: the levels as they would have been built.

Their levels call convolutions by functions that no hook sees, so they are changed by what they are made of.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from steadypix.gen.layers.resample import BlurPool2d, BlurUpsample2d
from steadypix.gen.networks.levels import DownLevel, UpLevel
from steadypix.gen.networks.patchgan import PatchDiscriminator
from steadypix.gen.retrofit.layers import Rewriter
from steadypix.gen.retrofit.result import Change

WEIGHTLESS = {DownLevel: ("before", "after", "preblur", "pool"), UpLevel: ("late", "upsample", "blur")}


def own_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the levels of our generators and the strided layers of our discriminators, by name."""
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        if isinstance(module, DownLevel | UpLevel):
            found[name] = module
        elif isinstance(module, PatchDiscriminator):
            for number, layer in enumerate(module.layers):
                if layer.conv.stride != (1, 1) or isinstance(layer.pool, BlurPool2d):
                    found[f"{name}.layers.{number}".lstrip(".")] = layer
    return found


def rewrite_own(layer: nn.Module, name: str, rewriter: Rewriter) -> Change | None:
    """Let one of `own_layers` sample as asked for; None if it is anti-aliased already.

    Raises:
        ValueError: if the blurs are to pad otherwise than its own do.
    """
    if any(isinstance(module, BlurPool2d | BlurUpsample2d) for module in layer.modules()):
        return None
    options = rewriter.options
    own_padding = getattr(layer, "padding", "zeros")
    own_padding = "reflect" if own_padding == "zeros" else own_padding
    if options.padding not in ("reflect", own_padding):
        raise ValueError(
            f"{name}: its blurs pad as its convs do ({own_padding}), not {options.padding!r}; build the "
            f"network with padding={options.padding!r} and load its weights (steadypix.load_weights), or "
            "leave padding out"
        )
    if isinstance(layer, DownLevel | UpLevel):
        return _level(layer, name, rewriter)
    return _patch_layer(layer, name, rewriter)


def _level(level: DownLevel | UpLevel, name: str, rewriter: Rewriter) -> Change:
    options, conv, upward = rewriter.options, level.conv, isinstance(level, UpLevel)
    words: dict[str, Any] = {
        "sampling": options.sampling,
        "filter": options.filter,
        "padding": level.padding,
        "norm": None,
        "bias": False,
        "kernel": conv.kernel_size[0],
    }
    if upward:
        words["dropout"] = False
    twin = type(level)(conv.in_channels, conv.out_channels, **words)
    kind = UpLevel if upward else DownLevel
    for attribute in WEIGHTLESS[kind]:
        value = getattr(twin, attribute)
        rewriter.edits.set(level, attribute, rewriter.place(value) if isinstance(value, nn.Module) else value)
    rewriter.edits.set(conv, "stride", twin.conv.stride)
    rewriter.watch(name, level)
    blur = getattr(level, "pool" if options.sampling == "blur" else "preblur", None)
    if isinstance(blur, nn.Module):
        rewriter.watch(name, blur, resizes=False)
    return Change(name, type(level).__name__, 2, f"sampling {options.sampling}", upward)


def _patch_layer(layer: nn.Module, name: str, rewriter: Rewriter) -> Change:
    conv = layer.conv
    if not isinstance(conv, nn.Conv2d):
        raise TypeError(f"{name}.conv: expected a conv")
    kind = "PatchDiscriminator layer"
    rewriter.watch(name, layer)
    if rewriter.options.sampling == "preblur":  # which it has no word for, but it calls a conv that has hooks
        return Change(name, kind, 2, rewriter.conv(conv, f"{name}.conv", 2))
    words = {"ndf": 1, "n_layers": 1, "norm": "none", "filter": rewriter.options.filter}
    twin = PatchDiscriminator(1, **words).layers[0]  # type: ignore[arg-type]
    pool = BlurPool2d(conv.out_channels, filter=rewriter.options.filter, stride=2)
    assert isinstance(twin.pool, BlurPool2d)
    rewriter.edits.set(layer, "pool", rewriter.place(pool))
    rewriter.edits.set(layer, "stride", twin.stride)
    rewriter.edits.set(conv, "stride", (1, 1))
    rewriter.watch(name, pool)
    return Change(name, kind, 2, "filter, blurred after its activation")
