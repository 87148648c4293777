"""What a generator is besides its file and weights: the code that builds it, files its tensors lie in."""

from __future__ import annotations

import hashlib
import inspect
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FunctionType, ModuleType

from torch import nn

from steadypix.errors import InputError

BY_VERSION = ("torch", "steadypix")  # which a result names

# ---- Python callables -------------------------------------------------------------------------------------


def code_digest(spec: str, network: object = None) -> str:
    """Return the SHA-256 of the sources that a callable is made of, in hexadecimal.

    These are the file of the callable's own module, those of the classes of the network that it builds, and
    what these have imported that is neither installed nor of the standard library.

    Args:
        spec: `package.module:function`, whose module has been imported.
        network: what it returned.
    """
    names = {spec.partition(":")[0]}
    if isinstance(network, nn.Module):
        names |= {type(module).__module__ for module in network.modules()}
    elif callable(network):
        names.add(getattr(inspect.unwrap(network), "__module__", None) or "")
    sha = hashlib.sha256()
    for name, file in sorted(_sources(names).items()):
        sha.update(name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return sha.hexdigest()


def _sources(names: set[str]) -> dict[str, Path]:
    """Return the source files of modules, and of what they have imported of their project, by name."""
    found: dict[str, Path] = {}
    todo = sorted(names)
    while todo:
        name = todo.pop()
        file = _file_of(name)
        if file is None or name in found or name.partition(".")[0] in BY_VERSION:
            continue
        if file.suffix == ".py" and file.is_file():
            found[name] = file
            if not _installed(file):
                todo += sorted(_imported(sys.modules[name]))
    return found


def _imported(module: ModuleType) -> set[str]:
    """Return the modules that the names in a module come from."""
    local = set()
    for value in vars(module).values():
        if isinstance(value, ModuleType):
            local.add(value.__name__)
        else:  # what is none of these is an instance, for one a network
            local.add((value if isinstance(value, type | FunctionType) else type(value)).__module__)
    return {name for name in local if (file := _file_of(name)) is not None and not _installed(file)}


def _file_of(name: str) -> Path | None:
    file = getattr(sys.modules.get(name), "__file__", None)
    return Path(file) if isinstance(file, str) else None


def _installed(path: Path) -> bool:
    """Whether a file is of a package that was installed, or of the standard library."""
    folders = {sysconfig.get_path(key) for key in ("stdlib", "platstdlib", "purelib", "platlib")}
    return any(path.is_relative_to(folder) for folder in folders if folder)


# ---- ONNX -------------------------------------------------------------------------------------------------

# Of the messages of an ONNX model, those in which tensors may lie: field number -> the message there. The
# numbers are those of the format (onnx.proto3); everything else is passed over.
_MODEL: dict[int, str] = {7: "graph", 20: "training", 25: "function"}
_FIELDS: Mapping[str, Mapping[int, str]] = {
    "model": _MODEL,
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_DEEPEST = 64  # graphs within graphs


def external_files(path: Path) -> list[Path]:
    """Return the files beside an ONNX model in which its tensors lie, as it names them.

    Only regular files in the model's folder or below count; a runtime takes no others.

    Raises:
        InputError: if the file is no ONNX model.
    """
    try:
        with open(path, "rb") as file:
            names = set(_locations(memoryview(file.read()), "model", 0))
    except (IndexError, ValueError, RecursionError):
        raise InputError(f"{path}: is damaged or no ONNX model") from None
    home = path.parent.resolve()
    files = (home / name for name in sorted(names))
    return [file for file in files if file.resolve().is_relative_to(home) and file.is_file()]


def _locations(data: memoryview, kind: str, depth: int) -> Iterator[str]:
    """Yield where the tensors of a message lie that do not lie in it."""
    if depth > _DEEPEST:
        raise ValueError("nested too deep")
    within = _FIELDS[kind]
    for number, value in _fields(data):
        inner = within.get(number)
        if inner == "entry":
            entry = {key: bytes(text).decode("utf-8", "surrogateescape") for key, text in _fields(value)}
            if entry.get(1) == "location":
                yield entry.get(2, "")
        elif inner:
            yield from _locations(value, inner, depth + 1)


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield number and content of every field of a message that has a length (strings, messages, bytes)."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        wire = key & 7
        if wire == 0:
            _, place = _varint(data, place)
        elif wire in (1, 5):
            place += 8 if wire == 1 else 4
        elif wire == 2:
            length, place = _varint(data, place)
            if place + length > len(data):
                raise ValueError("cut short")
            yield key >> 3, data[place : place + length]
            place += length
        else:
            raise ValueError("no protobuf")


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    """Return a number of variable length and the place behind it."""
    value = shift = 0
    while True:
        byte = data[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
        if shift > 63:
            raise ValueError("no protobuf")
