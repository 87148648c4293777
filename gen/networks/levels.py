"""One step of resolution down or up, plain or anti-aliased, shared by the generators.

Every way of resampling has the same parameters under the same names; only the weightless low-pass filters
and their place differ:

| sampling    | a level down                           | a level up                           |
|-------------|----------------------------------------|--------------------------------------|
| `strided`   | conv s2, norm, activation              | ReLU, transposed conv s2             |
| `blur`      | conv s1, norm, activation, BlurPool s2 | ReLU, transposed conv s2, blur       |
| `preblur`   | blur, conv s2, norm, activation        | ReLU, transposed conv s2, blur       |
| `blur_late` | as `blur`                              | zero-insert and blur, ReLU, conv s1  |

`blur` is Zhang's (2019, section 3.2). `preblur` is nearly free: a blur commutes with the convolution
behind it. `blur_late` moves the decoder's ReLU to the higher rate: at the low rate the harmonics it
makes fold back into the band, at twice the rate they stay where the next blur can remove them.
"""

from __future__ import annotations

import warnings
from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from steadypix.gen.kernels import products
from steadypix.gen.layers.filters import FILTERS
from steadypix.gen.layers.norms import NORMS, BatchRenorm2d, fusable, make_norm, norm_act
from steadypix.gen.layers.resample import PADDINGS, BlurPool2d, BlurUpsample2d
from steadypix.gen.networks import any_size
from steadypix.gen.networks.any_size import pad2d

Sampling = Literal["strided", "blur", "preblur", "blur_late"]
SAMPLINGS: tuple[str, ...] = get_args(Sampling)


class DownLevel(nn.Module):
    """One encoder level: (B, in, H, W) -> (B, out, H/2, W/2), the activation included.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        sampling: see the module's table.
        filter: low-pass taps by name.
        padding: of conv and blur; with `zeros` the blur reflects.
        norm: by name, or None.
        bias: whether the conv has one.
        kernel: side of the conv, 4 (U-Net) or 3 (ResNet).
        slope: of the LeakyReLU below 0; 0 makes it a ReLU.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        sampling: str,
        filter: str,
        padding: str,
        norm: str | None,
        bias: bool,
        kernel: int = 4,
        slope: float = 0.2,
    ) -> None:
        super().__init__()
        dense = sampling in ("blur", "blur_late")
        blur_padding = "reflect" if padding == "zeros" else padding
        self.padding = padding
        self.slope = slope
        # The dense conv keeps the size (a 4x4 one with 1 sample before and 2 after): sample 2i of its output
        # is what the strided conv computes at i.
        self.before, self.after = ((kernel - 1) // 2, kernel // 2) if dense else (1, 1)
        self.preblur = (
            BlurPool2d(in_channels, filter=filter, stride=1, padding=blur_padding)
            if sampling == "preblur"
            else nn.Identity()
        )
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride=1 if dense else 2, bias=bias)
        self.norm = make_norm(norm, out_channels)
        self.pool = BlurPool2d(out_channels, filter=filter, padding=blur_padding) if dense else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Halve the resolution of `x`."""
        x = self.preblur(x)
        if fusable(self.norm, x):
            x = norm_act(self.norm, self._convolve(x, None), self.conv.bias, self.slope)
        else:
            x = F.leaky_relu(self.norm(self._convolve(x, self.conv.bias)), self.slope)
        return self.pool(x)

    def _convolve(self, x: Tensor, bias: Tensor | None) -> Tensor:
        padding = self.before if self.padding == "zeros" and self.before == self.after else 0
        if not padding:
            x = pad2d(x, self.before, self.after, self.padding)
        return products.conv2d(x, self.conv.weight, bias, stride=self.conv.stride[0], padding=padding)


class UpLevel(nn.Module):
    """One decoder level: (B, in, H, W) -> (B, out, 2H, 2W). The ReLU comes first.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        sampling: see the module's table.
        filter: low-pass taps by name.
        padding: of conv and blur; with `zeros` the blur reflects.
        norm: by name, or None.
        bias: whether the conv has one.
        dropout: 0.5 behind the norm, in training mode.
        kernel: side of the transposed conv, 4 (U-Net) or 3 (ResNet).
        activate: False leaves the ReLU out, for an input that has no activation of its own.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        sampling: str,
        filter: str,
        padding: str,
        norm: str | None,
        bias: bool,
        dropout: bool,
        kernel: int = 4,
        activate: bool = True,
    ) -> None:
        super().__init__()
        self.kernel = kernel
        self.activate = activate
        self.late = sampling == "blur_late"
        self.padding = padding
        blur_padding = "reflect" if padding == "zeros" else padding
        self.upsample = (
            BlurUpsample2d(in_channels, filter=filter, padding=blur_padding, gain=1.0)
            if self.late
            else nn.Identity()
        )
        self.conv = nn.ConvTranspose2d(in_channels, out_channels, kernel, stride=2, bias=bias)
        self.blur = (
            BlurPool2d(out_channels, filter=filter, stride=1, padding=blur_padding, upward=True)
            if sampling in ("blur", "preblur")
            else nn.Identity()
        )
        self.norm = make_norm(norm, out_channels)
        self.dropout = nn.Dropout(0.5) if dropout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Double the resolution of `x`."""
        fused = fusable(self.norm, x)
        bias = None if fused else self.conv.bias
        x = self._late_conv(x, bias) if self.late else self._blurred_conv(self._activated(x), bias)
        x = norm_act(self.norm, x, self.conv.bias, 1.0) if fused else self.norm(x)
        return self.dropout(x)

    def _activated(self, x: Tensor) -> Tensor:
        return F.relu(x) if self.activate else x

    def _blurred_conv(self, x: Tensor, bias: Tensor | None) -> Tensor:
        weight = self.conv.weight
        if self.padding == "zeros":
            odd = self.kernel % 2  # a 3x3 kernel leaves the last row and column to output_padding
            return self.blur(products.conv_transpose2d(x, weight, bias, padding=1, output_padding=odd))
        # Pad at the low rate by what the conv and the blur behind it reach. Padding between the two would
        # repeat one phase of the period-2 pattern a transposed conv draws, and lose DC gain 1.
        blur = self.blur if isinstance(self.blur, BlurPool2d) else None
        before, after = (blur.before, blur.after) if blur else (0, 0)
        reach = 1 + (max(before, after) + 1) // 2
        wide = products.conv_transpose2d(pad2d(x, reach, reach, self.padding), weight, bias)
        first = 2 * reach + 1 - before
        rows, columns = (slice(first, first + 2 * size + before + after) for size in x.shape[-2:])
        wide = wide[..., rows, columns]
        return blur.unpadded(wide) if blur else wide

    def _late_conv(self, x: Tensor, bias: Tensor | None) -> Tensor:
        # A transposed conv is zero-insertion and a dense conv with the flipped kernel; here the blur and
        # the ReLU stand between the two.
        x = self._activated(self.upsample(x))
        x = pad2d(x, self.kernel // 2, (self.kernel - 1) // 2, self.padding)
        return products.flipped_conv2d(x, self.conv.weight, bias)


def check_names(**names: str) -> None:
    """Raise ValueError for an unknown `sampling`, `filter`, `padding` or `norm`, even an unused one."""
    known = {"sampling": SAMPLINGS, "filter": tuple(FILTERS), "padding": PADDINGS, "norm": NORMS}
    for argument, name in names.items():
        if name not in known[argument]:
            choices = ", ".join(known[argument])
            raise ValueError(f"{argument} {name!r} is unknown; expected one of {choices}")


def check_counts(**counts: int) -> None:
    """Raise ValueError for a count below 1, TypeError for what is no whole number."""
    for name, count in counts.items():
        if type(count) is not int:  # True is an int to Python, and 3.0 fails deep inside of torch
            raise TypeError(f"{name} must be a whole number, not {count!r}")
        if count < 1:
            raise ValueError(f"{name} must be at least 1, not {count}")


def check_flags(**flags: bool) -> None:
    """Raise TypeError for a switch that is neither True nor False, such as the text "no"."""
    for name, flag in flags.items():
        if not isinstance(flag, bool):
            raise TypeError(f"{name} must be true or false, not {flag!r}")


def warn_of_size(x: Tensor, multiple: int) -> None:
    """Warn that a circular network is not exactly equivariant where `x` (B, C, H, W) has to be completed."""
    height, width = x.shape[-2:]
    if not any_size.are_open() and (height % multiple or width % multiple):
        warnings.warn(
            f"a circular generator is exact for multiples of {multiple} px only; {height} x {width} px "
            "is padded, and exact equivariance is lost",
            stacklevel=3,
        )


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Complete `x` (B, C, H, W) to a multiple, as `completed` does."""
    height, width = x.shape[-2:]
    rows, columns = ((side + multiple - 1) // multiple * multiple for side in (height, width))
    return completed(x, rows, columns)


def at_least(x: Tensor, side: int) -> Tensor:
    """Complete `x` (B, C, H, W) where it is smaller than `side`, as `completed` does."""
    height, width = x.shape[-2:]
    return completed(x, any_size.larger(height, side), any_size.larger(width, side))


def completed(x: Tensor, height: int, width: int) -> Tensor:
    """Complete `x` (B, C, H, W) at the right and bottom: mirrored, or repeated where too short to mirror."""
    if any_size.are_open():
        return any_size.completed(x, height, width)
    extra_y, extra_x = height - x.shape[-2], width - x.shape[-1]
    if extra_y:
        x = F.pad(x, (0, 0, 0, extra_y), mode="reflect" if extra_y < x.shape[-2] else "replicate")
    if extra_x:
        x = F.pad(x, (0, extra_x, 0, 0), mode="reflect" if extra_x < x.shape[-1] else "replicate")
    return x


def init_weights(module: nn.Module) -> None:
    """Initialise like the published code: convs N(0, 0.02), norm scales N(1, 0.02), biases 0."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d | BatchRenorm2d | nn.GroupNorm):
        nn.init.normal_(module.weight, 1.0, 0.02)
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)
