"""Classification consistency: how often a network gives two shifts of a picture the same class.

Zhang (2019, section 4.1): E over X and two random shifts of [ argmax P(Shift1 X) = argmax P(Shift2 X) ]. Both
shifts are drawn independently and uniformly from all that the protocol allows, so they agree by chance once
in (room + 1)^2 pairs, as in the paper. Pair j of picture i is drawn by NumPy's default generator from the
seed (seed, i, j), so neither the order of pictures nor the batch size changes it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from steadypix.errors import InputError
from steadypix.eval.shifts.protocols import Protocol, make_protocol

if TYPE_CHECKING:
    from steadypix.data.labelled.labelled import Labelled
    from steadypix.eval.classifiers.file import Classifier

PROTOCOLS = ("crop", "roll")
BATCH = 256


def draw_pair(
    protocol: Protocol, seed: int, index: int, pair: int, *, places: int | None = None
) -> NDArray[np.int64]:
    """Return two offsets [[dx, dy], [dx, dy]] in px, uniform over all that `protocol` allows.

    `crop`: every place of the window on the canvas, (canvas - window + 1)^2 of them, or `places`^2, the first
    at the canvas's left and top. `roll`: every circular shift.
    """
    rng = np.random.default_rng((seed, index, pair))
    shifts = range(protocol.window_px) if protocol.name == "roll" else protocol.room[-(places or 0) :]
    return rng.integers(shifts.start, shifts.stop, (2, 2))


def measure_consistency(
    classifier: Classifier,
    pictures: Labelled,
    name: str,
    *,
    pairs: int = 1,
    seed: int = 0,
    batch_size: int = BATCH,
) -> dict[str, Any]:
    """Return how often `pairs` pairs of shifts of each picture agree, under a protocol of `PROTOCOLS`.

    Labels are not needed; `batch_size` windows make a forward pass.

    Returns:
        `mean` in [0, 1] and its standard error `stderr` over pictures (None of one picture), `n_images`,
        `pairs`, and the `protocol`.

    Raises:
        InputError: if there is no room for two different shifts.
    """
    import torch

    check_room(classifier, name)
    protocol = protocol_of(classifier, name)
    agree = np.zeros((len(pictures), pairs))
    at_once = max(1, batch_size // (2 * pairs))
    for start in range(0, len(pictures), at_once):
        indices = range(start, min(start + at_once, len(pictures)))
        canvases = pictures.canvases(indices, classifier.canvas_px)
        drawn = [(i, j) for i in indices for j in range(pairs)]
        offsets = [draw_pair(protocol, seed, i, j, places=classifier.places) for i, j in drawn]
        windows = [
            protocol.shifted(canvases[place // pairs], (int(dx), int(dy)))
            for place, pair in enumerate(offsets)
            for dx, dy in pair
        ]
        classes = classifier.predictions(torch.stack(windows), batch_size=batch_size).numpy()
        found = classes.reshape(len(indices), pairs, 2)
        agree[list(indices)] = found[..., 0] == found[..., 1]
    return {"protocol": name, "pairs": pairs, **proportion(agree.mean(axis=1))}


def measure_accuracy(
    classifier: Classifier, pictures: Labelled, *, batch_size: int = BATCH
) -> dict[str, Any]:
    """Return how often the class of the middle window is the label: `mean`, `stderr`, `n_images`.

    Raises:
        InputError: if pictures have no labels, or labels that the network does not know.
    """
    check_labels(classifier, pictures)
    protocol = protocol_of(classifier, "crop")
    right = []
    for start in range(0, len(pictures), batch_size):
        indices = range(start, min(start + batch_size, len(pictures)))
        windows = protocol.base(pictures.canvases(indices, classifier.canvas_px))
        classes = classifier.predictions(windows, batch_size=batch_size).numpy()
        right.append(classes == pictures.labels[list(indices)])
    return proportion(np.concatenate(right))


def diagonal_curves(classifier: Classifier, pictures: Labelled, shifts: Sequence[int]) -> NDArray[np.float64]:
    """Return the probability of each picture's own class while the window moves along the diagonal.

    `shifts` are px right and down alike. Returns (pictures, shifts) in [0, 1].

    Raises:
        InputError: for a shift that leaves the canvas, or labels that the network does not know.
    """
    import torch

    check_labels(classifier, pictures)
    protocol = protocol_of(classifier, "crop")
    for shift in shifts:
        protocol.check((shift, shift), 0)
    curves = np.zeros((len(pictures), len(shifts)))
    for index in range(len(pictures)):
        canvas = pictures.canvas(index, classifier.canvas_px)
        windows = torch.stack([protocol.shifted(canvas, (shift, shift)) for shift in shifts])
        probabilities = classifier.logits(windows).double().softmax(1)
        curves[index] = probabilities[:, int(pictures.labels[index])].numpy()
    return curves


def curve_summary(curves: NDArray[np.float64]) -> dict[str, Any]:
    """Return how much the curves move: the mean change from one shift to the next, and the mean range."""
    return {
        "mean_step": float(np.abs(np.diff(curves, axis=1)).mean()),
        "mean_range": float(np.ptp(curves, axis=1).mean()),
        "n_images": len(curves),
    }


def protocol_of(classifier: Classifier, name: str) -> Protocol:
    """Return the shift protocol on a classifier's canvas and window."""
    if name not in PROTOCOLS:
        raise InputError(f"protocol {name!r} is unknown; expected one of {', '.join(PROTOCOLS)}")
    return make_protocol(name, canvas_px=classifier.canvas_px, window_px=classifier.window_px)


def proportion(values: NDArray[Any]) -> dict[str, Any]:
    """Return the mean of (n,) values in [0, 1] with its standard error over them."""
    values = np.asarray(values, dtype=np.float64)
    count = len(values)
    stderr = float(values.std(ddof=1) / math.sqrt(count)) if count > 1 else None
    return {"mean": float(values.mean()), "stderr": stderr, "n_images": count}


def check_room(classifier: Classifier, name: str) -> None:
    """Refuse a protocol that has no room for two different shifts: InputError naming the network."""
    if name == "crop" and classifier.canvas_px == classifier.window_px:
        raise InputError(
            f"{classifier.name}: its {classifier.window_px} px window fills its canvas, so crop cannot move "
            "it; expected --protocol roll"
        )


def knows_labels(classifier: Classifier, pictures: Labelled) -> bool:
    """Tell whether pictures have labels, as many as the network knows classes."""
    return len(pictures.classes) == classifier.classes


def check_labels(classifier: Classifier, pictures: Labelled) -> None:
    """Refuse pictures whose labels are missing or not the network's: InputError naming both."""
    if not pictures.classes:
        raise InputError(f"{pictures.source}: has no labels; expected a folder for each class")
    if not knows_labels(classifier, pictures):
        known = f"{classifier.name} knows {classifier.classes}"
        raise InputError(f"{pictures.source}: has {len(pictures.classes)} classes, but {known}")
