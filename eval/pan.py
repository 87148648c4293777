"""Pan: a window slides over a large picture, and what flickers in the output is measured.

A camera that pans at v px a frame shows the same scene in every frame, each time v px further on. An
equivariant generator paints that scene once; any other repaints it frame by frame, which in video shimmers.
Frames are motion-compensated, and what still changes from one to the next is flicker.

*Input*: frame n is the window of the canvas shifted by -n v, as `subpixel` shifts: by slicing at whole px,
by the windowed sinc in between.

*Compensation*: a frame is compared with the first one. At whole px both are sliced to the place of the scene
that all frames show. In between, the first output is moved forward by the sinc to meet the frame, and their
difference is moved back onto the first one's grid:

    c_n = S(-f) ( G(x_n) - S(f) G(x_0) ),   f the fraction of n v

Moving the outputs themselves back would not do: a sinc that moves half a pixel forth and back removes what is
near the Nyquist frequency, so even a network that does nothing would flicker between whole and half pixels
(on label maps by more than a good generator does). Here it scores near the float floor at every speed.

*Region*: what all frames show, less 16 px a side at whole speeds (the usual margin), less 32 px at fractional
ones (each of the two sincs reaches 16 px).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from data.errors import InputError
from eval.decibels import Array, mean_with_interval, pooled_db, psnr_db
from eval.forward import eval_mode, one_by_one, run_windows
from eval.fractional import REACH_PX, sinc_shift
from eval.offsets import Offset, Shift, exact, is_whole, longest, offsets_along, parse_shifts, plain, split
from eval.shifts import Crop, Subpixel, inner

if TYPE_CHECKING:
    from torch import Tensor, nn

MEANING = (
    "a window slides over a larger picture at v px a frame; outputs are motion-compensated (slices at whole "
    "px, a Kaiser-windowed sinc between) and compared with the frame before, over what all frames show less "
    f"{REACH_PX} px a side ({2 * REACH_PX} px at fractional speeds)"
)
FRAMES = 16  # covers every phase of four strided levels at 1 px a frame


def parse_speeds(text: str) -> list[Shift]:
    """Read `1`, `1/2,1` or `0.25` into ascending speeds in px a frame.

    Raises:
        InputError: naming the text, if it is no speed, or not positive.
    """
    speeds = parse_shifts(text)
    if speeds[0] <= 0:
        raise InputError(f"pan speed {speeds[0]} px a frame; expected one over 0, such as 1 or 1/2")
    return speeds


def pan_offsets(speed: Shift, *, n_frames: int = FRAMES, axis: str = "x") -> list[Offset]:
    """Return how far the content of each frame is shifted, in px; the first offset is whole.

    Raises:
        InputError: for fewer than two frames, or an unknown axis.
    """
    if n_frames < 2:
        raise InputError(f"{n_frames} frames do not move; expected at least 2")
    start = math.ceil(Fraction(speed) * (n_frames - 1) / 2)  # so the path is centred on the canvas
    return offsets_along([exact(start - Fraction(speed) * frame) for frame in range(n_frames)], axis)


def canvas_for(window_px: int, offsets: Iterable[Offset]) -> int:
    """Return the side of the smallest canvas over which a window can pan, in px.

    It holds the path and, beyond it, the reach of the sinc: no window shows anything made up.
    """
    return window_px + 2 * (math.ceil(max(map(longest, offsets))) + REACH_PX)


@dataclass
class PanScores:
    """Flicker of one network at one speed, an image after the other.

    Args:
        canvas_px: side of the pictures.
        window_px: side of what the network sees.
        speed: px a frame.
        n_frames: number of frames.
        axis: direction of the pan.

    Raises:
        InputError: if the path leaves the canvas, or no place is in all frames.
    """

    canvas_px: int
    window_px: int
    speed: Shift
    n_frames: int = FRAMES
    axis: str = "x"
    _differences: list[float] = field(default_factory=list)
    _energies: list[Array] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.offsets = pan_offsets(self.speed, n_frames=self.n_frames, axis=self.axis)
        self.camera = Subpixel(self.canvas_px, self.window_px)
        self.margin_px = REACH_PX if all(map(is_whole, self.offsets)) else 2 * REACH_PX
        needed = canvas_for(self.window_px, self.offsets)
        if self.canvas_px < needed:
            raise InputError(
                f"pan at {self.speed} px a frame: needs a canvas of {needed} px, not {self.canvas_px}"
            )
        if min(self.region_px) < 1:
            raise InputError(
                f"pan at {self.speed} px a frame: {self.n_frames} frames of {self.window_px} px share "
                f"nothing but a border of {self.margin_px} px; expected a slower pan or fewer frames"
            )

    @property
    def region_px(self) -> tuple[int, int]:
        """Width and height of what is compared."""
        wholes = [split(offset)[0] for offset in self.offsets]
        spans = (max(moves) - min(moves) for moves in zip(*wholes, strict=True))
        width, height = (self.window_px - span - 2 * self.margin_px for span in spans)
        return width, height

    def windows(self, canvas: Tensor) -> Iterator[Tensor]:
        """Yield the frames that the network must see of one canvas (1, C, S, S)."""
        return (self.camera.shifted(canvas, offset) for offset in self.offsets)

    def compensated(self, outputs: Iterator[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the first frame, (C, h, w), and how all frames differ from it in place, (N, C, h, w).

        Args:
            outputs: yields the output (1, C, H, W) for every frame; only those are taken from it.
        """
        import torch

        cut = Crop(self.canvas_px, self.window_px)
        wholes: list[Offset] = [split(offset)[0] for offset in self.offsets]
        first: Tensor | None = None
        differences = []
        for whole, offset in zip(wholes, self.offsets, strict=True):
            frame = cut.shared(next(outputs).double(), whole, wholes)
            first = frame if first is None else first
            dx, dy = split(offset)[1]
            difference = sinc_shift(frame - sinc_shift(first, (dx, dy)), (-dx, -dy))
            differences.append(inner(difference, self.margin_px))
        assert first is not None
        return inner(first, self.margin_px)[0], torch.cat(differences)

    def add(self, outputs: Iterator[Tensor]) -> None:
        """Score one image: the outputs (1, C, H, W) for its frames."""
        frames = self.compensated(outputs)[1]
        self._differences.append(frames.diff(dim=0).square().mean().item())
        self._energies.append(temporal_energy(frames))

    def result(self) -> Flicker:
        """Return what was measured so far."""
        return Flicker(self.speed, self.region_px, np.array(self._differences), np.array(self._energies))


def temporal_energy(frames: Tensor) -> Array:
    """Return the energy of frames (N, ...) at k / N cycles a frame, k = 1 .. N // 2, a pixel and frame.

    Both signs of a frequency are counted together, so the sum is the variance over time (Parseval). No
    window is applied: energy between two of the frequencies leaks to its neighbours.
    """
    import torch

    count = len(frames)
    power = (torch.fft.rfft(frames, dim=0).abs() / count).square().flatten(1).mean(dim=1)
    power[1 : (count + 1) // 2] *= 2
    return np.asarray(power[1:].cpu().numpy(), dtype=np.float64)


@dataclass(frozen=True)
class Flicker:
    """A finished measurement.

    Attributes:
        speed: px a frame.
        region_px: width and height of what was compared.
        differences: mean squared difference between successive frames, (images,), of outputs in [-1, 1].
        energies: energy at each temporal frequency, (images, N // 2), see `temporal_energy`.
    """

    speed: Shift
    region_px: tuple[int, int]
    differences: Array
    energies: Array

    def image_db(self) -> Array:
        """Return one value an image: dB of the difference between successive frames."""
        return psnr_db(self.differences)

    def summary(self, *, n_frames: int, seed: int = 0) -> dict[str, Any]:
        """Return means and 95 % intervals over images as plain JSON values."""
        return {
            "speed_px": plain(self.speed),
            "region_px": list(self.region_px),
            "difference_db": mean_with_interval(self.image_db(), seed=seed),
            "pooled_db": pooled_db(self.differences),
            "n_identical": int((self.differences == 0).sum()),
            "cycles_per_frame": [k / n_frames for k in range(1, n_frames // 2 + 1)],
            "energy": self.energies.mean(axis=0).tolist(),
        }


def pan_flicker(
    generator: nn.Module,
    canvases: Tensor | Iterable[Tensor],
    *,
    window_px: int,
    speed: Shift | float = 1,
    n_frames: int = FRAMES,
    axis: str = "x",
    batch_size: int = 8,
) -> Flicker:
    """Measure how much a network's output flickers while its window pans.

    Args:
        generator: maps (B, C, H, W) to (B, C', H, W) in [-1, 1]; given back in the mode it came in.
        canvases: pictures (N, C, S, S) in [-1, 1] that hold the path (`canvas_for`), or batches.
        window_px: side of the window the network sees.
        speed: px a frame.
        n_frames: number of frames.
        axis: `x`, `y` or `diagonal`.
        batch_size: windows in one forward pass.

    Raises:
        InputError: if the path does not fit, there are no pictures, or an output is not finite.

    >>> import torch
    >>> pictures = torch.rand(1, 3, 88, 88) * 2 - 1
    >>> pan_flicker(torch.nn.Tanh(), pictures, window_px=48, n_frames=8).image_db().tolist()
    [150.0]
    """
    scores: PanScores | None = None
    with eval_mode(generator):
        for canvas in one_by_one(canvases, generator):
            scores = scores or PanScores(canvas.shape[-1], window_px, exact(speed), n_frames, axis)
            scores.add(run_windows(generator, scores.windows(canvas), batch_size=batch_size))
    if scores is None:
        raise InputError("there are no pictures to measure")
    return scores.result()
