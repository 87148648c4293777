"""The page of the fine-tuning experiment, from its results alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from steadypix.eval.classifiers.document import LABELS
from steadypix.eval.report.page import Section, percent, plus_minus

TITLE = "Fine-tuning a pretrained, anti-aliased ResNet-18"
Results = Mapping[str, Any]
FIGURES = {
    "accuracy": "accuracy [%]",
    "consistency_crop": "consistency, crop [%]",
    "consistency_roll": "consistency, roll [%]",
    "error_corrupted": "corruption error [%]",
}


def sections(results: Results) -> list[Section]:
    """Return the page's sections."""
    rows = results["table"]
    names = [LABELS.get(row["filter"], row["filter"]) for row in rows]
    cells = [
        [name, *(percent(row[key]) for key in FIGURES), _plain(row["mce"])]
        for name, row in zip(names, rows, strict=True)
    ]
    gains = [
        [name, *(_signed(row[f"{key}_gain"]) for key in FIGURES)]
        for name, row in zip(names, rows, strict=True)
        if "accuracy_gain" in row
    ]
    return [
        Section("What was done", _setup(results)),
        Section(
            "Results",
            [
                f"The mean over {rows[0]['accuracy']['n']} fine-tunings ± half its 95 % interval (Student's "
                "t). Consistency: how often two shifts of a picture get the same class. mCE: corruption "
                "error over the plain network's, the mean over kinds.",
            ],
            ["filter", *FIGURES.values(), "mCE"],
            cells,
        ),
        Section(
            "Anti-aliased less plain",
            [
                "Differences seed by seed, in points, with their 95 % interval: where 0 lies inside, the two "
                "cannot be told apart.",
                *_finding(rows),
            ],
            ["filter", *(name.replace(" [%]", "") for name in FIGURES.values())],
            gains,
        ),
        Section("Other networks", OTHERS),
    ]


OTHERS = [
    "The same experiment with other weights: `--pretrained resnet18` (torchvision's, from ImageNet), "
    "`--pretrained resnet18=FILE` (its state dict), `--pretrained RUN` (a run of `eval_classifiers`). All "
    "rows then start from the same weights, and the filters are put in before fine-tuning.",
    "Convolutional kernel networks (Mairal et al. 2014, Mairal 2016), which the article names beside "
    "anti-aliased ones, subsample after a Gaussian whose width follows the factor of subsampling: the blur "
    "of BlurPool with other taps, in a network whose filters approximate a kernel. None is trained here.",
]
SEVERITIES = {"imagenet-c": "ImageNet-C's severities", "own": "severities of our own"}


def _setup(results: Results) -> list[str]:
    s = results["settings"]
    pretraining, tuning = s["pretraining"], s["tuning"]
    base, others = (", ".join(results["classes"][part]) for part in ("pretraining", "tuning"))
    if s["pretrained"] == "here":
        origin = (
            f"Pretrained: torchvision's ResNet-18 with a stem for small pictures and {s['width']} channels "
            f"in the first stage (theirs has 64), on all {results['n_pretraining']:,} training pictures of "
            f"five classes of Fashion-MNIST ({base}); {pretraining['epochs']} epochs of SGD (batch "
            f"{pretraining['batch_size']}, peak rate {pretraining['learning_rate']}, one cosine), once for "
            "each filter, so the intervals below are of fine-tuning alone."
        )
    else:
        origin = f"Pretrained elsewhere: {s['pretrained']}, the same weights under every filter."
    return [
        "The question is a published article's: what a pretrained anti-aliased ResNet-18, fine-tuned on "
        "fewer than 4,000 grayscale pictures, gains over the plain one. Its author reports an accuracy of "
        "0.97115 against 0.95865.",
        origin,
        f"Fine-tuned: all weights and a new last layer, on the first {results['n_tuning']:,} training "
        f"pictures of the other classes ({others}); {tuning['epochs']} epochs (batch {tuning['batch_size']}, "
        f"peak rate {tuning['learning_rate']}). Measured on the first {s['test_images']:,} test pictures of "
        f"these classes, corruptions on {s['corrupted_images']} of them with {SEVERITIES[s['severities']]}.",
        f"{results['done']} of {s['seeds']} seeds are done. Made by `{results['command']}`.",
    ]


def _finding(rows: list[Results]) -> list[str]:
    """Say which differences are clear, whatever the figures are."""
    said = []
    for row in rows:
        if "accuracy_gain" not in row or row["accuracy_gain"]["half_ci95"] is None:
            continue
        parts = []
        for key, name in FIGURES.items():
            gain = row[f"{key}_gain"]
            clear = abs(gain["mean"]) > gain["half_ci95"]
            word = ("higher" if gain["mean"] > 0 else "lower") if clear else "not told apart"
            parts.append(f"{name.replace(' [%]', '')} {word}")
        mce = row["mce"]
        if mce is not None and mce["half_ci95"] is not None:
            clear = abs(mce["mean"] - 1) > mce["half_ci95"]
            word = ("above" if mce["mean"] > 1 else "below") if clear else "not told apart from"
            parts.append(f"mCE {word} 1")
        said.append(f"{LABELS.get(row['filter'], row['filter'])} against none: {'; '.join(parts)}.")
    return said


def _signed(figure: Results) -> str:
    text = percent(figure)
    return text if text.startswith("-") else f"+{text}"


def _plain(figure: Results | None) -> str:
    return "–" if figure is None else plus_minus(figure["mean"], figure["half_ci95"], 3)
