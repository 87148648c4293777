"""Layers, steps and an evaluation on a GPU, in one call of less than ten minutes: Markdown and JSON.

    python -m benchmarks.gpu --out results/bench-gpu           # on a machine with a GPU
    python -m benchmarks.gpu --tiny --device cpu               # only to see that it runs

Measures the layers as on a CPU, the forward blur against the copy bandwidth, a whole training step in
bfloat16 from a captured graph against the eager float32 reference, images a second, and an evaluation.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.floors import measure_floors
from benchmarks.layers import FORMATS, SHAPES, TINY_SHAPES, forward, measure_blur_pool, measure_blur_upsample
from benchmarks.report import Bar, Cell, Table, write
from benchmarks.step import reference as reference_step
from benchmarks.step.both import make_step
from benchmarks.timing import Work, take_turns
from steadypix import BlurPool2d, PatchDiscriminator, UNetGenerator
from steadypix.eval.metrics.stability import shift_stability
from steadypix.gen.training.captured import EAGER_STEPS, CapturedStep


def main(argv: list[str] | None = None) -> None:
    """Measure everything."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument(
        "--tiny", action="store_true", help="seconds instead of minutes; figures mean nothing"
    )
    parser.add_argument("--rounds", type=int, help="samples of each work (default: 30; 1 with --tiny)")
    parser.add_argument("--out", type=Path, default=Path("results/bench-gpu"))
    args = parser.parse_args(argv)
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("no GPU here; --tiny --device cpu shows that the script runs")
    device, tiny = args.device, args.tiny
    rounds = args.rounds or (1 if tiny else 30)
    shapes = TINY_SHAPES if tiny else SHAPES
    side, megabytes = (64, 1) if tiny else (8192, 1024)
    floors = measure_floors(device=device, side=side, megabytes=megabytes)
    torch.backends.cudnn.benchmark = True
    tables = [
        measure_bandwidth(device=device, rounds=rounds, tiny=tiny),
        measure_blur_pool(floors, rounds=rounds, shapes=shapes, device=device),
        measure_blur_upsample(floors, rounds=rounds, shapes=shapes, device=device),
        measure_steps(device=device, rounds=rounds, tiny=tiny),
        measure_evaluation(device=device, tiny=tiny),
    ]
    print(write(tables, args.out, "gpu", device=device))


def measure_bandwidth(*, device: str, rounds: int, tiny: bool) -> Table:
    """The forward blur of a map that no cache holds, as a share of what a copy moves a second."""
    shape = (2, 16, 32, 32) if tiny else (16, 256, 256, 256)
    rows: list[list[Cell]] = []
    bars: list[Bar] = []
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(shape, device=device).to(dtype).to(memory_format=FORMATS["channels last"])
        layer, target = BlurPool2d(shape[1]).to(device), torch.empty_like(x)
        works: dict[str, Work] = {"blur": forward(layer, x), "copy": lambda x=x, t=target: t.copy_(x)}  # type: ignore[misc]
        timing = take_turns(works, rounds=rounds, device=device)
        # The blur reads all and writes a quarter, the copy reads and writes all.
        share = 1.25 / 2 * timing.best_ms("copy") / timing.best_ms("blur")
        name = str(dtype).removeprefix("torch.")
        rows.append(["x".join(map(str, shape)), name, timing.best_ms("blur"), timing.best_ms("copy"), share])
        bars.append(Bar(f"copy bandwidth / BlurPool2d forward's, {name}", 1 / share, 1.25))
    columns = ["shape", "dtype", "blur [ms]", "copy [ms]", "share of the copy's bandwidth"]
    return Table(
        "bandwidth", "BlurPool2d forward, channels last", columns, rows, bars, ["The fastest of many."]
    )


def build_step(sampling: str, x: Tensor, y: Tensor, *, shape: dict[str, int]) -> tuple[Work, nn.Module]:
    """Return a training step as the trainer's fastest switches make it, and its generator.

    Bfloat16, channels last, fused Adam; on a GPU captured once and replayed. `x` and `y` are (B, 3, H, W),
    `shape` holds `ngf`, `num_downs`, `ndf`, `n_layers`.
    """
    on_gpu = x.device.type == "cuda"
    generator = UNetGenerator(ngf=shape["ngf"], num_downs=shape["num_downs"], sampling=sampling).to(x.device)
    discriminator = PatchDiscriminator(ndf=shape["ndf"], n_layers=shape["n_layers"]).to(x.device)
    for network in (generator, discriminator):
        nn.utils.convert_conv2d_weight_memory_format(network, torch.channels_last)
    eager = make_step(generator, discriminator, device=x.device.type, captured=on_gpu, precision="bf16")
    step = CapturedStep(eager) if on_gpu else eager
    x, y = (part.contiguous(memory_format=torch.channels_last) for part in (x, y))
    pair = {"input": x, "target": y}
    for seed in range(EAGER_STEPS + 1 if on_gpu else 1):
        step([pair], [seed])
    return lambda: step([pair], [0]), generator


def measure_steps(*, device: str, rounds: int, tiny: bool) -> Table:
    """Training steps and inference by sampling and batch; the reference at batch 1."""
    size = 32 if tiny else 256
    shape = {"ngf": 64, "num_downs": 8, "ndf": 64, "n_layers": 3}
    shape = {"ngf": 4, "num_downs": 5, "ndf": 4, "n_layers": 2} if tiny else shape
    samplings = ("strided", "blur") if tiny else ("strided", "preblur", "blur", "blur_late")
    rows: list[list[Cell]] = []
    bars: list[Bar] = []
    for batch in (1, 2) if tiny else (1, 16, 64):
        x, y = torch.rand(2, batch, 3, size, size, device=device) * 2 - 1
        built = {name: build_step(name, x, y, shape=shape) for name in samplings}
        works = {name: step for name, (step, _) in built.items()}
        if batch == 1:
            reference = reference_step.build(**shape)  # type: ignore[arg-type]
            reference.generator.to(device)
            reference.discriminator.to(device)
            works["reference"] = lambda reference=reference, x=x, y=y: reference.step(x, y)  # type: ignore[misc]
        training = take_turns(works, rounds=min(rounds, 10), device=device)
        x = x.to(memory_format=torch.channels_last)
        passes = {name: forward(generator.eval(), x, bf16=True) for name, (_, generator) in built.items()}
        inference = take_turns(passes, rounds=rounds, device=device)
        for name in works:
            step_ms = training.median_ms(name)
            infer_ms = inference.median_ms(name) if name in passes else None
            rate = batch / infer_ms * 1e3 if infer_ms else None
            rows.append([f"`{name}`", batch, step_ms, batch / step_ms * 1e3, infer_ms, rate])
        if batch == 1:
            ratio = training.ratio("strided", "reference")
            bars.append(Bar("strided, bf16 and graph / eager float32 reference", ratio, 0.25))
    columns = ["sampling", "batch", "step [ms]", "images/s", "inference [ms]", "images/s"]
    note = (
        f"{size} px. Steps of generator, discriminator and both optimisers: bfloat16, channels last, "
        "fused Adam, a captured graph where there is a GPU; `reference`: eager float32, default Adam."
    )
    return Table("steps", "Whole training steps, and inference", columns, rows, bars, [note])


def measure_evaluation(*, device: str, tiny: bool) -> Table:
    """Stability of 106 pictures at 8 shifts, and the pure forward passes it needs."""
    count, window, canvas, batch = (2, 32, 48, 4) if tiny else (106, 256, 286, 32)
    ngf, num_downs = (4, 4) if tiny else (64, 8)
    network = UNetGenerator(sampling="blur", ngf=ngf, num_downs=num_downs).to(device).eval()
    pictures = torch.rand(count, 3, canvas, canvas) * 2 - 1
    windows = torch.rand(batch, 3, window, window, device=device) * 2 - 1
    passes = -(-count * 8 // batch)

    def pure() -> None:
        with torch.inference_mode():
            for _ in range(passes):
                network(windows)

    def evaluation() -> None:
        shift_stability(
            network, pictures, window_px=window, shifts=range(8), margins_px=(0,), batch_size=batch
        )

    timing = take_turns({"forward": pure, "evaluation": evaluation}, rounds=1 if tiny else 3, device=device)
    seconds = [timing.best_ms(name) / 1e3 for name in ("evaluation", "forward")]
    rows: list[list[Cell]] = [[count, 8, *seconds, seconds[0] / seconds[1]]]
    columns = ["pictures", "shifts", "evaluation [s]", "forward passes [s]", "ratio"]
    return Table(
        "evaluation", "An evaluation", columns, rows, (), ["float32, protocol crop, pictures in memory."]
    )


if __name__ == "__main__":
    main()
