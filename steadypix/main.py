"""The command `steadypix`: every other command by a short name, as in `steadypix eval --shifts 0..7`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from steadypix.command import Main, command, version
from steadypix.errors import InputError

# By short name: the module whose `main` is called, its name as a command of its own, and what it does.
COMMANDS = {
    "train": ("train_pix2pix", "train_pix2pix", "train a generator on pairs of pictures"),
    "eval": ("steadypix.eval.eval_stability", "eval_stability", "how outputs change when inputs move"),
    "sequence": (
        "steadypix.eval.eval_sequence",
        "eval_sequence",
        "how much frames of a video flicker, whoever made them",
    ),
    "generate": ("steadypix.checkpoints.generate", "generate", "run a generator on pictures of any size"),
    "statistics": (
        "steadypix.checkpoints.generation.freeze",
        "",
        "freeze a generator's normalisation, for tiles and frames that are treated alike",
    ),
    "retrofit": (
        "steadypix.checkpoints.retrofitting.command",
        "",
        "make a trained generator anti-aliased and fine-tune it, with or without targets",
    ),
    "export": (
        "steadypix.checkpoints.export",
        "",
        "write a generator as a torch.export program or an ONNX model",
    ),
    "features": ("steadypix.eval.eval_features", "eval_features", "which layers lose shift equivariance"),
    "consistency": (
        "steadypix.eval.eval_consistency",
        "eval_consistency",
        "how often a classifier gives two shifts of a picture the same class",
    ),
    "classifiers": (
        "steadypix.eval.eval_classifiers",
        "eval_classifiers",
        "train anti-aliased classifiers and measure them",
    ),
    "data": ("steadypix.data.cli", "steadypix_data", "download, make, look at and check folders of pairs"),
    "report": ("steadypix.eval.report.__main__", "", "write report.html of an evaluation again"),
}
SHORT_NAMES = {script: short for short, (_, script, _) in COMMANDS.items() if script}


@command("steadypix")
def main(argv: Sequence[str]) -> int:
    """Run the command that the first word names, by either name, with the others; return its exit code."""
    name, *rest = argv or [""]
    name = SHORT_NAMES.get(name, name)
    if name in ("-h", "--help"):
        print(usage())
        return 0
    if name == "--version":
        print(f"steadypix {version()}")
        return 0
    if name not in COMMANDS:
        raise InputError(_refusal(name))
    run: Main = importlib.import_module(COMMANDS[name][0]).main
    return run(rest)


def usage() -> str:
    """Return what `--help` prints: one line a command."""
    lines = [
        f"  {name:<12} {what}" + (f" (also: {script})" if script not in ("", name) else "")
        for name, (_, script, what) in COMMANDS.items()
    ]
    return "\n".join(
        [
            "usage: steadypix COMMAND [OPTION ...]",
            "",
            "Anti-aliased image-to-image generators: train them, use them, measure how stable they are.",
            "",
            *lines,
            "",
            "`steadypix COMMAND --help` says what a command takes; `steadypix --version` prints the version.",
        ]
    )


def _refusal(name: str) -> str:
    """Say which commands there are, and which one was probably meant."""
    import difflib

    expected = f"expected one of {', '.join(COMMANDS)} (see --help)"
    if not name:
        return f"no command; {expected}"
    by_any_name = SHORT_NAMES | {short: short for short in COMMANDS}
    close = [known for known in by_any_name if known.startswith(name) or name.startswith(known)]
    close = close or difflib.get_close_matches(name, by_any_name, n=1)
    hint = f"did you mean `steadypix {by_any_name[close[0]]}`? " if close else ""
    return f"{name!r}: no such command; {hint}{expected}"


if __name__ == "__main__":
    sys.exit(main())
