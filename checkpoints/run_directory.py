"""The directory of a training run: config.yaml, metrics.jsonl, samples/, generators, last/.

Whatever else reads it sees every file whole: each is written under a temporary name and renamed, and
metrics.jsonl is appended to line by line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steadypix.files import TEMPORARY, write_text

if TYPE_CHECKING:
    from torch import Tensor, nn

STATE_FILE = Path("last") / "state.safetensors"
OF_A_RUN = ("generator*.safetensors", "samples/epoch-*.png", "metrics.jsonl")  # beside state and config.yaml
MARKS = "pictures"  # name of the state's tensor that tells the pictures, (N, 8) uint8


class RunDirectory:
    """Where one training writes.

    Args:
        path: made by `begin`.
        config: of the whole run, JSON-able; every generator's file holds it.
    """

    def __init__(self, path: Path, *, config: Mapping[str, Any]) -> None:
        self.path = path
        self.config = config

    def begin(self, *, config_yaml: str, seen: int) -> None:
        """Make the directory, as it was after `seen` samples.

        Metrics of later samples are dropped, because a run that goes on writes them again, and so is what a
        killed process left half-written.
        """
        for folder in (self.path, self.path / "last", self.path / "samples"):
            for file in folder.iterdir() if folder.is_dir() else ():
                if TEMPORARY.fullmatch(file.name):
                    file.unlink(missing_ok=True)
        # Made before any generator: one without this folder is of a run that was kept, see `find_state`.
        (self.path / STATE_FILE).parent.mkdir(parents=True, exist_ok=True)
        write_text(self.path / "config.yaml", config_yaml)
        metrics = self.path / "metrics.jsonl"
        lines = metrics.read_text(encoding="utf-8", errors="replace").splitlines() if metrics.exists() else []
        kept = "".join(f"{line}\n" for line in lines if _seen(line) <= seen)
        write_text(metrics, kept)

    def clear(self) -> None:
        """Remove what a training left here, so that another can begin: first what it would go on from."""
        (self.path / STATE_FILE).parent.mkdir(parents=True, exist_ok=True)
        (self.path / STATE_FILE).unlink(missing_ok=True)
        for pattern in OF_A_RUN:
            for file in self.path.glob(pattern):
                file.unlink()

    def write_row(self, kind: str, *, seen: int, epoch: float, values: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        row = {"kind": kind, "seen": seen, "epoch": epoch, **values}
        with open(self.path / "metrics.jsonl", "a") as file:
            file.write(json.dumps(row) + "\n")

    def save_generator(self, name: str, generator: nn.Module, *, provenance: Mapping[str, Any]) -> None:
        """Write a generator that loads with no other file."""
        from steadypix.gen.weights.generators import save_generator

        save_generator(
            self.path / name,
            generator,
            config=self.config,
            provenance={"run": self.path.name, **provenance},
        )

    def save_state(self, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
        """Write everything the run needs to go on."""
        from steadypix.gen.weights.tensors import write_tensors

        write_tensors(self.path / STATE_FILE, tensors, {"config": self.config, **metadata})


def _seen(line: str) -> float:
    """Return a metrics line's place; infinity for one that a kill cut short."""
    try:
        return float(json.loads(line)["seen"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return float("inf")
