"""Which options a run may be gone on with differently, and which would make it another run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# These change no update that is still to come: where and how fast it is computed, what is written. Where
# the data lies is free as well, because the data themselves are compared.
FREE_KEYS = {"workers", "device", "data.root", "data.cache", "data.pin_memory", "data.on_error"}
FREE_KEYS |= {f"train.{key}" for key in ("channels_last", "compile", "capture", "checkpointing")}
FREE_KEYS |= {f"train.{key}" for key in ("save_every", "save_every_s", "keep_every", "sample_every")}
FREE_KEYS |= {
    f"train.{key}" for key in ("val_every", "val_limit", "best_by", "log_every_steps", "tensorboard")
}
# A run may be made longer; where it stands in its schedule follows from the new length.
FREE_KEYS |= {"train.epochs"}
# How a step's samples are shared out: what counts is their number, which is compared apart.
SHARING_KEYS = {"batch_size", "train.accumulate"}
# What a run from before an option has, whose file does not name it.
BEFORE = {"generator.texture": "none", "generator.texture_channels": 4, "generator.texture_octaves": 2}
BEFORE |= {"generator.head": 0, "data.lighting": 0.0, "loss.jitter_px": 0, "loss.r1": 0.0}


def contradiction(ours: Mapping[str, Any], theirs: Mapping[str, Any], *, sharing: bool) -> str | None:
    """Return the first key in which two configurations contradict each other, or None.

    Args:
        ours: this command's configuration as nested dicts.
        theirs: the run's own.
        sharing: also compare how a step's samples are shared out.

    Returns:
        A phrase such as `seed: the run has 0, this command 5`.
    """
    free = FREE_KEYS if sharing else FREE_KEYS | SHARING_KEYS
    here, there = BEFORE | flatten(ours), BEFORE | flatten(theirs)
    for key in sorted(here.keys() | there.keys()):
        if key not in free and here.get(key) != there.get(key):
            return f"{key}: the run has {there.get(key)}, this command {here.get(key)}"
    return None


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested dicts into one with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
