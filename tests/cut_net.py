"""CUT's anti-aliased ResNet generator as plain functions, an independent statement to compare with.

Written from the description of the graph, sample by sample where it resamples. The weights have the published
names, so what `cut_weights` returns is what that project's users have on disk.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = dict[str, Tensor]


def cut_weights(
    *,
    inputs: int = 3,
    outputs: int = 3,
    ngf: int = 3,
    n_blocks: int = 2,
    norm: str = "instance",
    dropout: bool = False,
    down: bool = True,
    up: bool = True,
    seed: int = 0,
) -> Weights:
    """Draw weights, and the blurs as that project keeps them; `down`, `up`: whether they are anti-aliased."""
    draw = torch.Generator().manual_seed(seed)
    weights: Weights = {}
    place = 0

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return scale * torch.randn(*shape, generator=draw)

    def conv(name: str, inner: int, outer: int, side: int, *, bias: bool, transposed: bool = False) -> None:
        shape = (inner, outer) if transposed else (outer, inner)
        weights[f"{name}.weight"] = normal(*shape, side, side, scale=1.2 / (inner * side * side) ** 0.5)
        if bias:
            weights[f"{name}.bias"] = normal(outer, scale=0.3)

    def norm_of(name: str, channels: int) -> None:
        if norm == "batch":
            weights[f"{name}.weight"] = 1 + normal(channels, scale=0.3)
            weights[f"{name}.bias"] = normal(channels, scale=0.3)
            weights[f"{name}.running_mean"] = normal(channels, scale=0.3)
            weights[f"{name}.running_var"] = 0.5 + torch.rand(channels, generator=draw)
            weights[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def blur(name: str, channels: int, taps: list[float], gain: float) -> None:
        line = torch.tensor(taps)
        square = torch.outer(line, line) / line.sum() ** 2 * gain
        weights[f"{name}.filt"] = square[None, None].repeat(channels, 1, 1, 1)

    bias = norm == "instance"
    conv("model.1", inputs, ngf, 7, bias=bias)
    norm_of("model.2", ngf)
    place = 4
    for width in (ngf, 2 * ngf):
        conv(f"model.{place}", width, 2 * width, 3, bias=bias)
        norm_of(f"model.{place + 1}", 2 * width)
        if down:
            blur(f"model.{place + 3}", 2 * width, [1, 2, 1], 1)
        place += 4 if down else 3
    for _ in range(n_blocks):
        for at in (1, 6 if dropout else 5):
            conv(f"model.{place}.conv_block.{at}", 4 * ngf, 4 * ngf, 3, bias=bias)
            norm_of(f"model.{place}.conv_block.{at + 1}", 4 * ngf)
        place += 1
    for width in (4 * ngf, 2 * ngf):
        if up:
            blur(f"model.{place}", width, [1, 3, 3, 1], 4)
            place += 1
        conv(f"model.{place}", width, width // 2, 3, bias=bias, transposed=not up)
        norm_of(f"model.{place + 1}", width // 2)
        place += 3
    conv(f"model.{place + 1}", ngf, outputs, 7, bias=True)
    return weights


def cut_resnet(weights: Weights, x: Tensor, *, dropout: bool = False) -> Tensor:
    """Run the graph as it is tested, without dropout; `dropout`: whether the blocks keep a place for it."""
    blocks = sorted({int(key.split(".")[1]) for key in weights if ".conv_block." in key})

    def conv(name: str, h: Tensor, pad: int, mode: str) -> Tensor:
        if pad:
            h = F.pad(h, (pad,) * 4, mode=mode)
        return F.conv2d(h, weights[f"{name}.weight"], weights.get(f"{name}.bias"))

    def norm(name: str, h: Tensor) -> Tensor:
        if f"{name}.running_mean" in weights:
            mean, variance = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
            scale, offset = weights[f"{name}.weight"], weights[f"{name}.bias"]
        elif "model.1.bias" in weights:  # instance norm: statistics of each plane
            mean, variance = h.mean((2, 3), keepdim=True), h.var((2, 3), correction=0, keepdim=True)
            return (h - mean) / (variance + 1e-5).sqrt()
        else:
            return h
        mean, variance, scale, offset = (part[:, None, None] for part in (mean, variance, scale, offset))
        return (h - mean) / (variance + 1e-5).sqrt() * scale + offset

    h = torch.relu(norm("model.2", conv("model.1", x, 3, "reflect")))
    place = 4
    for _ in range(2):
        if f"model.{place + 3}.filt" in weights:
            h = torch.relu(norm(f"model.{place + 1}", conv(f"model.{place}", h, 1, "constant")))
            h = halved(halved(h, -1), -2)
            place += 4
        else:
            h = conv(f"model.{place}", h, 1, "constant")[..., ::2, ::2]
            h = torch.relu(norm(f"model.{place + 1}", h))
            place += 3
    for block in blocks:
        name = f"model.{block}.conv_block"
        inner = torch.relu(norm(f"{name}.2", conv(f"{name}.1", h, 1, "reflect")))
        second = 6 if dropout else 5
        h = h + norm(f"{name}.{second + 1}", conv(f"{name}.{second}", inner, 1, "reflect"))
        place += 1
    for _ in range(2):
        if f"model.{place}.filt" in weights:
            h = conv(f"model.{place + 1}", doubled(doubled(h, -1), -2), 1, "constant")
            place += 1
        else:
            weight, bias = weights[f"model.{place}.weight"], weights.get(f"model.{place}.bias")
            h = F.conv_transpose2d(h, weight, bias, stride=2, padding=1, output_padding=1)
        h = torch.relu(norm(f"model.{place + 1}", h))
        place += 3
    return torch.tanh(conv(f"model.{place + 1}", h, 3, "reflect"))


def halved(x: Tensor, axis: int) -> Tensor:
    """Sample i is (x[2i - 1] + 2 x[2i] + x[2i + 1]) / 4, mirrored at the border."""
    size = x.shape[axis]
    samples = []
    for i in range(-(-size // 2)):
        before, after = abs(2 * i - 1), 2 * i + 1 if 2 * i + 1 < size else size - 2
        first, middle, last = (x.select(axis, place) for place in (before, 2 * i, after))
        samples.append((first + 2 * middle + last) / 4)
    return torch.stack(samples, axis)


def doubled(x: Tensor, axis: int) -> Tensor:
    """Sample o lies a quarter of a step off the nearer input sample: [3, 1] / 4 of the two around it."""
    size = x.shape[axis]
    samples = []
    for o in range(2 * size):
        near = o // 2
        far = near - 1 if o % 2 == 0 else near + 1
        far = min(max(far, 0), size - 1)  # the border is repeated
        samples.append(0.75 * x.select(axis, near) + 0.25 * x.select(axis, far))
    return torch.stack(samples, axis)
