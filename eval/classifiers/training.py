"""Train a small classifier: SGD, one cosine, a state after every epoch, so that a killed run goes on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from steadypix.errors import InputError
from steadypix.eval.classifiers.file import FILE, Classifier, save_classifier
from steadypix.eval.classifiers.nets import ClassifierConfig, build_classifier

if TYPE_CHECKING:
    from torch import Tensor, nn

    from steadypix.data.labelled.labelled import Labelled

STATE = "state.safetensors"
HEADS = ("fc.", "classifier.")  # names of a last layer: of ResNets, of VGGs


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


@dataclass(frozen=True)
class Start:
    """Weights to fine-tune, and what has to be known of them."""

    state: Mapping[str, Tensor]
    """a state dict; what lies in `HEADS` is drawn anew"""
    mean: tuple[float, ...]
    """as the pictures of its own training were normalised; so is `std`"""
    std: tuple[float, ...]
    sha256: str
    """of the weights, for provenance"""


def train_classifier(
    config: ClassifierConfig,
    pictures: Labelled,
    recipe: Recipe,
    out: Path,
    *,
    seed: int = 0,
    device: str = "cpu",
    report: Callable[[int, float], None] | None = None,
    start: Start | None = None,
) -> None:
    """Train a network and write `out/classifier.safetensors`; an earlier call that was cut is gone on with.

    It starts from random weights, or from `start`, of which all but the last layer is taken.

    The order of pictures and their augmentation are functions of (seed, epoch), the first weights of the seed
    alone, so networks with the same seed see the same in the same order. `report` is called with every epoch
    and its mean loss.

    Raises:
        OSError: if the disk is full; the state of the epoch before stays.
        InputError: if `start` is of another network.
    """
    run = _Run(config, pictures, recipe, out, seed, device, start)
    first, seconds = run.resume()
    started = time.perf_counter() - seconds
    for epoch in range(first, recipe.epochs):
        loss = run.train_epoch(epoch)
        if report:
            report(epoch + 1, loss)
        if epoch + 1 < recipe.epochs:
            run.save_state(epoch + 1, time.perf_counter() - started)
    provenance = {**run.classifier.provenance, "seconds": round(time.perf_counter() - started, 1)}
    save_classifier(out / FILE, replace(run.classifier, provenance=provenance))
    run.state.unlink(missing_ok=True)


class _Run:
    """One training between its epochs; arguments as `train_classifier` has them."""

    def __init__(
        self,
        config: ClassifierConfig,
        pictures: Labelled,
        recipe: Recipe,
        out: Path,
        seed: int,
        device: str,
        start: Start | None,
    ) -> None:
        import torch

        self.canvases = pictures.canvases(range(len(pictures)), recipe.canvas_px)
        middle = _middle(self.canvases, recipe).double() / 255
        mean, std = middle.mean().item(), max(middle.std().item(), 1e-3)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = build_classifier(config).to(device)
        if start is not None:
            load_body(model, start.state)
        self.model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        how: dict[str, Any] = {"momentum": recipe.momentum, "weight_decay": recipe.weight_decay}
        self.optimizer = torch.optim.SGD(self.model.parameters(), recipe.learning_rate, **how, nesterov=True)
        provenance = {
            "seed": seed,
            "recipe": asdict(recipe),
            "pictures": pictures.source,
            "n_images": len(pictures),
            "pictures_sha256": pictures.sha256(),
        }
        sides, channels = (recipe.window_px, recipe.canvas_px), config.in_channels
        scale = (mean,) * channels, (std,) * channels
        if start is not None:
            scale = start.mean, start.std
            provenance["start_sha256"] = start.sha256
        self.classifier = Classifier(out.name, self.model, config, config.classes, *sides, *scale, provenance)
        self.heading = {"config": asdict(config), "provenance": provenance}
        self.recipe, self.seed, self.device, self.state = recipe, seed, device, out / STATE
        self.labels = torch.from_numpy(pictures.labels)

    def train_epoch(self, epoch: int) -> float:
        """Train on every picture once; return the mean loss."""
        import torch

        self.model.train()
        recipe = self.recipe
        rng = np.random.default_rng((self.seed, epoch))
        steps = torch.from_numpy(rng.permutation(len(self.labels))).split(recipe.batch_size)
        losses = []
        for step, chosen in enumerate(steps):
            x = self.classifier.prepare(windows_of(self.canvases[chosen], recipe, rng))
            x = x.contiguous(memory_format=torch.channels_last)
            done = (epoch * len(steps) + step) / (recipe.epochs * len(steps))
            for group in self.optimizer.param_groups:
                group["lr"] = recipe.learning_rate * schedule(done, recipe.warmup)
            loss = torch.nn.functional.cross_entropy(self.model(x), self.labels[chosen].to(self.device))
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
        return float(np.mean(losses))

    def save_state(self, epoch: int, seconds: float) -> None:
        """Write what is needed to go on after `epoch` epochs."""
        from steadypix.gen.weights.tensors import write_tensors

        tensors = {f"model.{key}": value for key, value in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            tensors[f"momentum.{name}"] = self.optimizer.state[parameter]["momentum_buffer"]
        write_tensors(self.state, tensors, {**self.heading, "epoch": epoch, "seconds": seconds})

    def resume(self) -> tuple[int, float]:
        """Load what `save_state` wrote, if it is of this very run; return epochs and seconds done."""
        import torch

        from steadypix.gen.weights.tensors import check_fit, read_tensors

        if not self.state.is_file():
            return 0, 0.0
        tensors, found = read_tensors(self.state)
        epoch, seconds = found.pop("epoch", None), found.pop("seconds", None)
        if found != self.heading or type(epoch) is not int or not isinstance(seconds, float):
            return 0, 0.0
        parameters, weights = dict(self.model.named_parameters()), self.model.state_dict()
        expected = {f"model.{key}": value for key, value in weights.items()}
        check_fit(self.state, tensors, expected | {f"momentum.{name}": p for name, p in parameters.items()})
        self.model.load_state_dict({key: tensors[f"model.{key}"] for key in weights})
        for name, parameter in parameters.items():
            # In the parameter's own memory format, so that a resumed run's sums are the same to the bit.
            momentum = torch.empty_like(parameter).copy_(tensors[f"momentum.{name}"])
            self.optimizer.state[parameter]["momentum_buffer"] = momentum
        return epoch, seconds


def load_body(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Fill all of a network but its last layer, which is of other classes.

    Raises:
        InputError: naming a weight that is missing, too many, or of another shape.
    """
    own = {key: value for key, value in model.state_dict().items() if not key.startswith(HEADS)}
    body = {key: value for key, value in state.items() if not key.startswith(HEADS)}
    for key in sorted(own.keys() | body.keys()):
        if key not in own or key not in body or own[key].shape != body[key].shape:
            raise InputError(f"pretrained weights: {key} is not that of the network to fine-tune")
    model.load_state_dict(body, strict=False)


def schedule(done: float, warmup: float) -> float:
    """Return the learning rate over its peak once a part `done` is over: linear up, a half cosine down."""
    if done < warmup:
        return max(done / warmup, 0.01)
    return 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))


def windows_of(canvases: Tensor, recipe: Recipe, rng: np.random.Generator) -> Tensor:
    """Cut windows (B, C, W, W) out of canvases, augmented as the recipe says."""
    import torch

    windows = _middle(canvases, recipe)
    if recipe.random_shifts:
        side = recipe.window_px
        places = rng.integers(0, recipe.canvas_px - side + 1, (len(canvases), 2)).tolist()
        cut = [x[:, y : y + side, x0 : x0 + side] for x, (y, x0) in zip(canvases, places, strict=True)]
        windows = torch.stack(cut)
    if recipe.flip:
        mirrored = torch.from_numpy(rng.random(len(canvases)) < 0.5)
        windows = torch.where(mirrored[:, None, None, None], windows.flip(-1), windows)
    return windows


def _middle(canvases: Tensor, recipe: Recipe) -> Tensor:
    start, side = (recipe.canvas_px - recipe.window_px) // 2, recipe.window_px
    return canvases[..., start : start + side, start : start + side]
