"""Evaluations that are interrupted, shared by processes, or compared with an earlier one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import steadypix.eval.measure.measure as evaluation
from steadypix.errors import InputError
from steadypix.eval.eval_stability import main as eval_stability
from steadypix.eval.measure.partial import Partial
from steadypix.eval.results.baseline import regressions
from steadypix.eval.results.schema import read_results
from tests.conftest import REPOSITORY

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
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    run = subprocess.run(
        [*launch, "-m", "steadypix.eval.eval_stability", *argv, "--out", str(tmp_path / "two")],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
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
