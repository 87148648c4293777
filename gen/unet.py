"""The pix2pix U-Net (Isola et al. 2017, section 6.1.1) with a choice of how each level resamples.

Every variant has the same parameters under the same names, so a plain checkpoint loads into an
anti-aliased network; only the weightless low-pass filters and their place differ:

| sampling    | a level down                              | a level up                                   |
|-------------|-------------------------------------------|----------------------------------------------|
| `strided`   | conv 4x4 s2, norm, LeakyReLU              | ReLU, transposed conv 4x4 s2                 |
| `blur`      | conv 4x4 s1, norm, LeakyReLU, BlurPool s2 | ReLU, transposed conv 4x4 s2, blur           |
| `preblur`   | blur, conv 4x4 s2, norm, LeakyReLU        | ReLU, transposed conv 4x4 s2, blur           |
| `blur_late` | as `blur`                                 | zero-insert and blur, ReLU, conv 4x4 s1      |

`blur` is Zhang's (2019, section 3.2). `preblur` is nearly free: a blur commutes with the convolution
behind it. `blur_late` moves the decoder's ReLU to the higher rate: at the low rate the harmonics it
makes fold back into the band, at twice the rate they stay where the next blur can remove them.
"""

from __future__ import annotations

import warnings
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gen.filters import FILTERS
from gen.norms import NORMS, conv_needs_bias, make_norm
from gen.resample import PADDINGS, BlurPool2d, BlurUpsample2d, pad2d

Sampling = Literal["strided", "blur", "preblur", "blur_late"]
SAMPLINGS: tuple[str, ...] = get_args(Sampling)

KERNEL = 4  # Side of every convolution of the published graph.
MAX_NUM_DOWNS = 12  # Any input is padded to a multiple of 4,096 px then; more is a mistake or hostile.


class DownLevel(nn.Module):
    """One encoder level: (B, in, H, W) -> (B, out, H/2, W/2), the activation included."""

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
    ) -> None:
        super().__init__()
        dense = sampling in ("blur", "blur_late")
        blur_padding = "reflect" if padding == "zeros" else padding
        self.padding = padding
        # The dense conv keeps the size with 1 sample before and 2 after: sample 2i of its output is
        # what the strided conv computes at i.
        self.before, self.after = (1, 2) if dense else (1, 1)
        self.preblur = (
            BlurPool2d(in_channels, filter=filter, stride=1, padding=blur_padding)
            if sampling == "preblur"
            else nn.Identity()
        )
        self.conv = nn.Conv2d(in_channels, out_channels, KERNEL, stride=1 if dense else 2, bias=bias)
        self.norm = make_norm(norm, out_channels)
        self.pool = BlurPool2d(out_channels, filter=filter, padding=blur_padding) if dense else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Halve the resolution of `x`."""
        x = self.conv(pad2d(self.preblur(x), self.before, self.after, self.padding))
        return self.pool(F.leaky_relu(self.norm(x), 0.2))


class UpLevel(nn.Module):
    """One decoder level: (B, in, H, W) -> (B, out, 2H, 2W). The ReLU comes first."""

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
    ) -> None:
        super().__init__()
        self.late = sampling == "blur_late"
        self.padding = padding
        blur_padding = "reflect" if padding == "zeros" else padding
        self.upsample = (
            BlurUpsample2d(in_channels, filter=filter, padding=blur_padding, gain=1.0)
            if self.late
            else nn.Identity()
        )
        self.conv = nn.ConvTranspose2d(in_channels, out_channels, KERNEL, stride=2, bias=bias)
        self.blur = (
            BlurPool2d(out_channels, filter=filter, stride=1, padding=blur_padding, upward=True)
            if sampling in ("blur", "preblur")
            else nn.Identity()
        )
        self.norm = make_norm(norm, out_channels)
        self.dropout = nn.Dropout(0.5) if dropout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Double the resolution of `x`."""
        x = self._late_conv(x) if self.late else self._blurred_conv(F.relu(x))
        return self.dropout(self.norm(x))

    def _blurred_conv(self, x: Tensor) -> Tensor:
        weight, bias = self.conv.weight, self.conv.bias
        if self.padding == "zeros":
            return self.blur(F.conv_transpose2d(x, weight, bias, stride=2, padding=1))
        # Pad at the low rate by what the conv and the blur behind it reach. Padding between the two would
        # repeat one phase of the period-2 pattern a transposed conv draws, and lose DC gain 1.
        blur = self.blur if isinstance(self.blur, BlurPool2d) else None
        before, after = (blur.before, blur.after) if blur else (0, 0)
        reach = 1 + (max(before, after) + 1) // 2
        wide = F.conv_transpose2d(pad2d(x, reach, reach, self.padding), weight, bias, stride=2)
        first = 2 * reach + 1 - before
        rows, columns = (slice(first, first + 2 * size + before + after) for size in x.shape[-2:])
        wide = wide[..., rows, columns]
        return blur.unpadded(wide) if blur else wide

    def _late_conv(self, x: Tensor) -> Tensor:
        # A transposed conv is zero-insertion and a dense conv with the flipped kernel; here the blur and
        # the ReLU stand between the two.
        x = F.relu(self.upsample(x))
        dense = self.conv.weight.flip(2, 3).transpose(0, 1)
        return F.conv2d(pad2d(x, 2, 1, self.padding), dense, self.conv.bias)


class UNetGenerator(nn.Module):
    """The U-Net generator of pix2pix, plain or anti-aliased.

    `sampling="strided", padding="zeros", norm="batch"` equals the published graph. The input may have
    any height and width: it is padded at the right and bottom to a multiple of `2 ** num_downs`
    (reflect, replicate where too small) and the output is cropped back. A circular network then loses its
    exact equivariance, and warns.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        ngf: channels of the outermost level; inner levels have 2, 4 and then 8 times as many.
        num_downs: number of levels; 8 brings 256 px to 1 x 1.
        sampling: how a level changes resolution, see the module's table.
        filter: low-pass taps by name, see `gen.filters`.
        padding: of convs, transposed convs and blurs alike; with `zeros` the blurs reflect.
        norm: `instance`, `batch`, `group` or `none`.
        dropout: 0.5 on the `num_downs - 5` levels just outside the innermost (in training mode).

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
    ) -> None:
        super().__init__()
        names = {"sampling": (sampling, SAMPLINGS), "padding": (padding, PADDINGS)}
        names |= {"norm": (norm, NORMS), "filter": (filter, tuple(FILTERS))}
        for argument, (name, known) in names.items():
            if name not in known:
                raise ValueError(f"{argument} {name!r} is unknown; expected one of {', '.join(known)}")
        counts = {"in_channels": in_channels, "out_channels": out_channels, "ngf": ngf}
        for name, count in {**counts, "num_downs": num_downs}.items():
            if count < 1:
                raise ValueError(f"{name} must be at least 1, not {count}")
        if num_downs > MAX_NUM_DOWNS:
            raise ValueError(f"num_downs must be at most {MAX_NUM_DOWNS}, not {num_downs}")
        self.in_channels = in_channels
        self.num_downs = num_downs
        self.padding = padding
        widths = [ngf * min(2**level, 8) for level in range(num_downs)]
        bias = conv_needs_bias(norm)
        level_args = {"sampling": sampling, "filter": filter, "padding": padding}
        self.encoder = nn.ModuleList()
        for level, width in enumerate(widths):
            bare = level in (0, num_downs - 1)  # no norm outermost and innermost
            self.encoder.append(
                DownLevel(
                    widths[level - 1] if level else in_channels,
                    width,
                    norm=None if bare else norm,
                    bias=bias,
                    **level_args,
                )
            )
        self.decoder = nn.ModuleList()
        for level in reversed(range(num_downs)):
            innermost, outermost = level == num_downs - 1, level == 0
            self.decoder.append(
                UpLevel(
                    widths[level] * (1 if innermost else 2),
                    out_channels if outermost else widths[level - 1],
                    norm=None if outermost else norm,
                    bias=bias or outermost,
                    dropout=dropout and 4 <= level < num_downs - 1,
                    **level_args,
                )
            )
        self.apply(init_weights)

    def forward(self, x: Tensor) -> Tensor:
        """Translate `x` (B, in_channels, H, W)."""
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"expected an input (B, {self.in_channels}, H, W), got {tuple(x.shape)}")
        height, width = x.shape[-2:]
        x = self._pad_to_multiple(x)
        skips: list[Tensor] = []
        for down in self.encoder:
            x = down(x)
            skips.append(x)
        x = self.decoder[0](skips.pop())
        for up in self.decoder[1:]:
            x = up(torch.cat([skips.pop(), x], dim=1))
        return torch.tanh(x)[..., :height, :width]

    def _pad_to_multiple(self, x: Tensor) -> Tensor:
        multiple = 2**self.num_downs
        height, width = x.shape[-2:]
        extra_y, extra_x = -height % multiple, -width % multiple
        if (extra_y or extra_x) and self.padding == "circular":
            warnings.warn(
                f"a circular generator is exact for multiples of {multiple} px only; {height} x {width} px "
                "is padded, and exact equivariance is lost",
                stacklevel=3,
            )
        if extra_y:
            x = F.pad(x, (0, 0, 0, extra_y), mode="reflect" if extra_y < height else "replicate")
        if extra_x:
            x = F.pad(x, (0, extra_x, 0, 0), mode="reflect" if extra_x < width else "replicate")
        return x


def init_weights(module: nn.Module) -> None:
    """Initialise like the published code: convs N(0, 0.02), norm scales N(1, 0.02), biases 0."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
        nn.init.normal_(module.weight, 1.0, 0.02)
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)
