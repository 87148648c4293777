"""Stability under perturbations: PSNR between G(T x) and the correspondingly transformed G(x).

| kind | T | five severities |
|---|---|---|
| noise | Gaussian, the same for every model; standard deviation on [0, 1] | 0.01 0.02 0.04 0.08 0.16 |
| blur | Gaussian; sigma in px | 0.5 1 1.5 2 3 |
| jpeg | a JPEG file, libjpeg's quality, 4:2:0 | 90 70 50 30 10 |
| brightness | adds to every channel on [0, 1] | 0.05 0.1 0.2 0.3 0.4 |
| contrast | scales the distance from the picture's mean luma | 0.9 0.75 0.6 0.45 0.3 |
| rotation | counter-clockwise about the window's centre; degrees | 1 2 5 10 20 |
| scale | enlarges about the centre; a factor | 1.02 1.05 1.1 1.2 1.4 |
| shear | moves rows sideways; px a row | 0.02 0.05 0.1 0.2 0.3 |

The first five are photometric: the scene stays where it is, so G(T x) is compared with G(x) itself. The
last three are geometric: G(T x) is compared with T G(x). All are applied to the canvas, before the window
is cut, so what enters at the border is real as far as the canvas reaches (reflected beyond), and inputs
and outputs are clipped to what a picture can hold. Compared is the window less a margin, and of T G(x)
only what was interpolated from pixels inside that margin: the image of a mask of ones tells which.

Warps are bicubic (a = -0.75) in double precision: bilinear ones would lose up to 2 % of a wave of 16 px
and 29 % of one of 4 px, and flatter the score; these are off by 0.5 % and 3 %. Enlarging alone is measured,
because shrinking would need a low-pass of its own. The identity network is compared with the same
interpolation of the same pixels, so it scores as identical.

JPEG is a real codec rather than kornia's differentiable one, whose soft rounding lies 1 to 2 dB off.
"""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from data.errors import InputError
from eval.decibels import PEAK, Array, mean_with_interval, psnr_db
from eval.shifts import Protocol, inner

if TYPE_CHECKING:
    from torch import Tensor

N_SEVERITIES = 5
RGB = 3


@dataclass(frozen=True)
class Kind:
    """One kind of perturbation.

    Attributes:
        meaning: in words, with the unit of its values.
        values: of the five severities, mildest first.
        photometric: changes pixels (canvas on [0, 1], value, seed); None for a geometric kind.
        matrix: returns the 2 x 2 map of (x, y), y down, about the centre; None for a photometric kind.
    """

    meaning: str
    values: tuple[float, ...]
    photometric: Callable[[Tensor, float, int], Tensor] | None = None
    matrix: Callable[[float], Array] | None = None


def add_noise(canvas: Tensor, sigma: float, seed: int) -> Tensor:
    """Add Gaussian noise, a function of the seed and of the picture itself.

    So neither the order of pictures nor the number of processes changes it, and the severities of one
    picture are the same pattern, scaled.
    """
    import torch

    content = zlib.crc32((canvas * 255).round().byte().cpu().numpy().tobytes())
    noise = np.random.default_rng((seed, content)).standard_normal(tuple(canvas.shape), dtype=np.float32)
    return canvas + sigma * torch.from_numpy(noise).to(canvas)


def blur(canvas: Tensor, sigma: float, seed: int) -> Tensor:
    """Blur by a Gaussian cut off at four sigma, the border reflected."""
    from kornia.filters import gaussian_blur2d

    reach = min(math.ceil(4 * sigma), min(canvas.shape[-2:]) - 1)  # reflecting needs a larger picture
    return gaussian_blur2d(canvas, 2 * reach + 1, (sigma, sigma))


def jpeg(canvas: Tensor, quality: float, seed: int) -> Tensor:
    """Write the picture to a JPEG file in memory and read it back.

    Raises:
        InputError: for other than 1 or 3 channels.
    """
    import torch
    from PIL import Image

    from data.transforms import to_pixels

    if canvas.shape[1] not in (1, RGB):
        raise InputError(f"jpeg needs inputs of 1 or 3 channels; got {canvas.shape[1]}")
    pixels = to_pixels(canvas[0] * PEAK - 1)
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(
        file, "JPEG", quality=int(quality), subsampling="4:2:0"
    )
    decoded = np.asarray(Image.open(file)).reshape(pixels.shape)
    return torch.from_numpy(decoded.copy()).permute(2, 0, 1)[None].to(canvas) / 255


def brighten(canvas: Tensor, amount: float, seed: int) -> Tensor:
    """Add an amount to every channel."""
    from kornia.enhance import adjust_brightness

    return adjust_brightness(canvas, amount)


def lower_contrast(canvas: Tensor, factor: float, seed: int) -> Tensor:
    """Scale the distance from the picture's mean luma."""
    from kornia.enhance import adjust_contrast_with_mean_subtraction

    return adjust_contrast_with_mean_subtraction(canvas, factor)


def rotate(degrees: float) -> Array:
    """Return the counter-clockwise rotation, as seen on a screen (y runs down)."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, s], [-s, c]])


def enlarge(factor: float) -> Array:
    """Return the enlargement by a factor."""
    return np.diag([factor, factor])


def shear(px_a_row: float) -> Array:
    """Return the map that moves each row to the right by so many px a row below the centre."""
    return np.array([[1.0, px_a_row], [0.0, 1.0]])


KINDS: dict[str, Kind] = {
    "noise": Kind("Gaussian noise, standard deviation on [0, 1]", (0.01, 0.02, 0.04, 0.08, 0.16), add_noise),
    "blur": Kind("Gaussian blur, sigma in px", (0.5, 1.0, 1.5, 2.0, 3.0), blur),
    "jpeg": Kind("JPEG, quality", (90, 70, 50, 30, 10), jpeg),
    "brightness": Kind("brightness, added on [0, 1]", (0.05, 0.1, 0.2, 0.3, 0.4), brighten),
    "contrast": Kind("contrast, factor", (0.9, 0.75, 0.6, 0.45, 0.3), lower_contrast),
    "rotation": Kind("rotation, degrees", (1, 2, 5, 10, 20), matrix=rotate),
    "scale": Kind("enlargement, factor", (1.02, 1.05, 1.1, 1.2, 1.4), matrix=enlarge),
    "shear": Kind("shear, px a row", (0.02, 0.05, 0.1, 0.2, 0.3), matrix=shear),
}


def parse_perturbations(text: str) -> tuple[str, ...]:
    """Read `all` or a comma list into names of `KINDS`.

    >>> parse_perturbations("noise,scale")
    ('noise', 'scale')

    Raises:
        InputError: naming an unknown kind.
    """
    names = tuple(KINDS) if text.strip() == "all" else [part.strip() for part in text.split(",")]
    for name in names:
        if name not in KINDS:
            raise InputError(f"--perturb {name}: is unknown; expected all, or of {', '.join(KINDS)}")
    return tuple(dict.fromkeys(names))


def warp(
    picture: Tensor, matrix: Array, *, window_px: int, origin_px: int = 0, padding: str = "zeros"
) -> Tensor:
    """Map a picture about the centre of its window, bicubically, on the same frame.

    Args:
        picture: (1, C, H, W).
        matrix: (2, 2), where (x, y) less the centre goes.
        window_px: side of the window.
        origin_px: where the window starts in the picture, along both axes.
        padding: `zeros` or `reflection`, what lies outside.

    Returns:
        (1, C, H, W) in double precision, not clipped.
    """
    import torch
    from kornia.geometry.transform import warp_affine

    centre = np.full(2, origin_px + (window_px - 1) / 2)
    affine = torch.from_numpy(np.column_stack([matrix, centre - matrix @ centre])[None])
    return warp_affine(
        picture.double(),
        affine.to(picture.device),
        (picture.shape[-2], picture.shape[-1]),
        mode="bicubic",
        padding_mode=padding,
        align_corners=True,
    )


def perturbed_canvas(
    canvas: Tensor, name: str, value: float, *, origin_px: int, window_px: int, seed: int = 0
) -> Tensor:
    """Return T x.

    Args:
        canvas: (1, C, S, S) in [-1, 1].
        name: of `KINDS`.
        value: of the severity.
        origin_px: where the window starts.
        window_px: its side; the geometric kinds turn about its centre.
        seed: of the noise.
    """
    kind = KINDS[name]
    if kind.matrix is not None:
        moved = warp(
            canvas, kind.matrix(value), origin_px=origin_px, window_px=window_px, padding="reflection"
        )
        return moved.clamp(-1, 1).to(canvas)
    assert kind.photometric is not None
    changed = kind.photometric((canvas + 1) / PEAK, value, seed)
    return changed.clamp(0, 1) * PEAK - 1


@dataclass
class PerturbationScores:
    """Squared errors of one network under perturbations, an image after the other.

    Args:
        protocol: cuts the window out of the canvas.
        kinds: names of `KINDS`; none measures nothing.
        margin_px: left out at each border.
        seed: of the noise.
    """

    protocol: Protocol
    kinds: Sequence[str]
    margin_px: int
    seed: int = 0
    _rows: list[list[float]] = field(default_factory=list)
    _masks: dict[tuple[str, float], Tensor] = field(default_factory=dict)

    @property
    def cases(self) -> list[tuple[str, float]]:
        """Every kind at every severity, in the order of `windows` and `add`."""
        return [(name, value) for name in self.kinds for value in KINDS[name].values]

    def windows(self, canvas: Tensor) -> Iterator[Tensor]:
        """Yield what the network must see for one canvas (1, C, S, S): an input for every case."""
        rule = self.protocol
        for name, value in self.cases:
            yield rule.base(
                perturbed_canvas(
                    canvas,
                    name,
                    value,
                    origin_px=rule.origin_px,
                    window_px=rule.window_px,
                    seed=self.seed,
                )
            )

    def add(self, base: Tensor, perturbed: Iterator[Tensor]) -> None:
        """Score one image.

        Args:
            base: G(x), (1, C, H, W) in [-1, 1].
            perturbed: yields G(T x) for every window of `windows`; only those are taken from it.

        Raises:
            InputError: if nothing is left to compare.
        """
        row = []
        for name, value in self.cases:
            actual, expected = next(perturbed), base
            matrix = KINDS[name].matrix
            if matrix is not None:
                moved = warp(base, matrix(value), window_px=self.protocol.window_px)
                actual, expected = actual.clamp(-1, 1), moved.clamp(-1, 1).to(base)
            squares = (expected - actual).double().square().mean(dim=1, keepdim=True)
            row.append(squares[self._valid(name, value, base)].mean().item())
        self._rows.append(row)

    def mse(self) -> Array:
        """Return squared errors (images, cases)."""
        return np.array(self._rows, dtype=np.float64).reshape(len(self._rows), len(self.cases))

    def summary(self, *, seed: int = 0) -> dict[str, dict[str, Any]]:
        """Return kind -> severity 1 to 5 -> its value and the mean dB over images with its interval."""
        table: dict[str, dict[str, Any]] = {}
        for (name, value), errors in zip(self.cases, self.mse().T, strict=True):
            severities = table.setdefault(name, {})
            figure = {f"{k}_db": v for k, v in mean_with_interval(psnr_db(errors), seed=seed).items()}
            severities[str(len(severities) + 1)] = {"value": value, **figure}
        return table

    def _valid(self, name: str, value: float, base: Tensor) -> Tensor:
        """Return where outputs can be compared, (1, 1, H, W); the same for every image."""
        import torch

        if (name, value) not in self._masks:
            inside = torch.zeros_like(base[:, :1])
            inner(inside, self.margin_px).fill_(1)
            valid = inside > 0
            matrix = KINDS[name].matrix
            if matrix is not None:
                # A pixel is whole where all that it was interpolated from lies inside.
                whole = warp(inside, matrix(value), window_px=self.protocol.window_px)
                valid &= (whole - 1).abs() < 1e-6
            if not valid.any():
                raise InputError(
                    f"{name} by {value}: nothing is left to compare at {self.margin_px} px margin"
                )
            self._masks[name, value] = valid
        return self._masks[name, value]


def describe(kinds: Sequence[str], margin_px: int) -> dict[str, Any]:
    """Return what a result records of the perturbations' protocol."""
    return {
        "margin_px": margin_px,
        "kinds": {
            name: {"meaning": KINDS[name].meaning, "values": list(KINDS[name].values)} for name in kinds
        },
    }
