"""A folder of outputs made elsewhere, behind the face of a network; its manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from steadypix.data.pictures.images import open_picture, read_image
from steadypix.data.pictures.transforms import to_pixels, to_tensor
from steadypix.errors import InputError
from steadypix.eval.shifts.offsets import Offset
from steadypix.json_checks import WrongError, one_of, read_json, record, size, text
from steadypix.sizes import from_json, largest

MANIFEST = "manifest.json"
FORMAT = "steadypix.inputs.v1"


@dataclass(frozen=True)
class Window:
    """One input that a network must see: its file's name, what it shows, and its pixels (1, C, H, W)."""

    file: str
    image: str
    protocol: str
    offset: Offset
    pixels: Tensor


class Outputs(nn.Module):
    """A folder of outputs behind the face of a network: shown an input, it gives back the picture made of it.

    An input is known by its pixels, so `bind` must have seen the evaluation's windows.

    Args:
        folder: pictures named as `export_inputs` names them.
        channels: of the outputs, 3 or 1.
    """

    def __init__(self, folder: Path, channels: int) -> None:
        super().__init__()
        self.folder = folder
        self.channels = channels
        self._files: dict[str, Path] = {}

    def bind(self, windows: Iterable[Window]) -> None:
        """Find the output of every input of an evaluation.

        Raises:
            InputError: if an output is missing, or two outputs differ that were made of the same input.
        """
        for window in windows:
            file = self.folder / window.file
            if not file.exists():
                raise InputError(
                    f"{file}: no such output; expected one for every file of --export_inputs "
                    "(with the same --data, --seed, --limit and options of what is measured)"
                )
            known = self._files.setdefault(_digest(window.pixels), file)
            if known != file and not torch.equal(self._read(known), self._read(file)):
                raise InputError(
                    f"{file}: differs from {known.name}, though their inputs are equal; expected a program "
                    "without dropout or noise"
                )

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs (B, C', H, W) in [-1, 1] for the inputs `x`."""
        return torch.stack([self._lookup(sample) for sample in x.split(1)]).to(x)

    def _lookup(self, x: Tensor) -> Tensor:
        file = self._files.get(_digest(x))
        if file is None:
            raise InputError(f"{self.folder}: holds no output for this input; export the inputs again")
        output = self._read(file)
        if output.shape[-2:] != x.shape[-2:]:
            found, wanted = (" x ".join(map(str, t.shape[-2:])) for t in (output, x))
            raise InputError(f"{file}: is {found} px; expected {wanted} px as its input")
        return output

    def _read(self, file: Path) -> Tensor:
        return to_tensor(read_image(file, self.channels))


def load_outputs(folder: Path, device: str) -> tuple[nn.Module, dict[str, Any]]:
    """Take a folder of outputs for a generator; its manifest, if there is one, knows the data.

    Raises:
        InputError: if the manifest is of something else.
    """
    first = min(folder.glob("*.png"))
    read_image(first)  # names the file if it is none
    with open_picture(first) as image:
        channels = 1 if image.mode in ("1", "L", "I;16") else 3
    config: dict[str, Any] = {"generator": {"out_channels": channels}, "data": {}}
    file = folder / MANIFEST
    if file.exists():
        data = read_json(file, _MANIFEST, "a manifest of eval_stability --export_inputs")["data"]
        sizes = {"load_size": data["canvas_px"], "crop_size": data["window_px"]}
        config["data"] = {"direction": data["direction"], **sizes, "val_split": data["split"]}
        config["data"] |= _source(data["source"])
        config["generator"]["in_channels"] = data["input_channels"]
    return Outputs(folder, channels), config


def _source(source: str) -> dict[str, Any]:
    prefix, _, kind = source.partition("synthetic-")
    return {"root": None, "synthetic": kind} if kind and not prefix else {"root": source}


def _digest(x: Tensor) -> str:
    return hashlib.blake2b(to_pixels(x[0]).tobytes(), digest_size=20).hexdigest()


def _check_data(value: Any, where: str) -> None:
    _DATA(value, where)
    canvas, window = (from_json(value[key]) for key in ("canvas_px", "window_px"))
    if largest(canvas, window) != canvas:
        raise WrongError(f"{where}.window_px", "at most canvas_px", value["window_px"])


_DATA = record(
    {
        "canvas_px": size,
        "window_px": size,
        "direction": one_of("AtoB", "BtoA"),
        "split": text,
        "source": text,
        "input_channels": one_of(1, 3),
    }
)


_MANIFEST = record({"format": one_of(FORMAT), "data": _check_data})
