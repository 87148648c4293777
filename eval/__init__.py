"""Stability and quality of image-to-image generators. Names are imported on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from steadypix.lazy import on_first_use

if TYPE_CHECKING:
    from steadypix.eval.generators.loading import list_generators, load_generator
    from steadypix.eval.metrics.eqt import eqt
    from steadypix.eval.metrics.pan import pan_flicker
    from steadypix.eval.metrics.stability import Stability, shift_stability
    from steadypix.eval.shifts.offsets import parse_shifts

__all__ = [
    "Stability",
    "eqt",
    "list_generators",
    "load_generator",
    "pan_flicker",
    "parse_shifts",
    "shift_stability",
]

_HOMES = {
    "steadypix.eval.generators.loading": ["list_generators", "load_generator"],
    "steadypix.eval.metrics.eqt": ["eqt"],
    "steadypix.eval.metrics.pan": ["pan_flicker"],
    "steadypix.eval.metrics.stability": ["Stability", "shift_stability"],
    "steadypix.eval.shifts.offsets": ["parse_shifts"],
}
__getattr__, __dir__ = on_first_use(__name__, _HOMES)
