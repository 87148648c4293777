"""Stability under perturbations: PSNR between G(T x) and the correspondingly transformed G(x).

What each kind does, and its severities, is the table in `eval.metrics.perturb_kinds`. Five kinds are
photometric: the scene stays where it is, so G(T x) is compared with G(x) itself. Rotation, scale and shear
are geometric: G(T x) is compared with T G(x). All are applied to the canvas, before the window is cut, so
what enters at the border is real as far as the canvas reaches (reflected beyond), and inputs and outputs
are clipped to what a picture can hold. Compared is the window less a margin, and of T G(x) only what was
interpolated from pixels inside that margin: the image of a mask of ones tells which.

Warps are bicubic (a = -0.75) in double precision: bilinear ones would lose up to 2 % of a wave of 16 px
and 29 % of one of 4 px, and flatter the score; these are off by 0.5 % and 3 %. Enlarging alone is measured,
because shrinking would need a low-pass of its own. The identity network is compared with the same
interpolation of the same pixels, so it scores as identical.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from steadypix.errors import InputError
from steadypix.eval.metrics.decibels import Array, mean_with_interval, psnr_db
from steadypix.eval.metrics.measure import Conditions, Label, Measure
from steadypix.eval.metrics.perturb_kinds import KINDS, parse_perturbations, perturbed_canvas, warp
from steadypix.eval.metrics.stability import fitting_margins, some, takes
from steadypix.eval.results.lines import table_lines
from steadypix.eval.shifts.protocols import Crop, Protocol, inner

if TYPE_CHECKING:
    from torch import Tensor

    from steadypix.command import Parser


@dataclass
class PerturbationScores(Measure):
    """Squared errors of one network under perturbations, a picture after the other."""

    protocol: Protocol  # cuts the window out of the canvas
    kinds: Sequence[str]  # names of `KINDS`; none measures nothing
    margin_px: int  # left out at each border
    seed: int = 0  # of the noise
    _masks: dict[tuple[str, float], Tensor] = field(default_factory=dict)

    name = "perturbations"
    described_first = True
    any_size = True
    pictures = ("perturb.png",)

    @classmethod
    def add_options(cls, parser: Parser) -> None:
        """Add `--perturb`."""
        about = f"measure stability under {', '.join(KINDS)} too"
        parser.add_argument("--perturb", metavar="all|KIND,...", help=about)

    @classmethod
    def read(cls, args: Any, *, named: bool) -> Any:
        """Return the kinds asked for."""
        return None if args.perturb is None else list(parse_perturbations(args.perturb))

    @classmethod
    def fit(cls, settings: Any, *, inputs: int, outputs: int) -> tuple[Any, str]:
        """Leave out JPEG for what is neither grayscale nor RGB."""
        if "jpeg" not in settings or inputs in (1, 3):
            return settings, ""
        kept = [kind for kind in settings if kind != "jpeg"]
        return kept or None, f"jpeg: needs grayscale or RGB inputs, not {inputs} channels"

    @classmethod
    def make(cls, settings: Any, conditions: Conditions) -> Self:
        """Return one at the widest margin that fits the window."""
        rule = Crop(conditions.canvas_px, conditions.window_px)
        return cls(rule, settings, cls._margin_px(conditions), conditions.seed)

    @classmethod
    def _margin_px(cls, conditions: Conditions) -> int:
        """Return the widest margin that leaves something of the window at every shift that is measured."""
        rule = Crop(conditions.canvas_px, conditions.window_px)
        offsets = takes(rule, [*conditions.offsets, *conditions.map_offsets])
        return max(fitting_margins(rule, offsets or [(0, 0)], conditions.margins_px))

    @property
    def cases(self) -> list[tuple[str, float]]:
        """Every kind at every severity, in the order of `windows` and `add`."""
        return [(name, value) for name in self.kinds for value in KINDS[name].values]

    def windows(self, canvas: Tensor, index: int = 0) -> Iterator[Tensor]:
        """Yield what the network must see for one canvas (1, C, S, S): an input for every case."""
        rule = self.protocol
        place: Any = {"origin_px": rule.origin, "window_px": rule.window}
        for name, value in self.cases:
            yield rule.base(perturbed_canvas(canvas, name, value, **place, seed=self.seed))

    def labels(self, index: int = 0) -> list[Label]:
        """Return kind and severity of every window."""
        return [Label(kind, (0, 0), f"{kind}_{value:g}") for kind, value in self.cases]

    def add(self, base: Tensor | None, outputs: Iterator[Tensor], target: Tensor | None, index: int) -> None:
        """Score one picture: the mean squared error of every case.

        Raises:
            InputError: if nothing is left to compare.
        """
        row, base = [], some(base)
        for name, value in self.cases:
            actual, expected = next(outputs), base
            matrix = KINDS[name].matrix
            if matrix is not None:
                moved = warp(base, matrix(value), window_px=_size(base))
                actual, expected = actual.clamp(-1, 1), moved.clamp(-1, 1).to(base)
            squares = (expected - actual).double().square().mean(dim=1, keepdim=True)
            row.append(squares[self._valid(name, value, base)].mean().item())
        self.rows.append(row)

    def mse(self) -> Array:
        """Return squared errors (images, cases)."""
        return np.array(self.rows, dtype=np.float64).reshape(len(self.rows), len(self.cases))

    def table(self, *, seed: int = 0) -> dict[str, dict[str, Any]]:
        """Return kind -> severity 1 to 5 -> its value and the mean dB over images with its interval."""
        table: dict[str, dict[str, Any]] = {}
        for (name, value), errors in zip(self.cases, self.mse().T, strict=True):
            severities = table.setdefault(name, {})
            figure = {f"{k}_db": v for k, v in mean_with_interval(psnr_db(errors), seed=seed).items()}
            severities[str(len(severities) + 1)] = {"value": value, **figure}
        return table

    def summary(self, *, seed: int) -> dict[str, Any]:
        """Return the dB of every kind and severity."""
        return {self.name: self.table(seed=seed)}

    @classmethod
    def about(cls, settings: Any, conditions: Conditions) -> dict[str, Any]:
        """Return margin, and meaning and severities of the kinds."""
        return {cls.name: describe(settings, cls._margin_px(conditions))}

    @classmethod
    def notes(cls, results: Mapping[str, Any]) -> list[str]:
        """Return a table of its own: a row a generator, the mean over the severities of every kind."""
        models = results["models"]
        kinds = models[0].get(cls.name, {})
        if not kinds:
            return []
        columns = [("under perturbations, mean of five severities [dB]", [m["name"] for m in models])]
        for kind in kinds:
            means = [[row["mean_db"] for row in model[cls.name][kind].values()] for model in models]
            columns.append((kind, [f"{sum(mean) / len(mean):.2f}" for mean in means]))
        return ["", *table_lines(columns), ""]

    @classmethod
    def draw(cls, out: Path, results: dict[str, Any]) -> None:
        """Write the chart."""
        from steadypix.eval.charts.perturb_chart import draw_perturbations

        draw_perturbations(out / "perturb.png", results)

    def _valid(self, name: str, value: float, base: Tensor) -> Tensor:
        """Return where outputs can be compared, (1, 1, H, W); the same for every image."""
        if (name, value) not in self._masks:
            inside = base.new_zeros(1, 1, *base.shape[-2:])
            inner(inside, self.protocol.scale(base) * self.margin_px).fill_(1)
            valid = inside > 0
            matrix = KINDS[name].matrix
            if matrix is not None:
                # A pixel is whole where all that it was interpolated from lies inside.
                whole = warp(inside, matrix(value), window_px=_size(base))
                valid &= (whole - 1).abs() < 1e-6
            if not valid.any():
                raise InputError(
                    f"{name} by {value}: nothing is left to compare at {self.margin_px} px margin"
                )
            self._masks[name, value] = valid
        return self._masks[name, value]


def _size(picture: Tensor) -> tuple[int, int]:
    """Return width and height. Outputs of another size than the window have the same centre."""
    return picture.shape[-1], picture.shape[-2]


def describe(kinds: Sequence[str], margin_px: int) -> dict[str, Any]:
    """Return what a result records of the perturbations' protocol."""
    meanings = {name: {"meaning": KINDS[name].meaning, "values": list(KINDS[name].values)} for name in kinds}
    return {"margin_px": margin_px, "kinds": meanings}
