"""One picture at every shift, kept as lossless pixels: what the report's slider shows.

A folder `frames/` (docs/results-format.md): `frames.json`, and a sheet of tiles for each model. Written
while networks are at hand, so that whoever makes the report later reads files alone.
"""

from __future__ import annotations

import base64
import functools
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from steadypix import json_checks as want
from steadypix.errors import InputError
from steadypix.eval.charts.drawing import Pixels, full_scale
from steadypix.eval.charts.strips import Strip, find_region
from steadypix.eval.shifts.offsets import Offset, plain
from steadypix.files import write_text, write_whole
from steadypix.json_checks import WrongError, read_json

FRAMES_VERSION = 1
INDEX = "frames.json"
MOST_SHIFTS = 17  # -8..8; the nearest to 0 are kept
# About two bytes a pixel once compressed: four models of 128 px at eight shifts stay whole, and the report
# below 2 MB. Larger pictures are cut to the square that changes most.
MOST_PIXELS = 1_000_000
# What is read back may have been written by somebody else.
MOST_OFFSETS = 1000
LARGEST_PIXELS = 64 * MOST_PIXELS  # of a sheet
LARGEST_SHEET = 64 << 20  # bytes


def write_frames(
    folder: Path,
    *,
    source: Pixels,
    target: Pixels | None,
    strips: Sequence[Strip],
    offsets: Sequence[Offset],
    protocol: str,
    image: str,
) -> None:
    """Write the tiles of one picture; sheets that an earlier evaluation left are removed.

    Args:
        folder: made if it is not there.
        source: (H, W, 3) uint8, the input over the area that all shifts share.
        target: the same of the ground truth; None where there is none.
        strips: the models, in the order of results.json, outputs (len(offsets), H, W, 3) uint8 moved back.
        offsets: (dx, dy) in px, with (0, 0) among them.
        protocol: name of the protocol that made the shifts.
        image: name of the picture.
    """
    kept = sorted(sorted(range(len(offsets)), key=lambda i: math.hypot(*offsets[i]))[:MOST_SHIFTS])
    shifts = [offsets[i] for i in kept]
    reference = shifts.index((0, 0))
    tiles = [Strip(strip.name, strip.caption, strip.outputs[kept]) for strip in strips]
    left, top, width, height = _cut(tiles, reference)
    rows, columns = slice(top, top + height), slice(left, left + width)
    tiles = [Strip(tile.name, tile.caption, tile.outputs[:, rows, columns]) for tile in tiles]
    shorter = min(width, height)
    size = min(shorter, max(8, shorter // 3))
    close_left, close_top = find_region(tiles, size=size, reference=reference, margin_px=shorter // 8)
    changes = [np.abs(tile.outputs.astype(np.int16) - tile.outputs[reference]).mean(axis=3) for tile in tiles]
    files = [f"model-{number:02d}.webp" for number in range(len(tiles))]
    index = {
        "schema_version": FRAMES_VERSION,
        "image": image,
        "protocol": protocol,
        "offsets_px": [[plain(dx), plain(dy)] for dx, dy in shifts],
        "reference": reference,
        "width_px": width,
        "height_px": height,
        "closeup": {"left_px": close_left, "top_px": close_top, "size_px": size},
        "full_scale": full_scale(np.stack(changes)),
        "cut": {"left_px": left, "top_px": top, "of_px": list(source.shape[1::-1])},
        "input": "input.webp",
        "target": None if target is None else "target.webp",
        "models": [{"name": tile.name, "file": file} for tile, file in zip(tiles, files, strict=True)],
    }
    folder.mkdir(parents=True, exist_ok=True)
    for old in (*folder.glob("model-*.webp"), folder / "target.webp"):
        old.unlink(missing_ok=True)
    sheets = {"input.webp": source[rows, columns]}
    sheets |= {} if target is None else {"target.webp": target[rows, columns]}
    sheets |= {file: tile.outputs.reshape(-1, width, 3) for file, tile in zip(files, tiles, strict=True)}
    for file, pixels in sheets.items():
        write_whole(folder / file, functools.partial(_save, pixels=pixels))
    words = json.dumps(index, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    write_text(folder / INDEX, words, errors="replace")


def read_frames(folder: Path) -> dict[str, Any] | None:
    """Return `frames.json` with every sheet as a data URI in its place; None if there is none.

    Raises:
        InputError: naming the file that is broken, missing or of another version.
    """
    index = folder / INDEX
    if not index.exists():
        return None
    frames: dict[str, Any] = read_json(index, _check_index, f"a {INDEX} of schema_version {FRAMES_VERSION}")
    width, height = frames["width_px"], frames["height_px"]
    for key in ("input", "target"):
        if frames[key] is None:
            continue
        frames[key] = _data_uri(folder / frames[key], (width, height))
    for model in frames["models"]:
        model["file"] = _data_uri(folder / model["file"], (width, height * len(frames["offsets_px"])))
    return frames


def _cut(tiles: Sequence[Strip], reference: int) -> tuple[int, int, int, int]:
    """Return (left, top, width, height) of all of the picture, or of the square that there is room for."""
    count, height, width = tiles[0].outputs.shape[:3]
    if len(tiles) * count * height * width <= MOST_PIXELS:
        return 0, 0, width, height
    side = math.isqrt(MOST_PIXELS // (len(tiles) * count))
    left, top = find_region(tiles, size=side, reference=reference)
    return left, top, min(side, width), min(side, height)


def _save(path: Path, *, pixels: Pixels) -> None:
    # Differences are taken from these pixels, so compression must not add any.
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, format="WEBP", lossless=True, quality=75)


def _data_uri(sheet: Path, size: tuple[int, int]) -> str:
    """Return a sheet for a page to carry, once it is known to be a picture of `size`."""
    if not sheet.is_file():  # neither missing, nor a pipe or a device that never ends
        raise InputError(f"{sheet}: no such file; expected a sheet of {INDEX}")
    content = sheet.read_bytes() if sheet.stat().st_size <= LARGEST_SHEET else b""
    try:
        with Image.open(io.BytesIO(content), formats=["WEBP"]) as image:
            if image.size == size:  # else nothing is decoded: the index says how much that may be
                image.load()
    except Exception:  # a broken picture fails in many ways
        raise InputError(f"{sheet}: cannot be read as a WebP picture; expected a sheet of {INDEX}") from None
    if image.size != size:
        found, wanted = (f"{width} x {height} px" for width, height in (image.size, size))
        raise InputError(f"{sheet}: is {found}, but {INDEX} says {wanted}")
    return "data:image/webp;base64," + base64.b64encode(content).decode("ascii")


def _check_index(value: Any, where: str) -> None:
    want.record({"schema_version": want.one_of(FRAMES_VERSION)})(value, where)
    _INDEX(value, where)
    tiles = len(value["offsets_px"])
    if value["reference"] >= tiles:
        raise WrongError("reference", f"one of the {tiles} offsets", value["reference"])
    if value["width_px"] * value["height_px"] * tiles > LARGEST_PIXELS:
        raise WrongError("width_px", f"sheets of {LARGEST_PIXELS} px at most", value["width_px"])


_CORNER = {"left_px": want.count, "top_px": want.count}
_INDEX = want.record(
    {
        **dict.fromkeys(("image", "protocol"), want.text),
        "offsets_px": want.listed(want.pair(want.shift), least=1, most=MOST_OFFSETS),
        "reference": want.count,
        **dict.fromkeys(("width_px", "height_px"), want.side),
        "cut": want.record({**_CORNER, "of_px": want.pair(want.side)}),
        "closeup": want.record({**_CORNER, "size_px": want.side}),
        "full_scale": want.number,
        "input": want.file_name,
        "target": want.maybe(want.file_name),
        "models": want.listed(want.record({"name": want.text, "file": want.file_name})),
    }
)
