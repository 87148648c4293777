"""The command `steadypix export`: a generator as a program for other runtimes, torch.export or ONNX."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from steadypix.command import Parser, command, positive, version
from steadypix.errors import InputError, require_text
from steadypix.eval.generators.formats import FORMATS, KINDS, TRUST
from steadypix.files import prepare_output

SUFFIXES = {"pt2": ".pt2", "onnx": ".onnx"}


def build_parser() -> Parser:
    """Return the command line."""
    parser = Parser(
        prog="steadypix export",
        description="Write a generator as a program. `eval_stability FILE` and `generate FILE` take it, too.",
    )
    parser.add_argument("network", metavar="NETWORK", help=KINDS)
    parser.add_argument(
        "--format", choices=tuple(SUFFIXES), help="pt2: torch.export; onnx (default: by the suffix of --out)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="ends in .pt2 or .onnx")
    parser.add_argument(
        "--size",
        type=positive,
        metavar="PX",
        help="take square pictures of this side only: a smaller and faster program (default: any size)",
    )
    parser.add_argument(
        "--exporter",
        choices=("dynamo", "torchscript"),
        help="for ONNX, torch's exporter (default: dynamo, or the older torchscript without onnxscript)",
    )
    parser.add_argument("--trust", action="store_true", help=TRUST)
    parser.add_argument("--version", action="version", version=f"steadypix {version()}")
    return parser


@command("steadypix export")
def main(argv: Sequence[str]) -> int:
    """Run the command line; return its exit code: 2 if the file would differ from the network."""
    args = build_parser().parse(argv)
    format = args.format or {suffix: name for name, suffix in SUFFIXES.items()}.get(args.out.suffix)
    if format is None or args.out.suffix != SUFFIXES[format]:
        expected = SUFFIXES[format] if format else " or ".join(SUFFIXES.values())
        raise InputError(f"--out {args.out}: expected a name that ends in {expected}")
    if args.exporter and format != "onnx":
        raise InputError(f"--exporter {args.exporter}: is for --format onnx")
    if args.out.is_dir():
        raise InputError(f"--out {args.out}: is a folder; expected a file")
    require_text(args.out, "--out")
    prepare_output(args.out.parent, only=args.out)

    from steadypix.eval.generators.exporting import export_generator
    from steadypix.eval.generators.loading import find_generator, load_generator

    file, kind = find_generator(args.network)
    if kind in ("onnx", "outputs"):
        raise InputError(f"{file}: is {FORMATS[kind]}; expected a network or a torch.export program")
    if args.out.exists() and file.exists() and args.out.samefile(file):
        raise InputError(f"--out {args.out}: would be written over the generator itself")
    generator = load_generator(args.network, trust=args.trust)
    done = export_generator(
        generator, args.out, format=format, name=args.network, size_px=args.size, exporter=args.exporter
    )
    takes = "pictures of any size from {least_px} px on" if done.fixed_px is None else "{0} x {0} px only"
    print(f"wrote {args.out}: takes {takes.format(done.fixed_px, least_px=done.least_px)}")
    tried = ", ".join(f"{b} x {h} x {w}" for b, h, w in done.sizes)
    print(
        f"largest difference to the network {done.difference:.1e} (on [-1, 1], in {done.checked_by}, "
        f"batches of {tried} px)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
