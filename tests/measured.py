"""Runs commands in this process, one after the other, and says what each took: a script for other tests.

Standard input is JSON: [[command, argument, ...], ...]; the first is to warm up. Standard output is JSON: one
{"code", "err", "seconds", "mb"} a command: seconds of its own work, and by how much the most memory ever held
has grown.
"""

from __future__ import annotations

import contextlib
import io
import json
import resource
import sys
import time
import traceback
from pathlib import Path

import torch

import train_pix2pix
from steadypix.checkpoints.export import main as export
from steadypix.checkpoints.generate import main as generate
from steadypix.checkpoints.generation.freeze import main as statistics
from steadypix.checkpoints.retrofitting.command import main as retrofit
from steadypix.eval.eval_classifiers import main as eval_classifiers
from steadypix.eval.eval_features import main as eval_features
from steadypix.eval.eval_stability import main as eval_stability

COMMANDS = {
    "eval_classifiers": eval_classifiers,
    "eval_features": eval_features,
    "eval_stability": eval_stability,
    "export": export,
    "generate": generate,
    "retrofit": retrofit,
    "statistics": statistics,
    "train_pix2pix": train_pix2pix.main,
}
MOST_MEMORY = 6 << 30  # bytes of addresses beyond those in use: what a test must not take from the machine


def peak_mb() -> float:
    # Not getrusage: that counts what the parent held when it started this process.
    words = Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()
    return int(words[0]) / 1024


def main() -> None:
    torch.set_num_threads(1)
    everything = []
    for number, (name, *argv) in enumerate(json.load(sys.stdin)):
        said, before, began = io.StringIO(), peak_mb(), time.process_time()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            try:
                code = COMMANDS[name](argv)
            except BaseException:
                code = -1
                traceback.print_exc()
        seconds, mb = time.process_time() - began, peak_mb() - before
        everything.append({"code": code, "err": said.getvalue(), "seconds": seconds, "mb": mb})
        if number == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MOST_MEMORY,) * 2)
    json.dump(everything, sys.stdout)


if __name__ == "__main__":
    main()
