"""The classifier study: which networks are trained, and all that is measured of each, once."""

from __future__ import annotations

import copy
import dataclasses
import functools
import hashlib
import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from steadypix.errors import InputError
from steadypix.eval.classifiers.consistency import (
    PROTOCOLS,
    curve_summary,
    diagonal_curves,
    measure_accuracy,
    measure_consistency,
    protocol_of,
)
from steadypix.eval.classifiers.file import FILE, Classifier, load_classifier
from steadypix.eval.classifiers.nets import ClassifierConfig
from steadypix.eval.classifiers.subjects import classifier_subject, measure_subject
from steadypix.eval.classifiers.training import Recipe, train_classifier
from steadypix.eval.shifts.protocols import make_protocol
from steadypix.files import remove_half_written, write_text

if TYPE_CHECKING:
    from torch import Tensor

    from steadypix.data.labelled.labelled import Labelled

MEASURES = "measures.json"
BASELINE = "none"
# Architecture -> its rows: a filter, no filter, or gated pooling (of a network that has pools).
ROWS = {
    "resnet18": (BASELINE, "rect2", "tri3", "bin5"),
    "vgg11_bn": (BASELINE, "bin5", "gated"),
}
LIFT = 0.1  # on [0, 1]
FEATURE_SHIFTS = tuple(range(9))  # a whole period of the deepest maps, and back at its start


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How large the study is. What is stated here is part of every result."""

    width: int = 16
    """channels of the first stage; torchvision's networks have 64"""
    seeds: int = 3
    train_images: int = 3900
    """the first of the training split"""
    test_images: int = 5000
    """the first of the test split, for accuracy and consistency"""
    corrupted_images: int = 300
    """the first of those, for corruptions at fifteen kinds and five severities"""
    sequence_images: int = 100
    """the first of those, for flip rates"""
    feature_images: int = 8
    severities: str = "imagenet-c"
    """of corruptions: ImageNet-C's constants, or `own`"""
    dense_images: int = 100
    """the first of those, for dense evaluation, which costs some twenty times as much"""
    recipe: Recipe = dataclasses.field(default_factory=Recipe)


@dataclass(frozen=True)
class Run:
    """One network."""

    architecture: str
    """a key of `ROWS`"""
    row: str
    """`none`, a filter, or `gated`"""
    seed: int
    """of its training"""

    @property
    def name(self) -> str:
        """Of its directory."""
        return f"{self.architecture}-{self.row}-{self.seed}"

    def config(self, width: int, classes: int) -> ClassifierConfig:
        """Return what is trained."""
        return ClassifierConfig(
            architecture=self.architecture,
            classes=classes,
            in_channels=1,
            width=width,
            stem="small",
            filter=None if self.row in (BASELINE, "gated") else self.row,
            pools="gated" if self.row == "gated" else "plain",
        )


def runs(
    seeds: int, architectures: Sequence[str] = tuple(ROWS), rows: Sequence[str] | None = None
) -> Iterator[Run]:
    """Yield all networks, a whole seed before the next, so that a study that is cut can be read.

    `rows` are those to take of the architectures in `ROWS`, None takes all; the plain network, which others
    are held against, is always among them.
    """
    for seed in range(seeds):
        for architecture in architectures:
            for row in ROWS[architecture]:
                if rows is None or row in (BASELINE, *rows):
                    yield Run(architecture, row, seed)


class Study:
    """Trains and measures the networks of a study, each once, in the folder `out`."""

    def __init__(self, out: Path, train: Labelled, test: Labelled, settings: Settings, device: str) -> None:
        import torch

        self.out = out
        self.train = train.first(settings.train_images)
        self.test = test.first(settings.test_images)
        self.settings, self.device = settings, device
        few, canvas_px = self.test.first(settings.corrupted_images), settings.recipe.canvas_px
        crop = make_protocol("crop", canvas_px=canvas_px, window_px=settings.recipe.window_px)
        self.windows = crop.base(few.canvases(range(len(few)), canvas_px))  # for corruptions
        self.labels = torch.from_numpy(few.labels)

    def fit(self, run: Run, report: Callable[[int, float], None] | None = None) -> None:
        """Train a network, unless its file is there and was made in the same way of the same pictures."""
        config = run.config(self.settings.width, len(self.train.classes))
        folder, recipe = self.out / "runs" / run.name, self.settings.recipe
        remove_half_written(folder)
        if (folder / FILE).exists():
            found = load_classifier(folder)
            made = {
                "seed": run.seed,
                "recipe": dataclasses.asdict(recipe),
                "n_images": len(self.train),
                "pictures_sha256": self.train.sha256(),
            }
            if found.config == config and made.items() <= dict(found.provenance).items():
                return
        how: dict[str, Any] = {"seed": run.seed, "device": self.device, "report": report}
        train_classifier(config, self.train, recipe, folder, **how)

    def measure(self, run: Run) -> dict[str, Any]:
        """Return all figures of a trained network; they are kept beside it and taken from there."""
        file = self.out / "runs" / run.name / FILE
        heading = {
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            "pictures_sha256": self.test.sha256(),
            "settings": {**dataclasses.asdict(self.settings), "seeds": None},
        }
        kept = file.with_name(MEASURES)
        if kept.exists():
            try:
                found = json.loads(kept.read_text(encoding="utf-8"))
            except (ValueError, RecursionError):  # damaged: measured anew
                found = None
            if isinstance(found, dict) and found.get("heading") == heading:
                return found | {"ground": self.ground_errors(load_classifier(file, self.device))}
        classifier = load_classifier(file, self.device, name=run.row)
        started = time.perf_counter()
        ground = self.ground_errors(classifier)
        dense = run.row in (BASELINE, "bin5") and run.architecture == "resnet18"
        measured = self._measure(classifier, dense=dense)
        seconds = {
            "training": classifier.provenance.get("seconds"),
            "measuring": round(time.perf_counter() - started, 1),
        }
        figures = {"heading": heading, **dataclasses.asdict(run), "seconds": seconds, **measured}
        write_text(kept, json.dumps(figures, allow_nan=False) + "\n")
        return figures | {"ground": ground}

    def ground_errors(self, classifier: Classifier) -> dict[str, float]:
        """Return the errors with `LIFT` added everywhere, and where the picture is not black alone.

        All training pictures lie on black. What of a corruption's error comes from the ground being another
        colour shows in the difference. Takes a second, so it is measured anew each time.
        """
        import torch

        from steadypix.eval.classifiers.corruptions import error

        windows = self.windows.float() / 255
        lifted = {
            "as it is": windows,
            "lifted everywhere": (windows + LIFT).clamp(0, 1),
            "lifted but for the ground": torch.where(windows > 0, windows + LIFT, windows).clamp(0, 1),
        }
        return {name: error(classifier.predictions, x, self.labels) for name, x in lifted.items()}

    @functools.cached_property
    def damaged(self) -> dict[str, list[Tensor]]:
        """The damaged windows, made once for all networks."""
        from steadypix.eval.classifiers.corruptions import damage_all
        from steadypix.eval.classifiers.imagenet_c import SEVERITIES

        return damage_all(list(self.windows), table=SEVERITIES[self.settings.severities])

    def _measure(self, classifier: Classifier, *, dense: bool) -> dict[str, Any]:
        from steadypix.eval.classifiers.corruptions import corruption_errors
        from steadypix.eval.classifiers.flips import flip_rates

        predict, crop = classifier.predictions, protocol_of(classifier, "crop")
        few = self.test.first(self.settings.sequence_images)
        shifts = list(crop.room)
        curves = diagonal_curves(classifier, few, shifts)
        figures: dict[str, Any] = {
            "accuracy": measure_accuracy(classifier, self.test),
            "consistency": {name: measure_consistency(classifier, self.test, name) for name in PROTOCOLS},
            "diagonal": {"shifts": shifts, **curve_summary(curves), "curves": curves.round(5).tolist()},
            "corruptions": corruption_errors(predict, self.damaged, self.labels),
            "flips": flip_rates(predict, few, crop),
        }
        if dense:
            figures["dense"] = self._measure_dense(classifier)
        # Last, because it changes the borders.
        subject = classifier_subject(classifier, self.test.first(self.settings.feature_images), circular=True)
        figures["features"] = measure_subject(subject, FEATURE_SHIFTS)
        for layer in figures["features"]["layers"].values():
            layer["distance"] = np.round(layer["distance"], 6).tolist()
        return figures

    def _measure_dense(self, classifier: Classifier) -> dict[str, Any]:
        """Return accuracy and consistency on few pictures; of a plain network, also evaluated densely."""
        from steadypix.gen.retrofit.dense import make_dense

        pictures = self.test.first(self.settings.dense_images)

        def both(network: Classifier) -> dict[str, Any]:
            return {
                "accuracy": measure_accuracy(network, pictures),
                "consistency": measure_consistency(network, pictures, "crop", pairs=4),
            }

        found = {"as it is": both(classifier)}
        if classifier.config is not None and classifier.config.filter is None:
            dense = dataclasses.replace(classifier, module=copy.deepcopy(classifier.module))
            make_dense(dense.module)
            found["dense"] = both(dense)
        return found


def chosen(option: str, text: str, known: Collection[str]) -> list[str]:
    """Return the names in an option's value, each once.

    Raises:
        InputError: naming one that is not in the study.
    """
    names = list(dict.fromkeys(text.split(",")))
    for name in names:
        if name not in known:
            raise InputError(f"{option} {name}: is not in the study; expected of {', '.join(known)}")
    return names


def mean_std(values: Sequence[float]) -> dict[str, Any]:
    """Return the mean over seeds and the standard deviation (None of one seed)."""
    return {
        "mean": float(np.mean(values)),
        "std": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "n": len(values),
    }


def summarise(measures: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for every architecture and kind of sampling: mean and standard deviation over seeds.

    Corruption errors and flip rates are relative to the plain network of the same architecture and seed.
    """
    table = []
    for architecture, rows in ROWS.items():
        ours = [m for m in measures if m["architecture"] == architecture]
        plain = {m["seed"]: m for m in ours if m["row"] == BASELINE}
        for row in rows:
            if mine := [m for m in ours if m["row"] == row]:
                heading = {"architecture": architecture, "row": row, "seeds": [m["seed"] for m in mine]}
                table.append({**heading, **_over_seeds(mine, plain)})
    return table


def _over_seeds(mine: Sequence[Mapping[str, Any]], plain: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the row of one kind of network, of its measures and the plain network's by seed."""
    from steadypix.eval.classifiers.corruptions import LIFTING, mean_ratio

    pairs = [(m, plain[m["seed"]]) for m in mine if m["seed"] in plain]

    def over(value: Callable[[Any], float]) -> dict[str, Any]:
        return mean_std([value(m) for m in mine])

    def each(key: str, value: Callable[[Any], float] = float) -> dict[str, Any]:
        return {name: mean_std([value(m[key][name]) for m in mine]) for name in mine[0][key]}

    def relative(key: str, kinds: Iterable[str]) -> dict[str, Any] | None:
        ratios = [mean_ratio({kind: m[key][kind] for kind in kinds}, base[key]) for m, base in pairs]
        known = [ratio for ratio in ratios if ratio is not None]
        return mean_std(known) if len(known) == len(ratios) else None

    layers, kinds = [m["features"]["layers"] for m in mine], mine[0]["corruptions"]
    return {
        "accuracy": over(lambda m: m["accuracy"]["mean"]),
        "consistency": each("consistency", lambda found: found["mean"]),
        "consistency_gain": mean_std(
            [m["consistency"]["crop"]["mean"] - base["consistency"]["crop"]["mean"] for m, base in pairs]
        ),
        "diagonal_step": over(lambda m: m["diagonal"]["mean_step"]),
        "error_corrupted": over(lambda m: np.mean([np.mean(values) for values in m["corruptions"].values()])),
        "mce": relative("corruptions", kinds),
        "mce_ground_lifted": relative("corruptions", [kind for kind in kinds if kind in LIFTING]),
        "mce_ground_black": relative("corruptions", [kind for kind in kinds if kind not in LIFTING]),
        "mfr": relative("flips", mine[0]["flips"]),
        "ground": each("ground"),
        "flips": each("flips"),
        "corruptions": each("corruptions", np.mean),
        "features": {
            name: {"stride": layer["stride"], **mean_std([found[name]["mean"] for found in layers])}
            for name, layer in layers[0].items()
        },
    }
