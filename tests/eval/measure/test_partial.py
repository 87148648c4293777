"""Evaluations that are interrupted, shared by processes, or compared with an earlier one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

import steadypix.eval.measure.measure as evaluation
from steadypix.data.pairs.content import content_of
from steadypix.data.pairs.folders import PairedImages
from steadypix.errors import InputError
from steadypix.eval.eval_stability import main as eval_stability
from steadypix.eval.generators.models import Model
from steadypix.eval.measure.partial import NAME, Partial, remove, run_of
from steadypix.eval.results.baseline import regressions
from steadypix.eval.results.schema import read_results
from steadypix.files import write_text
from tests.cli import one_error_line, run_python

pytestmark = pytest.mark.slow

Capture = pytest.CaptureFixture[str]
EVERYTHING = ["--shifts", "0..2", "--margins", "0,2", "--device", "cpu", "--protocol", "crop,eqt", "--map"]
EVERYTHING += ["--quality", "ssim,spectrum,checkerboard", "--perturb", "noise,rotation"]


def results_of(out: Path) -> dict:
    return {**json.loads((out / "results.json").read_text()), "created": 0, "command": ""}


@pytest.fixture
def argv(checkpoints: list[Path]) -> list[str]:
    return [*map(str, checkpoints), *EVERYTHING]


def test_partial_keeps_every_number_to_the_bit(tmp_path: Path) -> None:
    rows = [{"quality": {"l1": 0.1 + 0.2, "tv": 1e-17}, "scores": [[[1 / 3]]]}]
    with Partial(tmp_path / "p.jsonl", {"a": 1}) as kept:
        kept.add(4, rows)
    assert Partial(tmp_path / "p.jsonl", {"a": 1}).done == {4: rows}
    assert Partial(tmp_path / "p.jsonl", {"a": 2}).done == {}


def test_what_is_written_is_read_back_before_the_first_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lossy(path: Path, text: str) -> None:
        write_text(path, text[:-9])

    monkeypatch.setattr("steadypix.eval.measure.partial.write_text", lossy)
    with pytest.raises(InputError, match=r"p\.jsonl: is not read as it was written"):
        Partial(tmp_path / "p.jsonl", {"a": 1}).__enter__()


@pytest.mark.parametrize("odd", [{"provenance": {"seen": float("nan")}}, {"sha256": 10**20}, {"path": 3}])
def test_results_that_could_not_be_read_are_refused_before_the_first_picture(
    odd: dict[str, Any], argv: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    described = Model.describe
    monkeypatch.setattr(Model, "describe", lambda model: described(model) | odd)
    assert eval_stability([*argv, "--out", str(tmp_path / "out")]) == 2
    one_error_line(capsys, "results.json", "schema_version 1")
    assert not (tmp_path / "out").exists()


def test_a_line_cut_by_a_kill_is_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    with Partial(path, {}) as kept:
        kept.add(0, [{"x": 1}])
        kept.add(1, [{"x": 2}])
    path.write_bytes(path.read_bytes()[:-7])
    with Partial(path, {}) as kept:
        assert kept.done == {0: [{"x": 1}]}
        kept.add(1, [{"x": 3}])
    assert Partial(path, {}).done == {0: [{"x": 1}], 1: [{"x": 3}]}


def test_a_number_that_was_damaged_is_measured_again(tmp_path: Path) -> None:
    """A flipped bit leaves a line that is JSON as before: the checksum tells."""
    path = tmp_path / "p.jsonl"
    with Partial(path, {}) as kept:
        kept.add(0, [{"x": 0.125}])
        kept.add(1, [{"x": 2}])
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1].replace("0.125", "0.725"), *lines[2:]]) + "\n")
    assert Partial(path, {}).done == {1: [{"x": 2}]}
    for line in ("3", "[]", '{"index": 4}', '{"index": "4", "rows": [], "crc32": 0}', "[" * 100_000, "\x00"):
        path.write_text("\n".join([lines[0], line, lines[2]]) + "\n")
        assert Partial(path, {}).done == {1: [{"x": 2}]}
    path.unlink()
    os.mkfifo(path)  # opening it would wait for its writer
    assert Partial(path, {}).done == {}
    with pytest.raises(InputError, match=r"p\.jsonl: is no regular file"), Partial(path, {}):
        pass


def test_nothing_measured_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError), Partial(tmp_path / "out" / "p.jsonl", {}):
        raise InputError("a bad picture")
    assert not (tmp_path / "out").exists()


def test_numbers_of_something_else_are_measured_anew_and_it_is_said(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "p.jsonl"
    with Partial(path, {"pictures": "3 pictures, ab", "seed": 0}) as kept:
        kept.add(0, [{"x": 1}])
    assert capsys.readouterr().err == ""
    for heading, words in (
        ({"pictures": "3 pictures, cd", "seed": 0}, "other pictures (3 pictures, ab, now 3 pictures, cd)"),
        ({"pictures": "3 pictures, cd", "seed": 1}, "other seed (0, now 1)"),
        ({"pictures": "3 pictures, cd"}, "other seed (1, now None)"),
    ):
        with Partial(path, heading) as kept:
            assert kept.done == {}
            kept.add(0, [{"x": 1}])
        assert capsys.readouterr().err == f"{path}: is of {words}; measured anew\n"
    path.write_text('{"pictures": "of an earlier version"}\n')
    with Partial(path, {}):
        assert "damaged, or of another version; measured anew" in capsys.readouterr().err


def test_a_kill_while_a_file_is_begun_again_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "p.jsonl"
    with Partial(path, {}) as kept:
        for index in range(3):
            kept.add(index, [{"x": index}])
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt), Partial(path, {}):
            pass
    assert list(Partial(path, {}).done) == [0, 1, 2]


def test_a_line_is_on_the_disk_before_the_next_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, synced = tmp_path / "p.jsonl", []
    with Partial(path, {}) as kept:
        monkeypatch.setattr(os, "fsync", lambda number: synced.append(os.fstat(number).st_size))
        kept.add(0, [{"x": 1}])
        assert synced == [path.stat().st_size]


def test_a_process_that_is_late_ends_only_itself(tmp_path: Path) -> None:
    """One of a run that was killed writes to a file that is no longer there, and removes nobody's."""
    path = tmp_path / NAME.format(rank=1, world=2)
    with Partial(path, {}, "earlier") as late:
        late.add(1, [{"x": 1}])
        with Partial(path, {}, "now") as kept:
            late.add(3, [{"x": 9}])
            kept.add(3, [{"x": 3}])
            remove(tmp_path, "earlier", others=False)
        assert run_of(path) == "now"
    assert Partial(path, {}).done == {1: [{"x": 1}], 3: [{"x": 3}]}


def test_what_earlier_runs_left_goes_with_the_last_one(tmp_path: Path) -> None:
    names = [NAME.format(rank=rank, world=world) for rank, world in ((0, 1), (0, 2), (1, 2))]
    for run, name in zip(("now", "earlier", "now"), names, strict=True):
        with Partial(tmp_path / name, {}, run) as kept:
            kept.add(0, [])
    (tmp_path / ".partial-0-of-1.123.tmp.jsonl").touch()  # of a process that was killed
    (tmp_path / "partial.jsonl").touch()  # somebody else's
    remove(tmp_path, "now", others=False)
    assert {path.name for path in tmp_path.glob("p*")} == {names[1], "partial.jsonl"}
    remove(tmp_path, "now", others=True)
    assert [path.name for path in tmp_path.iterdir()] == ["partial.jsonl"]


SMALL = ["--shifts", "0..1", "--margins", "0", "--device", "cpu"]


def stopped_after_two(argv: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluate until the third picture, and leave what is measured."""
    original = evaluation.Measurement.add

    def add(self: evaluation.Measurement, *args: object, index: int, **more: object) -> None:
        if index == 2:
            raise KeyboardInterrupt
        original(self, *args, index=index, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(evaluation.Measurement, "add", add)
        assert eval_stability(argv) == 130


def test_other_pictures_under_the_same_names_are_measured_anew(
    checkpoints: list[Path],
    pair_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    argv = [str(checkpoints[0]), "--data", str(pair_folder), *SMALL, "--out"]
    stopped_after_two([*argv, str(tmp_path / "o")], monkeypatch)
    folder = pair_folder / "test"
    (folder / "1.png").write_bytes((folder / "3.png").read_bytes())
    capsys.readouterr()
    assert eval_stability([*argv, str(tmp_path / "o")]) == 0
    assert "partial-0-of-1.jsonl: is of other pictures (3 pictures, " in capsys.readouterr().err
    assert eval_stability([*argv, str(tmp_path / "fresh")]) == 0
    assert results_of(tmp_path / "o") == results_of(tmp_path / "fresh")
    assert not list((tmp_path / "o").glob("*partial*"))


def test_the_same_pictures_elsewhere_are_gone_on_with(
    checkpoints: list[Path],
    pair_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    argv = [str(checkpoints[0]), *SMALL, "--out", str(tmp_path / "o"), "--data"]
    stopped_after_two([*argv, str(pair_folder)], monkeypatch)
    moved = pair_folder.rename(tmp_path / "moved")
    measured = []
    original = evaluation.Measurement.add

    def add(self: evaluation.Measurement, *args: object, index: int, **more: object) -> None:
        measured.append(index)
        original(self, *args, index=index, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(evaluation.Measurement, "add", add)
    capsys.readouterr()
    assert eval_stability([*argv, str(moved)]) == 0
    assert measured == [2]
    assert "measured anew" not in capsys.readouterr().err


def test_results_say_of_which_pictures_and_threads_they_are(
    checkpoints: list[Path], pair_folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    argv = [str(checkpoints[0]), *SMALL, "--out", str(tmp_path / "o")]
    assert eval_stability(argv) == 0
    results = read_results(tmp_path / "o" / "results.json")
    pictures = content_of(PairedImages(pair_folder, "test", load_size=40, crop_size=32))
    assert results["data"]["pictures_sha256"] == pictures.sha256
    assert results["threads"] == torch.get_num_threads()
    # Those of earlier versions, which do not say so, are read as before.
    earlier = {**results, "data": {**results["data"]}}
    del earlier["threads"], earlier["data"]["pictures_sha256"]
    path = tmp_path / "earlier.json"
    path.write_text(json.dumps(earlier))
    assert regressions(results, read_results(path), path) == []
    for wrong in ({"threads": "2"}, {"data": {**results["data"], "pictures_sha256": 3}}):
        path.write_text(json.dumps({**results, **wrong}))
        with pytest.raises(InputError, match=r"threads|data\.pictures_sha256"):
            read_results(path)
    # A baseline is compared where its pictures are the same, wherever they lie.
    moved = {**results, "data": {**results["data"], "source": "/elsewhere"}}
    assert regressions(moved, results, path) == []
    with pytest.raises(InputError, match="source"):
        regressions(moved, earlier, path)
    others = {**results, "data": {**results["data"], "pictures_sha256": "0" * 64}}
    with pytest.raises(InputError, match=f"on other pictures \\({'0' * 16}, this on {pictures.sha256[:16]}"):
        regressions(results, others, path)


def test_another_number_of_threads_is_measured_anew(
    checkpoints: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """Sums of another number have other last bits, and a resumed result must equal one of a whole run."""
    argv = [str(checkpoints[0]), *SMALL, "--out", str(tmp_path / "o")]
    stopped_after_two(argv, monkeypatch)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    capsys.readouterr()
    assert eval_stability(argv) == 0
    assert "partial-0-of-1.jsonl: is of other threads (1, now 3); measured anew" in capsys.readouterr().err


def test_an_interrupted_evaluation_goes_on(
    argv: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after every picture, gone on: the same results, and no picture is measured twice."""
    assert eval_stability([*argv, "--out", str(tmp_path / "whole")]) == 0
    measured: list[int] = []
    original = evaluation.Measurement.add

    def add(self: evaluation.Measurement, *args: object, index: int, **more: object) -> None:
        if self.model.name == "strided":
            if measured and measured[-1] == index - 1 and not resumed:
                raise KeyboardInterrupt
            measured.append(index)
        original(self, *args, index=index, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(evaluation.Measurement, "add", add)
    out = tmp_path / "stopped"
    resumed = False
    assert eval_stability([*argv, "--out", str(out)]) == 130
    assert [path.name for path in out.iterdir()] == ["partial-0-of-1.jsonl"]
    resumed = True
    assert eval_stability([*argv, "--out", str(out)]) == 0
    assert measured == [0, 1, 2]
    assert results_of(out) == results_of(tmp_path / "whole")
    assert not list(out.glob("partial*"))


def test_two_processes_give_the_same_numbers(argv: list[str], tmp_path: Path) -> None:
    assert eval_stability([*argv, "--out", str(tmp_path / "one")]) == 0
    launch = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    run = run_python(*launch, "-m", "steadypix.eval.eval_stability", *argv, "--out", str(tmp_path / "two"))
    assert run.stdout.count("TV/target") >= 1
    assert results_of(tmp_path / "two") == results_of(tmp_path / "one")
    assert not list((tmp_path / "two").glob("partial*"))


def test_a_regression_beyond_the_interval_fails(argv: list[str], tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "o"
    assert eval_stability([*argv, "--out", str(out)]) == 0
    earlier = tmp_path / "earlier.json"
    results = json.loads((out / "results.json").read_text())
    earlier.write_text(json.dumps(results))
    assert eval_stability([*argv, "--out", str(out), "--baseline", str(earlier)]) == 0
    summary = results["models"][1]["stability"]["crop"]["2"]["odd_mean_db"]
    summary["mean"] += 3
    summary["ci95"] = [bound + 3 for bound in summary["ci95"]]
    earlier.write_text(json.dumps(results))
    assert eval_stability([*argv, "--out", str(out), "--baseline", str(earlier)]) == 1
    err = capsys.readouterr().err
    assert "blur: " in err
    assert "below the baseline's" in err
    assert "strided: " not in err


def test_baselines_that_do_not_fit(argv: list[str], tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "o"
    assert eval_stability([*argv, "--out", str(out)]) == 0
    sound = json.loads((out / "results.json").read_text())
    path = tmp_path / "b.json"
    for text in ("", "[]", "{}", '{"schema_version": 1, "models": [{}]}', "[" * 100_000, "\x00"):
        path.write_text(text)
        with pytest.raises(InputError, match=r"b\.json"):
            read_results(path)
    with pytest.raises(InputError, match=r"nowhere\.json"):
        read_results(tmp_path / "nowhere.json")
    for change, word in (
        ({"axis": "y"}, "axis"),
        ({"data": {**sound["data"], "n_images": 9}}, "n_images"),
        ({"models": [{**sound["models"][0], "name": "other"}]}, "other"),
    ):
        with pytest.raises(InputError, match=word):
            regressions(sound, {**sound, **change}, path)
    path.write_text("{}")
    assert eval_stability([*argv, "--out", str(tmp_path / "new"), "--baseline", str(path)]) == 2
    assert not (tmp_path / "new").exists()
