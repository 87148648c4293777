"""The pictures that a command is given: files, and folders of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from steadypix.errors import InputError


def collect(inputs: Sequence[Path]) -> dict[str, Path]:
    """Return the picture files behind files and folders, by the name their output gets.

    Raises:
        InputError: if one is missing, a folder holds no picture, or two would write the same output.
    """
    from steadypix.data.pictures.listing import list_images

    files: dict[str, Path] = {}
    for item in inputs:
        found = list_images(item) if item.is_dir() else [item]
        if not found:
            raise InputError(f"{item}: holds no images")
        for file in found:
            if not file.exists():
                raise InputError(f"{file}: no such file; expected a picture or a folder of them")
            if file.stem in files:
                raise InputError(f"{file}: would overwrite the output of {files[file.stem]}; rename one")
            files[file.stem] = file
    return files
