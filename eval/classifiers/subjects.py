"""A network with its inputs, and its feature distances as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from steadypix.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from steadypix.data.labelled.labelled import Labelled
    from steadypix.eval.classifiers.file import Classifier
    from steadypix.eval.generators.models import Model


@dataclass(frozen=True)
class Subject:
    """A network in eval mode and what it is given."""

    name: str
    module: nn.Module
    inputs: Tensor
    """(N, C, H, W), as it takes them"""
    origin: dict[str, Any]
    """of its weights, and of the pictures"""


def measure_subject(
    subject: Subject, shifts: Sequence[int], *, depth: int = 2, batch_size: int = 8
) -> dict[str, Any]:
    """Return a network's distances as JSON has them, for every (dx, dy) of `shifts`."""
    from steadypix.eval.classifiers.features import FeatureDistance, downsampling_layers, layer_names

    moves = [(dx, dy) for dy in shifts for dx in shifts]
    names = layer_names(subject.module, subject.inputs[:1], depth=depth)
    if not names:
        raise InputError(f"{subject.name}: has no layers with maps at --depth {depth}")
    distance = FeatureDistance(subject.module, names, moves)
    for batch in subject.inputs.split(batch_size):
        distance.add(batch)
    moving = np.array([move != (0, 0) for move in moves])
    layers = {
        name: {
            "stride": distance.strides[name],
            # The shift by nothing is 0 by definition.
            "mean": float(values[moving].mean()) if moving.any() else 0.0,
            "distance": values.reshape(len(shifts), len(shifts)).tolist(),
        }
        for name, values in distance.result().items()
    }
    return {
        "name": subject.name,
        **subject.origin,
        "dx": list(shifts),
        "dy": list(shifts),
        "downsampling": downsampling_layers(distance.strides),
        "layers": layers,
    }


def classifier_subject(classifier: Classifier, pictures: Labelled, *, circular: bool) -> Subject:
    """Return a classifier with the middle windows of pictures; `circular` changes its borders for good.

    Raises:
        InputError: naming a network whose borders cannot be circular.
    """
    from steadypix.eval.classifiers.consistency import protocol_of

    if circular:
        _wrap_around(classifier.module, classifier.name)
    canvases = pictures.canvases(range(len(pictures)), classifier.canvas_px)
    inputs = classifier.prepare(protocol_of(classifier, "crop").base(canvases))
    origin = {"weights": dict(classifier.provenance), "source": pictures.source}
    return Subject(classifier.name, classifier.module, inputs, origin)


def generator_subject(model: Model, inputs: Tensor, source: str, *, circular: bool) -> Subject:
    """Return a generator with its inputs; `circular` gives it circular borders.

    Raises:
        InputError: naming a generator whose layers cannot be seen, or whose borders cannot be circular.
    """
    from steadypix.eval.generators.formats import FORMATS
    from steadypix.gen.weights.generators import build_generator

    module = model.module
    if model.format == "callable":
        module = module.get_submodule("module")  # what the function returned
        if circular:
            _wrap_around(module, str(model.path))
    elif model.format not in ("steadypix", "pix2pix"):
        raise InputError(
            f"{model.path}: is {FORMATS[model.format]}, whose layers cannot be seen; expected its weights, "
            "or package.module:function that returns the network"
        )
    elif circular:  # built anew: transposed convs have no borders to change
        arguments = {**model.config["generator"], "padding": "circular"}
        module = build_generator(model.path, arguments, module.state_dict()).to(inputs.device).eval()
    origin = {"weights": model.describe()["provenance"], "source": source}
    return Subject(model.name, module, inputs, origin)


def _wrap_around(module: nn.Module, name: str) -> None:
    from torch import nn

    from steadypix.gen.retrofit.circular import make_circular

    pads = (nn.ReflectionPad2d, nn.ReplicationPad2d, nn.ZeroPad2d)
    # Networks such as those of antialiased-cnns pad in a layer of their own.
    for parent in [*module.modules()]:
        for key, layer in parent.named_children():
            if isinstance(layer, pads):
                setattr(parent, key, nn.CircularPad2d(layer.padding))
    try:
        make_circular(module)
    except ValueError as error:
        raise InputError(f"{name}: {error}; expected --borders own") from None
