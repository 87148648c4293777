"""The options of `eval_stability`: what can be asked for, read and checked before anything is loaded."""

from __future__ import annotations

import argparse
import dataclasses
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steadypix.command import Parser, add_common_options, natural, positive
from steadypix.data.pictures.sizing import RULES
from steadypix.errors import InputError
from steadypix.eval.generators.formats import TRUST
from steadypix.eval.measure.registry import MEASURES, names_of, parse_names, read_asked
from steadypix.eval.shifts.offsets import AXES, Shift, is_whole, parse_shifts
from steadypix.eval.shifts.protocols import PROTOCOLS
from steadypix.json_checks import LARGEST_PX
from steadypix.sizes import Size, parse_size, sides

PAIRINGS = ("auto", "aligned", "none")  # of `steadypix.data.pairs.opening.open_pictures`
DESCRIPTION = """Measure the shift stability of generators: PSNR between the output for the shifted
input and the shifted output, beside the quality of the outputs."""


@dataclass(frozen=True)
class Asked:
    """What the options ask for, as far as it can be understood without the generators."""

    shifts: list[Shift]  # in px
    margins_px: list[int] | None  # None leaves the choice to the windows' size
    protocols: list[str]  # names, in the order of the option
    measures: dict[str, Any]  # settings of everything that is measured, by name


def build_parser() -> Parser:
    """Return the command line."""
    parser = Parser(prog="eval_stability", description=DESCRIPTION)
    add = parser.add_argument
    add(
        "checkpoints",
        nargs="*",
        metavar="CHECKPOINT",
        help="run directories, .safetensors, latest_net_G.pth, .onnx, .pt2, package.module:function, short "
        "names of released generators, or folders of outputs (default: all under ./checkpoints, else the "
        "released)",
    )
    add("--shifts", default="0..7", help="0..7, -4..4, 1,3,5 or 1/2,0.25 (px; default: %(default)s)")
    add("--axis", choices=AXES, default="x", help="direction of the shifts")
    protocols = ", ".join(names_of("protocol"))
    add("--protocol", default="crop", help=f"of {protocols}; the first one with shifts leads")
    add("--margins", help="px left out at each border under crop and subpixel (default: 0,16 where they fit)")
    add("--map", action="store_true", help="measure every (dx, dy) of the shifts too")
    add(
        "--data",
        metavar="DIR|synthetic",
        help="folder of pairs, or procedural pictures (default: what the checkpoints were trained on)",
    )
    add("--split", help="folder name of the pairs (default: the run's validation split)")
    # Of generators made elsewhere, whose files do not know their data.
    add("--window", type=size, metavar="PX|WxH", help="side or width x height of what a network sees")
    add("--canvas", type=size, metavar="PX|WxH", help="side or width x height a picture is brought to before")
    about = "of generators made elsewhere: what they take and give (or IN:OUT; default: -1,1)"
    add("--range", metavar="0,1|-1,1|0,255", help=about)
    add("--channels", metavar="N|IN:OUT", help="of inputs and outputs, where a generator does not tell")
    about = "key or place of the picture where a Python network returns a dict or a tuple"
    add("--output_key", metavar="KEY", help=about)
    add(
        "--pairs",
        choices=PAIRINGS,
        default="auto",
        help="pictures of --data: aligned pairs, or none: each is an input without a target (default: by the "
        "folders)",
    )
    add("--direction", choices=("AtoB", "BtoA"), help="AtoB: the left picture is the input")
    add("--resize", choices=RULES, help="how it gets there, of folders (default: the runs' data.resize)")
    add("--trust", action="store_true", help=TRUST)
    about = "measure generators that answer equal inputs unequally too, beside the floor this sets"
    add("--allow-random", action="store_true", help=about)
    about = (
        "run generators as pytorch-CycleGAN-and-pix2pix tests them: norms by the statistics of each picture, "
        "dropout on; takes --allow-random along"
    )
    add("--published-convention", action="store_true", help=about)
    add(
        "--export_inputs",
        type=Path,
        metavar="DIR",
        help="only write the shifted inputs for a foreign program; the folder of its outputs, under the same "
        "names, is then a CHECKPOINT",
    )
    add("--limit", type=positive, metavar="N", help="use the first N pictures")
    add(
        "--on_error",
        choices=("fail", "skip"),
        default="fail",
        help="a picture that cannot be read: end, or name it and leave it out (default: %(default)s)",
    )
    figures = names_of("quality")
    unasked = [name for name in figures if MEASURES[name].always]
    others = ", ".join(name for name in figures if name not in unasked)
    about = f"beside {', '.join(unasked)}, which cost nothing: of {others}"
    add("--quality", default="", metavar="all|NAME,...", help=about)
    add("--reference", action="store_true", help="take PSNR and SSIM from scikit-image, on the CPU")
    for measure in MEASURES.values():
        measure.add_options(parser)
    add("--worst", type=natural, default=0, metavar="K", help="name the K pictures that move most")
    add("--out", type=Path, default=Path("results"), metavar="DIR", help="where to write")
    add(
        "--no-originals",
        action="store_true",
        help="leave input and target out of grid.png: for pictures that may not be passed on",
    )
    add("--json", action="store_true", help="print results.json instead of the table")
    add(
        "--baseline",
        type=Path,
        metavar="FILE",
        help="an earlier results.json: exit 1 if a model of the same name falls below its 95 %% interval",
    )
    add(
        "--fail-under",
        type=float,
        metavar="DB",
        help="exit 1 if a model's odd-shift mean (first protocol, widest margin; fractional shifts if any; "
        "EQ-T if there is no protocol with shifts) is lower",
    )
    add_common_options(parser, batch_size=8)
    return parser


def read_options(args: Any) -> Asked:
    """Read the options that are small languages of their own.

    Raises:
        InputError: naming the option that cannot be understood or makes no sense beside another.
    """
    protocols = parse_names(args.protocol, "protocol")
    if not protocols:
        raise InputError(f"--protocol {args.protocol}: expected of {', '.join(names_of('protocol'))}")
    asked = Asked(
        shifts=parse_shifts(args.shifts),
        margins_px=None if args.margins is None else parse_margins(args.margins),
        protocols=protocols,
        measures=read_asked(args, protocols, parse_names(args.quality, "quality")),
    )
    inside = [name for name in asked.measures if MEASURES[name].looks_inside]
    if args.published_convention and inside:
        raise InputError(
            f"--{inside[0]}: looks into generators in eval mode; expected none beside --published-convention"
        )
    if args.fail_under is not None:
        check_floor(args.fail_under, asked.shifts, asked.protocols)
    return asked


def leave_out(asked: Asked, *, inputs: int, outputs: int, targets: bool = True) -> Asked:
    """Drop, and say so on stderr, what cannot be measured of so many channels, or without targets."""
    measures = {}
    needy = [] if targets else [name for name in asked.measures if MEASURES[name].needs_target]
    if needy:
        print(f"no targets: {', '.join(needy)} left out", file=sys.stderr)
    for name, settings in asked.measures.items():
        if name in needy:
            continue
        kept, note = MEASURES[name].fit(settings, inputs=inputs, outputs=outputs)
        if note:
            print(f"{note}; left out", file=sys.stderr)
        if kept is not None:
            measures[name] = kept
    return dataclasses.replace(asked, measures=measures)


def size(text: str) -> Size:
    """Read a size, for argparse."""
    try:
        found = parse_size(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if max(sides(found)) > LARGEST_PX:
        raise argparse.ArgumentTypeError(f"expected at most {LARGEST_PX} px a side, got {text!r}")
    return found


def parse_channels(text: str) -> tuple[int, int]:
    """Read `1`, or `4:3` (inputs, outputs), into two numbers of channels.

    Raises:
        InputError: naming the text.
    """
    parts = text.split(":")
    if len(parts) > 2 or not all(re.fullmatch(r"[1-9]\d?", part, re.ASCII) for part in parts):
        raise InputError(f"channels {text!r} not understood; expected 1, or 4:3 (inputs, outputs)")
    return int(parts[0]), int(parts[-1])


def parse_margins(text: str) -> list[int]:
    """Read `0,16` into margins in px."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 6 for part in parts):
        raise InputError(f"margins {text!r} not understood; expected whole px such as 0,16")
    return sorted({int(part) for part in parts})


def check_floor(floor_db: float, shifts: Sequence[Shift], protocols: Sequence[str]) -> None:
    """Refuse a `--fail-under` that could never fail, or whose leading protocol makes no odd shift."""
    if not math.isfinite(floor_db):
        raise InputError(f"--fail-under {floor_db}: expected a number of dB")
    leading = next((PROTOCOLS[name] for name in protocols if name in PROTOCOLS), None)
    if leading is None:  # a protocol that draws its own
        return
    if not any(shift % 2 and (leading.takes_fractions or is_whole((shift, 0))) for shift in shifts):
        raise InputError("--fail-under looks at odd shifts; expected one such as 1 in --shifts")
