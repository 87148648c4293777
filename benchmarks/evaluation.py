"""What `eval_stability --shifts 0..7` costs beyond its forward passes, in time and in memory.

Generators are made on the spot (what their weights are changes no time); pairs are painted and written as
PNG, so that pictures are decoded as a user's are.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.memory import peak_mb, run_apart
from benchmarks.report import Bar, Cell, Table
from steadypix import UNetGenerator, save_generator
from steadypix.configs.schema import DataConfig, GeneratorConfig, RunConfig
from steadypix.data.cli import write_pairs
from steadypix.eval.eval_stability import main as eval_stability
from steadypix.eval.eval_stability import set_the_stage
from steadypix.eval.generators.models import Model, load_models
from steadypix.eval.measure.measure import measure
from steadypix.eval.measure.options import build_parser, read_options
from steadypix.eval.measure.plan import Plan
from steadypix.eval.measure.stage import Stage

SHIFTS = 8  # 0..7
LIMIT, MEMORY_LIMIT = 1.15, 1.05


@dataclasses.dataclass(frozen=True)
class Size:
    """A generator and its pictures."""

    window_px: int
    """side of what the network sees"""
    canvas_px: int
    """side of the picture it slides over"""
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


def words_of(checkpoint: str | Path, limit: int) -> list[str]:
    """Return the words of the command that is timed: nothing but shifts is asked for."""
    return [str(checkpoint), "--shifts", f"0..{SHIFTS - 1}", "--limit", str(limit), "--device", "cpu"]


def open_all(checkpoint: Path, limit: int) -> tuple[Model, Stage, Plan]:
    """Load a generator, its pictures, and what the command measures of them."""
    args = build_parser().parse(words_of(checkpoint, limit))
    models = load_models([str(checkpoint)])
    plan, (stage,), _ = set_the_stage(args, read_options(args), models, "cpu")
    return models[0], stage, plan


def measure_evaluation(
    *, rounds: int, images: int = 50, sizes: Mapping[str, Size] = SIZES, most: int = 2000
) -> list[Table]:
    """Time of `rounds` evaluations of `images` pictures; memory of one beside that of one of `most`."""
    rows: list[list[Cell]] = []
    bars: list[Bar] = []
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


def evaluate(checkpoint: str | Path, limit: int, out: str | Path) -> None:
    """Run the command on `limit` pictures, and let it say nothing."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        if eval_stability([*words_of(checkpoint, limit), "--out", str(out)]):
            raise RuntimeError("eval_stability failed")


def _time(folder: Path, size: Size, *, images: int, rounds: int) -> tuple[list[Cell], dict[str, float]]:
    checkpoint = prepare(folder, size, images)
    some, half, out = max(1, images // 10), images // 2, folder / "results"
    model, stage, plan = open_all(checkpoint, some)
    parts = []
    for _ in range(max(5, rounds)):
        pure = _clocks(lambda: forward(model, stage, plan, some))
        with contextlib.redirect_stderr(io.StringIO()):
            parts.append(_clocks(lambda: measure([model], [stage], plan)) / pure)
    evaluate(checkpoint, 1, out)  # imports what it needs, and warms up
    wholes, seconds = [], []
    for _ in range(rounds):
        before = _clocks(lambda: forward(model, stage, plan, half))
        whole = _clocks(lambda: evaluate(checkpoint, images, out))
        pure = before + _clocks(lambda: forward(model, stage, plan, images - half))
        wholes.append(whole / pure)
        seconds.append((pure[0], whole[0]))
    part, whole, both = (np.median(values, axis=0).tolist() for values in (parts, wholes, seconds))
    return [*both, *part, *whole], {"measurement": part[0], "command": whole[0]}


def forward(model: Model, stage: Stage, plan: Plan, count: int) -> None:
    """Nothing but the network, on the windows of one picture `count` times."""
    measures = plan.make(stage.names, stage.pairs)
    batch = torch.cat(list(stage.inputs(measures, stage.pairs.canvas(0)[0][None], 0)))
    with torch.inference_mode():
        for _ in range(count):
            model.module(batch)


def _clocks(work: Callable[[], object]) -> NDArray[np.float64]:
    """Return the seconds of a work by the clock on the wall, and those that the processors spend on it."""
    before = np.array([time.perf_counter(), time.process_time()])
    work()
    return np.array([time.perf_counter(), time.process_time()]) - before


def _memory(images: int, most: int) -> Table:
    """The largest size of a process that evaluates few pictures, and one that evaluates many."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = prepare(Path(folder), TINY, most)
        peaks = [run_apart(_peak_of_evaluation, checkpoint, limit) for limit in (images, most)]
    rows: list[list[Cell]] = [[images, peaks[0]], [most, peaks[1]]]
    bars = [Bar(f"peak memory, {most} / {images} images", peaks[1] / peaks[0], MEMORY_LIMIT)]
    note = (
        f"The whole command in a process of its own, {TINY.window_px} px, ngf {TINY.ngf}; libraries included."
    )
    return Table("evaluation_memory", "Memory of an evaluation", ["images", "peak [MB]"], rows, bars, [note])


def _peak_of_evaluation(checkpoint: Path, limit: int) -> float:
    torch.set_num_threads(1)  # a network this small is slower on more
    with tempfile.TemporaryDirectory() as out:
        evaluate(checkpoint, limit, out)
    return peak_mb()
