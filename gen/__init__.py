"""Generators and anti-aliased layers: the core of steadypix."""

from gen.checkpoint import CheckpointError, load_generator, load_weights, save_generator
from gen.filters import FILTERS, binomial_taps
from gen.patchgan import PatchDiscriminator, PixelDiscriminator
from gen.published import load_published
from gen.resample import BlurPool2d, BlurUpsample2d, MaxBlurPool2d
from gen.resnet import ResnetGenerator
from gen.unet import UNetGenerator

__all__ = [
    "FILTERS",
    "BlurPool2d",
    "BlurUpsample2d",
    "CheckpointError",
    "MaxBlurPool2d",
    "PatchDiscriminator",
    "PixelDiscriminator",
    "ResnetGenerator",
    "UNetGenerator",
    "binomial_taps",
    "load_generator",
    "load_published",
    "load_weights",
    "save_generator",
]
