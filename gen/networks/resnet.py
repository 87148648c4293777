"""The ResNet generator (Johnson et al. 2016, as pytorch-CycleGAN-and-pix2pix has it), plain or anti-aliased.

A 7x7 conv, two levels down, residual blocks at a quarter of the resolution, two levels up, a 7x7 conv and
tanh. As in the U-Net, every `sampling` (see `gen.networks.levels`) has the same parameters under the same
names; here the convs of the levels are 3x3, and the first level up has no ReLU before it, for a block ends in
a sum.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steadypix.gen.layers.norms import conv_needs_bias, make_norm
from steadypix.gen.networks.any_size import pad2d
from steadypix.gen.networks.detail import Detail
from steadypix.gen.networks.levels import (
    DownLevel,
    UpLevel,
    check_counts,
    check_flags,
    check_names,
    init_weights,
    pad_to_multiple,
    warn_of_size,
)

N_DOWNS = 2
MAX_N_BLOCKS = 256  # 9 is the published depth; a checkpoint that claims more than this is hostile.


class ConvNorm(nn.Module):
    """Pad, convolve at stride 1 and normalise: (B, in, H, W) -> (B, out, H, W)."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, *, padding: str, norm: str | None, bias: bool
    ) -> None:
        super().__init__()
        self.padding = padding
        self.reach = kernel // 2
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, bias=bias)
        self.norm = make_norm(norm, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve and normalise `x`."""
        return self.norm(self.conv(pad2d(x, self.reach, self.reach, self.padding)))


class ResidualBlock(nn.Module):
    """x + norm(conv(dropout(ReLU(norm(conv(x)))))), with no activation behind the sum."""

    def __init__(self, channels: int, *, padding: str, norm: str, bias: bool, dropout: bool) -> None:
        super().__init__()
        self.first = ConvNorm(channels, channels, 3, padding=padding, norm=norm, bias=bias)
        self.second = ConvNorm(channels, channels, 3, padding=padding, norm=norm, bias=bias)
        self.dropout = nn.Dropout(0.5) if dropout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Refine `x` (B, channels, H, W)."""
        return x + self.second(self.dropout(F.relu(self.first(x))))


class ResnetGenerator(nn.Module):
    """The ResNet generator of CycleGAN, plain or anti-aliased.

    `sampling="strided", padding="reflect"` equals the published graph (`resnet_9blocks` and, with
    `n_blocks=6`, `resnet_6blocks`). The input may have any height and width: it is padded at the right and
    bottom to a multiple of 4 and the output is cropped back. A circular network then loses its exact
    equivariance, and warns.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        ngf: channels of the outermost maps; the blocks have 4 times as many.
        n_blocks: number of residual blocks.
        sampling: how a level changes resolution, see `steadypix.gen.networks.levels`.
        filter: low-pass taps by name, see `steadypix.gen.layers.filters`.
        padding: `reflect` (published): the 7x7 convs, the blocks and the blurs reflect, the convs of the
            levels pad zeros. `zeros`: every conv pads zeros, the blurs reflect. `replicate`, `circular`:
            convs, transposed convs and blurs alike.
        norm: by name, see `steadypix.gen.layers.norms.make_norm`.
        dropout: 0.5 inside of every block (in training mode).
        texture: `anchored` adds carriers of texture to the input, see `steadypix.gen.networks.detail`.
        texture_channels: how many carriers.
        texture_octaves: bands of their noise.
        head: channels of the last 7x7 conv for a head at full resolution; 0: none.

    Shape:
        input (B, in_channels, H, W) in [-1, 1], output (B, out_channels, H, W) in (-1, 1) (tanh).

    Raises:
        ValueError: for an unknown name, a count below 1, or an input of the wrong rank or channels.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        *,
        ngf: int = 64,
        n_blocks: int = 9,
        sampling: str = "blur",
        filter: str = "bin5",
        padding: str = "reflect",
        norm: str = "instance",
        dropout: bool = False,
        texture: str = "none",
        texture_channels: int = 4,
        texture_octaves: int = 2,
        head: int = 0,
    ) -> None:
        super().__init__()
        check_names(sampling=sampling, padding=padding, norm=norm, filter=filter)
        check_counts(in_channels=in_channels, out_channels=out_channels, ngf=ngf, n_blocks=n_blocks)
        check_flags(dropout=dropout)
        if n_blocks > MAX_N_BLOCKS:
            raise ValueError(f"n_blocks must be at most {MAX_N_BLOCKS}, not {n_blocks}")
        self.in_channels = in_channels
        self.circular = padding == "circular"
        bias = conv_needs_bias(norm)
        # With zeros the blurs of a level reflect, which is what `reflect` asks of them.
        level_padding = "zeros" if padding == "reflect" else padding
        level: dict[str, Any] = {
            "sampling": sampling,
            "filter": filter,
            "padding": level_padding,
            "norm": norm,
        }
        detail = Detail(
            in_channels,
            out_channels,
            texture=texture,
            texture_channels=texture_channels,
            texture_octaves=texture_octaves,
            head=head,
            padding=padding,
        )
        widths = [ngf * 2**depth for depth in range(N_DOWNS + 1)]
        self.stem = ConvNorm(detail.in_channels, ngf, 7, padding=padding, norm=norm, bias=bias)
        encoder, decoder = _levels(widths, bias=bias, **level)
        self.encoder = encoder
        self.blocks = nn.ModuleList(
            ResidualBlock(widths[-1], padding=padding, norm=norm, bias=bias, dropout=dropout)
            for _ in range(n_blocks)
        )
        self.decoder = decoder
        self.head = ConvNorm(ngf, detail.out_channels, 7, padding=padding, norm=None, bias=True)
        self.detail = detail
        self.apply(init_weights)

    def forward(self, x: Tensor) -> Tensor:
        """Translate `x` (B, in_channels, H, W)."""
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"expected an input (B, {self.in_channels}, H, W), got {tuple(x.shape)}")
        height, width = x.shape[-2:]
        # At 4 x 4 px the blocks would see a single sample, which has no statistics to normalise by.
        multiple = 2**N_DOWNS if max(height, width) > 2**N_DOWNS else 2 ** (N_DOWNS + 1)
        carried = self.detail.carried(x)
        if self.circular:
            warn_of_size(x, multiple)
        x = pad_to_multiple(carried, multiple)
        x = F.relu(self.stem(x))
        for module in (*self.encoder, *self.blocks, *self.decoder):
            x = module(x)
        x = self.head(F.relu(x))
        if self.detail.head is None:
            return torch.tanh(x)[..., :height, :width]
        return torch.tanh(self.detail.painted(x[..., :height, :width], carried))

    @property
    def grown_parts(self) -> tuple[str, str]:
        """The weights that see the carriers, and how those begin that give the head its channels."""
        return "stem.conv.weight", "head."


def _levels(widths: Sequence[int], **level: Any) -> tuple[nn.ModuleList, nn.ModuleList]:
    """Build the levels down and up, each in the order they are applied."""
    pairs = list(itertools.pairwise(widths))
    down = [DownLevel(outer, inner, kernel=3, slope=0.0, **level) for outer, inner in pairs]
    up = [
        # The first one's input is a sum, with no activation of its own to repeat.
        UpLevel(inner, outer, dropout=False, kernel=3, activate=inner < widths[-1], **level)
        for outer, inner in reversed(pairs)
    ]
    return nn.ModuleList(down), nn.ModuleList(up)
