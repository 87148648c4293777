"""Which options a run may be gone on with differently, and which would make it another run."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Any

from steadypix.errors import InputError

# These change no update that is still to come: where and how fast it is computed, what is written. Where
# the data lies is free as well, because the data themselves are compared.
FREE_KEYS = {"workers", "device", "data.root", "data.cache", "data.pin_memory", "data.on_error"}
FREE_KEYS |= {"data.val_split"}  # what it holds out of the training pairs shows in those
FREE_KEYS |= {f"train.{key}" for key in ("channels_last", "compile", "capture", "checkpointing")}
FREE_KEYS |= {"train.deterministic"}
FREE_KEYS |= {f"train.{key}" for key in ("save_every", "save_every_s", "keep_every", "sample_every")}
FREE_KEYS |= {
    f"train.{key}"
    for key in ("val_every", "val_limit", "best_by", "log_every_steps", "tensorboard", "tracker")
}
# A run may be made longer; where it stands in its schedule follows from the new length.
FREE_KEYS |= {"train.epochs"}
# How a step's samples are shared out: what counts is their number, which is compared apart.
SHARING_KEYS = {"batch_size", "train.accumulate"}
# These change updates to come and nothing that a state holds: free when they are named.
CHANGEABLE_KEYS = {f"train.{key}" for key in ("learning_rate", "lr_policy", "decay_epochs", "step_epochs")}
CHANGEABLE_KEYS |= {f"train.{key}" for key in ("patience", "beta1", "beta2")}
CHANGEABLE_KEYS |= {"loss.gan", "loss.lambda_l1", "loss.equivariance"}
CHANGEABLE_KEYS |= {f"loss.equivariance_{key}" for key in ("px", "start", "perturb")}
CHANGEABLE_KEYS |= {"loss.jitter_px", "loss.r1", "data.flip", "data.lighting"}
# Named to `--allow-change`, it lets a run go on with other pictures; where they lie is free anyway.
PICTURES = "data.root"
# What a run from before an option has, whose file does not name it.
BEFORE = {"generator.texture": "none", "generator.texture_channels": 4, "generator.texture_octaves": 2}
BEFORE |= {"generator.head": 0, "data.lighting": 0.0, "loss.jitter_px": 0, "loss.r1": 0.0}
BEFORE |= {"data.resize": "square", "data.context_px": 0}
BEFORE |= {"loss.equivariance_start": 0.0, "loss.equivariance_perturb": False}


def contradiction(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], *, sharing: bool, allowed: Collection[str] = ()
) -> str | None:
    """Return the first key in which two configurations contradict each other, or None.

    Args:
        ours: this command's configuration as nested dicts.
        theirs: the run's own.
        sharing: also compare how a step's samples are shared out.
        allowed: keys that may differ, of `CHANGEABLE_KEYS`.

    Returns:
        A phrase such as `seed: the run has 0, this command 5`.
    """
    free = FREE_KEYS | {*allowed} if sharing else FREE_KEYS | SHARING_KEYS | {*allowed}
    for key, there, here in _differences(ours, theirs):
        if key not in free:
            hint = f"; --allow-change {key} lets it" if key in CHANGEABLE_KEYS else ""
            return f"{key}: the run has {there}, this command {here}{hint}"
    return None


def check_allowed(keys: Collection[str]) -> None:
    """Raise InputError for a key that `--allow-change` does not take."""
    named = {*CHANGEABLE_KEYS, PICTURES}
    for key in keys:
        if key not in named:
            close = difflib.get_close_matches(key, sorted(named), n=1, cutoff=0.5)
            hint = f"did you mean {close[0]}? " if close else ""
            known = ", ".join(sorted(named))
            raise InputError(f"--allow-change {key}: cannot change in a run; {hint}expected of {known}")


def changes(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], allowed: Collection[str]
) -> list[dict[str, Any]]:
    """Return what of `allowed` differs: `key`, `from` (the run's) and `to` (this command's)."""
    return [
        {"key": key, "from": there, "to": here}
        for key, there, here in _differences(ours, theirs)
        if key in allowed
    ]


def _differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    here, there = BEFORE | flatten(ours), BEFORE | flatten(theirs)
    keys = sorted(here.keys() | there.keys())
    return [(key, there.get(key), here.get(key)) for key in keys if here.get(key) != there.get(key)]


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested dicts into one with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
