"""Where a training goes on: its state found, held against the command, and put back."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steadypix.checkpoints.run_directory import MARKS, STATE_FILE
from steadypix.configs.resume import PICTURES, changes, contradiction
from steadypix.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from steadypix.checkpoints.progress import Progress
    from steadypix.data.pairs.content import Content

MOST_THREADS = 1024


def find_state(out: Path, resume: str, *, overwrite: bool = False) -> Path | None:
    """Return the state file to go on from, or None to start anew.

    Raises:
        InputError: if there is none where one is named, or something is there that may not be written over.
    """
    own = out / STATE_FILE
    if overwrite:
        if resume not in ("auto", "never"):
            raise InputError(f"--overwrite: starts anew; expected no --resume {resume} beside it")
        return None
    if resume in ("auto", "never") and not own.parent.exists() and (made := sorted(out.glob("generator*"))):
        raise InputError(
            f"{out}: holds a run's {made[0].name}, but no {STATE_FILE} to go on from, and is not written "
            "over; expected another --out, or --overwrite to start anew"
        )
    if resume == "auto":
        return own if own.exists() else None
    if resume == "never":
        if own.exists():
            raise InputError(
                f"{out}: holds a run already; expected an empty --out, --resume auto, or --overwrite"
            )
        return None
    if own.exists():
        return own
    named = Path(resume) / STATE_FILE
    if not named.exists():
        raise InputError(f"--resume {resume}: holds no run (no {STATE_FILE})")
    return named


@dataclass(frozen=True)
class Restored:
    """What a run's state says besides weights and moments.

    Attributes:
        progress: how far the run is.
        changes: options that changed, now (the last entries, with `seen` of now) and earlier in the run:
            `key`, `from`, `to`, and after how many samples (`seen`).
        threads: that torch computed with on the CPU; None in states of earlier versions.
    """

    progress: Progress
    changes: list[dict[str, Any]]
    threads: int | None


def restore(
    path: Path,
    facts: Mapping[str, Any],
    content: Content,
    networks: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
    allowed: Collection[str] = (),
) -> Restored:
    """Put a run's state back.

    Args:
        path: the state's file.
        facts: of this command, as they stand in the state: `config`, `a_step` (samples), `processes`, `data`
            (names of the pictures) and `pictures_sha256`.
        content: of this command's pictures.
        networks: by name, not wrapped for several processes.
        optimizers: by name.
        allowed: options that may differ from the run's, of `steadypix.configs.resume.CHANGEABLE_KEYS`, and
            `steadypix.configs.resume.PICTURES` for other pictures.

    Raises:
        InputError: naming the first key in which the run's configuration differs, or how the pictures do.
        gen.CheckpointError: if the file is none of a run, or damaged.
    """
    from steadypix.checkpoints.progress import Progress
    from steadypix.gen.training.state import unpack_state
    from steadypix.gen.weights.generators import CheckpointError
    from steadypix.gen.weights.tensors import read_tensors

    tensors, theirs = read_tensors(path)
    marks = tensors.pop(MARKS, None)
    run = path.parent.parent
    if not isinstance(theirs.get("config"), dict) or not isinstance(theirs.get("progress"), dict):
        raise CheckpointError(f"{path}: is no training state of train_pix2pix")
    # On another number of processes a step may take another number of samples.
    sharing = theirs.get("processes") == facts["processes"] and theirs.get("a_step") != facts["a_step"]
    differs = contradiction(facts["config"], theirs["config"], sharing=sharing, allowed=allowed)
    if differs:
        raise InputError(f"{differs} (the run: {run}); expected the same, or another --out")
    others = _other_pictures(theirs, facts, content, marks)
    if others and PICTURES not in allowed:
        from steadypix.data.pairs.folders import must_hold_out

        data = facts["config"]["data"]
        held = data["root"] and must_hold_out(Path(data["root"]), data["train_split"], data["val_split"])
        hint = "; a run from before pairs were held out goes on with --data.val_split none" if held else ""
        raise InputError(
            f"data.root: the run in {run} was trained on other pictures ({others}); expected the same, "
            f"another --out, or --allow-change {PICTURES}{hint}"
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
    now = changes(facts["config"], theirs["config"], {*allowed} - {PICTURES})
    if others:
        now.append({"key": PICTURES, "from": theirs.get("data"), "to": facts["data"]})
    threads = theirs.get("threads")
    if threads is not None and not (type(threads) is int and 1 <= threads <= MOST_THREADS):
        raise CheckpointError(f"{path}: the run cannot go on from it (threads)")
    return Restored(progress, [*earlier, *({**each, "seen": progress.seen} for each in now)], threads)


def _other_pictures(
    theirs: Mapping[str, Any], ours: Mapping[str, Any], content: Content, marks: torch.Tensor | None
) -> str | None:
    """Say how the pictures that a run was trained on differ from ours; None if they do not.

    Of a run of an earlier version their names alone are known.
    """
    import torch

    same_names = theirs.get("data") == ours["data"]
    if same_names and theirs.get("pictures_sha256", ours["pictures_sha256"]) == ours["pictures_sha256"]:
        return None
    known = marks is not None and marks.dtype == torch.uint8
    first = content.first_other(marks.numpy()) if marks is not None and known else None
    how = f"; {first} is the first that differs" if first is not None else ""
    if same_names:
        return f"of the same names{how}"
    return f"{theirs.get('data')}; here: {ours['data']}{how}"
