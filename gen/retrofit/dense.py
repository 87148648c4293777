"""Dense evaluation: a network without subsampling, its later layers dilated instead (a-trous).

Zhang (2019, section 2) names it as the other way to shift invariance: with circular borders a dense
network's maps move exactly with the input, and a mean over them does not move at all. Every layer then
works at full resolution, which costs stride squared of all strides before it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from steadypix.gen.layers.gated_pool import GatedPool2d

LAYERS = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, GatedPool2d)
FUNCTIONAL_POOLS = {F.max_pool2d, F.avg_pool2d, torch.max_pool2d, F.lp_pool2d}


def make_dense(model: nn.Module) -> int:
    """Take every stride out of a network and dilate what follows, in place; weights and names stay.

    The values at every `n`-th place of the dense maps, `n` the product of the strides, are those of the
    strided network. Pools without padding shorten a dense map at its right and lower border, and what lies
    near there differs.

    Args:
        model: can be traced symbolically (`torch.fx`), each conv and pool a module that is called once.

    Returns:
        The product of the strides along the deepest path.

    Raises:
        ValueError: naming a layer that cannot be dilated or is called twice, or a pool that is a function.
    """
    modules = dict(model.named_modules())
    rates: dict[fx.Node, int] = {}
    done: set[str] = set()
    deepest = 1
    # All is checked before the first module is touched.
    todo: list[tuple[Any, int]] = []
    for node in _Tracer().trace(model).nodes:
        found = {rates[other] for other in node.all_input_nodes}
        if len(found) > 1:
            raise ValueError(f"{node.name}: joins maps of strides {sorted(found)}; cannot be dense")
        rate = found.pop() if found else 1
        if node.target in FUNCTIONAL_POOLS and (rate > 1 or _subsamples(node)):
            raise ValueError(f"{node.name}: a function, not a module; cannot be dense")
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, LAYERS):
            name = str(node.target)
            if name in done:
                raise ValueError(f"{name}: is called twice; cannot be dense")
            if any(child != "wrap" for child, _ in module.named_children()):
                raise ValueError(f"{name}: blurs; expected a network that is not anti-aliased")
            if isinstance(module, nn.AvgPool2d | GatedPool2d) and rate > 1:
                kind = "an average" if isinstance(module, nn.AvgPool2d) else "a gated"
                raise ValueError(f"{name}: {kind} pool cannot be dilated")
            done.add(name)
            todo.append((module, rate))
            rate *= _stride(module)
        elif hasattr(module, "stride"):
            raise ValueError(f"{node.target}: {type(module).__name__} cannot be dense")
        rates[node] = rate
        deepest = max(deepest, rate)
    for module, rate in todo:
        _dilate(module, rate)
    return deepest


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, LAYERS) or super().is_leaf_module(m, module_qualified_name)


def _stride(module: Any) -> int:
    pair = (module.stride,) * 2 if isinstance(module.stride, int) else tuple(module.stride)
    if pair[0] != pair[1]:
        raise ValueError(f"strides {pair[0]} and {pair[1]} differ; cannot be dense")
    return int(pair[0])


def _dilate(module: Any, rate: int) -> None:
    as_pair = isinstance(module, nn.Conv2d)  # whose arguments are pairs; a pool's are numbers
    module.stride = (1, 1) if as_pair else 1
    if rate == 1:
        return
    module.dilation = _times(module.dilation, rate)
    if hasattr(module, "wrap"):  # what steadypix.gen.retrofit.circular pads a pool with
        module.wrap.padding = _times(module.wrap.padding, rate)
    if not isinstance(module.padding, str):
        module.padding = _times(module.padding, rate)
        if isinstance(module, nn.Conv2d):  # what other paddings than zeros are made of
            module._reversed_padding_repeated_twice = [
                side * rate for side in module._reversed_padding_repeated_twice
            ]


def _times(value: int | tuple[int, ...], rate: int) -> int | tuple[int, ...]:
    return value * rate if isinstance(value, int) else tuple(part * rate for part in value)


def _subsamples(pool: fx.Node) -> bool:
    """Return whether a call of a pooling function has a stride; without one, its window is its stride."""
    first = 2 if pool.target is F.lp_pool2d else 1  # behind the map, and the norm of a power average
    words = dict(zip(("kernel_size", "stride"), pool.args[first:], strict=False)) | pool.kwargs
    return (words.get("stride") or words.get("kernel_size")) not in (1, (1, 1))
