"""Stability and quality of image-to-image generators."""
