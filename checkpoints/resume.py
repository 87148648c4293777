"""Where a training goes on: its state found, held against the command, and put back."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steadypix.checkpoints.run_directory import STATE_FILE
from steadypix.configs.resume import changes, contradiction
from steadypix.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from steadypix.checkpoints.progress import Progress


def find_state(out: Path, resume: str) -> Path | None:
    """Return the state file to go on from, or None to start anew."""
    own = out / STATE_FILE
    if resume in ("auto", "never") and not own.parent.exists() and (made := sorted(out.glob("generator*"))):
        raise InputError(
            f"{out}: holds a run's {made[0].name}, but no {STATE_FILE} to go on from, and is not written "
            "over; expected another --out"
        )
    if resume == "auto":
        return own if own.exists() else None
    if resume == "never":
        if own.exists():
            raise InputError(f"{out}: holds a run already; expected an empty --out, or --resume auto")
        return None
    if own.exists():
        return own
    named = Path(resume) / STATE_FILE
    if not named.exists():
        raise InputError(f"--resume {resume}: holds no run (no {STATE_FILE})")
    return named


def restore(
    path: Path,
    facts: Mapping[str, Any],
    networks: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
    allowed: Collection[str] = (),
) -> tuple[Progress, list[dict[str, Any]]]:
    """Put a run's state back.

    Args:
        path: the state's file.
        facts: of this command, as they stand in the state: `config`, `a_step` (samples), `processes`, `data`.
        networks: by name, not wrapped for several processes.
        optimizers: by name.
        allowed: options that may differ from the run's, of `steadypix.configs.resume.CHANGEABLE_KEYS`.

    Returns:
        How far the run is; and what of `allowed` changed, now (the last entries, with `seen` of now) and
        earlier in the run: `key`, `from`, `to`, and after how many samples (`seen`).

    Raises:
        InputError: naming the first key in which the run's configuration differs, or the data.
        gen.CheckpointError: if the file is none of a run, or damaged.
    """
    from steadypix.checkpoints.progress import Progress
    from steadypix.gen.training.state import unpack_state
    from steadypix.gen.weights.generators import CheckpointError
    from steadypix.gen.weights.tensors import read_tensors

    tensors, theirs = read_tensors(path)
    run = path.parent.parent
    if not isinstance(theirs.get("config"), dict) or not isinstance(theirs.get("progress"), dict):
        raise CheckpointError(f"{path}: is no training state of train_pix2pix")
    # On another number of processes a step may take another number of samples.
    sharing = theirs.get("processes") == facts["processes"] and theirs.get("a_step") != facts["a_step"]
    differs = contradiction(facts["config"], theirs["config"], sharing=sharing, allowed=allowed)
    if differs:
        raise InputError(f"{differs} (the run: {run}); expected the same, or another --out")
    if theirs.get("data") != facts["data"]:
        from steadypix.data.pairs.folders import must_hold_out

        data = facts["config"]["data"]
        held = data["root"] and must_hold_out(Path(data["root"]), data["train_split"], data["val_split"])
        hint = "; a run from before pairs were held out goes on with --data.val_split none" if held else ""
        raise InputError(
            f"data.root: the run in {run} was trained on other pictures ({theirs.get('data')}; here: "
            f"{facts['data']}); expected the same, or another --out{hint}"
        )
    for name in optimizers:
        if not any(key.startswith(f"{name}/") for key in tensors):
            raise CheckpointError(f"{path}: lacks the state of {name}; the run cannot go on from it")
    try:
        progress = Progress.from_json(theirs["progress"])
        unpack_state(tensors, networks, optimizers)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{path}: the run cannot go on from it ({reason})") from None
    earlier = theirs.get("changes", [])
    if not isinstance(earlier, list) or not all(isinstance(entry, dict) for entry in earlier):
        raise CheckpointError(f"{path}: the run cannot go on from it (changes)")
    now = changes(facts["config"], theirs["config"], allowed)
    return progress, [*earlier, *({**change, "seen": progress.seen} for change in now)]
