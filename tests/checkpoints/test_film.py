"""`generate RUN in.mp4 --out out.mp4`: a film in, a film out, whole or not at all, and gone on with."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from steadypix.checkpoints.generate import main as generate
from steadypix.checkpoints.generation.film import _remove_half_written
from tests.cli import Capture, one_error_line
from tests.conftest import tiny_config, write_checkpoint
from tests.films import VARIABLE_MS, decoded, lossless, make_film, scene, sound_of
from tests.killed import Stopped, generate_killed, stop_after

pytest.importorskip("av")
pytestmark = pytest.mark.slow

COUNT = 12


@pytest.fixture
def run(checkpoints: list[Path], tmp_path: Path) -> Callable[..., list[str]]:
    """Arguments of `generate` from a film to a film."""

    def arguments(source: Path, out: str, *more: str) -> list[str]:
        return [str(checkpoints[1]), str(source), "--out", str(tmp_path / out), "--device", "cpu", *more]

    return arguments


def listed(folder: Path, without: tuple[str, ...] = (".safetensors", "pairs")) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.endswith(without)}


def test_a_film_is_its_frames_as_a_sequence(run: Callable[..., list[str]], tmp_path: Path) -> None:
    """Through ffv1 nothing is lost but the step to YUV and back."""
    frames = [np.kron(scene(n, 24, 16), np.ones((2, 2, 1), np.uint8)) for n in range(COUNT)]
    source = lossless(tmp_path / "in.mkv", frames)
    (tmp_path / "frames").mkdir()
    for number, pixels in enumerate(frames):
        Image.fromarray(pixels).save(tmp_path / "frames" / f"{number}.png")
    argv = run(source, "out.mkv", "--codec", "ffv1")
    assert generate(argv) == 0
    assert generate([argv[0], str(tmp_path / "frames"), "--sequence", "--out", str(tmp_path / "made")]) == 0
    times, planes = decoded(tmp_path / "out.mkv")
    assert times == [Fraction(round(number * 1001 / 30), 1000) for number in range(COUNT)]
    height, width = frames[0].shape[:2]
    for number in range(COUNT):
        made = np.asarray(Image.open(tmp_path / "made" / f"{number}.png")).astype(float)
        luma = 16 + (made @ np.array([65.481, 128.553, 24.966])) / 255  # ITU-R BT.601
        assert np.abs(planes[number][:height, :width] - luma).max() < 1.6


def test_rate_times_and_sound_are_the_films(
    run: Callable[..., list[str]], tmp_path: Path, capsys: Capture
) -> None:
    frames = [scene(number) for number in range(len(VARIABLE_MS))]
    source = make_film(tmp_path / "in.mp4", frames, times_ms=VARIABLE_MS, sound="aac")
    assert generate(run(source, "out.mp4")) == 0
    said = capsys.readouterr().err
    assert f"wrote {COUNT} frames to {tmp_path / 'out.mp4'}" in said
    assert "frame encoded" in said
    assert decoded(tmp_path / "out.mp4")[0] == [Fraction(ms, 1000) for ms in VARIABLE_MS]
    assert sound_of(tmp_path / "out.mp4") == sound_of(source)
    assert listed(tmp_path) == {"in.mp4", "out.mp4"}


def test_statistics_are_those_of_the_first_frame(run: Callable[..., list[str]], tmp_path: Path) -> None:
    """What comes in at the left does not reach the right; by its own statistics every frame would change."""
    flat = np.random.default_rng(0).integers(0, 128, (64, 160, 3), dtype=np.uint8)
    frames = [flat.copy() for _ in range(3)]
    for number, pixels in enumerate(frames):
        pixels[:, : 6 * number] = 255
    source = lossless(tmp_path / "in.mkv", frames)
    assert generate(run(source, "out.mkv", "--codec", "ffv1")) == 0
    planes = decoded(tmp_path / "out.mkv")[1]
    assert all((other[:64, -8:] == planes[0][:64, -8:]).all() for other in planes[1:])
    assert (planes[2][:64, :8] != planes[0][:64, :8]).any()


def test_gray_generators(run: Callable[..., list[str]], tmp_path: Path, capsys: Capture) -> None:
    from steadypix.configs.schema import GeneratorConfig

    shape = {"ngf": 4, "num_downs": 3}
    for channels in (1, 5):
        config = tiny_config(generator=GeneratorConfig(in_channels=1, out_channels=channels, **shape))
        checkpoint = write_checkpoint(tmp_path / f"{channels}.safetensors", config)
        argv = run(make_film(tmp_path / "in.mp4"), f"{channels}.mp4", "--crf", "1")
        code = generate([str(checkpoint), *argv[1:]])
        assert code == (0 if channels == 1 else 2)
    one_error_line(capsys, "5.safetensors", "5 channels", "1 or 3")
    assert not (tmp_path / "5.mp4").exists()
    for planes in decoded(tmp_path / "1.mp4")[1]:
        assert np.abs(planes[32:].astype(int) - 128).max() <= 2, "no colour"


def test_odd_sizes_are_said(run: Callable[..., list[str]], tmp_path: Path, capsys: Capture) -> None:
    source = lossless(tmp_path / "in.mkv", [scene(n, 47, 31) for n in range(3)])
    assert generate(run(source, "out.mp4")) == 0
    assert "without the last row and column: its codec wants even sizes" in capsys.readouterr().err


# ---- going on ---------------------------------------------------------------------------------------


def test_a_killed_film_goes_on(run: Callable[..., list[str]], tmp_path: Path, capsys: Capture) -> None:
    source = make_film(tmp_path / "in.mp4", sound="aac")
    assert generate(run(source, "whole.mp4")) == 0
    for name, how in {
        "frames.mp4": {"after": 5, "suffix": ".png", "half": True},
        "coding.mp4": {"after": 0, "suffix": "coding.mp4", "half": True},
    }.items():
        generate_killed(run(source, name), **how)  # type: ignore[arg-type]
        assert not (tmp_path / name).exists()
        assert (tmp_path / f"{name}.unfinished").is_dir()
        capsys.readouterr()
        assert generate(run(source, name)) == 0
        assert "going on after" in capsys.readouterr().err
        assert (tmp_path / name).read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    assert listed(tmp_path) == {"in.mp4", "whole.mp4", "frames.mp4", "coding.mp4"}


def test_stopped_anywhere_it_ends_the_same(
    run: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After every file that is put into place: the try, statistics, state, each frame, the film."""
    source = make_film(tmp_path / "in.mkv", sound="aac")
    assert generate(run(source, "whole.mkv")) == 0
    stops = [("try", 1), ("unfinished.safetensors", 1), (".json", 1), *((".png", n) for n in range(1, 13))]
    for suffix, count in [*stops, (".mkv", 1)]:
        name = f"{suffix.strip('.')}{count}.mkv"
        with monkeypatch.context() as patch:
            stop_after(patch, count, suffix)
            with pytest.raises(Stopped):
                generate(run(source, name))
        assert generate(run(source, name)) == 0
        assert (tmp_path / name).read_bytes() == (tmp_path / "whole.mkv").read_bytes(), name
        assert not (tmp_path / f"{name}.unfinished").exists()


def test_another_film_is_refused(
    run: Callable[..., list[str]],
    checkpoints: list[Path],
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = make_film(tmp_path / "in.mp4")
    argv = run(source, "out.mp4")
    with monkeypatch.context() as patch:
        stop_after(patch, 3, ".png")
        with pytest.raises(Stopped):
            generate(argv)
    kept = {file.name: file.read_bytes() for file in (tmp_path / "out.mp4.unfinished").iterdir()}
    assert generate([str(checkpoints[0]), *argv[1:]]) == 2
    one_error_line(capsys, "out.mp4.unfinished", "another generator")
    make_film(tmp_path / "in.mp4", [scene(number + 1) for number in range(COUNT)])
    assert generate(argv) == 2
    one_error_line(capsys, "out.mp4.unfinished", "in.mp4", "changed")
    assert kept == {file.name: file.read_bytes() for file in (tmp_path / "out.mp4.unfinished").iterdir()}


def test_what_another_command_is_writing_stays(tmp_path: Path) -> None:
    for name in (".out.7.tmp.mp4", ".out.b.7.tmp.mp4"):
        (tmp_path / name).touch()
    _remove_half_written(tmp_path / "out.mp4")
    assert [path.name for path in tmp_path.iterdir()] == [".out.b.7.tmp.mp4"]


# ---- what is refused --------------------------------------------------------------------------------


def test_what_is_refused_before_any_work(
    run: Callable[..., list[str]], tmp_path: Path, capsys: Capture
) -> None:
    source = make_film(tmp_path / "in.mp4", sound="aac")
    (tmp_path / "text.mp4").write_text("hello")
    content = source.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) // 2])
    Image.fromarray(scene(0)).save(tmp_path / "1.png")
    before = listed(tmp_path)
    for argv, words in (
        (run(source, "out.webm"), ["out.webm", "aac", ".mkv"]),
        (run(source, "out.xyz"), ["in.mp4", "is a film", ".mp4"]),
        (run(source, "in.mp4"), ["in.mp4", "overwritten"]),
        (run(source, "out.mp4", "--codec", "nope"), ["--codec nope"]),
        (run(source, "out.mp4", "--bits", "16"), ["out.mp4", "8 bits"]),
        (run(source, "out.mp4", "--statistics", "picture"), ["--statistics picture"]),
        (run(tmp_path / "text.mp4", "out.mp4"), ["text.mp4", "cannot be read as a film"]),
        (run(tmp_path / "cut.mp4", "out.mp4"), ["cut.mp4"]),
        (run(tmp_path / "1.png", "out.mp4"), ["out.mp4", "is a film", "one film alone"]),
        (run(tmp_path / "nowhere.mp4", "out.mp4"), ["nowhere.mp4", "no such file"]),
        (run(source, "1.png/out.mp4"), ["1.png"]),
    ):
        assert generate(argv) == 2
        one_error_line(capsys, *words)
        assert listed(tmp_path) == before


def test_without_the_library(
    run: Callable[..., list[str]], tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_film(tmp_path / "in.mp4")
    monkeypatch.setitem(sys.modules, "av", None)
    assert generate(run(source, "out.mp4")) == 2
    one_error_line(capsys, "pip install 'steadypix[video]'")


def test_a_damaged_frame_ends_it(run: Callable[..., list[str]], tmp_path: Path, capsys: Capture) -> None:
    """The frames before it stay."""
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (32, 48, 3), dtype=np.uint8) for _ in range(COUNT)]
    source = make_film(tmp_path / "in.mp4", noise)
    content = bytearray(source.read_bytes())
    place = len(content) * 7 // 10
    content[place : place + 1000] = bytes(1000)
    source.write_bytes(content)
    assert generate(run(source, "out.mkv")) == 2
    one_error_line(capsys, "in.mp4: frame ", "cannot be read as a film")
    assert not (tmp_path / "out.mkv").exists()
    assert len(list((tmp_path / "out.mkv.unfinished").glob("*.png"))) > 2


@pytest.mark.parametrize("where", ["frames", "film"])
def test_a_full_disk(where: str, run: Callable[..., list[str]], tmp_path: Path, capsys: Capture) -> None:
    """The limit is the process's own: below one kept frame, or below the film and above its frames."""
    resource = pytest.importorskip("resource")
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(20)]
    source = make_film(tmp_path / "in.mp4", noise)
    argv = run(source, "out.mp4", "--crf", "1")
    assert generate([*argv[:3], str(tmp_path / "whole.mp4"), *argv[4:]]) == 0
    limit = 2500 if where == "frames" else 20_000
    before, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    capsys.readouterr()
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        code = generate(argv)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert code == 2
    one_error_line(
        capsys, "out.mp4", "png: File too large" if where == "frames" else "out.mp4: File too large"
    )
    assert not (tmp_path / "out.mp4").exists()
    assert (len(list((tmp_path / "out.mp4.unfinished").glob("*.png"))) == 20) == (where == "film")
    assert generate(argv) == 0
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()
