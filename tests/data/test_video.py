"""Films: frames and times as they are, written back beside untouched sound, against PyAV used plainly."""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steadypix import InputError
from steadypix.data.pictures.video import is_film, on_the_grid, read_frames, survey, write_film
from tests.films import (
    HEIGHT,
    NTSC,
    VARIABLE_MS,
    WIDTH,
    decoded,
    lossless,
    make_film,
    scene,
    sound_of,
)

av = pytest.importorskip("av")
pytestmark = pytest.mark.slow


def rewritten(source: Path, target: Path, **how: object) -> Path:
    """Write a film's own frames again."""
    film = survey(source)
    times, frames = zip(*read_frames(film), strict=True)
    write_film(target, film, times, frames, name=target, **how)  # type: ignore[arg-type]
    return target


def one_line(work: functools.partial[object], *words: str) -> None:
    with pytest.raises(InputError) as caught:
        work()
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


# ---- reading ----------------------------------------------------------------------------------------


def test_frames_are_read_as_they_are(tmp_path: Path) -> None:
    frames = [np.random.default_rng(n).integers(0, 256, (31, 47, 3), dtype=np.uint8) for n in range(5)]
    film = survey(lossless(tmp_path / "a.mkv", frames))
    assert (film.width, film.height, film.frames) == (47, 31, 5)
    assert film.rate == NTSC
    times, read = zip(*read_frames(film), strict=True)
    np.testing.assert_array_equal(read, frames)
    assert [t * film.time_base for t in times] == [Fraction(ms, 1000) for ms in (0, 33, 67, 100, 133)]
    skipped = list(read_frames(film, skip=3))
    assert [time for time, _ in skipped] == list(times[3:])
    np.testing.assert_array_equal([pixels for _, pixels in skipped], frames[3:])


def yuv_of(rgb: np.ndarray, red: float, blue: float, full: bool) -> np.ndarray:
    """Y, U and V (H, W, 3) of RGB by the definition (ITU-R BT.601 and BT.709), in 8 bits."""
    r, g, b = (rgb[..., c] / 255 for c in range(3))
    y = red * r + (1 - red - blue) * g + blue * b
    u, v = (b - y) / (2 - 2 * blue), (r - y) / (2 - 2 * red)
    luma = y * 255 if full else 16 + 219 * y
    return np.dstack([luma, *(128 + (255 if full else 224) * c for c in (u, v))])


@pytest.mark.parametrize(
    ("colour", "red", "blue"),
    [((2, 0), 0.299, 0.114), ((1, 1), 0.2126, 0.0722), ((5, 2), 0.299, 0.114), ((1, 2), 0.2126, 0.0722)],
)
def test_the_matrix_is_the_sources_both_ways(
    colour: tuple[int, int], red: float, blue: float, tmp_path: Path
) -> None:
    """Flat frames, so that chroma of half the size loses nothing; ffv1 keeps what it is given."""
    colours = [(200, 30, 60), (20, 180, 240), (255, 255, 255), (0, 0, 0), (90, 120, 10)]
    frames = [np.full((HEIGHT, WIDTH, 3), rgb, np.uint8) for rgb in colours]
    source = make_film(tmp_path / "a.mkv", frames, codec="ffv1", colour=colour)
    film = survey(source)
    read = [pixels for _, pixels in read_frames(film)]
    assert np.abs(np.array(read, int) - frames).max() <= 3
    times = [time for time, _ in read_frames(film)]
    target = tmp_path / "b.mkv"
    write_film(target, film, times, frames, name=target, codec="ffv1")
    again = survey(target)
    assert again.colour["colorspace"] == film.colour["colorspace"] == colour[0]
    for rgb, planes in zip(frames, decoded(target)[1], strict=True):
        expected = yuv_of(rgb[:1, :1], red, blue, colour[1] == 2)[0, 0]
        found = planes[0, 0], planes[HEIGHT, 0], planes[HEIGHT + HEIGHT // 4, 0]
        assert np.abs(np.array(found, float) - expected).max() <= 1.6


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_frames_are_turned_upright(degrees: int, tmp_path: Path) -> None:
    film = survey(make_film(tmp_path / "a.mp4", rotation=degrees, options={"movflags": "faststart"}))
    expected = np.rot90(scene(0), degrees // 90)
    assert (film.height, film.width) == expected.shape[:2]
    _, pixels = next(read_frames(film))
    assert np.abs(pixels.astype(int) - expected).mean() < 25
    assert np.abs(pixels.astype(int) - np.rot90(expected, 2)).mean() > 50


def test_suffixes() -> None:
    assert is_film(Path("a.MP4"))
    assert is_film(Path("a.mpg"))
    assert not is_film(Path("a.png"))


# ---- times ------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(
    rate=st.sampled_from([Fraction(24), Fraction(25), NTSC, Fraction(24000, 1001), Fraction(60)]),
    numbers=st.sets(st.integers(-50, 5000), min_size=1, max_size=40),
    base=st.sampled_from([Fraction(1, 1000), Fraction(1, 90000), Fraction(1, 12800)]),
)
def test_rounded_times_of_a_constant_rate_are_found(
    rate: Fraction, numbers: set[int], base: Fraction
) -> None:
    frames = sorted(numbers)
    assert on_the_grid([round(n / rate / base) for n in frames], base, rate) == frames


def test_times_of_a_variable_rate_are_no_grid() -> None:
    assert on_the_grid(VARIABLE_MS, Fraction(1, 1000), Fraction(25)) is None
    assert on_the_grid([0, 1], Fraction(1, 1000), Fraction(25)) is None, "two frames at one place"
    assert on_the_grid([], Fraction(1, 1000), Fraction(25)) == []


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm", ".avi"])
@pytest.mark.parametrize("rate", [NTSC, Fraction(25)])
def test_a_constant_rate_is_kept(rate: Fraction, suffix: str, tmp_path: Path) -> None:
    source = make_film(tmp_path / "a.mp4", rate=rate)
    target = rewritten(source, tmp_path / f"b{suffix}")
    assert survey(target).rate == rate
    tick = survey(target).time_base
    for found, number in zip(decoded(target)[0], range(12), strict=True):
        assert abs(found - number / rate) <= tick / 2


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_variable_times_are_kept(suffix: str, tmp_path: Path) -> None:
    frames = [scene(number) for number in range(len(VARIABLE_MS))]
    source = make_film(tmp_path / "a.mp4", frames, times_ms=VARIABLE_MS)
    target = rewritten(source, tmp_path / f"b{suffix}")
    assert decoded(target)[0] == decoded(source)[0] == [Fraction(ms, 1000) for ms in VARIABLE_MS]
    film, again = survey(source), survey(target)
    if suffix == ".mkv":  # MP4 knows steps in the order of decoding, not how long a frame stands
        assert film.end * film.time_base == again.end * again.time_base


# ---- writing ----------------------------------------------------------------------------------------


def plainly(path: Path, frames: Sequence[np.ndarray], crf: int) -> Path:
    """What PyAV makes of frames without any of our code but for two switches of x264."""
    with av.open(str(path), "w") as film:
        video = film.add_stream("libx264", rate=25, options={"crf": str(crf), "mbtree": "0"})
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = "yuv420p"
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = number
            film.mux(video.encode(frame))
        film.mux(video.encode())
    return path


def test_frames_are_coded_as_by_pyav_itself(tmp_path: Path) -> None:
    frames = [scene(number, 64, 64) for number in range(12)]
    source = lossless(tmp_path / "a.mkv", frames, rate=25)
    target = rewritten(source, tmp_path / "b.mp4", crf=18)
    expected = plainly(tmp_path / "c.mp4", frames, 18)
    assert decoded(target)[0] == decoded(expected)[0]
    for one, two in zip(decoded(target)[1], decoded(expected)[1], strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    ("source", "sound", "target"),
    [
        ("a.mp4", "aac", "b.mp4"),
        ("a.mp4", "aac", "b.mkv"),
        ("a.mkv", "aac", "b.mp4"),
        ("a.mkv", "libmp3lame", "b.mp4"),
        ("a.avi", "libmp3lame", "b.avi"),
        ("a.mkv", "flac", "b.mkv"),
    ],
)
def test_sound_is_copied(source: str, sound: str, target: str, tmp_path: Path) -> None:
    codec = "mpeg4" if source == "a.avi" else "libx264"
    film = make_film(tmp_path / source, codec=codec, sound=sound)
    made = rewritten(film, tmp_path / target)
    before, after = sound_of(film), sound_of(made)
    assert len(before) > 1
    assert [data for data, _ in before] == [data for data, _ in after]
    # A container without negative times begins later as a whole: sound and frames by the same amount.
    later = decoded(made)[0][0] - decoded(film)[0][0]
    for (_, found), (_, expected) in zip(after, before, strict=True):
        assert abs(found - expected - later) <= Fraction(1, 500)


@pytest.mark.parametrize(("width", "height"), [(47, 31), (48, 31), (47, 32), (65, 65)])
def test_odd_sizes_lose_the_last_row_or_column(width: int, height: int, tmp_path: Path) -> None:
    frames = [scene(number, width, height) for number in range(4)]
    source = lossless(tmp_path / "a.mkv", frames)
    film = survey(rewritten(source, tmp_path / "b.mp4", crf=1))
    assert (film.width, film.height) == (width // 2 * 2, height // 2 * 2)
    for number, (_, pixels) in enumerate(read_frames(film)):
        apart = np.abs(pixels.astype(int) - frames[number][: film.height, : film.width])
        assert np.median(apart) < 8
    kept = survey(rewritten(source, tmp_path / "c.mkv", codec="ffv1", crf=None))
    assert (kept.width, kept.height) == (film.width, film.height)


def test_gray_frames(tmp_path: Path) -> None:
    film = survey(lossless(tmp_path / "a.mkv"))
    times, frames = zip(*read_frames(film), strict=True)
    gray = [pixels[..., :1] for pixels in frames]
    for name, made in (("b.mkv", gray), ("c.mkv", [np.repeat(g, 3, axis=2) for g in gray])):
        write_film(tmp_path / name, film, times, made, name=tmp_path / name)
    assert (tmp_path / "b.mkv").read_bytes() == (tmp_path / "c.mkv").read_bytes()


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".avi"])
def test_the_same_frames_are_the_same_bytes(suffix: str, tmp_path: Path) -> None:
    """Whatever lies in memory."""
    rng = np.random.default_rng(0)
    frames = [
        np.clip(scene(n) + rng.normal(0, 9, (HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8) for n in range(12)
    ]
    film = survey(make_film(tmp_path / "a.mp4", frames))
    times = [time for time, _ in read_frames(film)]
    made = set()
    for run in range(40):
        dirt = [rng.integers(0, 256, run * 37 % 5000 + 100, dtype=np.uint8).tobytes() for _ in range(50)]
        del dirt
        write_film(tmp_path / "b", film, times, frames, name=tmp_path / f"b{suffix}")
        made.add((tmp_path / "b").read_bytes())
    assert len(made) == 1


# ---- what is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        ("a.mp4", {}, ["cannot be read as a film"]),
        ("a.mp4", {"movflags": "faststart"}, ["cut short"]),
        ("a.mkv", {}, ["cut short", "s of 0.40 s"]),
        ("a.avi", {}, ["cut short"]),
        ("a.webm", {}, ["cut short"]),
    ],
)
def test_films_cut_short(source: str, options: dict[str, str], words: list[str], tmp_path: Path) -> None:
    codec = {".avi": "mpeg4", ".webm": "libvpx-vp9"}.get(Path(source).suffix, "libx264")
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (64, 96, 3), dtype=np.uint8) for _ in range(12)]
    path = make_film(tmp_path / source, noise, codec=codec, options=options)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * 0.7)])
    one_line(functools.partial(survey, path), str(path), *words)


def test_what_is_no_film(tmp_path: Path) -> None:
    one_line(functools.partial(survey, tmp_path / "nowhere.mp4"), "nowhere.mp4", "no such file")
    (tmp_path / "text.mp4").write_text("hello")
    one_line(functools.partial(survey, tmp_path / "text.mp4"), "text.mp4", "cannot be read as a film")
    (tmp_path / "folder.mp4").mkdir()
    one_line(functools.partial(survey, tmp_path / "folder.mp4"), "folder.mp4", "no regular file")
    with av.open(str(tmp_path / "sound.mkv"), "w") as film:
        audio = film.add_stream("flac", rate=44100)
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 2000), np.int16), format="s16", layout="mono")
        samples.sample_rate = 44100
        film.mux(audio.encode(samples))
        film.mux(audio.encode())
    one_line(functools.partial(survey, tmp_path / "sound.mkv"), "sound.mkv", "holds no video")


def test_a_playlist_reaches_no_other_file(tmp_path: Path) -> None:
    """Text that the library would follow to wherever it points."""
    make_film(tmp_path / "a.mp4")
    (tmp_path / "list.mp4").write_text(f"ffconcat version 1.0\nfile {tmp_path / 'a.mp4'}\n")
    one_line(functools.partial(survey, tmp_path / "list.mp4"), "list.mp4", "cannot be read")


def test_frames_of_two_sizes(tmp_path: Path) -> None:
    """Two films after each other, as broadcasts are cut."""
    stream = io.BytesIO()
    for size in ((WIDTH, HEIGHT), (WIDTH, HEIGHT + 16)):
        part = make_film(tmp_path / "part.ts", [scene(n, *size) for n in range(12)], rate=25)
        stream.write(part.read_bytes())
    (tmp_path / "a.ts").write_bytes(stream.getvalue())
    film = survey(tmp_path / "a.ts")
    one_line(functools.partial(list, read_frames(film)), "a.ts: frame", "expected")


@pytest.mark.parametrize(
    ("name", "how", "words"),
    [
        ("b.webm", {}, ["b.webm", "aac", ".mkv"]),
        ("b.mp4", {"codec": "nope"}, ["b.mp4", "--codec nope", "no encoder"]),
        ("b.avi", {"crf": 18.0}, ["b.avi", "--crf 18", "mpeg4"]),
        ("b.webm", {"codec": "libx264"}, ["b.webm", "libx264"]),
    ],
)
def test_what_a_container_does_not_take(
    name: str, how: dict[str, object], words: list[str], tmp_path: Path
) -> None:
    source = make_film(tmp_path / "a.mp4", sound="aac")
    one_line(functools.partial(rewritten, source, tmp_path / name, **how), *words)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), suffix=st.sampled_from([".mp4", ".mkv", ".avi"]))
def test_any_damage_is_one_line_or_a_film(
    seed: int, suffix: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(sound_film(suffix))
    rng = np.random.default_rng(seed)
    for place in rng.integers(0, len(content), rng.integers(1, 9)):
        content[place] = rng.integers(0, 256)
    path = tmp_path_factory.mktemp("damage") / f"a{suffix}"
    path.write_bytes(content)
    said = ""
    try:
        film = survey(path)
        for number, (_, pixels) in enumerate(read_frames(film)):
            assert pixels.shape == (film.height, film.width, 3)
            assert number < 100
    except InputError as error:
        said = str(error)
    assert not said or said.startswith(f"{path}: ")
    assert "\n" not in said


@functools.cache
def sound_film(suffix: str) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        codec = "mpeg4" if suffix == ".avi" else "libx264"
        sound = "libmp3lame" if suffix == ".avi" else "aac"
        return make_film(Path(folder) / f"a{suffix}", codec=codec, sound=sound).read_bytes()
