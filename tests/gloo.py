"""Processes that meet as under torchrun, without its launcher: each one's exit code and words stay apart."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence

from tests.conftest import REPOSITORY

Ended = tuple[int, str]  # exit code, stderr


def run_together(*commands: Sequence[str], timeout_s: float = 240) -> list[Ended]:
    """Run one Python command line a rank at the same time."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank, words in enumerate(commands):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": len(commands)}
        place |= {"LOCAL_WORLD_SIZE": len(commands), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **{k: str(v) for k, v in place.items()}}
        processes.append(
            subprocess.Popen(
                [sys.executable, *words],
                cwd=REPOSITORY,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        said = [process.communicate(timeout=timeout_s)[1] for process in processes]
        return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]
    finally:
        for process in processes:
            process.kill()
