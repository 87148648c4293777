"""Generators and anti-aliased layers: the core of steadypix."""

from gen.antialias import antialias
from gen.checkpoint import CheckpointError, load_generator, load_weights, save_generator
from gen.circular import make_circular
from gen.dense import make_dense
from gen.filters import FILTERS, binomial_taps
from gen.gated_pool import GatedPool2d
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
    "GatedPool2d",
    "MaxBlurPool2d",
    "PatchDiscriminator",
    "PixelDiscriminator",
    "ResnetGenerator",
    "UNetGenerator",
    "antialias",
    "binomial_taps",
    "load_generator",
    "load_published",
    "load_weights",
    "make_circular",
    "make_dense",
    "save_generator",
]
