"""Paired pictures: folders in pix2pix's layouts, and procedural ones. Names are imported on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from steadypix.lazy import on_first_use

if TYPE_CHECKING:
    from steadypix.data.pairs.base import Pairs
    from steadypix.data.pairs.folders import PairedImages
    from steadypix.data.pairs.procedural import SyntheticPairs
    from steadypix.data.pairs.sampler import EpochSampler
    from steadypix.errors import InputError

__all__ = [
    "EpochSampler",
    "InputError",
    "PairedImages",
    "Pairs",
    "SyntheticPairs",
]

_HOMES = {
    "steadypix.data.pairs.base": ["Pairs"],
    "steadypix.data.pairs.folders": ["PairedImages"],
    "steadypix.data.pairs.procedural": ["SyntheticPairs"],
    "steadypix.data.pairs.sampler": ["EpochSampler"],
    "steadypix.errors": ["InputError"],
}
__getattr__, __dir__ = on_first_use(__name__, _HOMES)
