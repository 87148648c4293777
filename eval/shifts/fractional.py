"""Shifts of pictures by fractions of a pixel: a Kaiser-windowed sinc, or a Fourier phase under roll.

Both are computed in float64. Neither clamps: a shifted edge rings beyond [-1, 1], and clamping would
make the shift non-linear, so that shifting back would no longer undo it.
"""

from __future__ import annotations

import functools
import math
from fractions import Fraction
from typing import TYPE_CHECKING

from steadypix.eval.shifts.offsets import Offset, Shift

if TYPE_CHECKING:
    from torch import Tensor

REACH_PX = 16  # half-width of the sinc: how far from the border its result can be trusted
BETA = 9.0  # of the Kaiser window: errors below 5e-5 up to 0.8 of the Nyquist frequency


@functools.lru_cache(maxsize=256)
def sinc_taps(fraction: Fraction) -> tuple[float, ...]:
    """Return the weights h(j - fraction), j = -16..16, of a shift by a fraction of a px.

    h(t) = sinc(t) * I0(beta * sqrt(1 - (t / 16)^2)) / I0(beta) for |t| < 16, else 0 (Kaiser 1974). The
    weights are divided by their sum, so a constant picture stays what it is.
    """
    import numpy as np

    place = np.arange(-REACH_PX, REACH_PX + 1) - float(fraction)
    window = np.i0(BETA * np.sqrt(np.clip(1 - (place / REACH_PX) ** 2, 0, None))) / np.i0(BETA)
    weights = np.where(np.abs(place) < REACH_PX, np.sinc(place) * window, 0.0)
    return tuple((weights / weights.sum()).tolist())


def sinc_shift(picture: Tensor, fraction: Offset) -> Tensor:
    """Shift a picture by less than a pixel with the windowed sinc.

    Beyond its border the picture is continued by its outermost pixels, so results nearer than `REACH_PX`
    to it are approximate.

    Args:
        picture: (B, C, H, W).
        fraction: (dx, dy) px right and down, each within [-1/2, 1/2]. Along an axis with 0 nothing is done.

    Returns:
        (B, C, H, W) in the picture's dtype.
    """
    shifted = picture
    for dim, shift in ((-1, fraction[0]), (-2, fraction[1])):
        if shift:
            shifted = _filter(shifted, sinc_taps(Fraction(shift)), dim)
    return shifted.to(picture.dtype)


def _filter(picture: Tensor, taps: tuple[float, ...], dim: int) -> Tensor:
    import torch.nn.functional as F
    from torch import tensor

    height, width = picture.shape[-2:]
    planes = picture.double().reshape(-1, 1, height, width)
    # conv2d correlates, so the taps are turned round: y[n] = sum over j of h(j - fraction) x[n - j].
    kernel = tensor(taps[::-1], dtype=planes.dtype, device=planes.device)
    along = [1, 1, 1, 1]
    along[dim] = -1
    reach = [REACH_PX, REACH_PX, 0, 0] if dim == -1 else [0, 0, REACH_PX, REACH_PX]
    padded = F.pad(planes, reach, mode="replicate")
    return F.conv2d(padded, kernel.view(along)).reshape(picture.shape)


def fourier_shift(picture: Tensor, offset: Offset) -> Tensor:
    """Shift a picture circularly by any number of px, through the phases of its Fourier transform.

    The band-limited interpolation of a periodic picture. At an even size the Nyquist frequency has no
    phase of its own: it is multiplied by cos(pi * shift), so half a pixel removes it.

    Args:
        picture: (B, C, H, W).
        offset: (dx, dy) px right and down.

    Returns:
        (B, C, H, W) in the picture's dtype.
    """
    shifted = picture
    for dim, shift in ((-1, offset[0]), (-2, offset[1])):
        if shift:
            shifted = _turn_phases(shifted, shift, dim)
    return shifted.to(picture.dtype)


def _turn_phases(picture: Tensor, shift: Shift, dim: int) -> Tensor:
    import torch

    size = picture.shape[dim]
    spectrum = torch.fft.rfft(picture.double(), dim=dim)
    angle = torch.arange(spectrum.shape[dim], dtype=torch.float64, device=picture.device)
    phase = torch.polar(torch.ones_like(angle), -2 * math.pi * float(shift) / size * angle)
    if size % 2 == 0:
        phase[-1] = math.cos(math.pi * float(shift))
    if dim == -2:
        phase = phase[:, None]
    return torch.fft.irfft(spectrum * phase, n=size, dim=dim)
