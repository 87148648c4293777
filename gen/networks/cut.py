"""The ResNet generator of contrastive unpaired translation (Park et al. 2020), anti-aliased as published.

Going down, a conv at stride 1 is followed by a blur of [1, 2, 1] that subsamples (Zhang 2019, section 3.2).
Going up, zeros are inserted and blurred away by [1, 3, 3, 1] before a conv at stride 1. Stem, blocks and head
are those of CycleGAN's ResNet.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from steadypix.gen.layers.norms import conv_needs_bias, make_norm
from steadypix.gen.layers.resample import BlurUpsample2d
from steadypix.gen.networks.any_size import pad2d
from steadypix.gen.networks.levels import init_weights
from steadypix.gen.networks.resnet import N_DOWNS, ResnetGenerator

DOWN_FILTER = "tri3"
UP_FILTER = "bin4"
RESAMPLINGS = ("blur", "strided")


class BlurredUpLevel(nn.Module):
    """ReLU, zero-insertion and blur, 3x3 conv at stride 1, norm: (B, in, H, W) -> (B, out, 2H, 2W).

    Args:
        in_channels: of the input.
        out_channels: of the output.
        padding: of the conv; the upsampling repeats the border where that is `zeros`.
        norm: by name.
        bias: whether the conv has one.
        activate: False leaves the ReLU out, for an input that has no activation of its own.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, padding: str, norm: str, bias: bool, activate: bool
    ) -> None:
        super().__init__()
        self.padding = padding
        self.activate = activate
        around = "replicate" if padding == "zeros" else padding
        self.upsample = BlurUpsample2d(in_channels, filter=UP_FILTER, padding=around)
        self.conv = nn.Conv2d(in_channels, out_channels, 3, bias=bias)
        self.norm = make_norm(norm, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Double the resolution of `x`."""
        x = self.upsample(F.relu(x) if self.activate else x)
        return self.norm(self.conv(pad2d(x, 1, 1, self.padding)))


class CutResnetGenerator(ResnetGenerator):
    """The ResNet generator of contrastive-unpaired-translation (Park et al. 2020).

    Equals the published graph for inputs whose sides are multiples of 4; others are completed at the right
    and bottom and cut back, where the published graph would change their size.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        ngf: channels of the outermost maps.
        n_blocks: number of residual blocks.
        sampling: going down, `blur`, or `strided` (published as `no_antialias`).
        upsampling: going up, the same (`no_antialias_up`).
        padding: `reflect` (published): the 7x7 convs, the blocks and the blurs down reflect, the 3x3 convs of
            the levels pad zeros, the blurs up repeat the border. Others as in `ResnetGenerator`.
        norm: by name, see `steadypix.gen.layers.norms.make_norm`.
        dropout: 0.5 inside of every block (in training mode).

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
        upsampling: str = "blur",
        padding: str = "reflect",
        norm: str = "instance",
        dropout: bool = False,
    ) -> None:
        for argument, name in (("sampling", sampling), ("upsampling", upsampling)):
            if name not in RESAMPLINGS:
                raise ValueError(f"{argument} {name!r} is unknown; expected one of {', '.join(RESAMPLINGS)}")
        super().__init__(
            in_channels,
            out_channels,
            ngf=ngf,
            n_blocks=n_blocks,
            sampling=sampling,
            filter=DOWN_FILTER,
            padding=padding,
            norm=norm,
            dropout=dropout,
        )
        if upsampling == "blur":
            widest = ngf * 2**N_DOWNS
            self.decoder = nn.ModuleList(
                BlurredUpLevel(
                    inner,
                    inner // 2,
                    padding="zeros" if padding == "reflect" else padding,
                    norm=norm,
                    bias=conv_needs_bias(norm),
                    activate=inner < widest,
                )
                for inner in (widest >> depth for depth in range(N_DOWNS))
            )
            self.decoder.apply(init_weights)
        elif sampling != "strided":
            plain = ResnetGenerator(1, 1, ngf=ngf, n_blocks=1, sampling="strided", padding=padding, norm=norm)
            self.decoder = plain.decoder
