"""Classifiers as files: weights, what the network is, and where it comes from, in one safetensors file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steadypix.errors import CheckpointError, InputError
from steadypix.eval.classifiers.nets import ClassifierConfig, build_classifier
from steadypix.json_checks import LARGEST_PX

if TYPE_CHECKING:
    from torch import Tensor, nn

FILE = "classifier.safetensors"
FORMAT = "steadypix.classifier.v1"
LEAST_STD = 1e-6  # what is divided by stays a number in float32
# What most networks for ImageNet see, and how Zhang's (2019) released code shifts it: by 0 to 31 px.
WINDOW_PX, CANVAS_PX, PLACES = 224, 256, 32


@dataclass(frozen=True)
class Classifier:
    """A network with what has to be known to give it pictures."""

    name: str
    module: nn.Module
    """in eval mode; takes what `prepare` returns, gives logits (B, classes)"""
    config: ClassifierConfig | None
    """what our own file says of it; None of torchvision's"""
    classes: int
    window_px: int
    """side of what it sees"""
    canvas_px: int
    """side of the pictures that windows are cut from"""
    mean: tuple[float, ...]
    """of its training pictures, a number a channel, on [0, 1]; so is `std`"""
    std: tuple[float, ...]
    provenance: Mapping[str, Any]
    """where the weights come from"""
    places: int | None = None
    """how many offsets an axis consistency draws from, the first at the canvas's left and top; None: all"""
    resampling: str = "lanczos"
    """how picture files are brought to the canvas: `lanczos`, `bilinear` or `bicubic`, each antialiased"""

    @property
    def in_channels(self) -> int:
        """Channels of the pictures."""
        return len(self.mean)

    def prepare(self, pixels: Tensor) -> Tensor:
        """Return what the network takes for windows (B, C, H, W): uint8, or floats in [0, 1]."""
        import torch

        parameter = next(self.module.parameters(), None)
        device = torch.device("cpu") if parameter is None else parameter.device
        x = pixels.to(device)
        x = x.float() / 255 if x.dtype == torch.uint8 else x.float()
        mean, std = (torch.tensor(part, device=device)[:, None, None] for part in (self.mean, self.std))
        return (x - mean) / std

    def logits(self, pixels: Tensor, *, batch_size: int = 256) -> Tensor:
        """Return (B, classes) on the CPU for windows (B, C, H, W); see `prepare`."""
        import torch

        with torch.inference_mode():
            return torch.cat([self.module(self.prepare(part)).cpu() for part in pixels.split(batch_size)])

    def predictions(self, pixels: Tensor, *, batch_size: int = 256) -> Tensor:
        """Return the likeliest class of each window, (B,) on the CPU."""
        return self.logits(pixels, batch_size=batch_size).argmax(1)


def save_classifier(path: Path, classifier: Classifier) -> None:
    """Write a classifier, whole or not at all, so that `load_classifier` needs nothing else."""
    from steadypix.gen.weights.tensors import write_tensors

    assert classifier.config is not None
    metadata = {
        "format": FORMAT,
        "config": dataclasses.asdict(classifier.config),
        "pictures": {name: getattr(classifier, name) for name in ("window_px", "canvas_px", "mean", "std")},
        "provenance": dict(classifier.provenance),
    }
    write_tensors(path, classifier.module.state_dict(), metadata)


def load_classifier(path: str | Path, device: str = "cpu", *, name: str | None = None) -> Classifier:
    """Load a classifier from its file or run directory.

    Raises:
        CheckpointError: if the file is missing, damaged, no classifier of ours, or its weights do not fit.
        InputError: if its metadata describe no network.
    """
    import torch

    from steadypix.gen.weights.tensors import check_fit, read_tensors

    path = Path(path)
    path = path / FILE if path.is_dir() else path
    tensors, metadata = read_tensors(path)
    config, pictures = metadata.get("config"), metadata.get("pictures")
    if metadata.get("format") != FORMAT or not isinstance(config, dict) or not isinstance(pictures, dict):
        raise CheckpointError(f"{path}: is no steadypix classifier (no {FORMAT} metadata in it)")
    try:
        built = ClassifierConfig(**config)
        mean = floats("mean", pictures["mean"], built.in_channels, 0)
        std = floats("std", pictures["std"], built.in_channels, LEAST_STD)
        sizes = pictures["window_px"], pictures["canvas_px"]
        check_sides(*sizes)
        with torch.device("meta"):  # shapes are compared before memory is spent on weights
            expected = build_classifier(built).state_dict()
    except InputError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except (TypeError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: its metadata cannot be used ({error})") from None
    check_fit(path, tensors, expected)
    module = build_classifier(built)
    module.load_state_dict(tensors)
    origin = metadata.get("provenance")
    origin = origin if isinstance(origin, dict) else {}
    name = name or (path.parent.name if path.name == FILE else path.stem)
    return Classifier(name, module.to(device).eval(), built, built.classes, *sizes, mean, std, origin)


def check_sides(window_px: Any, canvas_px: Any) -> None:
    """Raise ValueError unless these are sides of a window and of a canvas that holds it."""
    sides = window_px, canvas_px
    if not all(type(side) is int and 0 < side <= LARGEST_PX for side in sides) or window_px > canvas_px:
        raise ValueError(f"window_px and canvas_px {sides}")


def floats(name: str, values: Any, count: int, least: float) -> tuple[float, ...]:
    """Return `count` numbers from `least` to 1; NaN is none, nor is `true` or a text that reads as one."""
    if not isinstance(values, list) or len(values) != count:
        raise ValueError(f"{name} {values!r}: {count} numbers expected")
    if not all(type(value) in (int, float) and least <= value <= 1 for value in values):
        raise ValueError(f"{name} {values!r}: numbers from {least:g} to 1 expected")
    return tuple(map(float, values))
