"""The command `eval_stability`: how far do outputs move when inputs move, and at what quality?"""

from __future__ import annotations

import datetime
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.command import (
    Parser,
    add_common_options,
    command,
    natural,
    pick_device,
    positive,
    version,
)
from data.errors import InputError
from eval.offsets import AXES, is_whole, offsets_along, parse_shifts, plain
from eval.results import (
    SCHEMA_VERSION,
    lead_score_db,
    prepare_output,
    to_json,
    to_table,
    write_results,
)
from eval.shifts import PROTOCOLS

if TYPE_CHECKING:
    from data.pairs import Pairs
    from eval.evaluate import Measurement, Plan
    from eval.models import Model

DESCRIPTION = """Measure the shift stability of generators: PSNR between the output for the shifted
input and the shifted output, beside the quality of the outputs."""


def build_parser() -> Parser:
    """Return the command line."""
    parser = Parser(prog="eval_stability", description=DESCRIPTION)
    parser.add_argument(
        "checkpoints",
        nargs="*",
        metavar="CHECKPOINT",
        help="run directories or .safetensors files (default: all under ./checkpoints, else the released)",
    )
    parser.add_argument(
        "--shifts", default="0..7", help="0..7, -4..4, 1,3,5 or 1/2,0.25 (px; default: %(default)s)"
    )
    parser.add_argument("--axis", choices=AXES, default="x", help="direction of the shifts")
    parser.add_argument(
        "--protocol", default="crop", help=f"of {', '.join(PROTOCOLS)}, eqt; the first one with shifts leads"
    )
    parser.add_argument(
        "--margins",
        default="0,16",
        help="px left out at each border under crop and subpixel (default: %(default)s)",
    )
    parser.add_argument("--map", action="store_true", help="measure every (dx, dy) of the shifts too")
    parser.add_argument(
        "--pan", metavar="V", help="measure flicker while the window pans at V px a frame too: 1 or 1/2,1"
    )
    parser.add_argument(
        "--pan-frames", type=positive, default=16, metavar="N", help="frames of a pan (default: %(default)s)"
    )
    parser.add_argument(
        "--data",
        metavar="DIR|synthetic",
        help="folder of pairs, or procedural pictures (default: what the checkpoints were trained on)",
    )
    parser.add_argument("--split", help="folder name of the pairs (default: the run's validation split)")
    parser.add_argument("--limit", type=positive, metavar="N", help="use the first N pictures")
    parser.add_argument(
        "--worst", type=natural, default=0, metavar="K", help="name the K pictures that move most"
    )
    parser.add_argument("--out", type=Path, default=Path("results"), metavar="DIR", help="where to write")
    parser.add_argument("--json", action="store_true", help="print results.json instead of the table")
    parser.add_argument(
        "--fail-under",
        type=float,
        metavar="DB",
        help="exit 1 if a model's odd-shift mean (first protocol, widest margin; fractional shifts if any; "
        "EQ-T if there is no protocol with shifts) is lower",
    )
    add_common_options(parser, batch_size=8)
    return parser


@command("eval_stability")
def main(argv: Sequence[str]) -> int:
    """Run the command line; return its exit code."""
    words = list(argv)
    args = build_parser().parse(words, signed=("--shifts", "--margins", "--pan"))
    shifts = parse_shifts(args.shifts)
    margins = parse_margins(args.margins)
    protocols = list(dict.fromkeys(args.protocol.split(",")))
    for name in protocols:
        if name not in (*PROTOCOLS, "eqt"):
            raise InputError(f"--protocol {name}: is unknown; expected of {', '.join(PROTOCOLS)}, eqt")
    prepare_output(args.out)

    from eval.eqt import MEANING as EQT_MEANING
    from eval.evaluate import Plan, measure, summarise
    from eval.flicker import PanPlan, draw_pan, measure_pan, record_pan
    from eval.models import find_checkpoints, load_models
    from eval.pan import parse_speeds
    from eval.pictures import draw
    from eval.sources import open_data

    pan = None
    if args.pan is not None:
        pan = PanPlan(speeds=parse_speeds(args.pan), n_frames=args.pan_frames, axis=args.axis)
    device = pick_device(args.device)
    models = load_models(args.checkpoints or find_checkpoints(), device)
    warn_of_seams(models, protocols)
    pairs, data = open_data(models, source=args.data, split=args.split, limit=args.limit)
    plan = Plan(
        protocols=[name for name in protocols if name in PROTOCOLS],
        eqt="eqt" in protocols,
        offsets=offsets_along(shifts, args.axis),
        map_offsets=[(dx, dy) for dy in shifts for dx in shifts] if args.map else (),
        margins_px=margins,
        batch_size=args.batch_size,
        workers=args.workers,
        seed=args.seed,
        limit=args.limit,
        device=device,
    )
    say_what_is_left_out(plan, pairs)
    if pan:
        wide_px = pan.canvas_px(pairs.crop_size)
        wide = open_data(models, source=args.data, split=args.split, limit=args.limit, least_px=wide_px)[0]
        pan.scores(wide.load_size, wide.crop_size)  # what does not fit is refused before the work
    measurements = measure(models, pairs, plan)
    results: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["eval_stability", *words]),
        "versions": versions(),
        "device": device,
        "precision": "fp32",
        "seed": args.seed,
        "axis": args.axis,
        "shifts_px": [plain(shift) for shift in shifts],
        "protocols": {n: PROTOCOLS[n].meaning if n in PROTOCOLS else EQT_MEANING for n in protocols},
        **summarise(measurements, plan),
    }
    results["data"] = {**data, "n_images": results.pop("n_images")}
    if args.worst:
        results["worst"] = worst(measurements, pairs, args.worst)
    if pan:
        flicker = measure_pan(models, wide, plan, pan)
        record_pan(results, models, flicker, pan, canvas_px=wide.load_size)
    write_results(results, args.out)
    draw(results, measurements, pairs, plan, args.out)
    if pan:
        draw_pan(results, models, flicker, wide, plan, args.out)
    print(to_json(results) if args.json else to_table(results))
    print(f"wrote {args.out}/ results.json results.csv and pictures", file=sys.stderr)
    return passes(results, args.fail_under)


def parse_margins(text: str) -> list[int]:
    """Read `0,16` into margins in px."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 6 for part in parts):
        raise InputError(f"margins {text!r} not understood; expected whole px such as 0,16")
    return sorted({int(part) for part in parts})


def say_what_is_left_out(plan: Plan, pairs: Pairs) -> None:
    """Name the margins that leave nothing of a small window, and the shifts that a protocol cannot make."""
    for rule in plan.rules(pairs):
        offsets = plan.offsets_of(rule, mapped=True)
        if not rule.takes_fractions and not all(map(is_whole, plan.offsets)):
            print(f"{rule.name}: takes whole shifts; the others are left out", file=sys.stderr)
        if not offsets or not rule.uses_margins:
            continue
        room = min(map(rule.compared_px, offsets))
        kept = plan.margins_of(rule)
        for margin in plan.margins_px:
            if margin not in kept:
                note = f"margin {margin} px leaves nothing of a {max(room, 0)} px overlap: left out"
                print(f"{rule.name}: {note}", file=sys.stderr)


def warn_of_seams(models: Sequence[Model], protocols: Sequence[str]) -> None:
    """Say that roll measures the seam where padding is not circular."""
    odd = [m.name for m in models if m.config["generator"].get("padding") != "circular"]
    if "roll" in protocols and odd:
        print(
            f"roll: the seam dominates without circular padding ({', '.join(odd)}); read crop instead",
            file=sys.stderr,
        )


def worst(measurements: Sequence[Measurement], pairs: Pairs, count: int) -> dict[str, list[Any]]:
    """Return the `count` pictures that move most, for each model: name and mean dB over the shifts."""
    ranking = {}
    for measurement in measurements:
        db = measurement.lead_db()
        order = db.argsort(kind="stable")[:count]
        ranking[measurement.model.name] = [
            {"image": pairs.name(int(index)), "mean_db": float(db[index])} for index in order
        ]
    return ranking


def passes(results: dict[str, Any], floor: float | None) -> int:
    """Return 1, naming the models, if any leads with less than `floor` dB; else 0."""
    low = [m["name"] for m in results["models"] if floor is not None and lead_score_db(m) < floor]
    for name in low:
        print(f"{name}: below --fail-under {floor} dB", file=sys.stderr)
    return 1 if low else 0


def versions() -> dict[str, str]:
    """Return the versions a result depends on."""
    import platform

    import numpy as np
    import torch

    return {
        "steadypix": version(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


if __name__ == "__main__":
    sys.exit(main())
