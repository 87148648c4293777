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
from eval.shifts import Offset, Protocol, inner, make_protocol, offsets_along

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
        keep = [not odd_only or is_odd(offset) for offset in self.offsets]
        if not any(keep):
            raise InputError("there is no odd shift to average over; expected one such as 1 in --shifts")
        return psnr_db(self.errors[margin_px][:, keep]).mean(axis=1)

    def mean_db(self, margin_px: int) -> float:
        """Return the mean over images and shifts of per-image dB (the paper's reading)."""
        return float(self.image_db(margin_px).mean())

    def odd_mean_db(self, margin_px: int) -> float:
        """Return the mean over images and *odd* shifts: even ones flatter every strided network."""
        return float(self.image_db(margin_px, odd_only=True).mean())

    def summary(self, margin_px: int, *, seed: int = 0) -> dict[str, Any]:
        """Return means, pooled dB and 95 % intervals as plain JSON values."""
        errors = self.errors[margin_px]
        odd = [column for column, offset in enumerate(self.offsets) if is_odd(offset)]
        summary: dict[str, Any] = {
            "mean_db": mean_with_interval(self.image_db(margin_px), seed=seed),
            "odd_mean_db": None,
            "pooled_db": pooled_db(errors),
            "odd_pooled_db": pooled_db(errors[:, odd]) if odd else None,
            "n_identical": int((errors == 0).sum()),
            "per_shift": [
                {
                    "dx": offset[0],
                    "dy": offset[1],
                    **{f"{k}_db": v for k, v in mean_with_interval(psnr_db(column), seed=seed).items()},
                    "pooled_db": pooled_db(column),
                    "n_identical": int((column == 0).sum()),
                }
                for offset, column in zip(self.offsets, errors.T, strict=True)
            ],
        }
        if odd:
            summary["odd_mean_db"] = mean_with_interval(self.image_db(margin_px, odd_only=True), seed=seed)
        return summary


def is_odd(offset: Offset) -> bool:
    """Whether a shift moves by an odd number of px along x or y."""
    return any(shift % 2 for shift in offset)


def shift_stability(
    generator: nn.Module,
    canvases: Tensor | Iterable[Tensor],
    *,
    window_px: int,
    shifts: Sequence[int] = tuple(range(8)),
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
        shifts: whole pixels; 0 is identical by definition and left out.
        axis: `x`, `y` or `diagonal`.
        protocol: `crop` or `roll`, see `eval.shifts`.
        margins_px: borders left out (for `crop`).
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
    import torch

    offsets = offsets_along(list(shifts), axis)
    parameter = next(generator.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    batches = [canvases] if isinstance(canvases, torch.Tensor) else canvases
    scores: StabilityScores | None = None
    was_training = generator.training
    generator.eval()
    try:
        for batch in batches:
            if batch.ndim != 4 or batch.shape[-1] != batch.shape[-2]:
                raise InputError(f"pictures must be (B, C, S, S), square; got {tuple(batch.shape)}")
            for canvas in batch.to(device).split(1):
                if scores is None:
                    rule = make_protocol(protocol, canvas_px=canvas.shape[-1], window_px=window_px)
                    scores = StabilityScores(rule, offsets, margins_px)
                windows = itertools.chain([scores.protocol.base(canvas)], scores.windows(canvas))
                outputs = run_windows(generator, windows, batch_size=batch_size)
                scores.add(next(outputs), outputs)
    finally:
        generator.train(was_training)
    if scores is None:
        raise InputError("there are no pictures to measure")
    return scores.result()


def run_windows(generator: nn.Module, windows: Iterable[Tensor], *, batch_size: int) -> Iterator[Tensor]:
    """Yield a network's output for each of many (1, C, H, W) windows, a batch at a time.

    Windows are taken as they are needed, so memory holds one batch however many there are.

    Raises:
        InputError: if an output is not finite, or its height and width are not the input's.
    """
    import torch

    windows = iter(windows)
    while chunk := list(itertools.islice(windows, batch_size)):
        batch = torch.cat(chunk)
        with torch.inference_mode():
            output = generator(batch)
        if output.shape[-2:] != batch.shape[-2:]:
            raise InputError(
                f"the network turns {tuple(batch.shape[-2:])} px into {tuple(output.shape[-2:])} px; "
                "expected an output of the input's size"
            )
        if not torch.isfinite(output).all():
            raise InputError("the network's output is not finite (NaN or infinity)")
        yield from output.float().split(1)


if __name__ == "__main__":
    import sys

    from eval.eval_stability import main

    sys.exit(main())
