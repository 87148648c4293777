"""The command `eval_consistency`: how often classifiers give two shifts of a picture the same class."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.command import (
    Parser,
    add_common_options,
    command,
    pick_device,
    positive,
    printable,
    progress,
    version,
)
from data.errors import InputError
from data.files import write_text
from eval.consistency import PROTOCOLS
from eval.results import prepare_output, to_json

if TYPE_CHECKING:
    import numpy as np

    from data.labelled import Labelled
    from eval.classifier_file import Classifier

DESCRIPTION = """Measure classification consistency (Zhang 2019): how often two random shifts of a picture get
the same class, beside accuracy; and how the right class's probability moves along diagonal shifts."""
SCHEMA_VERSION = 1
CURVES = 6

Network = tuple["Classifier", "Labelled"]  # with the pictures it is measured on
Curves = dict[str, tuple[list[int], "np.ndarray"]]  # network -> shifts in px, (pictures, shifts) in [0, 1]


def build_parser() -> Parser:
    """Return the command line."""
    parser = Parser(prog="eval_consistency", description=DESCRIPTION)
    parser.add_argument(
        "models",
        nargs="+",
        metavar="MODEL",
        help="a run or .safetensors file, resnet18 (torchvision's weights), or resnet18=FILE.pth",
    )
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="Fashion-MNIST, class folders, or pictures without labels (default: the networks' own); a "
        "network that knows another number of classes is measured without accuracy",
    )
    parser.add_argument("--split", default="test", help="folder name (default: %(default)s)")
    parser.add_argument("--protocol", default="crop,roll", help="of crop, roll (default: %(default)s)")
    parser.add_argument(
        "--pairs", type=positive, default=1, metavar="N", help="of shifts a picture (default: %(default)s)"
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="use the first N pictures")
    parser.add_argument("--out", type=Path, default=Path("results/consistency"), metavar="DIR")
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

    networks = load_networks(args, pick_device(args.device))
    check_networks(networks, protocols)
    measured = [
        measure(classifier, pictures, protocols, pairs=args.pairs, seed=args.seed, batch_size=args.batch_size)
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
    print(table(measured, protocols))
    print(f"wrote {args.out}/ consistency.json, consistency.html and pictures", file=sys.stderr)
    return 0


def load_networks(args: Any, device: str) -> list[Network]:
    """Load the networks under names of their own, and open their pictures."""
    from eval.classifier_models import load_any, open_pictures
    from eval.models import named_apart

    networks = []
    for model in args.models:
        classifier = load_any(model, device)
        networks.append((classifier, open_pictures(classifier, args.data, args.split).first(args.limit)))
    names = named_apart([classifier.name for classifier, _ in networks], args.models)
    return [
        (replace(classifier, name=name), pictures)
        for (classifier, pictures), name in zip(networks, names, strict=True)
    ]


def check_networks(networks: Sequence[Network], protocols: Sequence[str]) -> None:
    """See, before anything is measured, what can be; say on stderr whose accuracy cannot.

    Raises:
        InputError: naming a network whose windows have no room to move.
    """
    from eval.consistency import check_room, knows_labels

    for classifier, _ in networks:
        for name in protocols:
            check_room(classifier, name)
    for classifier, pictures in networks:
        if pictures.classes and not knows_labels(classifier, pictures):
            print(
                printable(
                    f"{classifier.name}: knows {classifier.classes} classes, but {pictures.source} has "
                    f"{len(pictures.classes)}; measured without accuracy"
                ),
                file=sys.stderr,
            )


def measure(
    classifier: Classifier,
    pictures: Labelled,
    protocols: Sequence[str],
    *,
    pairs: int = 1,
    seed: int = 0,
    batch_size: int = 256,
) -> dict[str, Any]:
    """Return consistency under each protocol, and accuracy where there are labels that the network knows."""
    from eval.consistency import knows_labels, measure_accuracy, measure_consistency

    row: dict[str, Any] = {
        "name": classifier.name,
        "source": pictures.source,
        "window_px": classifier.window_px,
        "canvas_px": classifier.canvas_px,
        "weights": dict(classifier.provenance),
        "consistency": {
            name: measure_consistency(
                classifier, pictures, name, pairs=pairs, seed=seed, batch_size=batch_size
            )
            for name in protocols
        },
    }
    if knows_labels(classifier, pictures):
        row["accuracy"] = measure_accuracy(classifier, pictures, batch_size=batch_size)
    return row


def curves_of(networks: Sequence[Network], count: int = CURVES) -> tuple[Curves, list[str]]:
    """Return how the right class's probability of some pictures moves, and what they show.

    Of all networks that know the labels and have room to move, and see the pictures the first of them sees.
    """
    from eval.consistency import diagonal_curves, knows_labels, protocol_of

    fitting = [
        (classifier, pictures.first(count))
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


def write_consistency(
    results: dict[str, Any],
    out: Path,
    curves: Curves,
    titles: Sequence[str],
) -> None:
    """Write consistency.json, its charts, and the page they stand on."""
    from eval.classifier_charts import draw_diagonals, draw_scatter
    from eval.page import Section, write_page

    text = to_json(results)
    write_text(out / "consistency.json", text)
    protocols = list(results["models"][0]["consistency"])
    pictures = []
    if all("accuracy" in model for model in results["models"]):
        points = [
            {
                "group": model["name"],
                "accuracy": model["accuracy"]["mean"],
                "consistency": model["consistency"][protocols[0]]["mean"],
            }
            for model in results["models"]
        ]
        draw_scatter(out / "scatter.png", points, protocol=protocols[0])
        pictures.append((out / "scatter.png", "Accuracy against consistency."))
    if curves:
        draw_diagonals(out / "diagonal.png", curves, titles)
        pictures.append((out / "diagonal.png", "The right class's probability along the diagonal."))
    rows = [_row(model, protocols) for model in results["models"]]
    heads = ["network", *(f"consistency, {name} [%]" for name in protocols), "accuracy [%]"]
    section = Section(
        "Consistency",
        ["How often two random shifts of a picture get the same class, ± the standard error over pictures."],
        heads,
        rows,
        pictures,
    )
    write_page(out / "consistency.html", "Classification consistency", [section])


def table(models: Sequence[dict[str, Any]], protocols: Sequence[str]) -> str:
    """Return the table that people read."""
    heads = ["network", *(f"{name} [%]" for name in protocols), "accuracy [%]"]
    rows = [heads, *(_row(model, protocols) for model in models)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(heads))]
    return "\n".join(
        " ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _row(model: dict[str, Any], protocols: Sequence[str]) -> list[str]:
    cells = [percent(model["consistency"][name]) for name in protocols]
    return [printable(model["name"]), *cells, percent(model["accuracy"]) if "accuracy" in model else "-"]


def percent(figure: dict[str, Any]) -> str:
    """Return a proportion and its standard error in per cent."""
    half = "" if figure["stderr"] is None else f" ± {100 * figure['stderr']:.2f}"
    return f"{100 * figure['mean']:.2f}{half}"


if __name__ == "__main__":
    sys.exit(main())
