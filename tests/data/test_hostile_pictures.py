"""Files that are called pictures: which decoders may look at them, and that none of them starts a program."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from steadypix import InputError
from steadypix.checkpoints.generate import main as generate
from steadypix.data.cli import main as steadypix_data
from steadypix.data.pictures.images import FORMATS, read_image
from steadypix.eval.eval_stability import main as eval_stability
from tests.cli import FAST, TINY, one_error_line
from train_pix2pix import main as train_pix2pix

Capture = pytest.CaptureFixture[str]
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 96 48\n%%EndComments\n%%EOF\n"
SUFFIX_OF = {"PNG": ".png", "JPEG": ".jpg", "BMP": ".bmp", "WEBP": ".webp", "TIFF": ".tif"}
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8))


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a Ghostscript that is started leaves behind."""
    mark, program = tmp_path / "started", tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {mark}\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", str(program))
    return mark


def test_the_trap_works(tmp_path: Path, started: Path) -> None:
    """Pillow starts the program where nothing keeps it from that."""
    (tmp_path / "1.png").write_bytes(EPS)
    with pytest.raises(Exception, match=r"."), Image.open(tmp_path / "1.png") as image:
        image.load()
    assert started.exists()


COMMANDS: dict[str, Callable[[Path, Path, Path], int]] = {
    "check": lambda root, net, out: steadypix_data(["check", str(root), "--workers", "0"]),
    "generate": lambda root, net, out: generate([str(net), str(root / "test"), "--out", str(out)]),
    "eval_stability": lambda root, net, out: eval_stability([str(net), "--out", str(out), *FAST]),
    "train_pix2pix": lambda root, net, out: train_pix2pix(
        [*TINY, f"--data.root={root}", "--device=cpu", "--train.sample_every=0", "--out", str(out)]
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_an_eps_named_png_starts_nothing(
    command: str, pair_folder: Path, checkpoints: list[Path], tmp_path: Path, started: Path, capsys: Capture
) -> None:
    for picture in pair_folder.rglob("*.png"):
        picture.write_bytes(EPS)
    assert COMMANDS[command](pair_folder, checkpoints[0], tmp_path / "out") == 2
    assert not started.exists()
    if command == "check":
        assert "not an image of PNG, JPEG, BMP, WEBP, TIFF" in capsys.readouterr().out
    elif command != "generate":  # which names every picture
        one_error_line(capsys, ".png", "not an image of")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of formats that Pillow is going to drop
def test_only_the_formats_named_are_decoded(tmp_path: Path) -> None:
    Image.init()
    refused = []
    for name in sorted(Image.SAVE):
        buffer = io.BytesIO()
        try:
            PICTURE.save(buffer, format=name)
        except Exception:  # what Pillow cannot write here (GRIB, AVIF, ...) is no seed
            continue
        if name in (*FORMATS, "MPO") or buffer.getvalue()[:3] in (b"\xff\xd8\xff", b"II*"):
            continue
        path = tmp_path / f"{name}.png"
        path.write_bytes(buffer.getvalue())
        with pytest.raises(InputError, match=f"{name}.png: cannot be read as an image"):
            read_image(path)
        refused.append(name)
    assert {"EPS", "GIF", "PPM", "TGA", "PCX", "ICO"} <= set(refused)


@pytest.mark.parametrize("content", FORMATS)
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_content_decides_among_the_formats_allowed(tmp_path: Path, content: str, suffix: str) -> None:
    honest, other = tmp_path / f"honest{SUFFIX_OF[content]}", tmp_path / f"other{suffix}"
    PICTURE.save(honest, format=content)
    shutil.copy(honest, other)
    np.testing.assert_array_equal(read_image(other), read_image(honest))


def test_two_pictures_in_one_jpeg_are_read_as_the_first(tmp_path: Path) -> None:
    """As phones write them."""
    PICTURE.save(tmp_path / "1.jpg", format="MPO", save_all=True, append_images=[PICTURE.rotate(180)])
    PICTURE.save(tmp_path / "2.jpg", format="JPEG")
    assert np.abs(read_image(tmp_path / "1.jpg") - read_image(tmp_path / "2.jpg").astype(int)).max() <= 8
