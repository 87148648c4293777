"""Stability under perturbations: PSNR between G(T x) and the correspondingly transformed G(x).

What each kind does, and its severities, is the table in `eval.perturb_kinds`. Five kinds are photometric:
the scene stays where it is, so G(T x) is compared with G(x) itself. Rotation, scale and shear are
geometric: G(T x) is compared with T G(x). All are applied to the canvas, before the window is cut, so
what enters at the border is real as far as the canvas reaches (reflected beyond), and inputs and outputs
are clipped to what a picture can hold. Compared is the window less a margin, and of T G(x) only what was
interpolated from pixels inside that margin: the image of a mask of ones tells which.

Warps are bicubic (a = -0.75) in double precision: bilinear ones would lose up to 2 % of a wave of 16 px
and 29 % of one of 4 px, and flatter the score; these are off by 0.5 % and 3 %. Enlarging alone is measured,
because shrinking would need a low-pass of its own. The identity network is compared with the same
interpolation of the same pixels, so it scores as identical.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from data.errors import InputError
from eval.decibels import Array, mean_with_interval, psnr_db
from eval.perturb_kinds import KINDS, perturbed_canvas, warp
from eval.shifts import Protocol, inner

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class PerturbationScores:
    """Squared errors of one network under perturbations, an image after the other.

    Args:
        protocol: cuts the window out of the canvas.
        kinds: names of `KINDS`; none measures nothing.
        margin_px: left out at each border.
        seed: of the noise.
    """

    protocol: Protocol
    kinds: Sequence[str]
    margin_px: int
    seed: int = 0
    _rows: list[list[float]] = field(default_factory=list)
    _masks: dict[tuple[str, float], Tensor] = field(default_factory=dict)

    @property
    def cases(self) -> list[tuple[str, float]]:
        """Every kind at every severity, in the order of `windows` and `add`."""
        return [(name, value) for name in self.kinds for value in KINDS[name].values]

    def windows(self, canvas: Tensor) -> Iterator[Tensor]:
        """Yield what the network must see for one canvas (1, C, S, S): an input for every case."""
        rule = self.protocol
        for name, value in self.cases:
            yield rule.base(
                perturbed_canvas(
                    canvas,
                    name,
                    value,
                    origin_px=rule.origin_px,
                    window_px=rule.window_px,
                    seed=self.seed,
                )
            )

    def add(self, base: Tensor, perturbed: Iterator[Tensor]) -> None:
        """Score one image.

        Args:
            base: G(x), (1, C, H, W) in [-1, 1].
            perturbed: yields G(T x) for every window of `windows`; only those are taken from it.

        Raises:
            InputError: if nothing is left to compare.
        """
        row = []
        for name, value in self.cases:
            actual, expected = next(perturbed), base
            matrix = KINDS[name].matrix
            if matrix is not None:
                moved = warp(base, matrix(value), window_px=self.protocol.window_px)
                actual, expected = actual.clamp(-1, 1), moved.clamp(-1, 1).to(base)
            squares = (expected - actual).double().square().mean(dim=1, keepdim=True)
            row.append(squares[self._valid(name, value, base)].mean().item())
        self._rows.append(row)

    def take(self) -> list[float]:
        """Give the last image's squared errors away; `put` takes them back."""
        return self._rows.pop()

    def put(self, row: Sequence[float]) -> None:
        """Add an image that was measured elsewhere or before."""
        self._rows.append(list(row))

    def mse(self) -> Array:
        """Return squared errors (images, cases)."""
        return np.array(self._rows, dtype=np.float64).reshape(len(self._rows), len(self.cases))

    def summary(self, *, seed: int = 0) -> dict[str, dict[str, Any]]:
        """Return kind -> severity 1 to 5 -> its value and the mean dB over images with its interval."""
        table: dict[str, dict[str, Any]] = {}
        for (name, value), errors in zip(self.cases, self.mse().T, strict=True):
            severities = table.setdefault(name, {})
            figure = {f"{k}_db": v for k, v in mean_with_interval(psnr_db(errors), seed=seed).items()}
            severities[str(len(severities) + 1)] = {"value": value, **figure}
        return table

    def _valid(self, name: str, value: float, base: Tensor) -> Tensor:
        """Return where outputs can be compared, (1, 1, H, W); the same for every image."""
        import torch

        if (name, value) not in self._masks:
            inside = torch.zeros_like(base[:, :1])
            inner(inside, self.margin_px).fill_(1)
            valid = inside > 0
            matrix = KINDS[name].matrix
            if matrix is not None:
                # A pixel is whole where all that it was interpolated from lies inside.
                whole = warp(inside, matrix(value), window_px=self.protocol.window_px)
                valid &= (whole - 1).abs() < 1e-6
            if not valid.any():
                raise InputError(
                    f"{name} by {value}: nothing is left to compare at {self.margin_px} px margin"
                )
            self._masks[name, value] = valid
        return self._masks[name, value]


def describe(kinds: Sequence[str], margin_px: int) -> dict[str, Any]:
    """Return what a result records of the perturbations' protocol."""
    return {
        "margin_px": margin_px,
        "kinds": {
            name: {"meaning": KINDS[name].meaning, "values": list(KINDS[name].values)} for name in kinds
        },
    }
