"""Stability and quality of image-to-image generators.

Names are imported on first use, so that a command's `--help` does not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eval.shifts import parse_shifts
    from eval.stability import Stability, shift_stability

_HOMES = {
    "Stability": "eval.stability",
    "parse_shifts": "eval.shifts",
    "shift_stability": "eval.stability",
}
__all__ = ["Stability", "parse_shifts", "shift_stability"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'eval' has no attribute {name!r}")
