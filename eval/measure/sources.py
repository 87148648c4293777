"""The pictures that checkpoints are measured on: as they say themselves, or as `--data` does."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steadypix.errors import InputError
from steadypix.sizes import Size, as_json, from_json, largest, sides, size_of

if TYPE_CHECKING:
    from steadypix.data.pairs.base import Pairs
    from steadypix.eval.generators.models import Model

SYNTHETIC_COUNT = 50
# Of a foreign generator that nothing is known about: pix2pix's own.
DEFAULT_DIRECTION = "BtoA"
SPLITS = ("test", "val")
DEFAULT_RULE = "square"
DEFAULT_WINDOW_PX = 256
CANVAS_RATIO = 286 / 256


def open_data(
    models: Sequence[Model],
    *,
    source: str | None,
    split: str | None,
    limit: int | None,
    window_px: Size | None = None,
    canvas_px: Size | None = None,
    direction: str | None = None,
    resize: str | None = None,
    pairing: str = "auto",
    channels: tuple[int, int] | None = None,
    least_px: Size = 0,
    on_error: str = "fail",
) -> tuple[Pairs, dict[str, Any]]:
    """Open the pictures that all models are measured on.

    What an argument leaves open the models say, and what no model knows is assumed, and recorded as such.

    Args:
        models: their configurations say direction, sizes, and, without `source`, which pictures. Foreign
            generators know little of this, or nothing.
        source: a folder of pairs, `synthetic` (of the models' own kind), `synthetic-facades`,
            `synthetic-maps`, or None.
        split: folder name, or None for the runs' validation split (`test` or `val` of a named folder), which
            is `held-out`, the pairs that a run kept out of its training, where its data have no such folder.
        limit: number of procedural pictures; None is `SYNTHETIC_COUNT`.
        window_px: size of what a network sees.
        canvas_px: size a picture is brought to.
        direction: `AtoB` or `BtoA`.
        resize: how pictures of a folder get to that side: `square`, `keep` or `none`, of
            `steadypix.data.pictures.sizing.RULES`.
        pairing: of a folder that is named, see `steadypix.data.pairs.opening.open_pictures`.
        channels: of inputs and outputs; None leaves it to the models, and to RGB where none knows.
        least_px: size of the canvas at least. Where the size known otherwise is smaller, procedural scenes
            are rendered, and pictures of a folder resized, to this size.
        on_error: `fail` or `skip`, what becomes of pictures that cannot be read.

    Returns:
        The pairs, and what a result records about them.

    Raises:
        InputError: if the models disagree and the arguments do not settle it, or nothing is there.
    """
    from steadypix.data.pairs.opening import SYNTHETIC, open_pairs, open_pictures

    settings, assumed = _settings(models, window_px=window_px, canvas_px=canvas_px, direction=direction)
    canvas, window = largest(settings["canvas_px"], least_px), settings["window_px"]
    settings |= {"canvas_px": as_json(canvas), "window_px": as_json(window)}
    known = channels or [agree(models, "generator", f"{side}_channels") or 3 for side in ("in", "out")]
    counts = dict(zip(("input_channels", "output_channels"), known, strict=True))
    named = source not in (None, "synthetic", *SYNTHETIC)
    if source is None or source == "synthetic":
        source = _own_source(models, synthetic=source is not None)
        split = split or agree(models, "data", "val_split", hint="give --split") or "test"
        if split == "none":
            raise InputError(f"{models[0].path}: was trained without validation pictures; give --split")
    elif split is None and not named:
        split = SPLITS[0]
    held, hold_out_seed = _held_out(models, source, split or SPLITS[0])
    split = split if hold_out_seed is None else held
    rule = resize or _rule(models)
    if source not in SYNTHETIC:
        settings["resize"] = rule if isinstance(canvas, int) or rule == "none" else "cover"
    if hold_out_seed is not None:
        settings["hold_out_seed"] = hold_out_seed
    options = {
        "synthetic_count": limit or SYNTHETIC_COUNT,
        "flip": False,
        "direction": settings["direction"],
        "load_size": canvas,
        "crop_size": window,
        "resize": rule,
        "hold_out_seed": hold_out_seed,
        "on_error": on_error,
        **counts,
    }
    remarks: list[str] = []
    if named and hold_out_seed is None:
        pairs, split, remarks = open_pictures(source, split, pairing=pairing, **options)
    else:
        pairs = open_pairs(source, split or SPLITS[0], **options)
    if not pairs.has_targets and "direction" in assumed and not remarks:
        assumed.remove("direction")  # there is one side alone
    found = {"source": source, "split": split, **settings, "targets": pairs.has_targets}
    return pairs, {**found, "assumed": assumed, "remarks": remarks, **counts}


def window_of(models: Sequence[Model], given: Size | None) -> Size:
    """Return what the networks see: as given, as the models know, or pix2pix's own.

    Raises:
        InputError: if the models disagree.
    """
    if given is not None:
        return given
    known = agree(models, "data", "crop_size")
    return DEFAULT_WINDOW_PX if known is None else from_json(known)


def canvas_of(models: Sequence[Model], given: Size | None, window: Size | None) -> Size:
    """Return the size pictures are brought to: as given, as the models know, or by the window's.

    Raises:
        InputError: if the models disagree.
    """
    settings, _ = _settings(models, window_px=window, canvas_px=given, direction=DEFAULT_DIRECTION)
    canvas: Size = settings["canvas_px"]
    return canvas


def _settings(models: Sequence[Model], **given: Any) -> tuple[dict[str, Any], list[str]]:
    """Return direction, canvas and window, and the names of those that nobody gave or knew."""
    keys = {"direction": "direction", "canvas_px": "load_size", "window_px": "crop_size"}
    settings = {k: agree(models, "data", keys[k]) if given[k] is None else given[k] for k in keys}
    assumed = [name for name, value in settings.items() if value is None]
    settings["direction"] = settings["direction"] or DEFAULT_DIRECTION
    settings["window_px"] = window = from_json(settings["window_px"] or DEFAULT_WINDOW_PX)
    grown = size_of(*(round(side * CANVAS_RATIO) for side in sides(window)))
    settings["canvas_px"] = from_json(settings["canvas_px"] or grown)
    return settings, assumed


def _rule(models: Sequence[Model]) -> str:
    """Return how all models' pictures were resized; runs from before there was a choice made squares."""
    first = None
    for model in models:
        data = model.config.get("data", {})
        if "load_size" in data:
            rule = data.get("resize", DEFAULT_RULE)
            if first and first[0] != rule:
                raise InputError(
                    f"{model.path}: has data.resize {rule}, but {first[1]} has {first[0]}; give --resize"
                )
            first = first or (rule, model.path)
    return str(first[0]) if first else DEFAULT_RULE


def _held_out(models: Sequence[Model], source: str, split: str) -> tuple[str, int | None]:
    """Return the split, and the seed of what is held out where the runs have kept it out of their own data.

    Raises:
        InputError: if two runs held out by different seeds.
    """
    from steadypix.data.pairs.folders import HELD_OUT, must_hold_out

    folder = Path(source).resolve()
    own = [
        model
        for model in models
        if (data := model.config.get("data", {})).get("root") and Path(data["root"]).resolve() == folder
    ]
    missing = [m for m in own if must_hold_out(folder, m.config["data"].get("train_split", ""), split)]
    if split != HELD_OUT and not missing:
        return split, None
    seeds = {model.config.get("seed", 0): model.path for model in missing or own}
    if len(seeds) > 1:
        raise InputError(f"{' and '.join(map(str, seeds.values()))} held out other pairs, by their seeds")
    return HELD_OUT, next(iter(seeds), 0)


def _own_source(models: Sequence[Model], *, synthetic: bool) -> str:
    """Return the pictures that the models were trained on, or the procedural ones of their kind."""
    root = None if synthetic else agree(models, "data", "root", hint="give --data")
    if root and not os.path.isdir(root):
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
