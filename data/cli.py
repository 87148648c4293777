"""The command `steadypix_data`: fetch, make, look at and check folders of pairs."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from steadypix.command import Parser, command, natural, positive, version
from steadypix.data.download import obtain as download
from steadypix.data.scenes.render import KINDS
from steadypix.files import write_whole
from steadypix.progress import progress


def build_parser() -> Parser:
    """Return the command line."""
    parser = Parser(prog="steadypix_data", description="Fetch, make and check pairs of pictures.")
    parser.add_argument("--version", action="version", version=f"steadypix {version()}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    synthetic = verbs.add_parser("synthetic", help="write procedural pairs as a side-by-side folder")
    synthetic.add_argument("--out", type=Path, required=True, metavar="DIR", help="DIR/train, DIR/test")
    synthetic.add_argument("--train", type=natural, default=400, metavar="N", help="training pairs")
    synthetic.add_argument("--test", type=natural, default=106, metavar="N", help="test pairs")

    download.add_options(verbs.add_parser("download", help="fetch a data set of pairs by name"))

    sheet = verbs.add_parser("sheet", help="draw a contact sheet of procedural pairs")
    sheet.add_argument("--out", type=Path, required=True, metavar="FILE.png")
    sheet.add_argument("--count", type=positive, default=16, metavar="N")
    for verb in (synthetic, sheet):
        verb.add_argument("kind", choices=KINDS)
        verb.add_argument("--size", type=positive, default=256, metavar="PX", help="side of a picture")
        verb.add_argument("--seed", type=natural, default=0, metavar="N", help="which scenes")

    check = verbs.add_parser("check", help="read every pair of a folder and list what is broken or odd")
    check.add_argument("root", type=Path, metavar="DIR")
    check.add_argument(
        "--split", action="append", default=[], help="folder name, again for another (default: every folder)"
    )
    check.add_argument("--workers", type=natural, metavar="N", help="reading processes (default: all cores)")
    check.add_argument("--json", action="store_true", help="print one JSON document instead of lines")
    return parser


@command("steadypix_data")
def main(argv: Sequence[str]) -> int:
    """Run the command line; return its exit code."""
    args = build_parser().parse(argv)
    if args.verb == "download":
        return download.run(args)
    if args.verb == "synthetic":
        for split, count in (("train", args.train), ("test", args.test)):
            write_pairs(args.kind, split, args.out, count=count, size=args.size, seed=args.seed)
        return 0
    if args.verb == "sheet":
        from PIL import Image

        from steadypix.data.scenes.render import contact_sheet

        pixels = contact_sheet(args.kind, count=args.count, size=args.size, seed=args.seed)
        write_whole(args.out, functools.partial(Image.fromarray(pixels).save, format="PNG"))
        return 0
    return check_pairs(args.root, args.split, workers=args.workers, as_json=args.json)


def write_pairs(kind: str, split: str, out: Path, *, count: int, size: int, seed: int) -> None:
    """Write procedural pairs side by side (A left, B right) to `out/split/`, in pix2pix's layout."""
    import numpy as np
    from PIL import Image

    from steadypix.data.pairs.procedural import SyntheticPairs

    if count == 0:
        return
    pairs = SyntheticPairs(
        kind, split, count=count, scene_seed=seed, direction="AtoB", load_size=size, crop_size=size
    )
    for index in progress(range(count), count, unit="pair"):
        image = Image.fromarray(np.hstack(pairs.read(index)))
        write_whole(out / split / f"{index + 1}.png", functools.partial(image.save, format="PNG"))


def check_pairs(root: Path, splits: Sequence[str], *, workers: int | None, as_json: bool) -> int:
    """Read every pair; print what is wrong or odd on stdout, a summary on stderr.

    Returns:
        0 if all can be used, else 2.
    """
    from tqdm import tqdm

    from steadypix.data.checking.check import check, cores
    from steadypix.data.checking.survey import Finding

    findings: list[Finding] = []
    # tqdm takes its bar out of the way of a line.
    report = findings.append if as_json else lambda finding: tqdm.write(str(finding), file=sys.stdout)
    summary = check(root, splits=splits, workers=cores() if workers is None else workers, report=report)
    counts = summary.counts
    if as_json:
        document = {
            "root": str(root),
            "usable": counts["error"] == 0,
            "pairs": summary.pairs,
            "splits": summary.splits,
            "counts": counts,
            "findings": [{**vars(finding), "path": str(finding.path)} for finding in findings],
        }
        print(json.dumps(document, indent=1))
    print(
        f"{root}: {summary.pairs} pairs in {', '.join(summary.splits)}; {counts['error']} errors, "
        f"{counts['remark']} remarks, {counts['ignored']} ignored",
        file=sys.stderr,
    )
    return 2 if counts["error"] else 0


if __name__ == "__main__":
    sys.exit(main())
