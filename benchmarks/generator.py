"""What each kind of sampling costs the whole generator: time of a training step and of inference, memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.floors import Floors
from benchmarks.layers import forward
from benchmarks.memory import peak_mb, run_apart
from benchmarks.report import Bar, Cell, Table
from benchmarks.timing import Work, take_turns
from steadypix import UNetGenerator
from steadypix.gen.kernels.allocator import keep_freed_memory

# What is compared: the arguments of the generator, by name.
KINDS: dict[str, dict[str, Any]] = {
    "strided": {"sampling": "strided"},
    "preblur": {"sampling": "preblur"},
    "blur": {"sampling": "blur"},
    "blur_late, all levels": {"sampling": "blur_late", "late_levels": None},
    "blur_late": {"sampling": "blur_late"},
}
# By kind: (training, inference), over `strided`.
LIMITS = {
    "preblur": (1.10, 1.10),
    "blur": (2.3, 2.2),
    "blur_late, all levels": (2.6, 2.6),
    "blur_late": (2.6, 2.6),
}


def step(network: nn.Module, x: Tensor) -> Work:
    """Forward and backward, gradients to every weight."""

    def work() -> None:
        network.zero_grad(set_to_none=True)
        network(x).mean().backward()

    return work


def measure_generator(
    floors: Floors,
    *,
    rounds: int,
    size: int = 256,
    ngf: int = 64,
    num_downs: int = 8,
    batch: int = 1,
    memory: bool = True,
) -> Table:
    """Every sampling, interleaved, over `strided`; multiplications beside it, and memory if asked for."""
    keep_freed_memory()  # as our commands do
    x = torch.randn(batch, 3, size, size)
    networks = {
        name: UNetGenerator(ngf=ngf, num_downs=num_downs, **arguments) for name, arguments in KINDS.items()
    }
    steps = {name: step(network, x) for name, network in networks.items()}
    training, step_flops = take_turns(steps, rounds=rounds), [*map(count_flops, steps.values())]
    passes = {name: forward(network.eval(), x) for name, network in networks.items()}
    inference, pass_flops = take_turns(passes, rounds=rounds), [*map(count_flops, passes.values())]
    rows: list[list[Cell]] = []
    bars: list[Bar] = []
    for name, both, alone in zip(networks, step_flops, pass_flops, strict=True):
        ratios = training.ratio(name, "strided"), inference.ratio(name, "strided")
        arguments = {"ngf": ngf, "num_downs": num_downs, **KINDS[name]}
        peak = run_apart(peak_megabytes, arguments, size, batch) if memory else None
        found = [training.median_ms(name), floors.flops_ms(both), ratios[0]]
        found += [inference.median_ms(name), floors.flops_ms(alone), ratios[1]]
        rows.append([f"`{name}`", *found, peak])
        if name in LIMITS:
            bars.append(Bar(f"{name} / strided, training step", ratios[0], LIMITS[name][0]))
            bars.append(Bar(f"{name} / strided, inference", ratios[1], LIMITS[name][1]))
    peaks = {str(row[0]): float(row[-1] or 0) for row in rows}
    if memory:
        ratio = peaks["`blur`"] / peaks["`strided`"]
        bars.append(Bar("blur / strided, peak memory of a training step", ratio, 1.5))
    columns = ["sampling", "step [ms]", "floor [ms]", "/ strided"]
    columns += ["inference [ms]", "floor [ms]", "/ strided", "peak of a step [MB]"]
    notes = [
        f"The U-Net at {size} px, ngf {ngf}, batch {batch}, float32, instance norm. The step is forward and "
        "backward, without the optimiser. Floor: floating-point operations over the measured rate of a "
        "product. Peak: what a process of its own grows by from before its first step (weights in place) to "
        "the highest point of three steps, gradients included."
    ]
    return Table("generator", "The generator by sampling", columns, rows, bars, notes)


def count_flops(work: Work) -> float:
    """Floating-point operations of the convolutions and products in `work`."""
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def peak_megabytes(arguments: Mapping[str, Any], size: int, batch: int) -> float:
    """Return by how many megabytes three training steps make this process grow."""
    torch.set_num_threads(1)
    network = UNetGenerator(**arguments)
    x = torch.randn(batch, 3, size, size)
    nn.functional.conv2d(x, torch.zeros(4, 3, 3, 3))  # what the library itself takes
    before = peak_mb()
    for _ in range(3):
        step(network, x)()
    return peak_mb() - before
