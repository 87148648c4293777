"""The options of `eval_stability`: what can be asked for, read and checked before anything is loaded."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.command import Parser, add_common_options, natural, positive
from data.errors import InputError
from eval.lpips_metric import NETS
from eval.offsets import AXES, Shift, is_whole, parse_shifts
from eval.perturb_kinds import KINDS, parse_perturbations
from eval.quality import ON_REQUEST, parse_quality
from eval.shifts import PROTOCOLS

DEFAULT_MARGINS_PX = (0, 16)
DESCRIPTION = """Measure the shift stability of generators: PSNR between the output for the shifted
input and the shifted output, beside the quality of the outputs."""


@dataclass(frozen=True)
class Asked:
    """What the options ask for, as far as it can be understood without the generators.

    Attributes:
        shifts: in px.
        margins_px: None leaves the choice to the windows' size.
        protocols: names, `eqt` among them.
        quality: names of figures.
        kinds: of perturbations.
    """

    shifts: list[Shift]
    margins_px: list[int] | None
    protocols: list[str]
    quality: Sequence[str]
    kinds: Sequence[str]


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


def read_options(args: Any) -> Asked:
    """Read the options that are small languages of their own.

    Raises:
        InputError: naming the option that cannot be understood or makes no sense beside another.
    """
    asked = Asked(
        shifts=parse_shifts(args.shifts),
        margins_px=None if args.margins is None else parse_margins(args.margins),
        protocols=parse_protocols(args.protocol),
        quality=parse_quality(args.quality),
        kinds=() if args.perturb is None else parse_perturbations(args.perturb),
    )
    if args.fail_under is not None:
        check_floor(args.fail_under, asked.shifts, asked.protocols)
    if args.lpips_weights and "lpips" not in asked.quality:
        raise InputError("--lpips-weights: LPIPS is not measured; expected --quality lpips with it")
    return asked


def leave_out(asked: Asked, *, inputs: int, outputs: int) -> Asked:
    """Drop, and say so on stderr, what is made for grayscale and RGB: LPIPS of outputs, JPEG of inputs.

    Args:
        asked: what the options ask for.
        inputs: channels of the inputs.
        outputs: channels of the outputs.
    """
    quality, kinds = asked.quality, asked.kinds
    if "lpips" in quality and outputs not in (1, 3):
        print(f"lpips: needs grayscale or RGB outputs, not {outputs} channels; left out", file=sys.stderr)
        quality = [name for name in quality if name != "lpips"]
    if "jpeg" in kinds and inputs not in (1, 3):
        print(f"jpeg: needs grayscale or RGB inputs, not {inputs} channels; left out", file=sys.stderr)
        kinds = [name for name in kinds if name != "jpeg"]
    return dataclasses.replace(asked, quality=quality, kinds=kinds)


def parse_protocols(text: str) -> list[str]:
    """Read `crop,roll` into names, each once."""
    protocols = list(dict.fromkeys(text.split(",")))
    for name in protocols:
        if name not in (*PROTOCOLS, "eqt"):
            raise InputError(f"--protocol {name}: is unknown; expected of {', '.join(PROTOCOLS)}, eqt")
    return protocols


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
    if leading is None:  # EQ-T draws its own
        return
    if not any(shift % 2 and (leading.takes_fractions or is_whole((shift, 0))) for shift in shifts):
        raise InputError("--fail-under looks at odd shifts; expected one such as 1 in --shifts")
