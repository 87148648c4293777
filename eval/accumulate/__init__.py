"""Stability in loops of one's own: pairs of outputs, one after the other."""
