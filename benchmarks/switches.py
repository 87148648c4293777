"""What the trainer's speed and memory switches do: `python -m benchmarks.switches`.

Time is that of a whole step (both networks, Adam) relative to the step without switches, interleaved in one
process. Memory is what a process of its own grows by, at its highest, through three such steps. Loading is
timed apart, from a folder of procedural pairs as PNG.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.memory import peak_mb, run_apart
from benchmarks.step.both import make_step
from benchmarks.timing import take_turns
from steadypix import PairedImages, PatchDiscriminator, UNetGenerator
from steadypix.data.cli import write_pairs
from steadypix.data.pairs.sampler import EpochSampler
from steadypix.eval.report.page import markdown_table
from steadypix.gen.training.ema import make_ema

# Each a change to the plain step; `batch` and `accumulate` say what it is compared with.
SWITCHES: dict[str, dict[str, Any]] = {
    "none": {},
    "precision bf16": {"precision": "bf16"},
    "channels_last": {"layout": torch.channels_last},
    "checkpointing": {"checkpointing": True},
    "ema 0.999": {"ema": 0.999},
    "equivariance 1": {"equivariance": 1.0},
    "compile": {"compile": True},
    "batch_size 4": {"batch": 4},
    "batch_size 4, checkpointing": {"batch": 4, "checkpointing": True},
    "accumulate 4": {"accumulate": 4},
}
PLAIN = {"precision": "fp32", "layout": torch.contiguous_format, "checkpointing": False, "ema": 0.0}
PLAIN |= {"equivariance": 0.0, "compile": False, "batch": 1, "accumulate": 1}


def build(args: argparse.Namespace, switch: str) -> Callable[[], object]:
    """Return a training step under one switch, as a function of nothing."""
    to = argparse.Namespace(**PLAIN | SWITCHES[switch])
    torch.manual_seed(0)
    generator = UNetGenerator(ngf=args.ngf, sampling=args.sampling).to(args.device)
    discriminator = PatchDiscriminator(ndf=args.ngf).to(args.device)
    generator.checkpointing = to.checkpointing
    networks: list[nn.Module] = [generator, discriminator]
    for network in networks:
        nn.utils.convert_conv2d_weight_memory_format(network, to.layout)
    average = make_ema(generator, to.ema) if to.ema else None
    step = make_step(
        *(map(torch.compile, networks) if to.compile else networks),
        device=args.device,
        equivariance=to.equivariance,
        margin_px=args.size // 16,
        precision=to.precision,
    )
    shape = (3, to.batch, 3, args.size, args.size)
    pictures = torch.rand(shape, device=args.device).mul(2).sub(1)
    parts = [part.contiguous(memory_format=to.layout) for part in pictures]
    pair = dict(zip(("input", "target", "moved"), parts, strict=True), shift=[(3, 2)] * to.batch)

    def take() -> None:
        step([pair] * to.accumulate, list(range(to.accumulate)))
        if average:
            average.update_parameters(generator)

    return take


def _exhaust(loader: Iterable[Any]) -> None:
    for _ in loader:
        pass


def loading(rounds: int) -> list[list[str]]:
    """Return how long an epoch of loading takes, relative to decoding in the trainer itself."""
    with tempfile.TemporaryDirectory() as folder:
        write_pairs("facades", "train", Path(folder), count=96, size=256, seed=0)
        works = {}
        for cache, workers in ((False, 0), (True, 0), (False, 1), (True, 1)):
            pairs = PairedImages(folder, cache=cache)
            sampler = EpochSampler(len(pairs), 1, seed=0)
            loader = torch.utils.data.DataLoader(
                pairs, batch_sampler=sampler, num_workers=workers, persistent_workers=workers > 0
            )
            works[f"cache {cache}, workers {workers}"] = functools.partial(_exhaust, loader)
        timing = take_turns(works, rounds=rounds)
        return [[name, f"{timing.ratio(name, 'cache False, workers 0'):.2f}"] for name in works]


def peak_megabytes(args: argparse.Namespace, switch: str) -> float:
    """Return by how many megabytes a switch's networks and three steps make this process grow."""
    before = peak_mb()
    take = build(args, switch)
    for _ in range(3):
        take()
    return peak_mb() - before


def main() -> None:
    """Measure and print Markdown."""
    parser = argparse.ArgumentParser(prog="benchmarks.switches", description=__doc__)
    parser.add_argument("--size", type=int, default=256, metavar="PX")
    parser.add_argument("--ngf", type=int, default=64)
    parser.add_argument("--sampling", default="blur")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    peaks = {name: run_apart(peak_megabytes, args, name) for name in SWITCHES}
    timing = take_turns(
        {name: build(args, name) for name in SWITCHES}, rounds=args.rounds, device=args.device
    )
    print(", ".join(f"{key} {value}" for key, value in vars(args).items()))
    print(f"\nnone: {timing.best_ms('none'):.0f} ms, {peaks['none']:.0f} MB\n")
    rows = [[n, f"{timing.ratio(n, 'none'):.2f}", f"{peaks[n] / peaks['none']:.2f}"] for n in SWITCHES]
    print(markdown_table(["switch", "time / none", "peak memory / none"], rows), end="\n\n")
    print(markdown_table(["loading an epoch", "time / cache False, workers 0"], loading(args.rounds)))


if __name__ == "__main__":
    main()
