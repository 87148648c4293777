"""Quality of outputs against targets, one value a picture: a stable output may just be a soft one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from steadypix.errors import InputError
from steadypix.eval.metrics.decibels import IDENTICAL_DB, PEAK, mean_with_interval, psnr_db
from steadypix.eval.metrics.measure import Column, Conditions, Measure
from steadypix.eval.metrics.stability import some

if TYPE_CHECKING:
    from torch import Tensor

SSIM_WINDOW_PX, SSIM_SIGMA_PX = 11, 1.5  # Wang et al. 2004, section III-B


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
    as_published = {"gaussian_weights": True, "sigma": SSIM_SIGMA_PX, "use_sample_covariance": False}
    theirs, ours = _unit_array(target), _unit_array(output)
    return float(structural_similarity(theirs, ours, **as_published, data_range=1.0, channel_axis=0))


def quality(output: Tensor, target: Tensor) -> dict[str, float]:
    """Return the basic figures of one output (1, C, H, W) against its target, both in [-1, 1]."""
    tv, target_tv = total_variation(output), total_variation(target)
    return {"l1": l1(output, target), "psnr_db": psnr(output, target), "tv": tv, "target_tv": target_tv}


@dataclass
class Figures(Measure):
    """One or more figures of every output against its target, by name.

    Class attributes:
        shown: key in results.json -> title, unit, digits, which end is better.
    """

    settings: Any = None

    asked_by = "quality"
    any_size = True
    needs_target = True
    shown: ClassVar[Mapping[str, tuple[str, str, int, str]]] = {}

    @classmethod
    def make(cls, settings: Any, conditions: Conditions) -> Self:
        """Return one without numbers."""
        return cls(settings)

    @abstractmethod
    def figures(self, output: Tensor, target: Tensor) -> dict[str, Any]:
        """Return the figures of one output (1, C, H, W) in [-1, 1]."""

    def alone(self, output: Tensor) -> dict[str, Any]:
        """Return the same where there is no target, of figures that do not need one."""
        raise NotImplementedError

    def add(self, base: Tensor | None, outputs: Iterator[Tensor], target: Tensor | None, index: int) -> None:
        """Score one picture."""
        output = some(base)
        self.rows.append(self.alone(output) if target is None else self.figures(output, target))

    def summary(self, *, seed: int) -> dict[str, Any]:
        """Return the mean of every figure with its interval; None for targets that are not there."""
        values = {key: [row[key] for row in self.rows] for key in self.rows[0]}
        return {
            "quality": {
                key: None if None in each else mean_with_interval(each, seed=seed)
                for key, each in values.items()
            }
        }

    @classmethod
    def columns(cls, results: Mapping[str, Any]) -> list[Column]:
        """Return what is shown of it."""
        models = results["models"]
        return [
            Column(
                title=title,
                unit=unit,
                digits=digits,
                better=better,
                figures=[model["quality"].get(key) for model in models],
            )
            for key, (title, unit, digits, better) in cls.shown.items()
            if any(model["quality"].get(key) is not None for model in models)
        ]


class L1(Figures):
    """Mean absolute difference on [0, 1]."""

    name = "l1"
    always = True
    shown: ClassVar = {"l1": ("L1", "", 4, "low")}

    def figures(self, output: Tensor, target: Tensor) -> dict[str, Any]:
        """Return `l1`."""
        return {"l1": l1(output, target)}


class _Referenced(Figures):
    """A figure that scikit-image can give too."""

    @classmethod
    def read(cls, args: Any, *, named: bool) -> Any:
        """Return whether the reference is wanted."""
        return {"reference": args.reference} if named else None


class Psnr(_Referenced):
    """PSNR in dB, peak 2."""

    name = "psnr"
    always = True
    shown: ClassVar = {"psnr_db": ("PSNR", "dB", 2, "high")}

    def figures(self, output: Tensor, target: Tensor) -> dict[str, Any]:
        """Return `psnr_db`."""
        return {"psnr_db": (psnr_reference if self.settings["reference"] else psnr)(output, target)}


class Ssim(_Referenced):
    """Structural similarity."""

    name = "ssim"
    shown: ClassVar = {"ssim": ("SSIM", "", 3, "high")}

    def figures(self, output: Tensor, target: Tensor) -> dict[str, Any]:
        """Return `ssim`."""
        return {"ssim": (ssim_reference if self.settings["reference"] else ssim)(output, target)}


class TotalVariation(Figures):
    """Detail of outputs and targets."""

    name = "tv"
    always = True
    needs_target = False
    shown: ClassVar = {"tv": ("TV", "", 4, "")}

    def figures(self, output: Tensor, target: Tensor) -> dict[str, Any]:
        """Return `tv` and `target_tv`."""
        return {"tv": total_variation(output), "target_tv": total_variation(target)}

    def alone(self, output: Tensor) -> dict[str, Any]:
        """Return `tv`."""
        return {"tv": total_variation(output), "target_tv": None}


class TvRatio(TotalVariation):
    """Detail over the target's: the ratio of the means."""

    name = "tv_ratio"
    always = True
    shown: ClassVar = {"tv_ratio": ("TV/target", "", 2, "")}
    pictures = ("tradeoff.png",)

    def summary(self, *, seed: int) -> dict[str, Any]:
        """Return the ratio; None where the targets have no detail at all."""
        if any(row["target_tv"] is None for row in self.rows):
            return {"quality": {"tv_ratio": None}}
        tv, target_tv = (float(np.mean([row[key] for row in self.rows])) for key in ("tv", "target_tv"))
        return {"quality": {"tv_ratio": tv / target_tv if target_tv else None}}

    @classmethod
    def notes(cls, results: Mapping[str, Any]) -> list[str]:
        """Return what dB have to be read beside."""
        target_tv = results["models"][0]["quality"]["target_tv"]
        own = f"The targets' own TV is {target_tv['mean']:.4f}." if target_tv else "There are no targets."
        return [f"{own} A soft picture is stable for free: read dB beside TV."]

    @classmethod
    def draw(cls, out: Path, results: dict[str, Any]) -> None:
        """Write stability against detail."""
        from steadypix.eval.charts.tradeoff import draw_tradeoff

        if any(model["quality"]["tv_ratio"] is not None for model in results["models"]):
            draw_tradeoff(out / "tradeoff.png", results)


def _unit_array(picture: Tensor) -> np.ndarray:
    """(1, C, H, W) in [-1, 1] -> (C, H, W) float64 in [0, 1]."""
    return (picture[0].double().cpu().numpy() + 1) / PEAK


def _check_ssim_size(picture: Tensor) -> None:
    height, width = picture.shape[-2:]
    if min(height, width) < SSIM_WINDOW_PX:
        raise InputError(f"SSIM needs pictures of at least {SSIM_WINDOW_PX} px; got {height} x {width} px")
