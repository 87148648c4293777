"""Generators that are measured: loaded, named apart, and described for results.json."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steadypix.data.pictures.sizing import RULES
from steadypix.data.scenes.render import KINDS
from steadypix.errors import InputError
from steadypix.eval.generators.formats import GENERATOR_FILE, HEADER_WITHIN, require_trust
from steadypix.eval.generators.loading import find_generator, load_network
from steadypix.eval.generators.released import RELEASED
from steadypix.json_checks import LARGEST_PX

if TYPE_CHECKING:
    from torch import nn

MARK = b"steadypix.generator"
DIRECTIONS = ("AtoB", "BtoA")
SPLITS = ("train", "val", "test")  # of procedural pictures; a folder's may have any name
NORM_MODES = {
    "instance": "statistics of each picture",
    "batch": "running statistics",
    "renorm": "running statistics",
    "group": "statistics of each picture",
    "none": "none",
}
FROZEN = ("program", "onnx", "outputs")  # whoever made them has settled dropout
# What an output has lost before it is measured.
PRECISIONS = {"outputs": "pictures: 8-bit ones are rounded, unequal outputs reach about 56 dB"}


@dataclass(frozen=True)
class Model:
    """A generator ready to be measured.

    Attributes:
        name: short and unique in one evaluation.
        path: its file, folder of outputs, or `package.module:function`.
        sha256: of that file, of all files in the folder, or of the callable's weights.
        module: in eval mode on its device.
        config: the whole run's configuration, as stored in the file; of a foreign generator what its file
            tells, in the same form.
        format: see `steadypix.eval.generators.formats.FORMATS`.
        code_sha256: of the sources of what a Python callable builds; None of other formats.
    """

    name: str
    path: Path
    sha256: str
    module: nn.Module
    config: dict[str, Any]
    format: str = "steadypix"
    code_sha256: str | None = None

    def describe(self) -> dict[str, Any]:
        """Return what a result records about the model, as plain JSON values."""
        generator = self.config["generator"]
        return {
            "name": self.name,
            "path": str(self.path),
            "sha256": self.sha256,
            **({"code_sha256": self.code_sha256} if self.code_sha256 else {}),
            "format": self.format,
            "generator": generator,
            "norm_mode": NORM_MODES.get(generator.get("norm", ""), "unknown"),
            "dropout_mode": "as made elsewhere" if self.format in FROZEN else "off",
            **getattr(self.module, "modes", {}),
            **_ranges(self.module),
            "output_precision": PRECISIONS.get(self.format, "as computed"),
            "provenance": getattr(self.module, "provenance", {}),
        }


def _ranges(module: nn.Module) -> dict[str, list[float]]:
    """Return the ranges that somebody stated."""
    ranges = getattr(module, "ranges", None)
    if ranges is None or not ranges.stated:
        return {}
    return {"input_range": [*ranges.inputs], "output_range": [*ranges.outputs]}


def find_checkpoints(root: Path = Path("checkpoints")) -> list[Path]:
    """Return every generator under `root`, else the released ones.

    A run counts once, by its `generator.safetensors`; its kept epochs, its best one and its training state do
    not, nor do weights of other programs.
    """
    found = [path for path in root.rglob("*.safetensors") if _is_generator(path)]
    return sorted(found or RELEASED.glob("*.safetensors"))


def load_models(paths: Sequence[str | Path], device: str = "cpu", *, trust: bool = False) -> list[Model]:
    """Load generators of any format and give each a short name of its own.

    Args:
        paths: files, run directories, short names of released generators, folders of outputs, or
            `package.module:function`.
        device: where to put them.
        trust: also load what can run code: torch.export programs and callables.

    Raises:
        InputError: if the same file is named twice, there is none, or trust is needed.
        CheckpointError: if a file cannot be used.
    """
    if not paths:
        raise InputError("no generator found under ./checkpoints and none is released with this install")
    found = [find_generator(path) for path in paths]
    files = [file for file, _ in found]
    for place, (file, kind) in enumerate(found):
        if file in files[:place]:
            raise InputError(f"{file}: is named twice")
        require_trust(file, kind, trust=trust)
    return [
        load_model(name, file, kind, device)
        for name, (file, kind) in zip(short_names(files), found, strict=True)
    ]


def load_model(name: str, file: Path, kind: str, device: str) -> Model:
    """Load one generator whose format is known.

    Raises:
        InputError: if it cannot be used, or a file of ours does not say on what it can be measured.
        CheckpointError: the same, of weights.
    """
    module, config = load_network(file, kind, device)
    # A run's network that `steadypix export` wrote knows its data, too, and so does a retrofitted one.
    exported = kind in ("program", "onnx", "retrofitted") and "root" in config.get("data", {})
    if kind == "steadypix" or exported:
        check_data(file, config)
    return Model(name, file, digest(file, module), module, config, kind, code(file, kind, module))


def digest(file: Path, module: nn.Module) -> str:
    """Return the sha256 of a file, of a folder's files with their names, or of a callable's weights.

    That of an ONNX model covers the files beside it in which its tensors lie, too.
    """
    from steadypix.eval.generators.identity import external_files

    sha = hashlib.sha256()
    if file.is_file():
        for part in (file, *(external_files(file) if file.suffix == ".onnx" else ())):
            with open(part, "rb") as content:
                while chunk := content.read(1 << 20):
                    sha.update(chunk)
    elif file.is_dir():
        for picture in sorted(file.glob("*.png")):
            sha.update(picture.name.encode() + b"\0" + hashlib.sha256(picture.read_bytes()).digest())
    else:
        for key, tensor in module.state_dict().items():
            sha.update(key.encode() + b"\0" + tensor.detach().float().cpu().numpy().tobytes())
    return sha.hexdigest()


def code(file: Path, kind: str, module: nn.Module) -> str | None:
    """Return the sha256 of the sources of what a Python callable builds; None of other formats."""
    spec = {"callable": str(file), "retrofitted": getattr(module, "builder", None)}.get(kind)
    if spec is None:
        return None
    from steadypix.eval.generators.identity import code_digest

    return code_digest(spec, getattr(module, "run", None))


def identity(file: Path, kind: str, module: nn.Module) -> str:
    """Return what tells a generator of any format from another: `digest`, and `code` where there is any."""
    return digest(file, module) + (code(file, kind, module) or "")


def short_names(files: Sequence[Path]) -> list[str]:
    """Name files by their run directory or stem, longer where that is not unique."""
    parts = [_name_parts(file) for file in files]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [str(file) for file in files]


def named_apart(names: Sequence[str], models: Sequence[str]) -> list[str]:
    """Return the names of classifiers, or where two are equal, for all of them what the user typed.

    Raises:
        InputError: if the user typed one of them twice.
    """
    for place, model in enumerate(models):
        if model in models[:place]:
            raise InputError(f"{model}: is named twice")
    return list(names) if len(set(names)) == len(names) else list(models)


def _name_parts(file: Path) -> list[str]:
    if ":" in file.name:  # a callable has no suffix and no folder
        return [str(file)]
    run = file.parent if file.name == GENERATOR_FILE else file.with_suffix("")
    parts = [part for part in run.absolute().parts if part != "/"]
    published = re.fullmatch(r"(latest|\d+)_net_(G(?:_[AB])?)", parts[-1])
    if published:  # its folder is the experiment's name
        epoch = "" if published[1] == "latest" else f"@{published[1]}"
        parts[-2:] = [f"{parts[-2]}{published[2][1:].replace('_', '-')}{epoch}"]
    kept = re.fullmatch(r"generator-(\d+)", parts[-1])
    if kept:  # an epoch kept along a run: name the run too
        parts[-2:] = [f"{parts[-2]}@{int(kept[1])}"]
    return parts


def _is_generator(path: Path) -> bool:
    if path.parent.name == "last" or re.fullmatch(r"generator-(\d+|best)", path.stem):
        return False
    if path.name.startswith("."):  # being written, or left by a process that was killed
        return False
    if not path.is_file():  # opening a pipe would wait for its writer
        return False
    try:
        with open(path, "rb") as file:
            # The header is JSON with our format's name in its metadata; tensors follow it.
            return MARK in file.read(HEADER_WITHIN)
    except OSError:
        return False


def check_data(path: Path, config: dict[str, Any]) -> None:
    """Refuse a file whose `data` section could not be used, before anything is made of it."""
    data = config.get("data")
    if not isinstance(data, dict):
        raise InputError(f"{path}: its metadata holds no data section")
    for key in ("root", "synthetic", "val_split", "direction"):
        if not isinstance(data.get(key), str) and not (key == "root" and data.get(key) is None):
            raise InputError(f"{path}: data.{key} in its metadata is {data.get(key)!r}")
    choices: list[tuple[str, tuple[str, ...]]] = [("direction", DIRECTIONS), ("synthetic", KINDS)]
    if data.get("root") is None:
        choices.append(("val_split", (*SPLITS, "none")))
    if "resize" in data:
        choices.append(("resize", RULES))
    for key, known in choices:
        if data[key] not in known:
            raise InputError(
                f"{path}: data.{key} in its metadata is {data[key]!r}; expected one of {', '.join(known)}"
            )
    for key in ("load_size", "crop_size"):
        if type(data.get(key)) is not int:  # True is an int to isinstance
            raise InputError(f"{path}: data.{key} in its metadata is {data.get(key)!r}")
    if not 1 <= data["crop_size"] <= data["load_size"] <= LARGEST_PX:
        sizes = f"{data['crop_size']} and {data['load_size']}"
        raise InputError(
            f"{path}: crop_size and load_size in its metadata are {sizes}; expected 1 to {LARGEST_PX} px"
        )
