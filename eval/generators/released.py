"""The generators that come with steadypix, by short names."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

from steadypix.errors import CheckpointError

RELEASED = Path(str(importlib.resources.files("steadypix.checkpoints"))) / "released"


def list_generators() -> list[str]:
    """Return the short names of the released generators, such as `facades-blur`."""
    return sorted(path.stem for path in RELEASED.glob("*.safetensors"))


def locate(what: str | Path) -> Path:
    """Return the path of what a user typed: that of a released generator's short name, else the text itself.

    A file or folder of that name goes first.

    Raises:
        CheckpointError: for a plain name that is neither a file nor a released generator.
    """
    path = Path(what)
    if path.exists() or path.suffix or len(path.parts) != 1 or ":" in path.name:
        return path
    if path.name not in list_generators():
        known = ", ".join(list_generators())
        raise CheckpointError(f"{path}: no such file; expected one, a run folder, or one of {known}")
    return RELEASED / f"{path.name}.safetensors"
