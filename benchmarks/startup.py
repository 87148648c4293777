"""How long a command takes to say how it is used, or what was wrong with its words."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.report import Bar, Cell, Table
from benchmarks.timing import take_turns

ROOT = Path(__file__).resolve().parent.parent
LIMIT_S = 1.5
# By command: its module, and words that it must refuse.
COMMANDS: dict[str, tuple[str, list[str]]] = {
    "train_pix2pix": ("train_pix2pix", ["--no_such_option", "1"]),
    "eval_stability": ("steadypix.eval.eval_stability", ["--shifts", "seven"]),
    "eval_features": ("steadypix.eval.eval_features", ["--no_such_option"]),
    "eval_consistency": ("steadypix.eval.eval_consistency", ["--no_such_option"]),
    "eval_classifiers": ("steadypix.eval.eval_classifiers", ["--seeds", "none"]),
    "generate": ("steadypix.checkpoints.generate", ["--no_such_option"]),
    "steadypix_data": ("steadypix.data.cli", ["no_such_verb"]),
}


def measure_startup(*, rounds: int, commands: Sequence[str]) -> Table:
    """`--help` and a usage error of every command, in turn, as processes."""
    works = {}
    for name in commands:
        module, wrong = COMMANDS[name]
        works[f"{name} --help"] = functools.partial(start, module, ["--help"], 0)
        works[f"{name} {' '.join(wrong)}"] = functools.partial(start, module, wrong, 2)
    timing = take_turns(works, rounds=rounds)
    rows: list[list[Cell]] = [
        [f"`{name}`", timing.median_ms(name) / 1e3, timing.best_ms(name) / 1e3] for name in works
    ]
    bars = [Bar(f"`{name}` [s]", timing.median_ms(name) / 1e3, LIMIT_S) for name in works]
    note = f"A process each, from its start to its end; median and fastest of {rounds}."
    return Table(
        "startup", "Help and usage errors", ["command", "median [s]", "best [s]"], rows, bars, [note]
    )


def start(module: str, words: Sequence[str], code: int) -> None:
    """Run a command to its end.

    Raises:
        RuntimeError: if it ends with another exit code than `code`.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode != code:
        raise RuntimeError(f"{module} {' '.join(words)}: exit code {done.returncode}, expected {code}")
