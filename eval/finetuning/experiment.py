"""Fine-tuning pretrained networks, plain and anti-aliased, on few pictures of other classes.

Half of the classes pretrain a network, unless its weights come from elsewhere; the others, of which few
pictures are taken, fine-tune it. What is trained and measured is kept, so the same command goes on.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from steadypix.errors import InputError
from steadypix.eval.classifiers.consistency import (
    PROTOCOLS,
    measure_accuracy,
    measure_consistency,
)
from steadypix.eval.classifiers.file import FILE, Classifier, load_classifier
from steadypix.eval.classifiers.nets import ARCHITECTURES, FULL_WIDTH, ClassifierConfig
from steadypix.eval.classifiers.training import Recipe, Start, train_classifier
from steadypix.files import write_text

if TYPE_CHECKING:
    from torch import Tensor

    from steadypix.data.labelled.labelled import Labelled

MEASURES = "finetuned.json"
HERE = "here"  # pretrained by this command
BASELINE = "none"
Report = Callable[[int, float], None]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How large the experiment is."""

    pretrained: str = HERE
    """`here`, a run, one of torchvision's ResNets by name, or NAME=FILE with its state dict"""
    filters: tuple[str, ...] = (BASELINE, "bin5")
    """`none` is the plain network; all start from the same weights unless pretrained here"""
    width: int = 8
    """of a ResNet-18 that is pretrained here"""
    seeds: int = 5
    """fine-tunings of each"""
    train_images: int = 3900
    test_images: int = 5000
    corrupted_images: int = 300
    """the first of those"""
    severities: str = "imagenet-c"
    pretraining: Recipe = dataclasses.field(default_factory=lambda: Recipe(epochs=3, batch_size=64))
    tuning: Recipe = dataclasses.field(default_factory=lambda: Recipe(epochs=5, learning_rate=0.01))


def of_classes(pictures: Labelled, labels: Sequence[int]) -> Labelled:
    """Return the pictures of some classes, numbered anew in the order of `labels`."""
    chosen = np.flatnonzero(np.isin(pictures.labels, labels))
    number = {label: place for place, label in enumerate(labels)}
    return dataclasses.replace(
        pictures,
        classes=tuple(pictures.classes[label] for label in labels),
        labels=np.array([number[label] for label in pictures.labels[chosen].tolist()], dtype=np.int64),
        pixels=None if pictures.pixels is None else pictures.pixels[chosen],
        files=tuple(pictures.files[place] for place in chosen) if pictures.files else (),
    )


class FineTuning:
    """Pretrains, fine-tunes and measures in the folder `out`, each once."""

    def __init__(self, out: Path, train: Labelled, test: Labelled, settings: Settings, device: str) -> None:
        self.out, self.settings, self.device = out, settings, device
        half = len(train.classes) // 2
        first, others = range(half), range(half, len(train.classes))
        self.base = of_classes(train, first)
        self.given = None if settings.pretrained == HERE else pretrained(settings.pretrained, device)
        config = self.given[0] if self.given else None
        channels = config.in_channels if config else 1
        self.train, self.test = (
            dataclasses.replace(of_classes(part, others).first(count), channels=channels)
            for part, count in ((train, settings.train_images), (test, settings.test_images))
        )

    def pretrain(self, filter: str, report: Report | None = None) -> tuple[ClassifierConfig, Start]:
        """Return a network before its fine-tuning: `given`, or trained here if its file is not there."""
        name = None if filter == BASELINE else filter
        if self.given:
            config, start = self.given
            return dataclasses.replace(config, filter=name), start
        s = self.settings
        config = ClassifierConfig(
            classes=len(self.base.classes), in_channels=1, width=s.width, stem="small", filter=name
        )
        folder = self.out / "pretrained" / filter
        self._fit(config, self.base, s.pretraining, folder, 0, report, None)
        found = load_classifier(folder, self.device)
        return config, start_of(found)

    def tune(self, filter: str, seed: int, report: Report | None = None) -> Path:
        """Fine-tune a network unless its file is there; return its folder."""
        config, start = self.pretrain(filter)
        config = dataclasses.replace(config, classes=len(self.train.classes))
        folder = self.out / "tuned" / f"{filter}-{seed}"
        self._fit(config, self.train, self.settings.tuning, folder, seed, report, start)
        return folder

    def _fit(
        self,
        config: ClassifierConfig,
        pictures: Labelled,
        recipe: Recipe,
        folder: Path,
        seed: int,
        report: Report | None,
        start: Start | None,
    ) -> None:
        made: dict[str, Any] = {
            "seed": seed,
            "recipe": dataclasses.asdict(recipe),
            "pictures_sha256": pictures.sha256(),
        }
        if start is not None:
            made["start_sha256"] = start.sha256
        if (folder / FILE).exists():
            found = load_classifier(folder)
            if found.config == config and made.items() <= dict(found.provenance).items():
                return
        how: dict[str, Any] = {"seed": seed, "device": self.device, "report": report, "start": start}
        train_classifier(config, pictures, recipe, folder, **how)

    def measure(self, filter: str, seed: int) -> dict[str, Any]:
        """Return the figures of a fine-tuned network; they are kept beside it and taken from there."""
        from steadypix.eval.classifiers.corruptions import corruption_errors

        file = self.out / "tuned" / f"{filter}-{seed}" / FILE
        s = self.settings
        heading = {
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            "pictures_sha256": self.test.sha256(),
            "images": [s.test_images, s.corrupted_images],
            "severities": s.severities,
        }
        kept = file.with_name(MEASURES)
        if kept.exists():
            found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
            if found.get("heading") == heading:
                return found
        classifier = load_classifier(file, self.device)
        damaged, labels = self.damaged(classifier)
        figures = {
            "heading": heading,
            "filter": filter,
            "seed": seed,
            "seconds": classifier.provenance.get("seconds"),
            "accuracy": measure_accuracy(classifier, self.test)["mean"],
            **{
                f"consistency_{name}": measure_consistency(classifier, self.test, name)["mean"]
                for name in PROTOCOLS
            },
            "corruptions": corruption_errors(classifier.predictions, damaged, labels),
        }
        write_text(kept, json.dumps(figures, allow_nan=False) + "\n")
        return figures

    def damaged(self, classifier: Classifier) -> tuple[dict[str, list[Tensor]], Tensor]:
        """Return the damaged windows that a network is shown, made once for all, and their labels."""
        return self._damaged(classifier.canvas_px, classifier.window_px)

    @functools.cache  # noqa: B019  one object lives as long as the command
    def _damaged(self, canvas_px: int, window_px: int) -> tuple[dict[str, list[Tensor]], Tensor]:
        import torch

        from steadypix.eval.classifiers.corruptions import damage_all
        from steadypix.eval.classifiers.imagenet_c import SEVERITIES
        from steadypix.eval.shifts.protocols import make_protocol

        few = self.test.first(self.settings.corrupted_images)
        crop = make_protocol("crop", canvas_px=canvas_px, window_px=window_px)
        windows = crop.base(few.canvases(range(len(few)), canvas_px))
        table = SEVERITIES[self.settings.severities]
        return damage_all(list(windows), table=table), torch.from_numpy(few.labels)


def pretrained(source: str, device: str) -> tuple[ClassifierConfig, Start]:
    """Load a network to fine-tune: a run, or one of torchvision's ResNets.

    Raises:
        InputError: if it is none of these.
    """
    from steadypix.eval.classifiers.loading import load_any

    found = load_any(source, device)
    config = found.config
    if config is None:
        if found.name not in ARCHITECTURES or not found.name.startswith("resnet"):
            known = ", ".join(name for name in ARCHITECTURES if name.startswith("resnet"))
            raise InputError(f"--pretrained {source}: expected a run, or of torchvision's {known}")
        config = ClassifierConfig(architecture=found.name, classes=found.classes, width=FULL_WIDTH)
    return config, start_of(found)


def start_of(classifier: Classifier) -> Start:
    """Return a network's weights as fine-tuning takes them."""
    state = {key: value.detach().cpu() for key, value in classifier.module.state_dict().items()}
    digest = hashlib.sha256()
    for key, value in sorted(state.items()):
        digest.update(key.encode() + value.contiguous().numpy().tobytes())
    return Start(state, classifier.mean, classifier.std, digest.hexdigest())


def interval(values: Sequence[float]) -> dict[str, Any]:
    """Return the mean and half the width of its 95 % interval (Student's t; None of one value)."""
    from scipy.stats import t

    count = len(values)
    half = None
    if count > 1:
        half = float(t.ppf(0.975, count - 1) * np.std(values, ddof=1) / math.sqrt(count))
    return {"mean": float(np.mean(values)), "half_ci95": half, "n": count}


def summarise(measures: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each filter: means over seeds, and differences to the plain network seed by seed."""
    from steadypix.eval.classifiers.corruptions import mean_ratio

    plain = {m["seed"]: m for m in measures if m["filter"] == BASELINE}
    table = []
    for filter in dict.fromkeys(m["filter"] for m in measures):
        mine = [m for m in measures if m["filter"] == filter]
        pairs = [(m, plain[m["seed"]]) for m in mine if m["seed"] in plain]
        row: dict[str, Any] = {"filter": filter, "seeds": [m["seed"] for m in mine]}
        figures: dict[str, Callable[[Mapping[str, Any]], float]] = {
            name: operator.itemgetter(name)
            for name in ("accuracy", *(f"consistency_{protocol}" for protocol in PROTOCOLS))
        }
        figures["error_corrupted"] = _error_corrupted
        for name, value in figures.items():
            row[name] = interval([value(m) for m in mine])
            if filter != BASELINE and pairs:
                row[f"{name}_gain"] = interval([value(m) - value(base) for m, base in pairs])
        ratios = [mean_ratio(m["corruptions"], base["corruptions"]) for m, base in pairs]
        known = [ratio for ratio in ratios if ratio is not None]
        row["mce"] = interval(known) if known and len(known) == len(ratios) else None
        table.append(row)
    return table


def _error_corrupted(measured: Mapping[str, Any]) -> float:
    """Return the mean error over kinds and severities."""
    return float(np.mean([np.mean(errors) for errors in measured["corruptions"].values()]))
