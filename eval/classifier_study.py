"""The classifier study: which networks are trained, and all that is measured of each, once."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data.errors import InputError
from data.files import write_text
from eval.classifier_file import FILE, Classifier, load_classifier
from eval.classifier_nets import ClassifierConfig
from eval.classifier_training import Recipe, train_classifier

if TYPE_CHECKING:
    from torch import Tensor

    from data.labelled import Labelled

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
    dense_images: int = 100
    """the first of those, for dense evaluation, which costs some twenty times as much"""
    recipe: Recipe = dataclasses.field(default_factory=Recipe)


@dataclass(frozen=True)
class Run:
    """One network.

    Attributes:
        architecture: a key of `ROWS`.
        row: `none`, a filter, or `gated`.
        seed: of its training.
    """

    architecture: str
    row: str
    seed: int

    @property
    def name(self) -> str:
        """Of its directory."""
        return f"{self.architecture}-{self.row}-{self.seed}"

    def config(self, width: int, classes: int) -> ClassifierConfig:
        """Return what is trained."""
        plain = self.row in (BASELINE, "gated")
        return ClassifierConfig(
            architecture=self.architecture,
            classes=classes,
            in_channels=1,
            width=width,
            stem="small",
            filter=None if plain else self.row,
            pools="gated" if self.row == "gated" else "plain",
        )


def runs(
    seeds: int, architectures: Sequence[str] = tuple(ROWS), rows: Sequence[str] | None = None
) -> Iterator[Run]:
    """Yield all networks, a whole seed before the next, so that a study that is cut can be read.

    Args:
        seeds: how many.
        architectures: keys of `ROWS`.
        rows: those to take; None takes all, and the plain network, which others are held against, is always
            among them.
    """
    for seed in range(seeds):
        for architecture in architectures:
            for row in ROWS[architecture]:
                if rows is None or row in (BASELINE, *rows):
                    yield Run(architecture, row, seed)


class Study:
    """Trains and measures the networks of a study, each once.

    Args:
        out: folder of the runs.
        train: pictures to train on.
        test: pictures to measure on.
        settings: how much.
        device: where.
    """

    def __init__(self, out: Path, train: Labelled, test: Labelled, settings: Settings, device: str) -> None:
        self.out = out
        self.train = train.first(settings.train_images)
        self.test = test.first(settings.test_images)
        self.settings = settings
        self.device = device
        self._damaged: dict[str, list[Tensor]] = {}

    def directory(self, run: Run) -> Path:
        """Return where a network is trained."""
        return self.out / "runs" / run.name

    def fit(self, run: Run, report: Callable[[int, float], None] | None = None) -> None:
        """Train a network, unless its file is there and was made in the same way of the same pictures."""
        config = run.config(self.settings.width, len(self.train.classes))
        folder = self.directory(run)
        if (folder / FILE).exists():
            found = load_classifier(folder)
            made = {
                "seed": run.seed,
                "recipe": dataclasses.asdict(self.settings.recipe),
                "n_images": len(self.train),
                "pictures_sha256": self.train.sha256(),
            }
            if found.config == config and made.items() <= dict(found.provenance).items():
                return
        train_classifier(
            config,
            self.train,
            self.settings.recipe,
            folder,
            seed=run.seed,
            device=self.device,
            report=report,
        )

    def measure(self, run: Run) -> dict[str, Any]:
        """Return all figures of a trained network; they are kept beside it and taken from there."""
        file = self.directory(run) / FILE
        heading = {
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            "pictures_sha256": self.test.sha256(),
            "settings": {**json.loads(json.dumps(dataclasses.asdict(self.settings))), "seeds": None},
        }
        kept = self.directory(run) / MEASURES
        if kept.exists():
            found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
            if found.get("heading") == heading:
                return found | {"ground": self.ground_errors(load_classifier(file, self.device))}
        classifier = load_classifier(file, self.device, name=run.row)
        started = time.perf_counter()
        ground = self.ground_errors(classifier)
        measured = self._measure(
            classifier, dense=run.row in (BASELINE, "bin5") and run.architecture == "resnet18"
        )
        figures = {
            "heading": heading,
            "architecture": run.architecture,
            "row": run.row,
            "seed": run.seed,
            "seconds": {
                "training": classifier.provenance.get("seconds"),
                "measuring": round(time.perf_counter() - started, 1),
            },
            **measured,
        }
        text = json.dumps(figures, allow_nan=False) + "\n"
        write_text(kept, text)
        return figures | {"ground": ground}

    def ground_errors(self, classifier: Classifier) -> dict[str, float]:
        """Return the errors with `LIFT` added everywhere, and where the picture is not black alone.

        All training pictures lie on black. What of a corruption's error comes from the ground being another
        colour shows in the difference. Takes a second, so it is measured anew each time.
        """
        import torch

        pictures = self.test.first(self.settings.corrupted_images)
        windows = self._windows(pictures).float() / 255
        labels = torch.from_numpy(pictures.labels)
        lifted = {
            "as it is": windows,
            "lifted everywhere": (windows + LIFT).clamp(0, 1),
            "lifted but for the ground": torch.where(windows > 0, windows + LIFT, windows).clamp(0, 1),
        }
        return {
            name: (classifier.predictions(x) != labels).double().mean().item() for name, x in lifted.items()
        }

    def damaged(self) -> dict[str, list[Tensor]]:
        """Return the damaged windows, made once for all networks."""
        from eval.corruptions import damage_all

        if not self._damaged:
            pictures = self.test.first(self.settings.corrupted_images)
            self._damaged = damage_all(list(self._windows(pictures)))
        return self._damaged

    def _windows(self, pictures: Labelled) -> Tensor:
        from eval.shifts import make_protocol

        recipe = self.settings.recipe
        protocol = make_protocol("crop", canvas_px=recipe.canvas_px, window_px=recipe.window_px)
        return protocol.base(pictures.canvases(range(len(pictures)), recipe.canvas_px))

    def _measure(self, classifier: Classifier, *, dense: bool) -> dict[str, Any]:
        import torch

        from eval.consistency import (
            curve_summary,
            diagonal_curves,
            measure_accuracy,
            measure_consistency,
            protocol_of,
        )
        from eval.corruptions import corruption_errors
        from eval.flips import flip_rates

        settings = self.settings
        corrupted = self.test.first(settings.corrupted_images)
        diagonal = list(protocol_of(classifier, "crop").room)
        curves = diagonal_curves(classifier, self.test.first(settings.sequence_images), diagonal)
        figures: dict[str, Any] = {
            "accuracy": measure_accuracy(classifier, self.test),
            "consistency": {
                name: measure_consistency(classifier, self.test, name) for name in ("crop", "roll")
            },
            "diagonal": {
                "shifts": diagonal,
                **curve_summary(curves),
                "curves": curves.round(5).tolist(),
            },
            "corruptions": corruption_errors(
                classifier.predictions, self.damaged(), torch.from_numpy(corrupted.labels)
            ),
            "flips": flip_rates(
                classifier.predictions,
                self.test.first(settings.sequence_images),
                protocol_of(classifier, "crop"),
            ),
        }
        if dense:
            figures["dense"] = self._measure_dense(classifier)
        figures["features"] = self._measure_features(classifier)  # last: it changes the borders
        return figures

    def _measure_dense(self, classifier: Classifier) -> dict[str, Any]:
        """Return accuracy and consistency on few pictures; of a plain network, also evaluated densely."""
        from eval.consistency import measure_accuracy, measure_consistency
        from gen.dense import make_dense

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

    def _measure_features(self, classifier: Classifier) -> dict[str, Any]:
        from eval.eval_features import classifier_subject, measure_subject

        subject = classifier_subject(classifier, self.test.first(self.settings.feature_images), circular=True)
        found = measure_subject(subject, FEATURE_SHIFTS)
        for layer in found["layers"].values():
            layer["distance"] = np.round(layer["distance"], 6).tolist()
        return found


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
    from eval.corruptions import mean_corruption_error
    from eval.flips import mean_flip_rate

    by_key = {(m["architecture"], m["row"], m["seed"]): m for m in measures}
    table = []
    for architecture, rows in ROWS.items():
        for row in rows:
            mine = [m for m in measures if (m["architecture"], m["row"]) == (architecture, row)]
            if not mine:
                continue
            bases = [by_key.get((architecture, BASELINE, m["seed"])) for m in mine]
            pairs = [(m, base) for m, base in zip(mine, bases, strict=True) if base is not None]
            table.append(
                {
                    "architecture": architecture,
                    "row": row,
                    "seeds": [m["seed"] for m in mine],
                    "accuracy": mean_std([m["accuracy"]["mean"] for m in mine]),
                    "consistency": {
                        name: mean_std([m["consistency"][name]["mean"] for m in mine])
                        for name in mine[0]["consistency"]
                    },
                    "consistency_gain": mean_std(
                        [
                            m["consistency"]["crop"]["mean"] - b["consistency"]["crop"]["mean"]
                            for m, b in pairs
                        ]
                    ),
                    "diagonal_step": mean_std([m["diagonal"]["mean_step"] for m in mine]),
                    "error_corrupted": mean_std([_mean_error(m) for m in mine]),
                    "mce": _relative(mean_corruption_error, pairs, "corruptions"),
                    "mce_ground_lifted": _relative(_part(mean_corruption_error, True), pairs, "corruptions"),
                    "mce_ground_black": _relative(_part(mean_corruption_error, False), pairs, "corruptions"),
                    "mfr": _relative(mean_flip_rate, pairs, "flips"),
                    "ground": {
                        name: mean_std([m["ground"][name] for m in mine]) for name in mine[0]["ground"]
                    },
                    "flips": {kind: mean_std([m["flips"][kind] for m in mine]) for kind in mine[0]["flips"]},
                    "corruptions": {
                        kind: mean_std([float(np.mean(m["corruptions"][kind])) for m in mine])
                        for kind in mine[0]["corruptions"]
                    },
                    "features": {
                        name: {
                            "stride": layer["stride"],
                            **mean_std([m["features"]["layers"][name]["mean"] for m in mine]),
                        }
                        for name, layer in mine[0]["features"]["layers"].items()
                    },
                }
            )
    return table


def _part(figure: Callable[[Any, Any], float], lifting: bool) -> Callable[[Any, Any], float]:
    """Return the figure over those kinds alone that lift a black ground, or over the others."""
    from eval.corruptions import LIFTING

    def part(errors: Mapping[str, Any], baseline: Mapping[str, Any]) -> float:
        return figure({kind: x for kind, x in errors.items() if (kind in LIFTING) == lifting}, baseline)

    return part


def _relative(
    figure: Callable[[Any, Any], float], pairs: Sequence[tuple[Any, Any]], key: str
) -> dict[str, Any] | None:
    """Return a figure relative to a baseline, over seeds; None if a baseline makes no error."""
    try:
        return mean_std([figure(m[key], base[key]) for m, base in pairs])
    except InputError:
        return None


def _mean_error(measures: Mapping[str, Any]) -> float:
    return float(np.mean([np.mean(values) for values in measures["corruptions"].values()]))
