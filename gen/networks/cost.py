"""About how much memory networks take, from their configuration and the pictures' size alone.

Nothing is built and torch is not imported, so that whatever numbers somebody gives can be asked about. The
counts are sums over the levels of the maps that are held at the same time; how many copies of them layers and
libraries make was measured, see `tests/test_budget.py`. They are on the large side, within a factor of about
two where maps and weights are what takes the memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from steadypix.budget import Part, require

FLOAT_BYTES = 4
DENSE = ("blur", "blur_late")  # samplings whose convs run before the subsampling


def generator_weights(shape: Mapping[str, Any]) -> float:
    """Return the weights of a U-Net, or of a ResNet (`n_blocks`), from its configuration."""
    ngf = float(shape.get("ngf", 64))
    ins, outs = shape.get("in_channels", 3), shape.get("out_channels", 3)
    if "n_blocks" in shape:
        levels = 2 * 9 * (2 * ngf**2 + 8 * ngf**2)
        return 49 * ngf * (ins + outs) + levels + shape["n_blocks"] * 2 * 9 * (4 * ngf) ** 2
    widths = _widths(ngf, shape.get("num_downs", 8))
    down = sum(16 * a * b for a, b in zip((ins, *widths), widths, strict=False))
    up = sum(
        16 * (1 if at == len(widths) - 1 else 2) * width * before
        for at, (width, before) in enumerate(zip(widths, (outs, *widths), strict=False))
    )
    return down + up


def forward_numbers(shape: Mapping[str, Any], width: int, height: int) -> float:
    """Return the numbers that a forward pass of one picture holds at most, without gradients.

    Args:
        shape: the generator's configuration; of a network that has none, nothing but its input and output
            is known, and counted.
        width: of the picture in px.
        height: of the picture in px.
    """
    ends = shape.get("in_channels", 3) + shape.get("out_channels", 3)
    if "ngf" not in shape:
        return 4.0 * width * height * ends
    ngf, sampling = float(shape["ngf"]), shape.get("sampling", "blur")
    padded = _padded(shape, width, height)
    detail = _detail(shape) * width * height
    if "n_blocks" in shape:
        maps = 8 * ngf if sampling in DENSE else 7 * ngf
    else:
        maps = 4 * ngf if sampling in DENSE else 3 * ngf
    if sampling == "blur_late":
        maps += 6 * ngf
    return maps * padded + 3 * ends * padded + detail


def require_forward(
    shape: Mapping[str, Any],
    width: int,
    height: int,
    *,
    what: str,
    helps: str,
    at_once: int = 1,
    copies: float = 1.0,
) -> None:
    """Check that a generator may take pictures of a size, before it does.

    Args:
        shape: the generator's configuration.
        width: of a picture in px.
        height: of a picture in px.
        what: takes them, in words.
        helps: which options would make it less.
        at_once: pictures in one pass.
        copies: of what a pass takes.

    Raises:
        TooLargeError: saying what helps.
    """
    several = f", {at_once} at a time" if at_once > 1 else ""
    numbers = at_once * forward_numbers(shape, width, height)
    require(Part(copies * FLOAT_BYTES * numbers, f"{what} on {width} x {height} px{several}", helps))


def training_numbers(shape: Mapping[str, Any], width: int, height: int) -> float:
    """Return the numbers that a generator keeps of one picture for the backward pass, and that this makes.

    Of a network without a configuration that is not known: as much as `forward_numbers`.
    """
    sampling, late = shape.get("sampling", "blur"), shape.get("late_levels", 2)
    padded = _padded(shape, width, height)
    if "n_blocks" in shape:
        maps = [(1, padded), (2, padded / 4), (4, padded / 16)]  # over ngf, and its px
        if sampling in DENSE:
            maps += [(2, padded), (4, padded / 4)]
        convs = 5.0 * sum(width * px for width, px in [*maps, *maps]) + 12 * shape["n_blocks"] * padded / 4
        return shape["ngf"] * convs + 2 * _detail(shape) * width * height
    if "ngf" not in shape:
        return forward_numbers(shape, width, height)
    widths = _widths(float(shape["ngf"]), shape.get("num_downs", 8))
    late = len(widths) if late is None else late
    total = 0.0
    for level, (channels, before) in enumerate(
        zip(widths, (shape.get("out_channels", 3), *widths), strict=False)
    ):
        fine, coarse = padded / 4.0**level, padded / 4.0 ** (level + 1)
        total += 5 * channels * (fine if sampling in DENSE else coarse)  # down
        total += 5 * channels * coarse + 5 * before * fine  # joined with the skip, and up
        if sampling == "blur_late" and level < late:
            total += 6 * channels * fine
    return total + 2 * _detail(shape) * width * height


def discriminator_weights(shape: Mapping[str, Any], in_channels: int) -> float:
    """Return the weights of a discriminator, from its configuration."""
    if shape["kind"] == "pixel":
        return shape["ndf"] * (in_channels + 2.0 * shape["ndf"] + 2)
    widths = _widths(float(shape["ndf"]), shape["n_layers"] + 1)
    return sum(16 * a * b for a, b in zip((in_channels, *widths), (*widths, 1), strict=True))


def discriminator_numbers(shape: Mapping[str, Any], width: int, height: int) -> float:
    """Return the numbers that a discriminator keeps of one picture for the backward pass."""
    if shape["kind"] == "pixel":
        return 8.0 * shape["ndf"] * width * height
    total = 0.0
    for layer, channels in enumerate(_widths(float(shape["ndf"]), shape["n_layers"] + 1)):
        coarser = layer if shape["filter"] else layer + 1
        total += 3 * channels * width * height / 4.0 ** min(coarser, shape["n_layers"])
    return total


def _widths(first: float, count: int) -> list[float]:
    return [first * min(2**level, 8) for level in range(count)]


def _padded(shape: Mapping[str, Any], width: int, height: int) -> float:
    """Return the px of what a generator works on: a U-Net's levels are completed one by one."""
    if "n_blocks" in shape:
        return float(math.ceil(width / 4) * math.ceil(height / 4)) * 16
    least = 2 ** shape.get("num_downs", 8)
    return float(max(width + width % 2, least) * max(height + height % 2, least))


def _detail(shape: Mapping[str, Any]) -> float:
    """Return the channels at full size of texture and head."""
    texture = shape.get("texture_channels", 4) if shape.get("texture", "none") != "none" else 0
    return 16.0 * texture + 8.0 * shape.get("head", 0)
