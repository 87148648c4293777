"""`generate --tile` on pictures of any size: from file to file by rows, killed and gone on with."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from steadypix import budget
from steadypix.checkpoints.generate import main as generate
from steadypix.checkpoints.generation import by_rows, large
from steadypix.checkpoints.generation.sequence import identity
from steadypix.data.pictures.images import read_image
from steadypix.files import write_text
from steadypix.gen.large import maps, sampled
from tests.cli import Capture, one_error_line
from tests.conftest import REPOSITORY, tiny_config, write_checkpoint
from tests.killed import Stopped

pytestmark = pytest.mark.slow

SIZE = (310, 250)
# Small pictures are made as if they were large: nothing stays in memory, and a group has two strips.
AS_LARGE = """
import sys
from steadypix.checkpoints import generate
from steadypix.checkpoints.generation import by_rows, large
from steadypix.gen.large import maps
by_rows.KEEP_SAMPLES = large.KEEP_SAMPLES = 0
maps.GROUP_STRIPS = 2
"""
KILLED = (
    AS_LARGE
    + """
import os, signal
limit, picture = map(int, sys.argv[1].split("/"))
plain, translate = by_rows.ByRows.workspace, large.LargePictures.translate
made = pictures = 0
def counting(self, tile_px, journal=None, update=None, **how):
    def step(strips):
        global made
        made += strips
        if pictures == picture and made >= limit:
            os.kill(os.getpid(), signal.SIGKILL)
    return plain(self, tile_px, journal, step, **how)
def next_picture(self, *args):
    global made, pictures
    made, pictures = 0, pictures + 1
    translate(self, *args)
by_rows.ByRows.workspace, large.LargePictures.translate = counting, next_picture
sys.exit(generate.main(sys.argv[2:]))
"""
)
FULL = (
    AS_LARGE
    + """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.exit(generate.main(sys.argv[2:]))
"""
)


@pytest.fixture(autouse=True)
def as_large(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (by_rows, large):
        monkeypatch.setattr(module, "KEEP_SAMPLES", 0)
    monkeypatch.setattr(maps, "GROUP_STRIPS", 2)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "blur.safetensors", tiny_config(sampling="blur"))


def scan(folder: Path, channels: int = 3, name: str = "scan.tif", seed: int = 0, **how: object) -> Path:
    """A compressed TIFF of short strips."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (16, 13, 4), dtype=np.uint8), "RGBA")
    pixels = np.asarray(coarse.resize(SIZE[::-1]))[..., :channels]
    options = {"photometric": "rgb", "compression": "zlib", "rowsperstrip": 8, **how}
    tifffile.imwrite(folder / name, pixels, **options)
    return folder / name


def argv(checkpoint: Path, source: Path, out: Path, *more: str) -> list[str]:
    return [str(checkpoint), str(source), "--out", str(out), "--device", "cpu", *more]


def apart(script: str, limit: str, words: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command whose script gets `limit` first: the strip, and the picture, at which it is killed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-W", "ignore", "-c", script, limit, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def left_over(out: Path) -> set[str]:
    return {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}


# ---- the same output --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "bits"),
    [("tiff", "8"), ("tiff", "16"), ("tiff", "32"), ("png", "8"), ("png", "16"), ("exr", "32")],
)
def test_the_output_is_the_untiled_one(form: str, bits: str, tmp_path: Path, checkpoint: Path) -> None:
    source = scan(tmp_path / "in")
    options = ["--format", form, "--bits", bits]
    assert generate(argv(checkpoint, source, tmp_path / "whole", *options)) == 0
    assert generate(argv(checkpoint, source, tmp_path / "rows", *options, "--tile", "32")) == 0
    name = {"tiff": "scan.tif", "png": "scan.png", "exr": "scan.exr"}[form]
    assert left_over(tmp_path / "rows") == {name}
    whole, rows = tmp_path / "whole" / name, tmp_path / "rows" / name
    if bits == "32":
        from steadypix.data.pictures.inputs import read_input

        found, expected = (read_input(path, 3).pixels for path in (rows, whole))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
        return
    found, expected = (read_image(path, 3).astype(int) for path in (rows, whole))
    assert found.shape == (*SIZE, 3)
    assert np.abs(found - expected).max() <= (1 if bits == "8" else 2)
    assert (found != expected).mean() < (0.001 if bits == "8" else 0.2)


def test_alpha_is_kept(tmp_path: Path, checkpoint: Path) -> None:
    source = scan(tmp_path / "in", 4, extrasamples=["unassalpha"])
    for name, tile in (("whole", []), ("rows", ["--tile", "32"])):
        assert generate(argv(checkpoint, source, tmp_path / name, "--format", "tiff", *tile)) == 0
    whole, rows = (read_image(tmp_path / name / "scan.tif", 4) for name in ("whole", "rows"))
    np.testing.assert_array_equal(rows[..., 3], whole[..., 3])
    np.testing.assert_array_equal(rows[..., 3], tifffile.imread(source)[..., 3])


@pytest.mark.parametrize("way", ["first", "sampled"])
def test_statistics_of_another_kind(
    way: str, tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`first` is what it is without tiles; a sample is near to the whole, and not the whole."""
    monkeypatch.setattr(sampled, "WINDOW_PX", 32)
    folder = scan(tmp_path / "in").parent
    scan(folder, name="second.tif", seed=1)
    assert generate(argv(checkpoint, folder, tmp_path / "rows", "--tile", "32", "--statistics", way)) == 0
    other = "first" if way == "first" else "picture"
    assert generate(argv(checkpoint, folder, tmp_path / "whole", "--statistics", other)) == 0
    assert left_over(tmp_path / "rows") == {"scan.png", "second.png"}
    for name in ("scan.png", "second.png"):
        found, expected = (read_image(tmp_path / at / name, 3).astype(float) for at in ("rows", "whole"))
        if way == "first":
            assert np.abs(found - expected).max() <= 1
        else:
            assert 25 < 10 * np.log10(255**2 / np.square(found - expected).mean()) < 60


def test_a_picture_too_large_to_be_decoded_at_once(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    source = scan(tmp_path / "in")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    out = tmp_path / "out"
    assert generate(argv(checkpoint, source, out, "--format", "tiff")) == 2
    capsys.readouterr()
    assert generate(argv(checkpoint, source, out, "--format", "tiff", "--tile", "32")) == 0
    assert left_over(out) == {"scan.tif"}


# ---- killed and gone on with ------------------------------------------------------------------------


@pytest.mark.parametrize("statistics", ["picture", "sampled"])
def test_killed_twice_the_output_is_the_same_to_the_byte(
    statistics: str, tmp_path: Path, checkpoint: Path, capsys: Capture
) -> None:
    source = scan(tmp_path / "in")
    options = ["--tile", "32", "--format", "tiff", "--statistics", statistics]
    assert generate(argv(checkpoint, source, tmp_path / "whole", *options)) == 0
    words = argv(checkpoint, source, tmp_path / "cut", *options)
    for limit in ("20/1", "60/1"):
        run = apart(KILLED, limit, words)
        assert run.returncode == -signal.SIGKILL, run.stderr
        assert not (tmp_path / "cut" / "scan.tif").exists()
    assert "going on" in run.stderr
    capsys.readouterr()
    assert generate(words) == 0
    assert "going on" in capsys.readouterr().err
    assert left_over(tmp_path / "cut") == {"scan.tif"}
    assert not (tmp_path / "cut" / ".unfinished").exists()
    whole, cut = (tmp_path / name / "scan.tif" for name in ("whole", "cut"))
    assert whole.read_bytes() == cut.read_bytes()


def test_pictures_that_are_done_are_not_made_again(tmp_path: Path, checkpoint: Path) -> None:
    """Of a folder the second picture is cut; the first stays the file that it is."""
    folder = scan(tmp_path / "in", name="1.tif").parent
    scan(folder, name="2.tif", seed=1)
    words = argv(checkpoint, folder, tmp_path / "out", "--tile", "32", "--statistics", "first")
    generate(argv(checkpoint, folder, tmp_path / "whole", "--tile", "32", "--statistics", "first"))
    assert apart(KILLED, "20/2", words).returncode == -signal.SIGKILL
    before = identity(tmp_path / "out" / "1.png")
    assert generate(words) == 0
    assert identity(tmp_path / "out" / "1.png") == before
    assert left_over(tmp_path / "out") == {"1.png", "2.png"}
    for name in ("1.png", "2.png"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_small_picture_goes_by_a_first_one_that_is_done(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (by_rows, large):
        monkeypatch.setattr(module, "KEEP_SAMPLES", 50_000)  # the second picture stays in memory
    folder = scan(tmp_path / "in", name="1.tif").parent
    second = read_image(scan(tmp_path, name="2.tif", seed=1), 3)
    tifffile.imwrite(folder / "2.tif", second[:40, :48], photometric="rgb")
    whole, cut = (
        argv(checkpoint, folder, tmp_path / name, "--tile", "32", "--statistics", "first")
        for name in ("whole", "cut")
    )
    assert generate(whole) == 0

    def stopped(*_: object) -> None:
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(large.LargePictures, "_translate_small", stopped)
        with pytest.raises(Stopped):
            generate(cut)
    assert left_over(tmp_path / "cut") > {"1.png"}
    assert generate(cut) == 0
    assert left_over(tmp_path / "cut") == {"1.png", "2.png"}
    for name in ("1.png", "2.png"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_what_was_interrupted_goes_on_only_as_it_was(
    tmp_path: Path, checkpoint: Path, capsys: Capture
) -> None:
    source, out = scan(tmp_path / "in"), tmp_path / "out"
    words = argv(checkpoint, source, out, "--tile", "32")
    assert apart(KILLED, "20/1", words).returncode == -signal.SIGKILL
    other = write_checkpoint(tmp_path / "other.safetensors", tiny_config(sampling="strided"), seed=1)
    for changed, culprit in (
        ([*words, "--bits", "16"], "bits 8, now 16"),
        (argv(checkpoint, source, out, "--tile", "64"), "--tile 32, now 64"),
        (argv(other, source, out, "--tile", "32"), "generator"),
    ):
        assert generate(changed) == 2
        one_error_line(capsys, culprit, "delete that folder")
    scan(tmp_path / "in", seed=2)
    assert generate(words) == 2
    one_error_line(capsys, "picture", "delete that folder")
    shutil.rmtree(out / ".unfinished")
    assert generate(words) == 0
    assert left_over(out) == {"scan.png"}


def test_auto_goes_on_with_the_tile_of_before(tmp_path: Path, checkpoint: Path, capsys: Capture) -> None:
    source, out = scan(tmp_path / "in"), tmp_path / "out"
    assert apart(KILLED, "20/1", argv(checkpoint, source, out, "--tile", "32")).returncode == -signal.SIGKILL
    assert generate(argv(checkpoint, source, out, "--tile", "auto")) == 0
    assert "--tile 32" in capsys.readouterr().err
    assert left_over(out) == {"scan.png"}


def test_what_begins_is_read_back_before_the_first_row(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def lossy(path: Path, text: str) -> None:
        write_text(path, text.replace('"tile": 64', '"tile": 6'))

    monkeypatch.setattr("steadypix.checkpoints.generation.unfinished.write_text", lossy)
    out = tmp_path / "out"
    assert generate(argv(checkpoint, scan(tmp_path), out, "--tile", "64")) == 2
    one_error_line(capsys, "is not read as it was written")
    assert not list(out.glob("scan*"))


def test_two_commands_do_not_write_one_picture(tmp_path: Path, checkpoint: Path, capsys: Capture) -> None:
    fcntl = pytest.importorskip("fcntl")
    source, out = scan(tmp_path / "in"), tmp_path / "out"
    words = argv(checkpoint, source, out, "--tile", "32")
    assert apart(KILLED, "20/1", words).returncode == -signal.SIGKILL
    with open(out / ".steadypix.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert generate(words) == 2
    one_error_line(capsys, "another command")
    assert generate(words) == 0


# ---- memory and disk --------------------------------------------------------------------------------


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(tmp_path: Path, checkpoint: Path) -> None:
    source, out = scan(tmp_path / "in"), tmp_path / "out"
    words = argv(checkpoint, source, out, "--tile", "32", "--format", "tiff")
    run = apart(FULL, "100000", words)
    assert run.returncode == 2
    assert run.stderr.strip().splitlines()[-1].startswith("generate: error: ")
    assert str(out / ".unfinished") in run.stderr
    assert "File too large" in run.stderr
    assert "Traceback" not in run.stderr
    assert not (out / "scan.tif").exists()
    assert generate(words) == 0
    assert generate(argv(checkpoint, source, tmp_path / "whole", "--tile", "32", "--format", "tiff")) == 0
    assert (out / "scan.tif").read_bytes() == (tmp_path / "whole" / "scan.tif").read_bytes()
    assert left_over(out) == {"scan.tif"}


def test_too_little_disk_is_said_before(
    tmp_path: Path, checkpoint: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = scan(tmp_path / "in")
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(large.shutil, "disk_usage", lambda path: usage)
    assert generate(argv(checkpoint, source, tmp_path / "out", "--tile", "32")) == 2
    one_error_line(capsys, "0 MB free", "scan.tif takes about")
    assert left_over(tmp_path / "out") == set()


def test_auto_takes_what_memory_has_room_for(
    tmp_path: Path, checkpoint: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = scan(tmp_path / "in")
    monkeypatch.setattr(budget, "resident_bytes", lambda: 700 << 20)  # whatever was imported before
    tiles = []
    for mb in (150, 20_000):
        monkeypatch.setattr(budget, "available_bytes", lambda mb=mb: mb << 20)
        assert generate(argv(checkpoint, source, tmp_path / f"{mb}", "--tile", "auto")) == 0
        said = capsys.readouterr().err
        assert "of memory and" in said
        tiles.append(int(said.partition("--tile ")[2].split()[0]))
    assert tiles[0] < tiles[1] <= 1024
    monkeypatch.setattr(budget, "available_bytes", lambda: 1 << 20)
    assert generate(argv(checkpoint, source, tmp_path / "none", "--tile", "auto")) == 2
    one_error_line(capsys, "--tile auto", "scan.tif", "expected --tile 32 to try")
    assert left_over(tmp_path / "none") == set()


@pytest.mark.parametrize(
    ("words", "culprit"),
    [
        (["--tile", "8"], "32 px"),
        (["--tile", "some"], "--tile"),
        (["--tile", "auto", "--statistics", "tile"], "--tile auto"),
        (["--statistics", "sampled"], "--statistics sampled"),
    ],
)
def test_what_does_not_fit_together(
    words: list[str], culprit: str, tmp_path: Path, checkpoint: Path, capsys: Capture
) -> None:
    assert generate(argv(checkpoint, scan(tmp_path / "in"), tmp_path / "out", *words)) == 2
    one_error_line(capsys, culprit)
    assert not (tmp_path / "out").exists()


def test_a_damaged_strip_ends_in_one_line(tmp_path: Path, checkpoint: Path, capsys: Capture) -> None:
    source = scan(tmp_path / "in")
    with tifffile.TiffFile(source) as tiff:
        place = tiff.pages.first.dataoffsets[20]
    data = bytearray(source.read_bytes())
    data[place : place + 30] = bytes(30)
    source.write_bytes(data)
    assert generate(argv(checkpoint, source, tmp_path / "out", "--tile", "32")) == 2
    one_error_line(capsys, "scan.tif", "cannot be read as an image")
    assert left_over(tmp_path / "out") == set()
