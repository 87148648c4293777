"""Shift stability: PSNR between the output for the shifted input and the shifted output.

    stability(d) = PSNR( G(shift_d(x)), shift_d(G(x)) )      (Zhang 2019, section 4.3)

`shift_stability` is the whole metric for one network; `StabilityScores` is the accumulator that
`eval_stability` feeds window by window, so memory does not grow with pictures.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from steadypix.errors import InputError
from steadypix.eval.metrics.decibels import Array, mean_with_interval, pooled_db, psnr_db
from steadypix.eval.metrics.measure import Column, Conditions, Label, Measure, db_column, measure_alone
from steadypix.eval.repeat.floor import FloorCheck
from steadypix.eval.results.lead import margin_words, summary_figure
from steadypix.eval.shifts.offsets import Offset, Shift, exact, is_odd, is_whole, offsets_along, plain
from steadypix.eval.shifts.protocols import Crop, Protocol, Roll, Subpixel, inner, make_protocol
from steadypix.sizes import Size

if TYPE_CHECKING:
    from torch import Tensor, nn

DEFAULT_MARGINS_PX = (0, 16)


@dataclass
class StabilityScores(Measure):
    """Squared errors of one network under one shift protocol, a picture after the other."""

    protocol: Protocol  # how inputs are shifted and outputs compared
    offsets: Sequence[Offset]  # shifts (dx, dy) in px; (0, 0) is left out of every mean
    margins_px: Sequence[int]  # borders left out on each side, each reported by itself
    mapped: Sequence[Offset] = ()  # shifts of the (dx, dy) map; measured too, and reported as a map instead

    asked_by = "protocol"
    any_size = True
    pictures = ("curve.png", "map.png")

    def __post_init__(self) -> None:
        self.margins_px = tuple(self.margins_px) if self.protocol.uses_margins else (0,)
        measured = sorted({*self.offsets, *self.mapped})
        for offset, margin in itertools.product(measured, self.margins_px):
            self.protocol.check(offset, margin)
        # In the order that `add` expects their outputs.
        self.moving = [offset for offset in measured if offset != (0, 0)]

    @classmethod
    def make(cls, settings: Any, conditions: Conditions) -> Self:
        """Return one for the offsets the protocol can make, at the margins that fit."""
        rule = make_protocol(cls.name, canvas_px=conditions.canvas_px, window_px=conditions.window_px)
        along, mapped = (takes(rule, offsets) for offsets in (conditions.offsets, conditions.map_offsets))
        scores = cls(rule, along, fitting_margins(rule, [*along, *mapped], conditions.margins_px), mapped)
        if scores.moving:
            return scores
        if any(map(any, conditions.offsets)):
            raise InputError(
                f"{rule.name}: takes whole shifts; expected one in --shifts, or --protocol subpixel"
            )
        raise InputError("shift 0 alone moves nothing; expected others in --shifts, such as 0..7")

    @property
    def rule(self) -> Protocol:
        """The protocol."""
        return self.protocol

    def windows(self, canvas: Tensor, index: int = 0) -> Iterator[Tensor]:
        """Yield the windows of one canvas (1, C, S, S): one for every `moving`."""
        return (self.protocol.shifted(canvas, offset) for offset in self.moving)

    def labels(self, index: int = 0) -> list[Label]:
        """Return the name and shift of every window."""
        return [shift_label(self.protocol.name, offset) for offset in self.moving]

    def add(self, base: Tensor | None, outputs: Iterator[Tensor], target: Tensor | None, index: int) -> None:
        """Score one picture: mean squared errors, a row a margin, a column an offset."""
        row = np.empty((len(self.margins_px), len(self.moving)))
        for column, offset in enumerate(self.moving):
            first, second = self.protocol.aligned(some(base), next(outputs), offset)
            # Differences of equal floats are exact; the sum of many squares wants doubles.
            squares = (first - second).double().square()
            factor = self.protocol.scale(some(base))
            for line, margin in enumerate(self.margins_px):
                if 2 * factor * margin >= min(squares.shape[-2:]):
                    height, width = squares.shape[-2:]
                    raise InputError(
                        f"margin {margin} px: nothing is left of the {width}x{height} px that outputs share; "
                        "expected a smaller one, or a larger window"
                    )
                row[line, column] = inner(squares, factor * margin).mean().item()
        self.rows.append(row.tolist())

    def result(self) -> Stability:
        """Return what was measured so far, the map's shifts among it."""
        shape = (len(self.rows), len(self.margins_px), len(self.moving))
        errors = np.array(self.rows, dtype=np.float64).reshape(shape).swapaxes(0, 1)
        by_margin = dict(zip(self.margins_px, errors, strict=True))
        return Stability(self.protocol.name, tuple(self.moving), by_margin)

    def along(self) -> Stability:
        """Return what was measured along the axis."""
        return self.result().select(self.offsets)

    def image_db(self) -> Array:
        """Return each picture's mean dB over the shifts that lead, at the widest margin."""
        return self.along().image_db(self.margins_px[-1])

    def summary(self, *, seed: int) -> dict[str, Any]:
        """Return every margin's summary, and the map where there is one."""
        stability = self.along()
        margins = {str(margin): stability.summary(margin, seed=seed) for margin in self.margins_px}
        of_map = {"map": {self.protocol.name: self._map()}} if self.mapped else {}
        return {"stability": {self.protocol.name: margins}, **of_map}

    def gains(self, reference: Self, *, seed: int) -> list[dict[str, Any]]:
        """Return the paired differences over the shifts that lead, at every margin."""
        ours, theirs = self.along(), reference.along()
        return [
            {
                "protocol": ours.protocol,
                "margin_px": margin,
                "over": ours.over,
                "gain_db": mean_with_interval(ours.lead_db(margin) - theirs.lead_db(margin), seed=seed),
            }
            for margin in ours.margins_px
        ]

    def _map(self) -> dict[str, Any]:
        """Mean dB over images for every (dx, dy) at the widest margin; null where nothing moves."""
        stability, margin = self.result(), self.margins_px[-1]
        columns, rows = (sorted({*shifts}) for shifts in zip(*stability.offsets, strict=True))
        mean = {offset: stability.select([offset]).mean_db(margin) for offset in stability.offsets}
        return {
            "margin_px": margin,
            "dx": [plain(dx) for dx in columns],
            "dy": [plain(dy) for dy in rows],
            "mean_db": [[mean.get((dx, dy)) for dx in columns] for dy in rows],
        }

    @classmethod
    def columns(cls, results: Mapping[str, Any]) -> list[Column]:
        """Return the leading mean at every margin."""
        models = results["models"]
        margins = models[0]["stability"].get(cls.name, {})
        found = []
        for margin, first in margins.items():
            fractional = bool(first.get("fractional_mean_db"))
            heading = f"{cls.name}, {margin} px" if len(margins) > 1 else cls.name
            border = margin_words(margin)
            summaries = [model["stability"].get(cls.name, {}).get(margin) for model in models]
            found.append(
                db_column(
                    title=cls.name,
                    heading=f"{heading}{', fractional' if fractional else ''} [dB]",
                    note=f"{border}, fractional shifts" if fractional else border,
                    figures=[summary and summary_figure(summary) for summary in summaries],
                )
            )
        return found

    @classmethod
    def outline(cls, model: Mapping[str, Any]) -> Any:
        """Return margins and shifts."""
        return {
            margin: [[row["dx"], row["dy"]] for row in summary["per_shift"]]
            for margin, summary in model["stability"].get(cls.name, {}).items()
        }

    @classmethod
    def draw(cls, out: Path, results: dict[str, Any]) -> None:
        """Write the curves and maps of all protocols; the first of them does it."""
        measured = results["models"][0]["stability"]
        if cls.name != next(iter(measured), None):
            return
        from steadypix.eval.charts.curve import draw_curve, draw_map

        draw_curve(out / "curve.png", results)
        if "map" in results["models"][0]:
            draw_map(out / "map.png", results)


class CropScores(StabilityScores):
    """Stability while the window slides over a larger canvas."""

    name, meaning = Crop.name, Crop.meaning


class RollScores(StabilityScores):
    """Stability under circular shifts."""

    name, meaning = Roll.name, Roll.meaning


class SubpixelScores(StabilityScores):
    """Stability under shifts by fractions of a pixel."""

    name, meaning = Subpixel.name, Subpixel.meaning


def takes(rule: Protocol, offsets: Iterable[Offset]) -> list[Offset]:
    """Return the offsets that a protocol can make, in order, each once."""
    return sorted(offset for offset in {*offsets} if rule.takes_fractions or is_whole(offset))


def fitting_margins(rule: Protocol, offsets: Sequence[Offset], margins_px: Sequence[int]) -> list[int]:
    """Return the margins that leave something of a small window; at least the smallest."""
    room = min(map(rule.compared_px, offsets), default=0)
    return [margin for margin in margins_px if 2 * margin < room] or list(margins_px[:1])


def shift_label(protocol: str, offset: Offset) -> Label:
    """Return the label of a window that is shifted."""
    dx, dy = map(plain, offset)
    return Label(protocol, offset, f"{protocol}_{dx}_{dy}")


def some(tensor: Tensor | None) -> Tensor:
    """Return a tensor that the measure was promised."""
    assert tensor is not None
    return tensor


@dataclass(frozen=True)
class Stability:
    """Squared errors of a finished measurement, and every way to sum them up.

    Attributes:
        protocol: the protocol's name.
        offsets: the shifts (dx, dy) in px, without (0, 0).
        errors: margin in px -> mean squared errors (images, offsets) of outputs in [-1, 1].
        floor_db: PSNR of outputs for equal inputs, where `shift_stability` found them unequal.
    """

    protocol: str
    offsets: tuple[Offset, ...]
    errors: dict[int, Array]
    floor_db: float | None = None

    @property
    def margins_px(self) -> tuple[int, ...]:
        """The margins that were measured."""
        return tuple(self.errors)

    @property
    def has_odd(self) -> bool:
        """Whether any shift is odd."""
        return any(map(is_odd, self.offsets))

    @property
    def over(self) -> str:
        """The shifts that lead: fractional ones if any were asked for, else odd ones, else all."""
        if any(not is_whole(offset) for offset in self.offsets):
            return "fractional shifts"
        return "odd shifts" if self.has_odd else "all shifts"

    def select(self, offsets: Iterable[Offset]) -> Stability:
        """Return the same measurement, restricted to some of its offsets."""
        columns = [self.offsets.index(offset) for offset in offsets if offset != (0, 0)]
        kept = tuple(self.offsets[column] for column in columns)
        errors = {margin: of_all[:, columns] for margin, of_all in self.errors.items()}
        return replace(self, offsets=kept, errors=errors)

    def image_db(self, margin_px: int, *, odd_only: bool = False) -> Array:
        """Return one value an image: its mean dB over shifts, or over the odd ones alone.

        Raises:
            InputError: if there is no odd shift to average over.
        """
        if odd_only and not self.has_odd:
            raise InputError("there is no odd shift to average over; expected one such as 1 in --shifts")
        return self._image_db(margin_px, "odd shifts" if odd_only else "all shifts")

    def lead_db(self, margin_px: int) -> Array:
        """Return one value an image: its mean dB over the shifts that lead, see `over`."""
        return self._image_db(margin_px, self.over)

    def _image_db(self, margin_px: int, over: str) -> Array:
        return psnr_db(self._errors(margin_px, over)).mean(axis=1)

    def _errors(self, margin_px: int, over: str) -> Array:
        """Return the squared errors (images, shifts) of some of the shifts."""
        keep = {"odd shifts": is_odd, "fractional shifts": lambda offset: not is_whole(offset)}
        columns = [over not in keep or keep[over](offset) for offset in self.offsets]
        return self.errors[margin_px][:, columns]

    def mean_db(self, margin_px: int) -> float:
        """Return the mean over images and shifts of per-image dB (the paper's reading)."""
        return float(self.image_db(margin_px).mean())

    def odd_mean_db(self, margin_px: int) -> float:
        """Return the mean over images and *odd* shifts: even ones flatter every strided network."""
        return float(self.image_db(margin_px, odd_only=True).mean())

    def summary(self, margin_px: int, *, seed: int = 0) -> dict[str, Any]:
        """Return means, pooled dB and 95 % intervals as plain JSON values."""
        errors = self.errors[margin_px]
        summary: dict[str, Any] = {
            "over": self.over,
            "mean_db": mean_with_interval(self.image_db(margin_px), seed=seed),
            "pooled_db": pooled_db(errors),
            "n_identical": int((errors == 0).sum()),
            "per_shift": [
                {
                    "dx": plain(offset[0]),
                    "dy": plain(offset[1]),
                    **{f"{k}_db": v for k, v in mean_with_interval(psnr_db(column), seed=seed).items()},
                    "pooled_db": pooled_db(column),
                    "n_identical": int((column == 0).sum()),
                }
                for offset, column in zip(self.offsets, errors.T, strict=True)
            ],
        }
        for name in ("odd", "fractional"):
            some = self._errors(margin_px, f"{name} shifts")
            there = some.shape[1] > 0
            mean = mean_with_interval(psnr_db(some).mean(axis=1), seed=seed) if there else None
            summary |= {f"{name}_mean_db": mean, f"{name}_pooled_db": pooled_db(some) if there else None}
        return summary


def shift_stability(
    generator: nn.Module | Callable[[Tensor], Any],
    canvases: Any,
    *,
    window_px: Size,
    shifts: Sequence[Shift | float] = tuple(range(8)),
    axis: str = "x",
    protocol: str = "crop",
    margins_px: Sequence[int] = DEFAULT_MARGINS_PX,
    batch_size: int = 8,
    allow_random: bool = False,
    data_range: Any = None,
    input: str | int | Callable[[Any], Any] | None = None,
    output: str | int | Callable[[Any], Any] | None = None,
) -> Stability:
    """Measure how much a network's output moves when its input moves.

    Args:
        generator: maps (B, C, H, W) to (B, C', H', W'), of the same size, larger by a whole factor
            (super-resolution), or smaller by a border (valid convolutions). A network runs in eval mode, on
            the device of its parameters, and is given back in the mode it came in; any function will do.
        canvases: pictures (N, C, H, W), or an iterable of batches (B, C, H, W), such as a loader. Of batches
            that are tuples the first entry is the input, of dicts `input` or their only entry.
        window_px: side of the window the network sees, or (width, height); `crop` needs larger pictures.
        shifts: px, whole or (not for `crop`) fractional; 0 is identical by definition and left out.
        axis: `x`, `y` or `diagonal`.
        protocol: `crop`, `roll` or `subpixel`, see `steadypix.eval.shifts.protocols`.
        margins_px: borders left out (not for `roll`).
        batch_size: windows in one forward pass.
        allow_random: measure a network too that gives equal inputs unequal outputs, because it is random or
            normalises by its batch; `floor_db` of the result says how unequal.
        data_range: `(low, high)` of pictures and outputs, such as (0, 1), or two of these; None: both are in
            [-1, 1], and outputs that are evidently not are warned of. Scores are on one scale under all.
        input: key or place of the input in a batch, or what is called with the batch.
        output: key or place of the picture among a network's outputs (`"out"`), or what is called with them.

    Returns:
        The squared errors and their summaries.

    Raises:
        InputError: if a shift does not fit, nothing is left to compare, there are no pictures, an output is
            not finite, leaves its range or is of another size, or the network is random and may not be.

    >>> import torch
    >>> pictures = torch.rand(2, 3, 40, 40) * 2 - 1
    >>> stable = shift_stability(torch.nn.Tanh(), pictures, window_px=32, shifts=range(4), margins_px=[0])
    >>> stable.mean_db(0)
    150.0
    """
    offsets = offsets_along([exact(shift) for shift in shifts], axis)

    def make(canvas_px: Size) -> StabilityScores:
        rule = make_protocol(protocol, canvas_px=canvas_px, window_px=window_px)
        return StabilityScores(rule, offsets, margins_px)

    check = FloorCheck(allow_random=allow_random, batch_size=batch_size)
    how: dict[str, Any] = {"window_px": window_px, "batch_size": batch_size}
    how |= {"data_range": data_range, "input": input, "output": output}
    stability = measure_alone(make, generator, canvases, check=check, **how).result()
    return replace(stability, floor_db=check.db)
