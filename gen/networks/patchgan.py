"""Discriminators of pix2pix (Isola et al. 2017, section 6.1.2): patches of 70 px, or single pixels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from steadypix.gen.kernels import products
from steadypix.gen.layers.norms import conv_needs_bias, fusable, make_norm, norm_act, unhooked
from steadypix.gen.layers.resample import BlurPool2d
from steadypix.gen.networks.unet import init_weights


def _dense(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """Apply a conv of stride 1; the last layer's is a third of all of a pix2pix step's arithmetic."""
    return products.conv2d(x, conv.weight, conv.bias, padding=1)


class _PatchLayer(nn.Module):
    """Conv 4x4, norm, LeakyReLU; a strided one blurs before it subsamples when a filter is given."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int,
        norm: str | None,
        bias: bool,
        filter: str | None,
    ) -> None:
        super().__init__()
        blur = BlurPool2d(out_channels, filter=filter, stride=stride) if filter and stride > 1 else None
        self.stride = 1 if blur else stride
        self.conv = nn.Conv2d(in_channels, out_channels, 4, stride=self.stride, padding=1, bias=bias)
        self.norm = make_norm(norm, out_channels)
        self.pool = blur or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        conv = self.conv
        # Only a conv that is what it was built as: others may have changed how it pads, or hook into it.
        plain = type(conv) is nn.Conv2d and conv.padding_mode == "zeros" and unhooked(conv)
        if plain and fusable(self.norm, x):
            y = F.conv2d(x, conv.weight, None, conv.stride, padding=1)
            return self.pool(norm_act(self.norm, y, conv.bias, 0.2))
        x = conv(x) if self.stride > 1 else _dense(x, conv)
        return self.pool(F.leaky_relu(self.norm(x), 0.2))


class PatchDiscriminator(nn.Module):
    """PatchGAN: one logit per patch; `n_layers=3` sees 70 x 70 px.

    Args:
        in_channels: channels of input and image together.
        ndf: channels of the first layer; each further one doubles them up to 8 times.
        n_layers: number of stride-2 layers.
        norm: `instance`, `batch`, `group` or `none`; none after the first layer and the last conv.
        filter: low-pass taps by name for an anti-aliased discriminator; None is the published one.
        input_filter: low-pass taps by name that everything passes before it is judged; None is the
            published one. Little is then gained by detail near the highest frequency, which an
            anti-aliased generator can only paint as images of its coarser maps, locked to their grid.

    Shape:
        (B, in_channels, H, W) in [-1, 1] -> (B, 1, H', W') logits; 256 px give 30 x 30.

    Raises:
        ValueError: for an unknown norm or filter, or `n_layers` < 1.
    """

    def __init__(
        self,
        in_channels: int = 6,
        *,
        ndf: int = 64,
        n_layers: int = 3,
        norm: str = "instance",
        filter: str | None = None,
        input_filter: str | None = None,
    ) -> None:
        super().__init__()
        if n_layers < 1:
            raise ValueError(f"n_layers must be at least 1, not {n_layers}")
        bias = conv_needs_bias(norm)
        widths = [ndf * min(2**layer, 8) for layer in range(n_layers + 1)]
        soft = BlurPool2d(in_channels, filter=input_filter, stride=1) if input_filter else None
        self.input_blur = soft or nn.Identity()
        self.layers = nn.ModuleList()
        for layer, width in enumerate(widths):
            first, last = layer == 0, layer == n_layers
            self.layers.append(
                _PatchLayer(
                    in_channels if first else widths[layer - 1],
                    width,
                    stride=1 if last else 2,
                    norm=None if first else norm,
                    bias=bias or first,
                    filter=filter,
                )
            )
        self.head = nn.Conv2d(widths[-1], 1, 4, padding=1)
        self.apply(init_weights)

    def forward(self, x: Tensor) -> Tensor:
        """Score the patches of `x`, the input and the (real or generated) image along channels."""
        x = self.input_blur(x)
        for layer in self.layers:
            x = layer(x)
        return _dense(x, self.head)


class PixelDiscriminator(nn.Module):
    """The 1 x 1 PatchGAN ("PixelGAN"): judges each pixel alone.

    Args:
        in_channels: channels of input and image together.
        ndf: channels of the first layer.
        norm: as in `PatchDiscriminator`.

    Shape:
        (B, in_channels, H, W) in [-1, 1] -> (B, 1, H, W) logits.
    """

    def __init__(self, in_channels: int = 6, *, ndf: int = 64, norm: str = "instance") -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, ndf, 1)
        self.inner = nn.Conv2d(ndf, 2 * ndf, 1, bias=conv_needs_bias(norm))
        self.norm = make_norm(norm, 2 * ndf)
        self.head = nn.Conv2d(2 * ndf, 1, 1, bias=conv_needs_bias(norm))
        self.apply(init_weights)

    def forward(self, x: Tensor) -> Tensor:
        """Score the pixels of `x`, the input and the (real or generated) image along channels."""
        x = F.leaky_relu(self.conv(x), 0.2)
        return self.head(F.leaky_relu(self.norm(self.inner(x)), 0.2))
