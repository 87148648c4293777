"""Train a pix2pix generator, anti-aliased or plain: `train_pix2pix --config demo`.

The same command again goes on where the run stopped. Under `torchrun` every process takes its share.
Nothing heavy is imported until work starts, so `--help` is instant.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steadypix.budget import allow
from steadypix.checkpoints.memory import require_training
from steadypix.checkpoints.resume import find_state, restore
from steadypix.checkpoints.run import Run
from steadypix.checkpoints.setup import (
    agree,
    build_networks,
    build_step,
    count_samples,
    describe_data,
    hash_seed,
    make_accelerator,
    number_format,
    open_data,
)
from steadypix.checkpoints.stop import StopRequest
from steadypix.command import MAX_MEMORY, command, version
from steadypix.configs.load import build_parser, parse
from steadypix.configs.resume import check_allowed
from steadypix.configs.schema import RunConfig
from steadypix.errors import require_text
from steadypix.locks import hold
from steadypix.progress import progress_interval_s

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator


@command("train_pix2pix")
def main(argv: Sequence[str]) -> int:
    """Run the command line; return its exit code."""
    parser = build_parser("train_pix2pix", "Train an image-to-image generator on pairs of pictures.")
    parser.add_argument("--out", metavar="DIR", help="run directory (default: checkpoints/CONFIG-SAMPLING)")
    parser.add_argument(
        "--resume",
        default="auto",
        metavar="auto|never|DIR",
        help="go on where --out (or DIR) stopped",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="start anew in --out, and remove what a run left there"
    )
    parser.add_argument(
        "--init",
        metavar="FILE",
        help="start from a generator's weights: ours, a released one's name, latest_net_G.pth",
    )
    parser.add_argument(
        "--allow-change",
        nargs="+",
        default=[],
        metavar="KEY",
        help="go on with other values of these options, such as train.learning_rate",
    )
    parser.add_argument("--max_memory", metavar="SIZE", help=MAX_MEMORY)
    parser.add_argument("--version", action="version", version=f"steadypix {version()}")
    config, rest = parse(parser, argv)
    allow(rest.max_memory)
    name = Path(str(rest.config[0])).stem if rest.config else "run"
    resumed = rest.resume if rest.resume not in ("auto", "never") else None
    out = Path(rest.out or resumed or f"checkpoints/{name}-{config.generator.sampling}")
    check_allowed(rest.allow_change)
    require_text(out, "--out")
    hold(out)
    return train(
        config,
        out,
        resume=rest.resume,
        init=rest.init,
        allow_change=rest.allow_change,
        overwrite=rest.overwrite,
    )


def train(
    config: RunConfig,
    out: Path,
    *,
    resume: str = "auto",
    init: str | None = None,
    allow_change: Collection[str] = (),
    overwrite: bool = False,
) -> int:
    """Train until the last epoch, or until stopped.

    Args:
        config: the whole run.
        out: run directory; docs/architecture.md lists its files.
        resume: `auto` goes on from `out` if it holds a run, `never` refuses to; a folder names a run to
            branch off from, until `out` has a state of its own.
        init: a generator whose weights to start from, whatever its sampling.
        allow_change: options that may differ from those of the run that goes on, see
            `steadypix.configs.resume.CHANGEABLE_KEYS`.
        overwrite: start anew, and remove the run in `out` once nothing is left that could stop this one.

    Returns:
        0.

    Raises:
        InputError: if the run in `out` was made with another configuration, or from other data, or several
            processes see different pictures.
        TooLargeError: if the run would take more memory than it may.
        TrainingError: if a loss is not finite, memory runs out, or a process that is needed has gone.
    """
    require_training(config, on_gpu=config.device != "cpu")
    import torch
    from tqdm import tqdm

    from steadypix.agreement import require_same
    from steadypix.checkpoints.determinism import make_deterministic, settle_threads
    from steadypix.checkpoints.progress import Progress
    from steadypix.data.pairs.content import content_of
    from steadypix.data.pairs.sampler import EpochSampler, ignore_signals
    from steadypix.gen.kernels.allocator import keep_freed_memory
    from steadypix.gen.training.failures import failures_explained
    from steadypix.gen.training.schedules import Plateau, lr_factor, set_learning_rate
    from steadypix.gen.training.step import Pix2PixStep

    # ---- set up -------------------------------------------------------------------------------------
    start_from = find_state(out, resume, overwrite=overwrite)
    if config.train.deterministic:
        make_deterministic()
    accelerator = make_accelerator(config, out)
    device, settings = accelerator.device, config.train
    keep_freed_memory()
    # Every window has the same size; which algorithm wins a benchmark is a matter of chance.
    torch.backends.cudnn.benchmark = device.type == "cuda" and not settings.deterministic
    torch.manual_seed(config.seed)
    pairs, validation = open_data(config)
    require_training(config, n_pairs=len(pairs), on_gpu=device.type == "cuda")
    content = content_of(pairs)
    agree(accelerator, content.require_same)
    a_step, an_epoch = count_samples(config, pairs, accelerator.num_processes)
    networks = build_networks(config, device, init)
    step, optimizers = build_step(config, accelerator, networks)

    # ---- resume ---------------------------------------------------------------------------------------
    progress = Progress(plateau=Plateau(patience=settings.patience))
    run = Run(config, out, networks, optimizers, accelerator, an_epoch, content, step.settle)
    if start_from:
        restored = restore(start_from, run.facts, content, networks, optimizers, allow_change)
        progress, run.changes = restored.progress, restored.changes
        remark = settle_threads(restored.threads, deterministic=settings.deterministic, device=device.type)
        if remark:
            run.say(f"{out}: {remark}")
        for change in run.changes:
            if change.get("seen") == progress.seen:
                run.say(f"{out}: {change['key']} changes from {change['from']} to {change['to']}")
        progress.plateau.patience = settings.patience
    agree(accelerator, functools.partial(require_same, {"the sample to go on from": progress.seen}))
    if progress.epoch >= settings.epochs:
        run.say(f"{out}: already trained for {progress.epoch} epochs")
        return 0
    if accelerator.is_main_process:
        if validation is not None:  # a picture that cannot be read should stop the run now, not in an hour
            for _ in validation.canvases(settings.val_limit):
                pass
        if overwrite:
            run.directory.clear()
        run.begin(progress)
        run.say(f"{out}: {describe_data(config, pairs, validation)}")

    # ---- train ----------------------------------------------------------------------------------------
    sampler = EpochSampler(
        len(pairs),
        config.batch_size,
        seed=config.seed,
        accumulate=settings.accumulate,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
    )
    # One loader for the whole run: its workers live on and keep the pictures they have decoded.
    loader = torch.utils.data.DataLoader(
        pairs,
        batch_sampler=sampler,
        num_workers=config.workers,
        worker_init_fn=ignore_signals,
        persistent_workers=config.workers > 0,
        pin_memory=config.data.pin_memory and device.type == "cuda",
    )
    bar = tqdm(
        total=settings.epochs * an_epoch,
        initial=progress.epoch * an_epoch + progress.place,
        unit="img",
        disable=not accelerator.is_main_process,
        mininterval=progress_interval_s(),
    )
    numbers = number_format(config)
    stop, stopping = StopRequest(), False
    with stop.listening(), bar, failures_explained(lambda: progress.seen):
        while progress.epoch < settings.epochs:
            factor = progress.plateau.factor * lr_factor(
                settings.lr_policy,
                progress.epoch,
                epochs=settings.epochs,
                decay_epochs=settings.epochs // 2 if settings.decay_epochs is None else settings.decay_epochs,
                step_epochs=settings.step_epochs,
            )
            for optimizer in optimizers.values():
                set_learning_rate(optimizer, settings.learning_rate * factor)
            if isinstance(step, Pix2PixStep):  # a captured one has no such loss
                begun = progress.epoch >= config.loss.equivariance_start * settings.epochs
                step.equivariance = config.loss.equivariance if begun else 0.0
            sampler.enter(progress.epoch, start=progress.place)
            # A step takes `accumulate` batches in turn.
            for batches in zip(*[iter(loader)] * settings.accumulate, strict=False):
                run.count_skipped(batches)
                # Dropout depends on (seed, place, batch) alone: resuming needs no generator's state.
                first = accelerator.process_index * settings.accumulate
                seeds = [hash_seed(config.seed, progress.seen, first + i) for i in range(len(batches))]
                losses = step([on_device(batch, device, *numbers) for batch in batches], seeds)
                run.average()
                progress.advance(a_step)
                run.log(progress, losses, factor, bar)
                bar.update(a_step)
                if stopping := must_stop(stop, accelerator):
                    break
                # Not at the epoch's end, which would be done again by a run that goes on from there.
                if progress.place < an_epoch and run.save_is_due():
                    run.save(progress)
            if stopping:
                run.save(progress)
                run.say(
                    f"{out}: saved in epoch {progress.epoch + 1} of {settings.epochs}, after {progress.seen} "
                    f"samples; the same command{' without --overwrite' if overwrite else ''} goes on"
                )
                accelerator.end_training()  # trackers write what they hold
                stop.leave()
            progress.end_epoch()
            run.end_epoch(progress, validation)
    run.say(f"{out}: done, {settings.epochs} epochs")
    accelerator.end_training()
    return 0


# ---- the parts of a run -----------------------------------------------------------------------------------


def on_device(
    batch: Mapping[str, Any], device: torch.device, dtype: torch.dtype, layout: torch.memory_format
) -> dict[str, Any]:
    """Return the tensors of a batch where they are needed; shifts as pairs of whole numbers."""
    moved: dict[str, Any] = {
        key: batch[key].to(device, dtype, non_blocking=True, memory_format=layout)
        for key in ("input", "target", "moved")
        if key in batch
    }
    if "shift" in batch:
        moved["shift"] = [(dx, dy) for dx, dy in batch["shift"].tolist()]
    return moved


def must_stop(stop: StopRequest, accelerator: Accelerator) -> bool:
    """Whether any process was asked to stop. All have to leave after the same step."""
    if accelerator.num_processes == 1:
        return stop.signal is not None
    if stop.signal is not None:
        accelerator.set_trigger()
    return accelerator.check_trigger()


if __name__ == "__main__":
    sys.exit(main())
