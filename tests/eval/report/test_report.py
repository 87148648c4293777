"""report.html: made from files alone, escaped, self-contained, and working in a real browser."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from steadypix.errors import InputError
from steadypix.eval.charts.strips import Strip
from steadypix.eval.eval_stability import main as eval_stability
from steadypix.eval.report.__main__ import main as make_report
from steadypix.eval.report.frames import MOST_PIXELS, MOST_SHIFTS, read_frames, write_frames
from steadypix.eval.report.render import write_report
from steadypix.eval.report.verdict import verdict
from tests.eval.conftest import in_browser

pytestmark = pytest.mark.slow

SCRIPT = "<script>alert('x')</script>"
NAMES = ["strided", SCRIPT, 'a "quoted" & {{ 7 * 7 }} name']
HEIGHT, WIDTH = 24, 32
OFFSETS = [(d, 0) for d in range(-2, 4)]
REFERENCE = 2


def figure(mean: float, half: float = 0.5) -> dict[str, Any]:
    """A mean with its interval."""
    return {"mean": mean, "ci95": [mean - half, mean + half]}


def summary(db: float) -> dict[str, Any]:
    """A stability of `db` over the odd shifts of OFFSETS, another value a shift."""
    per_shift = [
        {
            "dx": dx,
            "dy": dy,
            "mean_db": db + dx / 8,
            "ci95_db": [db + dx / 8 - 0.5, db + dx / 8 + 0.5],
            "pooled_db": db,
            "n_identical": 0,
        }
        for dx, dy in OFFSETS
        if dx
    ]
    return {
        "mean_db": figure(db),
        "odd_mean_db": figure(db),
        "pooled_db": db,
        "odd_pooled_db": db,
        "n_identical": 0,
        "per_shift": per_shift,
    }


def model(name: str, db: float, ratio: float) -> dict[str, Any]:
    """One model of results.json."""
    grid = {"margin_px": 4, "dx": [0, 1], "dy": [0, 1], "mean_db": [[None, db], [db + 1, 150.0]]}
    return {
        "name": name,
        "path": f"{name}.safetensors",
        "sha256": hashlib.sha256(name.encode()).hexdigest(),
        "generator": {"sampling": "blur"},
        "norm_mode": "statistics of each picture",
        "dropout_mode": "off",
        "provenance": {"run": name, "epoch": 2.0, "seen": 4800},
        "quality": {
            "l1": figure(0.2 - db / 1000, 0.01),
            "psnr_db": figure(15.0),
            "tv": figure(0.1 * ratio, 0.01),
            "target_tv": figure(0.1, 0.01),
            "tv_ratio": ratio,
        },
        "stability": {"crop": {"0": summary(db - 2), "4": summary(db)}},
        "map": {"crop": grid},
    }


def comparison(name: str, gain: float, half: float = 0.5, margin_px: int = 4) -> dict[str, Any]:
    """One entry of `comparisons`, against strided."""
    return {
        "model": name,
        "reference": "strided",
        "protocol": "crop",
        "margin_px": margin_px,
        "over": "odd shifts",
        "gain_db": figure(gain, half),
    }


def results(**changes: Any) -> dict[str, Any]:
    """A results.json of three models, whose order by stability is 0, 2, 1."""
    models = [model(name, db, 0.9) for name, db in zip(NAMES, (22.0, 40.0, 31.0), strict=True)]
    return {
        "schema_version": 1,
        "created": "2026-11-23T12:00:00+00:00",
        "command": f"eval_stability '{SCRIPT}'",
        "versions": {"steadypix": "0.1.0", "python": "3.11", "torch": "2.13.0", "numpy": "2.4"},
        "device": "cpu",
        "precision": "fp32",
        "seed": 7,
        "axis": "x",
        "shifts_px": [dx for dx, _ in OFFSETS],
        "protocols": {"crop": "the window slides"},
        "peak": 2.0,
        "data": {
            "source": SCRIPT,
            "split": "test",
            "direction": "AtoB",
            "canvas_px": 40,
            "window_px": 32,
            "n_images": 5,
        },
        "models": models,
        "comparisons": [comparison(NAMES[1], 18.0), comparison(NAMES[2], 9.0)],
        **changes,
    }


def tiles(number: int) -> np.ndarray:
    """Outputs (shift, H, W, 3) of a model: the first one never changes."""
    rng = np.random.default_rng(number)
    outputs = rng.integers(0, 256, (len(OFFSETS), HEIGHT, WIDTH, 3), dtype=np.uint8)
    return outputs[:1].repeat(len(OFFSETS), axis=0) if number == 0 else outputs


SOURCE, TARGET = tiles(8)[0], tiles(9)[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A results folder with everything that a report is made from."""
    out = tmp_path / "results"
    out.mkdir()
    (out / "results.json").write_text(json.dumps(results()), encoding="utf-8")
    strips = [Strip(name, "", tiles(number)) for number, name in enumerate(NAMES)]
    write_frames(
        out / "frames",
        source=SOURCE,
        target=TARGET,
        strips=strips,
        offsets=OFFSETS,
        protocol="crop",
        image=SCRIPT,
    )
    return out


class Elements(HTMLParser):
    """What a page holds: tags, their attributes, scripts and text, read by the standard library."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag if tag in ("script", "style") else ""
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = (attributes, text + data)
        elif not self._inside:
            self.text += data


# ---- from files alone ---------------------------------------------------------------------------------


def test_the_same_files_give_the_same_bytes(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = write_report(folder).read_bytes()
    copy = shutil.copytree(folder, tmp_path / "elsewhere")
    (copy / "report.html").unlink()
    assert make_report([str(copy)]) == 0
    assert capsys.readouterr().out.strip() == str(copy / "report.html")
    assert (copy / "report.html").read_bytes() == first


def test_nothing_is_loaded_from_elsewhere(folder: Path) -> None:
    page = write_report(folder).read_text(encoding="utf-8")
    found = Elements(page)
    links = [value for _, name, value in found.attributes if name in ("src", "href", "srcset", "action")]
    assert links
    assert all(value.startswith(("data:", "#")) for value in links)
    assert re.findall(r"https?://[^\"' ]+", page) == ["http://www.w3.org/2000/svg"]  # a name, not an address
    assert "@import" not in page
    assert "url(" not in page


def test_the_policy_names_the_one_script(folder: Path) -> None:
    """The hash, taken again here, is that of the only script that can run; nothing else is allowed."""
    found = Elements(write_report(folder).read_text(encoding="utf-8"))
    (kind, data), (plain, script) = found.scripts
    assert kind["type"] == "application/json"
    assert plain == {}
    policy = next(v for t, n, v in found.attributes if t == "meta" and v.startswith("default-src"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert json.loads(data)["models"] == NAMES


def test_names_are_text(folder: Path) -> None:
    page = write_report(folder).read_text(encoding="utf-8")
    assert SCRIPT not in page
    found = Elements(page)
    assert len(found.scripts) == 2
    for name in (*NAMES, f"eval_stability '{SCRIPT}'", f"5 of {SCRIPT}, test, AtoB"):
        assert name in found.text
    assert "49" not in re.sub(r"[0-9a-f]{64}", "", found.text).split("quoted")[1][:20]


def test_everything_needed_to_repeat_it_is_told(folder: Path) -> None:
    text = Elements(write_report(folder).read_text(encoding="utf-8")).text
    for row in results()["models"]:
        assert row["sha256"] in text
        assert row["path"] in text
    for words in ("the window slides.", "seed 7", "torch 2.13.0", "cpu, fp32", "peak 2.0", "loaded at 40 px"):
        assert words in text
    assert "2 epochs, 4,800 samples seen" in text
    assert "shifts of -2 to 3 px to the right" in text


def test_a_report_without_frames_has_no_slider(folder: Path) -> None:
    shutil.rmtree(folder / "frames")
    page = write_report(folder).read_text(encoding="utf-8")
    assert 'id="slider"' not in page
    assert 'id="figures"' in page


def test_the_best_of_a_column_is_marked(folder: Path) -> None:
    page = write_report(folder).read_text(encoding="utf-8")
    body = re.findall(r"<tr[^>]*>(.*?)</tr>", page.split('id="figures"')[1].split("</table>")[0], re.DOTALL)
    marks = ["".join("X" if 'class="best"' in c else "." for c in re.findall("<td[^>]*>", r)) for r in body]
    assert marks[1:] == ["...X..", "XXXX..", "...X.."]  # crop 4, crop 0, L1, PSNR (a tie), TV, TV/target


@pytest.mark.parametrize(
    ("name", "content", "culprits"),
    [
        ("results.json", None, ["results.json", "as eval_stability writes"]),
        ("results.json", "{", ["results.json", "is not JSON"]),
        ("results.json", "[]", ["results.json", "schema_version 1"]),
        ("results.json", '{"schema_version": 99}', ["results.json", "schema_version 1"]),
        ("frames/frames.json", "{", ["frames.json", "is not JSON"]),
        ("frames/frames.json", '{"schema_version": 0}', ["frames.json", "schema_version 1"]),
        ("frames/model-01.webp", None, ["model-01.webp", "expected a sheet"]),
    ],
)
def test_broken_files_are_named(
    folder: Path, name: str, content: str | None, culprits: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    assert make_report([str(folder)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert all(culprit in error for culprit in culprits)
    assert not (folder / "report.html").exists()


def test_frames_of_other_models_or_places_are_refused(folder: Path) -> None:
    index = folder / "frames" / "frames.json"
    frames = json.loads(index.read_text())
    frames["input"] = "../results.json"
    index.write_text(json.dumps(frames))
    with pytest.raises(InputError, match="expected the name of a file"):
        write_report(folder)
    frames["input"], frames["models"] = "input.webp", frames["models"][:2]
    index.write_text(json.dumps(frames))
    with pytest.raises(InputError, match=r"frames: shows strided"):
        write_report(folder)


def set_texts(value: Any, text: str) -> Any:
    """Put a text in the place of every other, but for those that are one of a few or the name of a file."""
    if isinstance(value, dict):
        kept = {key: value[key] for key in ("file", "input", "target") if isinstance(value.get(key), str)}
        return {key: set_texts(inner, text) for key, inner in value.items()} | kept
    if isinstance(value, list):
        return [set_texts(inner, text) for inner in value]
    return text if isinstance(value, str) else value


@pytest.mark.parametrize(
    "text",
    [
        SCRIPT,
        "</script><script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        '" onload="alert(1)',
        "' onmouseover='alert(1)",
        "</style><style>*{display:none}",
        "</title><meta http-equiv=refresh content=0>",
        "<!--<script>",
        "javascript:alert(1)",
        "{{ cycler.__init__.__globals__ }}{% raw %}",
        "\u2028\u2029\x00\x1b[2J",
    ],
)
def test_no_text_of_the_files_becomes_markup(folder: Path, text: str) -> None:
    """Every text of both files at once: the page has the same elements and attributes as with plain words."""
    pages = []
    for words in ("plain", text):
        for name in ("results.json", "frames/frames.json"):
            (folder / name).write_text(json.dumps(set_texts(json.loads((folder / name).read_text()), words)))
        pages.append(write_report(folder).read_text(encoding="utf-8"))
    plain, hostile = map(Elements, pages)
    assert [(tag, name) for tag, name, _ in hostile.attributes] == [(t, n) for t, n, _ in plain.attributes]
    assert len(hostile.scripts) == 2
    assert hostile.scripts[1] == plain.scripts[1]
    data = json.loads(hostile.scripts[0][1])
    assert data["models"] == [text] * 3
    assert not [name for _, name, _ in hostile.attributes if name.startswith("on")]
    assert not [value for _, name, value in hostile.attributes if name in ("href", "src") and text in value]


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ("models", [], "models: expected a list of 1 to 1000, got []"),
        ("models.0.name", 3, "models[0].name: expected a text, got 3"),
        ("models.0.stability.crop", 5, "stability.crop: expected an object with at least 1 entry, got 5"),
        ("models.1.stability.crop.4.mean_db.mean", "x", "models[1].stability.crop.4.mean_db.mean: "),
        ("models.1.stability.crop.4.mean_db.mean", 1e17, "expected a number of dB, got 1e+17"),
        ("models.2.stability.crop.4.per_shift", [], "models[2]: crop: expected what the first model has"),
        ("models.2.quality.tv_ratio", True, "models[2].quality.tv_ratio: expected a number, got true"),
        ("models.0.map.crop.mean_db", [[1.0]], "models[0].map.crop.mean_db: expected a row for every dy"),
        ("models.0.provenance", "x", "models[0].provenance: expected an object, got"),
        ("comparisons.0.model", "nobody", "comparisons[0].model: expected the name of a model"),
        ("shifts_px", [0, 1e12], "shifts_px[1]: expected a shift in px"),
        ("data.n_images", -1, "data.n_images: expected a count, got -1"),
        ("versions", {}, "versions.steadypix: expected a value, got null"),
        ("created", None, "created: expected a text, got null"),
    ],
)
def test_the_key_that_is_wrong_is_named(
    folder: Path, place: str, value: Any, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = results()
    holder: Any = found
    *way, last = (int(key) if key.isdigit() and key != "4" else key for key in place.split("."))
    for key in way:
        holder = holder[key]
    holder[last] = value
    (folder / "results.json").write_text(json.dumps(found))
    assert make_report([str(folder)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "results.json: is not a results.json of schema_version 1" in error
    assert words in error


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"schema_version": 1, "peak": NaN}', "it holds NaN"),
        ('{"schema_version": 1, "peak": 1e999}', "it holds 1e999"),
        ('{"schema_version": ' + "1" * 30 + "}", "a number of 30 digits"),
        ("[" * 100_000, "is not JSON"),
        ('{"created": "\\ud800"}', "is not JSON"),
        ("\xff", "schema_version 1"),
    ],
)
def test_what_is_no_json_is_refused(
    folder: Path, text: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "results.json").write_bytes(text.encode("latin-1"))
    assert make_report([str(folder)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert words in error


@pytest.mark.parametrize("name", ["results.json", "frames/frames.json", "frames/input.webp"])
def test_pipes_and_devices_are_not_waited_for(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(InputError, match=Path(name).name):
        write_report(folder)
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/zero")
    with pytest.raises(InputError, match=Path(name).name):
        write_report(folder)


def test_sheets_are_pictures_of_the_size_that_is_said(folder: Path) -> None:
    sheet = folder / "frames" / "target.webp"
    whole = sheet.read_bytes()
    for content in (
        b"",
        b"text",
        whole[: len(whole) // 2],
        (folder / "frames" / "model-00.webp").read_bytes(),
    ):
        sheet.write_bytes(content)
        with pytest.raises(InputError, match=r"target\.webp: (cannot be read as a WebP|is 32 x 144 px)"):
            write_report(folder)


# ---- frames -------------------------------------------------------------------------------------------


def decoded(uri: str) -> np.ndarray:
    """The pixels of a data URI, as Pillow reads them."""
    kind, _, content = uri.partition(",")
    assert kind == "data:image/webp;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as image:
        return np.asarray(image.convert("RGB"))


def test_frames_hold_the_pixels_to_the_bit(folder: Path) -> None:
    frames = read_frames(folder / "frames")
    assert frames is not None
    assert frames["offsets_px"] == [list(offset) for offset in OFFSETS]
    assert frames["reference"] == REFERENCE
    np.testing.assert_array_equal(decoded(frames["input"]), SOURCE)
    np.testing.assert_array_equal(decoded(frames["target"]), TARGET)
    for number, row in enumerate(frames["models"]):
        np.testing.assert_array_equal(decoded(row["file"]).reshape(tiles(number).shape), tiles(number))


def test_large_pictures_are_cut_to_what_changes_and_many_shifts_to_the_nearest(tmp_path: Path) -> None:
    offsets = [(d, 0) for d in range(-3, 21)]
    outputs = np.zeros((len(offsets), 260, 600, 3), np.uint8)
    outputs[5, 200:204, 500:510] = 255
    (tmp_path / "model-07.webp").write_bytes(b"of an earlier evaluation")
    write_frames(
        tmp_path,
        source=outputs[0],
        target=outputs[0],
        strips=[Strip("one", "", outputs)],
        offsets=offsets,
        protocol="crop",
        image="0",
    )
    frames = read_frames(tmp_path)
    assert frames is not None
    assert [dx for dx, _ in frames["offsets_px"]] == list(range(-3, MOST_SHIFTS - 3))
    width, height, cut = frames["width_px"], frames["height_px"], frames["cut"]
    assert MOST_PIXELS * 0.9 < width * height * MOST_SHIFTS <= MOST_PIXELS
    assert cut["of_px"] == [600, 260]
    assert cut["left_px"] <= 500
    assert cut["left_px"] + width >= 510
    sheet = decoded(frames["models"][0]["file"]).reshape(MOST_SHIFTS, height, width, 3)
    assert (sheet[5] == 255).sum() == 4 * 10 * 3
    assert sorted(p.name for p in tmp_path.glob("model-*")) == ["model-00.webp"]


def test_four_models_of_128_px_stay_below_two_megabytes(real_data: Path, tmp_path: Path) -> None:
    """Photographs, which have more detail than any generator's output, at eight shifts."""
    photo = sorted((real_data / "facades" / "test").iterdir())[0]
    with Image.open(photo) as image:
        half = image.convert("RGB").crop((0, 0, image.width // 2, image.height)).resize((143, 143))
    pixels = np.asarray(half)
    strips = []
    for number in range(4):
        noise = np.random.default_rng(number).normal(0, 2, (8, 128, 121, 3))
        windows = np.stack([pixels[7:135, 7:128]] * 8)
        strips.append(Strip(NAMES[number % 3], "", (windows + noise).clip(0, 255).astype(np.uint8)))
    offsets = [(d, 0) for d in range(8)]
    found = results()
    found["models"] = [model(strip.name, 20.0 + number, 1.0) for number, strip in enumerate(strips)]
    (tmp_path / "results.json").write_text(json.dumps(found))
    scene = strips[0].outputs[0]
    write_frames(
        tmp_path / "frames",
        source=scene,
        target=scene,
        strips=strips,
        offsets=offsets,
        protocol="crop",
        image="1",
    )
    assert write_report(tmp_path).stat().st_size < 2_000_000


def test_the_command_leaves_a_report(
    checkpoints: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    argv = [*map(str, checkpoints), "--shifts", "0..2", "--margins", "4", "--limit", "2", "--device", "cpu"]
    assert eval_stability([*argv, "--out", str(out)]) == 0
    assert "report.html" in capsys.readouterr().err
    page = (out / "report.html").read_bytes()
    assert write_report(out).read_bytes() == page
    frames = read_frames(out / "frames")
    assert frames is not None
    assert (frames["width_px"], frames["height_px"]) == (30, 32)  # what shifts of 0 to 2 px all show


# ---- the verdict --------------------------------------------------------------------------------------


def judged(gain: float, half: float, ratios: tuple[float, float], n_images: int = 5, **ours: Any) -> Any:
    """The verdict on one model, by `gain` above strided."""
    found = results(comparisons=[comparison("b", 99, margin_px=0), comparison("b", gain, half)])
    found["models"] = [
        model("strided", 22.0, ratios[1]),
        {**model("b", 22.0 + gain, ratios[0]), **ours},
    ]
    found["data"]["n_images"] = n_images
    return verdict(found)


@pytest.mark.parametrize(
    ("case", "headline", "sharpness"),
    [
        ((8.0, 1.0, (0.9, 0.95)), "b is more stable than strided by 8.0 dB at about equal", "fair"),
        ((8.0, 1.0, (0.4, 0.9)), "b is more stable than strided by 8.0 dB, but softer.", "stable for free"),
        ((8.0, 1.0, (0.9, 0.4)), "b is more stable than strided by 8.0 dB although", "not bought"),
        ((-3.0, 1.0, (0.9, 0.5)), "strided is more stable than b by 3.0 dB, but softer.", "2.0 to 4.0 dB"),
        ((0.3, 1.0, (0.9, 0.5)), "b and strided cannot be told apart: +0.3 dB", "b shows 90 % of"),
        ((8.0, 0.0, (0.9, 0.9), 1), "b is more stable than strided by 8.0 dB", "no interval"),
        ((128.0, 0.5, (0.9, 0.9)), "b is identical at every shift, strided keeps 22.0 dB.", "b shows 90 %"),
    ],
)  # fmt: skip
def test_the_verdict_says_who_by_how_much_and_at_which_sharpness(
    case: tuple[Any, ...], headline: str, sharpness: str
) -> None:
    said = judged(*case)
    assert said.headline.replace("\N{NO-BREAK SPACE}", " ").startswith(headline)
    assert sharpness in said.sharpness.replace("\N{NO-BREAK SPACE}", " ")
    assert "crop protocol, 4 px of border left out, shifts of -2 to 3 px to the right" in said.basis


def test_the_verdict_on_one_model_and_on_flat_targets() -> None:
    alone = results(comparisons=[])
    alone["models"] = [model("a", 22.0, 0.8)]
    said = verdict(alone)
    assert said.headline == "a keeps 22.0 dB when its input moves (95 % interval 21.5 to 22.5 dB)."
    assert "80" in said.sharpness
    alone["models"][0]["quality"]["tv_ratio"] = None
    assert "flat" in verdict(alone).sharpness


def test_further_comparisons_follow_the_largest_lead() -> None:
    said = verdict(results())
    assert said.headline.startswith(SCRIPT)
    (other,) = said.others
    assert other.startswith(f"{NAMES[2]} is more stable than strided by 9.0 dB")


# ---- in a browser -------------------------------------------------------------------------------------


class Watch:
    """What a page asked for and complained of."""

    def __init__(self, page: Any, path: Path) -> None:
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.address = path.as_uri()
        page.route("**/*", self._route)
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: (self.complaints.append("dialog"), dialog.dismiss()))

    def _route(self, route: Any) -> None:
        if route.request.url == self.address:
            route.continue_()
        else:
            self.requests.append(route.request.url)
            route.abort()


@pytest.fixture
def watch(folder: Path, page: Any) -> Watch:
    """The report, open at shift +1."""
    watching = Watch(page, write_report(folder))
    page.goto(watching.address)
    page.wait_for_selector("html[data-ready=yes]")
    return watching


@pytest.fixture
def opened(watch: Watch, page: Any) -> Iterator[Any]:
    """The page; when the test is over, nothing was fetched and nothing was complained of."""
    yield page
    assert watch.requests == []
    assert watch.complaints == []


def canvas(page: Any, tile: int | str, kind: str) -> np.ndarray:
    """The pixels of a canvas, (H, W, 4)."""
    # Read from a copy that is meant for reading: chromium warns of the page's own otherwise.
    script = """([tile, kind]) => {
        const c = document.querySelector(`[data-tile="${tile}"] canvas[data-kind="${kind}"]`);
        const copy = new OffscreenCanvas(c.width, c.height).getContext("2d", {willReadFrequently: true});
        copy.drawImage(c, 0, 0);
        return [c.height, c.width, Array.from(copy.getImageData(0, 0, c.width, c.height).data)];
    }"""
    height, width, values = page.evaluate(script, [str(tile), kind])
    return np.array(values, np.uint8).reshape(height, width, 4)


def placed(picture: np.ndarray, dx: int) -> np.ndarray:
    """A tile as the page must show it, moved `dx` px right of its place; transparent elsewhere."""
    page = np.zeros((HEIGHT, WIDTH + 5, 4), np.uint8)  # shifts of -2 to 3 px need 5 px of room
    page[:, 2 + dx : 2 + dx + WIDTH] = np.dstack([picture, np.full((HEIGHT, WIDTH), 255, np.uint8)])
    return page


def slide(page: Any, index: int) -> None:
    """Set the slider as a hand would: value, then its event."""
    script = "(s, v) => { s.value = v; s.dispatchEvent(new Event('input', {bubbles: true})); }"
    page.eval_on_selector("#slider", script, index)


@in_browser
def test_the_slider_moves_input_outputs_and_differences_together(opened: Any) -> None:
    for index, (dx, _) in enumerate(OFFSETS):
        slide(opened, index)
        assert opened.inner_text("#shift").replace("−", "-") == (f"{dx:+d} px" if dx else "0 px")
        np.testing.assert_array_equal(canvas(opened, "scene", "input"), placed(SOURCE, dx))
        np.testing.assert_array_equal(canvas(opened, "scene", "target"), placed(TARGET, dx))
        for number in range(3):
            np.testing.assert_array_equal(canvas(opened, number, "output"), placed(tiles(number)[index], dx))
        lit = canvas(opened, 1, "difference")
        assert (lit[..., 3] == placed(SOURCE, dx)[..., 3]).all()
        assert lit[..., :3].any() == (dx != 0)
        assert not canvas(opened, 0, "difference")[..., :3].any()  # the model that never changes


@in_browser
def test_scores_beside_the_pictures_are_psnr(opened: Any) -> None:
    slide(opened, 3)
    change = tiles(1)[3].astype(float) - tiles(1)[REFERENCE]
    db = 10 * np.log10(255**2 / (change**2).mean())
    words = opened.inner_text('[data-tile="1"] [data-score]').replace("\xa0", " ")
    assert words == f"difference {db:.1f} dB · all pictures {40 - 2 + 1 / 8:.1f} dB"
    assert "none, identical" in opened.inner_text('[data-tile="0"] [data-score]')


@in_browser
def test_arrow_keys_work_on_the_page_and_on_the_slider(opened: Any) -> None:
    assert opened.inner_text("#shift") == "+1 px"
    opened.keyboard.press("ArrowRight")
    assert opened.inner_text("#shift") == "+2 px"
    opened.focus("#slider")
    opened.keyboard.press("ArrowLeft")
    assert opened.inner_text("#shift") == "+1 px"
    opened.keyboard.press("End")
    opened.keyboard.press("ArrowRight")
    assert opened.inner_text("#shift") == "+3 px"
    assert opened.get_attribute("#slider", "aria-valuetext") == "+3 px"


@in_browser
def test_flicker_alternates_in_place(opened: Any) -> None:
    slide(opened, 4)
    # Time passes when the test says so: a loaded machine would miss a phase.
    opened.evaluate("""() => {
        window.setInterval = (act, ms) => { window.tick = act; window.every = ms; return 7; };
        window.clearInterval = (id) => { if (id === 7) window.tick = () => {}; };
    }""")
    opened.click("#flicker")
    assert opened.get_attribute("#flicker", "aria-pressed") == "true"
    for shown in (4, REFERENCE, 4, REFERENCE):
        assert opened.get_attribute("#tiles", "data-shown") == str(shown)
        np.testing.assert_array_equal(canvas(opened, 1, "output"), placed(tiles(1)[shown], 0))
        np.testing.assert_array_equal(canvas(opened, "scene", "input"), placed(SOURCE, 0))
        opened.evaluate("tick()")
    assert opened.evaluate("every") > 1000 / 6  # at most three flashes a second
    opened.keyboard.press("f")
    assert opened.get_attribute("#flicker", "aria-pressed") == "false"
    for _ in range(2):
        np.testing.assert_array_equal(canvas(opened, 1, "output"), placed(tiles(1)[4], 2))
        opened.evaluate("tick()")


@in_browser
def test_hold_still_moves_pictures_back(opened: Any) -> None:
    opened.click("#hold")
    for index in (0, 5):
        slide(opened, index)
        np.testing.assert_array_equal(canvas(opened, 2, "output"), placed(tiles(2)[index], 0))


@in_browser
def test_close_up_enlarges_the_place_that_was_clicked(opened: Any) -> None:
    opened.click("#hold")
    opened.click('[data-tile="1"] canvas[data-kind="output"]', position={"x": 3, "y": 3})
    assert opened.get_attribute("#zoom", "aria-pressed") == "true"
    side = min(HEIGHT, WIDTH) // 3
    found = canvas(opened, 1, "output")
    np.testing.assert_array_equal(found[..., :3], tiles(1)[3][:side, :side])
    opened.keyboard.press("z")
    assert canvas(opened, 1, "output").shape == (HEIGHT, WIDTH + 5, 4)


def order(page: Any) -> list[int]:
    """The models in the table's order."""
    cells = page.eval_on_selector_all("#figures tbody th", "cells => cells.map(c => c.dataset.value)")
    return [NAMES.index(cell) for cell in cells]


@in_browser
def test_the_table_sorts_by_click_and_by_keyboard(opened: Any) -> None:
    headings = opened.locator("#figures thead th")
    assert order(opened) == [0, 1, 2]
    headings.nth(1).locator("button").click()
    assert order(opened) == [1, 2, 0]  # the most stable first
    assert headings.nth(1).get_attribute("aria-sort") == "descending"
    headings.nth(1).locator("button").press("Enter")
    assert order(opened) == [0, 2, 1]
    assert headings.nth(1).get_attribute("aria-sort") == "ascending"
    headings.nth(3).locator("button").press("Space")
    assert order(opened) == [1, 2, 0]  # the lowest L1 first
    assert headings.nth(1).get_attribute("aria-sort") == "none"


@in_browser
def test_charts_tell_values_and_lead_the_slider(opened: Any) -> None:
    plot = opened.locator("[data-panel]").first
    values = opened.locator(".chart .values").first
    assert plot.locator("polyline").count() == 3 * 2  # left and right of shift 0
    box = plot.bounding_box()
    plot.hover(position={"x": box["width"] - 14, "y": 60})
    assert "+3 px" in values.inner_text()
    assert f"{22 + 3 / 8:.2f} dB" in values.inner_text()
    assert f"[{22 + 3 / 8 - 0.5:.2f}, {22 + 3 / 8 + 0.5:.2f}]" in values.inner_text()
    plot.focus()
    opened.keyboard.press("ArrowLeft")
    assert "+2 px" in values.inner_text()
    assert opened.inner_text("#shift") == "+2 px"


@in_browser
def test_maps_tell_values(opened: Any) -> None:
    plot = opened.locator("[data-map]").first
    plot.focus()
    says = opened.locator("#map-list .values").first
    assert says.inner_text() == "dx +1, dy 0: 22.00 dB"
    opened.keyboard.press("ArrowDown")
    assert says.inner_text() == "dx +1, dy +1: 150.00 dB"
    plot.hover(position={"x": 45, "y": 10})
    assert says.inner_text() == "dx 0, dy 0: nothing moves"


@in_browser
def test_names_are_shown_and_never_run(opened: Any) -> None:
    assert opened.locator("script").count() == 2
    for name in NAMES:
        assert name in opened.locator("#figures").inner_text()
        assert name in opened.locator("#map-list").inner_text()
        assert name in opened.locator(".values").first.inner_text()


@in_browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_phones_need_not_scroll_sideways_and_themes_switch(opened: Any, theme: str) -> None:
    opened.emulate_media(color_scheme=theme)
    opened.set_viewport_size({"width": 360, "height": 740})
    assert opened.evaluate("document.documentElement.scrollWidth") == 360
    tops = "tiles => tiles.map(t => t.getBoundingClientRect().top)"
    first, second = opened.eval_on_selector_all('.tile:not([data-tile="scene"])', tops)[:2]
    assert first == second  # two models side by side
    paper = "getComputedStyle(document.body).backgroundColor"
    before = opened.evaluate(paper)
    assert (before == "rgb(255, 255, 255)") == (theme == "light")
    opened.click("#theme")
    assert (opened.evaluate(paper) == "rgb(255, 255, 255)") == (theme == "dark")


@in_browser
def test_print_leaves_out_what_only_a_screen_can_do(opened: Any) -> None:
    opened.emulate_media(media="print", color_scheme="dark")
    assert not opened.locator("#slider").is_visible()
    assert not opened.locator("#theme").is_visible()
    assert opened.locator('[data-tile="1"] canvas').first.is_visible()
    assert opened.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


@in_browser
def test_the_policy_keeps_the_page_from_fetching(watch: Watch, page: Any) -> None:
    """Also shows that a complaint would be seen."""
    page.evaluate("document.body.append(Object.assign(new Image(), {src: 'https://example.invalid/x.png'}))")
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=data: onerror=alert(1)>')")
    page.wait_for_timeout(200)
    assert watch.requests == []
    assert "dialog" not in watch.complaints
    assert any("example.invalid" in complaint for complaint in watch.complaints)


@in_browser
def test_a_page_without_pictures_works(folder: Path, page: Any) -> None:
    shutil.rmtree(folder / "frames")
    watching = Watch(page, write_report(folder))
    page.goto(watching.address)
    page.locator("[data-panel]").first.hover()
    page.locator("#figures thead button").nth(1).click()
    assert order(page) == [1, 2, 0]
    assert (watching.requests, watching.complaints) == ([], [])
