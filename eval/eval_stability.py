"""The command `eval_stability`: how far do outputs move when inputs move, and at what quality?"""

from __future__ import annotations

import datetime
import math
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
from eval.offsets import AXES, Offset, Shift, is_whole, offsets_along, parse_shifts, plain
from eval.results import (
    SCHEMA_VERSION,
    lead_score_db,
    prepare_output,
    to_json,
    to_table,
    write_results,
)
from eval.shifts import PROTOCOLS, make_protocol

if TYPE_CHECKING:
    from data.pairs import Pairs
    from eval.evaluate import Measurement, Plan
    from eval.flicker import PanPlan
    from eval.models import Model

DEFAULT_MARGINS_PX = (0, 16)
DESCRIPTION = """Measure the shift stability of generators: PSNR between the output for the shifted
input and the shifted output, beside the quality of the outputs."""


def build_parser() -> Parser:
    """Return the command line."""
    parser = Parser(prog="eval_stability", description=DESCRIPTION)
    parser.add_argument(
        "checkpoints",
        nargs="*",
        metavar="CHECKPOINT",
        help="run directories, .safetensors, latest_net_G.pth, .onnx, .pt2, package.module:function, or "
        "folders of outputs (default: all under ./checkpoints, else the released)",
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
        help="px left out at each border under crop and subpixel (default: 0,16 where they fit)",
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
    add_foreign_options(parser)
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


def add_foreign_options(parser: Parser) -> None:
    """Add what generators made elsewhere need, whose files do not know their data."""
    parser.add_argument("--window", type=positive, metavar="PX", help="side of what a network sees")
    parser.add_argument("--canvas", type=positive, metavar="PX", help="side a picture is brought to before")
    parser.add_argument("--direction", choices=("AtoB", "BtoA"), help="AtoB: the left picture is the input")
    parser.add_argument(
        "--trust", action="store_true", help="load .pt2 files and callables: they can run code"
    )
    parser.add_argument(
        "--export_inputs",
        type=Path,
        metavar="DIR",
        help="only write the shifted inputs for a foreign program; the folder of its outputs, under the same "
        "names, is then a CHECKPOINT",
    )


@command("eval_stability")
def main(argv: Sequence[str]) -> int:
    """Run the command line; return its exit code."""
    words = list(argv)
    args = build_parser().parse(words, signed=("--shifts", "--margins", "--pan"))
    shifts = parse_shifts(args.shifts)
    margins = None if args.margins is None else parse_margins(args.margins)
    protocols = parse_protocols(args.protocol)
    if args.fail_under is not None:
        check_floor(args.fail_under, shifts, protocols)
    prepare_output(args.export_inputs or args.out)

    from eval.eqt import MEANING as EQT_MEANING
    from eval.evaluate import Plan, measure, summarise
    from eval.exchange import bind_outputs, export_inputs
    from eval.flicker import draw_pan, measure_pan, record_pan
    from eval.models import find_checkpoints, load_models
    from eval.pictures import draw
    from eval.report import write_report
    from eval.sources import open_data

    pan = parse_pan(args)
    device = pick_device(args.device)
    full_float32()
    # Inputs can be exported for a program that is not here.
    paths = args.checkpoints or ([] if args.export_inputs else find_checkpoints())
    exporting_blindly = args.export_inputs and not paths
    models = [] if exporting_blindly else load_models(paths, device, trust=args.trust)
    warn_of_seams(models, protocols)
    options = {
        "source": args.data,
        "split": args.split,
        "limit": args.limit,
        "window_px": args.window,
        "canvas_px": args.canvas,
        "direction": args.direction,
    }
    pairs, data = open_data(models, **options)
    say_assumptions(data)
    offsets = offsets_along(shifts, args.axis)
    check_shifts(pairs, protocols, offsets)
    plan = Plan(
        protocols=[name for name in protocols if name in PROTOCOLS],
        eqt="eqt" in protocols,
        offsets=offsets,
        map_offsets=[(dx, dy) for dy in shifts for dx in shifts] if args.map else (),
        margins_px=DEFAULT_MARGINS_PX if margins is None else margins,
        batch_size=args.batch_size,
        workers=args.workers,
        seed=args.seed,
        limit=args.limit,
        device=device,
    )
    say_what_is_left_out(plan, pairs, given=margins is not None)
    wide = open_wide(pan, pairs, models, options) if pan else None
    if args.export_inputs:
        count = export_inputs(pairs, plan, data, args.export_inputs, pan=pan, wide=wide)
        print(f"wrote {count} inputs and manifest.json to {args.export_inputs}", file=sys.stderr)
        return 0
    bind_outputs(models, pairs, plan, pan=pan, wide=wide)
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
    if pan and wide is not None:
        flicker = measure_pan(models, wide, plan, pan)
        record_pan(results, models, flicker, pan, canvas_px=wide.load_size)
    write_results(results, args.out)
    draw(results, measurements, pairs, plan, args.out)
    if pan and wide is not None:
        draw_pan(results, models, flicker, wide, plan, args.out)
    write_report(args.out)
    say_results(results, args)
    return passes(results, args.fail_under)


def parse_protocols(text: str) -> list[str]:
    """Read `crop,roll` into names, each once."""
    protocols = list(dict.fromkeys(text.split(",")))
    for name in protocols:
        if name not in (*PROTOCOLS, "eqt"):
            raise InputError(f"--protocol {name}: is unknown; expected of {', '.join(PROTOCOLS)}, eqt")
    return protocols


def parse_pan(args: Any) -> PanPlan | None:
    """Read `--pan`, `--pan-frames` and `--axis` into how the window pans, if it does."""
    if args.pan is None:
        return None
    from eval.flicker import PanPlan
    from eval.pan import parse_speeds

    return PanPlan(speeds=parse_speeds(args.pan), n_frames=args.pan_frames, axis=args.axis)


def open_wide(pan: PanPlan, pairs: Pairs, models: Sequence[Model], options: dict[str, Any]) -> Pairs:
    """Open the pictures again, large enough to hold the path of a pan.

    Raises:
        InputError: if no place would be in all frames, before any work is done.
    """
    from eval.sources import open_data

    wide = open_data(models, **options, least_px=pan.canvas_px(pairs.crop_size))[0]
    pan.scores(wide.load_size, wide.crop_size)
    return wide


def parse_margins(text: str) -> list[int]:
    """Read `0,16` into margins in px."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 6 for part in parts):
        raise InputError(f"margins {text!r} not understood; expected whole px such as 0,16")
    return sorted({int(part) for part in parts})


def check_shifts(pairs: Pairs, protocols: Sequence[str], offsets: Sequence[Offset]) -> None:
    """Refuse a shift that a protocol cannot hold, before anything is made of all pairs of shifts."""
    for name in protocols:
        if name in PROTOCOLS:
            rule = make_protocol(name, canvas_px=pairs.load_size, window_px=pairs.crop_size)
            for offset in offsets:
                if rule.takes_fractions or is_whole(offset):
                    rule.check(offset, 0)


def check_floor(floor_db: float, shifts: Sequence[Shift], protocols: Sequence[str]) -> None:
    """Refuse a `--fail-under` that could never fail, or whose leading protocol makes no odd shift."""
    if not math.isfinite(floor_db):
        raise InputError(f"--fail-under {floor_db}: expected a number of dB")
    leading = next((PROTOCOLS[name] for name in protocols if name in PROTOCOLS), None)
    if leading is None:  # EQ-T draws its own
        return
    if not any(shift % 2 and (leading.takes_fractions or is_whole((shift, 0))) for shift in shifts):
        raise InputError("--fail-under looks at odd shifts; expected one such as 1 in --shifts")


def full_float32() -> None:
    """Keep cuDNN from running float32 convolutions in TF32, whose rounding would show as instability."""
    import torch

    torch.backends.cudnn.allow_tf32 = False


def say_assumptions(data: dict[str, Any]) -> None:
    """Name the settings that no option gave and no generator knew."""
    if data["assumed"]:
        shown = ", ".join(f"{name.removesuffix('_px')} {data[name]}" for name in data["assumed"])
        print(f"assumed {shown}: say otherwise by --direction, --canvas, --window", file=sys.stderr)


def say_what_is_left_out(plan: Plan, pairs: Pairs, *, given: bool) -> None:
    """Name the shifts that a protocol cannot make, and the margins it has no room for.

    Args:
        plan: what is measured.
        pairs: on what.
        given: whether the user chose the margins; of the default ones those that fit are taken silently.

    Raises:
        InputError: for a margin given that no protocol has room for.
    """
    for rule in plan.rules(pairs):
        if not rule.takes_fractions and not all(map(is_whole, plan.offsets)):
            print(f"{rule.name}: takes whole shifts; the others are left out", file=sys.stderr)
    rules = [r for r in plan.rules(pairs) if r.uses_margins and plan.offsets_of(r, mapped=True)]
    for margin in plan.margins_px if given else ():
        cramped = [rule for rule in rules if margin not in plan.margins_of(rule)]
        for rule in cramped:
            offsets = plan.offsets_of(rule, mapped=True)
            if cramped == rules:
                for offset in offsets:
                    rule.check(offset, margin)
            room = min(map(rule.compared_px, offsets))
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


def say_results(results: dict[str, Any], args: Any) -> None:
    """Print the table, or the JSON, and where the files lie."""
    print(to_json(results) if args.json else to_table(results))
    sys.stdout.flush()
    print(f"wrote {args.out}/ report.html results.json results.csv and pictures", file=sys.stderr)


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
