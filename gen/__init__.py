"""Generators and anti-aliased layers: the core of steadypix."""
