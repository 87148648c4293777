"""Sixteen bits and many channels from end to end: train, evaluate, generate, as a user does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

import train_pix2pix
from steadypix.checkpoints.generate import main as generate
from steadypix.data.pictures.images import read_image
from steadypix.data.pictures.transforms import to_tensor
from steadypix.eval.eval_stability import main as eval_stability
from steadypix.eval.metrics.quality import (
    psnr,
    psnr_reference,
    quality,
    ssim,
    ssim_reference,
)
from steadypix.eval.metrics.scene import as_rgb
from steadypix.gen.weights.generators import load_generator
from tests.cli import FAST, PAN, TINY, one_error_line

pytestmark = pytest.mark.slow

Capture = pytest.CaptureFixture[str]


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    gray = pixels.shape[2] == 1
    tifffile.imwrite(
        path,
        pixels[..., 0] if gray else pixels,
        photometric="minisblack",
        planarconfig=None if gray else "contig",
    )


def two_folders(root: Path, channels: dict[str, int], dtype: type = np.uint16, px: int = 48) -> Path:
    """Pairs of TIFFs in trainA, trainB, testA, testB."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 3), ("test", 3)):
        for half, depth in channels.items():
            for number in range(1, count + 1):
                pixels = rng.integers(0, np.iinfo(dtype).max + 1, (px, px, depth), dtype=dtype)
                write(root / f"{split}{half}" / f"{number}.tif", pixels)
    return root


def train(root: Path, out: Path, inputs: int, outputs: int, *more: str) -> int:
    channels = [f"--generator.in_channels={inputs}", f"--generator.out_channels={outputs}"]
    validate = ["--train.val_every=1", "--train.sample_every=1", "--train.val_limit=2"]
    options = ["--data.direction=AtoB", "--data.root", str(root), "--out", str(out)]
    return train_pix2pix.main([*TINY, *channels, *validate, *options, *more])


def full_precision(made: Path, checkpoint: Path, source: Path, channels: tuple[int, int]) -> None:
    """The file holds the generator's output, rounded to 16 bits and not before."""
    generator = load_generator(checkpoint)
    with torch.inference_mode():
        output = generator(to_tensor(read_image(source, channels[0]))[None])[0]
    expected = (output.double().numpy().transpose(1, 2, 0) + 1) * 32767.5
    pixels = read_image(made, channels[1])
    assert pixels.dtype == np.uint16
    assert np.abs(pixels - expected).max() <= 0.6
    assert len(np.unique(pixels)) > 300, "more levels than 8 bits have"


def test_sixteen_bit_grayscale_from_end_to_end(tmp_path: Path) -> None:
    root, out = two_folders(tmp_path / "pairs", {"A": 1, "B": 1}), tmp_path / "run"
    assert train(root, out, 1, 1, "--workers=1") == 0
    assert (out / "samples" / "epoch-0001.png").exists()
    results = tmp_path / "results"
    argv = [str(out), *FAST, "--quality", "ssim,spectrum,checkerboard", "--perturb", "all"]
    assert eval_stability([*argv, "--out", str(results)]) == 0
    assert (results / "grid.png").exists()
    for form, name in (("png", "1.png"), ("tiff", "1.tif")):
        more = ["--bits", "16", "--format", form, "--device", "cpu", "--out", str(tmp_path / form)]
        assert generate([str(out), str(root / "testA" / "1.tif"), *more]) == 0
        full_precision(tmp_path / form / name, out, root / "testA" / "1.tif", (1, 1))
    tiles = ["--tile", "32", "--bits", "16", "--device", "cpu", "--out", str(tmp_path / "tiles")]
    assert generate([str(out), str(root / "testA" / "2.tif"), *tiles]) == 0
    assert read_image(tmp_path / "tiles" / "2.png", 1).dtype == np.uint16


def test_two_channels_to_four_from_end_to_end(tmp_path: Path, capsys: Capture) -> None:
    root, out = two_folders(tmp_path / "pairs", {"A": 2, "B": 4}), tmp_path / "run"
    assert train(root, out, 2, 4) == 0
    with Image.open(out / "samples" / "epoch-0001.png") as sheet:
        assert sheet.mode == "RGB"
    results = tmp_path / "results"
    argv = [str(out), *FAST, "--quality", "all", "--perturb", "all", *PAN]
    assert eval_stability([*argv, "--out", str(results)]) == 0
    err = capsys.readouterr().err
    assert "lpips: needs grayscale or RGB outputs, not 4 channels; left out" in err
    assert "jpeg: needs grayscale or RGB inputs, not 2 channels; left out" in err
    found = json.loads((results / "results.json").read_text())
    assert (found["data"]["input_channels"], found["data"]["output_channels"]) == (2, 4)
    figures = found["models"][0]["quality"]
    assert {"l1", "psnr_db", "tv", "ssim", "checkerboard_db"} <= figures.keys()
    assert "lpips" not in figures
    assert {"noise", "contrast", "rotation"} <= found["models"][0]["perturbations"].keys()
    assert "jpeg" not in found["models"][0]["perturbations"]
    for name in ("grid.png", "flicker.webp", "pan_1px.webp", "report.html", "frames/frames.json"):
        assert (results / name).exists()
    source = root / "testA" / "1.tif"
    made = tmp_path / "made"
    assert generate([str(out), str(source), "--bits", "16", "--device", "cpu", "--out", str(made)]) == 0
    full_precision(made / "1.tif", out, source, (2, 4))
    assert generate([str(out), str(source), "--device", "cpu", "--out", str(made)]) == 0
    assert read_image(made / "1.tif", 4).dtype == np.uint8
    assert generate([str(out), str(source), "--format", "png", "--out", str(made)]) == 2
    one_error_line(capsys, "--format png", "not 4", "tiff")
    assert generate([str(out), str(source), "--out", str(source.parent)]) == 2
    one_error_line(capsys, "1.tif", "overwritten")
    assert eval_stability([str(out), *FAST, "--export_inputs", str(tmp_path / "inputs")]) == 2
    one_error_line(capsys, "--export_inputs", "2 channels")


def test_rgb_of_sixteen_bits_and_a_mixed_set(tmp_path: Path) -> None:
    """One file of 16 bits among 8-bit ones just works; output of 16-bit RGB as PNG."""
    root, out = tmp_path / "pairs", tmp_path / "run"
    two_folders(root, {"A": 3, "B": 3}, np.uint8)
    deep = np.random.default_rng(1).integers(0, 65536, (48, 48, 3), dtype=np.uint16)
    write(root / "trainA" / "2.tif", deep)
    write(root / "testA" / "2.tif", deep)
    assert train(root, out, 3, 3, "--batch_size=3") == 0
    assert eval_stability([str(out), *FAST, "--out", str(tmp_path / "results")]) == 0
    made = tmp_path / "made"
    argv = [str(out), str(root / "testA"), "--bits", "16", "--device", "cpu", "--out", str(made)]
    assert generate(argv) == 0
    for number in (1, 2):
        full_precision(made / f"{number}.png", out, root / "testA" / f"{number}.tif", (3, 3))


def test_other_channels_than_the_networks_are_one_line(tmp_path: Path, capsys: Capture) -> None:
    root = two_folders(tmp_path / "pairs", {"A": 5, "B": 3})
    for workers in ("0", "1"):
        assert train(root, tmp_path / "run", 3, 3, f"--workers={workers}") == 2
        one_error_line(capsys, ".tif", "has 5 channels; expected 3")
    assert train(root, tmp_path / "run", 5, 3) == 0
    three = root / "testB" / "1.tif"
    capsys.readouterr()
    assert generate([str(tmp_path / "run"), str(three), "--out", str(tmp_path / "o")]) == 2
    assert f"{three}: has 3 channels; expected 5" in capsys.readouterr().err
    for count in ("0", "65"):
        assert train(root, tmp_path / "other", int(count), 3) == 2
        one_error_line(capsys, "in_channels", count)


# ---- measures and pictures of any channels -------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_measures_of_any_channels_are_scikit_images(channels: int) -> None:
    rng = np.random.default_rng(channels)
    output, target = (torch.from_numpy(rng.uniform(-1, 1, (1, channels, 32, 40))) for _ in range(2))
    assert psnr(output, target) == pytest.approx(psnr_reference(output, target), abs=1e-9)
    assert ssim(output, target) == pytest.approx(ssim_reference(output, target), abs=1e-6)
    figures = quality(output, target)
    assert figures["l1"] == pytest.approx(np.abs(output.numpy() - target.numpy()).mean() / 2)


def test_what_is_shown_of_many_channels() -> None:
    pixels = np.arange(2 * 2 * 5, dtype=np.uint8).reshape(2, 2, 5)
    for count, shown in ((1, (0, 0, 0)), (2, (0, 0, 0)), (3, (0, 1, 2)), (5, (0, 1, 2))):
        np.testing.assert_array_equal(as_rgb(pixels[..., :count]), pixels[..., shown])
