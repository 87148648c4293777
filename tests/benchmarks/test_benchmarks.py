"""The benchmarks run, say what they should, and their reference step is the published one. No times here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks import gpu, run
from benchmarks.evaluation import TINY, open_all, prepare
from benchmarks.floors import Floors
from benchmarks.memory import run_apart
from benchmarks.report import SCHEMA, Bar, Table, to_json, to_markdown
from benchmarks.step import compare as training
from benchmarks.step.both import build_both
from benchmarks.step.process import elsewhere
from benchmarks.step.reference import build
from benchmarks.timing import Timing, take_turns

pytestmark = pytest.mark.slow


def pair(seed: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    x, y = torch.rand(2, 2, 3, 32, 32, generator=draw) * 2 - 1
    return x, y


# --- how speed is measured ------------------------------------------------------------------------


def test_ratios_are_paired_round_by_round() -> None:
    """A slow round slows both and moves no ratio; the median of the ratios, not the ratio of medians."""
    timing = Timing({"a": [1.0, 20.0, 3.0], "b": [2.0, 10.0, 2.0]})
    assert timing.ratio("a", "b") == 1.5
    assert timing.median_ms("a") == 3000
    assert timing.best_ms("b") == 2000


def test_works_take_turns() -> None:
    calls: list[str] = []
    works = {name: lambda name=name: calls.append(name) for name in "abc"}
    timing = take_turns(works, rounds=4)
    assert {name: len(times) for name, times in timing.seconds.items()} == {"a": 4, "b": 4, "c": 4}
    assert set(calls) == {"a", "b", "c"}


def test_floors_are_rates_turned_round() -> None:
    floors = Floors(gemm_flops=2e9, copy_bytes=4e9)
    assert floors.flops_ms(1e9) == 500
    assert floors.bytes_ms(1e9) == 250


def test_a_bar_is_met_or_missed_as_printed() -> None:
    bars = [Bar("a / b", 0.504, 0.5), Bar("c / d", 0.506, 0.5)]
    table = Table("theme", "Title", ["x"], [[1.234]], bars)
    text = to_markdown([table], {"device": "none"})
    assert "| a / b | 0.50 | 0.50 | met |" in text
    assert "| c / d | 0.51 | 0.50 | **missed** |" in text
    assert [bar["met"] for bar in json.loads(to_json([table], {}))["tables"][0]["bars"]] == [True, False]


def test_one_command_writes_markdown_and_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.layers.blur_pools", dict)  # their imports take seconds
    monkeypatch.setattr(training, "LIMITS", {1: training.LIMITS[1]})  # a batch takes two processes
    run.main(["--quick", "--rounds", "1", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert printed.strip() == (tmp_path / "bench.md").read_text().strip()
    written = json.loads((tmp_path / "bench.json").read_text())
    assert written["schema"] == SCHEMA
    assert {"device", "threads", "torch"} <= written["environment"].keys()
    themes = [table["theme"] for table in written["tables"]]
    assert themes == [
        *("floors", "blur_pool", "blur_upsample", "training"),
        *("evaluation", "evaluation_memory", "generator"),
    ]
    for table in written["tables"]:
        assert all(len(row) == len(table["columns"]) for row in table["rows"])


def test_an_unknown_theme_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run.main(["--only", "layers,typo"])
    assert "typo unknown; expected some of floors, layers" in " ".join(capsys.readouterr().err.split())


# --- evaluations, and processes of their own -------------------------------------------------------


def test_an_evaluation_is_timed_on_pictures_that_are_decoded(tmp_path: Path) -> None:
    model, stage, plan = open_all(prepare(tmp_path, TINY, 5, different=2), 5)
    pairs = stage.pairs
    assert [pairs.name(index) for index in range(len(pairs))] == ["1", "2", "3", "4", "5"]
    assert (pairs.read(2)[0] == pairs.read(0)[0]).all()
    assert (pairs.read(1)[0] != pairs.read(0)[0]).any()
    windows = list(stage.inputs(plan.make(stage.names, pairs), pairs.canvas(0)[0][None], 0))
    assert sum(map(len, windows)) == 8  # the unshifted one and seven shifts
    assert model.module(torch.zeros(1, 3, 32, 32)).shape == (1, 3, 32, 32)


def test_a_process_that_fails_says_why() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        run_apart(int, "one")


def test_a_training_process_that_fails_is_noticed() -> None:
    with pytest.raises(EOFError), elsewhere("ours", batch=1, size=16, ngf=1, num_downs=5) as step:
        step()  # 16 px have no room for five levels


# --- the reference step ----------------------------------------------------------------------------


def test_the_published_sizes() -> None:
    with torch.device("meta"):
        step = build()
    assert sum(p.numel() for p in step.generator.parameters()) == 54_413_955
    assert sum(p.numel() for p in step.discriminator.parameters()) == 2_768_705


def test_networks_are_ours_without_anti_aliasing() -> None:
    reference, ours = build_both(ngf=4, num_downs=5, n_layers=2, dropout=False)
    x, y = pair(0)
    together = torch.cat([x, y], 1)
    torch.testing.assert_close(reference.generator(x), ours.generator(x), rtol=0, atol=1e-5)
    found = ours.discriminator(together)
    torch.testing.assert_close(reference.discriminator(together), found, rtol=0, atol=1e-5)


def test_ten_steps_have_the_losses_of_the_paper() -> None:
    assert training.largest_difference(batch=2, size=32, ngf=4, num_downs=5) < 1e-3
    assert training.largest_difference(batch=2, size=32, ngf=4, num_downs=5, double=True) < 1e-9


# --- the GPU's script ------------------------------------------------------------------------------


def test_the_gpu_script_runs_without_a_gpu(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.layers.blur_pools", dict)
    gpu.main(["--tiny", "--device", "cpu", "--out", str(tmp_path)])
    assert capsys.readouterr().out.strip() == (tmp_path / "gpu.md").read_text().strip()
    tables = json.loads((tmp_path / "gpu.json").read_text())["tables"]
    assert [table["theme"] for table in tables] == [
        "bandwidth",
        "blur_pool",
        "blur_upsample",
        "steps",
        "evaluation",
    ]
    assert all(len(row) == len(table["columns"]) for table in tables for row in table["rows"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_missing_gpu_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "no GPU here" in capsys.readouterr().err
