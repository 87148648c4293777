"""The pictures show what they claim: given pixels, real differences, every frame and every line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFont

from steadypix.eval.charts.curve import draw_curve, draw_map
from steadypix.eval.charts.drawing import heat, write
from steadypix.eval.charts.film import save_flicker
from steadypix.eval.charts.grid import draw_grid
from steadypix.eval.charts.strips import Strip, find_region

pytestmark = pytest.mark.slow

SHIFTS = ["0 px", "1 px", "2 px"]


@pytest.fixture(autouse=True)
def _coarse_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Charts of few pixels are drawn, and checked, several times as fast."""
    monkeypatch.setattr("steadypix.eval.charts.style.DPI", 50)


def still(side: int = 40, n_shifts: int = 3, name: str = "still") -> Strip:
    """Return a model whose outputs are the same for every shift, without a flat area."""
    rng = np.random.default_rng(7)
    picture = rng.integers(90, 120, (1, side, side, 3), dtype=np.uint8)
    return Strip(name, "60.0 dB · TV 0.80", picture.repeat(n_shifts, axis=0))


def moving(side: int = 40, n_shifts: int = 3, name: str = "moving") -> Strip:
    """Return a model that changes a block, (4, 4) large, at row 12 and column 20 with the shift."""
    outputs = still(side, n_shifts).outputs.copy()
    for shift in range(1, n_shifts):
        outputs[shift, 12:16, 20:24] = (250, 10 * shift, 30)
    return Strip(name, "22.4 dB · TV 1.02", outputs)


def grid(path: Path, strips: list[Strip], **options: Any) -> np.ndarray:
    """Draw a grid of the strips and return its pixels."""
    outputs = strips[0].outputs
    scene = np.full(outputs.shape[1:], 128, np.uint8)
    shifts = [f"{shift} px" for shift in range(len(outputs))]
    draw_grid(path, source=scene, target=scene, strips=strips, shifts=shifts, **options)
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.mode == "RGB"
        return np.asarray(image).astype(int)


def where(page: np.ndarray, color: tuple[int, int, int]) -> tuple[slice, slice]:
    """Return the rows and columns that all pixels of exactly `color` span."""
    rows, columns = np.nonzero((page == color).all(axis=2))
    return slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)


@given(
    top=st.integers(0, 36),
    left=st.integers(0, 56),
    size=st.integers(4, 24),
    reference=st.integers(0, 2),
)
@settings(max_examples=40, deadline=None)
def test_region_holds_a_planted_difference(top: int, left: int, size: int, reference: int) -> None:
    """The square lies in the picture and holds the block, wherever that is; of the moving model."""
    outputs = np.full((3, 40, 60, 3), 100, np.uint8)
    outputs[(reference + 1) % 3, top : top + 4, left : left + 4] = 200
    calm = np.full_like(outputs, 30)
    calm[1, 0, 0] += 9
    x, y = find_region(
        [Strip("calm", "", calm), Strip("moving", "", outputs)], size=size, reference=reference
    )
    assert 0 <= x <= left
    assert left + 4 <= x + size <= 60
    assert 0 <= y <= top
    assert top + 4 <= y + size <= 40


def test_region_is_the_best_square_of_all() -> None:
    """The integral image agrees with adding up every square."""
    outputs = np.random.default_rng(0).integers(0, 256, (4, 12, 15, 3), dtype=np.uint8)
    energy = ((outputs.astype(float) - outputs[2]) ** 2).sum(axis=(0, 3))
    sums = {(x, y): energy[y : y + 5, x : x + 5].sum() for x in range(11) for y in range(8)}
    found = find_region([Strip("noise", "", outputs)], size=5, reference=2)
    assert found == max(sums, key=sums.__getitem__)


def test_region_shows_a_change_in_its_middle_and_keeps_a_margin() -> None:
    """Of equal squares the middle one is taken; the border is left out while there is room."""
    x, y = find_region([moving()], size=12)
    assert (x, y) == (16, 8)
    assert find_region([still()], size=12) == (14, 14)
    border = still().outputs.copy()
    border[1, 0] = 255
    assert find_region([Strip("border", "", border)], size=10)[1] == 0
    assert find_region([Strip("border", "", border)], size=10, margin_px=6)[1] >= 6
    assert find_region([moving(side=24)], size=24, margin_px=16) == (0, 0)
    assert find_region([moving(side=24)], size=99) == (0, 0)


def test_grid_holds_the_given_pixels_enlarged(tmp_path: Path) -> None:
    """Each close-up has its own block, a whole number of times as large, not resampled."""
    page = grid(tmp_path / "grid.png", [moving()], size=8, margin_px=0)
    first, second = where(page, (250, 10, 30)), where(page, (250, 20, 30))
    for rows, columns in (first, second):
        assert rows.stop - rows.start == columns.stop - columns.start == 4 * 24
        block = page[rows, columns]
        assert (block == block[0, 0]).all()
    assert first[0] == second[0]
    assert second[1].start - first[1].start == 8 * 24 + 6
    # Around the block, the same cell shows the picture's own pixels.
    left, top = find_region([moving()], size=8)
    corner = page[first[0].start - 48, first[1].start - 48]
    assert corner.tolist() == moving().outputs[1, top, left].tolist()


def test_difference_rows_are_black_exactly_where_nothing_changes(tmp_path: Path) -> None:
    """Still models have black rows, moving ones where they stand still."""
    calm = grid(tmp_path / "calm.png", [still()], size=8)
    one = grid(tmp_path / "one.png", [moving()], size=8, margin_px=0)
    black = (calm == 0).all(axis=2).sum()
    assert black >= 3 * 192 * 192
    hottest = heat(np.array(1.0)).tolist()
    rows, columns = where(one, (250, 10, 30))
    below = one[rows.start + 192 + 6 : rows.stop + 192 + 6, columns]
    assert below.sum(axis=2).min() > 150
    cell = one[rows.start - 48 + 198 : rows.start - 48 + 390, columns.start - 48 :][:, :192]
    assert (cell == 0).all(axis=2).sum() == 192 * 192 - 96 * 96
    reference = one[rows.start - 48 + 198 : rows.start - 48 + 390, columns.start - 246 :][:, :192]
    assert not reference.any()
    # Saturation is rare: the scale reaches what the models reach.
    assert (one == hottest).all(axis=2).mean() < 0.02


def test_one_scale_serves_all_models(tmp_path: Path) -> None:
    """A model that changes a third as much is darker than its neighbour, by the same heat scale."""
    gentle = still().outputs + (moving().outputs.astype(int) - still().outputs) // 3
    strips = [moving(), Strip("gentle", "", gentle.astype(np.uint8))]
    page = grid(tmp_path / "grid.png", strips, size=8, margin_px=0)
    rows, columns = where(page, (250, 10, 30))
    row_height = 2 * 192 + 6
    strong, weak = (
        page[rows.start + 198 + down : rows.stop + 198 + down, columns].sum(axis=2)
        for down in (0, row_height + 18)
    )
    assert (weak > 0).all()
    assert weak.max() < strong.min()


@pytest.mark.parametrize("count", [1, 3, 8])
def test_grid_grows_with_the_models_and_stays_narrow(tmp_path: Path, count: int) -> None:
    """Two rows a model; never wider than a page."""
    strips = [moving(side=32, n_shifts=8, name=f"model {i}") for i in range(count)]
    height, width, _ = grid(tmp_path / "grid.png", strips).shape
    assert width <= 1800
    assert count * 2 * 150 < height < 500 + count * 480


@pytest.mark.parametrize(
    ("n_shifts", "shape", "channels"),
    [
        (1, (16, 16), 3),
        (1, (1, 1), 1),
        (2, (3, 5), 3),
        (31, (20, 70), 1),
        (9, (70, 20), 3),
        (2, (300, 280), 3),
    ],
)
def test_any_size_is_drawn(tmp_path: Path, n_shifts: int, shape: tuple[int, int], channels: int) -> None:
    """Tiny, flat, tall and grey pictures; one shift and many."""
    outputs = np.random.default_rng(1).integers(0, 256, (n_shifts, *shape, channels), np.uint8)
    page = grid(tmp_path / "grid.png", [Strip("x", "", outputs)], reference=n_shifts // 2)
    assert page.shape[1] <= 1800
    save_flicker(tmp_path / "flicker.webp", [Strip("x", "", outputs)], shifts=["s"] * n_shifts)


def test_grey_pictures_need_no_channel_axis(tmp_path: Path) -> None:
    """(n, H, W) outputs and (H, W) scenes look the same as three equal channels."""
    grey = np.random.default_rng(2).integers(0, 256, (3, 20, 24), dtype=np.uint8)
    colour = np.stack([grey] * 3, axis=-1)
    pages = [grid(tmp_path / "grid.png", [Strip("x", "", o)]) for o in (grey, colour)]
    assert (pages[0] == pages[1]).all()


def test_bad_arrays_are_named(tmp_path: Path) -> None:
    """Wrong counts, dtypes and sizes raise, say whose they are, and leave no file."""
    path = tmp_path / "grid.png"
    scene = np.zeros((40, 40, 3), np.uint8)
    floats = Strip("floaty", "", moving().outputs.astype(np.float32))
    for strips, source, message in (
        ([], scene, "at least one"),
        ([floats], scene, "floaty.*float32.*uint8"),
        ([still(), moving(side=50)], scene, r"moving.*50.*expected.*40"),
        ([moving(n_shifts=4)], scene, r"moving.*\(4,.*expected \(3,"),
        ([moving()], scene[:30], "input.*30.*40"),
    ):
        with pytest.raises(ValueError, match=message):
            draw_grid(path, source=source, target=scene, strips=strips, shifts=SHIFTS)
    assert not os.listdir(tmp_path)


def test_long_text_loses_its_middle() -> None:
    """A text keeps within its width and keeps both ends; a short one stays as it is."""
    inks = {}
    for text in ("short", "facades-blur_late-bin5-replicate-seed0 " * 3):
        image = Image.new("RGB", (600, 60), "white")
        write(image, (0, 0), text, size=16, width=200)
        inks[text] = np.nonzero((np.asarray(image) < 128).any(axis=(0, 2)))[0].max()
    short, long = inks.values()
    assert short == pytest.approx(ImageFont.load_default(size=16).getlength("short"), abs=3)
    assert 170 < long <= 201
    seeds = [Image.new("L", (600, 60)) for _ in range(2)]
    for seed, image in enumerate(seeds):
        name = f"facades-blur_late-bin5-replicate-padding-seed{seed}"
        write(image, (0, 0), name, size=16, width=160, fill=255)  # type: ignore[arg-type]
    assert seeds[0].tobytes() != seeds[1].tobytes()


def test_long_names_stay_out_of_the_close_ups(tmp_path: Path) -> None:
    """A name of any length changes nothing in the columns of the shifts."""
    pages = [grid(tmp_path / "g.png", [moving(name=name)]) for name in ("m", "endless-" * 30)]
    assert pages[0].shape == pages[1].shape
    rows = slice(pages[0].shape[0] // 2, None)
    assert (pages[0][rows, 24 + 172 :] == pages[1][rows, 24 + 172 :]).all()


def test_flicker_has_a_frame_per_shift_and_loops(tmp_path: Path) -> None:
    """Frames differ in the moving model alone; the still one is the same to the bit."""
    path = tmp_path / "flicker.webp"
    save_flicker(path, [still(), moving()], shifts=SHIFTS, fps=6.0)
    with Image.open(path) as film:
        assert (film.format, film.n_frames, film.info["loop"]) == ("WEBP", 3, 0)
        frames, durations = [], []
        for index in range(film.n_frames):
            film.seek(index)
            frames.append(np.asarray(film.convert("RGB")).astype(int))
            durations.append(film.info["duration"])
    assert durations == [167, 167, 167]
    change = np.abs(frames[1] - frames[0])[40:].sum(axis=2)
    middle = change.shape[1] // 2
    assert not change[:, :middle].any()
    assert change[:, middle:].any()
    rows, columns = where(frames[2], (250, 20, 30))
    assert rows.stop - rows.start == columns.stop - columns.start == 4 * 6


def test_flicker_of_identical_models_keeps_its_frames_and_size_limit(tmp_path: Path) -> None:
    """Identical shifts are frames too, and noise that will not fit losslessly is made to fit."""
    path = tmp_path / "flicker.webp"
    save_flicker(path, [still(n_shifts=5)], shifts=["same"] * 5)
    with Image.open(path) as film:
        assert film.n_frames == 5
    noise = np.random.default_rng(3).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    save_flicker(path, [Strip("noise", "", noise)], shifts=["s"] * 4, max_bytes=100_000)
    assert path.stat().st_size <= 100_000


def stability(level_db: float, shifts: list[int], axis: str = "x") -> dict[str, Any]:
    """Return the stability of one protocol and margin; 150 dB are identical pairs."""
    return {
        "mean_db": {"mean": level_db, "ci95": [level_db, level_db]},
        "odd_mean_db": None,
        "pooled_db": level_db,
        "per_shift": [
            {
                "dx": 0 if axis == "y" else shift,
                "dy": 0 if axis == "x" else shift,
                "mean_db": level_db if level_db == 150 else level_db + shift % 2,
                "ci95_db": [level_db - 1, min(150, level_db + 2)],
                "pooled_db": level_db,
                "n_identical": 6 if level_db == 150 else 0,
            }
            for shift in shifts
            if shift != 0
        ],
    }


def results(levels: dict[str, float], shifts: list[int] | None = None, axis: str = "x") -> dict[str, Any]:
    """Return the results of models with about the given dB, with a map each."""
    shifts = list(range(8)) if shifts is None else shifts
    models = []
    for name, level in levels.items():
        cells = [[None if x == y == 0 else level + x % 2 for x in shifts] for y in shifts]
        score = stability(level, shifts, axis)
        entry = {"margin_px": 16, "dx": shifts, "dy": shifts, "mean_db": cells}
        models.append(
            {
                "name": name,
                "quality": {"tv": {"mean": 0.1, "ci95": [0.1, 0.1]}, "tv_ratio": 0.63},
                "stability": {"crop": {"0": score, "16": score}, "roll": {"0": score}},
                "map": {"crop": entry},
            }
        )
    data = {"source": "facades", "split": "test", "n_images": 6, "window_px": 128}
    return {
        "schema_version": 1, "axis": axis, "shifts_px": shifts, "data": data, "models": models
    }  # fmt: skip


def size_of(path: Path) -> tuple[int, int]:
    """Return the size of a PNG that can be decoded to its end."""
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        return image.size


@pytest.mark.parametrize(
    ("levels", "shifts", "axis"),
    [
        ({"one": 25.0}, None, "x"),
        ({"a": 25.0, "exact": 150.0, "_under": 90.0, "$x_{$": 31.0}, [-2, -1, 0, 1, 2], "y"),
        ({"exact": 150.0}, [1], "diagonal"),
        ({f"a-model-with-a-long-name-{i}" * 2: 20.0 + 3 * i for i in range(9)}, [3], "x"),
    ],
)
def test_charts_can_be_drawn(
    tmp_path: Path, levels: dict[str, float], shifts: list[int] | None, axis: str
) -> None:
    """One model and nine, exact ones, names with markup, negative and single shifts."""
    found = results(levels, shifts, axis)
    before = json.dumps(found)
    draw_curve(tmp_path / "curve.png", found)
    draw_map(tmp_path / "map.png", found)
    assert json.dumps(found) == before
    assert min(size_of(tmp_path / "curve.png") + size_of(tmp_path / "map.png")) > 100
    assert sorted(os.listdir(tmp_path)) == ["curve.png", "map.png"]


def test_charts_survive_gaps(tmp_path: Path) -> None:
    """Nulls, a missing interval, a model without the protocol, without quality or map."""
    found = results({"a": 25.0, "b": 30.0, "c": 35.0}, [0, 1, 2])
    point = found["models"][0]["stability"]["crop"]["0"]["per_shift"][0]
    point["mean_db"] = point["ci95_db"] = None
    del found["models"][1]["stability"]["roll"], found["models"][1]["map"]
    found["models"][2].update(quality=None, stability={})
    draw_curve(tmp_path / "curve.png", found)
    draw_map(tmp_path / "map.png", found)
    assert min(size_of(tmp_path / "curve.png") + size_of(tmp_path / "map.png")) > 100


def test_there_is_a_panel_for_each_protocol_and_margin(tmp_path: Path) -> None:
    """One panel is narrower than three; what was not measured is refused."""
    found = results({"a": 25.0})
    draw_curve(tmp_path / "all.png", found)
    del found["models"][0]["stability"]["crop"]
    draw_curve(tmp_path / "roll.png", found)
    assert size_of(tmp_path / "roll.png")[0] < size_of(tmp_path / "all.png")[0] / 2
    found["models"][0]["stability"] = {}
    with pytest.raises(ValueError, match="no stability to draw"):
        draw_curve(tmp_path / "none.png", found)
    del found["models"][0]["map"]
    with pytest.raises(ValueError, match="--map"):
        draw_map(tmp_path / "none.png", found)
    assert not (tmp_path / "none.png").exists()


def test_an_exact_model_does_not_squash_the_others(tmp_path: Path) -> None:
    """The dB axis still ends just above the inexact models."""
    from steadypix.eval.charts.curve import _line, _Scale

    models = results({"a": 24.0, "b": 33.0, "exact": 150.0})["models"]
    scale = _Scale([[_line(model, ("crop", "0"), "x") for model in models]])
    assert 20 < scale.bottom < 24
    assert 33 < scale.top < scale.lane(2) < scale.upper < 45


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    """No time, path or version is written into a picture."""
    found = results({"a": 25.0, "exact": 150.0}, [0, 1])
    files = [tmp_path / name for name in ("first", "second")]
    for draw in (
        lambda path: draw_curve(path, found),
        lambda path: draw_map(path, found),
        lambda path: grid(path, [still(), moving()]),
        lambda path: save_flicker(path, [still(), moving()], shifts=SHIFTS),
    ):
        for path in files:
            draw(path)
        first, second = (path.read_bytes() for path in files)
        assert first == second
        assert b"matplotlib" not in first.lower()


def test_a_failed_write_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk while writing: no new file, no temporary, the old one as it was."""
    old = tmp_path / "old.png"
    old.write_bytes(b"old")

    def full(path: Path, payload: bytes) -> int:
        with open(path, "wb") as file:
            file.write(payload[:10])
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    found = results({"a": 25.0}, [0, 1])
    for draw in (
        lambda path: grid(path, [moving()]),
        lambda path: save_flicker(path, [moving()], shifts=SHIFTS),
        lambda path: draw_curve(path, found),
    ):
        for name in ("old.png", "new.png"):
            with pytest.raises(OSError, match="no space"):
                draw(tmp_path / name)
    assert os.listdir(tmp_path) == ["old.png"]
    assert old.read_bytes() == b"old"
