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
from eval.lpips_metric import NETS, Lpips
from eval.perturb_kinds import KINDS, parse_perturbations
from eval.quality import ON_REQUEST, parse_quality, quality_measures
from eval.results import (
    SCHEMA_VERSION,
    lead_score_db,
    prepare_output,
    to_json,
    to_table,
    write_results,
)
from eval.shifts import AXES, PROTOCOLS, offsets_along, parse_shifts

if TYPE_CHECKING:
    from data.pairs import Pairs
    from eval.evaluate import Measurement
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
    parser.add_argument("--shifts", default="0..7", help="0..7, -4..4 or 1,3,5 (px; default: %(default)s)")
    parser.add_argument("--axis", choices=AXES, default="x", help="direction of the shifts")
    parser.add_argument("--protocol", default="crop", help=f"of {', '.join(PROTOCOLS)}; the first one leads")
    parser.add_argument(
        "--margins",
        default="0,16",
        help="px left out at each border under crop (default: %(default)s)",
    )
    parser.add_argument("--map", action="store_true", help="measure every (dx, dy) of the shifts too")
    parser.add_argument(
        "--data",
        metavar="DIR|synthetic",
        help="folder of pairs, or procedural pictures (default: what the checkpoints were trained on)",
    )
    parser.add_argument("--split", help="folder name of the pairs (default: the run's validation split)")
    parser.add_argument("--limit", type=positive, metavar="N", help="use the first N pictures")
    add_quality_options(parser)
    parser.add_argument(
        "--worst", type=natural, default=0, metavar="K", help="name the K pictures that move most"
    )
    parser.add_argument("--out", type=Path, default=Path("results"), metavar="DIR", help="where to write")
    parser.add_argument("--json", action="store_true", help="print results.json instead of the table")
    parser.add_argument(
        "--fail-under",
        type=float,
        metavar="DB",
        help="exit 1 if a model's odd-shift mean (first protocol, widest margin) is lower",
    )
    add_common_options(parser, batch_size=8)
    return parser


def add_quality_options(parser: Parser) -> None:
    """Add what else to measure: quality figures and perturbations."""
    parser.add_argument(
        "--quality",
        default="",
        metavar="all|NAME,...",
        help=f"beside L1, PSNR and TV, which cost nothing: of {', '.join(ON_REQUEST)}",
    )
    parser.add_argument(
        "--reference", action="store_true", help="take PSNR and SSIM from scikit-image, on the CPU"
    )
    parser.add_argument("--lpips-net", choices=NETS, default="alex", help="backbone (default: %(default)s)")
    parser.add_argument(
        "--lpips-weights",
        type=Path,
        metavar="FILE",
        help="torchvision state dict of that backbone, for machines without network",
    )
    parser.add_argument(
        "--perturb", metavar="all|KIND,...", help=f"measure stability under {', '.join(KINDS)} too"
    )


@command("eval_stability")
def main(argv: Sequence[str]) -> int:
    """Run the command line; return its exit code."""
    words = list(argv)
    args = build_parser().parse(words, signed=("--shifts", "--margins"))
    shifts = parse_shifts(args.shifts)
    margins = parse_margins(args.margins)
    protocols = list(dict.fromkeys(args.protocol.split(",")))
    for name in protocols:
        if name not in PROTOCOLS:
            raise InputError(f"--protocol {name}: is unknown; expected of {', '.join(PROTOCOLS)}")
    quality = parse_quality(args.quality)
    kinds = () if args.perturb is None else parse_perturbations(args.perturb)
    if args.lpips_weights and "lpips" not in quality:
        raise InputError("--lpips-weights: LPIPS is not measured; expected --quality lpips with it")
    prepare_output(args.out)

    from eval.evaluate import Plan, measure, summarise
    from eval.models import find_checkpoints, load_models
    from eval.pictures import draw
    from eval.sources import open_data

    device = pick_device(args.device)
    models = load_models(args.checkpoints or find_checkpoints(), device)
    warn_of_seams(models, protocols)
    lpips = None
    if "lpips" in quality:
        lpips = Lpips(args.lpips_net, weights=args.lpips_weights, device=device)
    pairs, data = open_data(models, source=args.data, split=args.split, limit=args.limit)
    plan = Plan(
        protocols=protocols,
        offsets=offsets_along(shifts, args.axis),
        map_offsets=[(dx, dy) for dy in shifts for dx in shifts] if args.map else (),
        margins_px=usable_margins(margins, pairs.crop_size, shifts),
        batch_size=args.batch_size,
        workers=args.workers,
        measures=quality_measures(quality, reference=args.reference, lpips=lpips),
        perturbations=kinds,
        seed=args.seed,
        limit=args.limit,
        device=device,
    )
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
        "shifts_px": shifts,
        "protocols": {name: PROTOCOLS[name].meaning for name in protocols},
        "reference": args.reference,
        **({"lpips": lpips.describe()} if lpips else {}),
        **summarise(measurements, plan),
    }
    results["data"] = {**data, "n_images": results.pop("n_images")}
    if args.worst:
        results["worst"] = worst(measurements, pairs, args.worst)
    write_results(results, args.out)
    draw(results, measurements, pairs, plan, args.out)
    print(to_json(results) if args.json else to_table(results))
    print(f"wrote {args.out}/ results.json results.csv and pictures", file=sys.stderr)
    return passes(results, args.fail_under)


def parse_margins(text: str) -> list[int]:
    """Read `0,16` into margins in px."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 6 for part in parts):
        raise InputError(f"margins {text!r} not understood; expected whole px such as 0,16")
    return sorted({int(part) for part in parts})


def usable_margins(margins: Sequence[int], window_px: int, shifts: Sequence[int]) -> list[int]:
    """Drop margins that leave nothing of a small window, saying so; keep at least the smallest."""
    overlap = window_px - max(map(abs, shifts))
    usable = [margin for margin in margins if 2 * margin < overlap]
    for margin in margins:
        if margin not in usable:
            print(
                f"margin {margin} px leaves nothing of a {overlap} px overlap: left out",
                file=sys.stderr,
            )
    return usable or list(margins[:1])


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
        stability = measurement.stabilities()[0]
        db = stability.image_db(stability.margins_px[-1])
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
