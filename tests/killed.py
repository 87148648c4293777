"""Commands that are killed after so many files are in place: by what they have done, not by a clock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

SCRIPT = """
import os, signal, sys
count, suffix, half = int(sys.argv[1]), sys.argv[2], sys.argv[3] == "half"
rename, done = os.replace, 0
def replace(source, target):
    global done
    wanted = str(target).endswith(suffix)
    if wanted and half and done == count:
        os.kill(os.getpid(), signal.SIGKILL)
    rename(source, target)
    done += wanted
    if wanted and not half and done == count:
        os.kill(os.getpid(), signal.SIGKILL)
os.replace = replace
from steadypix.checkpoints.generate import main
sys.exit(main(sys.argv[4:]))
"""


def generate_killed(argv: Sequence[str], *, after: int, suffix: str, half: bool = False) -> None:
    """Run `generate` until `after` files with this suffix are in place; with `half`, and one more written."""
    words = [sys.executable, "-c", SCRIPT, str(after), suffix, "half" if half else "whole", *argv]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


class Stopped(BaseException):
    """The end of a process, without the process."""


def stop_after(patch: pytest.MonkeyPatch, count: int, suffix: str) -> None:
    """Raise `Stopped` once `count` files with this suffix are in place."""
    rename, done = os.replace, []

    def replace(source: Path, target: Path) -> None:
        rename(source, target)
        if str(target).endswith(suffix):
            done.append(target)
            if len(done) == count:
                raise Stopped

    patch.setattr(os, "replace", replace)
