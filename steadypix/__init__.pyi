from .data.pairs.folders import PairedImages
from .data.pairs.procedural import SyntheticPairs
from .errors import CheckpointError, InputError
from .eval.accumulate.pairs import PairStability
from .eval.accumulate.torchmetric import ShiftStability
from .eval.generators.hub import from_pretrained, push_to_hub, save_pretrained
from .eval.generators.loading import list_generators, load_generator
from .eval.metrics.eqt import eqt
from .eval.metrics.pan import pan_flicker
from .eval.metrics.stability import Stability, shift_stability
from .eval.sequence.scores import temporal_flickering, warp_error
from .eval.shifts.offsets import parse_shifts
from .gen.layers.filters import FILTERS, binomial_taps
from .gen.layers.gated_pool import GatedPool2d
from .gen.layers.resample import BlurPool2d, BlurUpsample2d, MaxBlurPool2d
from .gen.networks.patchgan import PatchDiscriminator, PixelDiscriminator
from .gen.networks.resnet import ResnetGenerator
from .gen.networks.unet import UNetGenerator
from .gen.retrofit.antialias import antialias
from .gen.retrofit.circular import make_circular
from .gen.retrofit.dense import make_dense
from .gen.weights.generators import load_weights, save_generator

__version__: str

__all__ = [
    "FILTERS",
    "BlurPool2d",
    "BlurUpsample2d",
    "CheckpointError",
    "GatedPool2d",
    "InputError",
    "MaxBlurPool2d",
    "PairStability",
    "PairedImages",
    "PatchDiscriminator",
    "PixelDiscriminator",
    "ResnetGenerator",
    "ShiftStability",
    "Stability",
    "SyntheticPairs",
    "UNetGenerator",
    "antialias",
    "binomial_taps",
    "eqt",
    "from_pretrained",
    "list_generators",
    "load_generator",
    "load_weights",
    "make_circular",
    "make_dense",
    "pan_flicker",
    "parse_shifts",
    "push_to_hub",
    "save_generator",
    "save_pretrained",
    "shift_stability",
    "temporal_flickering",
    "warp_error",
]
