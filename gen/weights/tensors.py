"""Tensors and JSON metadata in one safetensors file: written whole, read with care."""

from __future__ import annotations

import functools
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from steadypix.budget import Part, require, size_text
from steadypix.errors import CheckpointError
from steadypix.files import write_whole
from steadypix.gen.weights.header import check_header

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

# What safetensors calls them, in the order in which its library writes them.
NAMES = {torch.int64: "I64", torch.float64: "F64", torch.float32: "F32", torch.int32: "I32"}
NAMES |= {torch.bfloat16: "BF16", torch.float16: "F16", torch.int16: "I16"}
NAMES |= {torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL"}

AT_ONCE = 1 << 22  # numbers that are looked at in one go, so that looking costs no memory


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write tensors and JSON-able metadata to one safetensors file, atomically.

    Equal contents make equal files. The library's own writer orders metadata at random, and a kill leaves a
    temporary file of a name that nobody knows.

    Raises:
        OSError: if the disk is full or the folder not writable; an older file stays intact.
    """
    packed = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    strings = {key: json.dumps(value) for key, value in metadata.items()}
    write_whole(path, functools.partial(_write, tensors=packed, metadata=strings))


def _write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file: a header's length, the header, the numbers.

    The widest numbers stand first, so that all of them lie at multiples of their width; see
    https://github.com/huggingface/safetensors#format.
    """
    order = sorted(tensors, key=lambda key: ([*NAMES].index(tensors[key].dtype), key))
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    place = 0
    for key in order:
        tensor = tensors[key]
        end = place + tensor.numel() * tensor.element_size()
        header[key] = {
            "dtype": NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [place, end],
        }
        place = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb", buffering=1 << 20) as file:
        file.write(struct.pack("<Q", len(text)))
        file.write(text)
        for key in order:
            file.write(tensors[key].reshape(-1).view(torch.uint8).numpy().data)


def read_tensors(path: Path, device: str = "cpu") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_tensors` wrote.

    Returns:
        The tensors and the metadata, decoded.

    Raises:
        CheckpointError: if the file is missing, a pickle, cut short, or no safetensors file.
        TooLargeError: if it would take more memory than it may.
    """
    path = Path(path)
    metadata = check_header(path)
    size = path.stat().st_size
    require(Part(2 * size, f"{path}, of {size_text(size)}", "another file"))
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
