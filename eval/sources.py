"""The pictures that checkpoints are measured on: as they say themselves, or as `--data` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.errors import InputError

if TYPE_CHECKING:
    from data.pairs import Pairs
    from eval.models import Model

SYNTHETIC_COUNT = 50


def open_data(
    models: Sequence[Model], *, source: str | None, split: str | None, limit: int | None, least_px: int = 0
) -> tuple[Pairs, dict[str, Any]]:
    """Open the pictures that all models are measured on.

    Args:
        models: their configurations say direction, sizes, and, without `source`, which pictures.
        source: a folder of pairs, `synthetic` (of the models' own kind), `synthetic-facades`,
            `synthetic-maps`, or None.
        split: folder name, or None for the runs' validation split (`test` or `val` of a named folder).
        limit: number of procedural pictures; None is `SYNTHETIC_COUNT`.
        least_px: side of the canvas at least. Where the models' load size is smaller, procedural scenes are
            rendered, and pictures of a folder resized, to this side: as much larger than the network knows
            them as must be, and no more.

    Returns:
        The pairs, and what a result records about them.

    Raises:
        InputError: if the models disagree and the arguments do not settle it, or nothing is there.
    """
    from data.source import open_pairs

    options = {key: agree(models, "data", key) for key in ("direction", "load_size", "crop_size")}
    options["load_size"] = max(options["load_size"], least_px)
    channels = {
        "input_channels": agree(models, "generator", "in_channels"),
        "output_channels": agree(models, "generator", "out_channels"),
    }
    if source is None or source == "synthetic":
        root = None if source else agree(models, "data", "root", hint="give --data")
        source = root or f"synthetic-{agree(models, 'data', 'synthetic', hint='give --data')}"
        split = split or agree(models, "data", "val_split", hint="give --split")
    elif split is None:
        split = find_split(Path(source))
    pairs = open_pairs(
        source, split, synthetic_count=limit or SYNTHETIC_COUNT, flip=False, **channels, **options
    )
    data = {
        "source": source,
        "split": split,
        "direction": options["direction"],
        "canvas_px": options["load_size"],
        "window_px": options["crop_size"],
    }
    return pairs, data


def agree(models: Sequence[Model], section: str, key: str, *, hint: str = "evaluate them apart") -> Any:
    """Return a configuration value that all models share.

    Raises:
        InputError: naming two models that differ.
    """
    first = models[0]
    value = first.config.get(section, {}).get(key)
    for other in models[1:]:
        theirs = other.config.get(section, {}).get(key)
        if theirs != value:
            raise InputError(
                f"{other.path}: has {section}.{key} {theirs}, but {first.path} has {value}; {hint}"
            )
    return value


def find_split(root: Path) -> str:
    """Return `test` or `val`, whichever a folder of pairs has; `test` if neither."""
    for split in ("test", "val"):
        if (root / split).is_dir() or (root / f"{split}A").is_dir():
            return split
    return "test"
