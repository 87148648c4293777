"""Context in training: a window's surroundings, which no loss looks at, and `generate` as it was trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import train_pix2pix as trainer
from steadypix import PairedImages, load_generator
from steadypix.checkpoints.generate import main as generate
from steadypix.data.pictures.transforms import cut_around
from steadypix.gen.large.context import WithContext, mirrored
from tests.cli import Capture, one_error_line

SMALL = ["--generator.ngf", "4", "--generator.num_downs", "2", "--discriminator.ndf", "4"]
SMALL += ["--discriminator.n_layers", "1", "--data.load_size", "40", "--data.crop_size", "32"]
SMALL += ["--train.epochs", "3", "--train.learning_rate", "0.02", "--train.val_limit", "1"]
SMALL += ["--device", "cpu"]


@pytest.mark.parametrize("side", [1, 2, 9, 40])
@pytest.mark.parametrize("flipped", [False, True])
def test_a_window_and_its_surroundings(side: int, flipped: bool) -> None:
    """Against the mirroring that `generate --context` does to a whole picture."""
    pixels = np.random.default_rng(0).integers(0, 255, (side, side + 3, 2), dtype=np.uint8)
    around, size = 7, min(side, 5)
    whole = mirrored(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].double(), (30, 30), (30, 30))[0]
    for left, top in ((0, 0), (side + 3 - size, side - size)):
        window = cut_around(pixels, left, top, size, around, mirrored=flipped)
        rows, columns = (slice(30 + at - around, 30 + at + size + around) for at in (top, left))
        expected = whole[:, rows, columns]
        expected = expected.flip(-1) if flipped else expected
        assert np.array_equal(window, expected.permute(1, 2, 0).numpy())
        inside = window[around : around + size, around : around + size]
        plain = pixels[top : top + size, left : left + size]
        assert np.array_equal(inside, plain[:, ::-1] if flipped else plain)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Four pairs of 40 px a half, whose halves are alike."""
    folder = tmp_path / "pairs" / "train"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    for number in range(4):
        half = rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(np.hstack([half, half])).save(folder / f"{number}.png")
    return tmp_path / "pairs"


def test_targets_lie_in_the_middle_and_the_jitter_is_the_same(pairs: Path) -> None:
    sizes = {"load_size": 40, "crop_size": 32, "shift_px": 3}
    plain = PairedImages(pairs, **sizes)
    around = PairedImages(pairs, context_px=4, **sizes)
    for epoch in range(6):
        for index in range(4):
            one, other = plain[epoch, index], around[epoch, index]
            assert other["input"].shape == other["moved"].shape == (3, 40, 40)
            assert torch.equal(other["target"], one["target"])
            for name in ("input", "moved"):
                assert torch.equal(other[name][:, 4:36, 4:36], one[name])


def test_training_and_generate_as_it_was_trained(pairs: Path, tmp_path: Path, capsys: Capture) -> None:
    run, picture = tmp_path / "run", pairs / "train" / "0.png"
    options = ["--data.root", str(pairs), "--out", str(run), *SMALL]
    assert trainer.main([*options, "--data.context_px", "3"]) == 0
    assert "windows of 32 px with 3 px around them" in capsys.readouterr().err
    generator = load_generator(run)
    assert generator.config["data"]["context_px"] == 3

    def output(*more: str) -> Tensor:
        folder = tmp_path / "-".join(("out", *more))
        assert generate([str(run), str(picture), "--out", str(folder), "--device", "cpu", *more]) == 0
        pixels = np.asarray(Image.open(folder / "0.png"))
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 127.5 - 1

    x = torch.from_numpy(np.array(Image.open(picture))).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.inference_mode():
        wide, bare = WithContext(generator, 3)(x)[0], generator(x)[0]
    half_a_step = 1.01 / 255
    assert (output() - wide).abs().max() < half_a_step
    assert (output("--context", "3") - wide).abs().max() < half_a_step
    assert (output("--context", "0") - bare).abs().max() < half_a_step
    assert (wide - bare).abs().max() > 10 * half_a_step


def test_too_much_of_it(pairs: Path, tmp_path: Path, capsys: Capture) -> None:
    options = ["--data.root", str(pairs), "--out", str(tmp_path / "run"), *SMALL]
    assert trainer.main([*options, "--data.context_px", "33"]) == 2
    assert "data.context_px 33 must lie between 0 and data.crop_size 32" in one_error_line(capsys)
