"""Train a small classifier: SGD, one cosine, a state after every epoch, so that a killed run goes on."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.classifier_file import FILE, Classifier, save_classifier
from eval.classifier_nets import ClassifierConfig, build_classifier

if TYPE_CHECKING:
    from torch import Tensor, nn

    from data.labelled import Labelled

STATE = "state.safetensors"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a classifier is trained; the same for every network that is compared."""

    window_px: int = 32
    canvas_px: int = 40
    """pictures lie on a canvas of this side; training sees its middle alone unless `random_shifts`"""
    random_shifts: bool = False
    """augment by windows from anywhere on the canvas, as ImageNet recipes do"""
    flip: bool = True
    """augment by mirroring"""
    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 0.05
    """at its peak"""
    warmup: float = 0.1
    """part of the steps over which it rises"""
    momentum: float = 0.9
    weight_decay: float = 5e-4


def train_classifier(
    config: ClassifierConfig,
    pictures: Labelled,
    recipe: Recipe,
    out: Path,
    *,
    seed: int = 0,
    device: str = "cpu",
    report: Callable[[int, float], None] | None = None,
) -> None:
    """Train a network and write `out/classifier.safetensors`; an earlier call that was cut is gone on with.

    The order of pictures and their augmentation are functions of (seed, epoch), the first weights of the seed
    alone, so networks with the same seed see the same in the same order.

    Args:
        config: of the network.
        pictures: with labels.
        recipe: how.
        out: the run's directory.
        seed: of everything random.
        device: where to train.
        report: called with the epoch and its mean loss.

    Raises:
        OSError: if the disk is full; the state of the epoch before stays.
    """
    import torch

    mean, std = statistics(pictures, recipe)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_classifier(config).to(device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=True,
    )
    classifier = Classifier(
        out.name,
        model,
        config,
        config.classes,
        recipe.window_px,
        recipe.canvas_px,
        (mean,) * config.in_channels,
        (std,) * config.in_channels,
        {
            "seed": seed,
            "recipe": asdict(recipe),
            "pictures": pictures.source,
            "n_images": len(pictures),
            "pictures_sha256": pictures.sha256(),
        },
    )
    heading = {"config": asdict(config), "provenance": dict(classifier.provenance)}
    labels = torch.from_numpy(pictures.labels)
    canvases = pictures.canvases(range(len(pictures)), recipe.canvas_px)
    per_epoch = -(-len(pictures) // recipe.batch_size)
    first, seconds = _resume(out / STATE, heading, model, optimizer)
    started = time.perf_counter() - seconds
    for epoch in range(first, recipe.epochs):
        model.train()
        rng = np.random.default_rng((seed, epoch))
        order = rng.permutation(len(pictures))
        losses = []
        for step in range(per_epoch):
            chosen = order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
            x = classifier.prepare(windows_of(canvases[chosen], recipe, rng))
            x = x.contiguous(memory_format=torch.channels_last)
            done = (epoch * per_epoch + step) / (recipe.epochs * per_epoch)
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * schedule(done, recipe.warmup)
            loss = torch.nn.functional.cross_entropy(model(x), labels[chosen].to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        if report:
            report(epoch + 1, float(np.mean(losses)))
        if epoch + 1 < recipe.epochs:
            so_far = {"epoch": epoch + 1, "seconds": time.perf_counter() - started}
            _save_state(out / STATE, {**heading, **so_far}, model, optimizer)
    seconds = round(time.perf_counter() - started, 1)
    provenance = {**classifier.provenance, "seconds": seconds}
    save_classifier(out / FILE, dataclasses.replace(classifier, provenance=provenance))
    (out / STATE).unlink(missing_ok=True)


def schedule(done: float, warmup: float) -> float:
    """Return the learning rate over its peak once a part `done` is over: linear up, a half cosine down."""
    if done < warmup:
        return max(done / warmup, 0.01)
    return 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))


def statistics(pictures: Labelled, recipe: Recipe) -> tuple[float, float]:
    """Return mean and standard deviation of the middle windows, on [0, 1]."""
    middle = _middle(pictures.canvases(range(len(pictures)), recipe.canvas_px), recipe).double() / 255
    return middle.mean().item(), max(middle.std().item(), 1e-3)


def windows_of(canvases: Tensor, recipe: Recipe, rng: np.random.Generator) -> Tensor:
    """Cut windows (B, C, W, W) out of canvases, augmented as the recipe says."""
    import torch

    windows = _middle(canvases, recipe)
    if recipe.random_shifts:
        places = rng.integers(0, recipe.canvas_px - recipe.window_px + 1, (len(canvases), 2)).tolist()
        side = recipe.window_px
        windows = torch.stack(
            [
                x[:, top : top + side, left : left + side]
                for x, (top, left) in zip(canvases, places, strict=True)
            ]
        )
    if recipe.flip:
        mirrored = torch.from_numpy(rng.random(len(canvases)) < 0.5)
        windows = torch.where(mirrored[:, None, None, None], windows.flip(-1), windows)
    return windows


def _middle(canvases: Tensor, recipe: Recipe) -> Tensor:
    start, side = (recipe.canvas_px - recipe.window_px) // 2, recipe.window_px
    return canvases[..., start : start + side, start : start + side]


def _save_state(path: Path, metadata: dict[str, Any], model: nn.Module, optimizer: Any) -> None:
    from gen.checkpoint import write_tensors

    tensors = {f"model.{key}": value for key, value in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        tensors[f"momentum.{name}"] = optimizer.state[parameter]["momentum_buffer"]
    write_tensors(path, tensors, metadata)


def _resume(path: Path, heading: dict[str, Any], model: nn.Module, optimizer: Any) -> tuple[int, float]:
    """Load what `_save_state` wrote, if it is of this very run; return epochs and seconds done."""
    from gen.checkpoint import check_fit, read_tensors

    if not path.is_file():
        return 0, 0.0
    tensors, found = read_tensors(path)
    epoch, seconds = found.pop("epoch", None), found.pop("seconds", None)
    if found != _as_json(heading) or type(epoch) is not int or not isinstance(seconds, float):
        return 0, 0.0
    parameters = dict(model.named_parameters())
    expected = {f"model.{key}": value for key, value in model.state_dict().items()}
    expected |= {f"momentum.{name}": value for name, value in parameters.items()}
    check_fit(path, tensors, expected)
    model.load_state_dict({key: tensors[f"model.{key}"] for key in model.state_dict()})
    for name, parameter in parameters.items():
        momentum = tensors[f"momentum.{name}"].to(parameter.device)
        # In the parameter's own memory format, so that the sums of a resumed run are the same to the bit.
        optimizer.state[parameter]["momentum_buffer"] = momentum.to(memory_format=_format_of(parameter))
    return epoch, seconds


def _format_of(parameter: Tensor) -> Any:
    import torch

    channels_last = parameter.ndim == 4 and parameter.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if channels_last else torch.contiguous_format


def _as_json(value: Any) -> Any:
    import json

    return json.loads(json.dumps(value))
