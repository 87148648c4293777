"""The pictures a retrofit learns from and is measured on: pairs, or inputs alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steadypix.configs.schema import DataConfig
from steadypix.data.pairs.base import Pairs
from steadypix.data.pairs.opening import open_pairs
from steadypix.data.pairs.singles import SinglePictures
from steadypix.data.pictures.listing import list_images
from steadypix.errors import InputError

MOST_REACH_PX = 7
CANVAS_SHARE = 286 / 256  # of a picture's side and the window's, as pix2pix has it


class Inputs(SinglePictures):
    """Some of a folder's pictures without targets.

    Args:
        folder: holds the pictures.
        part: which of them, in natural order.
        **options: see `SinglePictures`.
    """

    def __init__(self, folder: str | Path, part: slice, **options: Any) -> None:
        super().__init__(folder, **options)
        self._files = self._files[part]


@dataclass(frozen=True)
class Pictures:
    """What a retrofit sees.

    Attributes:
        train: windows larger than the network's by `reach_px` on each side.
        test: whole pictures and the network's window.
        paired: whether they have targets.
        reach_px: how far a window can be moved, each way.
        window_px: side of the network's window.
        data: the section `data` of the result's file.
    """

    train: Pairs
    test: Pairs
    paired: bool
    reach_px: int
    window_px: int
    data: dict[str, Any]


def open_pictures(
    root: str,
    told: Mapping[str, Any],
    *,
    channels: tuple[int, int],
    limit: int,
    seed: int,
    **given: Any,
) -> Pictures:
    """Open the pictures of a folder: pairs in its split folders, or inputs that lie in it directly.

    Args:
        root: the folder, or the name of procedural pictures.
        told: what the network's file says of its data.
        channels: of inputs and of targets.
        limit: pictures that are held out for measuring, where nothing else is: a tenth, at most so many.
        seed: of the jitter.
        **given: what the user says instead, None where nothing: `direction`, `crop_size`, `load_size`,
            `train_split` and `val_split`.

    Raises:
        InputError: if there are no such pictures, or no room to move a window in.
    """
    defaults = DataConfig()
    keys = ("direction", "crop_size", "load_size", "train_split", "val_split", "resize")
    known = {key: told[key] for key in keys if type(told.get(key)) is type(getattr(defaults, key))}
    if known.get("val_split") == "none":  # it was trained without validation, and is measured here
        del known["val_split"]
    known |= {key: value for key, value in given.items() if value is not None}
    window = known.setdefault("crop_size", 256)
    if "load_size" not in known or (given.get("crop_size") and not given.get("load_size")):
        known["load_size"] = round(window * CANVAS_SHARE)
    canvas = known["load_size"]
    reach = min(MOST_REACH_PX, (canvas - window) // 2)
    if reach < 1:
        raise InputError(
            f"--canvas {canvas}: leaves no room to move a window of {window} px; expected "
            f"at least {window + 2} px"
        )
    files = list_images(Path(root)) if Path(root).is_dir() else []
    section = {
        "root": root,
        "synthetic": defaults.synthetic,
        "train_split": defaults.train_split,
        "val_split": defaults.val_split,
        "direction": defaults.direction,
        "resize": defaults.resize,
        **known,
    }
    options = {"load_size": canvas, "direction": section["direction"], "resize": section["resize"]}
    larger = {"crop_size": window + 2 * reach, "seed": seed, "cache": True}
    if files:
        if len(files) < 2:
            raise InputError(f"{root}: holds one picture; expected one to learn from and one to measure on")
        held_out = min(limit, max(1, len(files) // 10))
        common = {"input_channels": channels[0], **options}
        train: Pairs = Inputs(root, slice(held_out, None), **larger, **common)
        test: Pairs = Inputs(root, slice(held_out), crop_size=window, **common)
        return Pictures(train, test, False, reach, window, section)
    common = {"input_channels": channels[0], "output_channels": channels[1], **options}
    train = open_pairs(root, section["train_split"], **larger, **common)
    test = open_pairs(root, section["val_split"], crop_size=window, synthetic_count=limit, **common)
    return Pictures(train, test, True, reach, window, section)
