"""Train, measure and write a study up; the same command goes on where it stopped.

make reproduce DATA=DIR SCALE=cpu                             # facades, all of it
python -m reproduce --data DIR --scale full --minutes 9       # one piece, say of a lent GPU
"""

from __future__ import annotations

import argparse
import functools
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.command import Parser, command, positive
from data.errors import InputError
from data.files import write_text, write_whole
from reproduce.plan import DISCRIMINATORS, SCALES, STUDIES, VARIANTS, Run, runs

if TYPE_CHECKING:
    from reproduce.document import Page

STAGES = ("train", "measure", "write")
SHOWN = ("baseline-0", "bin5-0", "blur_late-0")  # in the pictures
GRID_PICTURES = 40  # in which the grid's place is looked for
MAP_PICTURES = 10  # each takes 64 shifts
PICTURES = {
    "tradeoff.png": "Stability against sharpness along training, every variant.",
    "discriminators.png": "The same with other discriminators: behind Bin-5 (`soft`), and as published.",
    "curve.png": "Stability by shift, at the end of training.",
    "grid.png": "Where the baseline changes most, shift by shift; below each output its difference to the "
    "unshifted one.",
    "map.png": f"Stability over shifts in both directions, {MAP_PICTURES} pictures.",
}
COLOURS = {"grid.png": 192, "map.png": 128}  # all pictures of the three studies stay below 1 MB


@command("reproduce")
def main(argv: Sequence[str]) -> int:
    """Run the command line; return 0, or 3 if time ran out and the same command would go on."""
    parser = Parser(prog="reproduce", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="holds facades/ and maps/")
    parser.add_argument("--study", choices=STUDIES, default="facades")
    parser.add_argument("--scale", choices=SCALES, default="cpu")
    parser.add_argument("--stages", default=",".join(STAGES), help=f"of {','.join(STAGES)}")
    parser.add_argument(
        "--only",
        metavar="RUN,...",
        help="train and measure these alone, such as baseline-0,bin5-1; the page has all that there are",
    )
    parser.add_argument("--minutes", type=float, help="train for so long at most, then save and stop")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR")
    parser.add_argument("--out", type=Path, default=Path("docs/results"), metavar="DIR")
    parser.add_argument("--lpips-weights", metavar="FILE", help="SqueezeNet's, for LPIPS in the table")
    parser.add_argument("--limit", type=positive, help="measure so many pictures (default: all)")
    args = parser.parse(argv)
    stages = args.stages.split(",")
    if unknown := set(stages) - set(STAGES):
        raise InputError(
            f"--stages: {', '.join(sorted(unknown))} unknown; expected some of {','.join(STAGES)}"
        )
    if args.lpips_weights and not Path(args.lpips_weights).is_file():
        raise InputError(f"--lpips-weights {args.lpips_weights}: no such file")
    wanted = _wanted(args)
    folder = args.data / STUDIES[args.study].folder
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected the pairs of {args.study}")

    from reproduce.document import write_page  # loads torch, which usage errors need not wait for
    from reproduce.training import train

    if "train" in stages and not train(wanted, data=args.data, root=args.runs, minutes=args.minutes):
        print("reproduce: stopped in a training; the same command goes on", file=sys.stderr)
        return 3
    if "measure" in stages:
        for run in wanted:
            _measure(run, args)
    if "write" in stages:
        path = args.out / f"{args.study}.md"
        write_text(path, write_page(collect(args)))
        print(path)
    return 0


def _wanted(args: argparse.Namespace) -> list[Run]:
    every = list(runs(args.study, args.scale))
    if args.only is None:
        return every
    names = args.only.split(",")
    known = [run.name for run in every]
    if unknown := set(names) - set(known):
        raise InputError(f"--only: {', '.join(sorted(unknown))} unknown; expected some of {', '.join(known)}")
    return [run for run in every if run.name in names]


def _measure(run: Run, args: argparse.Namespace) -> list[dict[str, Any]]:
    from reproduce.measuring import measure

    slow = ["--quality", "ssim,lpips", "--lpips-net", "squeeze", "--lpips-weights", str(args.lpips_weights)]
    last = slow if args.lpips_weights else []
    return measure(run, data=args.data, root=args.runs, limit=args.limit, last=last)


def collect(args: argparse.Namespace) -> Page:
    """Measure what has not been, of all runs that there are; draw, and return what the page is made from."""
    from eval.charts import save_smaller
    from eval.curve import draw_curve
    from eval.results_schema import read_results
    from eval.tradeoff import draw_tradeoff
    from reproduce.document import Page
    from reproduce.measuring import checkpoints, evaluate, measured
    from reproduce.training import discriminator_loss, is_done

    begun = [run for run in runs(args.study, args.scale) if checkpoints(run, args.runs)]
    if not begun:
        raise InputError(f"{args.runs}: no run of {args.study} at scale {args.scale} has a generator yet")
    rows = {run.name: _measure(run, args) for run in begun}
    ends = {run.name: checkpoints(run, args.runs)[max(checkpoints(run, args.runs))] for run in begun}
    done = [run.name for run in begun if is_done(run, args.runs)]
    finals = {name: {**rows[name][-1], "name": name} for name in done}
    place = measured(args.runs, args.study, args.scale)
    pictures = args.out / args.study
    pictures.mkdir(parents=True, exist_ok=True)
    shown, made = [name for name in SHOWN if name in done], list[str]()
    if shown:
        files = [ends[name] for name in shown]
        # The page travels; the photos that were learnt from do not.
        words = ["--limit", str(min(GRID_PICTURES, args.limit or GRID_PICTURES)), "--no-originals"]
        evaluate(files, args.study, data=args.data, out=place / "shown", words=words)
        shutil.copy(place / "shown" / "grid.png", pictures / "grid.png")
        words = ["--limit", str(min(MAP_PICTURES, args.limit or MAP_PICTURES)), "--map"]
        evaluate(files, args.study, data=args.data, out=place / "map", words=words)
        shutil.copy(place / "map" / "map.png", pictures / "map.png")
        # About the pictures every run was measured on.
        about = read_results(place / shown[0] / f"{rows[shown[0]][-1]['epoch']:g}" / "results.json")
        drawn = [name for name in rows if name.endswith("-0")]
        plain = [name for name in drawn if not VARIANTS[name[:-2]].discriminator]
        before_others = [f"{name[:-2]}{end}-0" for end in DISCRIMINATORS if end for name in SHOWN]
        others = [name for name in before_others if name in drawn]
        models = [finals[name] for name in plain if name in finals]
        draw_curve(pictures / "curve.png", {**about, "models": models})
        lines = {"tradeoff.png": plain} | ({"discriminators.png": [*shown, *others]} if others else {})
        for file, names in lines.items():
            models = [row for name in names for row in rows[name]]
            draw_tradeoff(pictures / file, {**about, "models": models})
        made = [file for file in PICTURES if file in {"curve.png", "grid.png", "map.png", *lines}]
        for file in made:  # documents travel with every clone
            smaller = functools.partial(save_smaller, pictures / file, colours=COLOURS.get(file, 64))
            write_whole(pictures / file, smaller)
    return Page(
        args.study,
        args.scale,
        rows,
        finals,
        done,
        _command(args),
        {f"{args.study}/{file}": PICTURES[file] for file in made},
        {run.name: loss for run in begun if (loss := discriminator_loss(run, args.runs)) is not None},
    )


def _command(args: argparse.Namespace) -> str:
    """Return the command that makes the page, with all that its figures depend on."""
    words = [] if args.limit is None else [f"--limit {args.limit}"]
    words += ["--lpips-weights FILE"] if args.lpips_weights else []
    more = f' REPRODUCE="{" ".join(words)}"' if words else ""
    return f"make reproduce DATA=DIR STUDY={args.study} SCALE={args.scale}{more}"


if __name__ == "__main__":
    sys.exit(main())
