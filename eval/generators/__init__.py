"""Generators of every format behind one loader."""
