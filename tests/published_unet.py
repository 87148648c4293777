"""The published pix2pix U-Net as plain functions, an independent statement to compare with.

Written from the description of the graph: nested blocks, each of which gets the map its parent's
convolution made and hands back that map (activated, for the LeakyReLU works in place) with its own
result behind it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor


def published_unet(
    weights: Mapping[str, Tensor], x: Tensor, *, num_downs: int, train: bool = False
) -> Tensor:
    """Run the graph without dropout.

    Args:
        weights: `<level>.down.weight`, `<level>.up.weight` and the like, level 0 outermost, with
            `.bias` where there is one; `<level>.downnorm.*` and `<level>.upnorm.*` hold what a batch
            norm does.
        x: (B, C, H, W), H and W multiples of 2 ** num_downs.
        num_downs: number of levels.
        train: normalise by the statistics of the batch, not by the running ones.
    """

    def down_conv(level: int, h: Tensor) -> Tensor:
        weight, bias = weights[f"{level}.down.weight"], weights.get(f"{level}.down.bias")
        return F.conv2d(h, weight, bias, stride=2, padding=1)

    def up_conv(level: int, h: Tensor) -> Tensor:
        weight, bias = weights[f"{level}.up.weight"], weights.get(f"{level}.up.bias")
        return F.conv_transpose2d(h, weight, bias, stride=2, padding=1)

    def batch_norm(name: str, h: Tensor) -> Tensor:
        scale, offset = weights[f"{name}.weight"], weights[f"{name}.bias"]
        if train:
            return F.batch_norm(h, None, None, scale, offset, training=True, eps=1e-5)
        mean, var = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
        return F.batch_norm(h, mean, var, scale, offset, training=False, eps=1e-5)

    def block(level: int, h: Tensor) -> Tensor:
        if level == 0:  # outermost: down conv, what is inside, ReLU, up conv, tanh
            inside = block(1, down_conv(0, h))
            return torch.tanh(up_conv(0, F.relu(inside)))
        h = F.leaky_relu(h.clone(), 0.2, inplace=True)  # in place: the skip below carries it too
        inside = down_conv(level, h)
        if level < num_downs - 1:
            inside = block(level + 1, batch_norm(f"{level}.downnorm", inside))
        result = batch_norm(f"{level}.upnorm", up_conv(level, F.relu(inside)))
        return torch.cat([h, result], dim=1)

    return block(0, x)
