"""What a run's discriminator lives on: pairs it has seen or pictures as such, and detail of which fineness.

python -m reproduce.discriminator RUN [RUN ...] --data DIR      # DIR: the pairs the runs were trained on

Two questions, on centre windows without jitter. Does it memorise: how do its logits of real pairs that were
held out compare with those of the training (r_v of Karras et al. 2020, "Training Generative Adversarial
Networks with Limited Data", eq. 1)? And by which detail does it judge: how often does it still tell a real
pair from a generated one where both pictures are low-passed?
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from steadypix.command import Parser, command, positive
from steadypix.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

# Standard deviations [px] of the Gaussians whose outcome is judged; 0: the picture as it is.
BLURS_PX = (0.0, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)


@command("reproduce.discriminator")
def main(argv: Sequence[str]) -> int:
    """Print a table of what each run's discriminator says."""
    parser = Parser(prog="reproduce.discriminator", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="directories of training runs")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="pairs they were trained on")
    parser.add_argument(
        "--limit", type=positive, default=100, help="pairs of each split (default: %(default)s)"
    )
    args = parser.parse(argv)

    import torch

    blurred = " | ".join("as it is" if not px else f"{px:g} px" for px in BLURS_PX)
    print(f"| run | D(train) | D(held out) | D(generated) | r_v | told apart: {blurred} |")
    print("|---" * (5 + len(BLURS_PX)) + "|")
    with torch.inference_mode():
        for run in args.runs:
            means, r_v, shares = diagnose(run, str(args.data), args.limit)
            cells = [*(f"{mean:.2f}" for mean in means), f"{r_v:.2f}", *(f"{share:.2f}" for share in shares)]
            print(f"| {run.name} | {' | '.join(cells)} |", flush=True)
    return 0


def diagnose(run: Path, data: str, limit: int) -> tuple[list[float], float, list[float]]:
    """Measure one run's discriminator against its own generator.

    Args:
        run: its directory; the state to resume from holds the discriminator.
        data: folder of the pairs.
        limit: pairs of each split.

    Returns:
        mean logits of real training pairs, of real held-out pairs and of generated held-out ones;
        r_v, 0 where held-out pairs are as real as the training's, 1 where they pass for generated;
        by blur, how often the mean logit of a held-out pair is higher than that of the generated one: 0.5 is
        chance.

    Raises:
        InputError: if the run has no state.
    """
    from steadypix.checkpoints.run_directory import STATE_FILE
    from steadypix.checkpoints.setup import build_discriminator
    from steadypix.configs.schema import DiscriminatorConfig
    from steadypix.data.pairs.opening import open_pairs
    from steadypix.gen.weights.generators import load_generator
    from steadypix.gen.weights.tensors import read_tensors

    if not (run / STATE_FILE).is_file():
        raise InputError(f"{run}: holds no {STATE_FILE}; expected the directory of a training run")
    tensors, about = read_tensors(run / STATE_FILE)
    config = about["config"]
    crop_px = config["data"]["crop_size"]
    channels = config["generator"]["in_channels"] + config["generator"]["out_channels"]
    judge = build_discriminator(DiscriminatorConfig(**config["discriminator"]), channels, crop_px)
    prefix = "discriminator/"
    judge.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    judge.eval()
    generator = load_generator(run).eval()

    def windows(split: str) -> list[tuple[Tensor, Tensor]]:
        of = {key: config["data"][key] for key in ("direction", "load_size")}
        pairs = open_pairs(data, split, crop_size=crop_px, **of)
        first = (config["data"]["load_size"] - crop_px) // 2
        place = (..., slice(first, first + crop_px), slice(first, first + crop_px))
        return [(x[place][None], y[place][None]) for x, y in pairs.canvases(limit)]

    train = [logit(judge, x, y) for x, y in windows(config["data"]["train_split"])]
    held_out = [(x, y, generator(x)) for x, y in windows(config["data"]["val_split"])]
    shares = []
    for px in BLURS_PX:
        real = [logit(judge, x, low_passed(y, px)) for x, y, _ in held_out]
        fake = [logit(judge, x, low_passed(z, px)) for x, _, z in held_out]
        if not px:
            means = [sum(values) / len(values) for values in (train, real, fake)]
        shares.append(sum(a > b for a, b in zip(real, fake, strict=True)) / len(real))
    return means, (means[0] - means[1]) / (means[0] - means[2]), shares


def logit(judge: nn.Module, x: Tensor, y: Tensor) -> float:
    """Return the mean logit of one pair."""
    import torch

    return float(judge(torch.cat([x, y], dim=1)).mean())


def low_passed(y: Tensor, px: float) -> Tensor:
    """Return a picture (1, C, H, W) behind a Gaussian of this standard deviation."""
    from kornia.filters import gaussian_blur2d

    side = 2 * int(4 * px + 1) + 1
    return gaussian_blur2d(y, (side, side), (px, px)) if px else y


if __name__ == "__main__":
    sys.exit(main())
