"""Classifiers by what a user types: a run of ours, or any of torchvision's networks by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steadypix.data.labelled.labelled import Labelled, open_labelled
from steadypix.errors import InputError
from steadypix.eval.classifiers.file import FILE, Classifier, load_classifier
from steadypix.eval.torchvision_shim import import_torchvision

if TYPE_CHECKING:
    from torch import Tensor

# A part of a dense layer as torchvision's own files name it: `norm.1.weight`, of what is now `norm1`.
DENSE_PART = re.compile(r"(.*\bdenselayer\d+\.(?:norm|relu|conv))\.([12]\..+)")


def load_any(model: str, device: str = "cpu") -> Classifier:
    """Load a classifier.

    Args:
        model: a run or its file, `resnet18` (torchvision's weights, from its cache or server), or
            `resnet18=FILE` (a state dict of torchvision's).
        device: where to put it.

    Raises:
        InputError: if there is no such file and no such network, or the weights cannot be had.
        CheckpointError: if a file cannot be used.
    """
    if Path(model).exists():
        return load_classifier(model, device)
    name, found, file = model.partition("=")
    if name not in known_names():
        raise InputError(
            f"{model}: no such file; expected a run, its {FILE}, or the name of one of torchvision's "
            "classifiers such as resnet18 or vgg16_bn"
        )
    return load_torchvision(name, Path(file) if found else None, device)


def known_names() -> list[str]:
    """Return the names of torchvision's classifiers."""
    models = import_torchvision("torchvision.models")
    names: list[str] = models.list_models(module=models)
    return names


def load_torchvision(name: str, weights: Path | None, device: str = "cpu") -> Classifier:
    """Load one of torchvision's networks with its ImageNet weights, never with random ones.

    Window, canvas and normalisation are those its weights were published with.

    Args:
        name: of the network.
        weights: torchvision's state dict; None takes it from torchvision's cache or server.
        device: where to put it.

    Raises:
        InputError: if the weights cannot be had.
        CheckpointError: if the file is not that network's state dict.
    """
    models = import_torchvision("torchvision.models")
    published = models.get_model_weights(name).DEFAULT
    if weights is None:
        try:
            module = models.get_model(name, weights=published)
        except (OSError, RuntimeError) as error:  # no network, a full disk; a download whose hash is wrong
            raise InputError(
                f"{name}: its weights cannot be downloaded ({error}); expected network, or {name}=FILE"
            ) from None
        origin = {"weights": f"torchvision {published}"}
    else:
        from steadypix.gen.weights.pickles import read_state
        from steadypix.gen.weights.tensors import check_fit

        module = _unfilled(models, name, published)
        state = read_state(weights, f"expected torchvision's {name} as a state dict")
        state = _as_today(state, module.state_dict())
        check_fit(weights, state, module.state_dict())
        module.load_state_dict(state)
        origin = {"weights": weights.name}
    rule = published.transforms()
    window = rule.crop_size[0]
    return Classifier(
        name,
        module.to(device).eval(),
        None,
        len(published.meta["categories"]),
        window,
        max(window, rule.resize_size[0]),
        tuple(rule.mean),
        tuple(rule.std),
        origin,
    )


def open_pictures(classifier: Classifier, data: str | None, split: str) -> Labelled:
    """Open the pictures a user names, else those that the network was trained on.

    Raises:
        InputError: if neither is there, or the network takes other channels than pictures have.
    """
    source = data or classifier.provenance.get("pictures")
    if not isinstance(source, str):
        raise InputError(f"{classifier.name}: does not know its pictures; expected --data DIR")
    if classifier.in_channels not in (1, 3):
        raise InputError(f"{classifier.name}: takes {classifier.in_channels} channels; expected 1 or 3")
    return open_labelled(source, split, channels=classifier.in_channels)


def _unfilled(models: Any, name: str, published: Any) -> Any:
    """Return a network whose weights are about to be replaced, as torchvision builds it for `published`."""
    words: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        # Trained on pictures normalised in another way, which the network itself brings about; and without
        # being warned of slow drawing.
        words = {"transform_input": True, "init_weights": False}
    elif name.startswith("vit_"):  # the shapes of its weights follow the picture's size
        words = {"image_size": published.meta["min_size"][0]}
    return models.get_model(name, weights=None, **words)


def _as_today(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict as of today, of one that may be from before torch counted batches."""
    counts = {key: count for key, count in expected.items() if key.endswith(".num_batches_tracked")}
    return counts | {DENSE_PART.sub(r"\1\2", key): tensor for key, tensor in state.items()}
