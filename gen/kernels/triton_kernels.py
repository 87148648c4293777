"""What runs on the GPU: the programs that `gpu_kernels` starts. Only where Triton is installed."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def blur_kernel(
    x, y, rows, row_weights, columns, column_weights,
    channels, n_rows, n_columns, xb, xc, xh, xw, yb, yc, yh, yw,
    V: tl.constexpr, H: tl.constexpr, BLOCK_J: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    j_blocks = tl.cdiv(n_columns, BLOCK_J)
    c_blocks = tl.cdiv(channels, BLOCK_C)
    program = tl.program_id(0)
    j = program % j_blocks * BLOCK_J + tl.arange(0, BLOCK_J)
    i = program // j_blocks % n_rows
    rest = program // j_blocks // n_rows
    b = rest // c_blocks
    c = rest % c_blocks * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = (j < n_columns)[:, None] & (c < channels)[None, :]
    total = tl.zeros([BLOCK_J, BLOCK_C], dtype=tl.float32)
    for v in tl.static_range(V):
        row = tl.load(rows + i * V + v)
        row_weight = tl.load(row_weights + i * V + v)
        start = x + b * xb + row * xh
        for h in tl.static_range(H):
            column = tl.load(columns + j * H + h, mask=j < n_columns, other=0)
            weight = row_weight * tl.load(column_weights + j * H + h, mask=j < n_columns, other=0.0)
            tile = tl.load(start + column[:, None] * xw + c[None, :] * xc, mask=inside, other=0.0)
            total += tile.to(tl.float32) * weight[:, None]
    out = y + b * yb + i * yh + j[:, None] * yw + c[None, :] * yc
    tl.store(out, total.to(y.dtype.element_ty), mask=inside)


@triton.jit
def _place(channels, BLOCK_C: tl.constexpr):
    """The part, the channels, which of them exist, and the picture of this program."""
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    return tl.program_id(0), c, c < channels, tl.program_id(2)


@triton.jit
def _tile_at(pointer, s, end, c, known, ss, sc):
    """Pixels `s` of channels `c`, and which of them exist."""
    inside = (s < end)[:, None] & known[None, :]
    at = pointer + s[:, None] * ss + c[None, :] * sc
    return tl.load(at, mask=inside, other=0.0).to(tl.float32), inside


@triton.jit
def _around(
    x, pivot, c, known, begin, end, ss, sc,
    STEPS: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Sums over pixels of x - pivot and of its square: a mean far from 0 would cancel in x * x."""
    total = tl.zeros([BLOCK_C], dtype=tl.float32)
    squares = tl.zeros([BLOCK_C], dtype=tl.float32)
    for step in range(STEPS):
        s = begin + step * BLOCK_S + tl.arange(0, BLOCK_S)
        tile, inside = _tile_at(x, s, end, c, known, ss, sc)
        tile = tl.where(inside, tile - pivot[None, :], 0.0)
        total += tl.sum(tile, axis=0)
        squares += tl.sum(tile * tile, axis=0)
    return total, squares


@triton.jit
def _keep_sums(partial, one, other, part, b, c, known, channels):
    """Leave two sums of a part for `_two_sums` of the next kernel."""
    at = partial + (b * tl.num_programs(0) + part) * 2 * channels + c
    tl.store(at, one, mask=known)
    tl.store(at + channels, other, mask=known)


@triton.jit
def _two_sums(partial, b, c, known, channels, parts, PARTS: tl.constexpr):
    """What the programs of a map have summed up, added."""
    p = tl.arange(0, PARTS)
    at = partial + (b * parts + p)[:, None] * 2 * channels + c[None, :]
    there = (p < parts)[:, None] & known[None, :]
    one = tl.sum(tl.load(at, mask=there, other=0.0), axis=0)
    return one, tl.sum(tl.load(at + channels, mask=there, other=0.0), axis=0)


@triton.jit
def sums_kernel(
    x, partial, batch, channels, pixels, chunk, sb, ss, sc,
    STEPS: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    part, c, known, b = _place(channels, BLOCK_C)
    x += b * sb
    pivot = tl.load(x + c * sc, mask=known, other=0.0).to(tl.float32)
    end = tl.minimum(pixels, (part + 1) * chunk)
    total, squares = _around(x, pivot, c, known, part * chunk, end, ss, sc, STEPS, BLOCK_S, BLOCK_C)
    _keep_sums(partial, total, squares, part, b, c, known, channels)


@triton.jit
def norm_kernel(
    x, y, statistics, partial, batch, channels, pixels, chunk, sb, ss, sc, slope, eps,
    PARTS: tl.constexpr, STEPS: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    part, c, known, b = _place(channels, BLOCK_C)
    x += b * sb
    y += b * sb
    pivot = tl.load(x + c * sc, mask=known, other=0.0).to(tl.float32)
    if PARTS == 0:
        total, squares = _around(x, pivot, c, known, 0, pixels, ss, sc, STEPS, BLOCK_S, BLOCK_C)
    else:
        total, squares = _two_sums(partial, b, c, known, channels, tl.num_programs(0), PARTS)
    shift = total / pixels
    mean = pivot + shift
    variance = tl.maximum(squares / pixels - shift * shift, 0.0)
    scale = 1.0 / tl.sqrt(variance + eps)
    if part == 0:
        tl.store(statistics + b * channels + c, mean, mask=known)
        tl.store(statistics + (batch + b) * channels + c, scale, mask=known)
    end = tl.minimum(pixels, (part + 1) * chunk)
    for step in range(STEPS):
        s = part * chunk + step * BLOCK_S + tl.arange(0, BLOCK_S)
        tile, inside = _tile_at(x, s, end, c, known, ss, sc)
        z = (tile - mean[None, :]) * scale[None, :]
        z = tl.where(z > 0, z, slope * z)
        tl.store(y + s[:, None] * ss + c[None, :] * sc, z.to(y.dtype.element_ty), mask=inside)


@triton.jit
def _grad_tile(grad, x, s, end, c, known, ss, sc, mean, scale, slope):
    """The gradient in front of the activation, and the normalised map."""
    tile, inside = _tile_at(x, s, end, c, known, ss, sc)
    z = tl.where(inside, (tile - mean[None, :]) * scale[None, :], 0.0)
    g, inside = _tile_at(grad, s, end, c, known, ss, sc)
    return tl.where(z > 0, g, slope * g), z, inside


@triton.jit
def _grad_around(
    grad, x, mean, scale, c, known, begin, end, ss, sc, slope,
    STEPS: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Sums over pixels of that gradient, and of it times the normalised map."""
    total = tl.zeros([BLOCK_C], dtype=tl.float32)
    along = tl.zeros([BLOCK_C], dtype=tl.float32)
    for step in range(STEPS):
        s = begin + step * BLOCK_S + tl.arange(0, BLOCK_S)
        g, z, _ = _grad_tile(grad, x, s, end, c, known, ss, sc, mean, scale, slope)
        total += tl.sum(g, axis=0)
        along += tl.sum(g * z, axis=0)
    return total, along


@triton.jit
def _known_statistics(statistics, batch, channels, b, c, known):
    mean = tl.load(statistics + b * channels + c, mask=known, other=0.0)
    return mean, tl.load(statistics + (batch + b) * channels + c, mask=known, other=0.0)


@triton.jit
def grad_sums_kernel(
    grad, x, statistics, partial, batch, channels, pixels, chunk, sb, ss, sc, slope,
    STEPS: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    part, c, known, b = _place(channels, BLOCK_C)
    mean, scale = _known_statistics(statistics, batch, channels, b, c, known)
    end = tl.minimum(pixels, (part + 1) * chunk)
    total, along = _grad_around(
        grad + b * sb, x + b * sb, mean, scale, c, known, part * chunk, end, ss, sc, slope,
        STEPS, BLOCK_S, BLOCK_C,
    )  # fmt: skip
    _keep_sums(partial, total, along, part, b, c, known, channels)


@triton.jit
def grad_kernel(
    grad, x, grad_x, statistics, partial, batch, channels, pixels, chunk, sb, ss, sc, slope,
    PARTS: tl.constexpr, STEPS: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    part, c, known, b = _place(channels, BLOCK_C)
    mean, scale = _known_statistics(statistics, batch, channels, b, c, known)
    grad += b * sb
    x += b * sb
    grad_x += b * sb
    if PARTS == 0:
        total, along = _grad_around(
            grad, x, mean, scale, c, known, 0, pixels, ss, sc, slope, STEPS, BLOCK_S, BLOCK_C
        )  # fmt: skip
    else:
        total, along = _two_sums(partial, b, c, known, channels, tl.num_programs(0), PARTS)
    total /= pixels
    along /= pixels
    end = tl.minimum(pixels, (part + 1) * chunk)
    for step in range(STEPS):
        s = part * chunk + step * BLOCK_S + tl.arange(0, BLOCK_S)
        g, z, inside = _grad_tile(grad, x, s, end, c, known, ss, sc, mean, scale, slope)
        out = (g - total[None, :] - z * along[None, :]) * scale[None, :]
        at = grad_x + s[:, None] * ss + c[None, :] * sc
        tl.store(at, out.to(grad_x.dtype.element_ty), mask=inside)
