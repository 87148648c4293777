"""Train, measure and write a study up; the same command goes on where it stopped.

make reproduce DATA=DIR SCALE=cpu                             # facades, all of it
python -m reproduce --data DIR --scale full --minutes 9       # one piece, say of a lent GPU
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reproduce.plan import SCALES, STUDIES, Run, page_name, runs
from steadypix.command import Parser, command, positive
from steadypix.errors import InputError
from steadypix.files import write_text

if TYPE_CHECKING:
    from reproduce.page import Page

STAGES = ("train", "measure", "write")


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
        path = args.out / f"{page_name(args.study, args.scale)}.md"
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

    study = STUDIES[args.study]
    slow = ["--quality", study.quality, "--lpips-net", "squeeze", "--lpips-weights", str(args.lpips_weights)]
    moves = study.moves if SCALES[args.scale].fractions else ()
    last = [*moves, *(slow if args.lpips_weights else [])]
    return measure(run, data=args.data, root=args.runs, limit=args.limit, last=last)


def collect(args: argparse.Namespace) -> Page:
    """Measure what has not been, of all runs that there are; draw, and return what the page is made from."""
    from reproduce.measuring import checkpoints
    from reproduce.page import Page
    from reproduce.pictures import draw_pictures
    from reproduce.training import discriminator_loss, is_done

    begun = [run for run in runs(args.study, args.scale) if checkpoints(run, args.runs)]
    if not begun:
        raise InputError(f"{args.runs}: no run of {args.study} at scale {args.scale} has a generator yet")
    rows = {run.name: _measure(run, args) for run in begun}
    done = [run for run in begun if is_done(run, args.runs)]
    ends = {run.name: checkpoints(run, args.runs)[run.epochs] for run in done}
    name = page_name(args.study, args.scale)
    pictures = draw_pictures(
        args.out / name,
        rows,
        ends,
        study=args.study,
        scale=args.scale,
        data=args.data,
        root=args.runs,
        limit=args.limit,
    )
    return Page(
        args.study,
        args.scale,
        rows,
        {run.name: {**rows[run.name][-1], "name": run.name} for run in done},
        _command(args),
        {f"{name}/{file}": text for file, text in pictures.items()},
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
