"""Which files of a folder are pictures, in natural order."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from steadypix.errors import InputError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"})
NO_IMAGES = f"holds no images ({', '.join(sorted(SUFFIXES))})"


def no_folder(root: Path, split: str, found: Sequence[str]) -> InputError:
    """Return the error that a data set has folders, but none of this split in either layout."""
    expected = f"{root}: has no folder {split}/ (nor {split}A/ and {split}B/)"
    return InputError(f"{expected}; found {', '.join(found) or 'no folders'}")


def list_images(folder: Path, suffixes: Collection[str] = SUFFIXES) -> list[Path]:
    """Return the image files directly under `folder`, in natural order (2.png before 10.png)."""
    try:
        files = [path for path in folder.iterdir() if _is_picture(path, suffixes)]
    except FileNotFoundError:
        raise InputError(f"{folder}: no such folder; expected a folder of images") from None
    except NotADirectoryError:
        raise InputError(f"{folder}: is a file; expected a folder of images") from None
    return sorted(files, key=lambda path: natural_order(path.name))


def _is_picture(path: Path, suffixes: Collection[str]) -> bool:
    # A leading dot: what some systems leave beside a picture, such as ._1.png.
    return path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()


def natural_order(text: str) -> list[tuple[bool, int, str]]:
    """Return a key that sorts `2.png` before `10.png`."""
    parts = re.split(r"(\d+)", text)
    # Not isdigit, which also holds for a superscript, of which `int` makes nothing.
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]
