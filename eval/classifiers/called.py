"""Classifiers that a Python function returns: timm's, those of antialiased-cnns, and anyone's own."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from steadypix.errors import InputError
from steadypix.eval.classifiers.file import (
    CANVAS_PX,
    LEAST_STD,
    PLACES,
    WINDOW_PX,
    Classifier,
    check_sides,
    floats,
)
from steadypix.eval.generators.programs import call_function

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HOW = "give the network the attributes window_px, canvas_px, mean and std to say otherwise"


def load_called(spec: str, weights: Path | None, device: str = "cpu") -> Classifier:
    """Call `package.module:function` and take the network it returns for a classifier.

    A function that has an argument `pretrained`, as those of timm and antialiased-cnns have, is called with
    True, or with False where `weights` follow; so no network is measured with random ones by mistake.

    What the network is shown is told by its attributes `window_px`, `canvas_px`, `mean` and `std` (each
    optional), else by timm's `pretrained_cfg`, else assumed as for ImageNet, which `provenance` then says.

    Args:
        spec: package, module and function, found from the current folder too.
        weights: a state dict for the network, `.safetensors` or pickled.
        device: where to put it.

    Raises:
        InputError: if it cannot be called, or does not turn pictures into logits.
        CheckpointError: if the file does not fit the network.
    """
    module = call_function(spec, lambda function: _words(function, pretrained=weights is None)).eval()
    origin = {"weights": f"as {spec} returns them"}
    if weights is not None:
        _fill(module, weights)
        origin = {"weights": weights.name}
    shown, assumed = _pictures(spec, module)
    if assumed:
        origin["assumed"] = f"{', '.join(assumed)} as for ImageNet ({HOW})"
    classifier = Classifier(spec, module.to(device), None, 0, **shown, provenance=origin)
    shape = _probe(classifier)
    if len(shape) != 2 or shape[0] != 1:
        seen = (1, classifier.in_channels, *[classifier.window_px] * 2)
        raise InputError(f"{spec}: gives {shape} for pictures of shape {seen}; expected logits (B, classes)")
    return Classifier(spec, classifier.module, None, shape[1], **shown, provenance=origin)


def gives_logits(spec: str) -> bool:
    """Whether the network of `package.module:function` is a classifier: it gives logits for a window.

    Raises:
        InputError: if it cannot be called.
    """
    module = call_function(spec, lambda function: _words(function, pretrained=False)).eval()
    try:
        shown, _ = _pictures(spec, module)
        return len(_probe(Classifier(spec, module, None, 0, **shown, provenance={}))) == 2
    except InputError:  # whoever takes it for a generator says what is wrong
        return False


def _words(function: Callable[..., Any], *, pretrained: bool) -> dict[str, Any]:
    return {"pretrained": pretrained} if "pretrained" in inspect.signature(function).parameters else {}


def _fill(module: nn.Module, weights: Path) -> None:
    from steadypix.gen.weights.pickles import read_state
    from steadypix.gen.weights.tensors import check_fit, read_tensors

    wanted = "expected a state dict of the network"
    state = read_tensors(weights)[0] if weights.suffix == ".safetensors" else read_state(weights, wanted)
    check_fit(weights, state, module.state_dict())
    module.load_state_dict(state)


def _pictures(spec: str, module: nn.Module) -> tuple[dict[str, Any], list[str]]:
    """Return window, canvas, mean and std, and the names of those that nobody said.

    Raises:
        InputError: naming one that cannot be.
    """
    told = _timm(spec, getattr(module, "pretrained_cfg", None))
    for name in ("window_px", "canvas_px", "mean", "std"):
        value = getattr(module, name, None)
        if value is not None and not isinstance(value, Tensor | nn.Module):
            told[name] = value
    usual: dict[str, Any] = {"window_px": WINDOW_PX, "canvas_px": CANVAS_PX, "mean": MEAN, "std": STD}
    assumed = [name for name in usual if name not in told]
    if "window_px" in told and "canvas_px" not in told:
        # The same part of the picture as usual.
        usual["canvas_px"] = round(told["window_px"] * CANVAS_PX / WINDOW_PX)
    if "canvas_px" in assumed and "window_px" in assumed:
        usual |= {"places": PLACES, "resampling": "bilinear"}
    shown = usual | told
    try:
        for name, least in (("mean", 0.0), ("std", LEAST_STD)):
            shown[name] = floats(name, [*shown[name]], len(shown["mean"]), least)
        check_sides(shown["window_px"], shown["canvas_px"])
    except (TypeError, ValueError) as error:
        raise InputError(f"{spec}: what it says of its pictures cannot be used ({error}); {HOW}") from None
    return shown, assumed


def _timm(spec: str, config: Any) -> dict[str, Any]:
    """Return what timm's description of weights says; nothing where there is none."""
    if not isinstance(config, Mapping) or not {"input_size", "crop_pct", "mean", "std"} <= {*config}:
        return {}
    _, height, width = config["input_size"]
    if height != width:
        raise InputError(f"{spec}: its window is {width} x {height} px; expected a square one")
    canvas_px = max(width, math.floor(width / config["crop_pct"]))
    told = {"window_px": width, "canvas_px": canvas_px, "mean": config["mean"], "std": config["std"]}
    resampling = config.get("interpolation")
    return told | ({"resampling": resampling} if resampling in ("bilinear", "bicubic") else {})


def _probe(classifier: Classifier) -> tuple[int, ...]:
    """Return the shape of what the network gives for one grey window.

    Raises:
        InputError: if it gives no tensor, or fails.
    """
    side = classifier.window_px
    window = torch.full((1, classifier.in_channels, side, side), 0.5)
    try:
        with torch.inference_mode():
            logits = classifier.module(classifier.prepare(window))
    except Exception as error:  # whatever a foreign network raises, its user needs one line
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        seen = tuple(window.shape)
        raise InputError(f"{classifier.name}: cannot take pictures of shape {seen} ({reason})") from error
    if not isinstance(logits, Tensor):
        raise InputError(f"{classifier.name}: gives {type(logits).__name__}; expected logits (B, classes)")
    return tuple(logits.shape)
