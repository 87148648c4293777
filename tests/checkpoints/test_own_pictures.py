"""Own photos of any shape: how they are resized in training, generate and evaluation; what is held out."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import train_pix2pix as trainer
from steadypix import InputError, PairedImages
from steadypix.checkpoints.generate import main as generate
from steadypix.checkpoints.run_directory import STATE_FILE
from steadypix.checkpoints.setup import open_data
from steadypix.configs.schema import DataConfig, RunConfig, TrainConfig
from steadypix.data.pairs.folders import held_out
from steadypix.data.pictures.sizing import RULES
from steadypix.data.pictures.transforms import resize
from steadypix.eval.eval_stability import main as eval_stability
from steadypix.eval.generators.models import Model
from steadypix.eval.measure.sources import open_data as open_measured
from steadypix.gen.weights.tensors import read_tensors, write_tensors
from tests.cli import Capture, one_error_line
from tests.conftest import tiny_config, write_checkpoint

PHOTO = (301, 207)  # px, width first
RADIUS = 60


def photo(size: tuple[int, int] = PHOTO) -> np.ndarray:
    """A white disc in the middle of a dark picture."""
    y, x = np.mgrid[: size[1], : size[0]]
    inside = (x - size[0] / 2) ** 2 + (y - size[1] / 2) ** 2 < RADIUS**2
    return np.repeat((inside * 200 + 20).astype(np.uint8)[..., None], 3, axis=2)


def width_over_height(picture: torch.Tensor | np.ndarray) -> float:
    """The disc's, by the second moments of what is brighter than the corner."""
    plane = np.asarray(picture, np.float64)
    plane = plane[0] if plane.shape[0] == 3 else plane[..., 0]
    bright = (plane - plane[0, 0]).clip(0)
    spread = []
    for weights in (bright.sum(axis=0), bright.sum(axis=1)):
        place = np.arange(len(weights))
        mean = np.average(place, weights=weights)
        spread.append(np.average((place - mean) ** 2, weights=weights) ** 0.5)
    return float(spread[0] / spread[1])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Ten photos and as many targets, 301 x 207 px each half, and nothing but `train`."""
    for number in range(10):
        folder = tmp_path / "photos" / "train"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.hstack([photo(), photo()])).save(folder / f"{number}.png")
    return tmp_path / "photos"


def config_for(root: Path, **data: Any) -> RunConfig:
    sizes = {"load_size": 64, "crop_size": 48} | data
    train = TrainConfig(epochs=1, val_every=1, sample_every=0)
    return tiny_config(root, data=DataConfig(root=str(root), **sizes), train=train)


def as_model(config: RunConfig) -> Model:
    return Model("net", Path("net.safetensors"), "", nn.Identity(), dataclasses.asdict(config), "steadypix")


# ---- the shape of a picture -------------------------------------------------------------------------------


def test_a_circle_stays_a_circle_in_training_and_evaluation(photos: Path) -> None:
    squashed = PHOTO[1] / PHOTO[0]
    for rule, expected, sides in (
        ("square", squashed, (64, 64)),
        ("keep", 1, (64, 93)),
        ("none", 1, (207, 301)),
    ):
        load = 200 if rule == "none" else 64
        pairs, _ = open_data(config_for(photos, resize=rule, load_size=load, crop_size=load - 16))
        source, target = pairs.whole(0)
        assert source.shape[-2:] == target.shape[-2:] == sides
        assert width_over_height(source) == pytest.approx(expected, abs=0.03)
        measured, data = open_measured(
            [as_model(config_for(photos, resize=rule, load_size=load))], source=None, split=None, limit=None
        )
        assert data["resize"] == rule
        canvas = measured.canvas(0)[0]
        assert canvas.shape[-2:] == (load, load)
        assert width_over_height(canvas) == pytest.approx(expected, abs=0.03)


def test_windows_are_cut_from_all_of_a_kept_picture_and_both_halves_alike(photos: Path) -> None:
    """Red says the column and green the row of the original, so a window tells what was done to it."""
    y, x = np.mgrid[: PHOTO[1], : PHOTO[0]]
    place = np.dstack([255 * x / PHOTO[0], 255 * y / PHOTO[1], 0 * x]).round().astype(np.uint8)
    Image.fromarray(np.hstack([place, place])).save(photos / "train" / "0.png")
    pairs = PairedImages(photos, load_size=64, crop_size=48, resize="keep", shift_px=5)
    lefts = []
    for epoch in range(40):
        sample = pairs[epoch, 0]
        assert sample["input"].shape == sample["moved"].shape == (3, 48, 48)
        assert torch.equal(sample["input"], sample["target"])
        step = [sample["input"][0].diff(dim=1).abs().mean(), sample["input"][1].diff(dim=0).mean()]
        # A px of the window is as wide as it is high: 1 / 93 of the width, 1 / 64 of the height.
        assert step[0] / step[1] == pytest.approx(64 / 93, rel=0.05)
        lefts.append(sample["input"][0].min())
        dx, dy = sample["shift"].tolist()
        inner = sample["input"][:, 5:-5, 5:-5]
        assert torch.equal(sample["moved"][:, 5 + dy : 43 + dy, 5 + dx : 43 + dx], inner)
    assert max(lefts) - min(lefts) > 0.8 * 2 * (93 - 48) / 93, "windows come from everywhere"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize(
    ("height", "width", "kept"), [(207, 301, (64, 93)), (301, 207, (93, 64)), (9, 9, (64, 64))]
)
def test_every_rule_on_every_type(dtype: type, height: int, width: int, kept: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    top = 1 if dtype is np.float32 else np.iinfo(dtype).max
    pixels = (rng.random((height, width, 3)) * top).astype(dtype)
    for rule, sides in zip(RULES, ((64, 64), kept, (height, width)), strict=True):
        made = resize(pixels, 64, rule)
        assert made.shape == (*sides, 3)
        assert made.dtype == dtype
        assert 0 <= made.min() <= made.max() <= top
        plane = pixels[..., 1] if dtype is np.uint8 else pixels[..., 1].astype(np.float32)
        expected = np.asarray(Image.fromarray(plane).resize(sides[::-1], Image.Resampling.BICUBIC))
        np.testing.assert_allclose(made[..., 1], expected.clip(0, top), atol=1e-6 if top == 1 else 0.51)


def test_a_picture_that_is_too_small_is_named_with_what_is_needed(photos: Path, capsys: Capture) -> None:
    Image.fromarray(np.hstack([photo((180, 250))] * 2)).save(photos / "train" / "small.png")
    pairs = PairedImages(photos, load_size=200, crop_size=128, resize="none")
    with pytest.raises(InputError, match=r"small\.png: a picture of 180x250 px is too small.*200x200 px"):
        pairs.canvas([pairs.name(i) for i in range(len(pairs))].index("small"))
    (photos / "train" / "small.png").unlink()
    argv = ["--data.root", str(photos), "--data.resize", "none", "--data.load_size", "208"]
    argv += ["--data.crop_size", "128", "--generator.ngf", "2", "--generator.num_downs", "2"]
    argv += ["--discriminator.ndf", "2", "--device", "cpu", "--out", str(photos / "run")]
    assert trainer.main([*argv, "--train.epochs", "1"]) == 2
    one_error_line(capsys, "301x207 px", "208x208 px")
    with pytest.raises(InputError, match=r"resize 'fill' is unknown; expected one of square, keep, none"):
        PairedImages(photos, resize="fill")


class Same(nn.Module):
    """A generator that gives back what it is shown."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__()
        self.config = dataclasses.asdict(config)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def shape_of(path: Path) -> tuple[tuple[int, int], float]:
    with Image.open(path) as image:
        return image.size, width_over_height(np.asarray(image))


def test_generate_follows_the_run_and_says_so(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    Image.fromarray(photo()).save(tmp_path / "mine.png")
    config = config_for(photos, resize="keep", direction="AtoB")
    net = write_checkpoint(tmp_path / "net.safetensors", config)
    loaded = {"keep": Same(config), "square": Same(config_for(photos))}
    for rule, asked, sides, ratio in (
        ("keep", [], (93, 64), 1),
        ("keep", ["--resize", "none"], PHOTO, 1),
        ("square", [], PHOTO, 1),  # what it makes of a photo keeps the photo's shape
        ("square", ["--resize", "square"], (64, 64), PHOTO[1] / PHOTO[0]),
    ):
        monkeypatch.setattr(
            "steadypix.eval.generators.loading.load_generator", lambda *_, of=rule, **__: loaded[of]
        )
        out = tmp_path / f"out-{rule}-{len(asked)}"
        assert generate([str(net), str(tmp_path / "mine.png"), "--out", str(out), *asked]) == 0
        size, found = shape_of(out / "mine.png")
        assert size == sides
        assert found == pytest.approx(ratio, abs=0.03)
        said = capsys.readouterr().err
        assert f"(resize {rule})" in said
        assert "windows of 48 px" in said
        assert ("AtoB" if rule == "keep" else "BtoA") in said
        # A split is always as the run saw it.
        assert generate([str(net), "--data", str(photos), "--split", "train", "--out", str(out / "all")]) == 0
        size, found = shape_of(out / "all" / "3.png")
        assert size == ((93, 64) if rule == "keep" else (64, 64))
        assert found == pytest.approx(1 if rule == "keep" else PHOTO[1] / PHOTO[0], abs=0.03)
        assert f"(resize {rule})" in capsys.readouterr().err


# ---- a tenth is held out ----------------------------------------------------------------------------------


def names(pairs: PairedImages | Any) -> set[str]:
    return {pairs.name(index) for index in range(len(pairs))}


def test_a_tenth_is_held_out_by_names_and_seed_alone(tmp_path: Path) -> None:
    files = [f"{number}.png" for number in range(40)]
    first = held_out(files, 0)
    assert len(first) == 4
    assert held_out(files[::-1], 0) == first
    assert len({frozenset(held_out(files, seed)) for seed in range(20)}) == 20
    assert len(held_out(files[:7], 0)) == 1
    assert held_out(files[:1], 0) == set()
    # Over many seeds every name has its turn equally: 400 draws of 4 out of 40.
    counts = [sum(name in held_out(files, seed) for seed in range(400)) for name in files]
    assert 15 < min(counts) <= max(counts) < 75


@pytest.mark.parametrize("layout", ["train", "bare", "two folders"])
def test_what_is_held_out_is_never_trained_on(photos: Path, layout: str) -> None:
    train = photos / "train"
    if layout == "bare":
        for file in train.iterdir():
            file.rename(photos / file.name)
        train.rmdir()
    elif layout == "two folders":
        for side in "AB":
            (photos / f"train{side}").mkdir()
            for file in train.iterdir():
                (photos / f"train{side}" / file.name).write_bytes(file.read_bytes())
        for file in train.iterdir():
            file.unlink()
        train.rmdir()
    config = config_for(photos)
    pairs, validation = open_data(config)
    assert validation is not None
    assert len(validation) == 1
    assert not names(pairs) & names(validation)
    assert names(pairs) | names(validation) == {str(number) for number in range(10)}
    # Whether anything looks at them now does not matter, for a run may be gone on with.
    blind = dataclasses.replace(config, train=TrainConfig(val_every=0, sample_every=0))
    assert (names(open_data(blind)[0]), open_data(blind)[1]) == (names(pairs), None)
    # A run is measured on what it held out; nothing of its training is passed off as that.
    measured, data = open_measured([as_model(config)], source=None, split=None, limit=None)
    assert data["split"] == "held-out"
    assert names(measured) == names(validation)
    whole, none = open_data(config_for(photos, val_split="none"))
    assert none is None
    assert len(whole) == 10
    (photos / "test").mkdir()
    Image.fromarray(np.hstack([photo()] * 2)).save(photos / "test" / "apart.png")
    if layout == "train":
        pairs, validation = open_data(config)
        assert (len(pairs), names(validation)) == (10, {"apart"})


def test_folders_that_look_like_splits_are_no_reason_to_guess_and_others_do_not_matter(photos: Path) -> None:
    (photos / "runs").mkdir()
    assert len(open_data(config_for(photos))[1] or []) == 1
    (photos / "Validation").mkdir()
    with pytest.raises(InputError, match=r"has no folder test/ .*found Validation, runs, train"):
        open_data(config_for(photos))


@pytest.mark.slow
def test_a_run_holds_out_the_same_pairs_when_it_goes_on(
    photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    train = TrainConfig(epochs=1, val_every=1, sample_every=0, save_every=1)
    config = dataclasses.replace(config_for(photos, load_size=40, crop_size=32), train=train)
    out = tmp_path / "run"
    assert trainer.train(config, out) == 0
    said = capsys.readouterr().err
    assert "BtoA, pictures resized to 40 x 40 px (resize square), windows of 32 px" in said
    assert "1 of 10 pairs, held out by their names and the seed (--data.val_split none: none)" in said
    longer = dataclasses.replace(config, train=dataclasses.replace(train, epochs=2, val_every=0))
    assert trainer.train(longer, out) == 0
    assert "validation: none" in capsys.readouterr().err
    again = dataclasses.replace(config, train=dataclasses.replace(train, epochs=3))
    whole = dataclasses.replace(again, data=dataclasses.replace(again.data, val_split="none"))
    with pytest.raises(InputError, match=r"was trained on other pictures \(9 pairs, .*; here: 10 pairs"):
        trainer.train(whole, out)
    # A run from before there were `resize` and held-out pairs, whose metrics could go to TensorBoard.
    old = tmp_path / "old"
    assert trainer.train(dataclasses.replace(whole, train=train), old) == 0
    tensors, metadata = read_tensors(old / STATE_FILE)
    del metadata["config"]["data"]["resize"]
    metadata["config"]["data"]["val_split"] = "test"
    metadata["config"]["train"]["tensorboard"] = True
    write_tensors(old / STATE_FILE, tensors, metadata)
    with pytest.raises(InputError, match=r"other pictures .*goes on with --data\.val_split none"):
        trainer.train(again, old)
    assert trainer.train(whole, old) == 0
    kept = dataclasses.replace(whole, data=dataclasses.replace(whole.data, resize="keep"))
    with pytest.raises(InputError, match=r"data\.resize: the run has square, this command keep"):
        trainer.train(dataclasses.replace(kept, train=dataclasses.replace(train, epochs=4)), old)


def test_what_needs_validations_cannot_do_without(capsys: Capture) -> None:
    for option, value in (("--train.best_by", "l1"), ("--train.lr_policy", "plateau")):
        assert trainer.main([option, value, "--data.val_split", "none"]) == 2
        one_error_line(capsys, option.removeprefix("--"), "data.val_split")


@pytest.mark.slow
def test_eval_stability_takes_the_rule_from_the_run(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    nets = [
        write_checkpoint(tmp_path / f"{rule}.safetensors", config_for(photos, resize=rule))
        for rule in ("keep", "square")
    ]
    argv = ["--shifts", "0,1", "--margins", "0", "--json", "--out", str(tmp_path / "results")]
    assert eval_stability([str(nets[0]), *argv]) == 0
    captured = capsys.readouterr()
    assert "(held-out, 1 pairs): BtoA, pictures resized to 64 px along the shorter side" in captured.err
    data = json.loads(captured.out)["data"]
    assert (data["resize"], data["split"], data["hold_out_seed"]) == ("keep", "held-out", 0)
    assert eval_stability([*map(str, nets), *argv]) == 2
    one_error_line(capsys, "data.resize square", "keep", "--resize")


# ---- a split and its page ---------------------------------------------------------------------------------


def test_a_split_becomes_outputs_and_a_page(pair_folder: Path, tmp_path: Path, capsys: Capture) -> None:
    (pair_folder / "test" / "1.png").rename(pair_folder / "test" / "a #1 <b> 50%.png")
    net = write_checkpoint(tmp_path / "net.safetensors", tiny_config(pair_folder))
    out = tmp_path / "out"
    assert generate([str(net), "--data", str(pair_folder), "--split", "test", "--out", str(out)]) == 0
    page = (out / "index.html").read_text()
    assert re.findall(r"https?:", page) == []
    assert "<b>" not in page
    assert "BtoA" in page
    images = [unquote(source) for source in re.findall(r'<img src="([^"]+)"', page)]
    assert len(images) == page.count('loading="lazy"') == 9
    for place in range(0, 9, 3):
        source, output, target = (
            np.asarray(Image.open(out / name), np.float64) for name in images[place : place + 3]
        )
        assert source.shape == output.shape == target.shape == (40, 40, 3)
        said = float(re.findall(r"L1 (\d\.\d{4})<", page)[place // 3])
        # The page knows the outputs before they were rounded.
        assert said == pytest.approx(np.abs(output - target).mean() / 255, abs=1 / 255)
    original = np.asarray(Image.open(pair_folder / "test" / "2.png"))[:, 48:]
    np.testing.assert_array_equal(np.asarray(Image.open(out / "input" / "2.png")), resize(original, 40))
    # A picture that cannot be read is named; the others are there.
    (pair_folder / "test" / "3.png").write_bytes(b"no picture")
    capsys.readouterr()
    argv = [str(net), "--data", str(pair_folder), "--split", "test", "--out", str(tmp_path / "other")]
    assert generate(argv) == 2
    assert "3.png" in capsys.readouterr().err
    assert (tmp_path / "other" / "index.html").read_text().count("<img") == 6


def test_options_of_a_split_that_contradict_are_named(
    pair_folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    net, picture, out = "facades-blur", str(pair_folder / "test" / "1.png"), ["--out", str(tmp_path / "out")]
    data = ["--data", str(pair_folder)]
    for argv, culprits in (
        ([net, *out], ["INPUT", "--data DIR"]),
        ([net, picture, *data, *out], ["INPUT", "--data DIR"]),
        ([net, picture, "--split", "test", *out], ["--split test"]),
        ([net, *data, "--tile", "64", *out], ["--data", "--tile"]),
        ([net, picture, "--resize", "keep", "--tile", "64", *out], ["--resize", "--tile"]),
        ([net, *data, "--split", "test", "--out", str(pair_folder / "test")], ["--out", "pictures"]),
        ([net, *data, "--split", "nosuch", *out], ["nosuch"]),
    ):
        assert generate(argv) == 2
        one_error_line(capsys, *culprits)
    assert not (tmp_path / "out").exists()
    # What others put there stays, a page as well.
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "index.html").write_text("my own page")
    argv = [net, *data, "--split", "test", "--out", str(mine)]
    assert generate(argv) == 2
    one_error_line(capsys, "index.html", "--overwrite")
    (mine / "index.html").rename(mine / "2.png")
    assert generate(argv) == 2
    one_error_line(capsys, "2.png", "--overwrite")
    assert [path.name for path in mine.iterdir()] == ["2.png"]
    assert generate([*argv, "--overwrite"]) == generate(argv) == 0
    # Pictures may stand behind options, as before there was --data.
    assert generate([net, *out, picture]) == 0
