"""What `eval_stability --shifts 0..7` costs beyond its forward passes, in time and in memory.

Generators are made on the spot (what their weights are changes no time); pairs are painted and written as
PNG, so that pictures are decoded as a user's are.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import io
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from benchmarks.memory import peak_mb, run_apart
from benchmarks.report import Bar, Cell, Table
from configs.schema import DataConfig, GeneratorConfig, RunConfig
from data.cli import write_pairs
from data.pairs import Pairs
from eval.eval_stability import main as eval_stability
from eval.evaluate import Plan, measure
from eval.models import Model, load_models
from eval.offsets import offsets_along
from eval.sources import open_data
from gen import UNetGenerator, save_generator

Clocks = tuple[float, float]  # of the wall, of the processor
SHIFTS = 8  # 0..7
LIMIT, MEMORY_LIMIT = 1.15, 1.05


@dataclasses.dataclass(frozen=True)
class Size:
    """A generator and its pictures.

    Args:
        window_px: side of what the network sees.
        canvas_px: side of the picture it slides over.
        ngf: width of the network.
        num_downs: its levels.
    """

    window_px: int
    canvas_px: int
    ngf: int
    num_downs: int


SIZES = {"small": Size(128, 144, 32, 7), "full": Size(256, 286, 64, 8)}
TINY = Size(32, 48, 4, 4)


def prepare(folder: Path, size: Size, count: int, *, different: int = 50) -> Path:
    """Write `count` pairs, `different` of them painted, the others copies; return an untrained checkpoint."""
    pairs = folder / "pairs"
    painted = min(count, different)
    with contextlib.redirect_stderr(io.StringIO()):
        write_pairs("facades", "test", pairs, count=painted, size=size.window_px, seed=0)
    for number in range(painted, count):
        os.link(pairs / "test" / f"{number % painted + 1}.png", pairs / "test" / f"{number + 1}.png")
    config = RunConfig(
        data=DataConfig(root=str(pairs), load_size=size.canvas_px, crop_size=size.window_px),
        generator=GeneratorConfig(ngf=size.ngf, num_downs=size.num_downs),
    )
    torch.manual_seed(0)
    network = UNetGenerator(**dataclasses.asdict(config.generator))
    save_generator(folder / "generator.safetensors", network, config=dataclasses.asdict(config))
    return folder / "generator.safetensors"


def open_all(checkpoint: Path) -> tuple[Model, Pairs]:
    """Load a generator and its pictures."""
    models = load_models([str(checkpoint)])
    return models[0], open_data(models, source=None, split=None, limit=None)[0]


def plan_of(limit: int, shifts: int = SHIFTS) -> Plan:
    """What the command measures if nothing but shifts is asked for."""
    return Plan(protocols=["crop"], offsets=offsets_along(range(shifts), "x"), limit=limit)


def measure_evaluation(
    *, rounds: int, images: int = 50, sizes: dict[str, Size] | None = None, most: int = 2000
) -> list[Table]:
    """Time and memory of an evaluation.

    Args:
        rounds: samples of the whole command.
        images: pictures of an evaluation.
        sizes: by name; by default `SIZES`.
        most: pictures of the evaluation whose memory is compared with that of `images`.
    """
    rows: list[list[Cell]] = []
    bars: list[Bar] = []
    sizes = SIZES if sizes is None else sizes
    for name, size in sizes.items():
        with tempfile.TemporaryDirectory() as folder:
            row, ratios = _time(Path(folder), size, images=images, rounds=rounds)
        rows.append([name, *row])
        bars += [Bar(f"{name}: {what} / forward passes", ratio, LIMIT) for what, ratio in ratios.items()]
    sides = ", ".join(f"{k} {s.window_px} px, ngf {s.ngf}" for k, s in sizes.items())
    columns = ["generator", "forward [s]", "command [s]", "measurement / forward", "processor"]
    columns += ["command / forward", "processor"]
    notes = [
        f"{images} pairs as PNG, `--shifts 0..{SHIFTS - 1}`, protocol crop, L1, PSNR and TV ({sides}). "
        "Forward: the network on the same windows, a batch of eight a picture. Measurement: decoding, "
        "windows, errors; in turn with the forward passes, a tenth of the pictures at a time. Command: what "
        "a user runs, imports apart: checkpoint loaded and hashed, results, intervals, charts, grid, "
        "flicker, report; "
        f"half of the forward passes before it and half after; median of {rounds}. "
        "Processor: the ratio before it in processor time, which waiting for others does not disturb."
    ]
    time_table = Table("evaluation", "An evaluation beside its forward passes", columns, rows, bars, notes)
    return [time_table, _memory(images, most)]


def _time(folder: Path, size: Size, *, images: int, rounds: int) -> tuple[list[Cell], dict[str, float]]:
    checkpoint = prepare(folder, size, images)
    model, pairs = open_all(checkpoint)
    some = max(1, images // 10)

    def command(limit: int = images) -> None:
        words = [str(checkpoint), "--shifts", f"0..{SHIFTS - 1}", "--limit", str(limit), "--device", "cpu"]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            if eval_stability([*words, "--out", str(folder / "results")]):
                raise RuntimeError("eval_stability failed")

    parts = []
    for _ in range(max(5, rounds)):
        pure = _clocks(functools.partial(forward, model, pairs, some))
        parts.append(_over(_clocks(lambda: _quietly(lambda: measure([model], pairs, plan_of(some)))), pure))
    command(1)  # imports what it needs, and warms up
    wholes, seconds = [], []
    for _ in range(rounds):
        half = images // 2
        before = _clocks(functools.partial(forward, model, pairs, half))
        whole = _clocks(command)
        after = _clocks(functools.partial(forward, model, pairs, images - half))
        pure = before[0] + after[0], before[1] + after[1]
        wholes.append(_over(whole, pure))
        seconds.append((pure[0], whole[0]))
    (part, part_processor), (all_of_it, processor), (pure_s, whole_s) = map(
        _medians, (parts, wholes, seconds)
    )
    row: list[Cell] = [pure_s, whole_s, part, part_processor, all_of_it, processor]
    return row, {"measurement": part, "command": all_of_it}


def forward(model: Model, pairs: Pairs, count: int) -> None:
    """Nothing but the network, on the windows of one picture `count` times."""
    plan = plan_of(1)
    canvas = pairs.canvas(0)[0][None]
    batch = torch.cat([plan.rules(pairs)[0].shifted(canvas, offset) for offset in plan.offsets])
    with torch.inference_mode():
        for _ in range(count):
            model.module(batch)


def _clocks(work: Callable[[], object]) -> Clocks:
    """Return the seconds of a work, and those that the processors spent on it."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


def _over(clocks: Clocks, to: Clocks) -> Clocks:
    return clocks[0] / to[0], clocks[1] / to[1]


def _medians(pairs: Sequence[Clocks]) -> Clocks:
    return statistics.median(p[0] for p in pairs), statistics.median(p[1] for p in pairs)


def _quietly(work: Callable[[], object]) -> None:
    with contextlib.redirect_stderr(io.StringIO()):
        work()


def _memory(images: int, most: int) -> Table:
    """The largest size of a process that evaluates few pictures, and one that evaluates many."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = prepare(Path(folder), TINY, most)
        peaks = [
            run_apart("benchmarks.evaluation", [str(checkpoint), "--limit", str(limit)])["peak_mb"]
            for limit in (images, most)
        ]
    rows: list[list[Cell]] = [[images, peaks[0]], [most, peaks[1]]]
    bars = [Bar(f"peak memory, {most} / {images} images", peaks[1] / peaks[0], MEMORY_LIMIT)]
    note = (
        f"The whole command in a process of its own, {TINY.window_px} px, ngf {TINY.ngf}; libraries included."
    )
    return Table("evaluation_memory", "Memory of an evaluation", ["images", "peak [MB]"], rows, bars, [note])


def main() -> None:
    """Evaluate in this process and print its largest size: what `_memory` runs."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.evaluation", description="Peak memory of an evaluation."
    )
    parser.add_argument("checkpoint")
    parser.add_argument("--limit", required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)  # a network this small is slower on more
    with tempfile.TemporaryDirectory() as out, contextlib.redirect_stdout(io.StringIO()):
        words = [args.checkpoint, "--shifts", "0..7", "--limit", args.limit, "--device", "cpu", "--out", out]
        if eval_stability(words):
            raise RuntimeError("eval_stability failed")
    print(json.dumps({"peak_mb": peak_mb()}))


if __name__ == "__main__":
    main()
