"""One picture at every shift, kept as lossless pixels: what the report's slider shows.

A folder `frames/` (docs/results-format.md): `frames.json`, and a sheet of tiles for each model. Written
while networks are at hand, so that whoever makes the report later reads files alone.
"""

from __future__ import annotations

import base64
import functools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data.errors import InputError
from data.files import write_whole
from eval.drawing import Pixels
from eval.grid import Strip, find_region
from eval.offsets import Offset, plain

FRAMES_VERSION = 1
INDEX = "frames.json"
MOST_SHIFTS = 17  # -8..8; the nearest to 0 are kept
# About two bytes a pixel once compressed: four models of 128 px at eight shifts stay whole, and the report
# below 2 MB. Larger pictures are cut to the square that changes most.
MOST_PIXELS = 1_000_000


def write_frames(
    folder: Path,
    *,
    source: Pixels,
    target: Pixels,
    strips: Sequence[Strip],
    offsets: Sequence[Offset],
    protocol: str,
    image: str,
) -> None:
    """Write the tiles of one picture; sheets that an earlier evaluation left are removed.

    Args:
        folder: made if it is not there.
        source: (H, W, 3) uint8, the input over the area that all shifts share.
        target: the same of the ground truth.
        strips: the models, in the order of results.json, outputs (len(offsets), H, W, 3) uint8 moved back.
        offsets: (dx, dy) in px, with (0, 0) among them.
        protocol: name of the protocol that made the shifts.
        image: name of the picture.
    """
    kept = sorted(sorted(range(len(offsets)), key=lambda i: math.hypot(*offsets[i]))[:MOST_SHIFTS])
    shifts = [offsets[i] for i in kept]
    tiles = [Strip(strip.name, strip.caption, strip.outputs[kept]) for strip in strips]
    left, top, width, height = _cut(tiles, shifts.index((0, 0)))
    rows, columns = slice(top, top + height), slice(left, left + width)
    tiles = [Strip(tile.name, tile.caption, tile.outputs[:, rows, columns]) for tile in tiles]
    files = [f"model-{number:02d}.webp" for number in range(len(tiles))]
    index = {
        "schema_version": FRAMES_VERSION,
        "image": image,
        "protocol": protocol,
        "offsets_px": [[plain(dx), plain(dy)] for dx, dy in shifts],
        **_geometry(tiles, shifts.index((0, 0))),
        "cut": {"left_px": left, "top_px": top, "of_px": list(source.shape[1::-1])},
        "input": "input.webp",
        "target": "target.webp",
        "models": [{"name": tile.name, "file": file} for tile, file in zip(tiles, files, strict=True)],
    }
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("model-*.webp"):
        old.unlink()
    sheets = [source[rows, columns], target[rows, columns]]
    sheets += [tile.outputs.reshape(-1, width, 3) for tile in tiles]
    for file, pixels in zip(["input.webp", "target.webp", *files], sheets, strict=True):
        write_whole(folder / file, functools.partial(_save, pixels=pixels))
    text = json.dumps(index, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    write_whole(folder / INDEX, functools.partial(Path.write_text, data=text, encoding="utf-8"))


def _geometry(tiles: Sequence[Strip], reference: int) -> dict[str, Any]:
    """Return the part of the index that follows from the tiles: sizes, close-up, scale of differences."""
    height, width = tiles[0].outputs.shape[1:3]
    shorter = min(width, height)
    size = min(shorter, max(8, shorter // 3))
    left, top = find_region(tiles, size=size, reference=reference, margin_px=shorter // 8)
    return {
        "reference": reference,
        "width_px": width,
        "height_px": height,
        "closeup": {"left_px": left, "top_px": top, "size_px": size},
        "full_scale": _full_scale(tiles, reference),
    }


def read_frames(folder: Path) -> dict[str, Any] | None:
    """Return `frames.json` with every sheet as a data URI in its place; None if there is none.

    Raises:
        InputError: naming the file that is broken, missing or of another version.
    """
    index = folder / INDEX
    if not index.exists():
        return None
    try:
        frames = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{index}: cannot be read ({error}); expected JSON") from None
    if not isinstance(frames, dict) or frames.get("schema_version") != FRAMES_VERSION:
        raise InputError(f"{index}: expected schema_version {FRAMES_VERSION}")
    for key in ("input", "target"):
        frames[key] = _data_uri(folder, frames[key])
    for model in frames["models"]:
        model["file"] = _data_uri(folder, model["file"])
    return frames


def _cut(tiles: Sequence[Strip], reference: int) -> tuple[int, int, int, int]:
    """Return (left, top, width, height) of all of the picture, or of the square that there is room for."""
    count, height, width = tiles[0].outputs.shape[:3]
    if len(tiles) * count * height * width <= MOST_PIXELS:
        return 0, 0, width, height
    side = math.isqrt(MOST_PIXELS // (len(tiles) * count))
    left, top = find_region(tiles, size=side, reference=reference)
    return left, top, min(side, width), min(side, height)


def _full_scale(tiles: Sequence[Strip], reference: int) -> int:
    """Return the change in levels of 255 that gets the hottest colour; 0.5 % of all may saturate."""
    changes = [np.abs(tile.outputs.astype(np.int16) - tile.outputs[reference]).mean(axis=3) for tile in tiles]
    return min(255, max(8, 8 * math.ceil(np.quantile(np.stack(changes), 0.995) / 8)))


def _save(path: Path, *, pixels: Pixels) -> None:
    # Differences are taken from these pixels, so compression must not add any.
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, format="WEBP", lossless=True, quality=75)


def _data_uri(folder: Path, name: str) -> str:
    if Path(name).name != name:
        raise InputError(f"{folder / INDEX}: {name!r} is no name of a file beside it")
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        raise InputError(f"{folder / name}: {error.strerror}; expected a sheet of {INDEX}") from None
    return "data:image/webp;base64," + base64.b64encode(content).decode("ascii")
