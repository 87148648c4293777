"""What kind of generator a path is, told from the file itself."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from steadypix.errors import InputError

GENERATOR_FILE = "generator.safetensors"
# Format -> what it is, in the words of a message.
FORMATS = {
    "steadypix": "a steadypix generator",
    "pix2pix": "weights of pytorch-CycleGAN-and-pix2pix",
    "program": "a torch.export program",
    "onnx": "an ONNX model",
    "callable": "a Python callable",
    "retrofitted": "a retrofitted network that a Python callable builds",
    "outputs": "a folder of outputs made elsewhere",
}
RUNS_CODE = ("program", "callable", "retrofitted")
RETROFITTED = "steadypix.retrofitted.v1"  # the format that such a file's metadata names
HEADER_WITHIN = 1 << 20  # bytes of a header that are looked at
# How the commands say what they take.
KINDS = (
    "run directory, .safetensors, latest_net_G.pth, .onnx, .pt2, package.module:function, or the short "
    "name of a released generator such as facades-blur"
)
TRUST = "load .pt2 files and callables, and networks that one builds: they can run code"
CALLABLE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def find_format(path: Path) -> str:
    """Return a key of `FORMATS`.

    A path that is missing or unknown counts as `steadypix`, whose loader says what is wrong with it.

    Raises:
        InputError: for a TorchScript archive, and for a pipe or a device, whose end may never come.
    """
    if path.is_dir():
        return "outputs" if _holds_pictures(path) else "steadypix"
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is no regular file but a pipe or a device; expected a checkpoint")
    if not path.exists():
        return "callable" if CALLABLE.fullmatch(str(path)) else "steadypix"
    if path.suffix == ".onnx":  # protobuf has no magic number
        return "onnx"
    if path.suffix == ".safetensors":
        return "retrofitted" if _is_retrofitted(path) else "steadypix"
    return _find_zip_format(path) if zipfile.is_zipfile(path) else _find_other_format(path)


def require_trust(path: Path, kind: str, *, trust: bool) -> None:
    """Raise InputError if a format that can run code is not trusted."""
    if kind in RUNS_CODE and not trust:
        raise InputError(
            f"{path}: is {FORMATS[kind]}, which can run code; give --trust if you trust its source"
        )


def _is_retrofitted(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return RETROFITTED.encode() in file.read(HEADER_WITHIN)
    except OSError:  # its loader will say so
        return False


def _find_zip_format(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:  # damaged in any of the ways of zip files; the loader will say so
        return "program" if path.suffix == ".pt2" else "pix2pix"
    entries = {name.partition("/")[2] for name in names} | set(names)
    if {"archive_format", "serialized_exported_program.json"} & entries:
        return "program"
    if "constants.pkl" in entries:
        raise InputError(f"{path}: is a TorchScript archive; expected its weights, a .pt2 program or ONNX")
    return "pix2pix"


def _find_other_format(path: Path) -> str:
    with open(path, "rb") as file:
        is_pickle = file.read(1) == b"\x80"
    if path.suffix == ".pt2":
        return "program"
    return "pix2pix" if is_pickle or path.suffix in (".pth", ".pt", ".ckpt") else "steadypix"


def _holds_pictures(folder: Path) -> bool:
    return not (folder / GENERATOR_FILE).exists() and any(folder.glob("*.png"))
