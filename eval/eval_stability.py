"""The command `eval_stability`: how far do outputs move when inputs move, and at what quality?"""

from __future__ import annotations

import datetime
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from data.command import command, pick_device, version
from eval.baseline import regressions
from eval.offsets import Offset, is_whole, offsets_along, plain
from eval.options import DEFAULT_MARGINS_PX, build_parser, leave_out, read_options
from eval.processes import Processes
from eval.quality import quality_measures
from eval.results import (
    SCHEMA_VERSION,
    as_text,
    lead_score_db,
    prepare_output,
    to_json,
    to_table,
    write_results,
)
from eval.results_schema import read_results
from eval.shifts import PROTOCOLS, make_protocol

if TYPE_CHECKING:
    from data.pairs import Pairs
    from eval.evaluate import Measurement, Plan
    from eval.flicker import PanPlan
    from eval.lpips_metric import Lpips
    from eval.models import Model
    from eval.options import Asked


@command("eval_stability")
def main(argv: Sequence[str]) -> int:
    """Run the command line; return its exit code."""
    words = list(argv)
    args = build_parser().parse(words, signed=("--shifts", "--margins", "--pan"))
    asked = read_options(args)
    processes = Processes()
    baseline = None if args.baseline is None else read_results(args.baseline)
    if processes.first:
        prepare_output(args.export_inputs or args.out)

    from eval.evaluate import Plan, measure
    from eval.exchange import bind_outputs, export_inputs
    from eval.flicker import draw_pan, measure_pan, record_pan
    from eval.models import find_checkpoints, load_models
    from eval.pictures import draw
    from eval.report import write_report
    from eval.sources import open_data
    from gen.allocator import keep_freed_memory

    pan = parse_pan(args)
    device = processes.device(pick_device(args.device))
    full_float32()
    keep_freed_memory()
    # Inputs can be exported for a program that is not here.
    paths = args.checkpoints or ([] if args.export_inputs else find_checkpoints())
    exporting_blindly = args.export_inputs and not paths
    models = [] if exporting_blindly else load_models(paths, device, trust=args.trust)
    warn_of_seams(models, asked.protocols)
    options = {
        "source": args.data,
        "split": args.split,
        "limit": args.limit,
        "window_px": args.window,
        "canvas_px": args.canvas,
        "direction": args.direction,
        "on_error": args.on_error,
    }
    pairs, data = open_data(models, **options)
    say_assumptions(data)
    asked = leave_out(asked, inputs=data["input_channels"], outputs=data["output_channels"])
    offsets = offsets_along(asked.shifts, args.axis)
    check_shifts(pairs, asked.protocols, offsets)
    lpips = make_lpips(args, device) if "lpips" in asked.quality else None
    plan = Plan(
        protocols=[name for name in asked.protocols if name in PROTOCOLS],
        eqt="eqt" in asked.protocols,
        offsets=offsets,
        map_offsets=[(dx, dy) for dy in asked.shifts for dx in asked.shifts] if args.map else (),
        margins_px=DEFAULT_MARGINS_PX if asked.margins_px is None else asked.margins_px,
        batch_size=args.batch_size,
        workers=args.workers,
        measures=quality_measures(asked.quality, reference=args.reference, lpips=lpips),
        perturbations=asked.kinds,
        seed=args.seed,
        limit=args.limit,
        device=device,
    )
    say_what_is_left_out(plan, pairs, given=asked.margins_px is not None)
    wide = open_wide(pan, pairs, models, options) if pan else None
    if args.export_inputs:
        count = export_inputs(pairs, plan, data, args.export_inputs, pan=pan, wide=wide)
        print(f"wrote {count} inputs and manifest.json to {args.export_inputs}", file=sys.stderr)
        return 0
    bind_outputs(models, pairs, plan, pan=pan, wide=wide)
    partial = args.out / f"partial-{processes.rank}-of-{processes.world}.jsonl"
    measurements, n_skipped = measure(
        models,
        pairs,
        plan,
        processes=processes,
        partial=partial,
        heading=heading(models, data, plan, args, lpips),
    )
    if not processes.first:
        partial.unlink(missing_ok=True)
        return 0
    results = record(measurements, plan, asked, args, words, {**data, "n_skipped": n_skipped})
    if lpips:
        results["lpips"] = lpips.describe()
    if args.worst:
        results["worst"] = worst(measurements, pairs, args.worst)
    if pan and wide is not None:
        flicker, panned = measure_pan(models, wide, plan, pan)
        record_pan(results, models, flicker, pan, canvas_px=wide.load_size)
    results = as_text(results)
    write_results(results, args.out)
    draw(results, measurements, pairs, plan, args.out, originals=not args.no_originals)
    if pan and wide is not None:
        draw_pan(results, models, flicker, panned, wide, plan, args.out)
    write_report(args.out)
    partial.unlink()
    say_results(results, args)
    fallen = regressions(results, baseline, args.baseline) if baseline else []
    for line in fallen:
        print(line, file=sys.stderr)
    return 1 if fallen else passes(results, args.fail_under)


def record(
    measurements: Sequence[Measurement],
    plan: Plan,
    asked: Asked,
    args: Any,
    words: Sequence[str],
    data: dict[str, Any],
) -> dict[str, Any]:
    """Return the results: how they were made, and what was measured."""
    from eval.eqt import MEANING as EQT_MEANING
    from eval.summary import summarise

    results: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["eval_stability", *words]),
        "versions": versions(),
        "device": plan.device,
        "precision": "fp32",
        "seed": plan.seed,
        "axis": args.axis,
        "shifts_px": [plain(shift) for shift in asked.shifts],
        "protocols": {n: PROTOCOLS[n].meaning if n in PROTOCOLS else EQT_MEANING for n in asked.protocols},
        "reference": args.reference,
        **summarise(measurements, plan),
    }
    results["data"] = {**data, "n_images": results.pop("n_images")}
    return results


def heading(
    models: Sequence[Model], data: dict[str, Any], plan: Plan, args: Any, lpips: Lpips | None
) -> dict[str, Any]:
    """Return all that the numbers of one picture depend on: what an interrupted evaluation must share."""
    return {
        "models": [model.sha256 for model in models],
        "data": data,
        "protocols": list(plan.protocols),
        "eqt": plan.eqt,
        "offsets": [[plain(dx), plain(dy)] for dx, dy in sorted({*plan.offsets, *plan.map_offsets})],
        "margins_px": list(plan.margins_px),
        "measures": sorted(plan.measures),
        "reference": args.reference,
        "lpips": lpips.describe() if lpips else None,
        "perturbations": list(plan.perturbations),
        "batch_size": plan.batch_size,
        "seed": plan.seed,
        "device": plan.device,
        "versions": versions(),
    }


def parse_pan(args: Any) -> PanPlan | None:
    """Read `--pan`, `--pan-frames` and `--axis` into how the window pans, if it does."""
    if args.pan is None:
        return None
    from eval.flicker import PanPlan
    from eval.pan import parse_speeds

    return PanPlan(speeds=parse_speeds(args.pan), n_frames=args.pan_frames, axis=args.axis)


def make_lpips(args: Any, device: str) -> Lpips:
    """Load the network behind LPIPS."""
    from eval.lpips_metric import Lpips

    return Lpips(args.lpips_net, weights=args.lpips_weights, device=device)


def open_wide(pan: PanPlan, pairs: Pairs, models: Sequence[Model], options: dict[str, Any]) -> Pairs:
    """Open the pictures again, large enough to hold the path of a pan.

    Raises:
        InputError: if no place would be in all frames, before any work is done.
    """
    from eval.sources import open_data

    wide = open_data(models, **options, least_px=pan.canvas_px(pairs.crop_size))[0]
    pan.scores(wide.load_size, wide.crop_size)
    return wide


def check_shifts(pairs: Pairs, protocols: Sequence[str], offsets: Sequence[Offset]) -> None:
    """Refuse a shift that a protocol cannot hold, before anything is made of all pairs of shifts."""
    for name in protocols:
        if name in PROTOCOLS:
            rule = make_protocol(name, canvas_px=pairs.load_size, window_px=pairs.crop_size)
            for offset in offsets:
                if rule.takes_fractions or is_whole(offset):
                    rule.check(offset, 0)


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
            {"image": pairs.name(measurement.images[place]), "mean_db": float(db[place])} for place in order
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
    import importlib.metadata
    import platform

    import numpy as np
    import torch

    others = ("kornia", "lpips", "scikit-image", "Pillow")
    return {
        "steadypix": version(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        **{name: importlib.metadata.version(name) for name in others},
    }


if __name__ == "__main__":
    sys.exit(main())
