"""What a retrofit did to a network, as data and as a table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from steadypix.gen.retrofit.edits import Edits
from steadypix.gen.retrofit.probe import Cost


@dataclass(frozen=True)
class Change:
    """What became of one layer.

    Attributes:
        module: its name in the network; of a function, that of the module whose forward calls it; empty for
            the network itself.
        kind: its class, or the function.
        stride: what it subsampled or upsampled by.
        blur: where the blur is, in words.
        upward: whether it upsamples.
    """

    module: str
    kind: str
    stride: int
    blur: str
    upward: bool = False


@dataclass(frozen=True)
class Left:
    """A layer that changes the resolution and was left as it is.

    Attributes:
        module: as of `Change`.
        reason: why.
        kind: its class, or the function; empty where it is not known.
        stride: what it subsamples or upsamples by; 0 where that is no whole number or not known.
        upward: whether it upsamples.
    """

    module: str
    reason: str
    kind: str = ""
    stride: int = 0
    upward: bool = False


@dataclass(frozen=True)
class Retrofit:
    """What `antialias` did to a network; prints as a table.

    Attributes:
        model: the network, the same object that was given.
        changes: in the order of the network's modules, functions behind them.
        left: layers that change the resolution still.
        probe: shape of what the network ran on before and after, () if it did not run.
        unproven: empty where all blurs were seen to run and all output shapes to hold; else why not.
        before: cost of a pass on the probe before; None if it did not run.
        after: cost of a pass on the probe after.
    """

    model: nn.Module
    changes: tuple[Change, ...]
    left: tuple[Left, ...]
    probe: tuple[int, ...] = ()
    unproven: str = ""
    before: Cost | None = None
    after: Cost | None = None
    _edits: Edits = field(default_factory=Edits, repr=False, compare=False)

    @property
    def proven(self) -> bool:
        """Whether all blurs were seen to run and all output shapes to hold."""
        return not self.unproven

    def undo(self) -> None:
        """Bring back the network that was there before, with the weights it has now; twice is once.

        Copies of the network that were made in between keep their blurs.

        Raises:
            RuntimeError: if a later retrofit changed the same layers; undo that one first.
        """
        self._edits.undo()

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Return the table's cells: layer, kind, factor, and what was done or why it was left."""
        done = [(c.module or "(root)", c.kind, _factor(c), c.blur) for c in self.changes]
        return done + [
            (item.module or "(root)", item.kind or "?", _factor(item), f"LEFT: {item.reason}")
            for item in self.left
        ]

    def summary(self) -> str:
        """Return what was proven, and what it costs, as one line."""
        counts = f"{len(self.changes)} changed, {len(self.left)} left"
        if self.unproven:
            return f"{counts}; UNPROVEN: {self.unproven}"
        shape = " x ".join(map(str, self.probe))
        line = f"{counts}; at {shape} all blurs ran and all output shapes held"
        if self.before and self.after:
            line += (
                f"; MACs {_short(self.before.macs)} -> {_short(self.after.macs)}, "
                f"maps {_short(self.before.map_bytes)}B -> {_short(self.after.map_bytes)}B"
            )
        return line

    def __str__(self) -> str:
        rows = self.rows()
        if not rows:
            return f"no layer changes the resolution; {self.summary()}"
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, (*widths, 0), strict=True))
            for row in rows
        ]
        return "\n".join([*lines, self.summary()])


def _factor(item: Any) -> str:
    if not item.stride:
        return "?"
    return f"x{item.stride}" if item.upward else f"1/{item.stride}"


def _short(number: int) -> str:
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number} "
