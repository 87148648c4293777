"""Pretrained networks fine-tuned on few pictures: `python -m steadypix.eval.finetuning`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from steadypix.command import Parser, command, natural, pick_device, positive, version
from steadypix.data.labelled.fashion_mnist import NAME
from steadypix.data.labelled.named import DATASETS, open_data
from steadypix.errors import InputError
from steadypix.eval.results.write import to_json
from steadypix.files import prepare_output, write_text

DESCRIPTION = """Fine-tune a pretrained ResNet, plain and anti-aliased, on few pictures of five classes of
Fashion-MNIST; measure accuracy, consistency and corruption error with intervals over seeds. The network
is pretrained here on the other five classes, or comes from elsewhere. The same command goes on."""
SCHEMA_VERSION = 1


def build_parser() -> Parser:
    """Return the command line."""
    parser = Parser(prog="python -m steadypix.eval.finetuning", description=DESCRIPTION)
    add = parser.add_argument
    about = f"holds Fashion-MNIST's idx files; {NAME} downloads them to {DATASETS / NAME} (default)"
    add("--data", default=NAME, metavar="DIR", help=about)
    add("--out", type=Path, default=Path("results/finetuning"), metavar="DIR")
    about = (
        "a run of eval_classifiers, resnet18 (torchvision's weights), resnet18=FILE; default: pretrained here"
    )
    add("--pretrained", default="here", metavar="NETWORK", help=about)
    about = "none is always among them (default: %(default)s)"
    add("--filters", default="bin5", metavar="NAME,...", help=about)
    for name, default, what in (
        ("seeds", 5, "fine-tunings of each network"),
        ("epochs", 5, "passes over the pictures to fine-tune on"),
        ("pretrain_epochs", 3, "passes over the pictures to pretrain on"),
        ("width", 8, "channels of the first stage of a network that is pretrained here"),
        ("train_limit", 3900, "pictures to fine-tune on"),
        ("limit", 5000, "test pictures"),
        ("corrupted", 300, "of them, for corruptions"),
    ):
        add(f"--{name}", type=positive, default=default, metavar="N", help=f"{what} (default: %(default)s)")
    about = "of corruptions: ImageNet-C's own, scaled to the pictures, or milder ones (default: %(default)s)"
    add("--severities", choices=("imagenet-c", "own"), default="imagenet-c", help=about)
    add("--document", type=Path, metavar="FILE.md", help="write the page there too")
    add("--threads", type=natural, default=0, metavar="N", help="of torch; 0 leaves it to torch")
    add("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="where to run")
    add("--version", action="version", version=f"steadypix {version()}")
    return parser


@command("finetuning")
def main(argv: Sequence[str]) -> int:
    """Run the command line; return its exit code."""
    args = build_parser().parse(argv)
    if args.width % 8:
        raise InputError(f"--width {args.width}: expected a multiple of 8")

    import torch

    from steadypix.eval.classifiers.study import chosen
    from steadypix.eval.classifiers.training import Recipe
    from steadypix.eval.finetuning.experiment import BASELINE, FineTuning, Settings, summarise
    from steadypix.gen.layers.filters import FILTERS

    filters = chosen("--filters", f"{BASELINE},{args.filters}", (BASELINE, *FILTERS))
    if args.threads:
        torch.set_num_threads(args.threads)
    settings = Settings(
        pretrained=args.pretrained,
        filters=tuple(filters),
        width=args.width,
        seeds=args.seeds,
        train_images=args.train_limit,
        test_images=args.limit,
        corrupted_images=min(args.corrupted, args.limit),
        severities=args.severities,
        pretraining=Recipe(epochs=args.pretrain_epochs, batch_size=64),
        tuning=Recipe(epochs=args.epochs, learning_rate=Settings().tuning.learning_rate),
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
            "command": "python -m steadypix.eval.finetuning " + " ".join(_shown(argv)),
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


def _shown(argv: Sequence[str]) -> list[str]:
    """Return the options as they are said to a reader: places on this machine are named by what they are."""
    places = {"--data": "DIR", "--out": "DIR", "--document": "FILE.md"}
    return [places.get(before, word) for before, word in zip(["", *argv], argv, strict=False)]


if __name__ == "__main__":
    sys.exit(main())
