"""The generators of pytorch-CycleGAN-and-pix2pix as nested modules, written from the graph's description.

Their state dicts have the published names (`model.model.1.model.3...`), so what they save is what that
project's users have on disk.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def norm_layer(norm: str, channels: int) -> nn.Module:
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    return nn.InstanceNorm2d(channels) if norm == "instance" else nn.Identity()


class Block(nn.Module):
    """One level of the U-Net around the level inside of it."""

    def __init__(
        self,
        outer: int,
        inner: int,
        *,
        submodule: nn.Module | None = None,
        in_channels: int | None = None,
        outermost: bool = False,
        norm: str = "batch",
        dropout: bool = False,
    ) -> None:
        super().__init__()
        self.outermost = outermost
        bias = norm == "instance"
        down = nn.Conv2d(in_channels or outer, inner, 4, stride=2, padding=1, bias=bias)
        behind = inner if submodule is None else 2 * inner
        up = nn.ConvTranspose2d(behind, outer, 4, stride=2, padding=1, bias=bias or outermost)
        if outermost:
            layers = [down, submodule, nn.ReLU(True), up, nn.Tanh()]
        elif submodule is None:
            layers = [nn.LeakyReLU(0.2, True), down, nn.ReLU(True), up, norm_layer(norm, outer)]
        else:
            layers = [nn.LeakyReLU(0.2, True), down, norm_layer(norm, inner), submodule]
            layers += [nn.ReLU(True), up, norm_layer(norm, outer)]
            layers += [nn.Dropout(0.5)] if dropout else []
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x) if self.outermost else torch.cat([x, self.model(x)], 1)


class PublishedUnet(nn.Module):
    def __init__(
        self, inputs: int = 3, outputs: int = 3, num_downs: int = 5, ngf: int = 2, norm: str = "batch"
    ) -> None:
        super().__init__()
        block = Block(8 * ngf, 8 * ngf, norm=norm)
        for _ in range(num_downs - 5):
            block = Block(8 * ngf, 8 * ngf, submodule=block, norm=norm, dropout=True)
        for width in (4 * ngf, 2 * ngf, ngf):
            block = Block(width, 2 * width, submodule=block, norm=norm)
        self.model = Block(outputs, ngf, submodule=block, in_channels=inputs, outermost=True, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class PublishedResnetBlock(nn.Module):
    def __init__(self, channels: int, norm: str, dropout: bool) -> None:
        super().__init__()
        bias = norm == "instance"
        layers = [nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3, bias=bias)]
        layers += [norm_layer(norm, channels), nn.ReLU(True)]
        layers += [nn.Dropout(0.5)] if dropout else []
        layers += [nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3, bias=bias)]
        self.conv_block = nn.Sequential(*layers, norm_layer(norm, channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


class PublishedResnet(nn.Module):
    def __init__(
        self,
        inputs: int = 3,
        outputs: int = 3,
        n_blocks: int = 2,
        ngf: int = 2,
        norm: str = "instance",
        dropout: bool = False,
    ) -> None:
        super().__init__()
        bias = norm == "instance"
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(inputs, ngf, 7, bias=bias)]
        layers += [norm_layer(norm, ngf), nn.ReLU(True)]
        for width in (ngf, 2 * ngf):
            layers += [nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=bias)]
            layers += [norm_layer(norm, 2 * width), nn.ReLU(True)]
        layers += [PublishedResnetBlock(4 * ngf, norm, dropout) for _ in range(n_blocks)]
        for width in (4 * ngf, 2 * ngf):
            up = nn.ConvTranspose2d(width, width // 2, 3, stride=2, padding=1, output_padding=1, bias=bias)
            layers += [up, norm_layer(norm, width // 2), nn.ReLU(True)]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(ngf, outputs, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


def liven(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give a network weights of a trained one's scale, and batch statistics that are not 0 and 1."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                module.weight.normal_(0, 1.2 / module.weight[0].numel() ** 0.5, generator=draw)
                if module.bias is not None:
                    module.bias.normal_(0, 0.3, generator=draw)
            elif isinstance(module, nn.BatchNorm2d):
                module.weight.normal_(1, 0.3, generator=draw)
                module.bias.normal_(0, 0.3, generator=draw)
                module.running_mean.normal_(0, 0.3, generator=draw)
                module.running_var.uniform_(0.5, 2, generator=draw)
    return network
