"""Shifts: exact offsets, the protocols that make them, fractions of a pixel."""
