"""State dicts that other programs pickled (`.pth`), read without letting the pickle decide anything.

Two guards stand one behind the other. torch's own unpickler runs with `weights_only=True`, so nothing in a
file can run. But it would still make what a pickle asks for, and a hundred bytes can ask for gigabytes:
`bytearray(10**10)`, a tensor of 10**12 numbers that are one number repeated. So the pickle's instructions
are read first, as text: only those that build named tensors from stored numbers are let through, and
afterwards no tensor may hold more than the file does.
"""

from __future__ import annotations

import errno
import io
import itertools
import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from steadypix.errors import CheckpointError
from steadypix.gen.weights.header import require_file

MAX_PICKLE_BYTES = 1 << 20  # names and shapes alone; those of a published generator are 20 KB
MAX_STEPS = 200_000
LEGACY_PICKLES = 5  # magic number, version, sizes of the machine, the state, the order of its storages
BUILDERS = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
}
BUILDERS |= {
    f"torch {kind}Storage"
    for kind in ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
}
# Where trainings keep the state dict, and what wrappers of networks put before its names. A compiled part of
# a network has the second in the middle.
WRAPPERS = ("state_dict", "model")
PREFIXES = re.compile(r"^(?:module\.|_orig_mod\.)+|(?<=\.)_orig_mod\.")
# Instructions that call or import something under a name which only running them would tell.
HIDDEN_CALLS = {"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"}


class _MoreThanTensorsError(ValueError):
    """A pickle that asks for anything but named tensors."""


def read_state(path: Path, expected: str) -> dict[str, Tensor]:
    """Read a pickled state dict without running anything in it, and without following what it claims.

    Args:
        path: a file that `torch.save(state_dict)` wrote, of the zip or the older format; also one that holds
            the state dict under `state_dict` or `model`, beside plain values.
        expected: said in errors.

    Returns:
        The tensors by name, without the prefixes `module.` (a network in DataParallel) and `_orig_mod.` (a
        compiled one).

    Raises:
        CheckpointError: if the file is missing, damaged, or holds anything but named tensors.
    """
    size = require_file(path, f"no such checkpoint; {expected}")
    try:
        for pickled in _pickles(path, size):
            _check_steps(pickled)
    except _MoreThanTensorsError:
        raise CheckpointError(
            f"{path}: is a pickle of more than tensors, which can run code: refused; {expected}"
        ) from None
    except PermissionError:
        raise CheckpointError(f"{path}: may not be read (permission denied)") from None
    except Exception as error:  # a broken archive fails in any of the ways that zip and pickle have
        raise CheckpointError(f"{path}: is damaged or no state dict ({error}); {expected}") from None
    state = _unwrapped(_load(path, expected))
    if not isinstance(state, Mapping) or not state or not all(map(_is_named, state.items())):
        raise CheckpointError(f"{path}: is a pickle, but of no named tensors; {expected}")
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    if claimed > 2 * size:  # twice, because two names may share their numbers
        raise CheckpointError(f"{path}: claims {claimed:.3g} bytes of numbers, but has {size}; {expected}")
    named = {PREFIXES.sub("", key): tensor for key, tensor in state.items()}
    if len(named) < len(state):
        raise CheckpointError(f"{path}: holds two tensors of one name, but for a prefix; {expected}")
    return named


def _unwrapped(state: object) -> object:
    """Return the state dict within a training's own dict."""
    if isinstance(state, Mapping):
        for key in WRAPPERS:
            if isinstance(state.get(key), Mapping):
                return state[key]
    return state


def _load(path: Path, expected: str) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other pickle protocols; what is wrong is said below
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise CheckpointError(f"{path}: is a pickle that is damaged or no state dict; {expected}") from None
    except OSError as error:
        if error.errno != errno.EINVAL:  # the reader of zip files says so of one that is cut short
            raise
        raise CheckpointError(f"{path}: is damaged or cut short; {expected}") from None
    except Exception:  # what passed as instructions may still take its arguments from the wrong place
        raise CheckpointError(f"{path}: is a pickle that is damaged or cut short; {expected}") from None


def _is_named(item: tuple[object, object]) -> bool:
    """Return whether this is a name and an ordinary tensor: numbers in memory, none of them implied."""
    name, tensor = item
    if not isinstance(name, str) or not name.isprintable() or not isinstance(tensor, Tensor):
        return False
    return tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized


def _pickles(path: Path, size: int) -> Iterator[bytes]:
    """Yield the instructions in a file, of every pickle that torch would run."""
    with open(path, "rb") as file:
        head = file.read(MAX_PICKLE_BYTES)
    if not head.startswith(b"PK\x03\x04"):  # so torch decides, whatever archive may lie at the end
        yield head
        return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("it is compressed, which torch.save never does")
        if sum(entry.file_size for entry in entries) > size:
            raise ValueError("its entries claim more than the file has")
        pickled = [entry for entry in entries if entry.filename.endswith(".pkl")]
        if not pickled:
            raise ValueError("it holds no data.pkl")
        for entry in pickled:
            if entry.file_size > MAX_PICKLE_BYTES:
                raise ValueError(f"its {entry.filename[:80]!r} has {entry.file_size} bytes")
            yield archive.read(entry)


def _check_steps(pickled: bytes) -> None:
    """Read the instructions of a pickle, or of the five of the older format, and run none.

    Raises:
        _MoreThanTensorsError: if they ask for anything but named tensors.
        ValueError: if they are damaged, or too many.
    """
    if pickled[:1] != b"\x80":  # every pickle since protocol 2 begins so, and torch.save writes no older
        raise ValueError("it is no pickle")
    stream, steps = io.BytesIO(pickled), itertools.count(1)
    for _ in range(LEGACY_PICKLES):
        for instruction, argument, _ in pickletools.genops(stream):
            if next(steps) > MAX_STEPS:
                raise ValueError(f"it takes more than {MAX_STEPS} steps")
            name = instruction.name
            if name in HIDDEN_CALLS or (name == "GLOBAL" and argument not in BUILDERS):
                raise _MoreThanTensorsError(argument)
        if stream.tell() == len(pickled):  # one pickle alone, as in an archive
            return
