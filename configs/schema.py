"""Every option of a training run: typed, documented, checked when it is made.

This module imports nothing heavy, so a command's `--help` is instant. Names repeat those of the classes
they configure; a test holds the choices here against the ones in `gen`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Filter = Literal["rect2", "tri3", "bin4", "bin5", "bin6", "bin7"]
Norm = Literal["instance", "batch", "group", "none"]


def _at_least(minimum: float, section: str = "", /, **values: float) -> None:
    for name, value in values.items():
        if not value >= minimum:
            raise ValueError(f"{section}{name} must be at least {minimum:g}, not {value}")


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """The U-Net generator (`gen.unet.UNetGenerator`)."""

    in_channels: Literal[1, 3] = 3
    """channels of the input: 3 for RGB, 1 for grayscale"""
    out_channels: Literal[1, 3] = 3
    """channels of the output"""
    ngf: int = 64
    """channels of the outermost level"""
    num_downs: int = 8
    """number of levels; 8 brings 256 px to 1 x 1, 7 does for 128 px"""
    sampling: Literal["strided", "blur", "preblur", "blur_late"] = "blur"
    """how a level changes resolution; strided is plain pix2pix"""
    filter: Filter = "bin5"
    """low-pass taps; Zhang's Rect-2, Tri-3, Bin-5 and neighbours"""
    padding: Literal["zeros", "reflect", "replicate", "circular"] = "zeros"
    """of convs and blurs; with zeros the blurs reflect"""
    norm: Norm = "instance"
    """normalisation; batch keeps running statistics for test time"""
    dropout: bool = True
    """0.5 on the inner decoder levels while training"""
    late_levels: int | None = None
    """with blur_late, how many of the outermost levels up are late (2 is a third cheaper); null: all"""

    def __post_init__(self) -> None:
        _at_least(1, "generator.", ngf=self.ngf, num_downs=self.num_downs)
        if self.late_levels is not None:
            _at_least(1, "generator.", late_levels=self.late_levels)
        if self.num_downs > 12:
            raise ValueError(f"generator.num_downs must be at most 12, not {self.num_downs}")


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """The discriminator (`gen.patchgan`)."""

    kind: Literal["patch", "pixel"] = "patch"
    """patch: n_layers of stride 2 (3 see 70 px); pixel: 1 x 1"""
    ndf: int = 64
    """channels of the first layer"""
    n_layers: int = 3
    """stride-2 layers of the patch kind"""
    norm: Norm = "instance"
    """normalisation"""
    filter: Filter | None = None
    """low-pass taps for an anti-aliased patch discriminator"""

    def __post_init__(self) -> None:
        _at_least(1, "discriminator.", ndf=self.ndf, n_layers=self.n_layers)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where pairs come from and how they are jittered (`data.paired`, `data.synthetic_pairs`)."""

    root: str | None = None
    """folder of pairs; none: procedural pictures"""
    synthetic: Literal["facades", "maps"] = "facades"
    """which procedural pictures, without a root"""
    synthetic_count: int = 400
    """how many procedural pairs to train on"""
    train_split: str = "train"
    """folder name of the training pairs"""
    val_split: str = "test"
    """folder name of the validation pairs"""
    direction: Literal["AtoB", "BtoA"] = "BtoA"
    """AtoB: the left (first) picture is the input"""
    load_size: int = 286
    """px a side a picture is resized to before cropping"""
    crop_size: int = 256
    """px a side of the window a network sees"""
    flip: bool = True
    """mirror half of the training samples"""
    cache: bool = True
    """keep decoded pictures in memory: 6 bytes x load_size^2 a pair"""

    def __post_init__(self) -> None:
        _at_least(1, "data.", synthetic_count=self.synthetic_count, crop_size=self.crop_size)
        if self.load_size < self.crop_size:
            raise ValueError(
                f"data.load_size {self.load_size} must be at least data.crop_size {self.crop_size}"
            )


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The objective (Isola et al. 2017, equation 4)."""

    gan: Literal["vanilla", "lsgan", "hinge"] = "vanilla"
    """form of the adversarial loss"""
    lambda_l1: float = 100.0
    """weight of the L1 distance to the target"""

    def __post_init__(self) -> None:
        _at_least(0, "loss.", lambda_l1=self.lambda_l1)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The schedule and what is written along the way. Lengths are in epochs unless a unit says other."""

    epochs: int = 200
    """passes over the data"""
    decay_epochs: int | None = None
    """the last of them, over which the learning rate falls linearly to 0; none: half"""
    learning_rate: float = 2e-4
    """of both Adam optimisers"""
    beta1: float = 0.5
    """of Adam"""
    beta2: float = 0.999
    """of Adam"""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 runs matrix products in bfloat16"""
    log_every_steps: int = 50
    """steps between lines of metrics.jsonl"""
    save_every: int = 5
    """between checkpoints to resume from; one is always written at the end"""
    keep_every: int = 0
    """between generators kept under their epoch's name; 0 keeps none"""
    sample_every: int = 5
    """between sample sheets; 0 writes none"""
    val_every: int = 5
    """between validations (L1 and stability); 0 never validates"""
    val_limit: int = 16
    """validation pairs used"""

    def __post_init__(self) -> None:
        _at_least(
            1, "train.", epochs=self.epochs, log_every_steps=self.log_every_steps, save_every=self.save_every
        )
        _at_least(1, "train.", val_limit=self.val_limit)
        counts = {"keep_every": self.keep_every, "sample_every": self.sample_every}
        _at_least(0, "train.", **counts, val_every=self.val_every, learning_rate=self.learning_rate)
        if self.decay_epochs is not None and not 0 <= self.decay_epochs <= self.epochs:
            raise ValueError(
                f"train.decay_epochs must lie in 0..epochs ({self.epochs}), not {self.decay_epochs}"
            )
        for name, beta in (("beta1", self.beta1), ("beta2", self.beta2)):
            if not 0 <= beta < 1:
                raise ValueError(f"train.{name} must lie in [0, 1), not {beta}")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A whole training run."""

    data: DataConfig = field(default_factory=DataConfig)
    """where pairs come from"""
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    """the generator"""
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    """the discriminator"""
    loss: LossConfig = field(default_factory=LossConfig)
    """the objective"""
    train: TrainConfig = field(default_factory=TrainConfig)
    """the schedule"""
    batch_size: int = 1
    """pairs a step and process"""
    workers: int = 0
    """processes that load data; 0 loads in the trainer itself"""
    seed: int = 0
    """of weights, order, jitter and dropout"""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """where to train"""

    def __post_init__(self) -> None:
        _at_least(1, batch_size=self.batch_size)
        _at_least(0, workers=self.workers, seed=self.seed)
