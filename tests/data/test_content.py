"""Pictures known by their content: whatever changes in them shows, and where they lie does not."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadypix.data.pairs import content, procedural
from steadypix.data.pairs.content import Content, content_of
from steadypix.data.pairs.folders import PairedImages
from steadypix.data.pairs.procedural import SyntheticPairs
from steadypix.data.pairs.singles import SinglePictures
from steadypix.errors import InputError

SIZES = {"load_size": 40, "crop_size": 32}


def train(folder: Path) -> Content:
    return content_of(PairedImages(folder, "train", **SIZES))


def by_hand(folder: Path) -> str:
    """The hash of side-by-side pairs, written down from its definition."""
    hashes = [
        hashlib.sha256(path.stem.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest()).digest()
        for path in folder.iterdir()
    ]
    return hashlib.sha256(b"".join(sorted(hashes))).hexdigest()


def test_it_is_the_hash_of_names_and_files(pair_folder: Path) -> None:
    found = train(pair_folder)
    assert found.names == ("1", "2", "3", "4", "5", "6")
    assert found.sha256 == by_hand(pair_folder / "train")
    assert found.words == f"6 pictures, {found.sha256[:16]}"
    assert len(content_of(PairedImages(pair_folder, "train", **SIZES), 2)) == 2
    assert content_of(SinglePictures(pair_folder / "train", **SIZES)).sha256 == found.sha256


def test_it_goes_where_the_pictures_go(pair_folder: Path, tmp_path: Path) -> None:
    before = train(pair_folder)
    shutil.copytree(pair_folder, tmp_path / "elsewhere")
    assert train(tmp_path / "elsewhere").sha256 == before.sha256


def test_every_change_shows(pair_folder: Path) -> None:
    folder = pair_folder / "train"
    seen = {train(pair_folder).sha256}
    pixel = bytearray((folder / "4.png").read_bytes())
    pixel[-20] ^= 1
    changes = {
        "one bit": lambda: (folder / "4.png").write_bytes(pixel),
        "two swapped": lambda: swap(folder / "1.png", folder / "2.png"),
        "another name": lambda: (folder / "3.png").rename(folder / "7.png"),
        "one more": lambda: shutil.copy(folder / "1.png", folder / "8.png"),
        "one less": (folder / "5.png").unlink,
    }
    for number, change in enumerate(changes.values(), 2):
        change()
        seen.add(train(pair_folder).sha256)
        assert len(seen) == number


def swap(one: Path, other: Path) -> None:
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def test_both_halves_count(pair_folder: Path, tmp_path: Path) -> None:
    for side in "AB":
        shutil.copytree(pair_folder / "test", tmp_path / f"test{side}")
    before = content_of(PairedImages(tmp_path, "test", **SIZES))
    swap(tmp_path / "testB" / "1.png", tmp_path / "testB" / "2.png")
    after = content_of(PairedImages(tmp_path, "test", **SIZES))
    assert after.sha256 != before.sha256
    assert after.first_other(before.marks) == "1"


def test_the_first_that_differs_has_a_name(pair_folder: Path) -> None:
    before = train(pair_folder)
    assert before.first_other(before.marks) is None
    for name in ("5", "3"):
        (pair_folder / "train" / f"{name}.png").write_bytes(b"other")
        assert train(pair_folder).first_other(before.marks) == name
    assert train(pair_folder).first_other(before.marks[:-1]) is None
    assert train(pair_folder).first_other(before.marks.astype(np.float32)[:, :3]) is None


def test_a_file_is_read_again_only_if_it_has_changed(
    pair_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    digest = hashlib.file_digest
    monkeypatch.setattr(
        content.hashlib, "file_digest", lambda file, name: (read.append(file.name), digest(file, name))[1]
    )
    before = train(pair_folder)
    assert len(read) == 6
    assert train(pair_folder).sha256 == before.sha256
    assert len(read) == 6
    # The same size, and a time that was put back: the system's own note of the change tells.
    path = pair_folder / "train" / "2.png"
    times = path.stat()
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert train(pair_folder).sha256 != before.sha256
    assert read[6:] == [str(path)]


def test_what_cannot_be_read_and_what_has_no_file(pair_folder: Path) -> None:
    pairs = PairedImages(pair_folder, "train", **SIZES)
    (pair_folder / "train" / "2.png").unlink()  # between listing and hashing
    assert len(content_of(pairs)) == 6
    scenes = [content_of(SyntheticPairs(split=split, count=n, **SIZES)).sha256 for split, n in SCENES]
    assert len(set(scenes)) == len(SCENES)
    assert content_of(SyntheticPairs(count=3, **SIZES)).sha256 == scenes[0]


def test_scenes_are_told_by_what_draws_them(monkeypatch: pytest.MonkeyPatch) -> None:
    before = content_of(SyntheticPairs(count=3, **SIZES))
    other = content_of(SyntheticPairs(count=3, scene_seed=1, **SIZES))
    assert other.names == before.names
    assert other.sha256 != before.sha256
    draw = procedural.render_pair

    def redrawn(*args: Any, **options: Any) -> tuple[np.ndarray, np.ndarray]:
        photo, labels = draw(*args, **options)
        return photo ^ 1, labels

    monkeypatch.setattr(procedural, "render_pair", redrawn)
    assert content_of(SyntheticPairs(count=3, **SIZES)).sha256 != before.sha256


SCENES = [("train", 3), ("train", 4), ("test", 3)]


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=5), st.randoms())
def test_order_does_not_count_and_number_does(hashes: list[bytes], chance: Any) -> None:
    names = tuple(map(str, range(len(hashes))))
    shuffled = chance.sample(hashes, len(hashes))
    assert Content(names, tuple(shuffled)).sha256 == Content(names, tuple(hashes)).sha256
    assert Content((*names, "x"), (*hashes, hashes[0])).sha256 != Content(names, tuple(hashes)).sha256


# ---- several processes --------------------------------------------------------------------------------


def everyone_with(*others: Content) -> Any:
    """The values of processes that see these, whatever is asked for."""

    def everyone(value: Any) -> Sequence[Any]:
        return [other.sha256 if isinstance(value, str) else other for other in others]

    return everyone


def made(*hashes: int) -> Content:
    return Content(tuple(f"p{n}" for n, _ in enumerate(hashes)), tuple(bytes([h]) * 32 for h in hashes))


def test_processes_that_see_the_same_go_on() -> None:
    made(1, 2).require_same(everyone_with(made(1, 2), made(1, 2)))


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ((made(1, 2, 3), made(1, 2, 3), made(1, 2)), "process 0 has 3, process 2 has 2"),
        ((made(1, 2, 3), made(1, 9, 8)), "p1 is the first in which process 0 and process 1 differ"),
    ],
)
def test_processes_that_see_others_are_told_the_same(others: tuple[Content, ...], words: str) -> None:
    for own in others:
        with pytest.raises(InputError, match=f"the processes see different pictures: {words}"):
            own.require_same(everyone_with(*others))
