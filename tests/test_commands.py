"""The commands as a user runs them: results, exit codes, and one line for what is wrong."""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import train_pix2pix
from steadypix.checkpoints.generate import main as generate
from steadypix.data.cli import main as steadypix_data
from steadypix.errors import one_line
from steadypix.eval.eval_stability import main as eval_stability
from tests.cli import FAST, TINY, Capture, one_error_line
from tests.conftest import REPOSITORY, tiny_config, write_checkpoint

pytestmark = pytest.mark.slow

TINY += ["--discriminator.ndf=4", "--discriminator.n_layers=1", "--train.epochs=1", "--device=cpu"]


def size_of(path: Path) -> tuple[int, int]:
    """Width and height of a picture in px."""
    with Image.open(path) as image:
        return image.size


# ---- train_pix2pix ----------------------------------------------------------------------------------


def test_the_grid_without_originals(checkpoints: list[Path], tmp_path: Path) -> None:
    """Input and target leave their places at the top; all else is drawn as before."""
    run = [str(checkpoints[0]), "--shifts", "0..1", "--margins", "0", "--device", "cpu", "--limit", "1"]
    assert eval_stability([*run, "--out", str(tmp_path / "all")]) == 0
    assert eval_stability([*run, "--no-originals", "--out", str(tmp_path / "outputs")]) == 0
    with (
        Image.open(tmp_path / "all" / "grid.png") as one,
        Image.open(tmp_path / "outputs" / "grid.png") as two,
    ):
        whole, part = np.array(one.convert("L")), np.array(two.convert("L"))
    assert whole.shape == part.shape
    differs = np.argwhere(whole != part)
    assert differs[:, 0].max() < 24 + 24 + 272 + 8  # edge, title, whole picture

    inked = [(picture[60:250] < 250).any(axis=0).sum() for picture in (whole, part)]
    assert inked[1] < 0.5 * inked[0]


def test_train_then_evaluate_then_generate(pair_folder: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "run"
    assert train_pix2pix.main([*TINY, "--data.root", str(pair_folder), "--out", str(out)]) == 0
    # A checkpoint knows its data, direction and sizes: no flag is repeated.
    assert eval_stability([str(out), *FAST, "--out", str(tmp_path / "results")]) == 0
    assert capsys.readouterr().out.startswith("model")
    source = pair_folder / "test" / "1.png"
    assert generate([str(out), str(source), "--out", str(tmp_path / "made"), "--device", "cpu"]) == 0
    assert size_of(tmp_path / "made" / "1.png") == (96, 48)


def test_training_on_synthetic_pairs_by_default(tmp_path: Path) -> None:
    argv = [*TINY, "--data.synthetic_count=4", "--train.val_limit=1", "--out", str(tmp_path / "run")]
    assert train_pix2pix.main(argv) == 0
    assert (tmp_path / "run" / "samples" / "epoch-0001.png").exists()


@pytest.mark.parametrize(
    ("argv", "culprits"),
    [
        (["--data.root", "nowhere"], ["nowhere", "no such folder"]),
        (["--generator.nfg", "3"], ["generator.nfg"]),
        (["--generator.ngf", "wide"], ["generator.ngf", "wide"]),
        (["--init", "missing.safetensors"], ["missing.safetensors"]),
        (["--resume", "elsewhere"], ["elsewhere"]),
        (["--config", "facade"], ["facade", "demo, demo-paper, facades"]),
    ],
)
def test_train_refuses(argv: list[str], culprits: list[str], tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "run"
    assert train_pix2pix.main([*TINY, "--data.synthetic_count=2", "--out", str(out), *argv]) == 2
    one_error_line(capsys, *culprits)
    assert not (out / "generator.safetensors").exists()


def test_print_config_can_be_read_back(tmp_path: Path, capsys: Capture) -> None:
    with pytest.raises(SystemExit, match="0"):
        train_pix2pix.main(["--config", "demo", "--print_config"])
    (tmp_path / "own.yaml").write_text(capsys.readouterr().out)
    with pytest.raises(SystemExit, match="0"):
        train_pix2pix.main(["--config", str(tmp_path / "own.yaml"), "--help"])


# ---- eval_stability ---------------------------------------------------------------------------------


def evaluate(checkpoints: list[Path], out: Path, *more: str) -> dict:
    assert eval_stability([*map(str, checkpoints), *FAST, "--out", str(out), *more]) == 0
    return json.loads((out / "results.json").read_text())


def test_results_hold_what_they_promise(checkpoints: list[Path], tmp_path: Path, capsys: Capture) -> None:
    results = evaluate(checkpoints, tmp_path / "o", "--protocol", "crop,roll", "--map", "--worst", "2")
    table = capsys.readouterr().out
    assert results["schema_version"] == 1
    assert results["data"]["n_images"] == 3
    assert results["data"]["window_px"] == 32
    assert [model["name"] for model in results["models"]] == ["strided", "blur"]
    for model in results["models"]:
        assert len(model["sha256"]) == 64
        crop = model["stability"]["crop"]
        assert list(crop) == ["0", "4"]
        assert [row["dx"] for row in crop["4"]["per_shift"]] == [1, 2, 3]
        low, high = crop["4"]["odd_mean_db"]["ci95"]
        assert low <= crop["4"]["odd_mean_db"]["mean"] <= high
        assert list(model["stability"]["roll"]) == ["0"]
        shape = np.array(model["map"]["crop"]["mean_db"], dtype=float).shape
        assert shape == (4, 4)
        assert model["map"]["crop"]["mean_db"][0][1] == pytest.approx(crop["4"]["per_shift"][0]["mean_db"])
        assert model["quality"]["l1"]["mean"] > 0
        assert model["name"] in table
    gains = {(row["protocol"], row["margin_px"]): row["gain_db"] for row in results["comparisons"]}
    strided, blur = (model["stability"]["crop"]["4"]["odd_mean_db"]["mean"] for model in results["models"])
    assert gains["crop", 4]["mean"] == pytest.approx(blur - strided)
    assert len(results["worst"]["blur"]) == 2
    rows = list(csv.DictReader(io.StringIO((tmp_path / "o" / "results.csv").read_text())))
    assert len(rows) == 2 * (2 + 1) * 3
    names = {path.name for path in (tmp_path / "o").iterdir()}
    pictures = {"grid.png", "flicker.webp", "curve.png", "map.png", "tradeoff.png", "frames"}
    assert names == {"results.json", "results.csv", "report.html", *pictures}


def test_the_same_command_gives_the_same_numbers(checkpoints: list[Path], tmp_path: Path) -> None:
    first = evaluate(checkpoints, tmp_path / "a")
    second = evaluate(checkpoints, tmp_path / "a")
    assert {**first, "created": 0} == {**second, "created": 0}
    other = evaluate(checkpoints, tmp_path / "b", "--batch_size", "3", "--workers", "1")
    ours, theirs = (r["models"][1]["stability"]["crop"]["4"]["mean_db"]["mean"] for r in (first, other))
    assert ours == pytest.approx(theirs, abs=1e-3)


def test_json_and_fail_under(checkpoints: list[Path], tmp_path: Path, capsys: Capture) -> None:
    argv = [*map(str, checkpoints), *FAST, "--out", str(tmp_path / "o"), "--json", "--limit", "1"]
    assert eval_stability([*argv, "--fail-under", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["data"]["n_images"] == 1
    assert eval_stability([*argv, "--fail-under", "149"]) == 1
    assert "below --fail-under" in capsys.readouterr().err


@pytest.mark.parametrize("axis", ["y", "diagonal"])
def test_other_axes_and_negative_shifts(checkpoints: list[Path], tmp_path: Path, axis: str) -> None:
    argv = [str(checkpoints[0]), "--shifts", "-2..2", "--axis", axis, "--margins", "4", "--device", "cpu"]
    assert eval_stability([*argv, "--out", str(tmp_path / "o")]) == 0
    rows = json.loads((tmp_path / "o" / "results.json").read_text())["models"][0]
    shifts = [(row["dx"], row["dy"]) for row in rows["stability"]["crop"]["4"]["per_shift"]]
    assert shifts == [(d if axis != "y" else 0, d) for d in (-2, -1, 1, 2)]


def test_even_shifts_alone(checkpoints: list[Path], tmp_path: Path, capsys: Capture) -> None:
    argv = [*map(str, checkpoints), "--shifts", "2", "--margins", "0", "--device", "cpu"]
    assert eval_stability([*argv, "--out", str(tmp_path / "o")]) == 0
    assert "all shifts" in capsys.readouterr().out


def test_without_checkpoints_all_below_the_folder_are_taken(
    checkpoints: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    for number, file in enumerate(checkpoints):
        run = home / "checkpoints" / f"run{number}"
        run.mkdir(parents=True)
        (run / "generator.safetensors").write_bytes(file.read_bytes())
        (run / "generator-0005.safetensors").write_bytes(file.read_bytes())
        (run / "last").mkdir()
        (run / "last" / "state.safetensors").write_bytes(b"not a generator")
    monkeypatch.chdir(home)
    assert eval_stability([*FAST, "--limit", "1"]) == 0
    results = json.loads((home / "results" / "results.json").read_text())
    assert [model["name"] for model in results["models"]] == ["run0", "run1"]


def test_seams_are_warned_of(checkpoints: list[Path], tmp_path: Path, capsys: Capture) -> None:
    evaluate(checkpoints[:1], tmp_path / "o", "--protocol", "roll", "--limit", "1")
    assert "seam" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "culprits"),
    [
        (["--shifts", "0-7"], ["'0-7'", "0..7"]),
        (["--shifts", "0..20"], ["shift 5 px", "expected -4..4"]),
        (["--shifts", "0..20", "--protocol", "roll"], []),
        (["--shifts", "40", "--protocol", "roll"], ["40", "32 px"]),
        (["--shifts", "0"], ["shift 0 alone"]),
        (["--protocol", "zoom"], ["zoom", "crop, roll"]),
        (["--margins", "a"], ["'a'"]),
        (["--data", "nowhere"], ["nowhere"]),
        (["--split", "dev"], ["dev"]),
        (["--fail-under", "nan"], ["nan"]),
        (["--fail-under", "3", "--shifts", "2,4"], ["odd"]),
        (["--margins", "14,15", "--shifts", "0..4"], ["margin 1", "nothing is left"]),
        (["--axis", "z"], ["z"]),
        (["--limit", "0"], ["'0'"]),
        (["--device", "tpu"], ["tpu"]),
        (["--nonsense"], ["--nonsense"]),
    ],
)
def test_eval_refuses(
    checkpoints: list[Path], tmp_path: Path, capsys: Capture, argv: list[str], culprits: list[str]
) -> None:
    code = eval_stability([str(checkpoints[0]), "--out", str(tmp_path / "o"), "--device", "cpu", *argv])
    if not culprits:
        assert code == 0
        return
    assert code == 2
    one_error_line(capsys, *culprits)
    assert not (tmp_path / "o" / "results.json").exists()


def test_checkpoints_that_cannot_be_used(
    checkpoints: list[Path], tmp_path: Path, capsys: Capture, pair_folder: Path
) -> None:
    good = checkpoints[0]
    bomb = tmp_path / "bomb.safetensors"
    bomb.write_bytes(pickle.dumps({"weights": 1}))
    torch.save({"weights": torch.zeros(2)}, tmp_path / "zip.pth")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    other = tmp_path / "other.safetensors"
    config = tiny_config(pair_folder)
    write_checkpoint(other, config)
    text = other.read_bytes().replace(b'\\"num_downs\\": 3', b'\\"num_downs\\": 4')
    assert text != other.read_bytes()
    other.write_bytes(text)
    for file, word in (
        (bomb, "pickle"),
        (tmp_path / "zip.pth", "pytorch-CycleGAN-and-pix2pix"),
        (cut, "cut short"),
        (other, "architecture"),
        (tmp_path / "missing.safetensors", "no such checkpoint"),
        (tmp_path, "no such checkpoint"),
    ):
        assert eval_stability([str(file), "--out", str(tmp_path / "o")]) == 2
        one_error_line(capsys, file.name, word)
    assert eval_stability([str(good), str(good), "--out", str(tmp_path / "o")]) == 2
    one_error_line(capsys, "named twice")


def test_checkpoints_of_different_data_need_a_word(
    checkpoints: list[Path], tmp_path: Path, capsys: Capture, pair_folder: Path
) -> None:
    stranger = write_checkpoint(tmp_path / "stranger.safetensors", tiny_config(tmp_path / "elsewhere"))
    argv = [str(checkpoints[0]), str(stranger), *FAST, "--out", str(tmp_path / "o")]
    assert eval_stability(argv) == 2
    one_error_line(capsys, "stranger", "--data")
    assert eval_stability([*argv, "--data", str(pair_folder)]) == 0


@pytest.mark.parametrize("workers", ["0", "1"])
def test_unreadable_pictures_are_named(
    checkpoints: list[Path], pair_folder: Path, capsys: Capture, workers: str
) -> None:
    (pair_folder / "test" / "2.png").write_text("not a picture")
    argv = [str(checkpoints[0]), *FAST, "--workers", workers, "--out", str(pair_folder / "o")]
    assert eval_stability(argv) == 2
    line = one_error_line(capsys, "2.png", "not an image")
    assert "DataLoader" not in line
    # What was measured before is kept for the next try; nothing else is there.
    assert {path.name for path in (pair_folder / "o").iterdir()} <= {"partial-0-of-1.jsonl"}


def test_one_picture_has_no_interval(checkpoints: list[Path], tmp_path: Path, capsys: Capture) -> None:
    results = evaluate(checkpoints, tmp_path / "o", "--limit", "1")
    assert results["models"][0]["stability"]["crop"]["4"]["mean_db"]["ci95"] is None
    assert "±" not in capsys.readouterr().out


def test_foreign_weights_below_the_folder_are_passed_over(
    checkpoints: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    (home / "checkpoints").mkdir(parents=True)
    (home / "checkpoints" / "mine.safetensors").write_bytes(checkpoints[0].read_bytes())
    save_file({"lora": torch.zeros(2)}, home / "checkpoints" / "lora.safetensors")
    monkeypatch.chdir(home)
    assert eval_stability([*FAST, "--limit", "1"]) == 0


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'\\"load_size\\": 40', b'\\"load_size\\": -1'),
        (b'\\"crop_size\\": 32', b'\\"crop_size\\": 99'),
        (b'\\"direction\\": \\"BtoA\\"', b'\\"direction\\": [[[[[]]]]]'),
        (b'\\"data\\": {', b'\\"dara\\": {'),
    ],
)
def test_hostile_metadata_is_refused(
    checkpoints: list[Path], tmp_path: Path, capsys: Capture, old: bytes, new: bytes
) -> None:
    text = checkpoints[0].read_bytes()
    assert old in text
    padded = new + b" " * (len(old) - len(new))
    checkpoints[0].write_bytes(text.replace(old, padded))
    assert eval_stability([str(checkpoints[0]), *FAST, "--out", str(tmp_path / "o")]) == 2
    one_error_line(capsys, "strided.safetensors")


def test_unwritable_output(checkpoints: list[Path], tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "file").write_text("in the way")
    for out in (tmp_path / "file", tmp_path / "file" / "deeper"):
        assert eval_stability([str(checkpoints[0]), *FAST, "--out", str(out)]) == 2
        one_error_line(capsys, str(tmp_path / "file"))
        assert train_pix2pix.main([*TINY, "--data.synthetic_count=2", "--out", str(out)]) == 2
        one_error_line(capsys, str(tmp_path / "file"))


# ---- generate ---------------------------------------------------------------------------------------


def test_generate_takes_folders_and_any_size(checkpoints: list[Path], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / "in"
    folder.mkdir()
    sizes = {"a": (17, 33), "b": (64, 40), "c": (1, 5)}
    for name, size in sizes.items():
        Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).save(folder / f"{name}.png")
    argv = [str(checkpoints[1]), str(folder), "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert generate(argv) == 0
    for name, size in sizes.items():
        assert size_of(tmp_path / "out" / f"{name}.png") == size


def test_a_picture_in_parts_is_the_picture(
    tmp_path: Path, pair_folder: Path, checkpoints: list[Path]
) -> None:
    """Instance norm looks at the whole picture; 8 bits leave a step of 1 where sums end beside a half."""
    pixels = np.random.default_rng(0).integers(0, 256, (170, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "big.png")
    made = {}
    ways = {"whole": [], "parts": ["--tile", "32"], "tiles": ["--tile", "32", "--statistics", "tile"]}
    for name, more in ways.items():
        argv = [
            str(checkpoints[1]),
            str(tmp_path / "big.png"),
            "--out",
            str(tmp_path / name),
            "--device",
            "cpu",
        ]
        assert generate([*argv, *more]) == 0
        made[name] = np.asarray(Image.open(tmp_path / name / "big.png")).astype(int)
    assert made["whole"].shape == made["tiles"].shape == (170, 90, 3)
    apart = np.abs(made["whole"] - made["parts"])
    assert apart.max() <= 1
    assert apart.mean() < 0.001
    assert np.abs(made["whole"] - made["tiles"]).max() > 1


def test_blended_tiles_cover_the_picture(tmp_path: Path, pair_folder: Path) -> None:
    """A network without norm and with small reach: inside a tile, tiling changes nothing."""
    from steadypix.configs.schema import GeneratorConfig

    config = tiny_config(pair_folder, generator=GeneratorConfig(ngf=4, num_downs=1, norm="none"))
    checkpoint = write_checkpoint(tmp_path / "small.safetensors", config)
    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "big.png")
    for name, more in (("whole", []), ("tiled", ["--tile", "32", "--statistics", "tile"])):
        argv = [str(checkpoint), str(tmp_path / "big.png"), "--out", str(tmp_path / name), "--device", "cpu"]
        assert generate([*argv, *more]) == 0
    whole, tiled = (np.asarray(Image.open(tmp_path / n / "big.png")).astype(int) for n in ("whole", "tiled"))
    assert whole.shape == tiled.shape == (70, 90, 3)
    assert np.abs(whole - tiled).max() <= 2


def test_generate_goes_on_past_a_bad_picture(
    checkpoints: list[Path], pair_folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    (pair_folder / "test" / "2.png").write_text("not a picture")
    argv = [str(checkpoints[0]), str(pair_folder / "test"), "--out", str(tmp_path / "o"), "--device", "cpu"]
    assert generate(argv) == 2
    err = capsys.readouterr().err
    assert "2.png" in err
    assert "wrote 2 of 3" in err
    assert {path.name for path in (tmp_path / "o").iterdir()} == {"1.png", "3.png"}


def test_generate_refuses(
    checkpoints: list[Path], pair_folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = ["--out", str(tmp_path / "o")]
    picture = str(pair_folder / "test" / "1.png")
    other = str(pair_folder / "train" / "1.png")
    (tmp_path / "empty").mkdir()
    for argv, culprit in (
        ([str(checkpoints[0]), "nowhere.png", *out], "nowhere.png"),
        ([str(checkpoints[0]), picture, other, *out], "overwrite"),
        ([str(checkpoints[0]), picture, "--out", str(pair_folder / "test")], "overwritten"),
        ([str(checkpoints[0]), str(tmp_path / "empty"), *out], "no images"),
        ([str(checkpoints[0]), picture, "--tile", "8", *out], "32 px"),
        (["missing.safetensors", picture, *out], "missing.safetensors"),
    ):
        assert generate(argv) == 2
        one_error_line(capsys, culprit)


# ---- steadypix_data ---------------------------------------------------------------------------------


def test_data_writes_pairs_that_the_reader_reads(tmp_path: Path, capsys: Capture) -> None:
    argv = ["synthetic", "maps", "--out", str(tmp_path / "maps"), "--train", "2", "--test", "1"]
    assert steadypix_data([*argv, "--size", "32"]) == 0
    assert size_of(tmp_path / "maps" / "train" / "2.png") == (64, 32)
    assert steadypix_data(["check", str(tmp_path / "maps")]) == 0
    (tmp_path / "maps" / "train" / "1.png").write_bytes(b"cut")
    assert steadypix_data(["check", str(tmp_path / "maps")]) == 2
    assert "1.png" in capsys.readouterr().out
    assert steadypix_data(["sheet", "maps", "--out", str(tmp_path / "s.png"), "--count", "2"]) == 0
    assert size_of(tmp_path / "s.png")[0] > 500


def test_data_refuses(tmp_path: Path, capsys: Capture) -> None:
    assert steadypix_data(["check", str(tmp_path / "nowhere")]) == 2
    one_error_line(capsys, "nowhere")
    assert steadypix_data(["synthetic", "cars", "--out", str(tmp_path)]) == 2
    one_error_line(capsys, "cars")


# ---- as installed -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["train_pix2pix", "eval_stability", "generate", "steadypix_data"])
def test_console_scripts_work_in_a_foreign_folder(name: str, tmp_path: Path) -> None:
    script = Path(sys.executable).parent / name
    if not script.exists():
        pytest.skip("steadypix is not installed in this environment")
    for argv, code in ((["--help"], 0), (["--version"], 0), (["--no_such"], 2)):
        run = subprocess.run([script, *argv], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert run.returncode == code, run.stderr
    assert run.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_released_generators_work_right_after_the_install(tmp_path: Path) -> None:
    """No checkpoint, no data, an empty folder: the released ones are measured."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    argv = ["--shifts", "0..7", "--limit", "4", "--device", "cpu"]
    run = subprocess.run(
        [sys.executable, "-m", "steadypix.eval.eval_stability", *argv],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    results = json.loads((tmp_path / "results" / "results.json").read_text())
    scores = {
        model["generator"]["sampling"]: model["stability"]["crop"]["16"]["odd_mean_db"]["mean"]
        for model in results["models"]
    }
    assert scores["blur"] > scores["strided"] + 2
    assert scores["blur_late"] > scores["strided"] + 6


# ---- names and messages that are no text ------------------------------------------------------------


def test_messages_are_one_printable_line_of_a_length_to_read() -> None:
    assert one_line(ValueError("a\n  b\x1b[2J\udcff\u202e\x00 é")) == r"a b\x1b[2J\udcff\u202e\x00 é"
    assert one_line(FileNotFoundError(2, "No such file", "\x1b]0;x\x07")) == r"\x1b]0;x\x07: No such file"
    long = one_line(ValueError("x" * 10_000 + "end"))
    assert len(long) < 2100
    assert long.endswith("xend")


def test_names_that_are_no_text_end_no_evaluation(
    checkpoints: list[Path], pair_folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    """Linux takes any bytes as a name; results.json, the page and the table are UTF-8."""
    odd = tmp_path / os.fsdecode(b"odd-\xff")
    try:
        (odd / "test").mkdir(parents=True)
    except OSError:
        pytest.skip("this file system takes no such name")
    (odd / "test" / os.fsdecode(b"\xfe.png")).write_bytes((pair_folder / "test" / "1.png").read_bytes())
    results = evaluate(checkpoints, tmp_path / "o", "--data", str(odd), "--worst", "1")
    assert results["data"]["source"].endswith("odd-?")
    assert "odd-?" in (tmp_path / "o" / "report.html").read_text(encoding="utf-8")
    assert "moves most on ?" in capsys.readouterr().out
    file = odd / "net.safetensors"
    file.write_bytes(checkpoints[0].read_bytes())
    assert eval_stability([str(file), "--out", str(tmp_path / "o")]) == 2
    assert r"odd-\udcff/net.safetensors: has a name" in one_error_line(capsys, "error")
