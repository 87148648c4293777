"""Gated pooling (Lee et al. 2016, "Generalizing pooling functions", section 3.2), a rival of BlurPool."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GatedPool2d(nn.Module):
    """Mix each window's max and mean by a gate that looks at it: s max + (1 - s) mean, s = sigmoid(w x).

    One gating mask for the whole layer, shared by its channels ("one per layer" in the paper).

    Args:
        kernel_size: side of the window in samples.
        stride: of the windows; None is `kernel_size`.
        padding: zeros for mean and gate, minus infinity for the maximum.

    Raises:
        ValueError: for sizes that are not positive.
    """

    def __init__(self, kernel_size: int = 2, *, stride: int | None = None, padding: int = 0) -> None:
        super().__init__()
        if kernel_size < 1 or (stride is not None and stride < 1) or padding < 0:
            raise ValueError(f"kernel {kernel_size}, stride {stride}, padding {padding}: cannot be")
        self.kernel_size = kernel_size
        self.stride = stride or kernel_size
        self.padding = padding
        # An even mix to begin with.
        self.mask = nn.Parameter(torch.zeros(1, 1, kernel_size, kernel_size))

    def forward(self, x: Tensor) -> Tensor:
        """Pool `x` (B, C, H, W)."""
        rows = x.flatten(0, 1)[:, None]
        gate = F.conv2d(rows, self.mask, stride=self.stride, padding=self.padding).sigmoid()
        gate = gate[:, 0].unflatten(0, x.shape[:2])
        window = (self.kernel_size, self.stride, self.padding)
        return torch.lerp(F.avg_pool2d(x, *window), F.max_pool2d(x, *window), gate)

    def extra_repr(self) -> str:
        """Return the arguments shown by `print(module)`."""
        return f"{self.kernel_size}, stride={self.stride}, padding={self.padding}"


def gate_pools(model: nn.Module) -> list[str]:
    """Replace every square max and average pool in a network by a gated one, in place; return their names.

    A pool whose kernel, stride or padding differs between the axes stays, as do `ceil_mode` and dilation.
    """
    replaced = []
    for parent_name, parent in list(model.named_modules()):
        for name, child in list(parent.named_children()):
            if not isinstance(child, nn.MaxPool2d | nn.AvgPool2d) or child.ceil_mode:
                continue
            # Each may be stated once for both axes, or twice.
            stated = (child.kernel_size, child.stride, child.padding, getattr(child, "dilation", 1))
            sides = [{value} if isinstance(value, int) else set(value) for value in stated]
            if any(len(side) > 1 for side in sides) or sides[3] != {1}:
                continue
            kernel, stride, padding = (side.pop() for side in sides[:3])
            setattr(parent, name, GatedPool2d(kernel, stride=stride, padding=padding))
            replaced.append(f"{parent_name}.{name}".lstrip("."))
    return replaced
