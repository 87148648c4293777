"""Commands in forked children of a process that has imported everything: one starts in milliseconds."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

# In a child there is one thread, and pools of threads that were made before would be waited for.
torch.set_num_threads(1)


def start(run: Callable[[], int], said: Path) -> int:
    """Run a function in a child, its exit code what the function returns; return the child's number.

    Args:
        run: what is done.
        said: file that stderr goes to.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads that libraries have started
        child = os.fork()
    if child:
        return child
    code = 1
    try:
        nowhere = os.open(os.devnull, os.O_RDWR)
        there = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        for number, file in enumerate((nowhere, nowhere, there)):
            os.dup2(file, number)
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), encoding="utf-8")
        sys.stderr = io.TextIOWrapper(
            io.FileIO(2, "w", closefd=False), encoding="utf-8", errors="backslashreplace", write_through=True
        )
        code = run()
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        os._exit(code)


def end(child: int) -> int:
    """Wait for a child; return its exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def warm_up(runs: Sequence[Callable[[], int]], work: Path) -> None:
    """Import whatever these functions import, each run once in a child.

    Raises:
        RuntimeError: if one of them fails.
    """
    names, said = work / "modules", work / "said"
    for run in runs:

        def run_and_tell(run: Callable[[], int] = run) -> int:
            code = run()
            names.write_text("\n".join(sys.modules))
            return code

        if end(start(run_and_tell, said)):
            raise RuntimeError(said.read_text())
        for name in names.read_text().splitlines():
            if name not in sys.modules and "__main__" not in name:
                # Some are made up while others are imported, and come with them.
                with contextlib.suppress(Exception), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    importlib.import_module(name)
