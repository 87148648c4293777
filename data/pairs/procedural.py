"""Procedural pairs behind the same face as a folder: nothing to download."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from steadypix.data.pairs.base import Pairs
from steadypix.data.scenes.render import KINDS, render_pair
from steadypix.errors import InputError

# Splits are far apart in one endless row of scenes, so that they never meet.
MOST = 10_000_000
PROOF_PX = 64  # a side of the scene that stands for the code that draws all of them
_FIRST_INDEX = {"train": 0, "val": MOST, "test": 2 * MOST}


class SyntheticPairs(Pairs):
    """Procedural (photo, labels) or (aerial, map) pairs, rendered at load size.

    Args:
        kind: `facades` or `maps`.
        split: `train`, `val` or `test`: other scenes from the same distribution.
        count: number of pairs.
        scene_seed: which endless row of scenes.
        **options: see `Pairs`.

    Raises:
        InputError: for an unknown kind or split, or a count below 1 or beyond the next split.
    """

    def __init__(
        self,
        kind: str = "facades",
        split: str = "train",
        *,
        count: int = 400,
        scene_seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if kind not in KINDS:
            raise InputError(f"synthetic kind {kind!r} is unknown; expected one of {', '.join(KINDS)}")
        if split not in _FIRST_INDEX:
            raise InputError(f"split {split!r} is unknown; synthetic data has {', '.join(_FIRST_INDEX)}")
        if not 1 <= count <= MOST:
            raise InputError(f"the number of synthetic pairs must be 1 to {MOST}, not {count}")
        self.kind = kind
        self.split = split
        self.scene_seed = scene_seed
        self._count = count

    def __len__(self) -> int:
        """Return the number of pairs."""
        return self._count

    def name(self, index: int) -> str:
        """Return `kind-split-index`."""
        return f"{self.kind}-{self.split}-{index:05d}"

    def origin(self) -> bytes:
        """Return the hash of the row of scenes, and of a small scene as today's code draws it."""
        drawn = hashlib.sha256(f"{self.kind}/{self.scene_seed}".encode())
        for half in render_pair(self.kind, size=PROOF_PX, seed=self.scene_seed, index=0):
            drawn.update(half.tobytes())
        return drawn.digest()

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Render the halves (photo, labels) of a pair."""
        if not 0 <= index < self._count:
            raise IndexError(index)
        scene = _FIRST_INDEX[self.split] + index
        return render_pair(self.kind, size=max(self.load_px), seed=self.scene_seed, index=scene)
