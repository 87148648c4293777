"""Options of the commands that train classifiers, and their command lines as a page shows them."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from steadypix.command import positive, threads, version
from steadypix.data.labelled.fashion_mnist import NAME
from steadypix.data.labelled.named import DATASETS

# Places on this machine, and what a reader sees of them.
PLACES = {"--data": "DIR", "--out": "DIR", "--document": "FILE.md"}


def add_study_options(
    parser: argparse.ArgumentParser, *, out: str, width: int, numbers: Iterable[tuple[str, int, str]]
) -> None:
    """Add the data, how large the study is, where it is written, and where to run.

    Args:
        parser: to add them to.
        out: the default of `--out`.
        width: the default of `--width`.
        numbers: further options of whole numbers: name, default, and what is counted.
    """
    add = parser.add_argument
    about = f"holds Fashion-MNIST's idx files; {NAME} downloads them to {DATASETS / NAME} (default)"
    add("--data", default=NAME, metavar="DIR", help=about)
    add("--out", type=Path, default=Path(out), metavar="DIR")
    for name, default, what in numbers:
        about = f"{what} (default: %(default)s)"
        add(f"--{name}", type=positive, default=default, metavar="N", help=about)
    about = "channels of the first stage of a network made here, a multiple of 8 (default: %(default)s)"
    add("--width", type=_eights, default=width, metavar="N", help=about)
    about = "of corruptions: ImageNet-C's own, scaled to the pictures, or milder ones (default: %(default)s)"
    add("--severities", choices=("imagenet-c", "own"), default="imagenet-c", help=about)
    about = "write the page there too, and its pictures, if it has any, beside it"
    add("--document", type=Path, metavar="FILE.md", help=about)
    add("--threads", type=threads, default=0, metavar="N", help="of torch; 0 leaves it to torch")
    add("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="where to run")
    add("--version", action="version", version=f"steadypix {version()}")


def shown_command(name: str, argv: Sequence[str]) -> str:
    """Return a command line for readers: places on this machine are named by what they are."""
    words = [name]
    for before, word in zip(["", *argv], argv, strict=False):
        option, equals, _ = word.partition("=")
        if before in PLACES:
            word = PLACES[before]
        elif equals and option in PLACES:
            word = f"{option}={PLACES[option]}"
        words.append(word)
    return " ".join(words)


def _eights(text: str) -> int:
    """Read a number of channels, for argparse."""
    if positive(text) % 8:
        raise argparse.ArgumentTypeError(f"expected a multiple of 8, got {text!r}")
    return int(text)
