"""Anti-aliased image-to-image generators, and measurements of how outputs change when inputs move.

Everything public can be imported from here: layers, the retrofit, generators, stability, errors.
Names are imported on first use: `import steadypix` alone does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from steadypix.lazy import on_first_use

if TYPE_CHECKING:
    from steadypix.data.pairs.folders import PairedImages
    from steadypix.data.pairs.procedural import SyntheticPairs
    from steadypix.errors import CheckpointError, InputError
    from steadypix.eval.generators.loading import list_generators, load_generator
    from steadypix.eval.metrics.eqt import eqt
    from steadypix.eval.metrics.pan import pan_flicker
    from steadypix.eval.metrics.stability import Stability, shift_stability
    from steadypix.eval.shifts.offsets import parse_shifts
    from steadypix.gen.layers.filters import FILTERS, binomial_taps
    from steadypix.gen.layers.gated_pool import GatedPool2d
    from steadypix.gen.layers.resample import BlurPool2d, BlurUpsample2d, MaxBlurPool2d
    from steadypix.gen.networks.patchgan import PatchDiscriminator, PixelDiscriminator
    from steadypix.gen.networks.resnet import ResnetGenerator
    from steadypix.gen.networks.unet import UNetGenerator
    from steadypix.gen.retrofit.antialias import antialias
    from steadypix.gen.retrofit.circular import make_circular
    from steadypix.gen.retrofit.dense import make_dense
    from steadypix.gen.weights.generators import load_weights, save_generator

    __version__: str

__all__ = [
    "FILTERS",
    "BlurPool2d",
    "BlurUpsample2d",
    "CheckpointError",
    "GatedPool2d",
    "InputError",
    "MaxBlurPool2d",
    "PairedImages",
    "PatchDiscriminator",
    "PixelDiscriminator",
    "ResnetGenerator",
    "Stability",
    "SyntheticPairs",
    "UNetGenerator",
    "antialias",
    "binomial_taps",
    "eqt",
    "list_generators",
    "load_generator",
    "load_weights",
    "make_circular",
    "make_dense",
    "pan_flicker",
    "parse_shifts",
    "save_generator",
    "shift_stability",
]

_HOMES = {
    "steadypix.data.pairs.folders": ["PairedImages"],
    "steadypix.data.pairs.procedural": ["SyntheticPairs"],
    "steadypix.errors": ["CheckpointError", "InputError"],
    "steadypix.eval.generators.loading": ["list_generators", "load_generator"],
    "steadypix.eval.metrics.eqt": ["eqt"],
    "steadypix.eval.metrics.pan": ["pan_flicker"],
    "steadypix.eval.metrics.stability": ["Stability", "shift_stability"],
    "steadypix.eval.shifts.offsets": ["parse_shifts"],
    "steadypix.gen.layers.filters": ["FILTERS", "binomial_taps"],
    "steadypix.gen.layers.gated_pool": ["GatedPool2d"],
    "steadypix.gen.layers.resample": ["BlurPool2d", "BlurUpsample2d", "MaxBlurPool2d"],
    "steadypix.gen.networks.patchgan": ["PatchDiscriminator", "PixelDiscriminator"],
    "steadypix.gen.networks.resnet": ["ResnetGenerator"],
    "steadypix.gen.networks.unet": ["UNetGenerator"],
    "steadypix.gen.retrofit.antialias": ["antialias"],
    "steadypix.gen.retrofit.circular": ["make_circular"],
    "steadypix.gen.retrofit.dense": ["make_dense"],
    "steadypix.gen.weights.generators": ["load_weights", "save_generator"],
}
_getattr, __dir__ = on_first_use(__name__, _HOMES)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from steadypix.command import version

        return version()
    return _getattr(name)
