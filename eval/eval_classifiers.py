"""The command `eval_classifiers`: anti-aliased classifiers trained and measured, end to end."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from steadypix.command import Parser, command, pick_device, version
from steadypix.data.labelled.named import open_data
from steadypix.errors import require_text
from steadypix.eval.results.write import to_json
from steadypix.eval.study_options import add_study_options, shown_command
from steadypix.files import prepare_output, write_text

DESCRIPTION = """Train plain and anti-aliased classifiers on few pictures of Fashion-MNIST; measure accuracy,
consistency, corruption error, flip rates and feature distance. The same command goes on where it stopped."""
SCHEMA_VERSION = 1


def build_parser() -> Parser:
    """Return the command line."""
    parser = Parser(prog="eval_classifiers", description=DESCRIPTION)
    add = parser.add_argument
    numbers = (
        ("seeds", 3, "trainings of each network"),
        ("epochs", 10, "passes over the training pictures"),
        ("train_limit", 3900, "training pictures"),
        ("limit", 5000, "test pictures"),
    )
    add_study_options(parser, out="results/classifiers", width=16, numbers=numbers)
    add("--networks", default="resnet18,vgg11_bn", metavar="NAME,...", help="default: %(default)s")
    about = "of rect2, tri3, bin5, gated; none is always among them (default: all)"
    add("--filters", metavar="NAME,...", help=about)
    add("--random_shifts", action="store_true", help="train on windows from anywhere on the canvas")
    return parser


@command("eval_classifiers")
def main(argv: Sequence[str]) -> int:
    """Run the command line; return its exit code."""
    args = build_parser().parse(argv)

    from steadypix.eval.classifiers.study import ROWS, Settings, Study, chosen, runs, summarise
    from steadypix.eval.classifiers.training import Recipe

    networks = chosen("--networks", args.networks, ROWS)
    rows = {row: None for name in networks for row in ROWS[name]}
    filters = None if args.filters is None else chosen("--filters", args.filters, rows)
    require_text(args.out, "--out")
    prepare_output(args.out)
    if args.document is not None:
        prepare_output(args.document.parent, only=args.document)
    train, test = open_data(args.data)

    import torch

    if args.threads:
        torch.set_num_threads(args.threads)
    few = ("corrupted_images", "sequence_images", "feature_images", "dense_images")
    settings = Settings(
        width=args.width,
        seeds=args.seeds,
        train_images=args.train_limit,
        test_images=args.limit,
        severities=args.severities,
        recipe=Recipe(epochs=args.epochs, random_shifts=args.random_shifts),
        **{name: min(getattr(Settings, name), args.limit) for name in few},
    )
    study = Study(args.out, train, test, settings, pick_device(args.device))
    todo = list(runs(settings.seeds, networks, filters))
    measures = []
    for place, run in enumerate(todo, 1):
        label = f"[{place}/{len(todo)}] {run.name}"

        def report(epoch: int, loss: float, label: str = label) -> None:
            print(f"{label}: epoch {epoch}, loss {loss:.4f}", file=sys.stderr)

        study.fit(run, report)
        figures = study.measure(run)
        measures.append(figures)
        accuracy, same = (
            100 * found["mean"] for found in (figures["accuracy"], figures["consistency"]["crop"])
        )
        print(f"{label}: accuracy {accuracy:.2f} %, consistency {same:.2f} %", file=sys.stderr)
    shown = test.first(settings.sequence_images)
    results = {
        "schema_version": SCHEMA_VERSION,
        "steadypix": version(),
        "command": shown_command("eval_classifiers", argv),
        "minutes": sum(sum(filter(None, m["seconds"].values())) for m in measures) / 60,
        "threads": torch.get_num_threads(),
        "settings": asdict(settings),
        "test_classes": [shown.classes[int(label)] for label in shown.labels],
        "table": summarise(measures),
    }
    write_study(results, measures, args.out, args.document)
    print((args.out / "classification.md").read_text(encoding="utf-8"), end="")
    print(f"wrote {args.out}/ results.json, classification.html, classification.md", file=sys.stderr)
    return 0


def write_study(
    results: dict[str, Any], measures: Sequence[dict[str, Any]], out: Path, document: Path | None
) -> None:
    """Write results.json, the charts, the page as HTML and Markdown, and both again as a document."""
    from steadypix.eval.charts.style import save_smaller
    from steadypix.eval.classifiers.document import TITLE, sections
    from steadypix.eval.report.page import to_markdown, write_page

    write_text(out / "results.json", to_json(results))
    parts = sections(results, measures, out)
    write_page(out / "classification.html", TITLE, parts)
    write_text(out / "classification.md", to_markdown(TITLE, parts))
    if document is not None:
        for file in {file for part in parts for file, _ in part.pictures}:
            save_smaller(file, document.with_suffix("") / file.name)
        write_text(document, to_markdown(TITLE, parts, Path(document.stem)))


if __name__ == "__main__":
    sys.exit(main())
