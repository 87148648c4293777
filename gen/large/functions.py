"""What networks call on maps, by rows: `FUNCTIONS` has for each function of torch what is called instead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from steadypix.gen.large.maps import NotInStrips, RowMap


def _pointwise(function: Callable[..., Tensor]) -> Callable[..., RowMap]:
    """Of one map, sample by sample."""

    def apply(x: RowMap, *args: Any, **kwargs: Any) -> RowMap:
        kwargs.pop("inplace", None)
        return x.lazily(lambda top, bottom: function(x.rows(top, bottom), *args, **kwargs), x.shape)

    return apply


def _of_two(function: Callable[..., Tensor]) -> Callable[..., RowMap]:
    """Of a map and another one, or something that is the same in all rows."""

    def apply(a: Any, b: Any) -> RowMap:
        maps = [part for part in (a, b) if isinstance(part, RowMap)]
        if len({part.shape[2:] for part in maps}) > 1:
            raise NotInStrips(f"maps of {maps[0].shape} and {maps[1].shape} px joined sample by sample")
        for part in (a, b):
            if isinstance(part, Tensor) and part.ndim > 1 and part.shape[-2] != 1:
                raise NotInStrips("a tensor with rows of its own joined to a map")

        def read(top: int, bottom: int) -> Tensor:
            return function(
                *(part.rows(top, bottom) if isinstance(part, RowMap) else part for part in (a, b))
            )

        # Either may have a single channel that goes with all of the other's.
        shape = torch.broadcast_shapes(*(part.shape for part in (a, b) if isinstance(part, RowMap | Tensor)))
        if len(maps) == 1:
            return maps[0].lazily(read, shape)
        for part in maps:
            part.store()
        # A sum has two readers at the next sum.
        return maps[0].lazily(read, shape).store()

    return apply


def _cat(maps: Sequence[RowMap], dim: int = 0) -> RowMap:
    if dim in (2, 3, -2, -1):
        return maps[0].of(torch.cat([part.whole() for part in maps], dim), maps[0].workspace)
    if dim not in (1, -3) or len({part.shape[2:] for part in maps}) > 1:
        raise NotInStrips(f"maps {[tuple(part.shape) for part in maps]} joined along axis {dim}")
    for part in maps:
        part.store()
    shape = (1, sum(part.shape[1] for part in maps), *maps[0].shape[2:])
    return maps[0].lazily(lambda top, bottom: torch.cat([m.rows(top, bottom) for m in maps], dim=1), shape)


def _pad(x: RowMap, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> RowMap:
    if any(pad[4:]):
        raise NotInStrips("padding of channels")
    left, right, up, down = (*pad, 0, 0)[:4]
    height = x.shape[2]

    def read(top: int, bottom: int) -> Tensor:
        if mode == "constant":
            rows = x.rows(max(top - up, 0), min(bottom - up, height))
            above = min(max(up - top, 0), bottom - top)
            below = bottom - top - above - rows.shape[2]
            return F.pad(rows, (left, right, above, below), value=value or 0.0)
        inside = _inside(torch.arange(top - up, bottom - up), height, mode)
        first, end = int(inside.min()), int(inside.max()) + 1
        rows = x.rows(first, end)
        if len(inside) != end - first or not torch.equal(inside, torch.arange(first, end)):
            rows = rows.index_select(2, (inside - first).to(rows.device))
        return F.pad(rows, (left, right, 0, 0), mode=mode) if left or right else rows

    return x.lazily(read, (1, x.shape[1], height + up + down, x.shape[3] + left + right))


def _inside(places: Tensor, size: int, mode: str) -> Tensor:
    """Return which row a place outside of 0..size - 1 repeats."""
    if mode == "replicate":
        return places.clamp(0, size - 1)
    if mode == "circular":
        return places % size
    if mode == "reflect":
        period = max(2 * size - 2, 1)
        places = places % period
        return torch.where(places < size, places, period - places)
    raise NotInStrips(f"padding {mode!r}")


def _conv(
    x: RowMap,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> RowMap:
    (sy, sx), (dy, dx) = _two(stride), _two(dilation)
    if isinstance(padding, str):
        if padding != "valid":
            raise NotInStrips(f"a convolution with padding {padding!r}")
        padding = 0
    py, px = _two(padding)
    reach_y, reach_x = (dy * (weight.shape[2] - 1), dx * (weight.shape[3] - 1))
    padded = _pad(x, (0, 0, py, py)) if py else x
    height = (padded.shape[2] - reach_y - 1) // sy + 1
    width = (x.shape[3] + 2 * px - reach_x - 1) // sx + 1

    def read(top: int, bottom: int) -> Tensor:
        rows = padded.rows(top * sy, (bottom - 1) * sy + reach_y + 1)
        return F.conv2d(rows, weight, bias, (sy, sx), (0, px), (dy, dx), groups)

    made = x.lazily(read, (1, weight.shape[0], height, width), rows_a_row=sy)
    return made.store() if sy > 1 else made  # a quarter of its input, and in a U-Net read twice


def _conv_transpose(
    x: RowMap,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> RowMap:
    (sy, sx), (py, px), (oy, ox) = _two(stride), _two(padding), _two(output_padding)
    if _two(dilation) != (1, 1):
        raise NotInStrips("a transposed convolution with dilation")
    kernel_y, kernel_x = weight.shape[2:]
    height = (x.shape[2] - 1) * sy - 2 * py + kernel_y + oy
    width = (x.shape[3] - 1) * sx - 2 * px + kernel_x + ox
    channels = weight.shape[1] * groups

    def read(top: int, bottom: int) -> Tensor:
        # Row o of the whole output has shares of the rows i with i * sy <= o + py < i * sy + kernel.
        first = min(max(0, -((kernel_y - 1 - top - py) // sy)), x.shape[2])
        end = max(min(x.shape[2], (bottom - 1 + py) // sy + 1), first)
        start = first * sy - py  # of the first row that those give
        rows = x.like.new_zeros(1, channels, bottom - top, width)
        if end > first:
            made = F.conv_transpose2d(x.rows(first, end), weight, None, (sy, sx), (0, px), (0, ox), groups)
            low, high = max(top, start), min(bottom, start + made.shape[2])
            rows[:, :, low - top : high - top] = made[:, :, low - start : high - start]
        return rows if bias is None else rows + bias[:, None, None]

    return x.lazily(read, (1, channels, height, width), rows_a_row=1 / sy)


def _max_pool(
    x: RowMap,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> RowMap:
    if _two(padding) != (0, 0) or _two(dilation) != (1, 1) or ceil_mode or return_indices:
        raise NotInStrips("a pool with padding, dilation, ceil_mode or indices")
    return _pool(F.max_pool2d, x, kernel_size, stride)


def _avg_pool(
    x: RowMap,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> RowMap:
    if _two(padding) != (0, 0) or ceil_mode or divisor_override is not None:
        raise NotInStrips("a pool with padding, ceil_mode or a divisor of its own")
    return _pool(F.avg_pool2d, x, kernel_size, stride)


def _pool(function: Callable[..., Tensor], x: RowMap, kernel_size: Any, stride: Any) -> RowMap:
    (ky, kx), (sy, sx) = _two(kernel_size), _two(kernel_size if stride in (None, []) else stride)
    height, width = (x.shape[2] - ky) // sy + 1, (x.shape[3] - kx) // sx + 1

    def read(top: int, bottom: int) -> Tensor:
        return function(x.rows(top * sy, (bottom - 1) * sy + ky), (ky, kx), (sy, sx))

    made = x.lazily(read, (*x.shape[:2], height, width), rows_a_row=sy)
    return made.store() if sy > 1 else made


def _normalised(
    x: RowMap, mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> RowMap:
    scale = (variance + eps).rsqrt()
    if weight is not None:
        scale = scale * weight
    offset = -mean * scale if bias is None else bias - mean * scale
    scale, offset = (part.to(x.like)[:, None, None] for part in (scale, offset))
    return x.lazily(lambda top, bottom: x.rows(top, bottom) * scale + offset, x.shape)


def _instance_norm(
    x: RowMap,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> RowMap:
    if not use_input_stats:
        return _batch_norm(x, running_mean, running_var, weight, bias, eps=eps)
    return _normalised(x, *x.moments(), weight, bias, eps)


def _batch_norm(
    x: RowMap,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> RowMap:
    if training or running_mean is None or running_var is None:
        return _normalised(x, *x.moments(), weight, bias, eps)
    return _normalised(x, running_mean.double(), running_var.double(), weight, bias, eps)


def _group_norm(
    x: RowMap, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> RowMap:
    return _normalised(x, *of_groups(*x.moments(), num_groups), weight, bias, eps)


def of_groups(mean: Tensor, variance: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Return for each channel the mean and variance of its group, from those of the channels, all (C,)."""
    means, variances = mean.view(groups, -1), variance.view(groups, -1)
    middle = means.mean(1, keepdim=True)
    spread = (variances + (means - middle).square()).mean(1, keepdim=True)
    return middle.expand_as(means).flatten(), spread.expand_as(means).flatten()


def _dropout(x: RowMap, p: float = 0.5, training: bool = True, inplace: bool = False) -> RowMap:
    if training:
        raise NotInStrips("dropout in training mode")
    return x


def _two(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (tuple(value) * 2)[:2]


FUNCTIONS: dict[Any, Callable[..., Any]] = {
    function: _pointwise(function)
    for function in (
        *(F.relu, torch.relu, F.leaky_relu, F.elu, F.gelu, F.silu, F.selu, F.softplus, F.hardtanh, F.mish),
        *(torch.tanh, F.tanh, torch.sigmoid, F.sigmoid, torch.clamp, torch.abs, torch.neg),
    )
}
FUNCTIONS |= {function: _of_two(function) for function in (torch.add, torch.mul, torch.sub)}
FUNCTIONS |= {
    torch.cat: _cat,
    F.pad: _pad,
    F.conv2d: _conv,
    torch.conv2d: _conv,
    F.conv_transpose2d: _conv_transpose,
    torch.conv_transpose2d: _conv_transpose,
    F.max_pool2d: _max_pool,
    F.avg_pool2d: _avg_pool,
    F.instance_norm: _instance_norm,
    F.batch_norm: _batch_norm,
    F.group_norm: _group_norm,
    F.dropout: _dropout,
}
