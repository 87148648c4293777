"""The pictures that checkpoints are measured on: as they say themselves, or as `--data` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steadypix.errors import InputError

if TYPE_CHECKING:
    from steadypix.data.pairs.base import Pairs
    from steadypix.eval.generators.models import Model

SYNTHETIC_COUNT = 50
# Of a foreign generator that nothing is known about: pix2pix's own.
DEFAULT_DIRECTION = "BtoA"
SPLITS = ("test", "val")
DEFAULT_WINDOW_PX = 256
CANVAS_RATIO = 286 / 256


def open_data(
    models: Sequence[Model],
    *,
    source: str | None,
    split: str | None,
    limit: int | None,
    window_px: int | None = None,
    canvas_px: int | None = None,
    direction: str | None = None,
    least_px: int = 0,
    on_error: str = "fail",
) -> tuple[Pairs, dict[str, Any]]:
    """Open the pictures that all models are measured on.

    What an argument leaves open the models say, and what no model knows is assumed, and recorded as such.

    Args:
        models: their configurations say direction, sizes, and, without `source`, which pictures. Foreign
            generators know little of this, or nothing.
        source: a folder of pairs, `synthetic` (of the models' own kind), `synthetic-facades`,
            `synthetic-maps`, or None.
        split: folder name, or None for the runs' validation split (`test` or `val` of a named folder).
        limit: number of procedural pictures; None is `SYNTHETIC_COUNT`.
        window_px: side of what a network sees.
        canvas_px: side a picture is brought to.
        direction: `AtoB` or `BtoA`.
        least_px: side of the canvas at least. Where the side known otherwise is smaller, procedural scenes
            are rendered, and pictures of a folder resized, to this side.
        on_error: `fail` or `skip`, what becomes of pictures that cannot be read.

    Returns:
        The pairs, and what a result records about them.

    Raises:
        InputError: if the models disagree and the arguments do not settle it, or nothing is there.
    """
    from steadypix.data.pairs.opening import open_pairs

    settings, assumed = _settings(models, window_px=window_px, canvas_px=canvas_px, direction=direction)
    settings["canvas_px"] = max(settings["canvas_px"], least_px)
    channels = {
        f"{side}put_channels": agree(models, "generator", f"{side}_channels") or 3 for side in ("in", "out")
    }
    if source is None or source == "synthetic":
        source = _own_source(models, synthetic=source is not None)
        split = split or agree(models, "data", "val_split", hint="give --split") or "test"
    elif split is None:  # whichever the folder has
        there = [name for name in SPLITS if any(Path(source, name + end).is_dir() for end in ("", "A"))]
        split = there[0] if there else SPLITS[0]
    pairs = open_pairs(
        source,
        split,
        synthetic_count=limit or SYNTHETIC_COUNT,
        flip=False,
        direction=settings["direction"],
        load_size=settings["canvas_px"],
        crop_size=settings["window_px"],
        on_error=on_error,
        **channels,
    )
    return pairs, {"source": source, "split": split, **settings, "assumed": assumed, **channels}


def _settings(models: Sequence[Model], **given: Any) -> tuple[dict[str, Any], list[str]]:
    """Return direction, canvas and window, and the names of those that nobody gave or knew."""
    keys = {"direction": "direction", "canvas_px": "load_size", "window_px": "crop_size"}
    settings = {k: agree(models, "data", keys[k]) if given[k] is None else given[k] for k in keys}
    assumed = [name for name, value in settings.items() if value is None]
    settings["direction"] = settings["direction"] or DEFAULT_DIRECTION
    settings["window_px"] = settings["window_px"] or DEFAULT_WINDOW_PX
    settings["canvas_px"] = settings["canvas_px"] or round(settings["window_px"] * CANVAS_RATIO)
    return settings, assumed


def _own_source(models: Sequence[Model], *, synthetic: bool) -> str:
    """Return the pictures that the models were trained on, or the procedural ones of their kind."""
    root = None if synthetic else agree(models, "data", "root", hint="give --data")
    if root and not Path(root).is_dir():
        knowing = next(model for model in models if model.config.get("data", {}).get("root") == root)
        raise InputError(
            f"{root}: the pictures {knowing.path} was trained for are not there; give --data DIR"
        )
    if root:
        return str(root)
    kind = agree(models, "data", "synthetic", hint="give --data")
    if kind is None:
        who = f"{models[0].path}: does not know its pictures" if models else "no checkpoint names pictures"
        raise InputError(f"{who}; expected --data DIR, synthetic-facades or synthetic-maps")
    return f"synthetic-{kind}"


def agree(models: Sequence[Model], section: str, key: str, *, hint: str = "name the ones to compare") -> Any:
    """Return a configuration value that all models share which know it; None if none does.

    Raises:
        InputError: naming two models that differ.
    """
    known = [model for model in models if key in model.config.get(section, {})]
    if not known:
        return None
    value, first = known[0].config[section][key], known[0].path
    for other in known[1:]:
        theirs = other.config[section][key]
        if theirs != value:
            raise InputError(f"{other.path}: has {section}.{key} {theirs}, but {first} has {value}; {hint}")
    return value
