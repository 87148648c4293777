"""`make reproduce`: the comparison at equal sharpness, and the whole of it on a few painted pairs."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import train_pix2pix
from reproduce.__main__ import main
from reproduce.document import write_page
from reproduce.measuring import MeasuringFailed, evaluate, measured
from reproduce.page import Page
from reproduce.plan import SCALES, STUDIES, VARIANTS, Run, counterpart, runs
from reproduce.sharpness import Point, at_sharpness
from reproduce.training import _train_one, discriminator_loss, epoch_of, is_done, recipe, train
from steadypix.configs.load import build_parser, parse
from steadypix.configs.schema import DiscriminatorConfig, RunConfig
from steadypix.data.cli import write_pairs
from steadypix.errors import InputError
from steadypix.eval.eval_stability import main as eval_stability
from steadypix.eval.results.lead import lead_score_db
from tests.cli import one_error_line
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow

# --- at equal sharpness ------------------------------------------------------------------------------


def point(epoch: float, tv: float, db: float) -> Point:
    return Point(epoch, tv, db, db - 1, db + 2)


def test_between_two_checkpoints_stability_is_linear_in_sharpness() -> None:
    found = at_sharpness([point(5, 0.04, 46), point(10, 0.06, 36)], 0.045)
    assert found is not None
    assert (found.epoch, found.db) == pytest.approx((6.25, 43.5))
    assert (found.low_db, found.high_db) == pytest.approx((42.5, 45.5))


def test_the_last_passage_counts() -> None:
    run = [point(5, 0.04, 46), point(10, 0.08, 30), point(15, 0.04, 44), point(20, 0.08, 28)]
    found = at_sharpness(run, 0.06)
    assert found is not None
    assert found.db == pytest.approx(36)
    assert found.epoch == pytest.approx(17.5)


@pytest.mark.parametrize("tv", [0.03, 0.09])
def test_a_level_never_reached_is_not_made_up(tv: float) -> None:
    assert at_sharpness([point(5, 0.04, 46), point(10, 0.08, 30)], tv) is None
    assert at_sharpness([point(5, tv, 46)], tv) is None  # nothing between two
    assert at_sharpness([], tv) is None


@given(
    st.lists(st.tuples(st.floats(0.01, 0.1), st.floats(20, 50)), min_size=2, max_size=8), st.floats(0.01, 0.1)
)
def test_it_lies_between_its_neighbours(run: list[tuple[float, float]], tv: float) -> None:
    points = [point(epoch, *pair) for epoch, pair in enumerate(run)]
    found = at_sharpness(points, tv)
    tvs, dbs = zip(*run, strict=True)
    if found is None:
        assert not min(tvs) <= tv <= max(tvs)
    else:
        assert min(dbs) - 1e-9 <= found.db <= max(dbs) + 1e-9


# --- the plan ---------------------------------------------------------------------------------------


def configuration(run: Run) -> tuple[RunConfig, argparse.Namespace]:
    parser = build_parser("train_pix2pix", "")
    parser.add_argument("--out")
    return parse(parser, run.words(Path("data"), Path("runs")))


@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize("scale", SCALES)
def test_every_run_has_a_configuration_and_a_folder_of_its_own(study: str, scale: str) -> None:
    folders = set()
    for run in runs(study, scale):
        config, rest = configuration(run)
        assert config.data.direction == ("AtoB" if study == "maps" else "BtoA")
        assert config.train.epochs == run.epochs
        if study == "facades":
            assert run.epochs == SCALES[scale].epochs * VARIANTS[run.variant].length
        assert config.seed == run.seed
        folders.add(rest.out)
    assert len(folders) == len(list(runs(study, scale)))


@pytest.mark.parametrize("variant", VARIANTS)
def test_gains_are_counted_before_one_discriminator(variant: str) -> None:
    kinds = [
        configuration(Run("facades", "cpu", name, 0))[0]
        for name in (variant, counterpart(variant, "baseline"))
    ]
    # They see the same; one variant's own layers are anti-aliased.
    seen = [dataclasses.replace(kind.discriminator, filter=None) for kind in kinds]
    assert seen[0] == seen[1]
    assert kinds[1].discriminator.filter is None
    assert kinds[1].generator.sampling == "strided"


def test_full_is_the_papers_recipe() -> None:
    config, _ = configuration(Run("facades", "full", "bin5_published", 0))
    assert config.discriminator == DiscriminatorConfig()
    assert (config.data.load_size, config.data.crop_size, config.batch_size) == (286, 256, 1)
    assert (config.generator.ngf, config.generator.num_downs, config.train.epochs) == (64, 8, 200)
    assert (config.generator.sampling, config.generator.filter) == ("blur", "bin5")
    assert config.loss.lambda_l1 == 100


# --- all of it ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for split, count in (("train", 4), ("test", 3)):
        write_pairs("facades", split, folder / "facades", count=count, size=40, seed=0)
    return folder


@contextlib.contextmanager
def one_process() -> Iterator[None]:
    """What follows trains and evaluates in this process: most of a small one's time is spent on imports."""

    def evaluate_here(command: list[str], **_: object) -> argparse.Namespace:
        assert command[:3] == [sys.executable, "-m", "steadypix.eval.eval_stability"]
        return argparse.Namespace(returncode=eval_stability(command[3:]))

    def train_here(words: list[str], left_s: float | None) -> bool:
        assert left_s is None
        return train_pix2pix.main(words) == 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reproduce.measuring.subprocess.run", evaluate_here)
        patch.setattr("reproduce.training._train_one", train_here)
        yield


def test_it_trains_measures_and_writes_and_goes_on(data: Path, tmp_path: Path) -> None:
    runs_folder, out = tmp_path / "runs", tmp_path / "results"
    words = ["--data", str(data), "--scale", "smoke", "--runs", str(runs_folder), "--out", str(out)]

    # No time: nothing is trained, and the exit code says that there is more.
    assert main([*words, "--only", "baseline-0", "--minutes", "0"]) == 3
    assert not runs_folder.exists()

    # In processes of their own, as users run it.
    assert main([*words, "--only", "baseline-0", "--stages", "train"]) == 0
    (run,) = (run for run in runs("facades", "smoke") if run.name == "baseline-0")
    last = [run.directory(runs_folder) / "generator.safetensors"]
    evaluate(last, "facades", data=data, out=measured(runs_folder, "facades", "smoke") / run.name / "2")
    with one_process():
        the_rest(words, runs_folder, out)


def the_rest(words: list[str], runs_folder: Path, out: Path) -> None:
    """All other stages, and further runs, on what is there of the first."""
    results = runs_folder / "facades-smoke" / "measured" / "baseline-0" / "2" / "results.json"
    written = results.stat().st_mtime_ns
    assert main([*words, "--only", "baseline-0"]) == 0
    assert results.stat().st_mtime_ns == written
    first = (out / "facades-smoke.md").read_text()
    assert "| baseline (strided) | 0 |" in first
    assert "Not trained to the end yet: Bin-5, seed 0;" in first

    assert main([*words, "--only", "baseline-0,bin5-0"]) == 0
    second = (out / "facades-smoke.md").read_text()
    assert "| Bin-5 | 0 |" in second
    assert "## At equal sharpness" in second
    assert results.stat().st_mtime_ns == written  # what is known is not measured again
    row = json.loads(results.read_text())["models"][0]
    stability = lead_score_db(row)
    assert f"| baseline (strided), seed 0 | 2 | {stability:.2f} |" in second
    assert main([*words, "--only", "bin5-0"]) == 0
    # The page has all that there are, whatever was asked.
    assert (out / "facades-smoke.md").read_text() == second
    for name in ("grid.png", "curve.png", "tradeoff.png", "map.png"):
        assert (out / "facades-smoke" / name).stat().st_size > 1000
        assert f"(facades-smoke/{name})" in second
    assert not (out / "facades-smoke" / "discriminators.png").exists()

    assert main([*words, "--only", "bin5_soft-0"]) == 0
    third = (out / "facades-smoke.md").read_text()
    assert "(facades-smoke/discriminators.png)" in third
    assert "| Bin-5, discriminator on `bin5`-filtered pictures | 0 |" in third
    assert "or through bin5 where a row says so" in third
    assert "| Bin-5, discriminator on `bin5`-filtered pictures, seed 0 | 2 |" in third


def test_other_movements_have_a_table_of_their_own() -> None:
    results = json.loads(
        (REPOSITORY / "docs" / "results" / "paper-size" / "results.json").read_text(encoding="utf-8")
    )
    row = {**results["models"][0], "epoch": 16.0, "n_images": 106}
    row["stability"]["subpixel"] = {
        "16": {"per_shift": [{"dx": 0.5, "mean_db": 30.25}, {"dx": 1, "mean_db": 50.0}]}
    }
    row["pan"] = [{"speed_px": 0.5, "difference_db": {"mean": 31.5, "ci95": None}}]
    page = Page("steady", "cpu", {"baseline_published-0": [row]}, {}, "make", {}, {})
    assert "## Other movements" not in write_page(page)
    text = write_page(dataclasses.replace(page, finals={"baseline_published-0": row}))
    assert "| shifted by 0.5 px, 16 px of margin [dB] | panning at 0.5 px a frame [dB] |" in text
    assert "| baseline, published discriminator | 0 | 30.25 | 31.50 |" in text
    other = dataclasses.replace(page, study="facades", finals={"baseline_published-0": row})
    assert "## Other movements" not in write_page(other)


def test_a_training_stops_in_time_and_goes_on(data: Path, tmp_path: Path) -> None:
    run = Run("facades", "smoke", "baseline", 0)
    assert epoch_of(run, tmp_path) == 0
    assert not train([run], data=data, root=tmp_path, minutes=0.1 / 60)  # while it is still importing
    assert epoch_of(run, tmp_path) == 0
    longer = [*run.words(data, tmp_path), "--train.epochs", "100000"]
    state = run.directory(tmp_path) / "last" / "state.safetensors"
    for seconds in (4, 8, 16, 32, 64):  # until a busy machine has come to its first steps
        assert not _train_one(longer, seconds)
        if state.exists():
            break
    assert state.exists()

    shutil.rmtree(run.directory(tmp_path))
    assert train([run], data=data, root=tmp_path, minutes=None)
    assert is_done(run, tmp_path)
    assert epoch_of(run, tmp_path) == 2
    assert train([run], data=data, root=tmp_path, minutes=0)  # nothing is left to do

    # A run of an older plan is not written up as one of this.
    for change, says in (
        ("--train.epochs 3", "train.epochs: the run has 2, this command 3"),
        (
            "--discriminator.input_filter bin7",
            f"discriminator.input_filter: the run has {SCALES['smoke'].input_filter}, this command bin7",
        ),
    ):
        key, value = change.split()
        with pytest.MonkeyPatch.context() as patch:
            words = [*run.words(data, tmp_path), key, value]
            patch.setattr(Run, "words", lambda *_, words=words: words)
            if "epochs" in key:
                patch.setattr(Run, "epochs", int(value))
            recipe.cache_clear()
            with pytest.raises(InputError, match=says):
                is_done(run, tmp_path)
    recipe.cache_clear()

    loss = discriminator_loss(run, tmp_path)
    with open(run.directory(tmp_path) / "metrics.jsonl", "a") as metrics:
        metrics.write('{"kind": "tra')  # a kill while a line was being written
    assert discriminator_loss(run, tmp_path) == loss


def test_a_cut_note_is_no_result(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "generator.safetensors"
    file.write_bytes(b"some")
    note = tmp_path / "out" / "asked.json"
    note.parent.mkdir()
    note.write_text('{"argum')
    commands = []

    def fail(command: list[str], **_: object) -> argparse.Namespace:
        commands.append(command)
        return argparse.Namespace(returncode=2)

    monkeypatch.setattr("reproduce.measuring.subprocess.run", fail)
    with pytest.raises(MeasuringFailed):
        evaluate([file], "facades", data=data, out=note.parent)
    assert len(commands) == 1
    assert not note.exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--data", "nowhere"], "nowhere/facades: no such folder; expected the pairs of facades"),
        (["--data", ".", "--stages", "cook"], "--stages: cook unknown; expected some of train,measure,write"),
        (["--data", ".", "--scale", "big"], "invalid choice: 'big'"),
        (["--data", ".", "--lpips-weights", "nowhere.pth"], "--lpips-weights nowhere.pth: no such file"),
        (["--data", ".", "--limit", "0"], "expected a whole number of at least 1"),
        (["--data", ".", "--only", "bin9-0"], "--only: bin9-0 unknown; expected some of baseline-0"),
    ],
)
def test_bad_usage_is_one_line(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    line = one_error_line(capsys, says)
    assert line.startswith("reproduce: error: ")


def test_at_the_full_scale_all_discriminators_see_filtered_pictures() -> None:
    every = list(runs("facades", "full"))
    assert len({run.name for run in every}) == len(every)
    assert not [run for run in every if run.variant.endswith("_soft")]
    for run in every:
        config, _ = configuration(run)
        published = run.variant.endswith("_published")
        assert config.discriminator.input_filter == (None if published else "bin5")
        assert config.train.capture
    assert {run.variant for run in runs("facades", "cpu")} - {run.variant for run in every} == {
        variant for variant in VARIANTS if variant.endswith("_soft")
    }


def test_an_empty_page_says_what_is_missing() -> None:
    page = Page("facades", "cpu", {}, {}, "make reproduce", {}, {})
    text = write_page(page)
    assert "Not trained to the end yet: baseline (strided), seed 0; Bin-5, seed 0;" in text


def checkpoint(
    epoch: float, db: float, tv: float, l1: float = 0.1, lpips: float | None = None
) -> dict[str, Any]:
    figure = {"mean": db, "ci95": [db - 0.1, db + 0.1]}
    quality = {"tv": tv, "l1": l1, "target_tv": 0.08} | ({} if lpips is None else {"lpips": lpips})
    stability = {"crop": {"16": {"odd_mean_db": figure}}}
    provenance = {"seen": 400 * epoch, "epoch": epoch}
    return {
        "epoch": epoch,
        "stability": stability,
        "quality": quality,
        "provenance": provenance,
        "n_images": 9,
    }


def page_of(rows: dict[str, list[dict[str, Any]]], done: list[str]) -> str:
    finals = {name: rows[name][-1] for name in done}
    return write_page(Page("facades", "cpu", rows, finals, "make reproduce", {}, {}))


def test_a_page_compares_at_one_sharpness_before_one_discriminator() -> None:
    text = page_of(
        {
            "baseline-0": [checkpoint(8, 26, 0.05), checkpoint(16, 24, 0.07, 0.100, 0.40)],
            "bin5-0": [checkpoint(8, 40, 0.05), checkpoint(16, 30, 0.06, 0.103, 0.40)],
            "blur_late-0": [checkpoint(8, 44, 0.056), checkpoint(16, 36, 0.064, 0.101, 0.42)],
            "bin5_soft-0": [checkpoint(8, 20, 0.05)],
        },
        ["baseline-0", "bin5-0", "blur_late-0"],
    )
    # At 0.84 of 0.07, 0.0588, Bin-5 has 31.2 dB and blur_late 41.2, at the sharpness of Bin-5's end 40.
    assert "| on `tri3`-filtered pictures | 24.00 | 7.00 | +7.20 | +17.20 | +10.00 |" in text
    assert "| baseline (strided) | 0 | 5.88 | 11.5 | 25.12 ± 0.10 | +1.12 |" in text
    assert "| Bin-5, seed 0 | 8 | 5.00 | 40.00 | sharper at every checkpoint |  |" in text
    assert "| Bin-5, seed 0 | 16 | 6.00 | 30.00 | 40.00 | +10.00 |" in text
    assert "but for L1 of Bin-5, seed 0 (+3.0 %), LPIPS of `blur_late`, Bin-5, seed 0 (+5.0 %)." in text
    assert "400 training pairs, 9 measured" in text
    assert (
        "| on `bin5`-filtered pictures |" not in text
    )  # without its baseline and its end it is compared with nothing
    assert (
        "| Bin-5, discriminator on `bin5`-filtered pictures, seed 0 | 8 | 20.00 | 5.00 | 0.1000 |  |  |"
        in text
    )
    assert "Not trained to the end yet: Tri-3, seed 0" in text


def test_a_run_that_never_comes_to_a_sharpness_says_on_which_side_it_stays() -> None:
    rows = {
        "baseline-0": [checkpoint(8, 26, 0.065), checkpoint(16, 24, 0.07)],
        "bin5-0": [checkpoint(8, 40, 0.04), checkpoint(16, 33, 0.05)],
        "blur_late-0": [checkpoint(8, 44, 0.03), checkpoint(16, 36, 0.045)],
    }
    text = page_of(rows, list(rows))
    brackets = "(+9.00 at 0.71) | (+12.00 at 0.64) | (softer at every checkpoint)"
    assert f"| on `tri3`-filtered pictures | 24.00 | 7.00 | {brackets} |" in text
    assert "| baseline (strided) | 0 | 5.88 |  | sharper at every checkpoint |  |" in text
    assert "No L1 or LPIPS is worse than the mean of its baselines by more than 2 %." in text
