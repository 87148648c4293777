"""Pairs from folders: layouts, jitter, order, and one clear line for everything that is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from steadypix import InputError, PairedImages, SyntheticPairs
from steadypix.data.pairs.opening import open_pairs
from steadypix.data.pairs.sampler import EpochSampler
from steadypix.data.pictures.images import read_image
from steadypix.data.pictures.transforms import random_window, to_pixels, to_tensor


def coordinates(size: int) -> np.ndarray:
    """A picture whose red is x and whose green is y, so a window tells where it was cut."""
    y, x = np.mgrid[:size, :size].astype(np.uint8)
    return np.dstack([x, y, np.zeros_like(x)])


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def test_side_by_side_and_direction(tmp_path: Path) -> None:
    left, right = np.full((8, 8, 3), 10, np.uint8), np.full((8, 8, 3), 200, np.uint8)
    save(tmp_path / "train" / "1.png", np.hstack([left, right]))
    for direction, source_value, target_value in (("AtoB", 10, 200), ("BtoA", 200, 10)):
        pairs = PairedImages(tmp_path, direction=direction, load_size=8, crop_size=8)
        source, target = pairs.canvas(0)
        assert to_pixels(source).max() == source_value
        assert to_pixels(target).max() == target_value


def test_two_folders_in_natural_order(tmp_path: Path) -> None:
    for number in (1, 2, 10):
        save(tmp_path / "trainA" / f"{number}.png", np.full((8, 8, 3), number, np.uint8))
        save(tmp_path / "trainB" / f"{number}.bmp", np.full((8, 8, 3), 100 + number, np.uint8))
    pairs = PairedImages(tmp_path, direction="AtoB", load_size=8, crop_size=8)
    assert [pairs.name(i) for i in range(3)] == ["1", "2", "10"]
    source, target = pairs.canvas(2)
    assert to_pixels(source).max() == 10
    assert to_pixels(target).max() == 110


def test_grayscale_and_colour(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    save(tmp_path / "train" / "1.png", rng.integers(0, 256, (8, 16, 3), dtype=np.uint8))
    pairs = PairedImages(
        tmp_path, direction="BtoA", input_channels=1, output_channels=3, load_size=8, crop_size=8
    )
    source, target = pairs.canvas(0)
    assert source.shape == (1, 8, 8)
    assert target.shape == (3, 8, 8)
    half = Image.open(tmp_path / "train" / "1.png").crop((8, 0, 16, 8))
    np.testing.assert_array_equal(to_pixels(source)[..., 0], np.asarray(half.convert("L")))


def test_sixteen_bits_and_orientation(tmp_path: Path) -> None:
    deep = (np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png", 1)[..., 0], deep)
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "float.tiff")
    with pytest.raises(InputError, match=r"float\.tiff.*expected 8 or 16 bits"):
        read_image(tmp_path / "float.tiff")
    wide = Image.fromarray(np.zeros((4, 8, 3), np.uint8))
    exif = wide.getexif()
    exif[0x0112] = 6  # turned by 90 degrees
    wide.save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").shape == (8, 4, 3)


def test_names_that_clash_or_hide(tmp_path: Path) -> None:
    for name in ("1.png", "1.jpg"):
        save(tmp_path / "trainA" / name, np.zeros((8, 8, 3), np.uint8))
    save(tmp_path / "trainB" / "1.png", np.zeros((8, 8, 3), np.uint8))
    refuse(tmp_path, "same name", "1.jpg", "1.png")
    (tmp_path / "trainA" / "1.jpg").rename(tmp_path / "trainA" / "._1.jpg")
    assert len(PairedImages(tmp_path, load_size=8, crop_size=8)) == 1


def test_jitter_is_the_same_for_both_halves(tmp_path: Path) -> None:
    picture = coordinates(40)
    save(tmp_path / "train" / "1.png", np.hstack([picture, picture]))
    pairs = PairedImages(tmp_path, load_size=40, crop_size=32)
    mirrored = set()
    corners = set()
    for epoch in range(60):
        sample = pairs[epoch, 0]
        source = to_pixels(sample["input"])
        np.testing.assert_array_equal(source, to_pixels(sample["target"]))
        x, y = source[0, :, 0].astype(int), source[:, 0, 1].astype(int)
        assert set(np.diff(x)) in ({1}, {-1})
        assert set(np.diff(y)) == {1}
        mirrored.add(bool(x[0] > x[1]))
        corners.add((x.min(), y.min()))
        assert 0 <= x.min() <= 8
    assert mirrored == {True, False}
    assert len(corners) > 20


def test_jitter_is_a_function_of_seed_epoch_and_index(pair_folder: Path) -> None:
    def draw(seed: int, epoch: int) -> torch.Tensor:
        return PairedImages(pair_folder, load_size=40, crop_size=32, seed=seed)[epoch, 1]["input"]

    assert torch.equal(draw(0, 3), draw(0, 3))
    assert not torch.equal(draw(0, 3), draw(0, 4))
    assert not torch.equal(draw(0, 3), draw(1, 3))


def test_cache_and_workers_change_nothing(pair_folder: Path) -> None:
    def batches(workers: int, cache: bool) -> list[torch.Tensor]:
        pairs = PairedImages(pair_folder, load_size=40, crop_size=32, cache=cache)
        sampler = EpochSampler(len(pairs), 2, seed=1, epoch=2)
        loader = torch.utils.data.DataLoader(pairs, batch_sampler=sampler, num_workers=workers)
        return [batch["input"] for batch in loader]

    reference = batches(0, False)
    for other in (batches(0, True), batches(2, False)):
        assert all(torch.equal(a, b) for a, b in zip(reference, other, strict=True))


def test_explicit_generator_decides_the_window() -> None:
    draws = [random_window(286, 286, 256, flip=True, rng=np.random.default_rng(7)) for _ in range(2)]
    assert draws[0] == draws[1]
    assert random_window(8, 8, 8, flip=False, rng=np.random.default_rng(0)) == (0, 0, False)


def test_lighting_changes_the_input_alone_and_nothing_that_is_drawn_before(pair_folder: Path) -> None:
    options = {"load_size": 40, "crop_size": 32, "shift_px": 3}
    plain = PairedImages(pair_folder, **options)
    lit = PairedImages(pair_folder, lighting=0.2, **options)
    factors = []
    for index in range(len(plain)):
        ours, theirs = lit[index], plain[index]
        assert torch.equal(ours["target"], theirs["target"])
        assert torch.equal(ours["shift"], theirs["shift"])
        assert not torch.equal(ours["input"], theirs["input"])
        assert ours["input"].abs().max() <= 1
        # One line through all values that are not clipped, the same for both windows.
        both = [torch.cat([sample["input"], sample["moved"]]).flatten() for sample in (ours, theirs)]
        inside = both[0].abs() < 1
        slope, offset = np.polyfit(both[1][inside], both[0][inside], 1)
        np.testing.assert_allclose(both[0][inside], slope * both[1][inside] + offset, atol=1e-5)
        assert 0.6 <= slope <= 1
        factors.append(slope)
        assert torch.equal(lit[index]["input"], ours["input"])
    assert len(set(factors)) == len(factors)


def test_pixels_round_trip() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    tensor = to_tensor(pixels)
    assert tensor.min() >= -1
    assert tensor.max() <= 1
    np.testing.assert_array_equal(to_pixels(tensor), pixels)


@settings(max_examples=60, deadline=None)
@given(
    length=st.integers(1, 60),
    batch=st.integers(1, 4),
    world=st.integers(1, 3),
    steps=st.integers(0, 6),
)
def test_sampler_partitions_and_resumes(length: int, batch: int, world: int, steps: int) -> None:
    """Processes share an epoch without overlap, and a start in the middle goes on with the same rest."""
    if length < batch * world:
        with pytest.raises(ValueError, match=f"{length} samples"):
            EpochSampler(length, batch, seed=0, epoch=0, world_size=world)
        return
    shares = [
        list(EpochSampler(length, batch, seed=3, epoch=1, rank=r, world_size=world)) for r in range(world)
    ]
    keys = [key for share in shares for step in share for key in step]
    assert len(keys) == len(set(keys)) == length - length % (batch * world)
    assert all(epoch == 1 and 0 <= index < length for epoch, index in keys)
    steps = min(steps, len(shares[0]))
    start = steps * batch * world
    rest = list(EpochSampler(length, batch, seed=3, epoch=1, start=start, rank=0, world_size=world))
    assert rest == shares[0][steps:]


def test_epochs_have_orders_of_their_own() -> None:
    first, second = (list(EpochSampler(30, 1, seed=0, epoch=epoch)) for epoch in (0, 1))
    assert [key[0][1] for key in first] != [key[0][1] for key in second]


# ---- what is wrong gets one line ------------------------------------------------------------------


def refuse(root: Path, *culprits: str, split: str = "train") -> None:
    with pytest.raises(InputError) as caught:
        PairedImages(root, split, load_size=8, crop_size=8).read(0)
    message = str(caught.value)
    assert "\n" not in message
    for culprit in culprits:
        assert culprit in message


def test_missing_and_empty_folders(tmp_path: Path) -> None:
    refuse(tmp_path / "nowhere", "nowhere", "no such folder")
    (tmp_path / "val").mkdir()
    refuse(tmp_path, "train/", "found val")
    (tmp_path / "train").mkdir()
    refuse(tmp_path, "train", "holds no images")


def test_a_text_file_named_jpg(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "notes.jpg").write_text("not a picture")
    refuse(tmp_path, "notes.jpg", "not an image")


def test_a_truncated_png(tmp_path: Path) -> None:
    save(tmp_path / "train" / "cut.png", np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    whole = (tmp_path / "train" / "cut.png").read_bytes()
    for kept in (20, 60, len(whole) // 2, len(whole) - 30):
        (tmp_path / "train" / "cut.png").write_bytes(whole[:kept])
        refuse(tmp_path, "cut.png")


def test_an_odd_width(tmp_path: Path) -> None:
    save(tmp_path / "train" / "odd.png", np.zeros((8, 17, 3), np.uint8))
    refuse(tmp_path, "odd.png", "17")


def test_halves_that_differ_or_lack_a_partner(tmp_path: Path) -> None:
    save(tmp_path / "trainA" / "1.png", np.zeros((8, 8, 3), np.uint8))
    save(tmp_path / "trainB" / "1.png", np.zeros((8, 9, 3), np.uint8))
    refuse(tmp_path, "8x8", "9x8")
    save(tmp_path / "trainA" / "2.png", np.zeros((8, 8, 3), np.uint8))
    refuse(tmp_path, "2.png", "partner", "trainB")


def test_bad_arguments_name_the_value(pair_folder: Path) -> None:
    with pytest.raises(InputError, match="'BtoC'"):
        PairedImages(pair_folder, direction="BtoC")
    with pytest.raises(InputError, match="300"):
        PairedImages(pair_folder, load_size=286, crop_size=300)
    with pytest.raises(InputError, match=r"between 1 and 64, not 0"):
        PairedImages(pair_folder, input_channels=0, load_size=8, crop_size=8)
    with pytest.raises(InputError, match=r"1\.png: has 3 channels; expected 2"):
        PairedImages(pair_folder, input_channels=2, load_size=8, crop_size=8).read(0)
    with pytest.raises(InputError, match="'cars'"):
        SyntheticPairs("cars")
    with pytest.raises(InputError, match="'dev'"):
        SyntheticPairs("maps", "dev")
    with pytest.raises(InputError, match="not 0"):
        SyntheticPairs("maps", count=0)
    with pytest.raises(InputError, match="nowhere"):
        open_pairs("nowhere", "train")
    with pytest.raises(InputError, match="1 to 3"):
        open_pairs("synthetic-maps", "train", input_channels=1)


def test_splits_of_synthetic_pairs_never_meet() -> None:
    options = {"count": 3, "load_size": 32, "crop_size": 32}
    seen = [SyntheticPairs("facades", s, **options).read(i)[1] for s in ("train", "test") for i in range(3)]
    assert all(not np.array_equal(a, b) for n, a in enumerate(seen) for b in seen[:n])
    with pytest.raises(IndexError):
        SyntheticPairs("facades", **options).read(3)


def test_real_facades_and_maps(real_data: Path) -> None:
    facades = PairedImages(real_data / "facades", "test", load_size=143, crop_size=128)
    assert len(facades) == 106
    source, target = facades.canvas(0)
    # Labels are drawn in saturated colours, photos are not: the direction is right.
    assert source.std() > target.std()
    maps = PairedImages(real_data / "maps", "val", direction="AtoB")
    assert maps[0]["input"].shape == (3, 256, 256)
