"""How cost grows: a training step with size, batch and width, an evaluation with images and shifts.

    python -m benchmarks.growth                  # about six minutes; growth.md, growth.json, growth.png
    python -m benchmarks.growth --quick          # seconds; the figures mean nothing

Every point is a process of its own (`benchmarks.growth.points`), so its memory is its own too. An exponent is
the slope of a straight line through the logarithms of the upper half of the points (three at least): where
fixed costs no longer hide it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.growth.chart import draw_growth
from benchmarks.growth.fit import Axis, Curve, Point
from benchmarks.memory import run_apart
from benchmarks.report import Cell, Table, write

STEP: Point = {"kind": "step", "size": 256, "batch": 1, "ngf": 16, "num_downs": 6, "steps": 3}
SMALL: Point = {"kind": "evaluation", "size": 64, "ngf": 16, "num_downs": 6, "steps": 3}
EVALUATION: Point = {**SMALL, "images": 40, "shifts": 8}
# What the libraries take once they have done everything once.
NOTHING: Point = {"size": 16, "batch": 1, "ngf": 1, "num_downs": 3, "images": 1, "shifts": 2, "steps": 0}

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


def measure_growth(axes: Sequence[Axis]) -> list[Curve]:
    """Measure every axis; a point that two of them share is measured once."""
    seen: dict[str, dict[str, float]] = {}

    def measured(point: Point) -> dict[str, float]:
        words = json.dumps(point, sort_keys=True)
        if words not in seen:
            seen[words] = run_apart("benchmarks.growth.points", [words])
        return seen[words]

    curves = []
    for axis in axes:
        idle = measured({**axis.base, **NOTHING})["peak_mb"]
        points = [measured({**axis.base, axis.key: value}) for value in axis.values]
        megabytes = [point["peak_mb"] - idle for point in points]
        curves.append(Curve(axis, [1e3 * point["seconds"] for point in points], megabytes))
    return curves


def to_tables(curves: Sequence[Curve]) -> list[Table]:
    """The points, and what was fitted to them."""
    rows: list[list[Cell]] = []
    fits: list[list[Cell]] = []
    for curve in curves:
        kind, label = curve.axis.kind, curve.axis.label
        points = zip(curve.axis.values, curve.milliseconds, curve.megabytes, strict=True)
        rows += [[kind, label, *point] for point in points]
        time, memory = curve.time, curve.memory
        cells: list[Cell] = [time.exponent, f"{time.residual:.0%}", memory.exponent, f"{memory.residual:.0%}"]
        fits.append([kind, label, time.count, *cells])
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
    measured = ["what", "against", "value", "time [ms]", "peak memory [MB]"]
    fitted = ["what", "against", "points", "time", "distance", "memory", "distance"]
    meaning = ["Largest relative distance of a point from the line beside each exponent."]
    return [
        Table("growth", "How cost grows", measured, rows, (), notes),
        Table("exponents", "Fitted exponents", fitted, fits, (), meaning),
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
