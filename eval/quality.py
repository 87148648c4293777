"""Quality of outputs against targets, one value an image: a stable output may just be a soft one.

Every figure is a function of one output and one target, found by name in `quality_measures`. The basic
ones cost nothing beside a forward pass and are always taken; the others are asked for by name.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from data.errors import InputError
from eval.decibels import IDENTICAL_DB, PEAK, mean_with_interval, psnr_db
from eval.spectrum import checkerboard_figures, spectrum_figures

if TYPE_CHECKING:
    from torch import Tensor

Figures = dict[str, Any]  # name -> one number, or a list of numbers for a curve
Measure = Callable[["Tensor", "Tensor"], Figures]

BASIC = ("l1", "psnr", "tv")
ON_REQUEST = ("ssim", "lpips", "spectrum", "checkerboard")
SSIM_WINDOW_PX, SSIM_SIGMA_PX = 11, 1.5  # Wang et al. 2004, section III-B


def parse_quality(text: str) -> tuple[str, ...]:
    """Read `all` or a comma list into names; the basic ones are always among them.

    >>> parse_quality("ssim")
    ('l1', 'psnr', 'tv', 'ssim')

    Raises:
        InputError: naming an unknown figure.
    """
    asked = (
        ON_REQUEST if text.strip() == "all" else [part.strip() for part in text.split(",") if part.strip()]
    )
    for name in asked:
        if name not in (*BASIC, *ON_REQUEST):
            known = ", ".join((*BASIC, *ON_REQUEST))
            raise InputError(f"--quality {name}: is unknown; expected all, or of {known}")
    return tuple(dict.fromkeys((*BASIC, *asked)))


def l1(output: Tensor, target: Tensor) -> float:
    """Return the mean absolute difference on [0, 1] of pictures (..., H, W) given in [-1, 1]."""
    return (output - target).abs().mean().item() / PEAK


def psnr(output: Tensor, target: Tensor) -> float:
    """Return the PSNR in dB of pictures (..., H, W) in [-1, 1] (peak 2), capped at 150."""
    return float(psnr_db((output - target).double().square().mean().item()))


def psnr_reference(output: Tensor, target: Tensor) -> float:
    """Return what `psnr` does, as scikit-image computes it."""
    from skimage.metrics import peak_signal_noise_ratio

    ours, theirs = _unit_array(output), _unit_array(target)
    if (ours == theirs).all():
        return IDENTICAL_DB
    return min(IDENTICAL_DB, float(peak_signal_noise_ratio(theirs, ours, data_range=1.0)))


def total_variation(picture: Tensor) -> float:
    """Return TV = mean |d/dx| + mean |d/dy| on [0, 1] of a picture (..., H, W) given in [-1, 1].

    The anisotropic total variation a pixel, by forward differences (Zhang 2019, table 4, shows it
    times 100): how much detail there is, sharp or noisy.
    """
    across = (picture[..., :, 1:] - picture[..., :, :-1]).abs().mean()
    down = (picture[..., 1:, :] - picture[..., :-1, :]).abs().mean()
    return (across + down).item() / PEAK


def ssim(output: Tensor, target: Tensor) -> float:
    """Return the structural similarity of pictures (1, C, H, W) in [-1, 1], mean over channels.

    On [0, 1], Gaussian window of sigma 1.5 and 11 px, over the region the window fits into (Wang et
    al. 2004), in double precision on the pictures' device.

    Raises:
        InputError: if the pictures are smaller than the window.
    """
    from kornia.metrics import ssim as kornia_ssim

    _check_ssim_size(output)
    ours, theirs = ((picture.double() + 1) / PEAK for picture in (output, target))
    # Without eps a picture's similarity to itself is 1.
    similarity = kornia_ssim(ours, theirs, SSIM_WINDOW_PX, max_val=1.0, eps=0.0, padding="valid")
    return similarity.mean().item()


def ssim_reference(output: Tensor, target: Tensor) -> float:
    """Return what `ssim` does, as scikit-image computes it."""
    from skimage.metrics import structural_similarity

    _check_ssim_size(output)
    return float(
        structural_similarity(
            _unit_array(target),
            _unit_array(output),
            gaussian_weights=True,
            sigma=SSIM_SIGMA_PX,
            use_sample_covariance=False,
            data_range=1.0,
            channel_axis=0,
        )
    )


def quality_measures(
    names: Sequence[str] = BASIC, *, reference: bool = False, lpips: Measure | None = None
) -> dict[str, Measure]:
    """Return the measures of these names.

    Args:
        names: of `BASIC` and `ON_REQUEST`.
        reference: take PSNR and SSIM from scikit-image, on the CPU.
        lpips: the measure behind the name `lpips`, which needs weights (see `eval.lpips_metric`).

    Raises:
        InputError: if `lpips` is asked for and not given.
    """
    if "lpips" in names and lpips is None:
        raise InputError("lpips needs the weights of its backbone; expected an LPIPS measure with it")
    known: dict[str, Measure | None] = {
        "l1": lambda output, target: {"l1": l1(output, target)},
        "psnr": functools.partial(_one_figure, "psnr_db", psnr_reference if reference else psnr),
        "tv": lambda output, target: {"tv": total_variation(output), "target_tv": total_variation(target)},
        "ssim": functools.partial(_one_figure, "ssim", ssim_reference if reference else ssim),
        "lpips": lpips,
        "spectrum": spectrum_figures,
        "checkerboard": checkerboard_figures,
    }
    return {name: measure for name in names if (measure := known[name]) is not None}


def quality(output: Tensor, target: Tensor, measures: Mapping[str, Measure] | None = None) -> Figures:
    """Return the figures of one output (1, C, H, W) against its target, the basic ones by default."""
    figures: Figures = {}
    for measure in (quality_measures() if measures is None else measures).values():
        figures.update(measure(output, target))
    return figures


def summarise_quality(rows: Sequence[Figures], *, seed: int) -> Figures:
    """Return means with intervals over images of every figure that is one number, and the TV ratio."""
    figures: Figures = {
        key: mean_with_interval([row[key] for row in rows], seed=seed)
        for key, value in rows[0].items()
        if not isinstance(value, list)
    }
    target_tv = figures["target_tv"]["mean"]
    figures["tv_ratio"] = figures["tv"]["mean"] / target_tv if target_tv else None
    return figures


def _one_figure(
    key: str, function: Callable[[Tensor, Tensor], float], output: Tensor, target: Tensor
) -> Figures:
    return {key: function(output, target)}


def _unit_array(picture: Tensor) -> np.ndarray:
    """(1, C, H, W) in [-1, 1] -> (C, H, W) float64 in [0, 1]."""
    return (picture[0].double().cpu().numpy() + 1) / PEAK


def _check_ssim_size(picture: Tensor) -> None:
    height, width = picture.shape[-2:]
    if min(height, width) < SSIM_WINDOW_PX:
        raise InputError(f"SSIM needs pictures of at least {SSIM_WINDOW_PX} px; got {height} x {width} px")
