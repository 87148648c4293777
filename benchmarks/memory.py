"""The largest resident size of a process of its own, without that of the process that asks."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

# A new process counts what its parent held when it was made (ru_maxrss survives exec), so what is measured
# is the child of a process that holds nothing.
_SMALL = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:]).returncode)"


def run_apart(module: str, arguments: Sequence[str]) -> Any:
    """Run `python -m module` in a process of its own; return the last line of its stdout, read as JSON.

    Raises:
        RuntimeError: with what it said, if it failed.
    """
    command = [sys.executable, "-c", _SMALL, sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{module} {' '.join(arguments)} failed: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def peak_mb() -> float:
    """Return the largest resident size of this process so far, in MB (2^20 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
