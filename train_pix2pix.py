"""Train a pix2pix generator, anti-aliased or plain: `train_pix2pix --config demo`.

The same command again goes on where the run stopped. Under `torchrun` every process takes its share.
Nothing heavy is imported until work starts, so `--help` is instant.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.load import ConfigError, build_parser, parse, to_yaml
from configs.schema import DiscriminatorConfig, RunConfig
from data.command import StopRequest, command, progress_interval_s, version
from data.files import write_whole

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from torch import Tensor, nn

    from data.pairs import Pairs

# What a run may be gone on with differently: it changes no step that is still to come.
FREE_KEYS = {"workers", "device", "data.root", "data.cache", "train.epochs", "train.val_limit"}
FREE_KEYS |= {f"train.{key}" for key in ("save_every", "keep_every", "sample_every", "val_every")}
FREE_KEYS |= {"train.log_every_steps"}


class TrainingError(RuntimeError):
    """A run that cannot go on."""

    exit_code = 1


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
        ConfigError: if the run in `out` was made with another configuration.
        TrainingError: if a loss is not finite.
    """
    import torch
    from accelerate import Accelerator
    from tqdm import tqdm

    from data.sampler import EpochSampler, ignore_signals
    from data.source import open_pairs
    from gen.checkpoint import load_weights
    from gen.losses import discriminator_loss, generator_loss
    from gen.unet import UNetGenerator

    # ---- set up -------------------------------------------------------------------------------------
    start_from = find_state(out, resume)
    accelerator = make_accelerator(Accelerator, config)
    torch.manual_seed(config.seed)
    data = config.data
    source = data.root or f"synthetic-{data.synthetic}"
    options: dict[str, Any] = {
        "direction": data.direction,
        "load_size": data.load_size,
        "crop_size": data.crop_size,
        "input_channels": config.generator.in_channels,
        "output_channels": config.generator.out_channels,
        "cache": data.cache,
    }
    pairs = open_pairs(
        source,
        data.train_split,
        synthetic_count=data.synthetic_count,
        flip=data.flip,
        seed=config.seed,
        **options,
    )
    validation = None
    if config.train.val_every or config.train.sample_every:
        validation = open_pairs(source, data.val_split, synthetic_count=config.train.val_limit, **options)

    # ---- networks and optimisers ----------------------------------------------------------------------
    generator = UNetGenerator(**dataclasses.asdict(config.generator))
    channels = config.generator.in_channels + config.generator.out_channels
    discriminator = build_discriminator(config.discriminator, channels, config.data.crop_size)
    if init:
        load_weights(generator, init)
    adam: dict[str, Any] = {
        "lr": config.train.learning_rate,
        "betas": (config.train.beta1, config.train.beta2),
    }
    networks: dict[str, nn.Module] = {"generator": generator, "discriminator": discriminator}
    # prepare() wraps for several processes; `generator` and `discriminator` stay the bare modules.
    ddp_generator, ddp_discriminator = accelerator.prepare(generator, discriminator)
    optimizers: dict[str, torch.optim.Optimizer] = {
        "adam_g": torch.optim.Adam(generator.parameters(), fused=True, **adam),
        "adam_d": torch.optim.Adam(discriminator.parameters(), fused=True, **adam),
    }
    adam_g, adam_d = accelerator.prepare(*optimizers.values())

    # ---- resume ---------------------------------------------------------------------------------------
    seen = restore(start_from, config, networks, optimizers) if start_from else 0
    world = accelerator.num_processes
    a_batch = config.batch_size * world
    an_epoch = len(pairs) - len(pairs) % a_batch
    if an_epoch == 0:
        raise ConfigError(f"{source}: {len(pairs)} pairs do not fill one batch of {a_batch}")
    run = Run(config, out, networks, optimizers, accelerator, an_epoch)
    if seen >= config.train.epochs * an_epoch:
        run.say(f"{out}: already trained for {seen // an_epoch} epochs")
        return 0
    if accelerator.is_main_process:
        if validation is not None:  # a picture that cannot be read should stop the run now, not in an hour
            for index in range(min(config.train.val_limit, len(validation))):
                validation.canvas(index)
        run.begin(seen)

    # ---- train ----------------------------------------------------------------------------------------
    stop, stopping = StopRequest(), False
    total = config.train.epochs * an_epoch
    sampler = EpochSampler(
        len(pairs),
        config.batch_size,
        seed=config.seed,
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
        pin_memory=accelerator.device.type == "cuda",
    )
    progress = tqdm(
        total=total,
        initial=seen,
        unit="img",
        disable=not accelerator.is_main_process,
        mininterval=progress_interval_s(),
    )
    with stop.listening(), progress:
        while seen < total:
            epoch, place = divmod(seen, an_epoch)
            for optimizer in optimizers.values():
                for group in optimizer.param_groups:
                    group["lr"] = config.train.learning_rate * lr_factor(config, epoch)
            sampler.enter(epoch, start=place)
            for batch in loader:
                # Dropout depends on (seed, place, rank) alone: resuming needs no generator state.
                torch.manual_seed(hash_seed(config.seed, seen, accelerator.process_index))
                x = batch["input"].to(accelerator.device, non_blocking=True)
                y = batch["target"].to(accelerator.device, non_blocking=True)
                fake = ddp_generator(x)

                # Discriminator: tell (x, y) from (x, G(x)); no gradient into the generator.
                real_logits, fake_logits = judge(
                    ddp_discriminator,
                    x,
                    y,
                    fake.detach(),
                    together=config.discriminator.norm != "batch",
                )
                loss_d = discriminator_loss(real_logits, fake_logits, mode=config.loss.gan)
                require_finite("discriminator", loss_d, seen)
                adam_d.zero_grad()
                accelerator.backward(loss_d)
                adam_d.step()

                # Generator: fool the updated discriminator, stay near the target. The bare module, because
                # a wrapped one would wait for a reduction of gradients that are switched off here.
                discriminator.requires_grad_(False)
                with accelerator.autocast():
                    logits = discriminator(torch.cat([x, fake], dim=1))
                loss_gan = generator_loss(logits.float(), mode=config.loss.gan)
                loss_l1 = torch.nn.functional.l1_loss(fake.float(), y)
                loss_g = loss_gan + config.loss.lambda_l1 * loss_l1
                require_finite("generator", loss_g, seen)
                adam_g.zero_grad()
                accelerator.backward(loss_g)
                adam_g.step()
                discriminator.requires_grad_(True)

                seen += a_batch
                losses = {"loss_d": loss_d, "loss_gan": loss_gan, "loss_l1": loss_l1}
                run.log(seen, losses, progress)
                progress.update(a_batch)
                if stopping := must_stop(stop, accelerator):
                    break
            if stopping:
                run.save(seen)
                run.say(f"{out}: saved after {seen} of {total} samples; the same command goes on")
                stop.leave()
            # Gone on with another number of processes, an epoch may end in a tail that fills no batch.
            seen = (epoch + 1) * an_epoch
            run.end_epoch(epoch + 1, seen, validation)
    run.say(f"{out}: done, {config.train.epochs} epochs")
    return 0


# ---- the parts of a step --------------------------------------------------------------------------------


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
        )

    try:
        with torch.device("meta"):  # shapes alone, no arithmetic
            build()(torch.empty(2, in_channels, crop_px, crop_px))
    except (RuntimeError, ValueError):
        raise ConfigError(
            f"discriminator.n_layers {config.n_layers}: too many for a data.crop_size of {crop_px} px"
        ) from None
    return build()


def judge(
    discriminator: nn.Module, x: Tensor, real: Tensor, fake: Tensor, *, together: bool
) -> tuple[Tensor, Tensor]:
    """Return logits for the real and the fake pairs.

    One pass over both is the same as two for every norm that looks at one sample at a time, and cheaper;
    batch norm's statistics would mix them.
    """
    import torch

    pairs = [torch.cat([x, picture], dim=1) for picture in (real, fake)]
    if not together:
        first, second = (discriminator(pair).float() for pair in pairs)
        return first, second
    first, second = discriminator(torch.cat(pairs)).float().chunk(2)
    return first, second


def lr_factor(config: RunConfig, epoch: int) -> float:
    """Return the learning rate's factor in an epoch: 1, then linearly towards 0 at the end."""
    decay = config.train.epochs // 2 if config.train.decay_epochs is None else config.train.decay_epochs
    constant = config.train.epochs - decay
    return 1.0 - max(0, epoch + 1 - constant) / (decay + 1)


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


def require_finite(which: str, loss: Tensor, seen: int) -> None:
    """Stop before an update would write NaN into the weights. On a GPU this waits for the loss."""
    if not loss.isfinite():
        raise TrainingError(
            f"the {which}'s loss is {loss.item()} after {seen} samples; stopped before the update. "
            "Try a smaller train.learning_rate, or train.precision fp32"
        )


# ---- where a run starts ---------------------------------------------------------------------------------


def make_accelerator(accelerator_class: type[Accelerator], config: RunConfig) -> Accelerator:
    """Build the accelerator for `config.device`, which must exist."""
    import torch

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(config.device, True):
        raise ConfigError(f"device: {config.device} is not available here; expected auto or cpu")
    return accelerator_class(
        cpu=config.device == "cpu",
        mixed_precision="bf16" if config.train.precision == "bf16" else "no",
    )


def find_state(out: Path, resume: str) -> Path | None:
    """Return the state file to go on from, or None to start anew."""
    own = out / "last" / "state.safetensors"
    if resume == "auto":
        return own if own.exists() else None
    if resume == "never":
        if own.exists():
            raise ConfigError(f"{out}: holds a run already; expected an empty --out, or --resume auto")
        return None
    if own.exists():
        return own
    named = Path(resume) / "last" / "state.safetensors"
    if not named.exists():
        raise ConfigError(f"--resume {resume}: holds no run (no last/state.safetensors)")
    return named


def restore(
    path: Path,
    config: RunConfig,
    networks: dict[str, nn.Module],
    optimizers: dict[str, torch.optim.Optimizer],
) -> int:
    """Put a run's state back; return how many samples it has seen.

    Raises:
        ConfigError: naming the first key in which the run's configuration differs.
    """
    from gen.checkpoint import CheckpointError, read_tensors
    from gen.state import unpack_state

    tensors, metadata = read_tensors(path)
    if not isinstance(metadata.get("config"), dict) or not isinstance(metadata.get("seen"), int):
        raise CheckpointError(f"{path}: is no training state of train_pix2pix")
    ours, theirs = flatten(dataclasses.asdict(config)), flatten(metadata["config"])
    for key in sorted(ours.keys() | theirs.keys()):
        if key not in FREE_KEYS and ours.get(key) != theirs.get(key):
            raise ConfigError(
                f"{key}: the run in {path.parent.parent} has {theirs.get(key)}, "
                f"this command {ours.get(key)}; expected the same, or another --out"
            )
    if not all(any(key.startswith(f"{name}/") for key in tensors) for name in optimizers):
        raise CheckpointError(f"{path}: lacks an optimiser's state; the run cannot go on from it")
    try:
        unpack_state(tensors, networks, optimizers)
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path}: does not fit ({error})") from None
    return metadata["seen"]


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested dicts into one with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


# ---- what a run writes ----------------------------------------------------------------------------------


class Run:
    """The run directory: config.yaml, metrics.jsonl, samples/, generator.safetensors, last/."""

    def __init__(
        self,
        config: RunConfig,
        out: Path,
        networks: dict[str, nn.Module],
        optimizers: dict[str, torch.optim.Optimizer],
        accelerator: Accelerator,
        an_epoch: int,
    ) -> None:
        self.config = config
        self.out = out
        self.networks = networks
        self.optimizers = optimizers
        self.accelerator = accelerator
        self.an_epoch = an_epoch
        self._sums: dict[str, Tensor] = {}
        self._steps = 0
        self._since = time.perf_counter()
        self._validated: dict[str, Any] = {}

    def say(self, message: str) -> None:
        """Print a message once, on stderr."""
        from tqdm import tqdm

        if self.accelerator.is_main_process:
            tqdm.write(message, file=sys.stderr)  # above the progress bar, not into it

    def begin(self, seen: int) -> None:
        """Make the directory; drop metrics that a resumed run will write again."""
        self.out.mkdir(parents=True, exist_ok=True)
        write_whole(self.out / "config.yaml", lambda temporary: temporary.write_text(to_yaml(self.config)))
        metrics = self.out / "metrics.jsonl"
        rows = metrics.read_text().splitlines() if metrics.exists() else []
        kept = [row for row in rows if row.endswith("}") and json.loads(row)["seen"] <= seen]
        write_whole(metrics, lambda temporary: temporary.write_text("".join(f"{row}\n" for row in kept)))
        weights = sum(p.numel() for p in self.networks["generator"].parameters())
        where = f"from sample {seen}" if seen else "from scratch"
        shape = self.config.generator
        self.say(
            f"{self.out}: {shape.sampling} {shape.filter}, {weights / 1e6:.2f} M weights, "
            f"{self.an_epoch} pairs an epoch, {where}, on {self.accelerator.device}"
        )

    def log(self, seen: int, losses: dict[str, Tensor], progress: Any) -> None:
        """Add a step; every `log_every_steps` write the means since the last line."""
        if not self.accelerator.is_main_process:
            return
        for key, loss in losses.items():
            self._sums[key] = self._sums.get(key, 0) + loss.detach()
        self._steps += 1
        a_batch = self.config.batch_size * self.accelerator.num_processes
        if (seen // a_batch) % self.config.train.log_every_steps:
            return
        means = {key: value.item() / self._steps for key, value in self._sums.items()}
        now = time.perf_counter()
        rate = self._steps * a_batch / (now - self._since)
        self.write_row("train", seen, {**means, "images_per_s": round(rate, 2)})
        shown = {key.removeprefix("loss_"): f"{v:.3f}" for key, v in means.items()}
        progress.set_postfix(shown, refresh=False)
        self._sums, self._steps, self._since = {}, 0, now

    def write_row(self, kind: str, seen: int, values: dict[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        row = {"kind": kind, "seen": seen, "epoch": seen / self.an_epoch, **values}
        with open(self.out / "metrics.jsonl", "a") as file:
            file.write(json.dumps(row) + "\n")

    def end_epoch(self, epoch: int, seen: int, validation: Pairs | None) -> None:
        """Validate, draw samples and save, each when its epoch has come."""
        from eval.validation import draw_samples, validate

        generator = self.networks["generator"]
        if self.accelerator.is_main_process:
            train, last = self.config.train, epoch == self.config.train.epochs
            if validation is not None and due(epoch, train.val_every, last):
                self._validated = validate(generator, validation, limit=train.val_limit)
                self.write_row("val", seen, self._validated)
                figures = ", ".join(f"{k} {v:.4g}" for k, v in self._validated.items() if v is not None)
                self.say(f"epoch {epoch}: {figures}")
            if validation is not None and due(epoch, train.sample_every, last):
                sheet = self.out / "samples" / f"epoch-{epoch:04d}.png"
                draw_samples(generator, validation, sheet)
            if due(epoch, train.keep_every, last=False):
                self.save_generator(self.out / f"generator-{epoch:04d}.safetensors", seen)
            if due(epoch, train.save_every, last):
                self.save(seen)
        self.accelerator.wait_for_everyone()
        self._since = time.perf_counter()  # images_per_s is of training alone

    def save(self, seen: int) -> None:
        """Write the generator, then the state to go on from. Each file is replaced in one instant."""
        from gen.checkpoint import GENERATOR_FILE, write_tensors
        from gen.state import pack_state

        if self.accelerator.is_main_process:
            self.save_generator(self.out / GENERATOR_FILE, seen)
            metadata = {"config": dataclasses.asdict(self.config), "seen": seen}
            state = pack_state(self.networks, self.optimizers)
            write_tensors(self.out / "last" / "state.safetensors", state, metadata)

    def save_generator(self, path: Path, seen: int) -> None:
        """Write a generator that loads with no other file."""
        import torch

        from gen.checkpoint import save_generator

        provenance = {
            "steadypix": version(),
            "torch": torch.__version__,
            "run": self.out.name,
            "epoch": seen / self.an_epoch,
            "seen": seen,
            "validation": self._validated,
        }
        config = dataclasses.asdict(self.config)
        save_generator(path, self.networks["generator"], config=config, provenance=provenance)


def due(epoch: int, every: int, last: bool) -> bool:
    """Whether something done `every` epochs (0: never) is done now; always at the end."""
    return every > 0 and (last or epoch % every == 0)


if __name__ == "__main__":
    sys.exit(main())
