"""Frames of folders and videos, one after the other."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from steadypix.data.pictures.frames import count_pictures, frames_of
from steadypix.errors import InputError
from tests.eval.sequence.sequences import as_read, texture, write_frames, write_video
from tests.films import make_film


@pytest.fixture
def pyav() -> None:
    pytest.importorskip("av", reason="needs PyAV: pip install 'steadypix[video]'")


def made(count: int = 12) -> list[np.ndarray]:
    return [texture(20, 24, seed=seed) for seed in range(count)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_frames(tmp_path / "frames", made())


def test_frames_of_a_folder_come_in_natural_order_as_floats(folder: Path) -> None:
    found = list(frames_of(folder))
    assert [frame.dtype for frame in found] == [np.float32] * 12
    for frame, expected in zip(found, as_read(made()), strict=True):
        np.testing.assert_allclose(frame, expected, atol=1e-6)
    for frame, expected in zip(frames_of(folder, start=9, stop=11), found[9:11], strict=True):
        assert np.array_equal(frame, expected)


def test_gray_and_16_bits_and_alpha(tmp_path: Path) -> None:
    levels = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    Image.fromarray(levels).save(tmp_path / "1.png")
    Image.fromarray((levels // 256).astype(np.uint8)).convert("RGBA").save(tmp_path / "2.png")
    deep, plain = frames_of(tmp_path)
    assert np.array_equal(deep[..., 1], levels.astype(np.float32) / 65535)
    assert np.array_equal(plain[..., 2], (levels // 256).astype(np.float32) / 255)


@pytest.mark.usefixtures("pyav")
def test_frames_of_a_video_are_those_of_the_folder(folder: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "a:b.mkv", made())  # not a protocol
    for frame, expected in zip(frames_of(video), frames_of(folder), strict=True):
        assert np.array_equal(frame, expected)
    (last,) = frames_of(video, start=11)
    assert np.array_equal(last, frame)


def test_frames_are_read_one_after_the_other(folder: Path) -> None:
    """The third is broken, and the first two are there all the same."""
    (folder / "frame3.png").write_text("not a picture")
    reader = frames_of(folder)
    assert next(reader).shape == next(reader).shape == (20, 24, 3)
    with pytest.raises(InputError, match=r"frame3\.png: cannot be read as an image"):
        next(reader)


@pytest.mark.usefixtures("pyav")
@pytest.mark.parametrize("turned", [90, 180, 270])
def test_a_video_is_read_upright(tmp_path: Path, turned: int) -> None:
    """As phones write it: the frame as the sensor has it, and how far to turn it."""
    exact = {"qp": "0"}  # with losses, x264 need not write one scene twice alike
    film = make_film(tmp_path / "turned.mp4", rotation=turned, coding=exact)
    plain = make_film(tmp_path / "plain.mp4", coding=exact)
    for frame, lying in zip(frames_of(film), frames_of(plain), strict=True):
        assert np.array_equal(frame, np.rot90(lying, turned // 90))


@pytest.mark.usefixtures("pyav")
def test_a_damaged_frame_of_a_video_is_named(tmp_path: Path) -> None:
    import av

    film = make_film(tmp_path / "film.mp4", coding={"bf": "0"})
    with av.open(str(film)) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.size]
    content = bytearray(film.read_bytes())
    content[places[5] : places[5] + 40] = b"\xff" * 40
    film.write_bytes(content)
    read = 0
    with pytest.raises(InputError, match=r"film\.mp4: frame 6"):  # noqa: PT012
        for _ in frames_of(film):
            read += 1
    assert read == 5


def test_what_is_no_sequence_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: no such file; expected a folder of frames or a video"):
        next(frames_of(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    for read in (count_pictures, lambda path: next(frames_of(path))):
        with pytest.raises(InputError, match="empty: holds no images"):
            read(tmp_path / "empty")


def test_frames_of_two_sizes_are_refused(folder: Path) -> None:
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(folder / "frame7.png")
    with pytest.raises(InputError, match=r"frame7\.png: is 30 x 20 px; expected 24 x 20 px, as the first"):
        list(frames_of(folder))


def test_without_pyav_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "film.mp4").write_bytes(b"film")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match=r"needs PyAV.*steadypix\[video\]"):
        next(frames_of(tmp_path / "film.mp4"))
