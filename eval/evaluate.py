"""The measurement itself: every model on every picture, streamed, one result as plain JSON values."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from data.errors import InputError
from eval.decibels import PEAK, mean_with_interval
from eval.perturb import PerturbationScores, describe
from eval.quality import Figures, Measure, quality, quality_measures, summarise_quality
from eval.shifts import Offset, Protocol, make_protocol
from eval.spectrum import summarise_spectrum
from eval.stability import Stability, StabilityScores, run_windows

if TYPE_CHECKING:
    from torch import Tensor

    from data.pairs import Pairs
    from eval.models import Model


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure.

    Attributes:
        protocols: names, the first one leads.
        offsets: shifts (dx, dy) in px along the axis.
        map_offsets: further shifts of the (dx, dy) map, or none.
        margins_px: borders left out, each reported.
        batch_size: windows in one forward pass.
        workers: processes that decode pictures.
        measures: quality figures by name, see `eval.quality.quality_measures`.
        perturbations: kinds of perturbation by name, or none.
        seed: of the bootstrap and the noise.
        limit: pictures used at most; None takes all.
        device: a torch device.
    """

    protocols: Sequence[str]
    offsets: Sequence[Offset]
    map_offsets: Sequence[Offset] = ()
    margins_px: Sequence[int] = (0, 16)
    batch_size: int = 8
    workers: int = 0
    measures: Mapping[str, Measure] = field(default_factory=quality_measures)
    perturbations: Sequence[str] = ()
    seed: int = 0
    limit: int | None = None
    device: str = "cpu"

    def rules(self, pairs: Pairs) -> list[Protocol]:
        """Return the protocols for the pictures of `pairs`."""
        return [
            make_protocol(name, canvas_px=pairs.load_size, window_px=pairs.crop_size)
            for name in self.protocols
        ]


@dataclass
class Measurement:
    """What is known of one model so far: its stability a protocol, its quality an image."""

    model: Model
    scores: list[StabilityScores]
    perturbed: PerturbationScores
    measures: Mapping[str, Measure]
    quality: list[Figures] = field(default_factory=list)

    def add(self, source: Tensor, target: Tensor, *, batch_size: int) -> None:
        """Measure one picture, input and target (1, C, S, S) at canvas size."""
        rule = self.scores[0].protocol
        every: list[StabilityScores | PerturbationScores] = [*self.scores, self.perturbed]
        inputs = itertools.chain([rule.base(source)], *(scores.windows(source) for scores in every))
        outputs = run_windows(self.model.module, inputs, batch_size=batch_size)
        base = next(outputs)
        self.quality.append(quality(base, rule.base(target), self.measures))
        for scores in every:
            scores.add(base, outputs)

    def stabilities(self) -> list[Stability]:
        """Return the finished measurement of every protocol."""
        return [scores.result() for scores in self.scores]


def measure(models: Sequence[Model], pairs: Pairs, plan: Plan) -> list[Measurement]:
    """Measure every model on every picture.

    A picture is decoded once and held alone; squared errors (a few numbers a picture) are all that stays.

    Raises:
        InputError: if a shift or margin does not fit, a picture cannot be read, or an output is not
            finite; the message names the model and the picture.
    """
    from tqdm import tqdm

    offsets = sorted({*plan.offsets, *plan.map_offsets})
    rules = plan.rules(pairs)
    measurements = [
        Measurement(
            model,
            [StabilityScores(rule, offsets, plan.margins_px) for rule in rules],
            PerturbationScores(rules[0], plan.perturbations, max(plan.margins_px), plan.seed),
            plan.measures,
        )
        for model in models
    ]
    if not measurements[0].scores[0].moving:
        raise InputError("shift 0 alone moves nothing; expected others in --shifts, such as 0..7")
    n_images = min(len(pairs), plan.limit or len(pairs))
    for name, source, target in tqdm(canvases(pairs, n_images, plan), total=n_images, unit="image"):
        for measurement in measurements:
            try:
                measurement.add(source, target, batch_size=plan.batch_size)
            except InputError as error:
                raise InputError(f"{measurement.model.path} on {name}: {error}") from None
    return measurements


def canvases(pairs: Pairs, count: int, plan: Plan) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield (name, input, target) of the first `count` pictures, (1, C, S, S) on the device."""
    from torch.utils.data import DataLoader

    loader: DataLoader[Any] = DataLoader(
        _Canvases(pairs, count),  # type: ignore[arg-type]
        batch_size=None,
        num_workers=plan.workers,
    )
    for name, source, target in loader:
        yield name, source[None].to(plan.device), target[None].to(plan.device)


class _Canvases:
    def __init__(self, pairs: Pairs, count: int) -> None:
        self.pairs = pairs
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[str, Tensor, Tensor]:
        return (self.pairs.name(index), *self.pairs.canvas(index))


def summarise(measurements: Sequence[Measurement], plan: Plan) -> dict[str, Any]:
    """Return the part of results.json that was measured: models and comparisons."""
    reference = next(
        (m for m in measurements if m.model.config["generator"].get("sampling") == "strided"),
        measurements[0],
    )
    others = [m for m in measurements if m is not reference]
    perturbed = reference.perturbed
    return {
        "peak": PEAK,
        "n_images": len(reference.quality),
        **({"perturbations": describe(perturbed.kinds, perturbed.margin_px)} if perturbed.kinds else {}),
        "models": [_summarise_model(m, plan) for m in measurements],
        "comparisons": [row for m in others for row in _compare(m, reference, plan)],
    }


def _summarise_model(measurement: Measurement, plan: Plan) -> dict[str, Any]:
    figures = summarise_quality(measurement.quality, seed=plan.seed)
    summary = {**measurement.model.describe(), "quality": figures, "stability": {}}
    if "spectrum" in plan.measures:
        summary["spectrum"] = summarise_spectrum(measurement.quality, seed=plan.seed)
    if plan.perturbations:
        summary["perturbations"] = measurement.perturbed.summary(seed=plan.seed)
    for stability in measurement.stabilities():
        along = stability.select(plan.offsets)
        summary["stability"][stability.protocol] = {
            str(margin): along.summary(margin, seed=plan.seed) for margin in along.margins_px
        }
        if plan.map_offsets:
            summary.setdefault("map", {})[stability.protocol] = _map(stability, plan.map_offsets)
    return summary


def _map(stability: Stability, offsets: Sequence[Offset]) -> dict[str, Any]:
    """Mean dB over images for every (dx, dy) at the widest margin; null where nothing moves."""
    margin = stability.margins_px[-1]
    columns = sorted({dx for dx, _ in offsets})
    rows = sorted({dy for _, dy in offsets})
    mean = {offset: stability.select([offset]).mean_db(margin) for offset in offsets if offset != (0, 0)}
    return {
        "margin_px": margin,
        "dx": columns,
        "dy": rows,
        "mean_db": [[mean.get((dx, dy)) for dx in columns] for dy in rows],
    }


def _compare(measurement: Measurement, reference: Measurement, plan: Plan) -> list[dict[str, Any]]:
    """Return the paired difference in odd-shift mean (all shifts where none is odd), image by image."""
    rows = []
    for ours, theirs in zip(measurement.stabilities(), reference.stabilities(), strict=True):
        ours, theirs = ours.select(plan.offsets), theirs.select(plan.offsets)
        odd = ours.has_odd
        for margin in ours.margins_px:
            gain = ours.image_db(margin, odd_only=odd) - theirs.image_db(margin, odd_only=odd)
            rows.append(
                {
                    "model": measurement.model.name,
                    "reference": reference.model.name,
                    "protocol": ours.protocol,
                    "margin_px": margin,
                    "over": "odd shifts" if odd else "all shifts",
                    "gain_db": mean_with_interval(gain, seed=plan.seed),
                }
            )
    return rows


def strip_outputs(
    model: Model, canvas: Tensor, rule: Protocol, offsets: Sequence[Offset], *, batch_size: int
) -> np.ndarray:
    """Return the outputs for every offset, moved back in place, as pixels for pictures.

    Args:
        model: the generator.
        canvas: (1, C, S, S) in [-1, 1].
        rule: the protocol.
        offsets: shifts (dx, dy) in px.
        batch_size: windows in one forward pass.

    Returns:
        (len(offsets), H, W, 3) uint8 over the area that all shifts share.
    """
    from data.transforms import to_pixels

    windows = (rule.shifted(canvas, offset) for offset in offsets)
    outputs = run_windows(model.module, windows, batch_size=batch_size)
    return np.stack(
        [
            as_rgb(to_pixels(rule.shared(output, offset, offsets)[0]))
            for offset, output in zip(offsets, outputs, strict=True)
        ]
    )


def as_rgb(pixels: np.ndarray) -> np.ndarray:
    """Repeat a single channel to three: (H, W, 1 or 3) -> (H, W, 3)."""
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
