"""Another process that holds the lock of a folder."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import REPOSITORY

SCRIPT = """
import sys
from pathlib import Path
from steadypix import locks
locks.hold(Path(sys.argv[1]), name=sys.argv[2] if len(sys.argv) > 2 else locks.LOCK)
print("held", flush=True)
sys.stdin.read()
locks.release()
"""


@contextlib.contextmanager
def held_elsewhere(folder: Path, *name: str) -> Iterator[subprocess.Popen[str]]:
    """Hold a folder's lock in another process, which ends when this context does."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder), *name],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.stdin.close()
