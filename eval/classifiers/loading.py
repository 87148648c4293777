"""Classifiers by what a user types: a run of ours, or any of torchvision's networks by name."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from steadypix.budget import Part, require
from steadypix.data.labelled.labelled import Labelled, open_labelled
from steadypix.errors import InputError, printable
from steadypix.eval.classifiers.file import CANVAS_PX, FILE, PLACES, WINDOW_PX, Classifier, load_classifier
from steadypix.eval.classifiers.nets import FULL_WIDTH
from steadypix.eval.generators.formats import CALLABLE, require_trust
from steadypix.eval.torchvision_shim import import_torchvision
from steadypix.gen.networks.cost import FLOAT_BYTES

MAPS = 3  # of full width and the window's size that a forward pass holds
# A part of a dense layer as torchvision's own files name it: `norm.1.weight`, of what is now `norm1`.
DENSE_PART = re.compile(r"(.*\bdenselayer\d+\.(?:norm|relu|conv))\.([12]\..+)")


def load_any(model: str, device: str = "cpu", *, trust: bool = False) -> Classifier:
    """Load a run or its file, `resnet18` (torchvision's weights), or `resnet18=FILE` (its state dict).

    Or `package.module:function`, also with `=FILE`, such as `timm.models:resnet18`, if `trust` is given; see
    `eval.classifiers.called`.

    Raises:
        InputError: if there is no such file and no such network, the weights cannot be had, or trust is
            needed.
        CheckpointError: if a file cannot be used.
    """
    if Path(model).exists():
        return load_classifier(model, device)
    name, found, file = model.partition("=")
    if CALLABLE.fullmatch(name):
        from steadypix.eval.classifiers.called import load_called

        require_trust(Path(name), "callable", trust=trust)
        return load_called(name, Path(file) if found else None, device)
    if not is_torchvisions(name):
        raise InputError(
            f"{model}: no such file; expected a run, its {FILE}, the name of one of torchvision's "
            "classifiers such as resnet18 or vgg16_bn, or package.module:function"
        )
    return load_torchvision(name, Path(file) if found else None, device)


def is_torchvisions(name: str) -> bool:
    """Whether torchvision has a classifier of this name."""
    models = import_torchvision("torchvision.models")
    return name in models.list_models(module=models)


def load_torchvision(name: str, weights: Path | None, device: str = "cpu") -> Classifier:
    """Load one of torchvision's networks with its ImageNet weights, never with random ones.

    Networks with a 224 px window are measured as Zhang (2019) did: torchvision's first weights (V1), pictures
    resized to 256 px bilinearly, offsets 0 to 31. Others have the window, the canvas and the resampling of
    their weights, and all the room there is. `weights` is torchvision's state dict; None takes it from
    torchvision's cache or server.

    Raises:
        InputError: if the weights cannot be had.
        CheckpointError: if the file is not that network's state dict.
    """
    models = import_torchvision("torchvision.models")
    released = models.get_model_weights(name)
    published = getattr(released, "IMAGENET1K_V1", released.DEFAULT)  # a few networks have no such weights
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
        found = read_state(weights, f"expected torchvision's {name} as a state dict")
        # A file may be from before torch counted batches.
        counted = {k: count for k, count in module.state_dict().items() if k.endswith(".num_batches_tracked")}
        state = counted | {DENSE_PART.sub(r"\1\2", key): tensor for key, tensor in found.items()}
        check_fit(weights, state, module.state_dict())
        module.load_state_dict(state)
        origin = {"weights": weights.name}
    rule = published.transforms()
    classes, window = len(published.meta["categories"]), rule.crop_size[0]
    scale = tuple(rule.mean), tuple(rule.std)
    module = module.to(device).eval()
    sides = window, max(window, rule.resize_size[0])
    network = Classifier(name, module, None, classes, *sides, *scale, origin)
    if window == WINDOW_PX:
        return replace(network, canvas_px=CANVAS_PX, places=PLACES, resampling="bilinear")
    return replace(network, resampling=rule.interpolation.value)


def load_with_pictures(
    models: Sequence[str],
    data: str | None,
    split: str,
    limit: int | None,
    device: str,
    *,
    at_once: int,
    trust: bool = False,
) -> list[tuple[Classifier, Labelled]]:
    """Load classifiers under names of their own, each with the first `limit` pictures it is measured on.

    Networks see at most `at_once` pictures at a time.

    Raises:
        InputError: as `load_any`, `open_pictures` and `named_apart` raise it.
        TooLargeError: if what a network says of its pictures asks for more memory than may be taken.
    """
    from steadypix.eval.generators.models import named_apart

    networks = []
    for model in models:
        classifier = load_any(model, device, trust=trust)
        if "assumed" in classifier.provenance:
            note = f"{classifier.name}: {classifier.provenance['assumed']}"
            print(printable(note), file=sys.stderr)
        pictures = open_pictures(classifier, data, split).first(limit)
        _require_memory(classifier, min(at_once, len(pictures)), device)
        networks.append((classifier, pictures))
    names = named_apart([classifier.name for classifier, _ in networks], models)
    return [(replace(network, name=name), of) for (network, of), name in zip(networks, names, strict=True)]


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
    pictures = open_labelled(source, split, channels=classifier.in_channels)
    return replace(pictures, resampling=classifier.resampling)


def _require_memory(classifier: Classifier, at_once: int, device: str) -> None:
    """Check that canvases, windows and the maps of a few layers fit; what a network takes is not known."""
    window, canvas = classifier.window_px, classifier.canvas_px
    maps = 0 if device == "cuda" else MAPS * FULL_WIDTH * window**2
    n_bytes = at_once * (classifier.in_channels * canvas**2 + FLOAT_BYTES * maps)
    what = f"{classifier.name} on windows of {window} px in pictures of {canvas} px, {at_once} at a time"
    require(Part(n_bytes, what, "a network of smaller windows, or a smaller --batch_size or --limit"))


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
