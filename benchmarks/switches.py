"""What the trainer's speed and memory switches do: `python -m benchmarks.switches`.

Time is that of a whole step (both networks, Adam) relative to the step without switches, interleaved in one
process. Memory is the largest resident size of a process that takes three such steps, less that of one that
only imports. Loading is timed apart, from a folder of procedural pairs as PNG.
"""

from __future__ import annotations

import argparse
import functools
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from benchmarks.timing import take_turns
from data import EpochSampler, PairedImages
from data.cli import write_pairs
from gen import PatchDiscriminator, UNetGenerator
from gen.ema import make_ema
from gen.step import Pix2PixStep

# Each a change to the plain step; `batch` and `accumulate` say what it is compared with.
SWITCHES: dict[str, dict[str, Any]] = {
    "none": {},
    "precision bf16": {"precision": "bf16"},
    "channels_last": {"channels_last": True},
    "checkpointing": {"checkpointing": True},
    "ema 0.999": {"ema": 0.999},
    "equivariance 1": {"equivariance": 1.0},
    "compile": {"compile": True},
    "batch_size 4": {"batch": 4},
    "batch_size 4, checkpointing": {"batch": 4, "checkpointing": True},
    "accumulate 4": {"accumulate": 4},
}


def build(
    args: argparse.Namespace,
    *,
    precision: str = "fp32",
    channels_last: bool = False,
    checkpointing: bool = False,
    compile: bool = False,
    ema: float = 0.0,
    equivariance: float = 0.0,
    batch: int = 1,
    accumulate: int = 1,
) -> Callable[[], object]:
    """Return a training step under one switch, as a function of nothing."""
    torch.manual_seed(0)
    device = torch.device(args.device)
    generator = UNetGenerator(ngf=args.ngf, sampling=args.sampling).to(device)
    discriminator = PatchDiscriminator(ndf=args.ngf).to(device)
    generator.checkpointing = checkpointing
    networks: list[nn.Module] = [generator, discriminator]
    layout = torch.channels_last if channels_last else torch.contiguous_format
    for network in networks:
        nn.utils.convert_conv2d_weight_memory_format(network, layout)
    average = make_ema(generator, ema) if ema else None
    adams = [torch.optim.Adam(n.parameters(), lr=2e-4, betas=(0.5, 0.999), fused=True) for n in networks]
    step = Pix2PixStep(
        Accelerator(cpu=device.type == "cpu"),
        *(map(torch.compile, networks) if compile else networks),
        *adams,
        equivariance=equivariance,
        margin_px=args.size // 16,
        precision=precision,
    )
    x, y, moved = torch.rand(3, batch, 3, args.size, args.size, device=device).mul(2).sub(1).unbind()
    pair: dict[str, Any] = {"input": x, "target": y, "moved": moved, "shift": [(3, 2)] * batch}
    for key in ("input", "target", "moved"):
        pair[key] = pair[key].to(memory_format=layout)

    def take() -> None:
        step([pair] * accumulate, list(range(accumulate)))
        if average:
            average.update_parameters(generator)

    return take


def peak_mb(args: argparse.Namespace, name: str | None) -> float:
    """Return the largest resident size of a process that takes three steps (None: that only imports)."""
    options = [f"--{key}={getattr(args, key)}" for key in ("size", "ngf", "sampling", "device")]
    command = [sys.executable, "-m", "benchmarks.switches", *options, "--one", name or "-"]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure_one(args: argparse.Namespace) -> None:
    """Take three steps under one switch and print the largest resident size in MB."""
    if args.one in SWITCHES:
        take = build(args, **SWITCHES[args.one])
        for _ in range(3):
            take()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def loading(rounds: int) -> list[tuple[str, float]]:
    """Return how long an epoch of loading takes, relative to decoding in the trainer itself."""
    with tempfile.TemporaryDirectory() as folder:
        write_pairs("facades", "train", Path(folder), count=96, size=256, seed=0)

        def epoch(loader: Any) -> None:
            for _ in loader:
                pass

        works = {}
        for name, cache, workers in (
            ("cache false", False, 0),
            ("cache true", True, 0),
            ("cache false, workers 1", False, 1),
            ("cache true, workers 1", True, 1),
        ):
            pairs = PairedImages(folder, cache=cache)
            loader = torch.utils.data.DataLoader(
                pairs,
                batch_sampler=EpochSampler(len(pairs), 1, seed=0),
                num_workers=workers,
                persistent_workers=workers > 0,
            )
            works[name] = functools.partial(epoch, loader)
        timing = take_turns(works, rounds=rounds)
        return [(name, timing.ratio(name, "cache false")) for name in works]


def main() -> None:
    """Measure and print Markdown."""
    parser = argparse.ArgumentParser(prog="benchmarks.switches", description=__doc__)
    parser.add_argument("--size", type=int, default=256, metavar="PX")
    parser.add_argument("--ngf", type=int, default=64)
    parser.add_argument("--sampling", default="blur")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        measure_one(args)
        return
    # Memory first: a new process counts what its parent held when it was made.
    imports = peak_mb(args, None)
    peaks = {name: peak_mb(args, name) - imports for name in SWITCHES}
    works = {name: build(args, **changes) for name, changes in SWITCHES.items()}
    timing = take_turns(works, rounds=args.rounds, device=args.device)
    print(
        f"{args.sampling}, {args.size} px, ngf {args.ngf}, {args.device}, {torch.get_num_threads()} threads\n"
    )
    print("| switch | time / none | peak memory / none |\n|---|---|---|")
    for name in SWITCHES:
        print(f"| {name} | {timing.ratio(name, 'none'):.2f} | {peaks[name] / peaks['none']:.2f} |")
    print(f"\nnone: {timing.best_ms('none'):.0f} ms, {peaks['none']:.0f} MB\n")
    print("| loading an epoch | time / cache false |\n|---|---|")
    for name, ratio in loading(args.rounds):
        print(f"| {name} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
