"""The command `steadypix retrofit`: a trained generator made anti-aliased, fine-tuned, and measured."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steadypix.command import Parser, add_common_options, command, pick_device, positive
from steadypix.errors import InputError, require_text
from steadypix.eval.generators.formats import TRUST
from steadypix.files import prepare_output

if TYPE_CHECKING:
    from steadypix.checkpoints.retrofitting.pictures import Pictures
    from steadypix.checkpoints.retrofitting.rewrite import Rewritten
    from steadypix.checkpoints.retrofitting.tune import Step
    from steadypix.eval.metrics.lpips_metric import Lpips

SHARE = 0.2  # of the original training
STEPS = 1000  # where nothing says how long that was
FILTERS = ("rect2", "tri3", "bin4", "bin5", "bin6", "bin7")


def build_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser(
        prog="steadypix retrofit",
        description="Make a trained generator anti-aliased and fine-tune it: towards itself, averaged over "
        "shifts of its input, or with --targets towards the targets of pairs. The same command goes on.",
    )
    about = "run directory, .safetensors, latest_net_G.pth, package.module:function, or a released one's name"
    parser.add_argument("network", metavar="NETWORK", help=about)
    about = "folder of pairs as for training, or of inputs alone"
    parser.add_argument("--data", required=True, metavar="DIR", help=about)
    parser.add_argument("--out", type=Path, required=True, metavar="OUT", help="a folder for the result")
    about = "how it changes resolution then (default: blur_late, of networks of others blur)"
    parser.add_argument("--sampling", choices=("blur", "preblur", "blur_late"), help=about)
    parser.add_argument(
        "--filter", choices=FILTERS, default="bin5", help="low-pass taps (default: %(default)s)"
    )
    about = "give it no texture that moves with the scene, and no head"
    parser.add_argument("--no-texture", action="store_true", help=about)
    about = "train towards the targets of pairs, with a discriminator, as train_pix2pix does"
    parser.add_argument("--targets", action="store_true", help=about)
    about = f"steps (default: a fifth of the original training, or {STEPS} where its length is not known)"
    parser.add_argument("--steps", type=positive, metavar="N", help=about)
    parser.add_argument(
        "--learning_rate", type=_rate, default=2e-4, metavar="X", help="of Adam (default: %(default)s)"
    )
    about = "left to right or right to left (default: as the file says)"
    parser.add_argument("--direction", choices=("AtoB", "BtoA"), help=about)
    about = "side of the network's window (default: as the file says, or 256)"
    parser.add_argument("--window", type=positive, metavar="PX", help=about)
    about = "side that pictures are resized to (default: as the file says, or an eighth more than the window)"
    parser.add_argument("--canvas", type=positive, metavar="PX", help=about)
    parser.add_argument("--train-split", metavar="NAME", help="folder to learn from (default: train)")
    parser.add_argument("--test-split", metavar="NAME", help="folder to measure on (default: test)")
    about = "pictures to measure on (default: %(default)s)"
    parser.add_argument("--limit", type=positive, default=24, metavar="N", help=about)
    about = "torchvision state dict for LPIPS, which is measured then, and learnt from without --targets"
    parser.add_argument("--lpips-weights", type=Path, metavar="FILE", help=about)
    about = "its backbone (default: %(default)s)"
    parser.add_argument("--lpips-net", choices=("alex", "vgg", "squeeze"), default="alex", help=about)
    parser.add_argument("--trust", action="store_true", help=TRUST)
    add_common_options(parser, batch_size=1, without=("workers",))
    return parser


@command("steadypix retrofit")
def main(argv: Sequence[str]) -> int:
    """Run the command line; return its exit code."""
    args = build_parser().parse(argv)
    require_text(args.out, "--out")
    prepare_output(args.out)

    import torch

    from steadypix.checkpoints.memory import require_retrofit
    from steadypix.checkpoints.retrofitting.pictures import open_pictures
    from steadypix.checkpoints.retrofitting.rewrite import load_and_rewrite
    from steadypix.checkpoints.retrofitting.table import as_table, measure
    from steadypix.checkpoints.retrofitting.tune import Run, tune
    from steadypix.data.pairs.content import content_of

    device = pick_device(args.device)
    fits = functools.partial(
        require_retrofit, batch_size=args.batch_size, targets=args.targets, on_gpu=device == "cuda"
    )
    if args.window:  # before a network is looked at with it
        fits({}, window_px=args.window, canvas_px=args.canvas or args.window)
    torch.manual_seed(args.seed)
    rewritten = load_and_rewrite(
        args.network,
        sampling=args.sampling,
        filter=args.filter,
        texture=not args.no_texture,
        trust=args.trust,
        window_px=args.window,
    )
    shape = rewritten.config["generator"]
    pictures = open_pictures(
        args.data,
        rewritten.config.get("data", {}),
        channels=(shape.get("in_channels", 3), shape.get("out_channels", 3)),
        limit=args.limit,
        seed=args.seed,
        direction=args.direction,
        crop_size=args.window,
        load_size=args.canvas,
        train_split=args.train_split,
        val_split=args.test_split,
    )
    if args.targets and not pictures.paired:
        raise InputError(f"--targets: {args.data} holds inputs alone; expected pairs, or no --targets")
    if len(pictures.train) < args.batch_size:
        raise InputError(
            f"--batch_size {args.batch_size}: there are {len(pictures.train)} pictures to learn from"
        )
    sizes = {"window_px": pictures.window_px, "canvas_px": pictures.data["load_size"]}
    fits(shape, **sizes, n_pictures=len(pictures.train))
    rewritten.config["data"] = {**rewritten.config.get("data", {}), **pictures.data}
    lpips = _lpips(args, device)
    content = content_of(pictures.train)
    steps, points = plan(args.steps, rewritten.seen, args.batch_size)
    asked = {
        "network": rewritten.sha256,
        "code_sha256": rewritten.code_sha256,
        "steps": steps,
        "pictures": content.fingerprint,
        "pictures_sha256": content.sha256,
        **{key: getattr(args, key) for key in ("targets", "learning_rate", "batch_size", "seed", "limit")},
        **{key: shape[key] for key in ("sampling", "filter", "texture", "head") if key in shape},
        **(rewritten.options or {}),
        **{key: pictures.data[key] for key in ("direction", "crop_size", "load_size", "val_split")},
        "lpips": lpips.describe() if lpips else None,
    }
    rewritten.network.to(device)
    rewritten.teacher.to(device)
    step, networks, optimizers = _objective(args, rewritten, pictures, device, lpips)

    def row(network: torch.nn.Module) -> dict[str, Any]:
        return measure(network, rewritten.teacher, pictures, limit=args.limit, device=device, lpips=lpips)

    run = Run(args.out, asked, rewritten, networks, optimizers, row)
    run.restore()
    if not run.rows:
        run.save_state()  # before there is a generator: one without a state is not gone on with
        run.restore()  # what is written can be gone on with
        _try_file(run, pictures, device, trust=args.trust)
        _say(run, pictures, steps, device)
        run.rows.append({"name": "before", "step": 0, **row(rewritten.teacher)})
        run.add_row("right after")
    if run.seen < steps:
        tune(run, step, pictures, points, batch_size=args.batch_size, seed=args.seed, device=device)
        difference = _try_file(run, pictures, device, trust=args.trust)
        print(f"{args.out}: {steps} steps, read back from its file with a difference of {difference:.1g}")
    else:
        print(f"{args.out}: retrofitted already, {run.seen} steps")
    print(as_table(run.rows))
    return 0


def plan(steps: int | None, seen: int | None, batch_size: int) -> tuple[int, dict[int, str]]:
    """Return how many steps to make, and after which to measure: a twentieth, a quarter and all of them.

    Args:
        steps: as asked for; None: a fifth of the original training.
        seen: samples of that, None if not known.
        batch_size: of a step.
    """
    known = None if seen is None else max(1, seen // batch_size)
    total = steps or (STEPS if known is None else max(1, round(known * SHARE)))
    points = {}
    for share in (0.05, 0.25, 1.0):
        step = max(1, round(total * share))
        points[step] = f"after {100 * step / known:.3g} %" if known else f"after {step} steps"
    return total, points


def _objective(
    args: argparse.Namespace, rewritten: Rewritten, pictures: Pictures, device: str, lpips: Lpips | None
) -> tuple[Step, dict[str, Any], dict[str, Any]]:
    """Return the step, and by name the networks it trains and their optimisers."""
    import torch

    from steadypix.gen.training.distill import DistillStep

    if args.targets:
        return _with_targets(args, rewritten, pictures)
    adam = torch.optim.Adam(rewritten.network.parameters(), args.learning_rate, betas=(0.5, 0.999))
    if lpips:
        lpips.network.requires_grad_(False)
    step = DistillStep(
        rewritten.network,
        rewritten.teacher,
        adam,
        reach_px=pictures.reach_px,
        perceptual=lpips.distance if lpips else None,
    )
    return step, {"network": rewritten.network}, {"adam": adam}


def _with_targets(
    args: argparse.Namespace, rewritten: Rewritten, pictures: Pictures
) -> tuple[Step, dict[str, Any], dict[str, Any]]:
    """Return the trainer's step, on the middle of the larger windows."""
    from steadypix.checkpoints.setup import build_discriminator, build_step, make_accelerator
    from steadypix.configs.schema import DataConfig, DiscriminatorConfig, RunConfig, TrainConfig

    data = DataConfig(crop_size=pictures.window_px, load_size=pictures.data["load_size"])
    config = RunConfig(
        data=data,
        discriminator=DiscriminatorConfig(ndf=rewritten.config["generator"].get("ngf", 64)),
        train=TrainConfig(learning_rate=args.learning_rate),
        device=args.device,
        seed=args.seed,
    )
    accelerator = make_accelerator(config)
    shape = rewritten.config["generator"]
    channels = shape.get("in_channels", 3) + shape.get("out_channels", 3)
    discriminator = build_discriminator(config.discriminator, channels, pictures.window_px)
    networks = {"generator": rewritten.network, "discriminator": discriminator.to(accelerator.device)}
    trained, optimizers = build_step(config, accelerator, networks)
    reach = pictures.reach_px

    def step(batches: Sequence[Mapping[str, Any]], seeds: Sequence[int]) -> dict[str, Any]:
        middle = [
            {key: batch[key][..., reach:-reach, reach:-reach] for key in ("input", "target")}
            for batch in batches
        ]
        return trained(middle, seeds)

    return step, networks, optimizers


def _lpips(args: argparse.Namespace, device: str) -> Lpips | None:
    if not args.lpips_weights:
        return None
    from steadypix.eval.metrics.lpips_metric import Lpips

    return Lpips(args.lpips_net, weights=args.lpips_weights, device=device)


def _try_file(run: Any, pictures: Pictures, device: str, *, trust: bool) -> float:
    """Write the network, load the file as every command does, and compare the two on a picture.

    Returns:
        The largest difference between their outputs.

    Raises:
        InputError: if they differ by more than rounding.
    """
    import torch

    from steadypix.eval.generators.loading import load_generator
    from steadypix.gen.weights.generators import GENERATOR_FILE

    path = run.out / GENERATOR_FILE
    if not path.exists():
        run.rewritten.save(path, run.provenance())
    again = load_generator(path, device, trust=trust)
    source, _ = next(pictures.test.canvases(1))
    window = source[None, :, : pictures.window_px, : pictures.window_px].to(device)
    with torch.inference_mode():
        difference = (again(window) - run.rewritten.network(window)).abs().max().item()
    if not difference <= 1e-4:
        raise InputError(
            f"{path}: what was read back differs by {difference:.1g} from what was written; a "
            "module:function must build the same network at every call"
        )
    return difference


def _say(run: Any, pictures: Pictures, steps: int, device: str) -> None:
    rewritten = run.rewritten
    for line in rewritten.done:
        print(line, file=sys.stderr)
    kind = "pairs" if pictures.paired else "inputs without targets"
    print(
        f"{run.out}: {len(pictures.train)} {kind} to learn from, {len(pictures.test)} to measure on, windows "
        f"of {pictures.window_px} px in {pictures.data['load_size']} px, {pictures.data['direction']}, "
        f"{steps} steps, on {device}; both networks in evaluation mode: dropout off, running statistics as "
        "they are",
        file=sys.stderr,
    )


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0 < rate < 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0 and below 1, got {text!r}")
    return rate


if __name__ == "__main__":
    sys.exit(main())
