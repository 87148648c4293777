"""Everything that is measured on a CPU, in one command: Markdown on stdout, files in --out.

make bench                                       # in an environment of its own, with the peers
python -m benchmarks.run --quick                 # small and short, for a look
python -m benchmarks.run --only layers,generator
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.evaluation import TINY, measure_evaluation
from benchmarks.floors import describe, measure_floors
from benchmarks.generator import measure_generator
from benchmarks.layers import SHAPES, TINY_SHAPES, measure_blur_pool, measure_blur_upsample
from benchmarks.report import Table, write
from benchmarks.step.compare import measure_training

THEMES = ("floors", "layers", "training", "evaluation", "generator")


def main(argv: list[str] | None = None) -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default=",".join(THEMES), help=f"of {','.join(THEMES)}")
    parser.add_argument("--quick", action="store_true", help="small shapes, few rounds")
    parser.add_argument("--rounds", type=int, help="samples of each work (default: 3 to 15; 3 with --quick)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    args = parser.parse_args(argv)
    themes = args.only.split(",")
    if unknown := set(themes) - set(THEMES):
        parser.error(f"--only: {', '.join(sorted(unknown))} unknown; expected some of {', '.join(THEMES)}")
    torch.set_num_threads(args.threads)
    tables: list[Table] = []
    for table in measure(themes, quick=args.quick, rounds=args.rounds):
        tables.append(table)
        text = write(tables, args.out, "bench")  # after every theme: all of them take half an hour
    print(text)


def measure(themes: Collection[str], *, quick: bool, rounds: int | None) -> Iterator[Table]:
    """Yield the tables of the themes as they are measured."""
    floors = measure_floors(side=256, megabytes=2) if quick else measure_floors()
    yield describe(floors)
    samples = rounds or (3 if quick else 15)
    shapes = TINY_SHAPES if quick else SHAPES
    network: dict[str, Any] = {"size": 32, "ngf": 4, "num_downs": 5} if quick else {}
    if "layers" in themes:
        yield measure_blur_pool(floors, rounds=samples, shapes=shapes)
        yield measure_blur_upsample(floors, rounds=samples, shapes=shapes)
    if "training" in themes:
        yield measure_training(floors, rounds=samples, **network)
    if "evaluation" in themes:
        little: dict[str, Any] = {"images": 2, "sizes": {"tiny": TINY}, "most": 4} if quick else {}
        yield from measure_evaluation(rounds=1 if quick else min(rounds or 3, 3), **little)  # of minutes each
    if "generator" in themes:  # last: it sets how this process gets its memory
        # The memory of small networks is lost in what the library takes.
        yield measure_generator(floors, rounds=samples, memory=not quick, **network)


if __name__ == "__main__":
    main()
