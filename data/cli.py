"""The command `steadypix_data`: fetch, make, look at and check folders of pairs."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from steadypix.budget import WORKER_BYTES, Part, require
from steadypix.command import Parser, command, natural, positive, seed, version
from steadypix.data.download import obtain as download
from steadypix.data.scenes.render import KINDS
from steadypix.errors import InputError, printable
from steadypix.files import prepare_output
from steadypix.progress import progress

RENDER_BYTES = 80  # a px of a picture that is rendered
SHOWN_BYTES = 12  # a px of a sheet's pairs, and of what is written of them


def build_parser() -> Parser:
    """Return the command line."""
    parser = Parser(prog="steadypix_data", description="Fetch, make and check pairs of pictures.")
    parser.add_argument("--version", action="version", version=f"steadypix {version()}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    synthetic = verbs.add_parser("synthetic", help="write procedural pairs as a side-by-side folder")
    synthetic.add_argument("--out", type=Path, required=True, metavar="DIR", help="DIR/train, DIR/test")
    synthetic.add_argument("--train", type=natural, default=400, metavar="N", help="training pairs")
    synthetic.add_argument("--test", type=natural, default=106, metavar="N", help="test pairs")
    synthetic.add_argument(
        "--overwrite", action="store_true", help="replace procedural pairs that are there, and their number"
    )

    download.add_options(verbs.add_parser("download", help="fetch a data set of pairs by name"))

    sheet = verbs.add_parser("sheet", help="draw a contact sheet of procedural pairs")
    sheet.add_argument("--out", type=Path, required=True, metavar="FILE.png")
    sheet.add_argument("--count", type=positive, default=16, metavar="N")
    for verb in (synthetic, sheet):
        verb.add_argument("kind", choices=KINDS)
        verb.add_argument("--size", type=positive, default=256, metavar="PX", help="side of a picture")
        verb.add_argument("--seed", type=seed, default=0, metavar="N", help="which scenes")

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
    if args.verb in ("synthetic", "sheet"):
        shown = 0 if args.verb == "synthetic" else args.count
        needed = (RENDER_BYTES + SHOWN_BYTES * shown) * args.size**2
        what = f"--size {args.size}{f' --count {shown}' if shown else ''}"
        require(Part(needed, what, "fewer and smaller pictures"))
    if args.verb == "synthetic":
        prepare_output(args.out)
        splits = {split: count for split, count in (("train", args.train), ("test", args.test)) if count}
        old = [path for split in splits for path in replaceable(args.out / split, overwrite=args.overwrite)]
        for path in old:  # once it is known that all of them may go
            path.unlink()
        for split, count in splits.items():
            write_pairs(args.kind, split, args.out, count=count, size=args.size, seed=args.seed)
        return 0
    if args.verb == "sheet":
        from steadypix.data.pictures.saving import refuse_foreign, save_image
        from steadypix.data.scenes.render import contact_sheet

        if args.out.suffix != ".png":
            raise InputError(f"--out {args.out}: expected a name that ends in .png")
        prepare_output(args.out.parent, only=args.out)
        refuse_foreign([args.out], expected="another --out")
        pixels = contact_sheet(args.kind, count=args.count, size=args.size, seed=args.seed)
        save_image(args.out, pixels)
        return 0
    if args.workers:
        require(Part(args.workers * WORKER_BYTES, f"--workers {args.workers}", "fewer --workers"))
    return check_pairs(args.root, args.split, workers=args.workers, as_json=args.json)


def replaceable(folder: Path, *, overwrite: bool) -> list[Path]:
    """Return the pictures in a split's folder, which have to go so that two data sets do not mix.

    Args:
        folder: of the split; it may be missing.
        overwrite: whether those that this command wrote may go.

    Raises:
        InputError: naming a picture, or the folder, if they may not.
    """
    from steadypix.data.pictures.listing import list_images
    from steadypix.data.pictures.saving import is_ours

    found = list_images(folder) if folder.is_dir() else []
    foreign = next((path for path in found if not is_ours(path)), None)
    if foreign:
        raise InputError(f"{foreign}: is there, and not written by this command; expected another --out")
    if found and not overwrite:
        raise InputError(
            f"{folder}: holds {len(found)} pairs already; expected another --out, or --overwrite"
        )
    return found


def write_pairs(kind: str, split: str, out: Path, *, count: int, size: int, seed: int) -> None:
    """Write procedural pairs side by side (A left, B right) to `out/split/`, in pix2pix's layout."""
    import numpy as np

    from steadypix.data.pairs.procedural import SyntheticPairs
    from steadypix.data.pictures.saving import save_image

    if count == 0:
        return
    pairs = SyntheticPairs(
        kind, split, count=count, scene_seed=seed, direction="AtoB", load_size=size, crop_size=size
    )
    for index in progress(range(count), count, unit="pair"):
        save_image(out / split / f"{index + 1}.png", np.hstack(pairs.read(index)))


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
    write = functools.partial(tqdm.write, file=sys.stdout)
    report = findings.append if as_json else lambda finding: write(printable(str(finding)))
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
