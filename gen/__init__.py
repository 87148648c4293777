"""Generators and anti-aliased layers: the core of steadypix. Names are imported on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from steadypix.lazy import on_first_use

if TYPE_CHECKING:
    from steadypix.errors import CheckpointError
    from steadypix.gen.layers.filters import FILTERS, binomial_taps
    from steadypix.gen.layers.gated_pool import GatedPool2d
    from steadypix.gen.layers.resample import BlurPool2d, BlurUpsample2d, MaxBlurPool2d
    from steadypix.gen.networks.patchgan import PatchDiscriminator, PixelDiscriminator
    from steadypix.gen.networks.resnet import ResnetGenerator
    from steadypix.gen.networks.unet import UNetGenerator
    from steadypix.gen.retrofit.antialias import antialias
    from steadypix.gen.retrofit.circular import make_circular
    from steadypix.gen.retrofit.dense import make_dense
    from steadypix.gen.weights.generators import load_generator, load_weights, save_generator
    from steadypix.gen.weights.published import load_published

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

_HOMES = {
    "steadypix.errors": ["CheckpointError"],
    "steadypix.gen.layers.filters": ["FILTERS", "binomial_taps"],
    "steadypix.gen.layers.gated_pool": ["GatedPool2d"],
    "steadypix.gen.layers.resample": ["BlurPool2d", "BlurUpsample2d", "MaxBlurPool2d"],
    "steadypix.gen.networks.patchgan": ["PatchDiscriminator", "PixelDiscriminator"],
    "steadypix.gen.networks.resnet": ["ResnetGenerator"],
    "steadypix.gen.networks.unet": ["UNetGenerator"],
    "steadypix.gen.retrofit.antialias": ["antialias"],
    "steadypix.gen.retrofit.circular": ["make_circular"],
    "steadypix.gen.retrofit.dense": ["make_dense"],
    "steadypix.gen.weights.generators": ["load_generator", "load_weights", "save_generator"],
    "steadypix.gen.weights.published": ["load_published"],
}
__getattr__, __dir__ = on_first_use(__name__, _HOMES)
