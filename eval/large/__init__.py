"""Measures of how far a generator's output depends on what lies far away: tiles, context, statistics."""
