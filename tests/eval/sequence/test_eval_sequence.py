"""The command `eval_sequence` as a user runs it, and the reader of frames below it."""

from __future__ import annotations

import html.parser
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from steadypix.data.pictures.frames import frames_of
from steadypix.errors import InputError
from steadypix.eval.eval_sequence import main
from steadypix.eval.sequence.measure import name_apart, side_by_side
from steadypix.eval.sequence.scores import error_db, temporal_flickering, warp_error
from tests.cli import Capture, one_error_line
from tests.eval.conftest import in_browser
from tests.eval.sequence.sequences import as_read, pan, texture, write_frames, write_video

pytestmark = pytest.mark.slow

needs_opencv = pytest.mark.usefixtures("opencv")
needs_pyav = pytest.mark.usefixtures("pyav")
SIZE = (48, 40)


@pytest.fixture
def opencv() -> None:
    pytest.importorskip("cv2", reason="needs OpenCV: pip install 'steadypix[flow]'")


@pytest.fixture
def pyav() -> Any:
    return pytest.importorskip("av", reason="needs PyAV: pip install 'steadypix[video]'")


def steady() -> list[np.ndarray]:
    return pan(texture(40, 60), SIZE, speed=1, count=12)


def flickering() -> list[np.ndarray]:
    return [(frame + 0.1 * (number % 2)).clip(0, 1) for number, frame in enumerate(steady())]


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """An input, a steady output and a flickering one: 12 frames of 48 x 40 px each."""
    made = {"source": steady(), "calm": [1 - frame for frame in steady()], "wild": flickering()}
    return [write_frames(tmp_path / name, frames) for name, frames in made.items()]


# ---- reading side by side -----------------------------------------------------------------------------


def test_sequences_are_read_side_by_side(folders: list[Path]) -> None:
    together = list(side_by_side(folders, start=3, stop=5))
    assert len(together) == 2
    assert np.array_equal(together[1][2], list(frames_of(folders[2]))[4])


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["in", "made/a", "made/b.mp4"], ["in", "a", "b"]),
        (["one/frames", "two/frames"], ["one/frames", "two/frames"]),
        (["same", "same"], ["same", "same"]),
    ],
)
def test_names_are_as_short_as_they_can_be(paths: list[str], names: list[str]) -> None:
    assert name_apart([Path(path) for path in paths]) == names


# ---- the command ------------------------------------------------------------------------------------


def run(folders: list[Path], out: Path, *more: str) -> dict[str, Any]:
    assert main([*map(str, folders), "--out", str(out), *more]) == 0
    found: dict[str, Any] = json.loads((out / "sequence.json").read_text(encoding="utf-8"))
    return found


@needs_opencv
def test_results_are_those_of_the_functions(folders: list[Path], tmp_path: Path, capsys: Capture) -> None:
    results = run(folders, tmp_path / "out", "--margin", "4")
    table = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in table] == ["sequence", "input:", "calm", "wild"]
    source, calm, wild = results["input"], *results["outputs"]
    assert (results["n_frames"], results["margin_px"], len(results["compared"])) == (12, 4, 11)
    frames = [as_read(each) for each in (steady(), flickering())]
    for entry, each in zip((source, wild), frames, strict=True):
        error = warp_error(frames[0], each, margin_px=4)
        assert entry["warp_error"] == pytest.approx(error, rel=1e-5)
        assert entry["warp_db"] == pytest.approx(error_db(error), abs=1e-4)
        assert entry["temporal_flickering"] == pytest.approx(temporal_flickering(each), abs=1e-6)
        assert f"{entry['warp_db']:.2f}" in next(line for line in table if entry["name"] in line)
    assert wild["excess"] == pytest.approx(wild["warp_error"] - source["warp_error"])
    assert wild["ratio"] == pytest.approx(wild["warp_error"] / source["warp_error"])
    assert calm["warp_error"] == pytest.approx(source["warp_error"], rel=0.01)  # the negative moves alike
    assert wild["warp_db"] < 21 < source["warp_db"]
    assert len(wild["pairs"]["change"]) == len(wild["pairs"]["warp_error"]) == 11
    assert (wild["width_px"], wild["height_px"], wild["scale"]) == (48, 40, 1)


@needs_opencv
def test_pictures_and_page(folders: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(folders, out)
    names = ["errors.png", "profile.png", "sequence.html", "sequence.json", "sequence.webp", "strip.png"]
    assert sorted(file.name for file in out.iterdir()) == names
    with Image.open(out / "sequence.webp") as film:
        assert film.n_frames == 12  # type: ignore[attr-defined]
    with Image.open(out / "profile.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.shape[0] > 2 * 288  # two rows of panels
    page = Page((out / "sequence.html").read_text(encoding="utf-8"))
    assert len(page.sources) == 4
    assert all(
        source.startswith(("data:image/png;base64,", "data:image/webp;base64,")) for source in page.sources
    )
    assert {"calm", "wild", "input: source"} <= set(page.cells)
    before = {name: (out / name).read_bytes() for name in names}
    run(folders, out)
    assert {name: (out / name).read_bytes() for name in names} == before


class Page(html.parser.HTMLParser):
    """What a page holds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.cells: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name == "src"]

    def handle_data(self, data: str) -> None:
        self.cells.append(data.strip())


@needs_opencv
def test_still_pictures_do_not_flicker(tmp_path: Path) -> None:
    folders = [write_frames(tmp_path / name, [texture(32, 32)] * 3) for name in ("source", "made")]
    results = run(folders, tmp_path / "out")
    for entry in (results["input"], *results["outputs"]):
        assert entry["temporal_flickering"] == 1.0
        assert entry["warp_error"] == 0.0
        assert entry["warp_db"] == 150.0
    assert results["outputs"][0]["ratio"] is None
    assert results["compared"] == [1.0, 1.0]


@needs_opencv
def test_outputs_twice_as_large(tmp_path: Path) -> None:
    larger = [frame.repeat(2, axis=0).repeat(2, axis=1) for frame in steady()]
    folders = [write_frames(tmp_path / "source", steady()), write_frames(tmp_path / "larger", larger)]
    results = run(folders, tmp_path / "out", "--limit", "4", "--margin", "8")
    (entry,) = results["outputs"]
    assert (entry["scale"], entry["width_px"], results["n_frames"]) == (2, 96, 4)
    assert entry["warp_db"] > 40


@needs_opencv
@needs_pyav
def test_a_video_scores_what_its_frames_score(folders: list[Path], tmp_path: Path) -> None:
    video = write_video(tmp_path / "film.mkv", flickering())
    of_frames = run(folders, tmp_path / "frames")["outputs"][1]
    of_video = run([folders[0], video], tmp_path / "video")["outputs"][0]
    assert of_video["name"] == "film"
    for key in ("warp_error", "temporal_flickering", "tv", "pairs"):
        assert of_video[key] == of_frames[key]


@needs_opencv
def test_a_cut_is_named(tmp_path: Path, capsys: Capture) -> None:
    scenes = [texture(64, 64, seed=seed) for seed in (0, 0, 9, 9)]
    folders = [write_frames(tmp_path / name, scenes) for name in ("source", "made")]
    results = run(folders, tmp_path / "out")
    assert results["compared"] == [1.0, pytest.approx(0.15, abs=0.15), 1.0]
    assert (
        "source: less than 30% of the pixels can be compared from frame 2 to 3: a cut?"
        in capsys.readouterr().err
    )


# ---- refusals ---------------------------------------------------------------------------------------


def refused(capsys: Capture, *culprits: str, argv: list[str]) -> None:
    assert main(argv) == 2
    assert one_error_line(capsys, *culprits).startswith("eval_sequence: error: ")


@needs_opencv
def test_what_cannot_be_measured_is_refused_in_one_line(
    folders: list[Path], tmp_path: Path, capsys: Capture
) -> None:
    source, calm, wild = map(str, folders)
    out = ["--out", str(tmp_path / "out")]
    empty = tmp_path / "empty"
    empty.mkdir()
    one = write_frames(tmp_path / "one", steady()[:1])
    small = write_frames(tmp_path / "small", [frame[:12, :12] for frame in steady()])
    odd = write_frames(tmp_path / "odd", [frame[:, :40] for frame in steady()])
    refused(capsys, "nowhere", "no such file", argv=[source, str(tmp_path / "nowhere"), *out])
    refused(capsys, "empty", "holds no images", argv=[source, str(empty), *out])
    refused(capsys, "one: has 1 frame; expected at least 2", argv=[str(one), str(one), *out])
    refused(capsys, "one: has 1 frames", "source has 12", argv=[source, str(one), *out])
    refused(capsys, "odd: is 40 x 40 px", "48 x 40 px", "whole multiple", argv=[source, str(odd), *out])
    refused(capsys, "small: is 12 x 12 px; expected 16 px", argv=[str(small), source, *out])
    refused(capsys, "--limit", "at least 2", argv=[source, calm, "--limit", "1", *out])
    refused(capsys, "margin of 20 px", argv=[source, calm, "--margin", "20", *out])
    refused(capsys, "OUTPUT", argv=[source, *out])
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(folders[2] / "frame7.png")
    refused(capsys, "frame7.png: is 50 x 40 px", "48 x 40 px", argv=[source, wild, *out])
    (folders[1] / "frame10.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    refused(capsys, "frame10.png: cannot be read", argv=[source, calm, *out])
    assert not (tmp_path / "out").exists()


@needs_opencv
@needs_pyav
def test_videos_that_cannot_be_measured(folders: list[Path], tmp_path: Path, capsys: Capture) -> None:
    source = str(folders[0])
    short = write_video(tmp_path / "short.mkv", steady()[:5])
    refused(capsys, "short.mkv: has 5 frames", "source has more", argv=[source, str(short)])
    refused(capsys, "source: has 12 frames", "long.mkv has more",
            argv=[source, str(write_video(tmp_path / "long.mkv", [*steady(), *steady()]))])  # fmt: skip
    (tmp_path / "text.mp4").write_text("not a video")
    refused(capsys, "text.mp4: cannot be read as a film", argv=[source, str(tmp_path / "text.mp4")])


def test_without_the_extras_they_are_named(
    folders: list[Path], tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = tmp_path / "film.mp4"
    video.write_bytes(b"film")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match=r"needs PyAV.*steadypix\[video\]"):
        next(frames_of(video))
    monkeypatch.setitem(sys.modules, "cv2", None)
    refused(
        capsys, "needs OpenCV", "steadypix[flow]", argv=[*map(str, folders), "--out", str(tmp_path / "out")]
    )


# ---- in a browser -----------------------------------------------------------------------------------


@pytest.fixture
def opened(page: Any, folders: list[Path], tmp_path: Path) -> Iterator[Any]:
    """The page; when the test is over, nothing was fetched and nothing was complained of."""
    complaints: list[str] = []
    requests: list[str] = []
    run(folders, tmp_path / "out")
    page.on("console", lambda message: complaints.append(message.text))
    page.on("request", lambda request: requests.append(request.url))
    page.goto((tmp_path / "out" / "sequence.html").as_uri())
    yield page
    assert complaints == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []


@needs_opencv
@in_browser
@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_fits_and_shows_all_pictures(opened: Any, width: int) -> None:
    opened.set_viewport_size({"width": width, "height": 800})
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    widths = opened.eval_on_selector_all("img", "all => all.map(i => [i.naturalWidth, i.clientWidth])")
    assert len(widths) == 4
    for natural, shown in widths:
        assert natural > 0
        assert 0 < shown <= width
