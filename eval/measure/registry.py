"""Everything that an evaluation can measure. A new measure is a line here and a file of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from steadypix.errors import InputError
from steadypix.eval.large.causes import CauseScores
from steadypix.eval.large.context import ContextScores
from steadypix.eval.large.locality import LocalityScores
from steadypix.eval.large.seam import SeamScores
from steadypix.eval.metrics import quality
from steadypix.eval.metrics.eqt import EqtScores
from steadypix.eval.metrics.eqt_frac import EqtFracScores
from steadypix.eval.metrics.lpips_metric import LpipsScores
from steadypix.eval.metrics.measure import Column, Measure
from steadypix.eval.metrics.pan import PanScores
from steadypix.eval.metrics.perturb import PerturbationScores
from steadypix.eval.metrics.spectrum import Checkerboard, Spectrum
from steadypix.eval.metrics.stability import CropScores, RollScores, SubpixelScores
from steadypix.eval.repeat.shown import floor_columns

# The order is that of forward passes, of results.json, and of columns but for the protocols, which lead.
_ALL: tuple[type[Measure], ...] = (
    quality.L1,
    quality.Psnr,
    quality.TotalVariation,
    quality.Ssim,
    LpipsScores,
    Spectrum,
    Checkerboard,
    quality.TvRatio,
    PerturbationScores,
    CropScores,
    RollScores,
    SubpixelScores,
    ContextScores,
    CauseScores,
    EqtScores,
    EqtFracScores,
    PanScores,
    LocalityScores,
    SeamScores,
)
MEASURES: dict[str, type[Measure]] = {measure.name: measure for measure in _ALL}


def names_of(asked_by: str) -> list[str]:
    """Return the measures that are named in the list of an option, those that are always measured first."""
    found = [name for name, measure in MEASURES.items() if measure.asked_by == asked_by]
    return sorted(found, key=lambda name: not MEASURES[name].always)


def parse_names(text: str, asked_by: str) -> list[str]:
    """Read `crop,roll` or `all` into names of measures, each once.

    >>> parse_names("crop,roll,crop", "protocol")
    ['crop', 'roll']

    Raises:
        InputError: naming an unknown one.
    """
    known = names_of(asked_by)
    if text.strip() == "all":
        return known
    names = [part.strip() for part in text.split(",") if part.strip()]
    for name in names:
        if name not in known:
            raise InputError(f"--{asked_by} {name}: is unknown; expected all, or of {', '.join(known)}")
    return list(dict.fromkeys(names))


def read_asked(args: Any, protocols: Sequence[str], figures: Sequence[str]) -> dict[str, Any]:
    """Return the settings of every measure that is asked for, protocols in the order of the option.

    Raises:
        InputError: naming the option that cannot be understood.
    """
    named, in_order = {*figures, *protocols}, iter(protocols)
    # Protocols take each other's places: the first one asked for comes first.
    names = [
        next(in_order) if measure.asked_by == "protocol" else name
        for name, measure in MEASURES.items()
        if measure.asked_by != "protocol" or name in named
    ]
    settings = {n: MEASURES[n].read(args, named=n in named or MEASURES[n].always) for n in names}
    return {name: own for name, own in settings.items() if own is not None}


def gather(results: Mapping[str, Any], part: Callable[[type[Measure]], Sequence[Any]]) -> list[Any]:
    """Return what every measure has to say of results, protocols in their own order first."""
    leading = [name for name in results["protocols"] if name in MEASURES]
    order = [*leading, *(name for name in MEASURES if name not in leading)]
    order.sort(key=lambda name: MEASURES[name].asked_by == "quality")
    return [item for name in order for item in part(MEASURES[name])]


def columns(results: Mapping[str, Any]) -> list[Column]:
    """Return the columns of the table and of the report: stability first, quality last."""
    found = gather(results, lambda measure: measure.columns(results))
    # A floor stands beside what leads, at all its margins.
    place = sum(column.title == found[0].title for column in found)
    return [*found[:place], *floor_columns(results), *found[place:]]
