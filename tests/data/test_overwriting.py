"""What another program wrote stays, and two data sets do not mix."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from steadypix.checkpoints.generate import main as generate
from steadypix.checkpoints.resume import find_state
from steadypix.data.cli import main as steadypix_data
from steadypix.data.pictures.row_files import write_rows
from steadypix.data.pictures.saving import is_ours, save_image
from steadypix.errors import InputError
from steadypix.eval.eval_stability import main as eval_stability
from tests.cli import FAST, Capture, one_error_line

PIXELS = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", ["1.png", "deep.png", "1.tif", "1.exr"])
def test_pictures_of_ours_are_known(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "1.exr":
        pytest.importorskip("OpenEXR", reason="OpenEXR is not installed (the extra steadypix[exr])")
    deep = (
        np.float32(PIXELS)
        if name == "1.exr"
        else PIXELS.astype(np.uint16 if name == "deep.png" else np.uint8)
    )
    save_image(path, deep)
    assert is_ours(path)
    if path.suffix in (".png", ".tif"):
        write_rows(path, lambda top, bottom: deep[top:bottom], deep.shape)
        assert is_ours(path)
        Image.fromarray(PIXELS).save(path)
        assert not is_ours(path)
    path.write_bytes(b"")
    assert not is_ours(path)


@pytest.mark.slow
def test_generate_leaves_the_pictures_of_others(
    tmp_path: Path, checkpoints: list[Path], capsys: Capture
) -> None:
    """`photos/1.png` beside `photos/1.jpg`, whose output would be called so."""
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.fromarray(PIXELS).save(photos / "1.jpg")
    Image.fromarray(PIXELS).save(photos / "1.png")
    before = (photos / "1.png").read_bytes()
    argv = [str(checkpoints[0]), str(photos / "1.jpg"), "--out", str(photos), "--device", "cpu"]
    assert generate(argv) == 2
    one_error_line(capsys, str(photos / "1.png"), "--overwrite")
    assert (photos / "1.png").read_bytes() == before
    assert generate([*argv, "--overwrite"]) == 0
    assert (photos / "1.png").read_bytes() != before
    assert generate(argv) == 0  # its own picture


@pytest.mark.slow
def test_inputs_of_one_name_are_refused(
    tmp_path: Path, checkpoints: list[Path], pair_folder: Path, capsys: Capture
) -> None:
    argv = [str(checkpoints[0]), *FAST, "--export_inputs", str(tmp_path / "o")]
    with Image.open(pair_folder / "test" / "1.png") as image:
        image.save(pair_folder / "test" / "1.bmp")
    assert eval_stability(argv) == 2
    one_error_line(capsys, "two pictures are named 1")
    assert not (tmp_path / "o").exists()
    (pair_folder / "test" / "1.bmp").unlink()
    (tmp_path / "o").mkdir()
    Image.fromarray(PIXELS).save(tmp_path / "o" / "2_base.png")
    assert eval_stability(argv) == 2
    one_error_line(capsys, "2_base.png")
    assert [path.name for path in (tmp_path / "o").iterdir()] == ["2_base.png"]


def test_synthetic_pairs_do_not_mix_with_others(tmp_path: Path, capsys: Capture) -> None:
    argv = ["synthetic", "facades", "--size", "16", "--test", "0", "--out", str(tmp_path)]
    assert steadypix_data([*argv, "--train", "3"]) == 0
    assert steadypix_data([*argv, "--train", "2"]) == 2
    one_error_line(capsys, "train", "holds 3 pairs already", "--overwrite")
    assert steadypix_data([*argv, "--train", "2", "--overwrite"]) == 0
    assert sorted(path.name for path in (tmp_path / "train").iterdir()) == ["1.png", "2.png"]
    Image.fromarray(PIXELS).save(tmp_path / "train" / "mine.png")
    assert steadypix_data([*argv, "--train", "2", "--overwrite"]) == 2
    one_error_line(capsys, "mine.png")
    assert len(list((tmp_path / "train").iterdir())) == 3
    # Nothing of one split goes where another one's pictures have to stay.
    (tmp_path / "train" / "mine.png").unlink()
    (tmp_path / "test").mkdir()
    Image.fromarray(PIXELS).save(tmp_path / "test" / "mine.png")
    argv[argv.index("--test") + 1] = "1"
    assert steadypix_data([*argv, "--train", "2", "--overwrite"]) == 2
    one_error_line(capsys, "mine.png")
    assert sorted(path.name for path in (tmp_path / "train").iterdir()) == ["1.png", "2.png"]


def test_a_message_names_options_that_the_command_has(
    tmp_path: Path, checkpoints: list[Path], capsys: Capture
) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    assert steadypix_data(["sheet", "facades", "--size", "16", "--out", str(tmp_path / "a.png")]) == 2
    assert "--overwrite" not in one_error_line(capsys, "a.png", "--out")
    (tmp_path / "o").mkdir()
    Image.fromarray(PIXELS).save(tmp_path / "o" / "2_base.png")
    assert eval_stability([str(checkpoints[0]), *FAST, "--export_inputs", str(tmp_path / "o")]) == 2
    assert "--overwrite" not in one_error_line(capsys, "2_base.png")


def test_a_run_without_its_state_is_not_trained_over(tmp_path: Path) -> None:
    (tmp_path / "last").mkdir()
    (tmp_path / "generator.safetensors").touch()  # of a run that was killed between the two files
    assert find_state(tmp_path, "auto") is None
    shutil.rmtree(tmp_path / "last")
    for resume in ("auto", "never"):
        with pytest.raises(InputError, match=r"holds a run's generator\.safetensors, but no last"):
            find_state(tmp_path, resume)
