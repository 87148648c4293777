"""Shift stability: PSNR between the output for the shifted input and the shifted output.

    stability(d) = PSNR( G(shift_d(x)), shift_d(G(x)) )      (Zhang 2019, section 4.3)

`shift_stability` is the whole metric for one network; `StabilityScores` is the accumulator that
`eval_stability` feeds window by window, so memory does not grow with pictures.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from data.errors import InputError
from eval.decibels import Array, mean_with_interval, pooled_db, psnr_db
from eval.forward import eval_mode, one_by_one, run_windows
from eval.offsets import Offset, Shift, exact, is_odd, is_whole, offsets_along, plain
from eval.shifts import Protocol, inner, make_protocol

if TYPE_CHECKING:
    from torch import Tensor, nn

DEFAULT_MARGINS_PX = (0, 16)


@dataclass
class StabilityScores:
    """Squared errors of one network under one protocol, an image after the other.

    Args:
        protocol: how inputs are shifted and outputs compared.
        offsets: shifts (dx, dy) in px; (0, 0) is left out of every mean.
        margins_px: borders left out on each side, each reported by itself.
    """

    protocol: Protocol
    offsets: Sequence[Offset]
    margins_px: Sequence[int]
    _rows: list[Array] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.margins_px = tuple(self.margins_px) if self.protocol.uses_margins else (0,)
        for offset in self.offsets:
            for margin in self.margins_px:
                self.protocol.check(offset, margin)

    @property
    def moving(self) -> list[Offset]:
        """The offsets that move anything, in the order `add` expects their outputs."""
        return [offset for offset in self.offsets if offset != (0, 0)]

    def windows(self, canvas: Tensor) -> Iterator[Tensor]:
        """Yield what the network must see for one canvas (1, C, S, S): an input for every `moving`."""
        return (self.protocol.shifted(canvas, offset) for offset in self.moving)

    def add(self, base: Tensor, moved: Iterator[Tensor]) -> None:
        """Score one image.

        Args:
            base: the output for the base window, (1, C, H, W) in [-1, 1].
            moved: yields the output for every window of `windows`; only those are taken from it.
        """
        row = np.empty((len(self.margins_px), len(self.moving)))
        for column, offset in enumerate(self.moving):
            first, second = self.protocol.aligned(base, next(moved), offset)
            # Differences of equal floats are exact; the sum of many squares wants doubles.
            squares = (first - second).double().square()
            for line, margin in enumerate(self.margins_px):
                row[line, column] = inner(squares, margin).mean().item()
        self._rows.append(row)

    def take(self) -> list[list[float]]:
        """Give the last image's squared errors away, as plain JSON values; `put` takes them back."""
        row: list[list[float]] = self._rows.pop().tolist()
        return row

    def put(self, row: Sequence[Sequence[float]]) -> None:
        """Add an image that was measured elsewhere or before."""
        self._rows.append(np.asarray(row, dtype=np.float64).reshape(len(self.margins_px), len(self.moving)))

    def mse(self, margin_px: int) -> Array:
        """Return squared errors (images, offsets that move) at one margin."""
        line = list(self.margins_px).index(margin_px)
        if not self._rows:
            return np.empty((0, len(self.moving)))
        return np.stack([row[line] for row in self._rows])

    def result(self) -> Stability:
        """Return what was measured so far."""
        errors = {margin: self.mse(margin) for margin in self.margins_px}
        return Stability(self.protocol.name, tuple(self.moving), errors)


@dataclass(frozen=True)
class Stability:
    """Squared errors of a finished measurement, and every way to sum them up.

    Attributes:
        protocol: the protocol's name.
        offsets: the shifts (dx, dy) in px, without (0, 0).
        errors: margin in px -> mean squared errors (images, offsets) of outputs in [-1, 1].
    """

    protocol: str
    offsets: tuple[Offset, ...]
    errors: dict[int, Array]

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
        return Stability(self.protocol, kept, {m: e[:, columns] for m, e in self.errors.items()})

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
            summary[f"{name}_mean_db"] = (
                mean_with_interval(self._image_db(margin_px, f"{name} shifts"), seed=seed) if there else None
            )
            summary[f"{name}_pooled_db"] = pooled_db(some) if there else None
        return summary


def shift_stability(
    generator: nn.Module,
    canvases: Tensor | Iterable[Tensor],
    *,
    window_px: int,
    shifts: Sequence[Shift | float] = tuple(range(8)),
    axis: str = "x",
    protocol: str = "crop",
    margins_px: Sequence[int] = DEFAULT_MARGINS_PX,
    batch_size: int = 8,
) -> Stability:
    """Measure how much a network's output moves when its input moves.

    Args:
        generator: maps (B, C, H, W) to (B, C', H, W) in [-1, 1]. It runs in eval mode, on the device
            of its parameters, and is given back in the mode it came in.
        canvases: pictures (N, C, S, S) in [-1, 1], or an iterable of (B, C, S, S) batches.
        window_px: side of the window the network sees; `crop` needs S > window_px.
        shifts: px, whole or (not for `crop`) fractional; 0 is identical by definition and left out.
        axis: `x`, `y` or `diagonal`.
        protocol: `crop`, `roll` or `subpixel`, see `eval.shifts`.
        margins_px: borders left out (not for `roll`).
        batch_size: windows in one forward pass.

    Returns:
        The squared errors and their summaries.

    Raises:
        InputError: if a shift does not fit, nothing is left to compare, there are no pictures, or an
            output is not finite or not of the input's size.

    >>> import torch
    >>> pictures = torch.rand(2, 3, 40, 40) * 2 - 1
    >>> stable = shift_stability(torch.nn.Tanh(), pictures, window_px=32, shifts=range(4), margins_px=[0])
    >>> stable.mean_db(0)
    150.0
    """
    offsets = offsets_along([exact(shift) for shift in shifts], axis)
    scores: StabilityScores | None = None
    with eval_mode(generator):
        for canvas in one_by_one(canvases, generator):
            if scores is None:
                rule = make_protocol(protocol, canvas_px=canvas.shape[-1], window_px=window_px)
                scores = StabilityScores(rule, offsets, margins_px)
            windows = itertools.chain([scores.protocol.base(canvas)], scores.windows(canvas))
            outputs = run_windows(generator, windows, batch_size=batch_size)
            scores.add(next(outputs), outputs)
    if scores is None:
        raise InputError("there are no pictures to measure")
    return scores.result()


if __name__ == "__main__":
    import sys

    from eval.eval_stability import main

    sys.exit(main())
