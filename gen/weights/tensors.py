"""Tensors and JSON metadata in one safetensors file: written whole, read with care."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor

from steadypix.errors import CheckpointError
from steadypix.files import write_whole
from steadypix.gen.weights.header import check_header

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


AT_ONCE = 1 << 22  # numbers that are looked at in one go, so that looking costs no memory


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write tensors and JSON-able metadata to one safetensors file, atomically.

    Raises:
        OSError: if the disk is full or the folder not writable; an older file stays intact.
    """
    packed = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    strings = {key: json.dumps(value) for key, value in metadata.items()}

    def write(temporary: Path) -> None:
        try:
            save_file(packed, temporary, metadata=strings)
        except safetensors.SafetensorError as error:
            # The library wraps what the system said ("I/O error: No space left on device (os error 28)").
            number = _os_error_number(str(error))
            if number is None:
                raise
            raise OSError(number, os.strerror(number), str(path)) from None

    write_whole(path, write)


def read_tensors(path: Path, device: str = "cpu") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_tensors` wrote.

    Returns:
        The tensors and the metadata, decoded.

    Raises:
        CheckpointError: if the file is missing, a pickle, cut short, or no safetensors file.
    """
    path = Path(path)
    metadata = check_header(path)
    try:
        with safetensors.safe_open(path, framework="pt", device=device) as file:
            return {key: file.get_tensor(key) for key in file.keys()}, metadata  # noqa: SIM118 (no mapping)
    except (safetensors.SafetensorError, RuntimeError, MemoryError) as error:
        # What the header claims is not what follows it, or more than this machine holds.
        raise CheckpointError(f"{path}: is damaged or cut short ({error})") from None


def check_fit(path: Path, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Check that tensors have the names, shapes and kinds of numbers of `expected`, and are finite.

    Raises:
        CheckpointError: naming the file and the first tensor that does not fit.
    """
    for key in sorted(expected.keys() | tensors.keys()):
        if key not in tensors:
            raise CheckpointError(f"{path}: lacks {key}; it is of another architecture")
        if key not in expected:
            raise CheckpointError(f"{path}: holds {key}, unknown here; it is of another architecture")
        found, wanted = tuple(tensors[key].shape), tuple(expected[key].shape)
        if found != wanted:
            raise CheckpointError(
                f"{path}: {key} is {found}, expected {wanted}; it is of another architecture"
            )
        _check_numbers(path, key, tensors[key], expected[key].dtype)


def _check_numbers(path: Path, key: str, tensor: Tensor, dtype: torch.dtype) -> None:
    """Refuse numbers of another kind than `dtype`, and those that are not finite once they are of `dtype`."""
    if (tensor.dtype in FLOATS) != (dtype in FLOATS) or tensor.dtype == torch.bool:
        raise CheckpointError(f"{path}: {key} holds {tensor.dtype}, expected {dtype}")
    for chunk in tensor.reshape(-1).split(AT_ONCE):
        if not torch.isfinite(chunk.to(dtype)).all():  # a double may be beyond what a float can hold
            raise CheckpointError(f"{path}: {key} holds values that are not finite")
        if key.endswith("running_var") and (chunk < 0).any():
            raise CheckpointError(f"{path}: {key} holds a negative variance")


def _os_error_number(message: str) -> int | None:
    _, found, tail = message.partition("(os error ")
    digits = tail.partition(")")[0]
    return int(digits) if found and digits.isdigit() else None
