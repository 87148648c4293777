"""The command `eval_sequence`: how much sequences of frames flicker, whoever made them."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from steadypix.command import Parser, command, natural, positive, version
from steadypix.errors import printable
from steadypix.files import prepare_output

DESCRIPTION = """Measure the flicker of sequences made by anyone: temporal_flickering (VBench), and warp_error
along the optical flow of the input (Lai et al. 2018). A sequence is a folder of frames, in natural order, or
a video file. Needs OpenCV: pip install 'steadypix[flow]'; video files also need 'steadypix[video]'."""
SCHEMA_VERSION = 1


def build_parser() -> Parser:
    """Return the command line."""
    parser = Parser(prog="eval_sequence", description=DESCRIPTION)
    add = parser.add_argument
    about = "what the outputs were made of; the optical flow is taken from it"
    add("input", type=Path, metavar="INPUT", help=about)
    about = "as many frames, of the input's size or of a whole multiple of it"
    add("outputs", type=Path, nargs="+", metavar="OUTPUT", help=about)
    about = "leave PX a side of the input out of the warp error (default: %(default)s)"
    add("--margin", type=natural, default=0, metavar="PX", help=about)
    add("--limit", type=_at_least_two, metavar="N", help="use the first N frames")
    about = "frames a second of the animation (default: %(default)s)"
    add("--fps", type=positive, default=8, metavar="N", help=about)
    add("--out", type=Path, default=Path("results/sequence"), metavar="DIR")
    add("--version", action="version", version=f"steadypix {version()}")
    return parser


@command("eval_sequence")
def main(argv: Sequence[str]) -> int:
    """Run the command line; return its exit code."""
    args = build_parser().parse(argv)
    prepare_output(args.out)

    from steadypix.eval.sequence.measure import measure_sequences
    from steadypix.eval.sequence.page import to_table, write_all

    measured, shares = measure_sequences(args.input, args.outputs, margin_px=args.margin, limit=args.limit)
    results = record(measured, shares, args, argv)
    write_all(results, args.out, measured, fps=args.fps)
    print(to_table(results))
    say_cuts(results)
    print(f"wrote {args.out}/ sequence.json, sequence.html and pictures", file=sys.stderr)
    return 0


def record(
    measured: Sequence[Any], shares: Sequence[float], args: Any, words: Sequence[str]
) -> dict[str, Any]:
    """Return the results: how they were made, and what was measured."""
    import importlib.metadata

    from steadypix.eval.sequence.flow import METHOD, require_opencv

    source, *outputs = measured
    return {
        "schema_version": SCHEMA_VERSION,
        "command": shlex.join(["eval_sequence", *words]),
        "versions": {
            "steadypix": version(),
            "opencv": require_opencv().__version__,
            "numpy": importlib.metadata.version("numpy"),
        },
        "flow": METHOD,
        "margin_px": args.margin,
        "n_frames": len(shares) + 1,
        "compared": list(shares),
        "input": source.summary(source),
        "outputs": [one.summary(source) for one in outputs],
    }


def say_cuts(results: dict[str, Any]) -> None:
    """Name the frames between which so little can be compared that there is probably a cut."""
    from steadypix.eval.sequence.measure import FEW

    cuts = [place for place, share in enumerate(results["compared"], 1) if share < FEW]
    if cuts:
        shown = ", ".join(f"{place} to {place + 1}" for place in cuts[:3]) + (
            ", ..." if len(cuts) > 3 else ""
        )
        note = (
            f"less than {FEW:.0%} of the pixels can be compared from frame {shown}: a cut? Measure each scene"
        )
        print(printable(f"{results['input']['name']}: {note}"), file=sys.stderr)


def _at_least_two(text: str) -> int:
    """Read a number of frames, for argparse."""
    if positive(text) < 2:
        raise argparse.ArgumentTypeError("expected at least 2 frames, of which flicker is the difference")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
