"""The check of a data set: what is found, in which order, by however many processes, and who survives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from steadypix.data.checking import check as checking
from steadypix.data.checking.check import Seen, check
from steadypix.data.checking.survey import Finding
from steadypix.data.cli import main as steadypix_data
from steadypix.data.pairs.folders import PairedImages
from tests.cli import one_error_line
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow

Capture = pytest.CaptureFixture[str]
NO_IMAGE = "not an image of PNG, JPEG, BMP, WEBP, TIFF"


def save(path: Path, size: tuple[int, int] = (16, 8), mode: str = "RGB", seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


def findings_of(root: Path, workers: int = 1, splits: tuple[str, ...] = ()) -> list[Finding]:
    found: list[Finding] = []
    check(root, splits=splits, workers=workers, report=found.append)
    return found


def lines(root: Path, **options: object) -> list[str]:
    return [str(f).replace(f"{root}/", "") for f in findings_of(root, **options)]  # type: ignore[arg-type]


@pytest.fixture
def odd_folder(tmp_path: Path) -> Path:
    """Side by side, two splits, one of everything that can be wrong."""
    root = tmp_path / "odd"
    for number in range(1, 7):
        save(root / "train" / f"{number}.png", seed=number)
    cut = save(root / "train" / "7.png", (64, 64))
    cut.write_bytes(cut.read_bytes()[:-900])
    (root / "train" / "8.jpg").write_text("no picture")
    (root / "train" / "9.png").touch()
    save(root / "train" / "10.png", (17, 8))
    save(root / "train" / "11.png", (32, 8))
    save(root / "train" / "12.jpg", mode="CMYK")
    save(root / "train" / "13.png", mode="P")
    save(root / "train" / "14.png", mode="L")
    (root / "train" / "notes.txt").write_text("notes")
    (root / "train" / ".DS_Store").write_text("x")
    (root / "train" / "15.png").symlink_to(root / "gone.png")
    save(root / "train" / "inner" / "1.png")
    (root / "README.md").write_text("a data set")
    save(root / "val" / "1.png")
    (root / "val" / "2.png").write_text("no picture")
    return root


def test_everything_odd_is_listed_in_order(odd_folder: Path) -> None:
    found = lines(odd_folder)
    starts = [
        "README.md: ignored",
        "train/.DS_Store: ignored",
        "train/15.png: error: is a link",
        "train/inner: ignored",
        "train/notes.txt: ignored",
        "train/7.png: error: cannot be read as an image",
        f"train/8.jpg: error: cannot be read as an image ({NO_IMAGE})",
        "train/9.png: error: is empty (0 bytes)",
        "train/10.png: error: width 17 px is odd",
        "train/12.jpg: remark: has mode CMYK",
        "train/13.png: remark: has mode P",
        "train/11.png: remark: is 32x8 px; most of train is 16x8 px",
        "val/2.png: error: cannot be read",
    ]
    assert len(found) == len(starts), found
    for line, start in zip(found, starts, strict=True):
        assert line.startswith(start)


def test_errors_are_what_the_reader_refuses(odd_folder: Path) -> None:
    """The independent reference: every pair, read as training does."""
    pairs = PairedImages(odd_folder, "train", load_size=8, crop_size=8)
    refused = set()
    for index in range(len(pairs)):
        try:
            pairs.read(index)
        except ValueError:
            refused.add(pairs.name(index))
    found = findings_of(odd_folder, splits=("train",))
    errors = {f.path.stem for f in found if f.level == "error"} - {"15"}  # the reader passes over dead links
    assert errors == refused == {"7", "8", "9", "10"}


def test_two_folders(tmp_path: Path) -> None:
    for number in (1, 2, 3, 4):
        save(tmp_path / "trainA" / f"{number}.png")
        save(tmp_path / "trainB" / f"{number}.jpg")
    save(tmp_path / "trainA" / "5.png")
    save(tmp_path / "trainB" / "6.png")
    save(tmp_path / "trainA" / "1.jpg")
    save(tmp_path / "trainB" / "2.jpg", (16, 9))
    (tmp_path / "trainB" / "3.jpg").write_text("no")
    save(tmp_path / "testA" / "1.png", (17, 8))  # an odd width is nothing here
    save(tmp_path / "testB" / "1.png", (17, 8))
    save(tmp_path / "valB" / "1.png")
    found = lines(tmp_path)
    assert found == [
        "trainA/1.png: error: has the same name as trainA/1.jpg; which one is the partner?",
        "trainA/5.png: error: has no partner of the same name in trainB",
        "trainB/6.png: error: has no partner of the same name in trainA",
        "trainA/2.png: error: is 16x8 px but trainB/2.jpg is 16x9 px; halves must have the same size",
        f"trainB/3.jpg: error: cannot be read as an image ({NO_IMAGE})",
        "valB: error: has no partner folder valA/",
    ]


@pytest.mark.parametrize("workers", [2, 3])
def test_the_number_of_workers_changes_nothing(
    odd_folder: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "_PAIRS_A_WORKER", 1)
    assert lines(odd_folder, workers=workers) == lines(odd_folder)


def test_mixed_sizes_get_one_line(tmp_path: Path) -> None:
    for number, width in enumerate((16, 18, 20, 22)):
        save(tmp_path / "train" / f"{number}.png", (width, 8))
    assert lines(tmp_path) == [
        "train: remark: has pictures of 4 sizes, none of them in more than half of the files"
    ]


def test_folders_without_pictures(tmp_path: Path) -> None:
    save(tmp_path / "train" / "1.png")
    (tmp_path / "test").mkdir()
    (tmp_path / "scripts").mkdir()
    found = lines(tmp_path)
    assert [line.partition(": holds")[0] for line in found] == ["scripts: ignored", "test: error"]


def test_an_enormous_picture_is_an_error_or_a_remark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "train" / "1.png", (16, 8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert "decompression bomb" in lines(tmp_path)[0]
    assert ": remark: " in lines(tmp_path)[0]
    assert len(lines(tmp_path)) == 1
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    assert ": error: " in lines(tmp_path)[0]


# ---- the command ------------------------------------------------------------------------------------


def test_the_command(odd_folder: Path, capsys: Capture) -> None:
    assert steadypix_data(["check", str(odd_folder), "--workers", "1"]) == 2
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 13
    assert "16 pairs in train, val; 6 errors, 3 remarks, 4 ignored" in captured.err
    for name in ("7.png", "8.jpg", "9.png", "10.png", "15.png"):
        (odd_folder / "train" / name).unlink()
    assert steadypix_data(["check", str(odd_folder), "--split", "train"]) == 0
    assert "11.png: remark" in capsys.readouterr().out
    assert steadypix_data(["check", str(odd_folder), "--split", "train", "--split", "val"]) == 2


def test_json(odd_folder: Path, capsys: Capture) -> None:
    assert steadypix_data(["check", str(odd_folder), "--json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert document["usable"] is False
    assert document["splits"]["train"] == {"pairs": 14, "size_px": [16, 8]}
    assert document["counts"] == {"error": 6, "remark": 3, "ignored": 4}
    assert document["findings"][0] == {
        "path": str(odd_folder / "README.md"),
        "level": "ignored",
        "message": "lies beside the splits",
    }


@pytest.mark.parametrize(
    ("argv", "culprit"),
    [
        (["nowhere"], "nowhere: no such folder"),
        (["odd", "--split", "dev"], "no folder dev/"),
        (["odd/val"], "expected the folder above, with val/"),
        (["empty"], "found no folders"),
        (["odd", "--workers", "-1"], "'-1'"),
    ],
)
def test_refusals(
    odd_folder: Path, argv: list[str], culprit: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(odd_folder.parent)
    (odd_folder.parent / "empty").mkdir()
    assert steadypix_data(["check", *argv]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("steadypix_data: error: ")
    assert culprit in line


def test_real_pictures_are_sound(real_data: Path) -> None:
    found: list[Finding] = []
    summary = check(real_data / "facades", splits=("test",), workers=2, report=found.append)
    assert found == []
    assert summary.splits == {"test": {"pairs": 106, "size_px": (512, 256)}}


# ---- processes --------------------------------------------------------------------------------------


def deadly(pair: tuple[Path, ...]) -> Seen:
    """Reads a pair, unless it is the tenth: there the system ends the process."""
    if pair[0].stem == "10":
        os.kill(os.getpid(), signal.SIGKILL)
    return Seen((16, 8), (Finding(pair[0], "remark", "seen"),))


def test_a_reader_that_is_killed_is_one_line_and_no_hang(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 20):
        save(tmp_path / "train" / f"{number}.png")
    monkeypatch.setattr(checking, "_PAIRS_A_WORKER", 1)
    monkeypatch.setattr(checking, "examine", deadly)
    assert steadypix_data(["check", str(tmp_path), "--workers", "2"]) == 1
    line = one_error_line(capsys, "at this picture, or soon after it", "fewer --workers")
    assert Path(line.partition("error: ")[2].partition(": ")[0]).stem in {"1", "9"}  # first of a chunk of 8


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc to look for processes")
def test_workers_go_when_the_main_process_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys, tests.data.test_check as t\nfrom pathlib import Path\n"
        "t.checking.examine, t.checking._CHUNK = t.linger, 1\n"
        "list(t.checking._examine_all([(Path(sys.argv[1]),)] * 2, 2))\n"
    )
    main = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], cwd=REPOSITORY)
    pids = wait_for(lambda: [int(file.name) for file in tmp_path.iterdir()], count=2)
    main.kill()
    main.wait(timeout=10)
    wait_for(lambda: [pid for pid in pids if not Path(f"/proc/{pid}").exists()], count=2)


def linger(pair: tuple[Path, ...]) -> None:
    (pair[0] / str(os.getpid())).touch()
    time.sleep(60)


def wait_for(look: Callable[[], list[int]], *, count: int, timeout_s: float = 30.0) -> list[int]:
    until = time.monotonic() + timeout_s
    while len(found := look()) < count:
        assert time.monotonic() < until, found
        time.sleep(0.05)
    return found
