"""Inputs written for a foreign program, and its outputs taken back for a generator."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from steadypix.errors import InputError
from steadypix.eval.eval_stability import main as eval_stability
from steadypix.eval.generators.models import load_models
from steadypix.eval.generators.outputs import load_outputs
from steadypix.gen.weights.generators import load_generator
from tests.cli import Capture, one_error_line

pytestmark = pytest.mark.slow

FAST = ["--shifts", "-1..2", "--margins", "0,4", "--device", "cpu", "--protocol", "crop,roll"]


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture
def inputs(tmp_path: Path, pair_folder: Path) -> Path:
    """What a program that is not here must translate: three pictures, window 32, canvas 40."""
    argv = ["--data", str(pair_folder), "--window", "32", "--canvas", "40", "--direction", "BtoA"]
    assert eval_stability(["--export_inputs", str(tmp_path / "inputs"), *argv, *FAST]) == 0
    return tmp_path / "inputs"


def translate(inputs: Path, outputs: Path, checkpoint: Path | None) -> Path:
    """Stand in for the foreign program: read a PNG, write a PNG of the same name."""
    outputs.mkdir()
    generator = load_generator(checkpoint) if checkpoint else torch.nn.Identity()
    for file in inputs.glob("*.png"):
        x = torch.from_numpy(pixels_of(file).copy()).permute(2, 0, 1)[None] / 127.5 - 1
        with torch.no_grad():
            y = generator(x)[0].permute(1, 2, 0)
        Image.fromarray(((y + 1) * 127.5).round().byte().numpy()).save(outputs / file.name)
    shutil.copy(inputs / "manifest.json", outputs)
    return outputs


def evaluate(paths: list[Path], out: Path, *more: str) -> dict:
    assert eval_stability([*map(str, paths), *FAST, *more, "--out", str(out)]) == 0
    return json.loads((out / "results.json").read_text())


def test_inputs_are_the_windows_of_the_protocols(inputs: Path, pair_folder: Path) -> None:
    """Cut by hand: B is the right half, brought to 40 px; the window sits at 4, 4."""
    manifest = json.loads((inputs / "manifest.json").read_text())
    assert manifest["data"]["window_px"] == 32
    assert {row["file"] for row in manifest["files"]} == {path.name for path in inputs.glob("*.png")}
    assert len(manifest["files"]) == 3 * (1 + 2 * 3)
    with Image.open(pair_folder / "test" / "2.png") as image:
        half = image.crop((48, 0, 96, 48)).resize((40, 40), Image.Resampling.BICUBIC)
    canvas = np.asarray(half)
    base = canvas[4:36, 4:36]
    np.testing.assert_array_equal(pixels_of(inputs / "2_base.png"), base)
    for row in manifest["files"]:
        if row["image"] != "2" or row["protocol"] == "base":
            continue
        dx = row["dx"]
        shifted = canvas[4:36, 4 - dx : 36 - dx] if row["protocol"] == "crop" else np.roll(base, dx, 1)
        assert row["file"] == f"2_{row['protocol']}_{dx}_0.png"
        np.testing.assert_array_equal(pixels_of(inputs / row["file"]), shifted)


def test_outputs_made_elsewhere_score_like_the_network(
    tmp_path: Path, inputs: Path, checkpoints: list[Path]
) -> None:
    outputs = translate(inputs, tmp_path / "outputs", checkpoints[0])
    made, own = evaluate([outputs, checkpoints[0]], tmp_path / "o")["models"]
    assert (made["format"], made["name"]) == ("outputs", "outputs")
    assert "8-bit" in made["output_precision"]
    assert own["output_precision"] == "as computed"
    for protocol in ("crop", "roll"):
        for first, second in zip(
            made["stability"][protocol]["0"]["per_shift"],
            own["stability"][protocol]["0"]["per_shift"],
            strict=True,
        ):
            # Two roundings of +-1/2 level add 2 / 12 level^2 to the squared error.
            level = 2 / 255
            expected = 4 / (4 / 10 ** (second["pooled_db"] / 10) + level**2 / 6)
            assert first["pooled_db"] == pytest.approx(10 * np.log10(expected), abs=0.3)
    assert made["quality"]["l1"]["mean"] == pytest.approx(own["quality"]["l1"]["mean"], abs=2e-3)


def test_the_inputs_themselves_never_move(inputs: Path, tmp_path: Path) -> None:
    """The manifest beside them knows the data, so no option is repeated."""
    results = evaluate([inputs], tmp_path / "o")
    assert results["models"][0]["stability"]["crop"]["0"]["mean_db"]["mean"] == 150
    assert results["data"]["assumed"] == []


def test_a_folder_without_manifest_takes_options(inputs: Path, tmp_path: Path, pair_folder: Path) -> None:
    (inputs / "manifest.json").unlink()
    options = ["--data", str(pair_folder), "--window", "32", "--canvas", "40", "--direction", "BtoA"]
    first = evaluate([inputs], tmp_path / "a", *options)
    assert first["models"][0]["stability"]["crop"]["0"]["n_identical"] == 9


def test_checkpoints_know_the_data_to_export(tmp_path: Path, checkpoints: list[Path]) -> None:
    argv = [str(checkpoints[0]), *FAST, "--map", "--limit", "1", "--export_inputs", str(tmp_path / "in")]
    assert eval_stability(argv) == 0
    assert (tmp_path / "in" / "1_crop_-1_2.png").exists()
    assert len(list((tmp_path / "in").glob("*.png"))) == 1 + 2 * 15


def refused(
    paths: list[Path], tmp_path: Path, capsys: Capture, *words: str, more: tuple[str, ...] = ()
) -> None:
    assert eval_stability([*map(str, paths), *FAST, *more, "--out", str(tmp_path / "o")]) == 2
    one_error_line(capsys, *words)


def test_what_is_wrong_with_a_folder_is_named(inputs: Path, tmp_path: Path, capsys: Capture) -> None:
    kept = (inputs / "2_crop_1_0.png").read_bytes()
    refused([inputs], tmp_path, capsys, "1_crop_-1_-1.png", "no such output", more=("--map",))
    (inputs / "2_crop_1_0.png").unlink()
    refused([inputs], tmp_path, capsys, "2_crop_1_0.png", "no such output")
    (inputs / "2_crop_1_0.png").write_bytes(kept[:100])
    refused([inputs], tmp_path, capsys, "2_crop_1_0.png", "cannot be read")
    Image.new("RGB", (16, 16)).save(inputs / "2_crop_1_0.png")
    refused([inputs], tmp_path, capsys, "2_crop_1_0.png", "16 x 16 px; expected 32 x 32 px")
    (inputs / "manifest.json").write_text("{}")
    refused([inputs], tmp_path, capsys, "manifest.json", "--export_inputs")


def test_programs_that_answer_differently_to_the_same_input_are_refused(
    tmp_path: Path, pair_folder: Path, capsys: Capture
) -> None:
    """Flat pictures look the same at every shift; were one output taken for all, noise would score 150 dB."""
    for number in (1, 2, 3):
        Image.new("RGB", (96, 48), "red").save(pair_folder / "test" / f"{number}.png")
    argv = ["--data", str(pair_folder), "--window", "32", "--canvas", "40", *FAST]
    assert eval_stability(["--export_inputs", str(tmp_path / "in"), *argv]) == 0
    evaluate([tmp_path / "in"], tmp_path / "o")
    Image.new("RGB", (32, 32), "blue").save(tmp_path / "in" / "1_crop_1_0.png")
    refused([tmp_path / "in"], tmp_path, capsys, "1_crop_1_0.png", "without dropout or noise")


def test_the_hash_covers_every_output(inputs: Path) -> None:
    hashes = []
    for colour in ("red", "blue"):
        Image.new("RGB", (32, 32), colour).save(inputs / "3_roll_2_0.png")
        hashes.append(load_models([inputs])[0].sha256)
    assert hashes[0] != hashes[1]


def test_gray_outputs(tmp_path: Path, inputs: Path) -> None:
    """Outputs decide their channels; the targets are read with as many."""
    for file in inputs.glob("*.png"):
        Image.fromarray(pixels_of(file)).convert("L").save(file)
    results = evaluate([inputs], tmp_path / "o")
    assert results["data"]["output_channels"] == 1


def test_nothing_to_export_from(tmp_path: Path, capsys: Capture) -> None:
    assert eval_stability(["--export_inputs", str(tmp_path / "in")]) == 2
    one_error_line(capsys, "--data")


def test_real_facades(real_data: Path, tmp_path: Path) -> None:
    """JPEG pictures, found and cut the same way when written and when read back."""
    argv = ["--data", str(real_data / "facades"), "--limit", "2", "--window", "64", "--canvas", "72", *FAST]
    assert eval_stability(["--export_inputs", str(tmp_path / "in"), *argv]) == 0
    results = evaluate([tmp_path / "in"], tmp_path / "o", "--limit", "2")
    assert results["data"]["source"] == str(real_data / "facades")
    crop = results["models"][0]["stability"]["crop"]["0"]
    assert (crop["mean_db"]["mean"], crop["n_identical"]) == (150, 6)


@pytest.mark.parametrize(
    "change",
    [
        {"canvas_px": 10**9},
        {"canvas_px": "40"},
        {"window_px": 41, "canvas_px": 40},
        {"window_px": 0},
        {"direction": "AtoZ"},
        {"source": None},
        {"input_channels": True},
        {"input_channels": 7},
    ],
    ids=str,
)
def test_a_manifest_that_lies_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "1_base.png")
    data = {"canvas_px": 40, "window_px": 32, "direction": "AtoB", "split": "test", "source": "s"}
    sound = {"format": "steadypix.inputs.v1", "data": {**data, "input_channels": 3}}
    (tmp_path / "manifest.json").write_text(json.dumps(sound))
    assert load_outputs(tmp_path, "cpu")[1]["data"]["load_size"] == 40
    sound["data"] |= change
    (tmp_path / "manifest.json").write_text(json.dumps(sound))
    with pytest.raises(InputError, match=r"manifest\.json: is not a manifest of eval_stability.*: data\."):
        load_outputs(tmp_path, "cpu")
