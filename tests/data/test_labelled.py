"""Fashion-MNIST's files and folders of labelled pictures: what is read, and what is refused."""

from __future__ import annotations

import gzip
import hashlib
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from steadypix.data.cli import main as steadypix_data
from steadypix.data.download.fashion_mnist import download_fashion_mnist
from steadypix.data.labelled.fashion_mnist import CLASSES, read_fashion_mnist, read_idx
from steadypix.data.labelled.labelled import Labelled, open_labelled
from steadypix.errors import InputError
from tests.classifiers import write_fashion_mnist, write_idx
from tests.cli import one_error_line

pytestmark = pytest.mark.slow

Capture = pytest.CaptureFixture[str]


def test_the_real_files(real_data: Path) -> None:
    folder = real_data / "fashion-mnist"
    for split, count in (("train", 60_000), ("test", 10_000)):
        pictures, labels = read_fashion_mnist(folder, split)
        assert pictures.shape == (count, 28, 28)
        assert np.bincount(labels).tolist() == [count // 10] * 10
    download_fashion_mnist(folder)  # all are there, and have the published hashes: nothing is fetched


@pytest.mark.parametrize("suffix", [".gz", ""])
def test_idx_of_any_shape(tmp_path: Path, suffix: str) -> None:
    numbers = np.arange(24).reshape(2, 3, 4)
    write_idx(tmp_path / f"x{suffix}", numbers)
    np.testing.assert_array_equal(read_idx(tmp_path / f"x{suffix}"), numbers)


GOOD = struct.pack(">BBBBI", 0, 0, 8, 1, 3) + b"abc"


@pytest.mark.parametrize(
    ("content", "culprit"),
    [
        (gzip.compress(b""), "is no idx file"),
        (gzip.compress(b"\x00\x00\x0d\x01" + GOOD[4:]), "is no idx file of unsigned bytes"),
        (gzip.compress(GOOD[:-1]), "claims 3 bytes and has 2"),
        (gzip.compress(GOOD + b"d"), "claims 3 bytes and has more"),
        (gzip.compress(struct.pack(">BBBBII", 0, 0, 8, 2, 2**31, 2**31)), "claims to hold"),
        (gzip.compress(GOOD[:6]), "is damaged"),
        (gzip.compress(GOOD)[:-9], "damaged or cut short"),
        (b"plain text", "damaged or cut short"),
    ],
    ids=["empty", "floats", "short", "long", "huge", "header", "cut", "no gzip"],
)
def test_damaged_idx_files(tmp_path: Path, content: bytes, culprit: str) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=culprit) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


def test_a_bomb_costs_no_memory(tmp_path: Path) -> None:
    """A file that unpacks to far more than it claims is read no further than its claim."""
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(GOOD + bytes(1 << 26)))
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="claims 3 bytes and has more"):
            read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()


def test_files_that_do_not_belong_together(tmp_path: Path) -> None:
    folder = write_fashion_mnist(tmp_path)
    write_idx(folder / "t10k-labels-idx1-ubyte.gz", np.arange(3))
    with pytest.raises(InputError, match=r"t10k-labels.*expected a label for each of the 20 pictures"):
        read_fashion_mnist(folder, "test")
    write_idx(folder / "t10k-labels-idx1-ubyte.gz", np.full(20, 10))
    with pytest.raises(InputError, match="holds the label 10; expected 0 to 9"):
        read_fashion_mnist(folder, "test")
    (folder / "train-images-idx3-ubyte.gz").unlink()
    with pytest.raises(InputError, match=r"train-images-idx3-ubyte.gz: no such file"):
        read_fashion_mnist(folder, "train")
    with pytest.raises(InputError, match="split 'val' is unknown"):
        read_fashion_mnist(folder, "val")


@pytest.mark.parametrize("shape", [(0, 28, 28), (3, 0, 28)])
def test_files_of_no_pictures(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", np.zeros(shape))
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", np.zeros(shape[:1]))
    with pytest.raises(InputError, match=r"train-images-idx3-ubyte.gz: holds no pictures; expected at least"):
        open_labelled(tmp_path, "train")


def test_a_hash_tells_pictures_and_labels_apart(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2, 6, 4), dtype=np.uint8)

    def made(numbers: np.ndarray, labels: list[int], source: str = "here") -> str:
        return Labelled(source, CLASSES, np.array(labels), numbers).sha256()

    first = made(pixels, [0, 1])
    assert made(pixels.copy(), [0, 1], "elsewhere") == first
    others = [made(pixels, [1, 0]), made(pixels[::-1].copy(), [0, 1]), made(pixels.reshape(2, 4, 6), [0, 1])]
    assert len({first, *others}) == 4
    Image.fromarray(pixels[0]).save(tmp_path / "a.png")
    before = open_labelled(tmp_path).sha256()
    Image.fromarray(pixels[1]).save(tmp_path / "a.png")
    assert open_labelled(tmp_path).sha256() != before


def test_pictures_lie_in_the_middle_of_a_black_canvas(tmp_path: Path) -> None:
    pictures = open_labelled(write_fashion_mnist(tmp_path), "test")
    assert pictures.classes == CLASSES
    canvas = pictures.canvas(3, 40).numpy()
    assert canvas.shape == (1, 40, 40)
    np.testing.assert_array_equal(canvas[0, 6:34, 6:34], pictures.pixels[3])  # type: ignore[index]
    canvas[0, 6:34, 6:34] = 0
    assert canvas.max() == 0
    assert open_labelled(tmp_path, "test", channels=3).canvas(0, 28).shape == (3, 28, 28)
    with pytest.raises(InputError, match="28 x 28 px do not fit on a canvas of 27 px"):
        pictures.canvas(0, 27)


def test_folders_of_classes_and_of_pictures(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, count in (("cat", 2), ("ant", 1)):
        (tmp_path / name).mkdir()
        for number in range(count):
            pixels = rng.integers(0, 256, (30, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    found = open_labelled(tmp_path, channels=3)
    assert found.classes == ("ant", "cat")
    assert found.labels.tolist() == [0, 1, 1]
    assert found.canvases([0, 2], 24).shape == (2, 3, 24, 24)
    assert len(found.first(2)) == 2
    # At its own height a picture is cut, not resampled: the middle 30 of 50 columns.
    with Image.open(tmp_path / "ant" / "0.png") as image:
        np.testing.assert_array_equal(found.canvas(0, 30).permute(1, 2, 0).numpy(), np.array(image)[:, 10:40])
    alone = open_labelled(tmp_path / "cat", channels=1)
    assert alone.classes == ()
    assert alone.labels.tolist() == [-1, -1]
    assert alone.canvas(0, 16).shape == (1, 16, 16)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no pictures"):
        open_labelled(tmp_path)
    (tmp_path / "class").mkdir()
    with pytest.raises(InputError, match="expected a folder for each class"):
        open_labelled(tmp_path)
    with pytest.raises(InputError, match=r"no such folder.*steadypix_data download fashion-mnist"):
        open_labelled(tmp_path / "fashion-mnist")


def test_download_by_name(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that are there already are held against their hashes; nobody is asked for them."""
    folder = write_fashion_mnist(tmp_path / "fashion-mnist")
    assert steadypix_data(["download", "fashion-mnist", "--out", str(tmp_path)]) == 2
    one_error_line(capsys, "train-images-idx3-ubyte.gz", "has sha256", "delete it to download it again")
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    monkeypatch.setattr("steadypix.data.download.fashion_mnist.SHA256", hashes)
    assert steadypix_data(["download", "fashion-mnist", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{folder}\n"
    assert steadypix_data(["download", "fashion-mnist", "--out", str(tmp_path), "--url", "http://x/y"]) == 2
    one_error_line(capsys, "--url", "four files")
