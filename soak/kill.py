"""Kill a training over and over, resume it each time, and hold it against one that was left alone.

    python -m soak.kill --kills 30

Kills are SIGKILL: at random instants of the start and of the steps, and as soon as a checkpoint is seen being
written. The run trains with everything that has a state: an average, accumulated gradients, jitter, dropout,
validation with the best generator kept. After every kill the checkpoints must load; in the end the whole
state must equal the uninterrupted run's to the bit.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from steadypix.checkpoints.run_directory import STATE_FILE
from steadypix.gen.weights.generators import GENERATOR_FILE, load_generator
from steadypix.gen.weights.tensors import read_tensors

REPOSITORY = Path(__file__).resolve().parent.parent
STEPS_A_KILL = 30  # more than a training gets done between two kills
STEPS_AN_EPOCH = 3
RUN = ["--data.load_size=72", "--data.crop_size=64", "--data.synthetic_count=12", "--generator.ngf=4"]
RUN += ["--generator.num_downs=6", "--discriminator.ndf=4", "--discriminator.n_layers=1", "--device=cpu"]
RUN += ["--batch_size=2", "--train.accumulate=2", "--train.ema=0.9", "--train.log_every_steps=1"]
RUN += ["--train.val_every=7", "--train.val_limit=1", "--train.best_by=l1", "--train.sample_every=0"]
RUN += ["--train.save_every_s=0.03"]


class Lost(RuntimeError):
    """A kill cost more than the work behind the last checkpoint."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 0 if nothing was lost, else 1."""
    parser = argparse.ArgumentParser(prog="soak.kill", description="Kill a training and resume it, often.")
    parser.add_argument("--kills", type=int, default=30, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the instants")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        try:
            print(soak(Path(folder), kills=args.kills, seed=args.seed))
        except Lost as error:
            print(f"soak.kill: {error}", file=sys.stderr)
            return 1
    return 0


def soak(folder: Path, *, kills: int, seed: int) -> str:
    """Kill a training `kills` times and compare; return what happened in one line.

    Raises:
        Lost: if a checkpoint does not load, a run does not go on, or the end differs.
    """
    epochs = kills * STEPS_A_KILL // STEPS_AN_EPOCH
    whole, killed = folder / "whole", folder / "killed"
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


def start(out: Path, epochs: int) -> subprocess.Popen[bytes]:
    """Start the training, or go on with it: the same command."""
    command = [sys.executable, "train_pix2pix.py", *RUN, f"--train.epochs={epochs}", "--out", str(out)]
    # One thread: networks this small gain nothing from more, and threads that wait for a busy core spin.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def finish(out: Path, epochs: int) -> None:
    """Train to the end.

    Raises:
        Lost: if the run does not go on.
    """
    process = start(out, epochs)
    _, said = process.communicate()
    if process.returncode != 0:
        raise Lost(f"the run did not go on: {said.decode(errors='replace').strip().splitlines()[-1]}")


def kill(out: Path, epochs: int, aim: str, rng: random.Random) -> bool:
    """Start the training and kill it; whether it was still running."""
    before = _changed(out / "metrics.jsonl")
    process = start(out, epochs)
    if aim == "start":
        time.sleep(rng.uniform(0, 4))
    else:
        # The first changes are `begin`, which rewrites the file; a step follows within milliseconds.
        _wait(process, lambda: _changed(out / "metrics.jsonl") != before)
        time.sleep(rng.uniform(0, 0.3))
        if aim == "write":
            _wait(process, lambda: any(out.glob("last/.*.tmp*")) or any(out.glob(".*.tmp*")))
    alive = process.poll() is None
    process.kill()
    process.communicate()
    return alive


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


def _wait(process: subprocess.Popen[bytes], condition: Callable[[], bool]) -> None:
    while process.poll() is None and not condition():
        time.sleep(0.0005)


if __name__ == "__main__":
    sys.exit(main())
