"""Progress bars on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, TypeVar

Item = TypeVar("Item")


def progress(items: Iterable[Item], total: int, *, unit: str = "image") -> Iterable[Item]:
    """Show how far an iteration is, on stderr: a moving bar in a terminal, a line now and then elsewhere."""
    from tqdm import tqdm

    return tqdm(items, total=total, unit=unit, mininterval=progress_interval_s(), disable=total == 1)


def progress_bar(total: int | None, *, unit: str, what: str) -> Any:
    """Return a bar for what is no iteration: a context with `update(n)`. Nothing is shown of a total of 1."""
    from tqdm import tqdm

    shown = {"mininterval": progress_interval_s(), "disable": total == 1, "leave": False}
    return tqdm(total=total, unit=unit, desc=what, **shown)


def progress_interval_s() -> float:
    """Return the least time between two states of a progress bar."""
    return 0.2 if sys.stderr.isatty() else 30.0
