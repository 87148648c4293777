"""Data sets looked through before a training: what is there, what is broken, what is odd."""
