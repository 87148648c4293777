"""The command `eval_stability`: how far do outputs move when inputs move, and at what quality?"""

from __future__ import annotations

import datetime
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from steadypix.command import command, pick_device, version
from steadypix.errors import printable
from steadypix.eval.measure.options import Asked, build_parser, leave_out, parse_channels, read_options
from steadypix.eval.measure.partial import NAME, remove
from steadypix.eval.measure.processes import Processes
from steadypix.eval.metrics.decibels import PEAK
from steadypix.eval.metrics.stability import DEFAULT_MARGINS_PX, fitting_margins, takes
from steadypix.eval.results.baseline import regressions
from steadypix.eval.results.lead import lead_score_db
from steadypix.eval.results.schema import read_results, require_readable
from steadypix.eval.results.table import to_table
from steadypix.eval.results.write import SCHEMA_VERSION, as_text, to_json, write_results
from steadypix.eval.shifts.offsets import is_whole, offsets_along, plain
from steadypix.eval.shifts.protocols import PROTOCOLS, Protocol, make_protocol
from steadypix.files import prepare_output
from steadypix.sizes import from_json, size_of
from steadypix.sizes import words as size_words

if TYPE_CHECKING:
    from steadypix.data.pairs.base import Pairs
    from steadypix.eval.generators.models import Model
    from steadypix.eval.measure.measure import Measurement
    from steadypix.eval.measure.plan import Plan
    from steadypix.eval.measure.stage import Stage


# What each of several processes may have of its own.
OF_A_PROCESS = ("device", "threads")


@command("eval_stability")
def main(argv: Sequence[str]) -> int:
    """Run the command line; return its exit code."""
    words = list(argv)
    args = build_parser().parse(words, signed=("--shifts", "--margins", "--pan", "--range"))
    asked = read_options(args)
    processes = Processes()
    baseline = None if args.baseline is None else read_results(args.baseline)
    if processes.first:
        prepare_output(args.export_inputs or args.out)

    from steadypix.data.pairs.content import content_of
    from steadypix.eval.measure.exchange import bind_outputs, export_inputs
    from steadypix.eval.measure.floors import find_floors
    from steadypix.eval.measure.measure import measure
    from steadypix.eval.measure.pictures import draw
    from steadypix.eval.report.render import write_report

    device = processes.device(pick_device(args.device))
    models = load(args, asked, device)
    plan, stages, data = set_the_stage(args, asked, models, device)
    content = content_of(stages[0].pairs, plan.count(stages[0].pairs))
    data["pictures_sha256"] = content.sha256
    if args.export_inputs:
        count = export_inputs(stages, plan, data, args.export_inputs)
        print(f"wrote {count} inputs and manifest.json to {args.export_inputs}", file=sys.stderr)
        return 0
    about = heading(models, data, plan, content.words)
    processes.agree(content, {key: value for key, value in about.items() if key not in OF_A_PROCESS})
    bind_outputs(models, stages, plan)
    known = known_before(plan, asked, args, words)
    require_readable(
        {
            **known,
            "peak": PEAK,
            "data": {**data, "n_images": plan.count(stages[0].pairs)},
            "models": [model.describe() for model in models],
        },
        args.out / "results.json",
    )
    floors = find_floors(models, stages, plan, allow=args.allow_random or args.published_convention)
    partial = args.out / NAME.format(rank=processes.rank, world=processes.world)
    measurements, n_skipped = measure(
        models, stages, plan, processes=processes, partial=partial, heading=about
    )
    say_ranges(models)
    if not processes.first:
        processes.finish()
        remove(args.out, processes.run, others=False)
        return 0
    recorded = record(known, measurements, plan, args.worst, {**data, "n_skipped": n_skipped})
    for model in recorded["models"]:
        model |= {"floor": floors[model["name"]]} if model["name"] in floors else {}
    results = as_text(recorded)
    write_results(results, args.out)
    draw(results, measurements, plan, args.out, originals=not args.no_originals)
    write_report(args.out)
    processes.finish()
    remove(args.out, processes.run, others=True)
    print(to_json(results) if args.json else to_table(results), flush=True)
    print(f"wrote {args.out}/ report.html results.json results.csv and pictures", file=sys.stderr)
    fallen = regressions(results, baseline, args.baseline) if baseline else []
    floor = args.fail_under
    if not fallen and floor is not None:
        low = [model["name"] for model in results["models"] if lead_score_db(model) < floor]
        fallen = [f"{name}: below --fail-under {floor} dB" for name in low]
    for line in fallen:
        print(line, file=sys.stderr)
    return 1 if fallen else 0


def load(args: Any, asked: Asked, device: str) -> list[Model]:
    """Load the generators; none where inputs are exported for a program that is not here."""
    import torch

    from steadypix.eval.generators.models import find_checkpoints, load_models
    from steadypix.eval.generators.probe import state
    from steadypix.gen.kernels.allocator import keep_freed_memory

    # cuDNN would run float32 convolutions in TF32, whose rounding would show as instability.
    torch.backends.cudnn.allow_tf32 = False
    keep_freed_memory()
    paths = args.checkpoints or ([] if args.export_inputs else find_checkpoints())
    models = [] if args.export_inputs and not paths else load_models(paths, device, trust=args.trust)
    state((model.module for model in models), ranges=args.range, output_key=args.output_key)
    warn_of_seams(models, asked.protocols)
    if args.published_convention:
        from steadypix.eval.repeat.convention import by_convention

        models = [by_convention(model) for model in models]
    return models


def say_ranges(models: Sequence[Model]) -> None:
    """Name the generators whose outputs evidently have another range than was taken."""
    from steadypix.eval.generators.probe import remarks

    for line in remarks(models):
        print(line, file=sys.stderr)


def set_the_stage(
    args: Any, asked: Asked, models: Sequence[Model], device: str
) -> tuple[Plan, list[Stage], dict[str, Any]]:
    """Return what is measured, the pictures at every size that is needed, and what a result says of them.

    Raises:
        InputError: for whatever cannot be measured, before any work is done.
    """
    from steadypix.eval.generators.probe import learn
    from steadypix.eval.measure.memory import require_evaluation
    from steadypix.eval.measure.plan import Plan
    from steadypix.eval.measure.registry import MEASURES
    from steadypix.eval.measure.sources import open_data, window_of
    from steadypix.eval.measure.stage import open_stages

    channels = None if args.channels is None else parse_channels(args.channels)
    require_evaluation(models, args, asked, device)
    factor = learn(models, window_of(models, args.window), channels)
    options = {
        "source": args.data,
        "split": args.split,
        "limit": args.limit,
        "window_px": args.window,
        "canvas_px": args.canvas,
        "direction": args.direction,
        "resize": args.resize,
        "pairing": args.pairs,
        "channels": None if models else channels,
        "on_error": args.on_error,
    }
    pairs, data = open_data(models, **options)
    n_images = min(len(pairs), args.limit or len(pairs))
    require_evaluation(models, args, asked, device, n_images)
    for remark in data.pop("remarks"):
        print(printable(remark), file=sys.stderr)
    say_assumptions(data)
    say_pictures(len(pairs), data)
    if factor > 1 and data["targets"]:
        print(f"outputs are {factor} times as large as the pictures, targets are not", file=sys.stderr)
        data["targets"] = False
    counts = {"inputs": data["input_channels"], "outputs": data["output_channels"]}
    asked = leave_out(asked, **counts, targets=data["targets"])
    generators = {} if args.export_inputs else {str(model.path): model.module for model in models}
    suited = {name: MEASURES[name].suit(own, generators) for name, own in asked.measures.items()}
    offsets = offsets_along(asked.shifts, args.axis)
    size = {"canvas_px": size_of(*pairs.load_px), "window_px": size_of(*pairs.crop_px)}
    rules = [make_protocol(name, **size) for name in asked.protocols if name in PROTOCOLS]
    for rule in rules:  # before anything is made of all pairs of shifts
        for offset in takes(rule, offsets):
            rule.check(offset, 0)
    plan = Plan(
        asked={name: MEASURES[name].prepare(own, device) for name, own in suited.items()},
        offsets=offsets,
        map_offsets=[(dx, dy) for dy in asked.shifts for dx in asked.shifts] if args.map else (),
        margins_px=DEFAULT_MARGINS_PX if asked.margins_px is None else asked.margins_px,
        batch_size=args.batch_size,
        workers=args.workers,
        seed=args.seed,
        limit=args.limit,
        device=device,
    )
    say_what_is_left_out(plan, rules, given=asked.margins_px is not None)
    stages = open_stages(plan, pairs, lambda px: open_data(models, **options, least_px=px)[0])
    return plan, stages, data


def known_before(plan: Plan, asked: Asked, args: Any, words: Sequence[str]) -> dict[str, Any]:
    """Return what results say of how they were made."""
    import torch

    from steadypix.eval.measure.registry import MEASURES

    return {
        "schema_version": SCHEMA_VERSION,
        "created": now(),
        "command": shlex.join(["eval_stability", *words]),
        "versions": versions(),
        "device": plan.device,
        "threads": torch.get_num_threads(),
        "precision": "fp32",
        "seed": plan.seed,
        "axis": args.axis,
        "shifts_px": [plain(shift) for shift in asked.shifts],
        "protocols": {name: MEASURES[name].meaning for name in asked.protocols},
        "reference": args.reference,
    }


def record(
    known: dict[str, Any],
    measurements: Sequence[Measurement],
    plan: Plan,
    n_worst: int,
    data: dict[str, Any],
) -> dict[str, Any]:
    """Return the results: how they were made, and what was measured."""
    from steadypix.eval.measure.summary import about, summarise

    stages = measurements[0].stages
    results: dict[str, Any] = {
        **known,
        "created": now(),
        **summarise(measurements, plan),
        "data": {**data, "n_images": len(measurements[0].images)},
        **about(stages[:1], plan, first=False),
    }
    if n_worst:
        results["worst"] = worst(measurements, stages[0].pairs, n_worst)
    return results | about(stages[1:], plan, first=False)


def heading(models: Sequence[Model], data: dict[str, Any], plan: Plan, pictures: str) -> dict[str, Any]:
    """Return all that the numbers of one picture depend on: what an interrupted evaluation must share.

    Args:
        models: the generators.
        data: what is known of the pictures besides.
        plan: what is measured.
        pictures: says which they are, wherever they lie.
    """
    import torch

    from steadypix.eval.measure.registry import MEASURES

    modes = [getattr(model.module, "modes", {}) for model in models]
    described = [model.describe() for model in models]
    ranges = [[each[key] for key in ("input_range", "output_range") if key in each] for each in described]
    keys = [getattr(model.module, "output_key", None) for model in models]
    code = [model.code_sha256 for model in models]
    return {
        "pictures": pictures,
        "models": [model.sha256 for model in models],
        **({"code": code} if any(code) else {}),
        **({"modes": modes} if any(modes) else {}),
        **({"ranges": ranges} if any(ranges) else {}),
        **({"output_keys": keys} if any(keys) else {}),
        "data": {key: value for key, value in data.items() if key not in ("source", "pictures_sha256")},
        "measures": {name: MEASURES[name].identity(own) for name, own in plan.asked.items()},
        "offsets": [[plain(dx), plain(dy)] for dx, dy in sorted({*plan.offsets, *plan.map_offsets})],
        "margins_px": list(plan.margins_px),
        "batch_size": plan.batch_size,
        "seed": plan.seed,
        "device": plan.device,
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }


def say_assumptions(data: dict[str, Any]) -> None:
    """Name the settings that no option gave and no generator knew."""
    if data["assumed"]:
        values = {
            name: size_words(from_json(data[name])) if name.endswith("_px") else data[name]
            for name in data["assumed"]
        }
        shown = ", ".join(f"{name.removesuffix('_px')} {value}" for name, value in values.items())
        print(f"assumed {shown}: say otherwise by --direction, --canvas, --window", file=sys.stderr)


def say_pictures(count: int, data: dict[str, Any]) -> None:
    """Name the pictures, and how they become what a generator sees."""
    from steadypix.data.pictures.sizing import rule_words

    rule, size = data.get("resize"), from_json(data["canvas_px"])
    if rule == "cover":
        how = f"resized to cover {size_words(size)} px, what is over cut off"
    else:
        how = f"rendered at {size_words(size)} px"
        if rule:
            how = rule_words(rule, size)
    kind = "pairs" if data["targets"] else "pictures without targets"
    where = f"{data['source']} ({data['split'] or 'as it is'}, {count} {kind})"
    seen = size_words(from_json(data["window_px"]))
    direction = f"{data['direction']}, " if data["targets"] else ""
    print(printable(f"{where}: {direction}pictures {how}, windows of {seen} px"), file=sys.stderr)


def say_what_is_left_out(plan: Plan, rules: Sequence[Protocol], *, given: bool) -> None:
    """Name the shifts that a protocol cannot make, and the margins it has no room for.

    Of margins that the user has not `given` those that fit are taken silently.

    Raises:
        InputError: for a margin given that no protocol has room for.
    """
    for rule in rules:
        if not rule.takes_fractions and not all(map(is_whole, plan.offsets)):
            print(f"{rule.name}: takes whole shifts; the others are left out", file=sys.stderr)
    every = [*plan.offsets, *plan.map_offsets]
    rules = [rule for rule in rules if rule.uses_margins and takes(rule, every)]
    for margin in plan.margins_px if given else ():
        cramped = [
            rule for rule in rules if margin not in fitting_margins(rule, takes(rule, every), plan.margins_px)
        ]
        for rule in cramped:
            offsets = takes(rule, every)
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
        note = f"the seam dominates without circular padding ({', '.join(odd)}); read crop instead"
        print(f"roll: {note}", file=sys.stderr)


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


def now() -> str:
    """Return the time in UTC, to the second, as ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Return the versions a result depends on."""
    import importlib.metadata
    import platform

    import numpy as np
    import torch

    own = {"steadypix": version(), "python": platform.python_version()}
    own |= {"torch": torch.__version__, "numpy": np.__version__}
    others = ("kornia", "lpips", "scikit-image", "Pillow")
    return own | {name: importlib.metadata.version(name) for name in others}


if __name__ == "__main__":
    sys.exit(main())
