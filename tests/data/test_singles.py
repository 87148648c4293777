"""Pictures without targets: what a folder is taken for, and rectangles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from steadypix.data.pairs.opening import open_pictures
from steadypix.data.pairs.singles import looks_like_halves
from steadypix.errors import InputError

OPTIONS = {"direction": "AtoB", "load_size": 32, "crop_size": 24, "flip": False}


def scene(seed: int, height: int = 36, width: int = 48) -> np.ndarray:
    """A smooth picture."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def halves(seed: int) -> np.ndarray:
    return np.concatenate([scene(seed), 255 - scene(seed) // 2], axis=1)


def fill(folder: Path, names: str, make: object = scene) -> Path:
    folder.mkdir(parents=True)
    for seed, name in enumerate(names.split()):
        Image.fromarray(make(seed)).save(folder / f"{name}.png")  # type: ignore[operator]
    return folder.parent


def test_pictures_in_the_folder_itself_are_single_and_in_natural_order(tmp_path: Path) -> None:
    fill(tmp_path / "photos", "frame10 frame2 frame1")
    pairs, split, remarks = open_pictures(str(tmp_path / "photos"), None, **OPTIONS)
    assert (pairs.has_targets, split, remarks) == (False, None, [])
    assert [pairs.name(i) for i in range(len(pairs))] == ["frame1", "frame2", "frame10"]
    source, target = pairs.shown(0)
    assert source.shape == (3, 32, 32)
    assert target is None


def test_one_side_alone_is_single(tmp_path: Path) -> None:
    root = fill(tmp_path / "testA", "1 2")
    pairs, split, _ = open_pictures(str(root), None, **OPTIONS)
    assert (pairs.has_targets, split, len(pairs)) == (False, "test", 2)
    with pytest.raises(InputError, match="testA: has no partner folder"):
        open_pictures(str(root), None, pairing="aligned", **OPTIONS)


@pytest.mark.parametrize(("direction", "first"), [("AtoB", "horse1"), ("BtoA", "zebra7")])
def test_folders_without_a_common_name_are_unpaired(tmp_path: Path, direction: str, first: str) -> None:
    fill(tmp_path / "testA", "horse1 horse2")
    root = fill(tmp_path / "testB", "zebra7 zebra8 zebra9")
    pairs, _, remarks = open_pictures(str(root), None, **{**OPTIONS, "direction": direction})
    assert not pairs.has_targets
    assert pairs.name(0) == first
    assert "unpaired" in remarks[0]


def test_folders_with_common_names_are_pairs_and_a_missing_partner_is_an_error(tmp_path: Path) -> None:
    fill(tmp_path / "testA", "1 2")
    root = fill(tmp_path / "testB", "1")
    with pytest.raises(InputError, match="has no partner"):
        open_pictures(str(root), None, **OPTIONS)
    assert len(open_pictures(str(root), None, pairing="none", **OPTIONS)[0]) == 2
    Image.fromarray(scene(5)).save(root / "testB" / "2.png")
    assert open_pictures(str(root), None, **OPTIONS)[0].has_targets


@pytest.mark.parametrize(
    ("folder", "make", "pairing", "remark"),
    [
        ("test", halves, "auto", ""),
        ("test", scene, "auto", "give --pairs none"),
        ("test", halves, "none", "give --pairs aligned"),
        ("test", scene, "none", ""),
        (".", halves, "auto", "give --pairs aligned"),
        (".", halves, "aligned", ""),
    ],
)
def test_what_does_not_look_like_what_it_is_taken_for_is_remarked(
    tmp_path: Path, folder: str, make: object, pairing: str, remark: str
) -> None:
    fill(tmp_path / "root" / folder, "1 2 3 4", make) if folder != "." else fill(
        tmp_path / "root", "1 2 3 4", make
    )
    pairs, _, remarks = open_pictures(str(tmp_path / "root"), None, pairing=pairing, **OPTIONS)
    assert pairs.has_targets == (pairing == "aligned" or (pairing, folder) == ("auto", "test"))
    assert [remark] == [line[-len(remark) :] for line in remarks] if remark else remarks == []


def test_flat_pictures_are_no_halves() -> None:
    assert not looks_like_halves(np.zeros((8, 16, 3), dtype=np.uint8))
    assert not looks_like_halves(np.zeros((8, 15, 3), dtype=np.uint8))


def test_real_pairs_look_like_halves_and_their_halves_do_not(real_data: Path) -> None:
    files = sorted((real_data / "facades" / "test").iterdir())[:8]
    wholes = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    assert all(map(looks_like_halves, wholes))
    assert sum(looks_like_halves(whole[:, : whole.shape[1] // 2]) for whole in wholes) == 0


def test_rectangles_keep_the_aspect_and_are_cut_evenly(tmp_path: Path) -> None:
    fill(tmp_path / "photos", "1")  # 48 x 36
    options = {**OPTIONS, "load_size": (24, 12), "crop_size": (16, 8)}
    source, _ = open_pictures(str(tmp_path / "photos"), None, **options)[0].shown(0)
    # Covered: 24 x 18 px, of which 3 rows a side are cut off.
    smaller = np.asarray(Image.fromarray(scene(0)).resize((24, 18), Image.Resampling.BICUBIC))
    assert np.array_equal(((source + 1) * 127.5).round().numpy(), smaller[3:15].transpose(2, 0, 1))


def test_a_crop_larger_than_the_rectangle_is_refused(tmp_path: Path) -> None:
    fill(tmp_path / "photos", "1")
    with pytest.raises(InputError, match="crop size 16 px must lie between 1 and the load size 24x12 px"):
        open_pictures(str(tmp_path / "photos"), None, **{**OPTIONS, "load_size": (24, 12), "crop_size": 16})
