"""One bad picture among many: it names itself, or another pair stands in for it, always the same one."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import steadypix.eval.measure.measure as evaluation
import train_pix2pix
from steadypix import PairedImages, SyntheticPairs, UNetGenerator
from steadypix.checkpoints.validation import draw_samples, validate
from steadypix.configs.load import build_parser, parse
from steadypix.data.pairs.base import MAX_TRIES
from steadypix.data.pairs.opening import open_pairs
from steadypix.data.pairs.sampler import EpochSampler
from steadypix.errors import InputError, one_line
from steadypix.eval.eval_stability import main as eval_stability
from tests.cli import FAST, PAN, TINY, one_error_line
from tests.conftest import tiny_config
from tests.gloo import run_together

pytestmark = pytest.mark.slow

Capture = pytest.CaptureFixture[str]

SIZES = {"load_size": 40, "crop_size": 32}


@pytest.fixture
def broken(pair_folder: Path) -> Path:
    """Six training pairs of which the second and the fifth are no pictures."""
    for number in (2, 5):
        (pair_folder / "train" / f"{number}.png").write_text("not a picture")
    return pair_folder


def batches(pairs: PairedImages, *, workers: int = 0, epoch: int = 0, start: int = 0) -> Iterator[dict]:
    sampler = EpochSampler(len(pairs), 1, seed=1, epoch=epoch, start=start)
    yield from torch.utils.data.DataLoader(pairs, batch_sampler=sampler, num_workers=workers)


@pytest.mark.parametrize("workers", [0, 2])
def test_fail_names_the_file_also_from_a_worker(broken: Path, workers: int) -> None:
    with pytest.raises(InputError) as caught:
        list(batches(PairedImages(broken, **SIZES), workers=workers))
    line = one_line(caught.value)
    assert line.startswith(str(broken / "train"))
    assert line.split(":")[0].endswith(("2.png", "5.png"))
    assert "not an image" in line


def test_skip_takes_another_pair_and_says_why(broken: Path) -> None:
    pairs = PairedImages(broken, on_error="skip", **SIZES)
    stood_in = set()
    for epoch in range(20):
        for index in range(6):
            sample = pairs[epoch, index]
            if index in (1, 4):
                reasons = sample["skipped"].split("\n")
                assert reasons[0].startswith(f"{broken / 'train' / f'{index + 1}.png'}: ")
                stood_in.add(sample["name"])
            else:
                assert sample["skipped"] == ""
                assert sample["name"] == str(index + 1)
    assert stood_in == {"1", "3", "4", "6"}


def test_what_can_be_read_is_the_same_under_both(pair_folder: Path) -> None:
    fail, skip = (PairedImages(pair_folder, on_error=on_error, **SIZES) for on_error in ("fail", "skip"))
    for index in range(6):
        for key in ("input", "target"):
            assert torch.equal(fail[3, index][key], skip[3, index][key])


def test_stand_ins_depend_on_seed_epoch_and_index_alone(broken: Path) -> None:
    """Neither workers, nor a cache, nor where a run was resumed, nor what was read before matters."""

    def epoch_of(**how: int) -> list[dict]:
        return list(batches(PairedImages(broken, on_error="skip", **SIZES), epoch=2, **how))

    whole = epoch_of()
    resumed = epoch_of(start=2)
    cached = PairedImages(broken, on_error="skip", cache=True, **SIZES)
    list(batches(cached, epoch=1))
    for other in (epoch_of(workers=2), list(batches(cached, epoch=2))):
        same(whole, other)
    same(whole[2:], resumed)
    stranger = list(batches(PairedImages(broken, on_error="skip", seed=9, **SIZES), epoch=2))
    assert any(a["name"] != b["name"] for a, b in zip(whole, stranger, strict=True))


def same(first: list[dict], second: list[dict]) -> None:
    for ours, theirs in zip(first, second, strict=True):
        assert (ours["name"], ours["skipped"]) == (theirs["name"], theirs["skipped"])
        assert torch.equal(ours["input"], theirs["input"])
        assert torch.equal(ours["target"], theirs["target"])


class Faulty(SyntheticPairs):
    """Procedural pairs of which some cannot be read; counts the tries."""

    def __init__(self, bad: frozenset[int], count: int) -> None:
        super().__init__(count=count, load_size=16, crop_size=16, on_error="skip")
        self.bad = bad
        self.tries: list[int] = []

    def read(self, index: int):  # noqa: ANN201
        self.tries.append(index)
        if index in self.bad:
            raise InputError(f"{self.name(index)}: is\nbroken")
        return super().read(index)


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 12), data=st.data(), epoch=st.integers(0, 1000))
def test_a_readable_pair_is_found_wherever_there_is_one(count: int, data: st.DataObject, epoch: int) -> None:
    bad = data.draw(st.frozensets(st.integers(0, count - 1), max_size=count))
    index = data.draw(st.integers(0, count - 1))
    pairs = Faulty(bad, count)
    if len(bad) == count:
        with pytest.raises(InputError, match=rf"^{count} pairs in a row .* is broken$"):
            pairs[epoch, index]
        return
    sample = pairs[epoch, index]
    assert int(sample["name"].rpartition("-")[2]) not in bad
    assert bool(sample["skipped"]) == (index in bad)
    assert all(line.endswith(": is broken") for line in sample["skipped"].splitlines())
    pairs.tries.clear()
    assert pairs[epoch, index]["name"] == sample["name"]
    assert not set(pairs.tries) & bad, "a broken pair is decoded once"


def test_thousands_that_cannot_be_read_are_not_all_tried() -> None:
    pairs = Faulty(frozenset(range(5000)), 5000)
    with pytest.raises(InputError, match="pairs in a row cannot be read; the first: facades-train-00007"):
        pairs[0, 7]
    assert len(pairs.tries) <= MAX_TRIES + 1
    pairs = Faulty(frozenset(range(5000)), 5000)
    with pytest.raises(InputError, match="broken"):
        list(pairs.canvases(4))
    assert len(pairs.tries) <= MAX_TRIES


def test_canvases_pass_over_what_cannot_be_read(broken: Path) -> None:
    with pytest.raises(InputError, match=r"2\.png"):
        list(PairedImages(broken, **SIZES).canvases(3))
    pairs = PairedImages(broken, on_error="skip", **SIZES)
    for ours, index in zip(pairs.canvases(3), (0, 2, 3), strict=True):
        assert torch.equal(ours[0], PairedImages(broken, **SIZES).canvas(index)[0])
    assert len(list(pairs.canvases(10))) == 4
    generator = UNetGenerator(ngf=2, num_downs=2)
    assert validate(generator, pairs, limit=3)["val_l1"]
    draw_samples(generator, pairs, broken / "sheet.png", count=3)
    assert (broken / "sheet.png").exists()


def test_the_choice_is_checked(pair_folder: Path) -> None:
    with pytest.raises(InputError, match=r"'ignore'.*fail or skip"):
        PairedImages(pair_folder, on_error="ignore", **SIZES)
    parser = build_parser("train_pix2pix", "test")
    assert parse(parser, [])[0].data.on_error == "fail"
    assert parse(parser, ["--data.on_error", "skip"])[0].data.on_error == "skip"
    with pytest.raises(InputError, match=r"on_error.*ignore"):
        parse(parser, ["--data.on_error", "ignore"])
    options = dataclasses.asdict(tiny_config(pair_folder).data)
    assert open_pairs(str(pair_folder), "train", on_error=options["on_error"], **SIZES).on_error == "fail"
    json.dumps(options)


# ---- pictures that cannot be read, in an evaluation -----------------------------------------------------


@pytest.fixture
def damaged(pair_folder: Path) -> Path:
    """The first of three test pairs is no picture, so places and numbers of what is left differ."""
    (pair_folder / "test" / "1.png").write_text("not a picture")
    return pair_folder


@pytest.mark.parametrize("workers", ["0", "1"])
def test_evaluation_skips_and_counts(
    checkpoints: list[Path], damaged: Path, tmp_path: Path, capsys: Capture, workers: str
) -> None:
    argv = [*map(str, checkpoints), *FAST, "--workers", workers, "--worst", "1"]
    argv += [*PAN, "--out", str(tmp_path / "o")]
    assert eval_stability(argv) == 2
    one_error_line(capsys, "1.png", "not an image")
    assert eval_stability([*argv, "--on_error", "skip"]) == 0
    err = capsys.readouterr().err
    assert err.count("skipped") == 1
    assert f"skipped {damaged / 'test' / '1.png'}: cannot be read" in err
    found = json.loads((tmp_path / "o" / "results.json").read_text())
    assert (found["data"]["n_images"], found["data"]["n_skipped"]) == (2, 1)
    (damaged / "test" / "1.png").unlink()
    assert eval_stability([*argv[:-1], str(tmp_path / "clean")]) == 0
    clean = json.loads((tmp_path / "clean" / "results.json").read_text())
    assert clean["data"]["n_skipped"] == 0
    # Names and numbers belong to the pictures that were read, not to places in the folder.
    for key in ("models", "worst", "comparisons"):
        assert found[key] == clean[key]
    shown = [json.loads((tmp_path / o / "frames" / "frames.json").read_text()) for o in ("o", "clean")]
    assert shown[0] == shown[1]


def test_nothing_that_can_be_read_is_one_line(
    checkpoints: list[Path], damaged: Path, tmp_path: Path, capsys: Capture
) -> None:
    argv = [str(checkpoints[0]), *FAST, "--limit", "1", "--on_error", "skip", "--out", str(tmp_path / "o")]
    assert eval_stability(argv) == 2
    one_error_line(capsys, "none of 1 pictures can be read", "1.png")


def test_exported_inputs_leave_out_what_cannot_be_read(
    checkpoints: list[Path], damaged: Path, tmp_path: Path, capsys: Capture
) -> None:
    argv = [str(checkpoints[0]), *FAST, "--on_error", "skip"]
    assert eval_stability([*argv, "--export_inputs", str(tmp_path / "in")]) == 0
    assert "skipped" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "in").glob("*base.png")) == ["2_base.png", "3_base.png"]
    assert eval_stability([str(tmp_path / "in"), *argv[1:], "--out", str(tmp_path / "o")]) == 0


def test_an_interrupted_evaluation_tries_what_it_skipped_again(
    checkpoints: list[Path], damaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = [str(checkpoints[0]), *FAST, "--on_error", "skip", "--out"]
    assert eval_stability([*argv, str(tmp_path / "whole")]) == 0
    original = evaluation.Measurement.add

    def stop(self: evaluation.Measurement, *args: object, index: int, **more: object) -> None:
        if index == 2:
            raise KeyboardInterrupt
        original(self, *args, index=index, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(evaluation.Measurement, "add", stop)
        assert eval_stability([*argv, str(tmp_path / "stopped")]) == 130
    assert eval_stability([*argv, str(tmp_path / "stopped")]) == 0
    assert numbers(tmp_path / "stopped") == numbers(tmp_path / "whole")


def test_processes_count_what_all_of_them_skipped(
    checkpoints: list[Path], damaged: Path, tmp_path: Path
) -> None:
    """The second of two processes has one picture, and it cannot be read."""
    (damaged / "test" / "2.png").write_text("not a picture")
    argv = [str(checkpoints[0]), *FAST, "--on_error", "skip", "--out"]
    assert eval_stability([*argv, str(tmp_path / "one")]) == 0
    words = ["-m", "steadypix.eval.eval_stability", *argv, str(tmp_path / "two")]
    (first_code, first), (second_code, second) = run_together(words, words)
    assert (first_code, second_code) == (0, 0), first + second
    said = first + second
    assert {f"skipped {damaged / 'test' / name}" in said for name in ("1.png", "2.png")} == {True}
    assert numbers(tmp_path / "two") == numbers(tmp_path / "one")
    assert numbers(tmp_path / "two")["data"]["n_skipped"] == 2


def numbers(out: Path) -> dict:
    return {**json.loads((out / "results.json").read_text()), "created": 0, "command": ""}


@pytest.mark.parametrize("workers", ["0", "2"])
def test_training_goes_on_past_what_cannot_be_read(
    broken: Path, tmp_path: Path, capsys: Capture, workers: str
) -> None:
    """The command: fail stops at a broken pair, skip trains to the end and names each file once."""
    (broken / "test" / "1.png").write_text("not a picture")
    argv = [*TINY, "--data.root", str(broken), "--workers", workers, "--train.epochs=2", "--batch_size=2"]
    argv += ["--train.val_every=1", "--train.val_limit=2", "--out"]
    assert train_pix2pix.main([*argv, str(tmp_path / "fail")]) == 2
    one_error_line(capsys, ".png", "not an image")
    assert train_pix2pix.main([*argv, str(tmp_path / "skip"), "--data.on_error=skip"]) == 0
    err = capsys.readouterr().err
    for number in (2, 5):
        assert str(broken / "train" / f"{number}.png") in err
    assert (tmp_path / "skip" / "generator.safetensors").exists()
