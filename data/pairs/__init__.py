"""Pairs of pictures for training and evaluation, from folders or procedural."""
