"""Pretrained networks fine-tuned on few pictures: `python -m steadypix.eval.finetuning`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from steadypix.command import Parser, command, pick_device, version
from steadypix.data.labelled.named import open_data
from steadypix.eval.results.write import to_json
from steadypix.eval.study_options import add_study_options, shown_command
from steadypix.files import prepare_output, write_text

DESCRIPTION = """Fine-tune a pretrained ResNet, plain and anti-aliased, on few pictures of five classes of
Fashion-MNIST; measure accuracy, consistency and corruption error with intervals over seeds. The network
is pretrained here on the other five classes, or comes from elsewhere. The same command goes on."""
SCHEMA_VERSION = 1


def build_parser() -> Parser:
    """Return the command line."""
    parser = Parser(prog="python -m steadypix.eval.finetuning", description=DESCRIPTION)
    add = parser.add_argument
    numbers = (
        ("seeds", 5, "fine-tunings of each network"),
        ("epochs", 5, "passes over the pictures to fine-tune on"),
        ("pretrain_epochs", 3, "passes over the pictures to pretrain on"),
        ("train_limit", 3900, "pictures to fine-tune on"),
        ("limit", 5000, "test pictures"),
        ("corrupted", 300, "of them, for corruptions"),
    )
    add_study_options(parser, out="results/finetuning", width=8, numbers=numbers)
    about = (
        "a run of eval_classifiers, resnet18 (torchvision's weights), resnet18=FILE; default: pretrained here"
    )
    add("--pretrained", default="here", metavar="NETWORK", help=about)
    about = "none is always among them (default: %(default)s)"
    add("--filters", default="bin5", metavar="NAME,...", help=about)
    return parser


@command("finetuning")
def main(argv: Sequence[str]) -> int:
    """Run the command line; return its exit code."""
    args = build_parser().parse(argv)

    import torch

    from steadypix.eval.classifiers.study import chosen
    from steadypix.eval.finetuning.experiment import BASELINE, FineTuning, Settings, summarise
    from steadypix.gen.layers.filters import FILTERS

    filters = chosen("--filters", f"{BASELINE},{args.filters}", (BASELINE, *FILTERS))
    if args.threads:
        torch.set_num_threads(args.threads)
    usual = Settings()
    settings = Settings(
        pretrained=args.pretrained,
        filters=tuple(filters),
        width=args.width,
        seeds=args.seeds,
        train_images=args.train_limit,
        test_images=args.limit,
        corrupted_images=min(args.corrupted, args.limit),
        severities=args.severities,
        pretraining=replace(usual.pretraining, epochs=args.pretrain_epochs),
        tuning=replace(usual.tuning, epochs=args.epochs),
    )
    train, test = open_data(args.data)
    device = pick_device(args.device)
    experiment = FineTuning(args.out, train, test, settings, device)  # refuses weights that cannot be used
    prepare_output(args.out)
    if args.document is not None:
        prepare_output(args.document.parent, only=args.document)

    def reporter(label: str) -> Any:
        return lambda epoch, loss: print(f"{label}: epoch {epoch}, loss {loss:.4f}", file=sys.stderr)

    for filter in filters:
        experiment.pretrain(filter, reporter(f"pretraining {filter}"))
    measures = []
    for seed in range(settings.seeds):  # a whole seed before the next, so that a part can be read
        for filter in filters:
            experiment.tune(filter, seed, reporter(f"{filter}, seed {seed}"))
            figures = experiment.measure(filter, seed)
            measures.append(figures)
            accuracy, same = 100 * figures["accuracy"], 100 * figures["consistency_crop"]
            print(
                f"{filter}, seed {seed}: accuracy {accuracy:.2f} %, consistency {same:.2f} %", file=sys.stderr
            )
        results = {
            "schema_version": SCHEMA_VERSION,
            "steadypix": version(),
            "command": shown_command("python -m steadypix.eval.finetuning", argv),
            "settings": {**asdict(settings), "pretrained": Path(args.pretrained).name},
            "classes": {"pretraining": experiment.base.classes, "tuning": experiment.train.classes},
            "n_pretraining": len(experiment.base),
            "n_tuning": len(experiment.train),
            "done": seed + 1,
            "table": summarise(measures),
        }
        _write(results, args.out, args.document)
    print((args.out / "finetuning.md").read_text(encoding="utf-8"), end="")
    print(f"wrote {args.out}/ results.json, finetuning.html, finetuning.md", file=sys.stderr)
    return 0


def _write(results: dict[str, Any], out: Path, document: Path | None) -> None:
    from steadypix.eval.finetuning.page import TITLE, sections
    from steadypix.eval.report.page import to_markdown, write_page

    write_text(out / "results.json", to_json(results))
    parts = sections(results)
    write_page(out / "finetuning.html", TITLE, parts)
    for path in (out / "finetuning.md", document):
        if path is not None:
            write_text(path, to_markdown(TITLE, parts))


if __name__ == "__main__":
    sys.exit(main())
