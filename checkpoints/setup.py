"""What a training starts with: its pictures, networks, optimisers and step, made from the configuration."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steadypix.command import why_not
from steadypix.configs.schema import DiscriminatorConfig, RunConfig
from steadypix.errors import InputError

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from torch import nn

    from steadypix.agreement import Everyone
    from steadypix.data.pairs.base import Pairs
    from steadypix.gen.training.captured import CapturedStep
    from steadypix.gen.training.step import Pix2PixStep


def make_accelerator(config: RunConfig, out: Path | None = None) -> Accelerator:
    """Build the accelerator for `config.device`, which must exist, and for the tracker, if there is one.

    Args:
        config: the whole run.
        out: where a tracker may write, in a folder `tracker`.

    Raises:
        InputError: if the device is not there, or the tracker's package.
    """
    import torch
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(config.device, True):
        raise InputError(
            f"device: {config.device} is not available here ({why_not(config.device)}); expected auto or cpu"
        )
    tracker = config.train.tracker
    if tracker and importlib.util.find_spec(tracker) is None:
        raise InputError(
            f"train.tracker {tracker}: its package is not installed; expected: pip install {tracker}"
        )
    return Accelerator(
        cpu=config.device == "cpu",
        log_with=tracker,
        project_dir=str(out / "tracker") if tracker and out else None,
        # Buffers are the same everywhere: blur taps are constants, statistics are synchronised.
        kwargs_handlers=[
            DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True)
        ],
    )


def open_data(config: RunConfig) -> tuple[Pairs, Pairs | None]:
    """Open the training pairs, and those for validation where anything looks at them.

    Where the data set has no folder for validation, a tenth of the pairs is held out, and never trained on,
    whether or not anything looks at it now: another part of the run may.
    """
    from steadypix.data.pairs.folders import HELD_OUT, must_hold_out
    from steadypix.data.pairs.opening import open_pairs

    data, settings = config.data, config.train
    source, val_split, hold_out_seed = source_of(config), data.val_split, None
    if data.root and must_hold_out(Path(data.root), data.train_split, data.val_split):
        val_split, hold_out_seed = HELD_OUT, config.seed
    options: dict[str, Any] = {
        "direction": data.direction,
        "load_size": data.load_size,
        "crop_size": data.crop_size,
        "input_channels": config.generator.in_channels,
        "output_channels": config.generator.out_channels,
        "resize": data.resize,
        "hold_out_seed": hold_out_seed,
        "cache": data.cache,
        "on_error": data.on_error,
    }
    pairs = open_pairs(
        source,
        data.train_split,
        synthetic_count=data.synthetic_count,
        flip=data.flip,
        lighting=data.lighting,
        seed=config.seed,
        shift_px=config.loss.equivariance_px if config.loss.equivariance else 0,
        perturb_moved=config.loss.equivariance_perturb,
        context_px=data.context_px,
        **options,
    )
    if val_split == "none" or not (settings.val_every or settings.sample_every):
        return pairs, None
    validation = open_pairs(source, val_split, synthetic_count=settings.val_limit, **options)
    return pairs, validation if len(validation) else None


def hash_seed(*parts: int) -> int:
    """Mix integers into one 63-bit seed, of a step; near inputs give unrelated streams."""
    import numpy as np

    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)


def describe_data(config: RunConfig, pairs: Pairs, validation: Pairs | None) -> str:
    """Return in one line how pictures become windows, and what is validated on."""
    from steadypix.data.pairs.folders import HELD_OUT, PairedImages
    from steadypix.data.pictures.sizing import rule_words

    data = config.data
    rule = rule_words(data.resize, data.load_size) if data.root else f"rendered at {data.load_size} px"
    around = f" with {data.context_px} px around them" if data.context_px else ""
    line = f"{data.direction}, pictures {rule}, windows of {data.crop_size} px{around}; validation: "
    if validation is None:
        return f"{line}none"
    if isinstance(validation, PairedImages) and validation.split == HELD_OUT:
        return (
            f"{line}{len(validation)} of {len(pairs) + len(validation)} pairs, held out by their names and "
            "the seed (--data.val_split none: none)"
        )
    return f"{line}{min(len(validation), config.train.val_limit)} pairs of {data.val_split}"


def source_of(config: RunConfig) -> str:
    """Return the name of the pictures: a folder, or procedural ones."""
    return config.data.root or f"synthetic-{config.data.synthetic}"


def agree(accelerator: Accelerator, check: Callable[[Everyone], None]) -> None:
    """Let `check` compare what all processes have; where it fails they part, and each ends by itself.

    Raises:
        InputError: as `check` does.
    """
    try:
        check(everyone(accelerator))
    except InputError:
        accelerator.end_training()
        raise


def everyone(accelerator: Accelerator) -> Everyone:
    """Return what collects a value of every process."""
    from accelerate.utils import gather_object

    def collect(value: Any) -> list[Any]:
        gathered: list[Any] = gather_object([value])
        return gathered

    return collect if accelerator.num_processes > 1 else lambda value: [value]


def count_samples(config: RunConfig, pairs: Pairs, processes: int) -> tuple[int, int]:
    """Return the samples of a step, over all processes, and of an epoch without the tail that fills no step.

    Raises:
        InputError: if the pairs do not fill one step.
    """
    a_step = config.batch_size * config.train.accumulate * processes
    an_epoch = len(pairs) - len(pairs) % a_step
    if an_epoch == 0:
        raise InputError(f"{source_of(config)}: {len(pairs)} pairs do not fill one step of {a_step}")
    return a_step, an_epoch


def number_format(config: RunConfig) -> tuple[torch.dtype, torch.memory_format]:
    """Return type and layout of weights and pictures."""
    import torch

    dtype = torch.float64 if config.train.precision == "fp64" else torch.float32
    return dtype, torch.channels_last if config.train.channels_last else torch.preserve_format


def build_networks(config: RunConfig, device: torch.device, init: str | None) -> dict[str, nn.Module]:
    """Build `generator`, `discriminator` and, where it is asked for, the generator's average `ema`.

    Args:
        config: the whole run.
        device: where they go.
        init: a generator whose weights to start from.
    """
    from torch import nn

    from steadypix.eval.generators.loading import initialise
    from steadypix.gen.networks.unet import UNetGenerator
    from steadypix.gen.training.ema import make_ema

    settings = config.train
    generator = UNetGenerator(**dataclasses.asdict(config.generator))
    channels = config.generator.in_channels + config.generator.out_channels
    discriminator = build_discriminator(config.discriminator, channels, config.data.crop_size)
    for what in initialise(generator, init) if init else ():
        print(f"{init}: {what}: new", file=sys.stderr)
    dtype, layout = number_format(config)
    for network in (generator, discriminator):
        network.to(device, dtype)
        if settings.channels_last:
            nn.utils.convert_conv2d_weight_memory_format(network, layout)
    generator.checkpointing = settings.checkpointing
    networks: dict[str, nn.Module] = {"generator": generator, "discriminator": discriminator}
    return networks | ({"ema": make_ema(generator, settings.ema)} if settings.ema else {})


def build_discriminator(config: DiscriminatorConfig, in_channels: int, crop_px: int) -> nn.Module:
    """Build the discriminator for input and image together.

    Raises:
        InputError: if windows of `crop_px` are too small for it.
    """
    import torch

    from steadypix.gen.networks.patchgan import PatchDiscriminator, PixelDiscriminator

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
        raise InputError(
            f"discriminator.n_layers {config.n_layers}: too many for a data.crop_size of {crop_px} px"
        ) from None
    return build()


def build_step(
    config: RunConfig, accelerator: Accelerator, networks: dict[str, nn.Module]
) -> tuple[Pix2PixStep | CapturedStep, dict[str, torch.optim.Optimizer]]:
    """Build the optimisers, and the step that updates both networks with them.

    Under several processes `networks` are replaced by ones whose batch statistics are shared.
    """
    import torch

    from steadypix.gen.training.captured import CapturedStep, make_adam
    from steadypix.gen.training.step import Pix2PixStep
    from steadypix.gen.training.synchronise import synchronise

    settings, kind = config.train, accelerator.device.type
    if accelerator.num_processes > 1:
        for name in ("generator", "discriminator"):
            networks[name] = synchronise(networks[name], device_type=kind)
    captured = settings.capture and kind == "cuda" and accelerator.num_processes == 1
    adam: Mapping[str, Any] = {
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
    step = Pix2PixStep(
        accelerator,
        *prepared,
        *accelerator.prepare(*optimizers.values()),
        gan=config.loss.gan,
        lambda_l1=config.loss.lambda_l1,
        equivariance=config.loss.equivariance,
        context_px=config.data.context_px,
        precision=settings.precision,
        jitter_px=config.loss.jitter_px,
        r1=config.loss.r1,
        together=config.discriminator.norm not in ("batch", "renorm"),
    )
    return CapturedStep(step) if captured else step, optimizers
