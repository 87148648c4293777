"""Kill a training, or an evaluation, over and over, go on each time, and hold it against one left alone.

   python -m soak.kill --kills 60 --command train --command eval

Kills are SIGKILL: at random instants of the start and of the work, and as soon as a file is seen being
written. The training has everything that has a state: an average, accumulated gradients, jitter, dropout,
validation with the best generator kept. After every kill the checkpoints must load; in the end the whole
state must equal the uninterrupted run's to the bit. Of an evaluation no kill may cost more than the picture
it was at, also one while what is kept of earlier pictures is being read; results.json must equal the
uninterrupted one's. Both run in forked children of this process, so imports are not among the instants.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from soak import forked
from soak.commands import MEASURE, stop_the_clock
from steadypix.checkpoints.run_directory import STATE_FILE
from steadypix.command import natural, positive
from steadypix.eval.eval_stability import main as eval_stability
from steadypix.gen.weights.generators import GENERATOR_FILE, load_generator
from steadypix.gen.weights.tensors import read_tensors
from train_pix2pix import main as train_pix2pix

STEPS_A_KILL = 30  # more than a training gets done between two kills
STEPS_AN_EPOCH = 3
RUN = ["--data.load_size=72", "--data.crop_size=64", "--data.synthetic_count=12", "--generator.ngf=4"]
RUN += ["--generator.num_downs=6", "--discriminator.ndf=4", "--discriminator.n_layers=1", "--device=cpu"]
RUN += ["--batch_size=2", "--train.accumulate=2", "--train.ema=0.9", "--train.log_every_steps=1"]
RUN += ["--train.val_every=7", "--train.val_limit=1", "--train.best_by=l1", "--train.sample_every=0"]
RUN += ["--train.save_every_s=0.03"]
PICTURES = 24  # that an evaluation measures
MOST_KILLS = 12  # of one evaluation


class Lost(RuntimeError):
    """A kill cost more than the work behind the last checkpoint."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 0 if nothing was lost, else 1."""
    parser = argparse.ArgumentParser(
        prog="soak.kill", description="Kill commands and go on with them, often."
    )
    parser.add_argument("--kills", type=positive, default=30, metavar="N", help="of every command")
    parser.add_argument("--seed", type=natural, default=0, metavar="N", help="of the instants")
    parser.add_argument("--command", choices=("train", "eval"), action="append", help="this one alone")
    args = parser.parse_args(argv)
    for name in args.command or ("train", "eval"):
        with tempfile.TemporaryDirectory() as folder:
            try:
                run = soak if name == "train" else soak_evaluation
                print(run(Path(folder), kills=args.kills, seed=args.seed), flush=True)
            except Lost as error:
                print(f"soak.kill: {name}, seed {args.seed}: {error}", file=sys.stderr)
                return 1
    return 0


def soak(folder: Path, *, kills: int, seed: int) -> str:
    """Kill a training `kills` times and compare; return what happened in one line.

    Raises:
        Lost: if a checkpoint does not load, a run does not go on, or the end differs.
    """
    epochs = kills * STEPS_A_KILL // STEPS_AN_EPOCH
    whole, killed = folder / "whole", folder / "killed"
    forked.warm_up([lambda: train_pix2pix([*RUN, "--train.epochs=1", "--out", str(folder / "warm")])], folder)
    finish(whole, epochs)
    rng = random.Random(seed)
    where: collections.Counter[str] = collections.Counter()
    half_written = 0
    for number in range(kills):
        aim = ("start", "steps", "write", "write")[number % 4]
        if not kill(killed, epochs, aim, rng):
            raise Lost(f"the run ended before kill {number + 1} of {kills}")
        where[aim] += 1
        half_written += any(killed.glob("**/.*.tmp*"))
        check(killed, f"kill {number + 1} ({aim})")
    finish(killed, epochs)
    compare(whole, killed)
    aims = ", ".join(f"{count} in {aim}" for aim, count in where.items())
    return (
        f"{kills} kills survived ({aims}; {half_written} left a half-written file): every checkpoint loaded, "
        f"and after {epochs * STEPS_AN_EPOCH} steps weights, moments, average and metrics equal the "
        "uninterrupted run's to the bit"
    )


class Child:
    """A command in a child of this process."""

    def __init__(self, run: Callable[[], int], said: Path) -> None:
        self._said = said
        self._number = forked.start(run, said)
        self._code: int | None = None

    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        if self._code is None:
            number, status = os.waitpid(self._number, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if number else None
        return self._code is None

    def kill(self) -> bool:
        """Kill it; whether it was still running."""
        alive = self.is_running()
        if alive:
            os.kill(self._number, signal.SIGKILL)
            self._code = forked.end(self._number)
        return alive

    def finish(self) -> None:
        """Wait for its end.

        Raises:
            Lost: if that is not a good one.
        """
        code = forked.end(self._number) if self._code is None else self._code
        if code:
            raise Lost(f"did not go on: {self._said.read_text(errors='replace').strip().splitlines()[-1]}")


def start(out: Path, epochs: int) -> Child:
    """Start the training, or go on with it: the same command."""
    argv = [*RUN, f"--train.epochs={epochs}", "--out", str(out)]
    return Child(lambda: train_pix2pix(argv), out.with_name("said"))


def finish(out: Path, epochs: int) -> None:
    """Train to the end.

    Raises:
        Lost: if the run does not go on.
    """
    start(out, epochs).finish()


def kill(out: Path, epochs: int, aim: str, rng: random.Random) -> bool:
    """Start the training and kill it; whether it was still running."""
    before = _changed(out / "metrics.jsonl")
    process = start(out, epochs)
    if aim == "start":
        time.sleep(rng.uniform(0, 1))
    else:
        # The first changes are `begin`, which rewrites the file; a step follows within milliseconds.
        _wait(process, lambda: _changed(out / "metrics.jsonl") != before)
        time.sleep(rng.uniform(0, 0.3))
        if aim == "write":
            _wait(process, lambda: any(out.glob("last/.*.tmp*")) or any(out.glob(".*.tmp*")))
    return process.kill()


def check(out: Path, when: str) -> None:
    """Load what a kill has left.

    Raises:
        Lost: if one of the checkpoints that are there does not load.
    """
    try:
        if (out / STATE_FILE).exists():
            read_tensors(out / STATE_FILE)
        for name in (GENERATOR_FILE, "generator-best.safetensors"):
            if (out / name).exists():
                load_generator(out / name)
    except Exception as error:
        raise Lost(f"{when}: {error}") from error


def compare(whole: Path, killed: Path) -> None:
    """Hold the ends of two runs against each other.

    Raises:
        Lost: naming the first tensor or metrics line that differs.
    """
    for file in (STATE_FILE, Path(GENERATOR_FILE), Path("generator-best.safetensors")):
        (ours, _), (theirs, _) = read_tensors(killed / file), read_tensors(whole / file)
        for key in ours.keys() | theirs.keys():
            if key not in ours or key not in theirs or not torch.equal(ours[key], theirs[key]):
                raise Lost(f"{file}: {key} differs from the uninterrupted run's")
    for row, expected in zip(_rows(killed), _rows(whole), strict=True):
        if row != expected:
            raise Lost(f"metrics.jsonl: {row} differs from the uninterrupted run's {expected}")


def _rows(out: Path) -> list[dict[str, object]]:
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "images_per_s"} for line in lines]


def _changed(path: Path) -> tuple[int, int] | None:
    return (path.stat().st_mtime_ns, path.stat().st_size) if path.exists() else None


def _wait(process: Child, condition: Callable[[], bool]) -> None:
    while process.is_running() and not condition():
        time.sleep(0.0005)


# ---- evaluations ------------------------------------------------------------------------------------------


def soak_evaluation(folder: Path, *, kills: int, seed: int) -> str:
    """Kill evaluations `kills` times, go on with each to its end, and compare; return what happened.

    Raises:
        Lost: if more than a picture is lost, one does not go on, or the results differ.
    """
    stop_the_clock()
    network, killed = folder / "network", folder / "out"
    argv = [*RUN, "--train.epochs=1", "--out", str(network)]

    def evaluate() -> int:
        return eval_stability([str(network), *MEASURE, "--limit", str(PICTURES), "--out", str(killed)])

    forked.warm_up([lambda: train_pix2pix(argv), evaluate], folder)
    began = time.monotonic()
    Child(evaluate, folder / "said").finish()
    seconds = time.monotonic() - began
    whole = (killed / "results.json").read_bytes()
    rng = random.Random(seed)
    where: collections.Counter[str] = collections.Counter()
    finished = 0
    while where.total() < kills:
        shutil.rmtree(killed)
        kept = 0
        for _ in range(MOST_KILLS):
            aim = rng.choice(("any", "pictures", "reading", "writing"))
            if not kill_evaluation(evaluate, killed, aim, rng, seconds):
                break
            where[aim] += 1
            before, kept = kept, kept_pictures(killed)
            if kept < before and not (killed / "results.json").exists():
                raise Lost(f"kill {where.total()} ({aim}): of {before} pictures {kept} are left")
            if where.total() == kills:
                break
        Child(evaluate, folder / "said").finish()
        finished += 1
        if (killed / "results.json").read_bytes() != whole:
            raise Lost("results.json differs from the uninterrupted evaluation's")
        if left := [path.name for path in killed.rglob(".*")] + [
            path.name for path in killed.glob("partial*")
        ]:
            raise Lost(f"a finished evaluation has left {', '.join(left)}")
    aims = ", ".join(f"{count} in {aim}" for aim, count in sorted(where.items()))
    return (
        f"{kills} kills of {finished} evaluations survived ({aims}): no picture was measured and lost, and "
        "results.json is the uninterrupted one's to the byte"
    )


def kill_evaluation(
    evaluate: Callable[[], int], out: Path, aim: str, rng: random.Random, seconds: float
) -> bool:
    """Start the evaluation and kill it; whether it was still running and no picture that was kept is lost.

    Raises:
        Lost: if a picture that was seen to be kept is not any more.
    """
    partial = out / "partial-0-of-1.jsonl"
    before = _changed(partial)
    process = Child(evaluate, out.with_name("said"))
    if aim == "any":
        time.sleep(rng.uniform(0, seconds))
    elif aim == "writing":
        _wait(process, lambda: (out / "results.json").exists() or any(out.glob("frames/*")))
        time.sleep(rng.uniform(0, seconds / 2))
    else:
        _wait(process, lambda: _changed(partial) != before or any(out.glob(".partial*")))
        if aim == "pictures":
            time.sleep(rng.uniform(0, seconds / 8))
    seen = kept_pictures(out)
    alive = process.kill()
    if alive and kept_pictures(out) < seen and not (out / "results.json").exists():
        raise Lost(f"{aim}: {seen} pictures were kept, and {kept_pictures(out)} are left")
    return alive


def kept_pictures(out: Path) -> int:
    """Return of how many pictures an interrupted evaluation keeps the numbers."""
    partial = out / "partial-0-of-1.jsonl"
    try:
        lines = partial.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return 0
    return sum(line.endswith(b"\n") for line in lines[1:])


if __name__ == "__main__":
    sys.exit(main())
