"""Detail at full resolution, shared by the generators: carriers of texture, and a head without a grid.

The U-Net of pix2pix has no path at full resolution: its finest octave is painted by the last level's
upsampling alone. Two dense convolutions behind it see the input, the carriers and what the last level made,
at every pixel alike, so nothing in them can lock to a grid.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steadypix.gen.kernels import products
from steadypix.gen.layers.anchors import AnchoredTexture
from steadypix.gen.networks.any_size import pad2d

Texture = Literal["none", "anchored"]
TEXTURES: tuple[str, ...] = get_args(Texture)
MAX_HEAD = 256


class Detail(nn.Module):
    """What a generator has beside its levels. With `texture="none"` and `head=0` nothing, at no cost.

    Args:
        in_channels: of the generator's input.
        out_channels: of its output.
        texture: `none`, or `anchored`: carriers join the input, see `steadypix.gen.layers.anchors`.
        texture_channels: how many.
        texture_octaves: bands of their noise.
        head: channels the last level gives to the head; 0: the last level paints the picture itself.
        padding: of the head's convs; a circular network's carriers are circular.

    Attributes:
        in_channels: what the first level gets.
        out_channels: what the last level gives.

    Raises:
        ValueError: for an unknown texture or a count out of range.
        TypeError: for a count that is no whole number.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        texture: str,
        texture_channels: int,
        texture_octaves: int,
        head: int,
        padding: str,
    ) -> None:
        super().__init__()
        if texture not in TEXTURES:
            raise ValueError(f"texture {texture!r} is unknown; expected one of {', '.join(TEXTURES)}")
        if type(head) is not int:
            raise TypeError(f"head must be a whole number, not {head!r}")
        if not 0 <= head <= MAX_HEAD:
            raise ValueError(f"head must be 0 to {MAX_HEAD}, not {head}")
        self.texture: nn.Module | None = None
        if texture == "anchored":
            circular = padding == "circular"
            self.texture = AnchoredTexture(texture_channels, octaves=texture_octaves, circular=circular)
            in_channels += texture_channels
        self.head = Head(head + in_channels, 2 * head, out_channels, padding=padding) if head else None
        self.in_channels = in_channels
        self.out_channels = head or out_channels

    def carried(self, x: Tensor) -> Tensor:
        """Return the input (B, C, H, W) with the carriers behind it."""
        return x if self.texture is None else torch.cat([x, self.texture(x)], dim=1)

    def painted(self, y: Tensor, carried: Tensor) -> Tensor:
        """Return the picture before the tanh, from what the last level gave at the size of the input."""
        return y if self.head is None else self.head(y, carried)


class Head(nn.Module):
    """Two dense 3x3 convs over what the last level gave and what the network saw: stride 1 throughout."""

    def __init__(self, in_channels: int, width: int, out_channels: int, *, padding: str) -> None:
        super().__init__()
        self.padding = padding
        self.first = nn.Conv2d(in_channels, width, 3)
        self.second = nn.Conv2d(width, out_channels, 3)

    def forward(self, y: Tensor, carried: Tensor) -> Tensor:
        """Paint (B, out_channels, H, W) from (B, N, H, W) and (B, in_channels - N, H, W)."""
        x = torch.cat([F.leaky_relu(y, 0.2), carried], dim=1)
        x = F.leaky_relu(self._convolve(self.first, x), 0.2)
        return self._convolve(self.second, x)

    def _convolve(self, conv: nn.Conv2d, x: Tensor) -> Tensor:
        return products.conv2d(pad2d(x, 1, 1, self.padding), conv.weight, conv.bias)
