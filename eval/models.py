"""One loader for every generator that can be evaluated."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.errors import InputError

if TYPE_CHECKING:
    from torch import nn

RELEASED = Path(__file__).parent.parent / "checkpoints" / "released"
GENERATOR_FILE = "generator.safetensors"
MARK = b"steadypix.generator"
MARK_WITHIN = 1 << 20  # bytes of a header that are looked at
MAX_CANVAS_PX = 16_384
NORM_MODES = {
    "instance": "statistics of each picture",
    "batch": "running statistics",
    "group": "statistics of each picture",
    "none": "none",
}


@dataclass(frozen=True)
class Model:
    """A generator ready to be measured.

    Attributes:
        name: short and unique in one evaluation.
        path: its file.
        sha256: of that file.
        module: in eval mode on its device.
        config: the whole run's configuration, as stored in the file.
    """

    name: str
    path: Path
    sha256: str
    module: nn.Module
    config: dict[str, Any]

    def describe(self) -> dict[str, Any]:
        """Return what a result records about the model, as plain JSON values."""
        generator = self.config["generator"]
        return {
            "name": self.name,
            "path": str(self.path),
            "sha256": self.sha256,
            "generator": generator,
            "norm_mode": NORM_MODES.get(generator.get("norm", ""), "unknown"),
            "dropout_mode": "off",
            "provenance": getattr(self.module, "provenance", {}),
        }


def find_checkpoints(root: Path = Path("checkpoints")) -> list[Path]:
    """Return every generator under `root`, else the released ones.

    A run counts once, by its `generator.safetensors`; its kept epochs and training state do not, nor do
    weights of other programs.
    """
    found = [path for path in root.rglob("*.safetensors") if _is_generator(path)]
    return sorted(found or RELEASED.glob("*.safetensors"))


def load_models(paths: Sequence[str | Path], device: str = "cpu") -> list[Model]:
    """Load generators and give each a short name of its own.

    Raises:
        InputError: if the same file is named twice, or there is none.
        gen.CheckpointError: if a file cannot be used.
    """
    from gen.checkpoint import load_generator, resolve

    if not paths:
        raise InputError("no generator found under ./checkpoints and none is released with this install")
    files = [resolve(path) for path in paths]
    for place, file in enumerate(files):
        if file in files[:place]:
            raise InputError(f"{file}: is named twice")
    models = []
    for name, file in zip(short_names(files), files, strict=True):
        module = load_generator(file, device)
        _check_data(file, module.config)  # type: ignore[arg-type]
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        models.append(Model(name, file, digest, module, module.config))  # type: ignore[arg-type]
    return models


def short_names(files: Sequence[Path]) -> list[str]:
    """Name files by their run directory or stem, longer where that is not unique."""
    parts = [_name_parts(file) for file in files]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [str(file) for file in files]


def _name_parts(file: Path) -> list[str]:
    run = file.parent if file.name == GENERATOR_FILE else file.with_suffix("")
    parts = [part for part in run.absolute().parts if part != "/"]
    kept = re.fullmatch(r"generator-(\d+)", parts[-1])
    if kept:  # an epoch kept along a run: name the run too
        parts[-2:] = [f"{parts[-2]}@{int(kept[1])}"]
    return parts


def _is_generator(path: Path) -> bool:
    if path.parent.name == "last" or re.fullmatch(r"generator-\d+", path.stem):
        return False
    try:
        with open(path, "rb") as file:
            # The header is JSON with our format's name in its metadata; tensors follow it.
            return MARK in file.read(MARK_WITHIN)
    except OSError:
        return False


def _check_data(path: Path, config: dict[str, Any]) -> None:
    """Refuse a file whose `data` section could not be used, before anything is made of it."""
    data = config.get("data")
    if not isinstance(data, dict):
        raise InputError(f"{path}: its metadata holds no data section")
    text: tuple[type, ...] = (str,)
    wanted = {"root": (str, type(None)), "synthetic": text, "val_split": text, "direction": text}
    for key, kind in {**wanted, "load_size": (int,), "crop_size": (int,)}.items():
        if not isinstance(data.get(key), kind):
            raise InputError(f"{path}: data.{key} in its metadata is {data.get(key)!r}")
    if not 1 <= data["crop_size"] <= data["load_size"] <= MAX_CANVAS_PX:
        sizes = f"{data['crop_size']} and {data['load_size']}"
        raise InputError(
            f"{path}: crop_size and load_size in its metadata are {sizes}; expected 1 to {MAX_CANVAS_PX} px"
        )
