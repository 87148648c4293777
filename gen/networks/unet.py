"""The pix2pix U-Net (Isola et al. 2017, section 6.1.1) with a choice of how each level resamples.

Every variant has the same parameters under the same names, so a plain checkpoint loads into an
anti-aliased network; `gen.networks.levels` says what each `sampling` does on a level down and a level up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from steadypix.gen.layers.norms import conv_needs_bias
from steadypix.gen.networks.any_size import cropped
from steadypix.gen.networks.detail import Detail
from steadypix.gen.networks.levels import (
    SAMPLINGS,
    DownLevel,
    UpLevel,
    at_least,
    check_counts,
    check_flags,
    check_names,
    init_weights,
    pad_to_multiple,
    warn_of_size,
)

__all__ = ["SAMPLINGS", "DownLevel", "UNetGenerator", "UpLevel", "init_weights"]

MAX_NUM_DOWNS = 12  # Any input is padded to at least 4,096 px then; more is a mistake or hostile.


class UNetGenerator(nn.Module):
    """The U-Net generator of pix2pix, plain or anti-aliased.

    `sampling="strided", padding="zeros", norm="batch"` equals the published graph. The input may have
    any height and width. A map with an odd side gets one more row or column at the bottom or right before it
    is halved, mirrored, and what comes up again is cropped to the map's size; 288 px are 2 px 8 levels down.
    An input smaller than `2 ** num_downs` px is first completed to that (mirrored, repeated where too short
    to mirror). A circular network loses its exact equivariance by either, and warns.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        ngf: channels of the outermost level; inner levels have 2, 4 and then 8 times as many.
        num_downs: number of levels; 8 brings 256 px to 1 x 1.
        sampling: how a level changes resolution, see `steadypix.gen.networks.levels`.
        filter: low-pass taps by name, see `steadypix.gen.layers.filters`.
        padding: of convs, transposed convs and blurs alike; with `zeros` the blurs reflect.
        norm: by name, see `steadypix.gen.layers.norms.make_norm`.
        dropout: 0.5 on the `num_downs - 5` levels just outside the innermost (in training mode).
        late_levels: with `blur_late`, how many of the outermost levels up are late; the others are as in
            `blur`, at a quarter of the arithmetic. None: all of them, which was no more stable.
        texture: `anchored` adds carriers of texture to the input, see `steadypix.gen.networks.detail`.
        texture_channels: how many carriers.
        texture_octaves: bands of their noise.
        head: channels of the last level for a head at full resolution; 0: none.

    Attributes:
        checkpointing: set it to keep only what lies between the levels for the backward pass and compute the
            rest again (gradient checkpointing): less memory, one more forward pass, the same gradients to
            the bit. Not for `batch` and `renorm`, whose running statistics would count every batch twice.

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
        num_downs: int = 8,
        sampling: str = "blur",
        filter: str = "bin5",
        padding: str = "zeros",
        norm: str = "instance",
        dropout: bool = True,
        late_levels: int | None = 2,
        texture: str = "none",
        texture_channels: int = 4,
        texture_octaves: int = 2,
        head: int = 0,
    ) -> None:
        super().__init__()
        check_names(sampling=sampling, padding=padding, norm=norm, filter=filter)
        check_counts(in_channels=in_channels, out_channels=out_channels, ngf=ngf, num_downs=num_downs)
        check_flags(dropout=dropout)
        if late_levels is not None:
            check_counts(late_levels=late_levels)
        if num_downs > MAX_NUM_DOWNS:
            raise ValueError(f"num_downs must be at most {MAX_NUM_DOWNS}, not {num_downs}")
        self.in_channels = in_channels
        self.num_downs = num_downs
        self.padding = padding
        self.checkpointing = False
        widths = [ngf * min(2**level, 8) for level in range(num_downs)]
        level_args: dict[str, Any] = {"sampling": sampling, "filter": filter, "padding": padding}
        detail = Detail(
            in_channels,
            out_channels,
            texture=texture,
            texture_channels=texture_channels,
            texture_octaves=texture_octaves,
            head=head,
            padding=padding,
        )
        self.encoder = _encoder(widths, detail.in_channels, norm=norm, **level_args)
        # Only the outermost levels up are late, where not all are.
        late = num_downs if late_levels is None else late_levels
        self.decoder = _decoder(
            widths, detail.out_channels, norm=norm, dropout=dropout, late_levels=late, **level_args
        )
        self.detail = detail
        self.apply(init_weights)

    def forward(self, x: Tensor) -> Tensor:
        """Translate `x` (B, in_channels, H, W)."""
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"expected an input (B, {self.in_channels}, H, W), got {tuple(x.shape)}")
        height, width = x.shape[-2:]
        carried = self.detail.carried(x)
        if self.padding == "circular":
            warn_of_size(x, 2**self.num_downs)
        x = at_least(carried, 2**self.num_downs)
        skips: list[Tensor] = []
        for down in self.encoder:
            x = self._level(down, pad_to_multiple(x, 2))
            skips.append(x)
        x = self._level(self.decoder[0], skips.pop())
        for up in self.decoder[1:]:
            skip = skips.pop()
            x = self._level(up, skip, cropped(x, *skip.shape[-2:]))
        x = cropped(x, height, width)
        if self.detail.head is None:
            return torch.tanh(x)
        return torch.tanh(self.detail.painted(x, carried))

    @property
    def grown_parts(self) -> tuple[str, str]:
        """The weights that see the carriers, and how those begin that give the head its channels."""
        return "encoder.0.conv.weight", f"decoder.{self.num_downs - 1}.conv."

    def _level(self, level: nn.Module, *maps: Tensor) -> Tensor:
        """Apply a level to maps joined along channels."""
        if self.checkpointing and self.training and torch.is_grad_enabled():
            return checkpoint(_joined, level, *maps, use_reentrant=False)
        return _joined(level, *maps)


def _encoder(widths: Sequence[int], in_channels: int, *, norm: str, **level: Any) -> nn.ModuleList:
    """Build the levels down, outermost first; `level` holds what is the same for all."""
    encoder = nn.ModuleList()
    bias = conv_needs_bias(norm)
    for number, (outer, width) in enumerate(zip((in_channels, *widths), widths, strict=False)):
        bare = number in (0, len(widths) - 1)  # no norm outermost and innermost
        encoder.append(DownLevel(outer, width, norm=None if bare else norm, bias=bias, **level))
    return encoder


def _decoder(
    widths: Sequence[int],
    out_channels: int,
    *,
    sampling: str,
    norm: str,
    dropout: bool,
    late_levels: int,
    **level: Any,
) -> nn.ModuleList:
    """Build the levels up, innermost first."""
    decoder = nn.ModuleList()
    bias = conv_needs_bias(norm)
    for number in reversed(range(len(widths))):
        innermost, outermost = number == len(widths) - 1, number == 0
        decoder.append(
            UpLevel(
                widths[number] * (1 if innermost else 2),
                out_channels if outermost else widths[number - 1],
                sampling="blur" if sampling == "blur_late" and number >= late_levels else sampling,
                norm=None if outermost else norm,
                bias=bias or outermost,
                dropout=dropout and 4 <= number < len(widths) - 1,
                **level,
            )
        )
    return decoder


def _joined(level: nn.Module, *maps: Tensor) -> Tensor:
    return level(torch.cat(maps, dim=1) if len(maps) > 1 else maps[0])
