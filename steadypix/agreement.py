"""Processes that share a piece of work see, before they begin, that all have the same before them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from steadypix.errors import InputError, printable

Everyone = Callable[[Any], Sequence[Any]]  # gives the value of every process, by rank, to each of them
LONGEST_SHOWN = 80  # characters of a value


def require_same(what: Mapping[str, Any], everyone: Everyone) -> None:
    """See that values are equal in all processes.

    Args:
        what: JSON values by what they are; every process has the same keys.
        everyone: collects.

    Raises:
        InputError: on every process alike, naming the first value that differs, and where.
    """
    seen = everyone(dict(what))
    for key in what:
        for rank, theirs in enumerate(seen):
            if theirs[key] != seen[0][key]:
                values = f"{_shown(theirs[key])} in process {rank}, {_shown(seen[0][key])} in process 0"
                raise InputError(printable(f"the processes differ in {key}: {values}; expected the same"))


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."
