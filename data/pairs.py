"""What every source of pairs offers: jittered samples for training, whole canvases for evaluation."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from data.errors import InputError
from data.transforms import cut, random_window, to_tensor

DIRECTIONS = ("AtoB", "BtoA")


class Pairs(Dataset[dict[str, Tensor | str]]):
    """Input and target pictures at load size, and the jitter that training cuts out of them.

    Args:
        direction: `AtoB` takes the first (left) half as input, `BtoA` the second.
        load_size: side in px a picture is brought to; the canvas of the `crop` protocol.
        crop_size: side in px of the window a network sees.
        flip: mirror half of the training samples.
        seed: of the jitter.
        cache: keep the pictures at load size in memory: 6 bytes a pixel pair for RGB.

    Raises:
        InputError: for an unknown direction or a crop larger than the load size.
    """

    def __init__(
        self,
        *,
        direction: str = "BtoA",
        load_size: int = 286,
        crop_size: int = 256,
        flip: bool = True,
        seed: int = 0,
        cache: bool = False,
    ) -> None:
        if direction not in DIRECTIONS:
            raise InputError(f"direction {direction!r} is unknown; expected AtoB or BtoA")
        if not 1 <= crop_size <= load_size:
            raise InputError(f"crop size {crop_size} px must lie between 1 and the load size {load_size} px")
        self.direction = direction
        self.load_size = load_size
        self.crop_size = crop_size
        self.flip = flip
        self.seed = seed
        self._cache: dict[int, tuple[np.ndarray, np.ndarray]] | None = {} if cache else None

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of pairs."""

    @abstractmethod
    def name(self, index: int) -> str:
        """Return the name of a pair, for messages and files."""

    @abstractmethod
    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the two halves (A, B) of a pair at load size, uint8 (load_size, load_size, C)."""

    def canvas(self, index: int) -> tuple[Tensor, Tensor]:
        """Return (input, target) at load size, each (C, load_size, load_size) in [-1, 1]."""
        source, target = self._halves(index)
        return to_tensor(source), to_tensor(target)

    def sample(self, index: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return (input, target) windows, jittered alike, each (C, crop_size, crop_size) in [-1, 1].

        Args:
            index: which pair.
            rng: where the jitter is drawn from.
        """
        left, top, mirrored = random_window(self.load_size, self.crop_size, flip=self.flip, rng=rng)
        halves = self._halves(index)
        source, target = (cut(half, left, top, self.crop_size, mirrored=mirrored) for half in halves)
        return to_tensor(source), to_tensor(target)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Tensor | str]:
        """Return the training sample of `(epoch, index)`; a bare index is epoch 0.

        The jitter is a function of (seed, epoch, index) alone, so neither the number of workers nor the
        place where a run was resumed changes what a network sees.
        """
        epoch, index = (0, key) if isinstance(key, int) else key
        rng = np.random.default_rng((self.seed, epoch, index))
        source, target = self.sample(index, rng)
        return {"input": source, "target": target, "name": self.name(index)}

    def _halves(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if self._cache is None:
            first, second = self.read(index)
        else:
            if index not in self._cache:
                self._cache[index] = self.read(index)
            first, second = self._cache[index]
        return (first, second) if self.direction == "AtoB" else (second, first)
