"""What each kind of sampling costs: time of a generator step and of inference, as ratios to strided.

Interleaved in one process, median of many, because absolute times on a shared machine are noise:

    python benchmarks/sampling.py --size 256 --ngf 64 --rounds 7
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from gen import UNetGenerator
from gen.unet import SAMPLINGS


def main() -> None:
    """Print one Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256, help="px a side")
    parser.add_argument("--ngf", type=int, default=64)
    parser.add_argument("--num_downs", type=int, default=8)
    parser.add_argument("--batch_size", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    networks = {
        sampling: UNetGenerator(ngf=args.ngf, num_downs=args.num_downs, sampling=sampling)
        for sampling in SAMPLINGS
    }
    x = torch.randn(args.batch_size, 3, args.size, args.size)
    times: dict[tuple[str, str], list[float]] = {}
    for round_number in range(args.rounds + 1):
        for sampling, network in networks.items():
            for kind, work in (("forward and backward", step), ("inference", infer)):
                elapsed = clock(lambda network=network, work=work: work(network, x))
                if round_number:  # the first round warms up
                    times.setdefault((sampling, kind), []).append(elapsed)
    print(
        f"{args.size} px, ngf {args.ngf}, batch {args.batch_size}, float32, CPU, "
        f"{torch.get_num_threads()} threads, median of {args.rounds}, torch {torch.__version__}\n"
    )
    print("| sampling | forward and backward | inference |\n|---|---|---|")
    for sampling in SAMPLINGS:
        cells = []
        for kind in ("forward and backward", "inference"):
            median = statistics.median(times[sampling, kind])
            ratio = median / statistics.median(times["strided", kind])
            cells.append(f"{ratio:.2f} ({median * 1e3:.0f} ms)")
        print(f"| `{sampling}` | {' | '.join(cells)} |")


def step(network: torch.nn.Module, x: torch.Tensor) -> None:
    """Run forward and backward."""
    network.train()
    network.zero_grad(set_to_none=True)
    network(x).mean().backward()


@torch.inference_mode()
def infer(network: torch.nn.Module, x: torch.Tensor) -> None:
    """Run forward alone."""
    network.eval()
    network(x)


def clock(work: Callable[[], None]) -> float:
    """Return the seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
