"""Shifts: exact offsets, the protocols that make them, fractions of a pixel."""

from steadypix.eval.shifts.offsets import AXES, Offset, Shift, offsets_along, parse_shifts
from steadypix.eval.shifts.protocols import PROTOCOLS, Protocol, make_protocol

__all__ = [
    "AXES",
    "PROTOCOLS",
    "Offset",
    "Protocol",
    "Shift",
    "make_protocol",
    "offsets_along",
    "parse_shifts",
]
