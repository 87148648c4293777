"""Flicker of sequences that anyone made: frames in folders, videos."""
