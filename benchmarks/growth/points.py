"""One point of `benchmarks.growth`, in this process: prints seconds and the largest size as JSON."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.evaluation import Size, open_all, prepare
from benchmarks.memory import peak_mb
from benchmarks.step.both import make_step
from steadypix.eval.measure.measure import measure
from steadypix.gen import PatchDiscriminator, UNetGenerator

MOST_SHIFTS = 16  # what the canvas has room for
LEAST_S = 1.0  # a short work is repeated for so long


def training_step(point: dict[str, Any]) -> Callable[[], object]:
    """Return a full training step of blurred networks."""
    generator = UNetGenerator(ngf=point["ngf"], num_downs=point["num_downs"], sampling="blur")
    # Two layers of strides are the most that fit the smallest picture of a quick look.
    discriminator = PatchDiscriminator(ndf=point["ngf"], n_layers=min(3, point["num_downs"] - 1))
    step = make_step(generator, discriminator)
    x, y = torch.rand(2, point["batch"], 3, point["size"], point["size"]).mul(2).sub(1).unbind()
    return lambda: step([{"input": x, "target": y}], [0])


def evaluation(point: dict[str, Any], folder: Path) -> Callable[[], object]:
    """Return a measurement of one generator on pairs in `folder`."""
    size = Size(point["size"], point["size"] + 2 * MOST_SHIFTS, point["ngf"], point["num_downs"])
    checkpoint = prepare(folder, size, point["images"])
    model, stage, plan = open_all(checkpoint, point["images"], point["shifts"])
    return lambda: measure([model], [stage], plan)


def main() -> None:
    """Warm up, take the fastest of some, print."""
    point = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    torch.manual_seed(0)
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        work = training_step(point) if point["kind"] == "step" else evaluation(point, Path(folder))
        work()
        # Processor time on one thread: waiting for other processes does not count.
        while len(seconds) < point["steps"] or (point["steps"] and sum(seconds) < LEAST_S):
            start = time.process_time()
            work()
            seconds.append(time.process_time() - start)
    print(json.dumps({"seconds": min(seconds, default=0.0), "peak_mb": peak_mb()}))


if __name__ == "__main__":
    main()
