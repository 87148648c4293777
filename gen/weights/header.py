"""What a safetensors file claims of itself, checked before anything is made of it.

Whoever wrote the file chose every number in its header, so time and memory must not follow them: the header
is short, names each tensor once, and claims neither kinds of numbers nor amounts of them that no checkpoint
of ours has. That the data fill exactly what is claimed is the library's own check.
"""

from __future__ import annotations

import json
import math
import stat
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from steadypix.errors import CheckpointError

MAX_HEADER_BYTES = 2 << 20  # the state of a run on 256 residual blocks needs less than one MiB
MAX_TENSORS = 20_000
MAX_NUMBERS = 1 << 32  # the published U-Net, its discriminator and their optimisers hold 0.2e9
MAX_DEPTH = 32  # of metadata; configurations have 3
DTYPES = frozenset({"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL"})
PREFIX = 8  # bytes that hold the header's length


def require_file(path: Path, missing: str = "no such checkpoint") -> int:
    """Return a file's size in bytes. Never opens it: opening a pipe would wait for its writer.

    Raises:
        CheckpointError: if it is missing, a directory, or neither (a pipe, a device, a loop of links).
    """
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(f"{path}: {missing}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise CheckpointError(f"{path}: cannot be read ({reason})") from None
    if stat.S_ISDIR(found.st_mode):
        raise CheckpointError(f"{path}: is a directory; expected a file")
    if not stat.S_ISREG(found.st_mode):
        raise CheckpointError(f"{path}: is no regular file but a pipe or a device; expected a checkpoint")
    return found.st_size


def check_header(path: Path) -> dict[str, Any]:
    """Check everything a file claims; return its metadata, decoded.

    Raises:
        CheckpointError: if the file is missing, a pickle, damaged, or claims what no checkpoint has.
    """
    header = _parse(path, _read(path, require_file(path)))
    try:
        str(path).encode()
    except UnicodeEncodeError:  # Linux takes any bytes as a name, the library does not
        raise CheckpointError(f"{path}: has a name that is no text; expected another name") from None
    metadata = header.pop("__metadata__", {})
    if len(header) > MAX_TENSORS:
        raise CheckpointError(f"{path}: is no checkpoint: it names {len(header)} tensors")
    numbers = sum(_count(path, name, claim) for name, claim in header.items())
    if numbers > MAX_NUMBERS:
        raise CheckpointError(
            f"{path}: is no checkpoint: it claims {numbers:.3g} numbers; expected {MAX_NUMBERS:.3g} at most"
        )
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CheckpointError(f"{path}: is damaged or cut short (its metadata is no map of texts)")
    return _decode(metadata)


def _read(path: Path, size: int) -> bytes:
    try:
        with open(path, "rb") as file:
            head = file.read(PREFIX + 1)
            length = struct.unpack("<Q", head[:PREFIX])[0] if len(head) > PREFIX else 0
            # These first bytes are a length, which may look like any other format's magic.
            if 0 < length <= size - PREFIX and head[PREFIX:] == b"{":
                if length > MAX_HEADER_BYTES:
                    raise CheckpointError(f"{path}: is no checkpoint: its header has {length} bytes")
                return head[PREFIX:] + file.read(length - 1)
    except PermissionError:
        raise CheckpointError(f"{path}: may not be read (permission denied)") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    if head[:2] == b"PK" or head[:1] == b"\x80":
        raise CheckpointError(f"{path}: is a pickle (torch.save), which can run code; expected safetensors")
    raise CheckpointError(f"{path}: is damaged, cut short or no safetensors file")


def _parse(path: Path, text: bytes) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a name stands in it twice")
        return found

    try:
        header = json.loads(text, object_pairs_hook=once)
    except RecursionError:
        raise CheckpointError(f"{path}: is damaged: its header is nested too deep") from None
    except ValueError as error:
        raise CheckpointError(f"{path}: is damaged: its header cannot be read ({str(error)[:120]})") from None
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: is damaged: its header is no map of tensors")
    return header


def _count(path: Path, name: str, claim: object) -> int:
    """Return how many numbers a tensor claims."""
    if not name.isprintable():  # it would be shown to a person, who may sit at a terminal
        raise CheckpointError(f"{path}: is damaged: a tensor is named {name[:80]!r}")
    shape = claim.get("shape") if isinstance(claim, dict) else None
    if not isinstance(claim, dict) or not isinstance(shape, list):
        raise CheckpointError(f"{path}: is damaged: {name[:80]} has no shape")
    if str(claim.get("dtype")) not in DTYPES:
        raise CheckpointError(f"{path}: is no checkpoint: {name[:80]} has numbers of an unexpected type")
    if not all(type(side) is int and 0 <= side < 1 << 63 for side in shape) or len(shape) > 8:
        raise CheckpointError(f"{path}: is damaged: {name[:80]} has a shape that cannot be")
    return math.prod(shape)


def _decode(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Decode what is sound JSON of plain values; keep anything else, such as a foreign text, as it is."""
    decoded: dict[str, Any] = {}
    for key, text in metadata.items():
        try:
            decoded[key] = value = json.loads(text, parse_constant=_refuse)
            _check_plain(value)
        except (ValueError, RecursionError):
            decoded[key] = text
    return decoded


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _check_plain(value: Any, depth: int = 0) -> None:
    """Refuse values that could not be written to a JSON file of ours: they travel into results.json."""
    if depth > MAX_DEPTH:
        raise ValueError("nested too deep")
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_plain(key, depth + 1)
            _check_plain(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _check_plain(inner, depth + 1)
    elif isinstance(value, str):
        value.encode()  # half of a surrogate pair cannot be
    elif isinstance(value, int | float) and not abs(value) < 1 << 63:  # 1e999 reads as infinity
        raise ValueError("a number beyond all that is meant")
