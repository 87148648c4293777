"""The command `eval_consistency`: how often classifiers give two shifts of a picture the same class."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steadypix.command import Parser, add_common_options, command, pick_device, positive, version
from steadypix.errors import InputError, printable
from steadypix.eval.classifiers.consistency import (
    PROTOCOLS,
    check_room,
    diagonal_curves,
    knows_labels,
    measure_accuracy,
    measure_consistency,
    protocol_of,
)
from steadypix.eval.classifiers.loading import load_with_pictures
from steadypix.eval.classifiers.pages import Curves, consistency_table, write_consistency
from steadypix.eval.generators.formats import TRUST
from steadypix.files import prepare_output
from steadypix.progress import progress

if TYPE_CHECKING:
    from steadypix.data.labelled.labelled import Labelled
    from steadypix.eval.classifiers.file import Classifier

DESCRIPTION = """Measure classification consistency (Zhang 2019): how often two random shifts of a picture get
the same class, beside accuracy; and how the right class's probability moves along diagonal shifts."""
SCHEMA_VERSION = 1
CURVES = 6

Network = tuple["Classifier", "Labelled"]  # with the pictures it is measured on


def build_parser() -> Parser:
    """Return the command line."""
    parser = Parser(prog="eval_consistency", description=DESCRIPTION)
    add = parser.add_argument
    about = (
        "a run or .safetensors file, resnet18 (torchvision's weights), resnet18=FILE.pth, or a function that "
        "returns a network: timm.models:resnet18, antialiased_cnns:resnet18, package.module:function=FILE.pth"
    )
    add("models", nargs="+", metavar="MODEL", help=about)
    about = (
        "Fashion-MNIST, class folders, or pictures without labels (default: the networks' own); a network "
        "that knows another number of classes is measured without accuracy"
    )
    add("--data", metavar="DIR", help=about)
    add("--split", default="test", help="folder name (default: %(default)s)")
    add("--protocol", default="crop,roll", help="of crop, roll (default: %(default)s)")
    about = "of shifts a picture (default: %(default)s)"
    add("--pairs", type=positive, default=1, metavar="N", help=about)
    add("--limit", type=positive, metavar="N", help="use the first N pictures")
    add("--out", type=Path, default=Path("results/consistency"), metavar="DIR")
    add("--trust", action="store_true", help=TRUST)
    add_common_options(parser, batch_size=256, without=("workers",))
    return parser


@command("eval_consistency")
def main(argv: Sequence[str]) -> int:
    """Run the command line; return its exit code."""
    args = build_parser().parse(argv)
    protocols = list(dict.fromkeys(args.protocol.split(",")))
    for name in protocols:
        if name not in PROTOCOLS:
            raise InputError(f"--protocol {name}: is unknown; expected of {', '.join(PROTOCOLS)}")
    prepare_output(args.out)

    device = pick_device(args.device)
    where = (args.data, args.split, args.limit, device)
    networks = load_with_pictures(args.models, *where, at_once=args.batch_size, trust=args.trust)
    # What cannot be measured is said before anything is.
    for classifier, _ in networks:
        for name in protocols:
            check_room(classifier, name)
    for classifier, pictures in networks:
        if pictures.classes and not knows_labels(classifier, pictures):
            reason = f"knows {classifier.classes} classes, but {pictures.source} has {len(pictures.classes)}"
            print(printable(f"{classifier.name}: {reason}; measured without accuracy"), file=sys.stderr)
    how = {"pairs": args.pairs, "seed": args.seed, "batch_size": args.batch_size}
    measured = [
        measure(classifier, pictures, protocols, **how)
        for classifier, pictures in progress(networks, len(networks), unit="network")
    ]
    results = {
        "schema_version": SCHEMA_VERSION,
        "steadypix": version(),
        "measure": "two independent uniform shifts of a picture get the same class (Zhang 2019, section 4.1)",
        "seed": args.seed,
        "models": measured,
    }
    write_consistency(results, args.out, *curves_of(networks))
    print(consistency_table(measured))
    print(f"wrote {args.out}/ consistency.json, consistency.html and pictures", file=sys.stderr)
    return 0


def measure(
    classifier: Classifier, pictures: Labelled, protocols: Sequence[str], **how: int
) -> dict[str, Any]:
    """Return consistency under each protocol, and accuracy where there are labels that the network knows.

    `how` are `pairs`, `seed` and `batch_size` of `measure_consistency`.
    """
    row: dict[str, Any] = {
        "name": classifier.name,
        "source": pictures.source,
        "window_px": classifier.window_px,
        "canvas_px": classifier.canvas_px,
        "weights": dict(classifier.provenance),
        "consistency": {name: measure_consistency(classifier, pictures, name, **how) for name in protocols},
    }
    if knows_labels(classifier, pictures):
        row["accuracy"] = measure_accuracy(classifier, pictures, batch_size=how["batch_size"])
    return row


def curves_of(networks: Sequence[Network]) -> tuple[Curves, list[str]]:
    """Return how the right class's probability of some pictures moves, and what they show.

    Of all networks that know the labels and have room to move, and see the pictures the first of them sees.
    """
    fitting = [
        (classifier, pictures.first(CURVES))
        for classifier, pictures in networks
        if knows_labels(classifier, pictures) and classifier.canvas_px > classifier.window_px
    ]
    if not fitting:
        return {}, []
    shown = fitting[0][1]
    curves: Curves = {}
    for classifier, pictures in fitting:
        if pictures.source == shown.source:
            shifts = list(protocol_of(classifier, "crop").room)
            curves[classifier.name] = shifts, diagonal_curves(classifier, pictures, shifts)
    return curves, [shown.classes[int(label)] for label in shown.labels]


if __name__ == "__main__":
    sys.exit(main())
