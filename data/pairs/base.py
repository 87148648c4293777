"""What every source of pairs offers: jittered samples for training, whole canvases for evaluation."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from steadypix.data.pairs.perturb import perturb
from steadypix.data.pictures.transforms import cut, cut_around, cut_centre, random_window, to_tensor
from steadypix.errors import InputError
from steadypix.sizes import Size, sides, words

DIRECTIONS = ("AtoB", "BtoA")
ON_ERROR = ("fail", "skip")
# Other pairs tried in place of one that cannot be read. If as many drawn at random are broken too, the folder
# is what is wrong, and a run of thousands should not read all of it to say so.
MAX_TRIES = 64


class Pairs(Dataset[dict[str, Tensor | str]]):
    """Input and target pictures at load size, and the jitter that training cuts out of them.

    Args:
        direction: `AtoB` takes the first (left) half as input, `BtoA` the second.
        load_size: side in px a picture is brought to, or, by another rule than `square`, its shorter side
            at least; the canvas of the `crop` protocol. (width, height) for rectangles, which evaluations
            take: pictures are resized to cover it, and what is over is cut off evenly.
        crop_size: side in px of the window a network sees; (width, height) for a rectangle.
        flip: mirror half of the training samples.
        lighting: over 0, a training input's contrast is lowered by up to twice this share and its brightness
            changed by up to this share of the range, at random. Its target stays as it is.
        seed: of the jitter.
        shift_px: over 0, samples also hold a second window of the input, moved by up to so many px along
            both axes.
        perturb_moved: that window is also seen with noise, out of focus or under another light, at random.
        context_px: that a training input has on each side of its window: what the picture has there, and
            mirrored beyond its edge.
        cache: keep the pictures at load size in memory: 6 bytes a pixel pair for 8-bit RGB.
        on_error: `fail` raises for a pair that cannot be read; `skip` trains on another in its place.

    Raises:
        InputError: for an unknown direction or `on_error`, or a crop larger than the load size.
    """

    has_targets: ClassVar[bool] = True

    def __init__(
        self,
        *,
        direction: str = "BtoA",
        load_size: Size = 286,
        crop_size: Size = 256,
        flip: bool = True,
        lighting: float = 0.0,
        seed: int = 0,
        shift_px: int = 0,
        perturb_moved: bool = False,
        context_px: int = 0,
        cache: bool = False,
        on_error: str = "fail",
    ) -> None:
        if direction not in DIRECTIONS:
            raise InputError(f"direction {direction!r} is unknown; expected AtoB or BtoA")
        if on_error not in ON_ERROR:
            raise InputError(f"on_error {on_error!r} is unknown; expected fail or skip")
        self.load_px, self.crop_px = sides(load_size), sides(crop_size)  # widths and heights
        if not all(1 <= crop <= load for crop, load in zip(self.crop_px, self.load_px, strict=True)):
            sizes = f"{words(crop_size)} px must lie between 1 and the load size {words(load_size)} px"
            raise InputError(f"crop size {sizes}")
        self.direction = direction
        self.load_size, self.crop_size = min(self.load_px), min(self.crop_px)
        self.flip = flip
        self.lighting = lighting
        self.seed = seed
        self.shift_px = shift_px
        self.perturb_moved = perturb_moved
        self.context_px = context_px
        self.on_error = on_error
        self._unreadable: dict[int, str] = {}
        self._cache: dict[int, tuple[np.ndarray, np.ndarray]] | None = {} if cache else None

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of pairs."""

    @abstractmethod
    def name(self, index: int) -> str:
        """Return the name of a pair, for messages and files."""

    def files(self, index: int) -> tuple[Path, ...]:
        """Return the files that a pair is read from; none where it is made otherwise."""
        return ()

    def origin(self) -> bytes:
        """Return what tells pictures that are made from others of the same names; of files nothing."""
        return b""

    @abstractmethod
    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the two halves (A, B) of a pair, (H, W, C) uint8 or uint16, of at least load size a side."""

    def canvas(self, index: int) -> tuple[Tensor, Tensor]:
        """Return (input, target) at load size, each (C, load_size, load_size) in [-1, 1].

        Of pictures of another shape it is the middle.
        """
        source, target = (cut_centre(half, self.load_px) for half in self._halves(index))
        return to_tensor(source), to_tensor(target)

    def shown(self, index: int) -> tuple[Tensor, Tensor | None]:
        """Return what `canvas` does; None for the target where there are none (`has_targets`)."""
        return self.canvas(index)

    def whole(self, index: int) -> tuple[Tensor, Tensor]:
        """Return (input, target) with nothing cut off, each (C, H, W) in [-1, 1]."""
        source, target = self._halves(index)
        return to_tensor(source), to_tensor(target)

    def sample(self, index: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """Return windows of a pair, jittered alike, each (C, crop_size, crop_size) in [-1, 1].

        Those of the input are larger by `context_px` on each side.

        Args:
            index: which pair.
            rng: where the jitter is drawn from.

        Returns:
            `input` and `target`; with `shift_px` also `moved`, the input seen from another place, and
            `shift`, (dx, dy) in px: what `input` shows at (x, y), `moved` shows at (x + dx, y + dy).
        """
        size = self.crop_size
        source, target = self._halves(index)
        height, width = source.shape[:2]
        left, top, mirrored = random_window(height, width, size, flip=self.flip, rng=rng)
        sample = {
            "input": to_tensor(cut_around(source, left, top, size, self.context_px, mirrored=mirrored)),
            "target": to_tensor(cut(target, left, top, size, mirrored=mirrored)),
        }
        if self.shift_px:  # drawn last, so that the windows above are the same without it
            dx, dy = (
                int(rng.integers(max(-self.shift_px, at + size - side), min(self.shift_px, at) + 1))
                for at, side in ((left, width), (top, height))
            )
            moved = cut_around(source, left - dx, top - dy, size, self.context_px, mirrored=mirrored)
            sample["moved"] = to_tensor(moved)
            sample["shift"] = torch.tensor([-dx if mirrored else dx, dy])
        if self.lighting:
            contrast = 1 - 2 * self.lighting * rng.random()
            brightness = 2 * self.lighting * (2 * rng.random() - 1)  # of -1..1
            mean = sample["input"].mean()
            for name in ("input", "moved")[: 1 + bool(self.shift_px)]:
                sample[name] = ((sample[name] - mean) * contrast + mean + brightness).clamp(-1, 1)
        if self.shift_px and self.perturb_moved:
            sample["moved"] = perturb(sample["moved"], rng)
        return sample

    def canvases(self, limit: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield what `canvas` returns of the first `limit` pairs; `skip` passes over unreadable ones.

        Raises:
            InputError: if a pair cannot be read and `on_error` is `fail`, or none at all can.
        """
        yielded = 0
        for index in range(len(self)):
            if yielded == limit:
                return
            try:
                canvas = self.canvas(index)
            except InputError:
                if self.on_error == "fail" or (not yielded and index + 1 == min(len(self), MAX_TRIES)):
                    raise
                continue
            yield canvas
            yielded += 1

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Tensor | str]:
        """Return the training sample of `(epoch, index)`; a bare index is epoch 0.

        The jitter is a function of (seed, epoch, index) alone, so neither the number of workers nor the
        place where a run was resumed changes what a network sees. So is the pair that stands in for one that
        cannot be read, as long as the files stay the same.

        Returns:
            what `sample` returns; `name` of the pair they are of; `skipped`: the reasons why
            others could not be read, one a line, or an empty string.

        Raises:
            InputError: if the pair cannot be read and `on_error` is `fail`, or nothing in its place can.
        """
        epoch, index = (0, key) if isinstance(key, int) else key
        skipped: list[str] = []
        for place, rng in self._candidates(epoch, index):
            try:
                sample = self.sample(place, rng)
            except InputError as error:
                if self.on_error == "fail":
                    raise
                skipped.append(" ".join(str(error).split()))
            else:
                return {**sample, "name": self.name(place), "skipped": "\n".join(skipped)}
        raise InputError(f"{len(skipped)} pairs in a row cannot be read; the first: {skipped[0]}")

    def _candidates(self, epoch: int, index: int) -> Iterator[tuple[int, np.random.Generator]]:
        """Yield the pair of a key, then others in its place, each once and with its own jitter."""
        yield index, np.random.default_rng((self.seed, epoch, index))
        # A word more than above: another stream.
        draw = np.random.default_rng((self.seed, epoch, index, 1))
        for other in draw.choice(len(self), size=min(len(self), MAX_TRIES), replace=False):
            if other != index:
                yield int(other), np.random.default_rng((self.seed, epoch, index, 1, int(other)))

    def _halves(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if self._cache is not None and index in self._cache:
            first, second = self._cache[index]
        else:
            first, second = self._read_once(index)
            if self._cache is not None:
                self._cache[index] = first, second
        return (first, second) if self.direction == "AtoB" else (second, first)

    def _read_once(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Read a pair; what `skip` found unreadable is not decoded again at every visit."""
        if index in self._unreadable:
            raise InputError(self._unreadable[index])
        try:
            return self.read(index)
        except InputError as error:
            if self.on_error == "skip":
                self._unreadable[index] = str(error)
            raise
