"""What `eval_stability` costs beyond the forward passes it needs, interleaved in one process.

    python benchmarks/evaluation.py --limit 50

Times the measurement of `--shifts 0..7`, protocol crop, L1, PSNR and TV (decoding included, imports and
pictures apart) against nothing but the network on the same windows in the same batches.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from eval.evaluate import Plan, measure
from eval.models import RELEASED, load_models
from eval.offsets import offsets_along
from eval.sources import open_data


def main() -> None:
    """Print one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", nargs="?", default=str(RELEASED / "facades-blur.safetensors"))
    parser.add_argument("--data", help="folder of pairs (default: the checkpoint's own pictures)")
    parser.add_argument("--limit", type=int, default=50, help="pictures")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    models = load_models([args.checkpoint])
    pairs, _ = open_data(models, source=args.data, split=None, limit=args.limit)
    plan = Plan(protocols=["crop"], offsets=offsets_along(range(8), "x"), limit=args.limit)
    count = min(args.limit, len(pairs))
    window = torch.zeros(plan.batch_size, 3, pairs.crop_size, pairs.crop_size)
    pure, whole = [], []
    for _ in range(args.rounds):
        start = time.perf_counter()
        with torch.inference_mode():
            for _ in range(count):
                models[0].module(window)  # 8 windows a picture: the base and seven shifts
        pure.append(time.perf_counter() - start)
        start = time.perf_counter()
        measure(models, pairs, plan)
        whole.append(time.perf_counter() - start)
    ratio = statistics.median(w / p for w, p in zip(whole, pure, strict=True))
    print(
        f"{count} pictures x 8 windows of {pairs.crop_size} px: {statistics.median(whole):.2f} s, "
        f"{ratio:.2f} x the forward passes ({torch.get_num_threads()} threads, median of {args.rounds})"
    )


if __name__ == "__main__":
    main()
