"""Commands on hostile files, each in a process whose time and memory are measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.conftest import REPOSITORY
from tests.hostile_files import SIZES

SECONDS, MEGABYTES = 1.0, 100.0

TINY = ["--data.load_size=40", "--data.crop_size=32", "--generator.norm=batch", "--discriminator.ndf=4"]
TINY += [f"--generator.{key}={value}" for key, value in SIZES.items()]
TINY += ["--discriminator.n_layers=1", "--data.synthetic_count=2", "--train.epochs=1", "--device=cpu"]
TINY += ["--train.val_every=0", "--train.sample_every=0"]


Outcome = dict[str, Any]


def run_measured(commands: list[list[str]], folder: Path) -> list[Outcome]:
    """Run commands in one process of its own, whose limits end what this one must not suffer."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.measured"],
        cwd=REPOSITORY,
        input=json.dumps(commands),
        env={**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    outcomes: list[Outcome] = json.loads(run.stdout)
    assert len(outcomes) == len(commands)
    return outcomes
