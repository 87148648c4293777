"""Small classifiers and pictures for tests."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import torch

from steadypix.eval.classifiers.file import FILE, Classifier, save_classifier
from steadypix.eval.classifiers.nets import ClassifierConfig, build_classifier


def write_idx(path: Path, numbers: np.ndarray) -> None:
    head = struct.pack(f">BBBB{numbers.ndim}I", 0, 0, 8, numbers.ndim, *numbers.shape)
    content = head + numbers.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def write_fashion_mnist(folder: Path, *, train: int = 40, test: int = 20) -> Path:
    """Pictures of ten kinds of stripes, which a network can tell apart, in Fashion-MNIST's files."""
    folder.mkdir(parents=True, exist_ok=True)
    for prefix, count in (("train", train), ("t10k", test)):
        rng = np.random.default_rng(count)
        labels = np.arange(count) % 10
        place = np.arange(28)
        waves = [
            128 + 100 * np.sin(place * (0.3 + 0.1 * (label % 5)) + rng.uniform(0, 6)) for label in labels
        ]
        pictures = [
            np.tile(wave, (28, 1)) if label < 5 else np.tile(wave, (28, 1)).T
            for wave, label in zip(waves, labels, strict=True)
        ]
        write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", np.stack(pictures))
        write_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", labels)
    return folder


def classifier(*, seed: int = 0, **words: object) -> Classifier:
    """An untrained network of the narrowest width, for windows of 32 px on canvases of 40."""
    torch.manual_seed(seed)
    config = ClassifierConfig(**{"width": 8, "classes": 10, "in_channels": 1, "stem": "small", **words})  # type: ignore[arg-type]
    model = build_classifier(config).eval()
    return Classifier("test", model, config, config.classes, 32, 40, (0.3,), (0.3,), {})


def write_classifier(folder: Path, **words: object) -> Path:
    """Write such a network as a run."""
    save_classifier(folder / FILE, classifier(**words))
    return folder
