"""What is trained: on which pictures, at which scale, which ways of sampling, in which order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

# What says most comes first, so that a run that is cut short has the comparison that matters.
ORDER: tuple[str, ...] = ("baseline-0", "bin5-0", "blur_late-0", "tri3-0", "rect2-0", "bin4-0", "preblur-0")
ORDER += ("bin5-1", "baseline-1")
# What the length of training and the discriminator do, asked on one of the studies.
MORE: tuple[str, ...] = ("bin5_long-0", "baseline_soft-0", "bin5_soft-0", "blur_late_soft-0")
MORE += ("bin5_soft-1", "tri3_soft-0", "rect2_soft-0", "baseline_soft-1", "bin5_published-0")
MORE += ("baseline_published-0", "bin4_soft-0", "preblur_soft-0")
# Detail without the grid: how much of it do the carriers, the head, the sampling and the norm do? All before
# the published discriminator, which asks for as much detail as a photo has.
STEADY = (
    "late_both_published-0",
    "late_both_batch_published-0",
    "late_both_renorm_published-0",
    "late_both_renorm_settled_published-0",
    "late_both_batch_jitter_published-0",
    "late_both_batch_r1_published-0",
    "late_both_batch_relativistic_published-0",
    "late_both_batch_equivariance_published-0",
    "late_both_batch_filter_published-0",
    "late_both_batch_ema_published-0",
    "late_both_batch_lighting_published-0",
    "strided_both_published-0",
    "baseline_published-0",
    "bin5_both_published-0",
    "blur_late_published-0",
    "late_head_published-0",
    "late_texture_published-0",
    "bin5_published-0",
    "baseline_published-1",
    "late_both_batch_published-1",
    "late_both_renorm_settled_published-1",
)


@dataclass(frozen=True)
class Study:
    """Pictures and the direction they are translated in.

    Args:
        folder: below the data folder.
        config: the recipe.
        split: whose pairs are measured.
        options: words for the trainer.
        title: heading of the results.
        epochs: by scale, where they are not the scale's own.
        order: of the trainings, by their names.
        in_paper: whether the paper's figures are of these pictures.
        quality: what is measured of the last generator, beside what costs nothing.
        moves: words for the evaluation of the last generator: which other movements are measured, where the
            scale has room for them.
        page: name of its page, where that is not the study's: what is written by hand stays.
        shown: runs whose outputs its pictures show, where they are trained.
        discriminator: a key of `OTHER_DISCRIMINATORS`, where its trainings have another than their scale's.
    """

    folder: str
    config: str
    split: str
    options: tuple[str, ...]
    title: str
    epochs: Mapping[str, int] = field(default_factory=dict)
    order: tuple[str, ...] = ORDER
    in_paper: bool = False
    quality: str = "ssim,lpips"
    moves: tuple[str, ...] = ()
    page: str = ""
    shown: tuple[str, ...] = ("baseline-0", "bin5-0", "blur_late-0")
    discriminator: str = ""


# A shortened scale counts on the 400 pairs of facades; where maps are few, they take more passes, and aerial
# pictures, whose detail is learnt last, as many steps as facades.
MAPS_EPOCHS, BACK_EPOCHS = {"cpu": 20}, {"cpu": 54}
STUDIES = {
    "facades": Study(
        "facades", "facades-paper", "test", (), "Facades, labels to photo", order=ORDER + MORE, in_paper=True
    ),
    "steady": Study(
        "facades",
        "facades-paper",
        "test",
        (),
        "Facades, labels to photo: texture that moves with the scene",
        order=STEADY,
        quality="ssim,lpips,checkerboard",
        moves=("--protocol", "crop,subpixel", "--shifts", "0..7,1/4,1/2", "--pan", "1/2,1"),
        page="steady-runs",
        shown=("baseline_published-0", "late_head_published-0", "late_both_renorm_settled_published-0"),
        discriminator="_published",
    ),
    "maps": Study(
        "maps",
        "maps-paper",
        "val",
        (),
        "Maps, aerial picture to map",
        MAPS_EPOCHS,
        order=(
            *ORDER,
            *("late_both_renorm-0", "late_both_tri3-0", "late_head_tri3-0"),
            *("baseline_published-0", "late_both_renorm_published-0", "late_both_tri3_published-0"),
        ),
    ),
    "maps-back": Study(
        "maps",
        "maps-paper",
        "val",
        ("--data.direction", "BtoA"),
        "Maps, map to aerial picture",
        BACK_EPOCHS,
        # Whose detail an unfiltered discriminator asks for most.
        order=(
            *ORDER,
            *(
                "blur_late_published-0",
                "bin5_published-0",
                "baseline_published-0",
                "late_both_batch_published-0",
                "late_both_renorm_published-0",
                "late_both_tri3_published-0",
                "late_both_published-0",
            ),
        ),
    ),
}


@dataclass(frozen=True)
class Variant:
    """A row of the table.

    Args:
        label: how a reader knows it.
        options: words for the trainer.
        paper: Zhang's figures for it, stability [dB] and TV x 100, where there are any.
        discriminator: a key of `OTHER_DISCRIMINATORS` and the end of the variant's name; empty: its scale's.
        length: of its training, relative to the others'.
    """

    label: str
    options: tuple[str, ...]
    paper: tuple[float, float] | None = None
    discriminator: str = ""
    length: float = 1.0


def _blur(sampling: str, filter: str, *more: str) -> tuple[str, ...]:
    return ("--generator.sampling", sampling, "--generator.filter", filter, *more)


# What the recipe leaves open: the published discriminator rewards detail at the highest frequencies, which a
# low-passed generator has only as images of its half-rate maps, locked to their grid. It soon tells every
# output from a photo, and drives the generator to draw those images. Behind a filter it sees less of them.
# By the end of a variant's name, what its discriminator sees through instead of the filter that belongs to a
# scale; None: it sees everything, as published.
OTHER_DISCRIMINATORS: dict[str, str | None] = {"_soft": "bin5", "_published": None}
STRIDED = ("--generator.sampling", "strided")
BIN5 = _blur("blur", "bin5")
LATE = _blur("blur_late", "bin5", "--generator.late_levels", "2")
PAPER_BASE, PAPER_BIN5 = (29.0, 7.48), (34.4, 6.28)
VARIANTS = {
    "baseline": Variant("baseline (strided)", STRIDED, PAPER_BASE),
    "rect2": Variant("Rect-2", _blur("blur", "rect2"), (30.1, 7.07)),
    "tri3": Variant("Tri-3", _blur("blur", "tri3"), (30.8, 6.25)),
    "bin4": Variant("Bin-4", _blur("blur", "bin4"), (31.2, 5.84)),
    "bin5": Variant("Bin-5", BIN5, PAPER_BIN5),
    # Low-passed generators come to their sharpness later than the baseline does.
    "bin5_long": Variant("Bin-5, half as long again", BIN5, PAPER_BIN5, length=1.5),
    "preblur": Variant("`preblur`, Bin-5", _blur("preblur", "bin5")),
    "blur_late": Variant("`blur_late`, Bin-5", LATE),
    "baseline_published": Variant("baseline, published discriminator", STRIDED, PAPER_BASE, "_published"),
    "bin5_published": Variant("Bin-5, published discriminator", BIN5, PAPER_BIN5, "_published"),
    "blur_late_published": Variant(
        "`blur_late`, Bin-5, published discriminator", LATE, discriminator="_published"
    ),
}
TEXTURE, HEAD = ("--generator.texture", "anchored"), ("--generator.head", "16")
# The generator of the recipe `demo`.
STEADY_GENERATOR = (*LATE, *TEXTURE, *HEAD, "--generator.norm", "batch")
# The end of the recipe `facades`: outputs are held still, over shifts and perturbations of the input.
SETTLED: tuple[str, ...] = ("--loss.equivariance", "100", "--loss.equivariance_start", "0.875")
SETTLED += ("--loss.equivariance_perturb", "true", "--train.capture", "false")
# The generators of the recipes `facades` and `maps`.
RENORM_GENERATOR = (*STEADY_GENERATOR, "--generator.norm", "renorm")
TRI3_GENERATOR = (*RENORM_GENERATOR, "--generator.filter", "tri3")
# What the studies of maps train before two discriminators: their scale's and the published one.
STEADY_MAPS = {
    "late_both_renorm": Variant("`blur_late`, texture and head, batch renorm", RENORM_GENERATOR),
    "late_both_tri3": Variant("`blur_late`, Tri-3, texture and head, batch renorm", TRI3_GENERATOR),
    "late_head_tri3": Variant(
        "`blur_late`, Tri-3, head, batch renorm", (*TRI3_GENERATOR, "--generator.texture", "none")
    ),
}
VARIANTS |= STEADY_MAPS
VARIANTS |= {
    f"{name}_published": Variant(f"{label}, published discriminator", options, discriminator="_published")
    for name, label, options in (
        ("strided_both", "strided, texture and head", (*STRIDED, *TEXTURE, *HEAD)),
        ("bin5_both", "Bin-5, texture and head", (*BIN5, *TEXTURE, *HEAD)),
        ("late_head", "`blur_late`, head", (*LATE, *HEAD)),
        ("late_texture", "`blur_late`, texture", (*LATE, *TEXTURE)),
        ("late_both", "`blur_late`, texture and head", (*LATE, *TEXTURE, *HEAD)),
        ("late_both_batch", "`blur_late`, texture and head, batch norm", STEADY_GENERATOR),
        *((name, variant.label, variant.options) for name, variant in STEADY_MAPS.items()),
        (
            "late_both_renorm_settled",
            "`blur_late`, texture and head, batch renorm, equivariance loss at the end",
            (*RENORM_GENERATOR, *SETTLED),
        ),
        *(
            (
                f"late_both_batch_{name}",
                f"`blur_late`, texture and head, batch norm, {label}",
                (*STEADY_GENERATOR, *options),
            )
            for name, label, options in (
                (
                    "jitter",
                    "discriminator's window jittered",
                    ("--loss.jitter_px", "7", "--train.capture", "false"),
                ),
                ("r1", "approximated R1", ("--loss.r1", "100")),
                (
                    "relativistic",
                    "relativistic loss, approximated R1 and R2",
                    ("--loss.gan", "relativistic", "--loss.r1", "100"),
                ),
                (
                    "equivariance",
                    "equivariance loss",
                    ("--loss.equivariance", "10", "--train.capture", "false"),
                ),
                ("filter", "Bin-5 in the discriminator", ("--discriminator.filter", "bin5")),
                ("ema", "averaged weights", ("--train.ema", "0.999")),
                ("lighting", "inputs' lighting varied", ("--data.lighting", "0.2")),
            )
        ),
    )
}
VARIANTS |= {
    f"{name}_soft": replace(
        variant,
        label=f"{variant.label}, discriminator on `{OTHER_DISCRIMINATORS['_soft']}`-filtered pictures",
        discriminator="_soft",
    )
    for name, variant in VARIANTS.items()
    if not variant.discriminator and variant.length == 1 and name not in STEADY_MAPS
}
PAPER_TARGET_TV = 7.80
# On so many pairs the pictures are made.
GRID_PICTURES = 40  # in which the grid's place is looked for
MAP_PICTURES = 10  # each takes 64 shifts


@dataclass(frozen=True)
class Scale:
    """How much of the paper's recipe.

    Args:
        options: words for the trainer.
        epochs: passes over the pictures.
        keep_every: epochs between the generators whose trade-off is drawn; more where a run is several
            times as long.
        means: in words, but for the epochs.
        input_filter: what the discriminator sees everything through, where a variant has no own.
        fractions: whether windows have room for shifts by fractions of a pixel.
    """

    options: tuple[str, ...]
    epochs: int
    keep_every: int
    means: str
    input_filter: str = "tri3"
    fractions: bool = True


def _size(load: int, crop: int, *, ngf: int, num_downs: int) -> tuple[str, ...]:
    sizes = {"data.load_size": load, "data.crop_size": crop, "generator.ngf": ngf, "discriminator.ndf": ngf}
    sizes["generator.num_downs"] = num_downs
    return tuple(word for key, value in sizes.items() for word in (f"--{key}", str(value)))


SCALES = {
    "full": Scale(
        (
            *("--train.precision", "bf16", "--train.channels_last", "true", "--train.capture", "true"),
            # Everything but training costs minutes of a GPU.
            *("--train.val_every", "0", "--train.sample_every", "0", "--train.save_every", "25"),
        ),
        200,
        25,
        "256 px, ngf 64, batch 1: the paper's size and length, products in bfloat16",
        input_filter="bin5",  # the better of the two that were tried at the smaller scale
    ),
    "cpu": Scale(
        _size(286, 128, ngf=32, num_downs=7),
        16,
        4,
        "windows of 128 px in pictures of 286 px, ngf 32, batch 1: the paper's pixels, half of its window "
        "and width",
    ),
    "smoke": Scale(_size(48, 32, ngf=4, num_downs=4), 2, 1, "32 px, ngf 4: means nothing", fractions=False),
}


@dataclass(frozen=True)
class Run:
    """One training.

    Args:
        study: a key of `STUDIES`.
        scale: a key of `SCALES`.
        variant: a key of `VARIANTS`.
        seed: of the training.
    """

    study: str
    scale: str
    variant: str
    seed: int

    @classmethod
    def named(cls, study: str, scale: str, name: str) -> Run:
        """Return the training of a study with this name."""
        variant, _, seed = name.rpartition("-")
        return cls(study, scale, variant, int(seed))

    @property
    def name(self) -> str:
        """Of its directory, and in charts."""
        return f"{self.variant}-{self.seed}"

    @property
    def is_baseline(self) -> bool:
        """Whether it is what others are compared with."""
        return self.variant == counterpart(self.variant, "baseline")

    @property
    def label(self) -> str:
        """How a reader knows it."""
        return f"{VARIANTS[self.variant].label}, seed {self.seed}"

    @property
    def epochs(self) -> int:
        """Passes over the pictures."""
        epochs = STUDIES[self.study].epochs.get(self.scale, SCALES[self.scale].epochs)
        return round(epochs * VARIANTS[self.variant].length)

    @property
    def keep_every(self) -> int:
        """Epochs between the generators that are kept."""
        scale = SCALES[self.scale]
        return scale.keep_every * max(1, self.epochs // scale.epochs)

    def directory(self, root: Path) -> Path:
        """Return where it is trained."""
        return root / f"{self.study}-{self.scale}" / self.name

    def words(self, data: Path, root: Path) -> list[str]:
        """Return the trainer's command line."""
        study, scale = STUDIES[self.study], SCALES[self.scale]
        words = ["--config", study.config, "--data.root", str(data / study.folder), *study.options]
        variant = VARIANTS[self.variant]
        words += [*scale.options, *variant.options, "--batch_size", "1"]
        seen_through = discriminators(self.scale)[variant.discriminator]
        words += ["--discriminator.input_filter", seen_through] if seen_through else []
        words += ["--train.epochs", str(self.epochs), "--train.keep_every", str(self.keep_every)]
        # Often, because a scale for a CPU runs for hours beside other work.
        words += ["--train.save_every_s", "120", "--seed", str(self.seed)]
        return [*words, "--out", str(self.directory(root))]


def counterpart(variant: str, kind: str) -> str:
    """Return the name of another kind of variant before the same discriminator.

    Args:
        variant: a key of `VARIANTS`, such as `bin5_soft`.
        kind: a key without its discriminator, such as `baseline`; `baseline_soft` it is then.
    """
    return kind + VARIANTS[variant].discriminator


def discriminators(scale: str) -> dict[str, str | None]:
    """Return what discriminators see through, by the end of a variant's name; "" is what the scale has."""
    return {"": SCALES[scale].input_filter, **OTHER_DISCRIMINATORS}


def runs(study: str, scale: str) -> Iterator[Run]:
    """Yield the trainings of a table, in the order they are made."""
    usual = SCALES[scale].input_filter
    for name in STUDIES[study].order:
        run = Run.named(study, scale, name)
        if OTHER_DISCRIMINATORS.get(VARIANTS[run.variant].discriminator) != usual:  # else it is there already
            yield run


def page_name(study: str, scale: str) -> str:
    """Return the name of a study's page and of the folder of its pictures."""
    name = STUDIES[study].page or study
    return name if scale == "cpu" else f"{name}-{scale}"
