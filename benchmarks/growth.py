"""How cost grows: a training step with size, batch and width, an evaluation with images and shifts.

    python -m benchmarks.growth                  # about six minutes; growth.md, growth.json, growth.png
    python -m benchmarks.growth --quick          # seconds; the figures mean nothing

Every point is a process of its own (`benchmarks.growth_points`), so its memory is its own too. An exponent is
the slope of a straight line through the logarithms of the upper half of the points (three at least): where
fixed costs no longer hide it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.growth_chart import draw_growth
from benchmarks.memory import run_apart
from benchmarks.report import Cell, Table, write

Point = Mapping[str, int | str]
STEP: Point = {"kind": "step", "size": 256, "batch": 1, "ngf": 16, "num_downs": 6, "steps": 3}
EVALUATION: Point = {
    "kind": "evaluation",
    "size": 64,
    "ngf": 16,
    "num_downs": 6,
    "images": 40,
    "shifts": 8,
    "steps": 3,
}
# What the libraries take once they have done everything once.
NOTHING: Point = {"size": 16, "batch": 1, "ngf": 1, "num_downs": 3, "images": 1, "shifts": 2, "steps": 0}


@dataclass(frozen=True)
class Axis:
    """What is varied, the rest held.

    Args:
        key: of the point.
        label: with its unit.
        base: the other values.
        values: ascending.
    """

    key: str
    label: str
    base: Point
    values: Sequence[int]


AXES = (
    Axis("size", "size [px]", STEP, (64, 128, 256, 512, 1024)),
    Axis("batch", "batch [pictures]", STEP, (1, 2, 4, 8)),
    Axis("ngf", "width ngf [channels]", STEP, (8, 16, 32, 64)),
    Axis("images", "images", EVALUATION, (10, 20, 40, 80)),
    Axis("shifts", "shifts", EVALUATION, (2, 4, 8, 16)),
)
QUICK_AXES = (
    Axis("size", "size [px]", {**STEP, "ngf": 4, "num_downs": 3, "steps": 1}, (16, 32)),
    Axis("images", "images", {**EVALUATION, "size": 16, "ngf": 4, "num_downs": 3, "steps": 1}, (1, 2)),
)


@dataclass(frozen=True)
class Fit:
    """cost = factor * value ** exponent, over the upper half of the points.

    Args:
        exponent: the slope of the logarithms.
        factor: cost where the value is 1.
        residual: the largest relative distance of a point from it.
        count: points it was fitted to.
    """

    exponent: float
    factor: float
    residual: float
    count: int


@dataclass(frozen=True)
class Curve:
    """What was measured along one axis.

    Args:
        axis: what was varied.
        seconds: a training step, or an evaluation.
        megabytes: the largest size of its process, less that of one with next to nothing to do.
    """

    axis: Axis
    seconds: Sequence[float]
    megabytes: Sequence[float]

    @property
    def time(self) -> Fit:
        """How time grows."""
        return fit(self.axis.values, self.seconds)

    @property
    def memory(self) -> Fit:
        """How memory grows."""
        return fit(self.axis.values, self.megabytes)


def fit(values: Sequence[float], costs: Sequence[float]) -> Fit:
    """Fit a power law by least squares on logarithms.

    >>> round(fit([1, 2, 4, 8], [9, 4, 16, 64]).exponent, 6)
    2.0
    """
    kept = min(len(values), max(3, (len(values) + 1) // 2))
    # Less than a page is no memory, and has no logarithm.
    x, y = np.log(np.asarray(values[-kept:], float)), np.log(np.maximum(costs[-kept:], 4 / 1024))
    exponent, constant = np.polyfit(x, y, 1)
    residual = np.abs(np.expm1(y - (exponent * x + constant))).max()
    return Fit(float(exponent), float(np.exp(constant)), float(residual), kept)


def measure_growth(axes: Sequence[Axis]) -> list[Curve]:
    """Measure every axis; a point that two of them share is measured once."""
    seen: dict[str, dict[str, float]] = {}

    def measured(point: Point) -> dict[str, float]:
        words = json.dumps(point, sort_keys=True)
        if words not in seen:
            seen[words] = run_apart("benchmarks.growth_points", [words])
        return seen[words]

    curves = []
    for axis in axes:
        idle = measured({**axis.base, **NOTHING})["peak_mb"]
        points = [measured({**axis.base, axis.key: value}) for value in axis.values]
        megabytes = [point["peak_mb"] - idle for point in points]
        curves.append(Curve(axis, [point["seconds"] for point in points], megabytes))
    return curves


def to_tables(curves: Sequence[Curve]) -> list[Table]:
    """The points, and what was fitted to them."""
    rows: list[list[Cell]] = []
    fits: list[list[Cell]] = []
    for curve in curves:
        kind = "training step" if curve.axis.base["kind"] == "step" else "evaluation"
        points = zip(curve.axis.values, curve.seconds, curve.megabytes, strict=True)
        rows += [[kind, curve.axis.label, value, s * 1e3, mb] for value, s, mb in points]
        time, memory = curve.time, curve.memory
        cells: list[Cell] = [time.exponent, f"{time.residual:.0%}", memory.exponent, f"{memory.residual:.0%}"]
        fits.append([kind, curve.axis.label, time.count, *cells])
    held = [
        ", ".join(f"{key} {value}" for key, value in base.items() if key not in ("kind", "steps"))
        for base in {id(curve.axis.base): curve.axis.base for curve in curves}.values()
    ]
    notes = [
        f"What is not varied is held at: {'; '.join(held)}. A step trains both networks of pix2pix (sampling "
        "`blur`, bin5, fused Adam); an evaluation is protocol crop with L1, PSNR and TV on PNGs, the unmoved "
        "window among its shifts. Time: of the processor, on one thread, the least of three or more after a "
        "warm-up. Memory: the largest size of a process of its own, less that of one that does the same on a "
        "picture of 16 px.",
    ]
    columns = ["what", "against", "value", "time [ms]", "peak memory [MB]"]
    meaning = "Largest relative distance of a point from the line beside each exponent."
    return [
        Table("growth", "How cost grows", columns, rows, (), notes),
        Table(
            "exponents",
            "Fitted exponents",
            ["what", "against", "points", "time", "distance", "memory", "distance"],
            fits,
            (),
            [meaning],
        ),
    ]


def main(argv: list[str] | None = None) -> None:
    """Measure, fit, write and draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two short curves of two points")
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    args = parser.parse_args(argv)
    curves = measure_growth(QUICK_AXES if args.quick else AXES)
    print(write(to_tables(curves), args.out, "growth"))
    draw_growth(args.out / "growth.png", curves)


if __name__ == "__main__":
    main()
