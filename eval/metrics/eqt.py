"""EQ-T: translation equivariance as one number a network (Karras et al. 2021, section 3.1, appendix E).

    EQ-T = 10 log10( I_max^2 / E[ (G(t(x))_c(p) - t(G(x))_c(p))^2 ] ),   I_max = 2

The mean is over images x, translations t, channels c and those pixels p that the translation leaves in the
frame (the mask): all squares are summed before the division and the logarithm. t moves right by a and down
by b, each drawn uniformly from +-12.5 % of the window and rounded to whole pixels.

Two decisions of ours. *The input is shifted circularly*, and what wraps is masked in the output: 12.5 % of
a 256 px window are 32 px, while the canvas of pix2pix leaves 15 px of real content a side, and a number
that was real content here and wrapped there would mean two things. StyleGAN3's own input, a field without
border, has no such choice. A network sees the seam within its reach of the mask, as it sees a border. And
*a draw of (0, 0) is drawn again*, as the shift 0 is left out everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from steadypix.errors import InputError
from steadypix.eval.metrics.decibels import Array, bootstrap, psnr_db
from steadypix.eval.metrics.measure import Column, Conditions, Label, Measure, db_column, measure_alone
from steadypix.eval.metrics.stability import shift_label, some
from steadypix.eval.repeat.floor import FloorCheck
from steadypix.eval.shifts.offsets import Offset, plain, scaled, split
from steadypix.eval.shifts.protocols import Roll, overlap
from steadypix.json_checks import INTERVAL_DB, count, decibels, record
from steadypix.sizes import Size, sides, words

if TYPE_CHECKING:
    from torch import Tensor, nn

EQT_CHECKS = {"db": decibels, "ci95_db": INTERVAL_DB, "n_draws": count}
LARGEST = 0.125  # translation, of the window's side
DRAWS = 8  # translations an image
SMALLEST_PX = 8  # window that any translation of 12.5 % moves


def draw_offsets(window_px: Size, *, seed: int, index: int, draws: int = DRAWS) -> list[Offset]:
    """Return the translations (dx, dy) of image `index`, in px: a function of the arguments alone.

    Raises:
        InputError: for a window of which 12.5 % are less than a pixel.
    """
    window = np.array(sides(window_px))
    if window.min() < SMALLEST_PX:
        raise InputError(
            f"window {words(window_px)} px: eqt moves by 12.5 %; expected at least {SMALLEST_PX} px"
        )
    rng = np.random.default_rng((seed, index))
    offsets: list[Offset] = []
    while len(offsets) < draws:
        dx, dy = np.rint(rng.uniform(-LARGEST, LARGEST, 2) * window)
        if dx or dy:
            offsets.append((int(dx), int(dy)))
    return offsets


@dataclass
class EqtScores(Measure):
    """Squared errors of one network, a picture after the other."""

    canvas_px: Size  # of the pictures as loaded
    window_px: Size  # of what the network sees, in their middle
    seed: int = 0  # of the translations
    draws: int = DRAWS  # translations an image

    name = "eqt"
    asked_by = "protocol"
    any_size = True
    meaning = (
        "StyleGAN3's EQ-T: whole translations drawn uniformly from +-12.5 % of the window, the input shifted "
        "circularly, outputs compared where nothing wrapped; squared errors pooled over images, channels and "
        "pixels before the logarithm"
    )
    title: ClassVar[str] = "EQ-T"
    checks: ClassVar = {"eqt": record(EQT_CHECKS)}

    def __post_init__(self) -> None:
        self.protocol = Roll(self.canvas_px, self.window_px)
        self.offsets(0)

    @classmethod
    def make(cls, settings: Any, conditions: Conditions) -> Self:
        """Return one without numbers."""
        return cls(conditions.canvas_px, conditions.window_px, seed=conditions.seed)

    def offsets(self, index: int) -> list[Offset]:
        """Return the translations of image `index`."""
        return draw_offsets(self.window_px, seed=self.seed, index=index, draws=self.draws)

    def windows(self, canvas: Tensor, index: int) -> Iterator[Tensor]:
        """Yield what the network must see of one canvas (1, C, S, S)."""
        return (self.protocol.shifted(canvas, offset) for offset in self.offsets(index))

    def labels(self, index: int) -> list[Label]:
        """Return the translation of every window."""
        return [shift_label(self.name, offset) for offset in self.offsets(index)]

    def add(self, base: Tensor | None, outputs: Iterator[Tensor], target: Tensor | None, index: int) -> None:
        """Score one picture: the sum of squares and the number of values, of every translation."""
        squares, counts = [], []
        for offset in self.offsets(index):
            first, second = self.compared(some(base), next(outputs), offset)
            if not first.numel():
                dx, dy = map(plain, offset)
                raise InputError(
                    f"{self.name}: outputs share nothing at a translation by {dx:g}, {dy:g} px; expected a "
                    "larger window"
                )
            squares.append((first - second).double().square().sum().item())
            counts.append(first.numel())
        self.rows.append([squares, counts])

    def compared(self, base: Tensor, moved: Tensor, offset: Offset) -> tuple[Tensor, Tensor]:
        """Return what `base` and `moved` show of one place, where nothing wrapped."""
        return overlap(base, moved, split(scaled(offset, self.protocol.scale(moved)))[0])

    def result(self) -> Eqt:
        """Return what was measured so far."""
        squares, counts = zip(*self.rows, strict=True) if self.rows else ((), ())
        return Eqt(np.array(squares), np.array(counts))

    def image_db(self) -> Array:
        """Return one value a picture."""
        return self.result().image_db()

    def summary(self, *, seed: int) -> dict[str, Any]:
        """Return EQ-T with its interval."""
        return {self.name: self.result().summary(seed=seed)}

    def gains(self, reference: Self, *, seed: int) -> list[dict[str, Any]]:
        """Return the difference of two EQ-T, with an interval over the same pictures of both."""
        gain = self.result().gain_over(reference.result(), seed=seed)
        return [{"protocol": self.name, "margin_px": 0, "over": "all draws", "gain_db": gain}]

    @classmethod
    def columns(cls, results: Mapping[str, Any]) -> list[Column]:
        """Return EQ-T."""
        found = [model[cls.name] for model in results["models"] if cls.name in model]
        if not found:
            return []
        return [
            db_column(
                title=cls.title,
                note=f"{found[0]['n_draws']} translations a picture",
                figures=[{"mean": each["db"], "ci95": each["ci95_db"]} for each in found],
            )
        ]

    @classmethod
    def notes(cls, results: Mapping[str, Any]) -> list[str]:
        """Return how much it is pooled over."""
        measured, count = results["models"][0].get(cls.name), results["data"]["n_images"]
        if measured is None:
            return []
        return [f"{cls.title}: {measured['n_draws']} translations an image, pooled over {count} images."]

    @classmethod
    def outline(cls, model: Mapping[str, Any]) -> Any:
        """Return whether it was measured."""
        return cls.name in model


@dataclass(frozen=True)
class Eqt:
    """A finished measurement.

    Attributes:
        squares: sums of squared errors (images, draws) of outputs in [-1, 1].
        counts: how many values were summed, (images, draws).
    """

    squares: Array
    counts: np.ndarray

    @property
    def db(self) -> float:
        """EQ-T in dB."""
        return self._pooled(slice(None))

    def image_db(self) -> Array:
        """Return one value an image, pooled over its draws."""
        return psnr_db(self.squares.sum(axis=1) / self.counts.sum(axis=1))

    def summary(self, *, seed: int = 0) -> dict[str, Any]:
        """Return EQ-T with its 95 % interval over images, as plain JSON values."""
        return {
            "db": self.db,
            "ci95_db": _interval(self._pooled, len(self.squares), seed=seed),
            "image_db": self.image_db().tolist(),
            "n_draws": self.squares.shape[1],
            "n_identical": int((self.squares == 0).sum()),
        }

    def gain_over(self, other: Eqt, *, seed: int = 0) -> dict[str, Any]:
        """Return this EQ-T minus another's, in dB, with an interval over the same images of both."""
        gain = _interval(lambda i: self._pooled(i) - other._pooled(i), len(self.squares), seed=seed)
        return {"mean": self.db - other.db, "ci95": gain}

    def _pooled(self, images: slice | np.ndarray) -> float:
        return float(psnr_db(self.squares[images].sum() / self.counts[images].sum()))


def _interval(statistic: Callable[[np.ndarray], float], n_images: int, *, seed: int) -> list[float] | None:
    """Return the 95 % interval over images; one image alone has none."""
    return list(bootstrap(statistic, n_images, seed=seed)) if n_images > 1 else None


def eqt(
    generator: nn.Module | Callable[[Tensor], Any],
    canvases: Any,
    *,
    window_px: Size,
    seed: int = 0,
    draws: int = DRAWS,
    batch_size: int = 8,
    allow_random: bool = False,
    data_range: Any = None,
    input: str | int | Callable[[Any], Any] | None = None,
    output: str | int | Callable[[Any], Any] | None = None,
) -> Eqt:
    """Measure EQ-T of a network.

    Args:
        generator: maps (B, C, H, W) to (B, C', H', W'); see `steadypix.shift_stability`.
        canvases: pictures (N, C, H, W), or an iterable of batches.
        window_px: side of the window in their middle that the network sees, or (width, height).
        seed: of the translations.
        draws: translations an image.
        batch_size: windows in one forward pass.
        allow_random: measure a network too that gives equal inputs unequal outputs.
        data_range: of pictures and outputs; this and the next two are as in `shift_stability`.
        input: of a batch.
        output: of the network's.

    Raises:
        InputError: if the window does not fit, there are no pictures, or an output is not
            finite, or the network is random and may not be.

    >>> import torch
    >>> eqt(torch.nn.Tanh(), torch.rand(2, 3, 32, 32) * 2 - 1, window_px=32).db
    150.0
    """

    def make(canvas_px: Size) -> EqtScores:
        return EqtScores(canvas_px, window_px, seed=seed, draws=draws)

    how: dict[str, Any] = {"window_px": window_px, "batch_size": batch_size}
    how |= {"data_range": data_range, "input": input, "output": output}
    check = FloorCheck(allow_random=allow_random, batch_size=batch_size)
    return measure_alone(make, generator, canvases, check=check, **how).result()
