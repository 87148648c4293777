"""Paired pictures: folders in pix2pix's layouts, and procedural ones.

Names are imported on first use, so that a command's `--help` does not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data.errors import InputError
    from data.paired import PairedImages
    from data.pairs import Pairs
    from data.sampler import EpochSampler
    from data.synthetic_pairs import SyntheticPairs

_HOMES = {
    "EpochSampler": "data.sampler",
    "InputError": "data.errors",
    "PairedImages": "data.paired",
    "Pairs": "data.pairs",
    "SyntheticPairs": "data.synthetic_pairs",
}
__all__ = ["EpochSampler", "InputError", "PairedImages", "Pairs", "SyntheticPairs"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'data' has no attribute {name!r}")
