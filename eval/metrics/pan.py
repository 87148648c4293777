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

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from steadypix.command import positive
from steadypix.errors import InputError
from steadypix.eval.metrics.decibels import Array, mean_with_interval, pooled_db, psnr_db
from steadypix.eval.metrics.forward import run_windows
from steadypix.eval.metrics.measure import Column, Conditions, Label, Measure, db_column, measure_alone
from steadypix.eval.metrics.scene import Scene, as_rgb, caption, widest_spread
from steadypix.eval.metrics.stability import shift_label
from steadypix.eval.repeat.floor import FloorCheck
from steadypix.eval.shifts.fractional import REACH_PX, sinc_shift
from steadypix.eval.shifts.offsets import (
    Offset,
    Shift,
    exact,
    is_whole,
    longest,
    offsets_along,
    parse_shifts,
    plain,
    scaled,
    split,
)
from steadypix.eval.shifts.protocols import Crop, Subpixel, inner
from steadypix.json_checks import FIGURE_DB, LARGEST_PX, count, listed, number, record, size, text
from steadypix.sizes import Size, as_json, from_json, largest, sides, size_of, words

if TYPE_CHECKING:
    from torch import Tensor, nn

    from steadypix.command import Parser

MEANING = (
    "a window slides over a larger picture at v px a frame; outputs are motion-compensated (slices at whole "
    "px, a Kaiser-windowed sinc between) and compared with the frame before, over what all frames show less "
    f"{REACH_PX} px a side ({2 * REACH_PX} px at fractional speeds)"
)
MOST_FRAMES = 4096  # all of them are held at the same time
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
        InputError: for fewer than two frames or too many, a path that is too long, or an unknown axis.
    """
    if n_frames < 2:
        raise InputError(f"{n_frames} frames do not move; expected at least 2")
    if n_frames > MOST_FRAMES:
        raise InputError(f"a pan of {n_frames} frames: expected at most {MOST_FRAMES}")
    if speed * (n_frames - 1) > LARGEST_PX:
        raise InputError(
            f"a pan of {n_frames} frames at {speed} px a frame: leaves any picture; expected a path of at "
            f"most {LARGEST_PX} px"
        )
    start = math.ceil(Fraction(speed) * (n_frames - 1) / 2)  # so the path is centred on the canvas
    return offsets_along([exact(start - Fraction(speed) * frame) for frame in range(n_frames)], axis)


def canvas_for(window_px: Size, offsets: Iterable[Offset]) -> Size:
    """Return the size of the smallest canvas over which a window can pan, in px.

    It holds the path and, beyond it, the reach of the sinc: no window shows anything made up.
    """
    grown = 2 * (math.ceil(max(map(longest, offsets))) + REACH_PX)
    width, height = sides(window_px)
    return size_of(width + grown, height + grown)


@dataclass(frozen=True)
class PanSpeed:
    """A pan at one speed: its frames, and how they are compared.

    Raises:
        InputError: if the path leaves the canvas, or no place is in all frames.
    """

    canvas_px: Size  # of the pictures
    window_px: Size  # of what the network sees
    speed: Shift  # px a frame
    n_frames: int = FRAMES
    axis: str = "x"  # direction of the pan

    def __post_init__(self) -> None:
        needed, about = canvas_for(self.window_px, self.offsets), f"pan at {self.speed} px a frame"
        if largest(self.canvas_px, needed) != self.canvas_px:
            found = words(self.canvas_px)
            raise InputError(f"{about}: needs a canvas of {words(needed)} px, not {found}")
        if min(self.region_px) < 1:
            raise InputError(
                f"{about}: {self.n_frames} frames of {words(self.window_px)} px share nothing but a border "
                f"of {self.margin_px} px; expected a slower pan or fewer frames"
            )

    @functools.cached_property
    def offsets(self) -> list[Offset]:
        """How far the content of each frame is shifted."""
        return pan_offsets(self.speed, n_frames=self.n_frames, axis=self.axis)

    @property
    def margin_px(self) -> int:
        """What is left out a side."""
        return REACH_PX if all(map(is_whole, self.offsets)) else 2 * REACH_PX

    @property
    def region_px(self) -> tuple[int, int]:
        """Width and height of what is compared."""
        wholes = [split(offset)[0] for offset in self.offsets]
        spans = (max(moves) - min(moves) for moves in zip(*wholes, strict=True))
        width, height = (
            side - span - 2 * self.margin_px for side, span in zip(sides(self.window_px), spans, strict=True)
        )
        return width, height

    def windows(self, canvas: Tensor) -> Iterator[Tensor]:
        """Yield the frames that the network must see of one canvas (1, C, S, S)."""
        camera = Subpixel(self.canvas_px, self.window_px)
        return (camera.shifted(canvas, offset) for offset in self.offsets)

    def compensated(self, outputs: Iterator[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the first frame, (C, h, w), and how all frames differ from it in place, (N, C, h, w).

        Args:
            outputs: yields the output (1, C, H, W) for every frame; only those are taken from it.
        """
        import torch

        shown = next(outputs)
        factor = Crop(self.canvas_px, self.window_px).scale(shown)
        canvas, window = (
            size_of(*(factor * side for side in sides(size))) for size in (self.canvas_px, self.window_px)
        )
        cut, margin_px = Crop(canvas, window), factor * self.margin_px  # on the grid of the outputs
        offsets = [scaled(offset, factor) for offset in self.offsets]
        wholes: list[Offset] = [split(offset)[0] for offset in offsets]
        places = itertools.chain([shown], itertools.islice(outputs, len(offsets) - 1))
        frames = (cut.shared(x.double(), whole, wholes) for x, whole in zip(places, wholes, strict=True))
        first, differences = next(frames), []
        if 2 * margin_px >= min(first.shape[-2:]):
            height, width = first.shape[-2:]
            raise InputError(
                f"pan at {self.speed} px a frame: outputs share {width}x{height} px, nothing but a border of "
                f"{margin_px} px; expected a slower pan, fewer frames or a larger window"
            )
        for frame, offset in zip(itertools.chain([first], frames), offsets, strict=True):
            dx, dy = split(offset)[1]
            difference = sinc_shift(frame - sinc_shift(first, (dx, dy)), (-dx, -dy))
            differences.append(inner(difference, margin_px))
        return inner(first, margin_px)[0], torch.cat(differences)

    def score(self, outputs: Iterator[Tensor]) -> list[Any]:
        """Return the squared difference of successive frames, and the energy a temporal frequency."""
        frames = self.compensated(outputs)[1]
        return [frames.diff(dim=0).square().mean().item(), temporal_energy(frames).tolist()]


@dataclass
class PanScores(Measure):
    """Flicker of one network at every speed, a picture after the other."""

    speeds: Sequence[PanSpeed]  # one pan each

    name = "pan"
    needs_base = False
    any_size = True
    pictures = ("pan.png", "pan_*px.webp")
    checks: ClassVar = {"pan": listed(record({"speed_px": number, "difference_db": FIGURE_DB}))}
    checks_about: ClassVar = {"pan": record({"meaning": text, "n_frames": count, "canvas_px": size})}

    @classmethod
    def add_options(cls, parser: Parser) -> None:
        """Add `--pan` and `--pan-frames`."""
        about = "measure flicker while the window pans at V px a frame too: 1 or 1/2,1"
        parser.add_argument("--pan", metavar="V", help=about)
        about = "frames of a pan (default: %(default)s)"
        parser.add_argument("--pan-frames", type=positive, default=FRAMES, metavar="N", help=about)

    @classmethod
    def read(cls, args: Any, *, named: bool) -> Any:
        """Return speeds, frames and axis."""
        if args.pan is None:
            return None
        return {"speeds": parse_speeds(args.pan), "n_frames": args.pan_frames, "axis": args.axis}

    @classmethod
    def identity(cls, settings: Any) -> Any:
        """Return the settings with the speeds as text."""
        return {**settings, "speeds": list(map(str, settings["speeds"]))}

    @classmethod
    def least_canvas_px(cls, settings: Any, window_px: Size) -> Size:
        """Return the size of the smallest canvas that holds the path at every speed."""
        path = {key: settings[key] for key in ("n_frames", "axis")}
        return largest(*(canvas_for(window_px, pan_offsets(speed, **path)) for speed in settings["speeds"]))

    @classmethod
    def make(cls, settings: Any, conditions: Conditions) -> Self:
        """Return one for all speeds."""
        size = (conditions.canvas_px, conditions.window_px)
        path = (settings["n_frames"], settings["axis"])
        return cls([PanSpeed(*size, speed, *path) for speed in settings["speeds"]])

    def windows(self, canvas: Tensor, index: int = 0) -> Iterator[Tensor]:
        """Yield the frames of every speed of one canvas (1, C, S, S)."""
        return itertools.chain.from_iterable(speed.windows(canvas) for speed in self.speeds)

    def labels(self, index: int = 0) -> list[Label]:
        """Return the shift of every frame; frames of two speeds can be one window."""
        return [shift_label(self.name, offset) for speed in self.speeds for offset in speed.offsets]

    def add(self, base: Tensor | None, outputs: Iterator[Tensor], target: Tensor | None, index: int) -> None:
        """Score one picture at every speed."""
        self.rows.append([speed.score(outputs) for speed in self.speeds])

    def results(self) -> list[Flicker]:
        """Return what was measured so far, one a speed."""
        found = []
        for place, speed in enumerate(self.speeds):
            differences, energies = zip(*(row[place] for row in self.rows), strict=True)
            found.append(Flicker(speed.speed, speed.region_px, np.array(differences), np.array(energies)))
        return found

    def summary(self, *, seed: int) -> dict[str, Any]:
        """Return an entry a speed."""
        n_frames = self.speeds[0].n_frames
        return {self.name: [flicker.summary(n_frames=n_frames, seed=seed) for flicker in self.results()]}

    def gains(self, reference: Self, *, seed: int) -> list[dict[str, Any]]:
        """Return the paired differences at every speed."""
        pairs = zip(self.speeds, self.results(), reference.results(), strict=True)
        return [
            {
                "protocol": self.name,
                "margin_px": speed.margin_px,
                "over": f"successive frames at {speed.speed} px a frame",
                "gain_db": mean_with_interval(ours.image_db() - theirs.image_db(), seed=seed),
            }
            for speed, ours, theirs in pairs
        ]

    @classmethod
    def about(cls, settings: Any, conditions: Conditions) -> dict[str, Any]:
        """Return how the window pans."""
        path = {key: settings[key] for key in ("axis", "n_frames")}
        return {cls.name: {"meaning": MEANING, **path, "canvas_px": as_json(conditions.canvas_px)}}

    @classmethod
    def columns(cls, results: Mapping[str, Any]) -> list[Column]:
        """Return the difference of successive frames at every speed."""
        models = results["models"]
        return [
            db_column(
                title=cls.name,
                heading=f"pan {first['speed_px']:g} px [dB]",
                note=f"flicker at {first['speed_px']:g} px a frame",
                figures=[model[cls.name][place]["difference_db"] for model in models],
            )
            for place, first in enumerate(models[0].get(cls.name, ()))
        ]

    @classmethod
    def notes(cls, results: Mapping[str, Any]) -> list[str]:
        """Return what the columns are."""
        if cls.name not in results:
            return []
        frames = results[cls.name]["n_frames"]
        return [f"pan: difference of successive frames, motion-compensated, {frames} frames."]

    @classmethod
    def words(cls, results: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return the meaning."""
        if cls.name not in results:
            return []
        pan = results[cls.name]
        frames = f"{pan['n_frames']} frames, pictures of {words(from_json(pan['canvas_px']))} px"
        return [(cls.name, f"{pan['meaning']}; {frames}.")]

    @classmethod
    def outline(cls, model: Mapping[str, Any]) -> Any:
        """Return the number of speeds."""
        return len(model.get(cls.name, ()))

    @classmethod
    def draw(cls, out: Path, results: dict[str, Any]) -> None:
        """Write the energy a temporal frequency."""
        from steadypix.eval.charts.pan_chart import draw_pan_spectrum

        draw_pan_spectrum(out / "pan.png", results)

    @classmethod
    def show(cls, scene: Scene, out: Path) -> None:
        """Write an animation a speed: the generators side by side, motion-compensated.

        The scene stands still, so all that moves is flicker. Shown is the picture where generators differ
        most, each frame as the first one plus its difference to it.
        """
        from steadypix.data.pictures.transforms import to_pixels
        from steadypix.eval.charts.film import save_flicker
        from steadypix.eval.charts.strips import Strip

        ours: list[Any] = [measures[cls.name] for measures in scene.measures]
        for place, speed in enumerate(ours[0].speeds):
            widest = widest_spread([scores.results()[place].image_db() for scores in ours])
            source = scene.canvas(cls.name, scene.images[widest])[0]
            strips = []
            for network, model in zip(scene.networks, scene.results["models"], strict=True):
                outputs = run_windows(network, speed.windows(source), batch_size=scene.batch_size)
                first, differences = speed.compensated(outputs)
                frames = [as_rgb(to_pixels(frame)) for frame in (first + differences).clamp(-1, 1)]
                note = caption(model, model[cls.name][place]["difference_db"]["mean"])
                strips.append(Strip(name=model["name"], caption=note, outputs=np.stack(frames)))
            about = f"of {speed.n_frames}, {speed.speed} px a frame"
            labels = [f"{number} {about}" for number in range(1, speed.n_frames + 1)]
            path = out / f"pan_{plain(speed.speed):g}px.webp"
            save_flicker(path, strips, shifts=labels, heading="frame", fps=8)


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
    generator: nn.Module | Callable[[Tensor], Any],
    canvases: Any,
    *,
    window_px: Size,
    speed: Shift | float = 1,
    n_frames: int = FRAMES,
    axis: str = "x",
    batch_size: int = 8,
    allow_random: bool = False,
    data_range: Any = None,
    input: str | int | Callable[[Any], Any] | None = None,
    output: str | int | Callable[[Any], Any] | None = None,
) -> Flicker:
    """Measure how much a network's output flickers while its window pans.

    Args:
        generator: maps (B, C, H, W) to (B, C', H', W'); see `steadypix.shift_stability`.
        canvases: pictures (N, C, H, W) that hold the path (`canvas_for`), or an iterable of batches.
        window_px: side of the window the network sees, or (width, height).
        speed: px a frame.
        n_frames: number of frames.
        axis: `x`, `y` or `diagonal`.
        batch_size: windows in one forward pass.
        allow_random: measure a network too that gives equal inputs unequal outputs.
        data_range: of pictures and outputs; this and the next two are as in `shift_stability`.
        input: of a batch.
        output: of the network's.

    Raises:
        InputError: if the path does not fit, there are no pictures, or an output is not
            finite, or the network is random and may not be.

    >>> import torch
    >>> pictures = torch.rand(1, 3, 88, 88) * 2 - 1
    >>> pan_flicker(torch.nn.Tanh(), pictures, window_px=48, n_frames=8).image_db().tolist()
    [150.0]
    """

    def make(canvas_px: Size) -> PanScores:
        return PanScores([PanSpeed(canvas_px, window_px, exact(speed), n_frames, axis)])

    how: dict[str, Any] = {"window_px": window_px, "batch_size": batch_size}
    how |= {"data_range": data_range, "input": input, "output": output}
    check = FloorCheck(allow_random=allow_random, batch_size=batch_size)
    return measure_alone(make, generator, canvases, check=check, **how).results()[0]
