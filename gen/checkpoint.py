"""Self-describing checkpoints: safetensors with the configuration and provenance as metadata.

A generator's file needs no flag and no other file to load. Everything is written to a temporary name,
synced and renamed, so a kill at any instant leaves the old file or the new one. Nothing is ever
unpickled.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from gen.errors import CheckpointError
from gen.header import check_header
from gen.resnet import ResnetGenerator
from gen.unet import UNetGenerator

ARCHITECTURES: dict[str, type[nn.Module]] = {"unet": UNetGenerator, "resnet": ResnetGenerator}
GENERATOR_FILE = "generator.safetensors"
FORMAT = "steadypix.generator.v1"
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
AT_ONCE = 1 << 22  # numbers that are looked at in one go, so that looking costs no memory


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write(temporary)`, sync the temporary file and rename it to `path`.

    On any failure (a full disk, an interrupt) the temporary is removed and `path` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        temporary.chmod(0o666 & ~_umask())  # the library makes files that only their owner can read
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        # The rename itself is durable only once the folder is.
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        if error.errno is not None and error.filename is None:  # a full disk does not say where
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)  # there is no way to ask without setting it
    os.umask(mask)
    return mask


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

    write_atomically(path, write)


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


def save_generator(
    path: str | Path,
    model: nn.Module,
    *,
    config: Mapping[str, Any],
    provenance: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a generator so that `load_generator` needs nothing else.

    Args:
        path: the file to write.
        model: the generator; its parameters and persistent buffers are stored.
        config: JSON-able; `config["generator"]` holds the arguments of the network, and which one under
            `architecture`: `unet` (also where it says nothing) or `resnet`.
        provenance: JSON-able facts about where the weights come from.
        dtype: store floating-point tensors in this type (for example `torch.float16`); None keeps it.
    """
    state = {
        key: tensor.to(dtype) if dtype and tensor.is_floating_point() else tensor
        for key, tensor in model.state_dict().items()
    }
    metadata = {"format": FORMAT, "config": dict(config), "provenance": dict(provenance or {})}
    write_tensors(Path(path), state, metadata)


def load_generator(path: str | Path, device: str = "cpu") -> nn.Module:
    """Load a generator from its file or run directory.

    Args:
        path: a `.safetensors` file, or a directory that holds `generator.safetensors`.
        device: where to put it.

    Returns:
        The network in eval mode, float32, with `.config` and `.provenance` (dicts) attached.

    Raises:
        CheckpointError: if the file is missing, a pickle, cut short, foreign, of another architecture
            than it claims, or holds numbers that are not finite.
    """
    path = resolve(path)
    tensors, metadata = read_tensors(path)
    config = metadata.get("config")
    if metadata.get("format") != FORMAT or not isinstance(config, dict):
        raise CheckpointError(f"{path}: is no steadypix generator (no {FORMAT} metadata in it)")
    provenance = metadata.get("provenance", {})
    if not isinstance(provenance, dict):
        raise CheckpointError(f"{path}: its provenance cannot be read; expected a map of plain values")
    model = build_generator(path, config.get("generator"), tensors)
    model.config = config  # type: ignore[assignment]
    model.provenance = provenance  # type: ignore[assignment]
    return model.to(device).eval()


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Copy a generator's weights into `model`, which may resample differently (retrofit, `--init`).

    Raises:
        CheckpointError: as `load_generator`, or if a name or shape does not fit `model`.
    """
    path = resolve(path)
    tensors, _ = read_tensors(path)
    check_fit(path, tensors, model.state_dict())
    model.load_state_dict(tensors)


def resolve(path: str | Path) -> Path:
    """Return the generator's file for a file or a run directory."""
    path = Path(path)
    return path / GENERATOR_FILE if path.is_dir() else path


def build_generator(path: Path, arguments: object, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Build the network that `arguments` describe and give it its weights.

    Args:
        path: named in errors.
        arguments: what a configuration holds under `generator`.
        tensors: the weights, under our names.

    Raises:
        CheckpointError: if the arguments cannot be, or the weights do not fit them or are not finite.
    """
    if not isinstance(arguments, dict):
        raise CheckpointError(f"{path}: its metadata holds no generator configuration")
    arguments = dict(arguments)
    name = arguments.pop("architecture", "unet")
    if not isinstance(name, str) or name not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise CheckpointError(f"{path}: its architecture {name!r} is unknown; expected one of {known}")
    if name == "unet":
        arguments.setdefault("late_levels", None)  # a file from before the option has all levels late
    try:
        # On the meta device: a hostile width costs no memory before its shapes are compared, and no weights
        # are drawn that the file's replace.
        with torch.device("meta"):
            model = ARCHITECTURES[name](**arguments)
        expected = model.state_dict()
        check_fit(path, tensors, expected)
    except CheckpointError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path}: its generator configuration cannot be built ({reason})") from None
    model.load_state_dict({key: x.to(expected[key].dtype) for key, x in tensors.items()}, assign=True)
    return model


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
