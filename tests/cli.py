"""Commands as a user types them: short arguments, and what stands on stderr."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

Capture = pytest.CaptureFixture[str]


TINY = ["--data.load_size=40", "--data.crop_size=32", "--generator.ngf=4", "--generator.num_downs=3"]


FAST = ["--shifts", "0..3", "--margins", "0,4", "--device", "cpu"]


# A pan compares what all frames show less 16 px a side: a window of 32 px leaves nothing.
PAN = ["--pan", "1", "--pan-frames", "2", "--window", "40", "--canvas", "48"]


def run_python(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a Python command line with one thread in a process of its own; it must succeed."""
    run = subprocess.run(
        [sys.executable, *words],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run


def one_error_line(capsys: Capture, *culprits: str) -> str:
    """The last line on stderr is the error and names the culprits; there is no traceback."""
    captured = capsys.readouterr()
    line = captured.err.strip().splitlines()[-1]
    assert ": error: " in line
    assert "Traceback" not in captured.err
    for culprit in culprits:
        assert culprit in line
    return line
