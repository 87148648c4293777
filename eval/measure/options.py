"""The options of `eval_stability`: what can be asked for, read and checked before anything is loaded."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steadypix.command import Parser, add_common_options, natural, positive
from steadypix.errors import InputError
from steadypix.eval.measure.registry import MEASURES, names_of, parse_names, read_asked
from steadypix.eval.shifts.offsets import AXES, Shift, is_whole, parse_shifts
from steadypix.eval.shifts.protocols import PROTOCOLS

DEFAULT_MARGINS_PX = (0, 16)
DESCRIPTION = """Measure the shift stability of generators: PSNR between the output for the shifted
input and the shifted output, beside the quality of the outputs."""


@dataclass(frozen=True)
class Asked:
    """What the options ask for, as far as it can be understood without the generators.

    Attributes:
        shifts: in px.
        margins_px: None leaves the choice to the windows' size.
        protocols: names, in the order of the option.
        measures: settings of everything that is measured, by name.
    """

    shifts: list[Shift]
    margins_px: list[int] | None
    protocols: list[str]
    measures: dict[str, Any]


def build_parser() -> Parser:
    """Return the command line."""
    parser = Parser(prog="eval_stability", description=DESCRIPTION)
    parser.add_argument(
        "checkpoints",
        nargs="*",
        metavar="CHECKPOINT",
        help="run directories, .safetensors, latest_net_G.pth, .onnx, .pt2, package.module:function, short "
        "names of released generators, or folders of outputs (default: all under ./checkpoints, else the "
        "released)",
    )
    parser.add_argument(
        "--shifts", default="0..7", help="0..7, -4..4, 1,3,5 or 1/2,0.25 (px; default: %(default)s)"
    )
    parser.add_argument("--axis", choices=AXES, default="x", help="direction of the shifts")
    parser.add_argument(
        "--protocol",
        default="crop",
        help=f"of {', '.join(names_of('protocol'))}; the first one with shifts leads",
    )
    parser.add_argument(
        "--margins",
        help="px left out at each border under crop and subpixel (default: 0,16 where they fit)",
    )
    parser.add_argument("--map", action="store_true", help="measure every (dx, dy) of the shifts too")
    parser.add_argument(
        "--data",
        metavar="DIR|synthetic",
        help="folder of pairs, or procedural pictures (default: what the checkpoints were trained on)",
    )
    parser.add_argument("--split", help="folder name of the pairs (default: the run's validation split)")
    add_foreign_options(parser)
    parser.add_argument("--limit", type=positive, metavar="N", help="use the first N pictures")
    parser.add_argument(
        "--on_error",
        choices=("fail", "skip"),
        default="fail",
        help="a picture that cannot be read: end, or name it and leave it out (default: %(default)s)",
    )
    add_quality_options(parser)
    parser.add_argument(
        "--worst", type=natural, default=0, metavar="K", help="name the K pictures that move most"
    )
    parser.add_argument("--out", type=Path, default=Path("results"), metavar="DIR", help="where to write")
    parser.add_argument(
        "--no-originals",
        action="store_true",
        help="leave input and target out of grid.png: for pictures that may not be passed on",
    )
    parser.add_argument("--json", action="store_true", help="print results.json instead of the table")
    parser.add_argument(
        "--baseline",
        type=Path,
        metavar="FILE",
        help="an earlier results.json: exit 1 if a model of the same name falls below its 95 %% interval",
    )
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


def add_quality_options(parser: Parser) -> None:
    """Add what else to measure: quality figures, and whatever a measure has an option of its own for."""
    unasked = [name for name in names_of("quality") if MEASURES[name].always]
    others = [name for name in names_of("quality") if name not in unasked]
    parser.add_argument(
        "--quality",
        default="",
        metavar="all|NAME,...",
        help=f"beside {', '.join(unasked)}, which cost nothing: of {', '.join(others)}",
    )
    parser.add_argument(
        "--reference", action="store_true", help="take PSNR and SSIM from scikit-image, on the CPU"
    )
    for measure in MEASURES.values():
        measure.add_options(parser)


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
    if args.fail_under is not None:
        check_floor(args.fail_under, asked.shifts, asked.protocols)
    return asked


def leave_out(asked: Asked, *, inputs: int, outputs: int) -> Asked:
    """Drop, and say so on stderr, what cannot be measured of so many channels.

    Args:
        asked: what the options ask for.
        inputs: channels of the inputs.
        outputs: channels of the outputs.
    """
    measures = {}
    for name, settings in asked.measures.items():
        kept, note = MEASURES[name].fit(settings, inputs=inputs, outputs=outputs)
        if note:
            print(f"{note}; left out", file=sys.stderr)
        if kept is not None:
            measures[name] = kept
    return dataclasses.replace(asked, measures=measures)


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
