"""Trainings in turn, each going on where it stopped, within the time that is there."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from reproduce.plan import Run
from steadypix.configs.load import build_parser, parse
from steadypix.configs.resume import contradiction
from steadypix.errors import InputError
from steadypix.gen.weights.generators import GENERATOR_FILE
from steadypix.gen.weights.header import check_header

TERMINATED = 143


class TrainingFailed(RuntimeError):
    """A training ended by itself; what was wrong stands above, in its own words."""

    exit_code = 1


def epoch_of(run: Run, root: Path) -> float:
    """Return how many epochs of a run are trained; 0 if it has not begun.

    Raises:
        InputError: if what lies in its place was trained by another recipe, say that of an older plan.
    """
    file = run.directory(root) / GENERATOR_FILE
    if not file.exists():
        return 0.0
    header = check_header(file)
    theirs = header.get("config") or {}
    clash = contradiction(recipe(run), theirs, sharing=True)
    if clash is None and theirs["train"]["epochs"] != run.epochs:
        clash = f"train.epochs: the run has {theirs['train']['epochs']}, this command {run.epochs}"
    if clash:
        raise InputError(f"{file.parent}: is of another recipe ({clash}); move it away or give other --runs")
    return float(header["provenance"]["epoch"])


@functools.cache
def recipe(run: Run) -> Mapping[str, Any]:
    """Return the configuration that a run is trained with."""
    parser = build_parser("train_pix2pix", "")
    parser.add_argument("--out")
    config, _ = parse(parser, run.words(Path("data"), Path("runs")))
    return dataclasses.asdict(config)


def is_done(run: Run, root: Path) -> bool:
    """Whether all epochs of a run are trained."""
    return epoch_of(run, root) >= run.epochs


def discriminator_loss(run: Run, root: Path) -> float | None:
    """Return the discriminator's mean loss in the last eighth of a run; None if none was logged."""
    file = run.directory(root) / "metrics.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    entries = []
    for line in lines:
        with contextlib.suppress(ValueError):  # a kill cut the last one short
            entries.append(json.loads(line))
    after = run.epochs * 7 / 8
    found = [entry["loss_d"] for entry in entries if entry["kind"] == "train" and entry["epoch"] > after]
    return sum(found) / len(found) if found else None


def train(wanted: Iterable[Run], *, data: Path, root: Path, minutes: float | None) -> bool:
    """Train what is not trained yet.

    Args:
        wanted: in this order.
        data: folder of the pictures.
        root: folder of the runs.
        minutes: after which the training in progress saves and stops; None: never.

    Returns:
        Whether all are done.

    Raises:
        TrainingFailed: if the trainer does.
    """
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    for run in wanted:
        if is_done(run, root):
            continue
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            return False
        if not _train_one(run.words(data, root), left):
            return False
    return True


def _train_one(words: list[str], left_s: float | None) -> bool:
    """Run the trainer; return False if it was stopped for want of time."""
    process = subprocess.Popen([sys.executable, "-m", "train_pix2pix", *words])
    try:
        code = process.wait(left_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)  # it saves, and goes on from there
        code = process.wait()
    except KeyboardInterrupt:  # the terminal told it as well; a second signal would keep it from saving
        process.wait()
        raise
    except BaseException:
        process.send_signal(signal.SIGTERM)
        process.wait()
        raise
    if code in (TERMINATED, -signal.SIGTERM):  # the latter from one that has not begun
        return False
    if code:
        raise TrainingFailed(f"train_pix2pix {' '.join(words)}: exit code {code}")
    return True
