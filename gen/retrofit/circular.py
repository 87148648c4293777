"""Give any network circular borders, so that its sampling alone breaks equivariance (Zhang 2019, 4.2)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from steadypix.gen.layers.gated_pool import GatedPool2d
from steadypix.gen.layers.resample import BlurPool2d, BlurUpsample2d
from steadypix.gen.retrofit.blurs import CeilPool

POOLS = (nn.MaxPool2d, nn.AvgPool2d, GatedPool2d)


def make_circular(model: nn.Module) -> None:
    """Let convs, pools and blurs of a network wrap around instead of padding, in place; weights stay.

    A transposed conv wraps only where it has `padding_mode` circular of its own, which torch lacks.

    Raises:
        ValueError: naming a transposed conv, or a pool that cannot wrap.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.ConvTranspose2d):
            raise ValueError(f"{name}: a transposed conv cannot be made circular")
        if isinstance(module, nn.Conv2d):
            module.padding_mode = "circular"
        elif isinstance(module, BlurPool2d | BlurUpsample2d):
            module.padding = "circular"
        elif isinstance(module, POOLS) and module.padding not in (0, (0, 0)):
            height, width = (
                (module.padding,) * 2 if isinstance(module.padding, int) else tuple(module.padding)
            )
            if _rounds_up(module):
                raise ValueError(f"{name}: a pool with padding and ceil_mode cannot be made circular")
            module.add_module("wrap", nn.CircularPad2d((width, width, height, height)))
            module.padding = 0
            module.register_forward_pre_hook(_wrap)


def _rounds_up(pool: Any) -> bool:
    """Return whether a pool's `ceil_mode` may add a window: never with a stride of 1 that was not larger."""
    strided = pool.stride not in (1, (1, 1)) or isinstance(getattr(pool, "blur_after", None), CeilPool)
    return strided and getattr(pool, "ceil_mode", False)


def _wrap(module: Any, args: tuple[Any, ...]) -> tuple[Tensor, ...]:
    return (module.wrap(args[0]), *args[1:])
