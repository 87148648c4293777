"""Everything that is measured on a CPU, in one command: Markdown on stdout, files in --out.

make bench                                       # in an environment of its own, with the peers
python -m benchmarks.run --quick                 # small and short, for a look
python -m benchmarks.run --only layers,generator
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from benchmarks.evaluation import TINY, measure_evaluation
from benchmarks.floors import Floors, measure_floors
from benchmarks.generator import measure_generator
from benchmarks.layers import SHAPES, TINY_SHAPES, measure_blur_pool, measure_blur_upsample
from benchmarks.report import Table, write
from benchmarks.startup import COMMANDS, measure_startup
from benchmarks.training import measure_training

THEMES = ("floors", "layers", "training", "evaluation", "startup", "generator")


def main(argv: list[str] | None = None) -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default=",".join(THEMES), help=f"of {','.join(THEMES)}")
    parser.add_argument("--quick", action="store_true", help="small shapes, few rounds")
    parser.add_argument("--rounds", type=int, help="samples of each work (default: 40; 3 with --quick)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    args = parser.parse_args(argv)
    themes = args.only.split(",")
    if unknown := set(themes) - set(THEMES):
        parser.error(f"--only: {', '.join(sorted(unknown))} unknown; expected some of {', '.join(THEMES)}")
    torch.set_num_threads(args.threads)
    floors = measure_floors(side=256, megabytes=2) if args.quick else measure_floors()
    tables: list[Table] = [describe(floors)]
    if "layers" in themes:
        rounds = args.rounds or (3 if args.quick else 40)
        shapes = TINY_SHAPES if args.quick else SHAPES
        tables.append(measure_blur_pool(floors, rounds=rounds, shapes=shapes))
        tables.append(measure_blur_upsample(floors, rounds=rounds, shapes=shapes))
    if "training" in themes:
        rounds = args.rounds or (3 if args.quick else 15)
        small = {"size": 32, "ngf": 4, "num_downs": 4} if args.quick else {}
        tables.append(measure_training(floors, rounds=rounds, **small))
    if "evaluation" in themes:
        if args.quick:
            tables += measure_evaluation(rounds=1, images=2, sizes={"tiny": TINY}, most=4)
        else:
            tables += measure_evaluation(rounds=args.rounds or 3)
    if "startup" in themes:
        commands = ["generate"] if args.quick else list(COMMANDS)
        tables.append(measure_startup(rounds=args.rounds or (1 if args.quick else 5), commands=commands))
    if "generator" in themes:  # last: it sets how this process gets its memory
        rounds = args.rounds or (3 if args.quick else 15)
        if args.quick:  # so small that its memory is lost in what the library takes
            tables.append(measure_generator(floors, rounds=rounds, size=32, ngf=4, num_downs=4, memory=False))
        else:
            tables.append(measure_generator(floors, rounds=rounds))
    print(write(tables, args.out, "bench"))


def describe(floors: Floors) -> Table:
    """The machine's own rates."""
    rows = [[floors.gemm_flops / 1e9, floors.copy_bytes / 1e9]]
    note = "The fastest of many. Every floor below is computed from these two."
    return Table("floors", "What the machine can do", ["product [GFLOP/s]", "copy [GB/s]"], rows, (), [note])


if __name__ == "__main__":
    main()
