"""What lies in the folders of a data set: its splits, their pairs, and what belongs to none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from steadypix.data.pictures.listing import NO_IMAGES, SUFFIXES, list_images, no_folder
from steadypix.errors import InputError

Level = Literal["error", "remark", "ignored"]
# Folders by these names are meant to hold pictures; any other folder without pictures is passed over.
_USUAL = re.compile(r"(train|val|test)[AB]?")


@dataclass(frozen=True)
class Finding:
    """What there is to say about a file or a folder."""

    path: Path
    level: Level
    """error: cannot be used; remark: can be, but look; ignored: no picture"""
    message: str

    def __str__(self) -> str:
        """Return one line for people."""
        return f"{self.path}: {self.level}: {' '.join(self.message.split())}"


@dataclass
class Split:
    """One split: where its pairs are, and what is odd about its folders."""

    name: str
    pairs: list[tuple[Path, ...]] = field(default_factory=list)
    """one file (side by side) or two (A, B)"""
    findings: list[Finding] = field(default_factory=list)


def survey(root: Path, names: Sequence[str] = ()) -> tuple[list[Split], list[Finding]]:
    """Look through a data set without opening a file.

    Args:
        root: the folder that holds `train/`, `test/` and so on, or `trainA/`, `trainB/`.
        names: splits to look at; every folder if there are none.

    Returns:
        The splits in order, and what there is to say about files beside them.

    Raises:
        InputError: if there is no such folder or split, or nothing in it is a split.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; expected a folder of paired images")
    entries = sorted(path for path in root.iterdir() if not path.name.startswith("."))
    folders = [path.name for path in entries if path.is_dir()]
    strays = [path for path in entries if not path.is_dir()]
    if not names and not folders and any(path.suffix.lower() in SUFFIXES for path in strays):
        raise InputError(f"{root}: holds pictures itself; expected the folder above, with {root.name}/ in it")
    found = {_split_of(name, folders) for name in folders}
    if unknown := [name for name in names if name not in found]:
        raise no_folder(root, unknown[0], sorted(found))
    splits = [_look(root, name) for name in (sorted(found) if not names else dict.fromkeys(names))]
    levels = {finding.level for split in splits for finding in split.findings}
    if not any(split.pairs for split in splits) and "error" not in levels:
        raise InputError(f"{root}: holds no folder of pairs; found {', '.join(folders) or 'no folders'}")
    beside = [] if names else [Finding(path, "ignored", "lies beside the splits") for path in strays]
    return splits, beside


def _split_of(name: str, folders: Sequence[str]) -> str:
    """Return the split a folder belongs to: `train` for `trainA` where there is a `trainB`, else its name."""
    stem, last = name[:-1], name[-1:]
    return stem if stem and {f"{stem}A", f"{stem}B"} <= set(folders) and last in "AB" else name


def _look(root: Path, name: str) -> Split:
    split = Split(name)
    sides = (root / f"{name}A", root / f"{name}B")
    if all(side.is_dir() for side in sides):
        _match(split, *sides)
        if (root / name).is_dir():
            message = f"is not read, because {name}A/ and {name}B/ are there"
            split.findings.append(Finding(root / name, "ignored", message))
        return split
    if re.fullmatch(r"(train|val|test)[AB]", name):
        other = name[:-1] + ("B" if name.endswith("A") else "A")
        split.findings.append(Finding(root / name, "error", f"has no partner folder {other}/"))
        return split
    split.pairs = [(path,) for path in _pictures(split, root / name)]
    return split


def _pictures(split: Split, folder: Path) -> list[Path]:
    """Return the pictures of a folder; everything else in it becomes a finding."""
    pictures = list_images(folder)
    known = set(pictures)
    for path in sorted(path for path in folder.iterdir() if path not in known):
        if path.is_dir():
            finding = Finding(path, "ignored", "is a folder inside of a split")
        elif path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and not path.exists():
            finding = Finding(path, "error", "is a link to a file that is not there")
        else:
            finding = Finding(path, "ignored", "is no picture by its name")
        split.findings.append(finding)
    if not pictures:
        level: Level = "error" if _USUAL.fullmatch(folder.name) else "ignored"
        split.findings.append(Finding(folder, level, NO_IMAGES))
    return pictures


def _match(split: Split, folder_a: Path, folder_b: Path) -> None:
    """Pair two folders by the names of their files."""
    by_stem_a, by_stem_b = (_by_stem(split, _pictures(split, side)) for side in (folder_a, folder_b))
    split.pairs = [(path, by_stem_b[stem]) for stem, path in by_stem_a.items() if stem in by_stem_b]
    for ours, theirs, other in ((by_stem_a, by_stem_b, folder_b), (by_stem_b, by_stem_a, folder_a)):
        split.findings += [
            Finding(path, "error", f"has no partner of the same name in {other}")
            for stem, path in ours.items()
            if stem not in theirs
        ]


def _by_stem(split: Split, files: list[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in files:
        if path.stem in found:
            message = f"has the same name as {found[path.stem]}; which one is the partner?"
            split.findings.append(Finding(path, "error", message))
        else:
            found[path.stem] = path
    return found
