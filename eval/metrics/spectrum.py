"""What is in a picture at which frequency: the radial power spectrum, and checkerboard patterns.

Both look at the luma (mean over channels, on [0, 1], less its mean) of the largest square at the top left
whose side is a multiple of 16 px, under a periodic Hann window w, whose transform reaches one bin far, so
that a pattern stays where it belongs:

    P(u, v) = |FFT(w x)|^2 / sum w^2

White noise of variance s^2 has P = s^2 everywhere. All powers are above a floor of (1/255)^2 / 12, the
rounding noise of an 8-bit file: what no file can hold does not count, and nothing is divided by zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from steadypix.errors import InputError
from steadypix.eval.metrics.decibels import PEAK, Array, mean_with_interval
from steadypix.eval.metrics.quality import Figures

if TYPE_CHECKING:
    from torch import Tensor

FLOOR = (1 / 255) ** 2 / 12
GRAIN_PX = 16  # the side is a multiple of it, so that periods of 2, 4, 8 and 16 px fall on whole bins
PERIODS_PX = (2, 4, 8, 16)
PEAK_BINS, RING_BINS = 1, 4  # half-widths of a peak under the Hann window, and of what surrounds it
N_OCTAVES = 4


def power_spectrum(picture: Tensor) -> Array:
    """Return P, (n, n) float64, of a picture (1, C, H, W) in [-1, 1]; bin (0, 0) is frequency 0.

    Raises:
        InputError: if the picture is smaller than 16 px.
    """
    height, width = picture.shape[-2:]
    side = min(height, width) // GRAIN_PX * GRAIN_PX
    if side == 0:
        raise InputError(f"a spectrum needs pictures of at least {GRAIN_PX} px; got {height} x {width} px")
    luma = picture[0, :, :side, :side].double().mean(dim=0).cpu().numpy() / PEAK
    line = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(side) / side)
    window = np.outer(line, line)
    power: Array = np.abs(np.fft.fft2(window * (luma - luma.mean()))) ** 2 / (window**2).sum()
    return power


def radial(power: Array) -> tuple[Array, Array]:
    """Return the mean power and the number of bins of every ring of one bin's width.

    Args:
        power: (n, n), as from `power_spectrum`.

    Returns:
        Two arrays of n / 2 values: ring k holds the bins whose distance from frequency 0 rounds to k + 1
        bins, that is (k + 1) / n cycles a pixel. The corners beyond 1/2 cycle a pixel are left out.
    """
    side = len(power)
    bins = np.fft.fftfreq(side, 1 / side)
    rings = np.rint(np.hypot(bins[:, None], bins[None])).astype(int)
    counts = np.bincount(rings.ravel())[1 : side // 2 + 1]
    sums = np.bincount(rings.ravel(), weights=power.ravel())[1 : side // 2 + 1]
    return sums / counts, counts.astype(np.float64)


def octave_edges(side_px: int) -> list[tuple[float, float]]:
    """Return the octaves (from, to] in cycles a pixel, finest first, that hold two rings at least.

    >>> octave_edges(32)
    [(0.25, 0.5), (0.125, 0.25), (0.0625, 0.125)]
    """
    edges = [(0.5 ** (k + 2), 0.5 ** (k + 1)) for k in range(N_OCTAVES)]
    return [(low, high) for low, high in edges if (high - low) * side_px >= 2]


def spectrum_figures(output: Tensor, target: Tensor) -> dict[str, list[float]]:
    """Return the radial spectra of one output and its target, and their ratio an octave.

    Args:
        output: (1, C, H, W) in [-1, 1].
        target: the same.

    Returns:
        `spectrum` and `target_spectrum`: power a ring, floor included. `octaves_db`: 10 log10 of the
        output's over the target's power in each octave of `octave_edges`; 0 is as much detail as the
        target has, below 0 it is soft, above 0 it is noisy.
    """
    (ours, counts), (theirs, _) = (radial(power_spectrum(picture)) for picture in (output, target))
    ours, theirs = ours + FLOOR, theirs + FLOOR
    side = 2 * len(ours)
    frequency = np.arange(1, len(ours) + 1) / side
    ratios = []
    for low, high in octave_edges(side):
        inside = (frequency > low) & (frequency <= high)
        ratio = (ours * counts)[inside].sum() / (theirs * counts)[inside].sum()
        ratios.append(float(10 * np.log10(ratio)))
    return {"spectrum": ours.tolist(), "target_spectrum": theirs.tolist(), "octaves_db": ratios}


def checkerboard(picture: Tensor) -> float:
    """Return how far a checkerboard pattern stands out, in dB: the largest of `checkerboard_octaves`."""
    return max(checkerboard_octaves(picture).values())


def checkerboard_octaves(picture: Tensor) -> dict[int, float]:
    """Return, for checkerboards of period 2, 4, 8 and 16 px, how far each stands out of its surroundings.

    A transposed convolution with stride 2 that weighs its four output phases unevenly leaves a pattern
    that repeats every 2 px, k of them every 2^k px. In the octave of period p its energy is at the
    Nyquist corners (+-1/p, +-1/p) cycles a pixel, where pictures have little of their own. With the corner
    c in bins and |.| the larger of both distances:

        C_p = 10 log10( mean of P where |(u, v) - c| <= 1  /  mean of P where 2 <= |(u, v) - c| <= 4 )

    both means over both diagonals and above the floor. A checkerboard of +-a on white noise of variance s^2
    scores 10 log10(n^2 a^2 / (9 s^2) + 1) for a side of n px; a picture without one about 0.

    Args:
        picture: (1, C, H, W) in [-1, 1].

    Returns:
        Period in px -> dB. Periods of which fewer than 8 fit into the picture are left out.

    Raises:
        InputError: if the picture is smaller than 16 px.
    """
    power = power_spectrum(picture)
    side = len(power)
    offsets = np.arange(-RING_BINS, RING_BINS + 1)
    distance = np.maximum(np.abs(offsets)[:, None], np.abs(offsets)[None])
    scores = {}
    for period in PERIODS_PX:
        corner = side // period
        if corner < 2 * RING_BINS:
            break
        around = [
            power[np.ix_((corner + offsets) % side, (sign * corner + offsets) % side)] for sign in (1, -1)
        ]
        peak, ring = (
            np.mean([patch[where].mean() for patch in around]) + FLOOR
            for where in (distance <= PEAK_BINS, distance > PEAK_BINS)
        )
        scores[period] = float(10 * np.log10(peak / ring))
    return scores


def summarise_spectrum(rows: Sequence[dict[str, Any]], *, seed: int) -> dict[str, Any]:
    """Return spectra averaged over images, in dB, and the octaves' ratios with their intervals.

    Args:
        rows: `spectrum_figures` of every image.
        seed: of the bootstrap.
    """
    n_rings = len(rows[0]["spectrum"])
    ratios = zip(*(row["octaves_db"] for row in rows), strict=True)
    means = {key: np.mean([row[key] for row in rows], axis=0) for key in ("spectrum", "target_spectrum")}
    return {
        "cycles_per_px": [(k + 1) / (2 * n_rings) for k in range(n_rings)],
        "power_db": (10 * np.log10(means["spectrum"])).tolist(),
        "target_power_db": (10 * np.log10(means["target_spectrum"])).tolist(),
        "octaves": [
            {"from": low, "to": high, "ratio_db": mean_with_interval(ratio, seed=seed)}
            for (low, high), ratio in zip(octave_edges(2 * n_rings), ratios, strict=True)
        ],
    }


class Spectrum(Figures):
    """Radial power spectra of outputs and targets."""

    name = "spectrum"
    pictures = ("spectrum.png",)

    def figures(self, output: Tensor, target: Tensor) -> dict[str, Any]:
        """Return both spectra and their ratios."""
        return spectrum_figures(output, target)

    def summary(self, *, seed: int) -> dict[str, Any]:
        """Return the mean spectra."""
        return {"spectrum": summarise_spectrum(self.rows, seed=seed)}

    @classmethod
    def draw(cls, out: Path, results: dict[str, Any]) -> None:
        """Write the chart."""
        from steadypix.eval.charts.spectrum_chart import draw_spectrum

        draw_spectrum(out / "spectrum.png", results)


class Checkerboard(Figures):
    """How far a checkerboard pattern stands out."""

    name = "checkerboard"
    needs_target = False
    shown: ClassVar = {"checkerboard_db": ("checkerboard", "dB", 1, "")}

    def figures(self, output: Tensor, target: Tensor) -> dict[str, Any]:
        """Return the scores of the output, and of its target, which is what to compare with."""
        return {"checkerboard_db": checkerboard(output), "target_checkerboard_db": checkerboard(target)}

    def alone(self, output: Tensor) -> dict[str, Any]:
        """Return the score of the output."""
        return {"checkerboard_db": checkerboard(output), "target_checkerboard_db": None}
