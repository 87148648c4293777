"""Train a pix2pix generator, anti-aliased or plain: `train_pix2pix --config demo`.

The same command again goes on where the run stopped. Under `torchrun` every process takes its share.
Nothing heavy is imported until work starts, so `--help` is instant.
"""

from __future__ import annotations

import dataclasses
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from checkpoints.resume import find_state, restore
from checkpoints.run_directory import RunDirectory
from configs.load import ConfigError, build_parser, parse, to_yaml
from configs.schema import DiscriminatorConfig, RunConfig
from data.command import StopRequest, command, progress_interval_s, version

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from torch import Tensor, nn

    from checkpoints.progress import Progress
    from data.pairs import Pairs

BEST_FILE = "generator-best.safetensors"


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
    parser.add_argument("--init", metavar="FILE", help="start from a generator's weights (retrofit)")
    parser.add_argument("--version", action="version", version=f"steadypix {version()}")
    config, rest = parse(parser, argv)
    name = Path(str(rest.config[0])).stem if rest.config else "run"
    resumed = rest.resume if rest.resume not in ("auto", "never") else None
    out = Path(rest.out or resumed or f"checkpoints/{name}-{config.generator.sampling}")
    return train(config, out, resume=rest.resume, init=rest.init)


def train(config: RunConfig, out: Path, *, resume: str = "auto", init: str | None = None) -> int:
    """Train until the last epoch, or until stopped.

    Args:
        config: the whole run.
        out: run directory; docs/architecture.md lists its files.
        resume: `auto` goes on from `out` if it holds a run, `never` refuses to; a folder names a run to
            branch off from, until `out` has a state of its own.
        init: a generator whose weights to start from, whatever its sampling.

    Returns:
        0.

    Raises:
        ConfigError: if the run in `out` was made with another configuration, or from other data.
        TrainingError: if a loss is not finite, memory runs out, or a process that is needed has gone.
    """
    import torch
    from accelerate import Accelerator
    from torch import nn
    from tqdm import tqdm

    from checkpoints.progress import Progress
    from data.sampler import EpochSampler, ignore_signals
    from data.source import fingerprint, open_pairs
    from gen.allocator import keep_freed_memory
    from gen.captured import CapturedStep, make_adam
    from gen.checkpoint import load_weights
    from gen.ema import make_ema
    from gen.failures import failures_explained
    from gen.norms import synchronise
    from gen.schedules import Plateau, lr_factor, set_learning_rate
    from gen.step import Pix2PixStep
    from gen.unet import UNetGenerator

    # ---- set up -------------------------------------------------------------------------------------
    start_from = find_state(out, resume)
    accelerator = make_accelerator(Accelerator, config)
    world, device = accelerator.num_processes, accelerator.device
    keep_freed_memory()
    torch.backends.cudnn.benchmark = device.type == "cuda"  # every window has the same size
    torch.manual_seed(config.seed)
    settings, data = config.train, config.data
    source = data.root or f"synthetic-{data.synthetic}"
    options: dict[str, Any] = {
        "direction": data.direction,
        "load_size": data.load_size,
        "crop_size": data.crop_size,
        "input_channels": config.generator.in_channels,
        "output_channels": config.generator.out_channels,
        "cache": data.cache,
        "on_error": data.on_error,
    }
    pairs = open_pairs(
        source,
        data.train_split,
        synthetic_count=data.synthetic_count,
        flip=data.flip,
        seed=config.seed,
        shift_px=config.loss.equivariance_px if config.loss.equivariance else 0,
        **options,
    )
    validation = None
    if settings.val_every or settings.sample_every:
        validation = open_pairs(source, data.val_split, synthetic_count=settings.val_limit, **options)
    a_step = config.batch_size * settings.accumulate * world
    an_epoch = len(pairs) - len(pairs) % a_step
    if an_epoch == 0:
        raise ConfigError(f"{source}: {len(pairs)} pairs do not fill one step of {a_step}")

    # ---- networks and optimisers ----------------------------------------------------------------------
    generator = UNetGenerator(**dataclasses.asdict(config.generator))
    channels = config.generator.in_channels + config.generator.out_channels
    discriminator = build_discriminator(config.discriminator, channels, data.crop_size)
    if init:
        load_weights(generator, init)
    dtype = torch.float64 if settings.precision == "fp64" else torch.float32
    layout = torch.channels_last if settings.channels_last else torch.preserve_format
    for network in (generator, discriminator):
        network.to(device, dtype)
        if settings.channels_last:
            nn.utils.convert_conv2d_weight_memory_format(network, layout)
    generator.checkpointing = settings.checkpointing
    networks: dict[str, nn.Module] = {"generator": generator, "discriminator": discriminator}
    ema = make_ema(generator, settings.ema) if settings.ema else None
    if ema:
        networks["ema"] = ema
    if world > 1:
        for name in ("generator", "discriminator"):
            networks[name] = synchronise(networks[name], device_type=device.type)
    captured = settings.capture and device.type == "cuda" and world == 1
    adam: dict[str, Any] = {
        "learning_rate": settings.learning_rate,
        "betas": (settings.beta1, settings.beta2),
        "captured": captured,
    }
    optimizers: dict[str, torch.optim.Optimizer] = {
        "adam_g": make_adam(networks["generator"], **adam),
        "adam_d": make_adam(networks["discriminator"], **adam),
    }
    # prepare() wraps for several processes; what `networks` holds stays bare.
    bare = [networks["generator"], networks["discriminator"]]
    with warnings.catch_warnings():
        # Newer torch has another name for it, which accelerate does not pass on yet.
        warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated", category=FutureWarning)
        prepared = accelerator.prepare(*map(torch.compile, bare) if settings.compile else bare)
    eager = Pix2PixStep(
        accelerator,
        *prepared,
        *accelerator.prepare(*optimizers.values()),
        gan=config.loss.gan,
        lambda_l1=config.loss.lambda_l1,
        equivariance=config.loss.equivariance,
        margin_px=data.crop_size // 16,
        precision=settings.precision,
        together=config.discriminator.norm != "batch",
    )
    step = CapturedStep(eager) if captured else eager

    # ---- resume ---------------------------------------------------------------------------------------
    progress = Progress(plateau=Plateau(patience=settings.patience))
    run = Run(config, out, networks, optimizers, accelerator, an_epoch, fingerprint(pairs), step.settle)
    if start_from:
        progress = restore(start_from, run.facts, networks, optimizers)
        progress.plateau.patience = settings.patience
    if progress.epoch >= settings.epochs:
        run.say(f"{out}: already trained for {progress.epoch} epochs")
        return 0
    if accelerator.is_main_process:
        if validation is not None:  # a picture that cannot be read should stop the run now, not in an hour
            for _ in validation.canvases(settings.val_limit):
                pass
        run.begin(progress)

    # ---- train ----------------------------------------------------------------------------------------
    sampler = EpochSampler(
        len(pairs),
        config.batch_size,
        seed=config.seed,
        accumulate=settings.accumulate,
        rank=accelerator.process_index,
        world_size=world,
    )
    # One loader for the whole run: its workers live on and keep the pictures they have decoded.
    loader = torch.utils.data.DataLoader(
        pairs,
        batch_sampler=sampler,
        num_workers=config.workers,
        worker_init_fn=ignore_signals,
        persistent_workers=config.workers > 0,
        pin_memory=data.pin_memory and device.type == "cuda",
    )
    bar = tqdm(
        total=settings.epochs * an_epoch,
        initial=progress.epoch * an_epoch + progress.place,
        unit="img",
        disable=not accelerator.is_main_process,
        mininterval=progress_interval_s(),
    )
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
            sampler.enter(progress.epoch, start=progress.place)
            # A step takes `accumulate` batches in turn.
            for batches in zip(*[iter(loader)] * settings.accumulate, strict=False):
                run.count_skipped(batches)
                # Dropout depends on (seed, place, batch) alone: resuming needs no generator's state.
                first = accelerator.process_index * settings.accumulate
                seeds = [hash_seed(config.seed, progress.seen, first + i) for i in range(len(batches))]
                losses = step([on_device(batch, device, dtype, layout) for batch in batches], seeds)
                if ema:
                    ema.update_parameters(networks["generator"])
                progress.advance(a_step)
                run.log(progress, losses, factor, bar)
                bar.update(a_step)
                if stopping := must_stop(stop, accelerator):
                    break
                if run.save_is_due():
                    run.save(progress)
            if stopping:
                run.save(progress)
                run.say(
                    f"{out}: saved in epoch {progress.epoch + 1} of {settings.epochs}, after {progress.seen} "
                    "samples; the same command goes on"
                )
                stop.leave()
            progress.end_epoch()
            run.end_epoch(progress, validation)
    run.say(f"{out}: done, {settings.epochs} epochs")
    accelerator.end_training()
    return 0


# ---- the parts of a run -----------------------------------------------------------------------------------


def build_discriminator(config: DiscriminatorConfig, in_channels: int, crop_px: int) -> nn.Module:
    """Build the discriminator for input and image together.

    Raises:
        ConfigError: if windows of `crop_px` are too small for it.
    """
    import torch

    from gen.patchgan import PatchDiscriminator, PixelDiscriminator

    def build() -> nn.Module:
        if config.kind == "pixel":
            return PixelDiscriminator(in_channels, ndf=config.ndf, norm=config.norm)
        return PatchDiscriminator(
            in_channels,
            ndf=config.ndf,
            n_layers=config.n_layers,
            norm=config.norm,
            filter=config.filter,
            input_filter=config.input_filter,
        )

    try:
        with torch.device("meta"):  # shapes alone, no arithmetic
            build()(torch.empty(2, in_channels, crop_px, crop_px))
    except (RuntimeError, ValueError):
        raise ConfigError(
            f"discriminator.n_layers {config.n_layers}: too many for a data.crop_size of {crop_px} px"
        ) from None
    return build()


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


def hash_seed(*parts: int) -> int:
    """Mix integers into one 63-bit seed; near inputs give unrelated streams."""
    import numpy as np

    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)


def must_stop(stop: StopRequest, accelerator: Accelerator) -> bool:
    """Whether any process was asked to stop. All have to leave after the same step."""
    if accelerator.num_processes == 1:
        return stop.signal is not None
    if stop.signal is not None:
        accelerator.set_trigger()
    return accelerator.check_trigger()


# ---- where a run starts ---------------------------------------------------------------------------------


def make_accelerator(accelerator_class: type[Accelerator], config: RunConfig) -> Accelerator:
    """Build the accelerator for `config.device`, which must exist."""
    import torch
    from accelerate.utils import DistributedDataParallelKwargs

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(config.device, True):
        raise ConfigError(f"device: {config.device} is not available here; expected auto or cpu")
    return accelerator_class(
        cpu=config.device == "cpu",
        # Buffers are the same everywhere: blur taps are constants, statistics are synchronised.
        kwargs_handlers=[
            DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True)
        ],
    )


# ---- a run and what it writes ---------------------------------------------------------------------------


class Run:
    """A training between its loop and its directory: state in, metrics, pictures and checkpoints out."""

    def __init__(
        self,
        config: RunConfig,
        out: Path,
        networks: dict[str, nn.Module],
        optimizers: dict[str, torch.optim.Optimizer],
        accelerator: Accelerator,
        an_epoch: int,
        data: str,
        settle: Callable[[], None],
    ) -> None:
        self.config = config
        self.networks = networks
        self.optimizers = optimizers
        self.accelerator = accelerator
        self.an_epoch = an_epoch
        self.settle = settle  # before anything is made of the weights or the losses
        self.a_step = config.batch_size * config.train.accumulate * accelerator.num_processes
        # What a command that goes on is held against.
        self.facts = {
            "config": dataclasses.asdict(config),
            "a_step": self.a_step,
            "processes": accelerator.num_processes,
            "data": data,
        }
        self.directory = RunDirectory(out, config=self.facts["config"], tensorboard=config.train.tensorboard)
        self._sums: dict[str, Tensor] = {}
        self._steps = 0
        self._since = self._saved_at = time.monotonic()
        self._validated: dict[str, Any] = {}
        self._unreadable: set[str] = set()
        self._skipped = 0

    @property
    def shown(self) -> nn.Module:
        """The generator that is looked at and saved: the average, where there is one."""
        ema = self.networks.get("ema")
        return self.networks["generator"] if ema is None else ema.get_submodule("module")

    def say(self, message: str) -> None:
        """Print a message once, on stderr."""
        from tqdm import tqdm

        if self.accelerator.is_main_process:
            tqdm.write(message, file=sys.stderr)  # above the progress bar, not into it

    def begin(self, progress: Progress) -> None:
        """Make the directory and say what is going to happen."""
        self.directory.begin(config_yaml=to_yaml(self.config), seen=progress.seen)
        weights = sum(p.numel() for p in self.networks["generator"].parameters())
        where = f"from sample {progress.seen}" if progress.seen else "from scratch"
        shape = self.config.generator
        self.say(
            f"{self.directory.path}: {shape.sampling} {shape.filter}, {weights / 1e6:.2f} M weights, "
            f"{self.an_epoch} pairs an epoch, {where}, on {self.accelerator.device}"
        )
        self._since = self._saved_at = time.monotonic()

    def count_skipped(self, batches: Sequence[Mapping[str, Any]]) -> None:
        """Name every unreadable pair once, and count the samples that others stand in for."""
        for batch in batches:
            for reasons in filter(None, batch["skipped"]):
                self._skipped += 1
                for reason in reasons.splitlines():
                    if reason not in self._unreadable:
                        self._unreadable.add(reason)
                        print(f"skipped: {reason}", file=sys.stderr)

    def log(self, progress: Progress, losses: dict[str, Tensor], factor: float, bar: Any) -> None:
        """Add a step; every `log_every_steps` write the means since the last line."""
        if not self.accelerator.is_main_process:
            return
        for key, loss in losses.items():
            self._sums[key] = self._sums.get(key, 0) + loss
        self._steps += 1
        if (progress.seen // self.a_step) % self.config.train.log_every_steps:
            return
        self.settle()
        means = {key: value.item() / self._steps for key, value in self._sums.items()}
        now = time.monotonic()
        row = {
            **means,
            "learning_rate": self.config.train.learning_rate * factor,
            "images_per_s": round(self._steps * self.a_step / max(now - self._since, 1e-9), 2),
        }
        self._write_row("train", progress, row)
        shown = {key.removeprefix("loss_"): f"{v:.3f}" for key, v in means.items()}
        bar.set_postfix(shown, refresh=False)
        self._sums, self._steps, self._since = {}, 0, now

    def end_epoch(self, progress: Progress, validation: Pairs | None) -> None:
        """Validate, draw samples and save, each when its epoch has come."""
        from eval.validation import draw_samples, validate

        self.settle()
        settings, epoch = self.config.train, progress.epoch
        last = epoch == settings.epochs
        if self.accelerator.is_main_process:
            if validation is not None and due(epoch, settings.val_every, last):
                self._validated.update(validate(self.shown, validation, limit=settings.val_limit))
                self._write_row("val", progress, self._validated)
                figures = ", ".join(f"{k} {v:.4g}" for k, v in self._validated.items() if v is not None)
                self.say(f"epoch {epoch}: {figures}")
                progress.plateau.update(self._validated["val_l1"])
                self._keep_best(progress)
            if validation is not None and due(epoch, settings.sample_every, last):
                draw_samples(
                    self.shown, validation, self.directory.path / "samples" / f"epoch-{epoch:04d}.png"
                )
            if due(epoch, settings.keep_every, last=False):
                self._save_generator(f"generator-{epoch:04d}.safetensors", progress)
        self._share_plateau(progress)
        if due(epoch, settings.save_every, last):
            self.save(progress)
        self._say_skipped(epoch)
        self.accelerator.wait_for_everyone()
        self._since = time.monotonic()  # images_per_s is of training alone

    def save_is_due(self) -> bool:
        """Whether more of an epoch has passed than a kill should cost."""
        every_s = self.config.train.save_every_s
        return 0 < every_s <= time.monotonic() - self._saved_at

    def save(self, progress: Progress) -> None:
        """Write the generator, then the state to go on from. Each file is replaced in one instant."""
        from gen.checkpoint import GENERATOR_FILE
        from gen.state import pack_state

        self.settle()
        if self.accelerator.is_main_process:
            self._save_generator(GENERATOR_FILE, progress)
            metadata = {**self.facts, "progress": progress.to_json()}
            self.directory.save_state(pack_state(self.networks, self.optimizers), metadata)
        self._saved_at = time.monotonic()

    def _keep_best(self, progress: Progress) -> None:
        by = self.config.train.best_by
        score = {"l1": "val_l1", "stability": "val_stability_db"}
        value = self._validated[score[by]] if by else None
        if by is None or value is None:
            return
        if progress.is_best(-value if by == "stability" else value, by):
            self._save_generator(BEST_FILE, progress)

    def _share_plateau(self, progress: Progress) -> None:
        """Only the main process validates; the others take over its learning rate."""
        if self.config.train.lr_policy == "plateau" and self.accelerator.num_processes > 1:
            from accelerate.utils import broadcast_object_list

            progress.plateau = broadcast_object_list([progress.plateau])[0]

    def _say_skipped(self, epoch: int) -> None:
        import torch

        if self.config.data.on_error == "skip":
            count = torch.tensor(self._skipped, device=self.accelerator.device)
            if total := int(self.accelerator.reduce(count)):
                self.say(f"epoch {epoch}: others stood in for {total} samples that cannot be read")
            self._skipped = 0

    def _save_generator(self, name: str, progress: Progress) -> None:
        import torch

        provenance = {
            "steadypix": version(),
            "torch": torch.__version__,
            "epoch": progress.epoch + progress.place / self.an_epoch,
            "seen": progress.seen,
            "averaged": "ema" in self.networks,
            "validation": self._validated,
        }
        self.directory.save_generator(name, self.shown, provenance=provenance)

    def _write_row(self, kind: str, progress: Progress, values: dict[str, Any]) -> None:
        epoch = progress.epoch + progress.place / self.an_epoch
        self.directory.write_row(kind, seen=progress.seen, epoch=epoch, values=values)


def due(epoch: int, every: int, last: bool) -> bool:
    """Whether something done `every` epochs (0: never) is done now; always at the end."""
    return every > 0 and (last or epoch % every == 0)


if __name__ == "__main__":
    sys.exit(main())
