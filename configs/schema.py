"""Every option of a training run: typed, documented, checked when it is made.

This module imports nothing heavy, so a command's `--help` is instant. Names repeat those of the classes
they configure; a test holds the choices here against the ones in `gen`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from steadypix.errors import NO_TEXT
from steadypix.json_checks import LARGEST_NUMBER, LARGEST_PX

Filter = Literal["rect2", "tri3", "bin4", "bin5", "bin6", "bin7"]
Norm = Literal["instance", "batch", "renorm", "group", "none"]


def _at_least(minimum: float, section: str = "", /, **values: float) -> None:
    for name, value in values.items():
        if not value >= minimum:
            raise ValueError(f"{section}{name} must be at least {minimum:g}, not {value}")


def _at_most(maximum: float, section: str = "", /, **values: float) -> None:
    for name, value in values.items():
        if not value <= maximum:
            raise ValueError(f"{section}{name} must be at most {maximum:g}, not {value}")


def _can_be_read_back(section: str, config: object, /) -> None:
    """Refuse numbers and texts, whatever they are for, that a file would not be read back with."""
    for name, value in vars(config).items():
        if isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:  # a path that is no UTF-8, or that the locale has no letters for
                raise ValueError(f"{section}{name} {value!r} {NO_TEXT}") from None
        if isinstance(value, int | float) and not abs(value) <= LARGEST_NUMBER:
            raise ValueError(f"{section}{name} must lie within {LARGEST_NUMBER:g}, not {value}")


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """The U-Net generator (`steadypix.gen.networks.unet.UNetGenerator`)."""

    in_channels: int = 3
    """channels of the input: 3 for RGB, 1 for grayscale, any other number as the files have it"""
    out_channels: int = 3
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
    """normalisation; batch and renorm keep running statistics for test time, renorm trains with them, too"""
    dropout: bool = True
    """0.5 on the inner decoder levels while training"""
    late_levels: int | None = 2
    """with blur_late, how many of the outermost levels up are late; null: all, a third dearer, no stabler"""
    texture: Literal["none", "anchored"] = "none"
    """anchored: noise that moves with the input's edges joins the input, to texture flat regions from"""
    texture_channels: int = 4
    """how many of them"""
    texture_octaves: int = 2
    """bands of that noise, each half as fine as the one before; channels take them in turn"""
    head: int = 0
    """channels the last level gives to two dense convs at full resolution (16); 0: it paints the picture"""

    def __post_init__(self) -> None:
        _can_be_read_back("generator.", self)
        channels = {"in_channels": self.in_channels, "out_channels": self.out_channels}
        _at_least(1, "generator.", ngf=self.ngf, num_downs=self.num_downs, **channels)
        _at_most(12, "generator.", num_downs=self.num_downs)
        _at_most(64, "generator.", **channels)
        if self.late_levels is not None:
            _at_least(1, "generator.", late_levels=self.late_levels)
        _at_least(
            1, "generator.", texture_channels=self.texture_channels, texture_octaves=self.texture_octaves
        )
        _at_most(16, "generator.", texture_channels=self.texture_channels)
        _at_most(4, "generator.", texture_octaves=self.texture_octaves)
        _at_least(0, "generator.", head=self.head)
        _at_most(256, "generator.", head=self.head)


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """The discriminator (`steadypix.gen.networks.patchgan`)."""

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
    input_filter: Filter | None = None
    """low-pass taps before a patch discriminator: less reward for detail an anti-aliased generator lacks"""

    def __post_init__(self) -> None:
        _can_be_read_back("discriminator.", self)
        _at_least(1, "discriminator.", ndf=self.ndf, n_layers=self.n_layers)
        _at_most(12, "discriminator.", n_layers=self.n_layers)
        for name, taps in (("filter", self.filter), ("input_filter", self.input_filter)):
            if taps and self.kind != "patch":
                raise ValueError(
                    f"discriminator.{name} {taps} needs discriminator.kind patch, not {self.kind}"
                )


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where pairs come from and how they are jittered (`data.pairs.folders`, `data.pairs.procedural`)."""

    root: str | None = None
    """folder of pairs; none: procedural pictures"""
    synthetic: Literal["facades", "maps"] = "facades"
    """which procedural pictures, without a root"""
    synthetic_count: int = 400
    """how many procedural pairs to train on"""
    train_split: str = "train"
    """folder name of the training pairs; pictures in the root itself are taken as train"""
    val_split: str = "test"
    """folder name of the validation pairs; where there is only train, a tenth of it; none: no validation"""
    direction: Literal["AtoB", "BtoA"] = "BtoA"
    """AtoB: the left (first) picture is the input"""
    resize: Literal["square", "keep", "none"] = "square"
    """square: pictures become squares, as in pix2pix; keep: the shorter side is resized; none: nothing is"""
    load_size: int = 286
    """px a side a picture is resized to before cropping; with resize none, what it must have at least"""
    crop_size: int = 256
    """px a side of the window a network sees"""
    context_px: int = 0
    """px shown beyond the window on each side, mirrored past a picture's edge; no loss sees them"""
    flip: bool = True
    """mirror half of the training samples"""
    lighting: float = 0.0
    """vary the brightness of training inputs by up to so much of their range, and their contrast; 0: off"""
    cache: bool = True
    """keep decoded pictures in memory: 6 bytes a px of a pair and worker"""
    pin_memory: bool = True
    """on a GPU: copy batches through pinned memory, while the step before runs"""
    on_error: Literal["fail", "skip"] = "fail"
    """a pair that cannot be read stops the run, or another is taken in its place"""

    def __post_init__(self) -> None:
        _can_be_read_back("data.", self)
        _at_least(1, "data.", synthetic_count=self.synthetic_count, crop_size=self.crop_size)
        _at_most(LARGEST_PX, "data.", load_size=self.load_size)
        if self.load_size < self.crop_size:
            raise ValueError(
                f"data.load_size {self.load_size} must be at least data.crop_size {self.crop_size}"
            )
        if not 0 <= self.context_px <= self.crop_size:
            raise ValueError(
                f"data.context_px {self.context_px} must lie between 0 and data.crop_size {self.crop_size}"
            )
        if not 0 <= self.lighting < 0.5:
            raise ValueError(f"data.lighting {self.lighting} must lie between 0 and 0.5")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The objective (Isola et al. 2017, equation 4)."""

    gan: Literal["vanilla", "lsgan", "hinge", "relativistic"] = "vanilla"
    """form of the adversarial loss"""
    lambda_l1: float = 100.0
    """weight of the L1 distance to the target"""
    equivariance: float = 0.0
    """weight of |G(shift(x)) - shift(G(x))|, a second forward pass; 0: off"""
    equivariance_px: int = 7
    """largest shift of that loss, each way along both axes"""
    equivariance_start: float = 0.0
    """share of the epochs after which that loss begins"""
    equivariance_perturb: bool = False
    """shift(x) is also seen with noise, blurred, brighter, darker or of less contrast, at random"""
    jitter_px: int = 0
    """cut the discriminator's pictures by 0 to so many px at random: its strides lock to no grid; 0: off"""
    r1: float = 0.0
    """weight of an approximated R1 penalty on the discriminator (100); 0: off"""

    def __post_init__(self) -> None:
        _can_be_read_back("loss.", self)
        _at_least(0, "loss.", lambda_l1=self.lambda_l1, equivariance=self.equivariance)
        _at_least(0, "loss.", jitter_px=self.jitter_px, r1=self.r1)
        _at_least(1, "loss.", equivariance_px=self.equivariance_px)
        if not 0 <= self.equivariance_start < 1:
            raise ValueError(f"loss.equivariance_start must lie in [0, 1), not {self.equivariance_start}")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The schedule and what is written along the way. Lengths are in epochs unless a unit says other."""

    epochs: int = 200
    """passes over the data"""
    learning_rate: float = 2e-4
    """of both Adam optimisers"""
    lr_policy: Literal["linear", "cosine", "step", "plateau"] = "linear"
    """how it falls; plateau follows the validation's L1"""
    decay_epochs: int | None = None
    """linear: the last epochs, over which it falls to 0; none: half"""
    step_epochs: int = 50
    """step: between divisions by 10"""
    patience: int = 5
    """plateau: validations without gain before a division by 5"""
    beta1: float = 0.5
    """of Adam"""
    beta2: float = 0.999
    """of Adam"""
    ema: float = 0.0
    """share an average of the generator's weights keeps a step (0.999); it is what is saved; 0: off"""
    accumulate: int = 1
    """batches whose gradients make one step: a larger batch in the memory of one"""
    precision: Literal["fp32", "bf16", "fp64"] = "fp32"
    """bf16 runs matrix products in bfloat16; fp64 is for comparing runs"""
    channels_last: bool = False
    """lay out maps pixel by pixel (NHWC), which tensor cores want"""
    compile: bool = False
    """torch.compile both networks"""
    deterministic: bool = False
    """the same bits on any number of cores: one order of sums, and as many threads as the run began with"""
    capture: bool = False
    """on one GPU: record a step as a CUDA graph and replay it; elsewhere without effect"""
    checkpointing: bool = False
    """compute the generator's maps again in the backward pass: less memory, more time"""
    log_every_steps: int = 50
    """steps between lines of metrics.jsonl"""
    save_every: int = 5
    """between checkpoints to resume from; one is always written at the end"""
    save_every_s: float = 600.0
    """seconds after which one is written in the middle of an epoch; 0: never"""
    keep_every: int = 0
    """between generators kept under their epoch's name; 0 keeps none"""
    sample_every: int = 5
    """between sample sheets; 0 writes none"""
    val_every: int = 5
    """between validations (L1 and stability); 0 never validates"""
    val_limit: int = 16
    """validation pairs used"""
    best_by: Literal["l1", "stability"] | None = None
    """keep the generator that validates best so far as generator-best.safetensors"""
    tracker: Literal["tensorboard", "wandb", "mlflow"] | None = None
    """send metrics and configuration to a tracker, by its own package; none: metrics.jsonl alone"""

    def __post_init__(self) -> None:
        _can_be_read_back("train.", self)
        at_least_1 = ("epochs", "step_epochs", "accumulate", "log_every_steps", "save_every", "val_limit")
        _at_least(1, "train.", **{name: getattr(self, name) for name in at_least_1})
        at_least_0 = ("learning_rate", "patience", "save_every_s", "keep_every", "sample_every", "val_every")
        _at_least(0, "train.", **{name: getattr(self, name) for name in at_least_0})
        if not 0 <= self.ema < 1:
            raise ValueError(f"train.ema must lie in [0, 1), not {self.ema}")
        for name, wants in (("lr_policy plateau", self.lr_policy == "plateau"), ("best_by", self.best_by)):
            if wants and not self.val_every:
                raise ValueError(f"train.{name} needs validations: train.val_every must be at least 1, not 0")
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
    """pairs a batch and process"""
    workers: int = 0
    """processes that load data; 0 loads in the trainer itself"""
    seed: int = 0
    """of weights, order, jitter and dropout"""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """where to train"""

    def __post_init__(self) -> None:
        _can_be_read_back("", self)
        _at_least(1, batch_size=self.batch_size)
        _at_least(0, workers=self.workers, seed=self.seed)
        if self.train.checkpointing and self.generator.norm in ("batch", "renorm"):
            raise ValueError(
                "train.checkpointing would count every batch twice in the statistics of generator.norm "
                f"{self.generator.norm}; expected another norm, or no checkpointing"
            )
        generator = self.generator
        if (
            self.batch_size == 1
            and generator.norm in ("batch", "renorm")
            and generator.padding != "zeros"
            and self.data.crop_size == 2**generator.num_downs
        ):
            # The innermost map is one sample; any padding but zeros makes a constant of it, with no variance.
            raise ValueError(
                f"generator.padding {generator.padding} leaves generator.norm {generator.norm} nothing to "
                f"measure where {self.data.crop_size} px come down to 1 x 1 and batch_size is 1; expected "
                f"zeros, generator.num_downs {generator.num_downs - 1}, or a larger batch"
            )
        if self.train.capture:
            for key, value in (
                ("train.accumulate", self.train.accumulate > 1),
                ("train.checkpointing", self.train.checkpointing),
                ("loss.equivariance", self.loss.equivariance),
                ("loss.jitter_px", self.loss.jitter_px),
            ):
                if value:
                    raise ValueError(f"train.capture records one plain step; expected no {key} with it")
        plateau = self.train.lr_policy == "plateau"
        for key, wants in (("lr_policy plateau", plateau), ("best_by", self.train.best_by)):
            if wants and self.data.val_split == "none":
                raise ValueError(f"train.{key} needs validations: expected a data.val_split other than none")
        if self.loss.jitter_px > self.data.crop_size // 4:
            raise ValueError(
                f"loss.jitter_px {self.loss.jitter_px} must be at most a quarter of data.crop_size "
                f"{self.data.crop_size}"
            )
        if self.loss.equivariance and self.data.load_size == self.data.crop_size:
            raise ValueError(
                f"loss.equivariance shifts the window over the picture: data.load_size {self.data.load_size} "
                f"must be larger than data.crop_size {self.data.crop_size}"
            )
