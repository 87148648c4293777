"""The command `steadypix retrofit`: any network, pairs or inputs alone, stopped and gone on with."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from steadypix import ResnetGenerator, UNetGenerator, load_generator
from steadypix.checkpoints.retrofitting import tune as tuning
from steadypix.checkpoints.retrofitting.command import main, plan
from steadypix.checkpoints.retrofitting.rewrite import load_and_rewrite
from steadypix.eval.eval_stability import main as eval_stability
from steadypix.files import write_text
from steadypix.gen.networks import levels
from steadypix.gen.training.distill import DistillStep
from steadypix.gen.weights.generators import save_generator, take_weights
from steadypix.gen.weights.tensors import read_tensors, write_tensors
from tests.checkpoints.test_retrofit_files import FOREIGN
from tests.cli import Capture, one_error_line
from tests.conftest import tiny_config, write_checkpoint
from tests.killed import Stopped, stop_after

FAST = ["--device", "cpu", "--limit", "2"]


@pytest.fixture
def strided(pair_folder: Path, tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "strided.safetensors", tiny_config(pair_folder, sampling="strided"))


def retrofit(*words: object, steps: int = 2) -> int:
    return main([*map(str, words), *FAST, "--steps", str(steps)])


def rows(out: Path) -> list[dict]:
    found: list[dict] = json.loads((out / "retrofit.json").read_text())["rows"]
    return found


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "last/state.safetensors")


def test_nothing_but_a_network_data_and_a_place(
    strided: Path, pair_folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "out"
    assert retrofit(strided, "--data", pair_folder, "--out", out, steps=20) == 0
    captured = capsys.readouterr()
    names = ["before", "right after", "after 1 steps", "after 5 steps", "after 20 steps"]
    assert [row["name"] for row in rows(out)] == names
    table = [line.split(" | ") for line in captured.out.splitlines() if line.startswith("|")]
    assert [line[0].removeprefix("| ") for line in table[2:]] == names
    assert table[0][2:6] == ["stability [dB]", "TV", "TV / before", "L1 to targets"]
    assert table[2][4] == "1.00"
    assert "sampling strided -> blur_late" in captured.err
    assert "evaluation mode" in captured.err
    # What lies there loads as any generator, knows its data and is what was measured last.
    network = load_generator(out)
    shape, data = network.config["generator"], network.config["data"]
    assert (shape["sampling"], shape["texture"], shape["head"]) == ("blur_late", "anchored", 16)
    assert (data["root"], data["crop_size"], data["load_size"]) == (str(pair_folder), 32, 40)
    assert network.provenance["rows"] == rows(out)
    assert (
        eval_stability(
            [
                str(out),
                "--out",
                str(tmp_path / "measured"),
                "--shifts",
                "0..3",
                "--margins",
                "4",
                "--limit",
                "2",
                "--device",
                "cpu",
            ]
        )
        == 0
    )
    [measured] = json.loads((tmp_path / "measured/results.json").read_text())["models"]
    assert measured["quality"]["tv"]["mean"] == pytest.approx(rows(out)[-1]["tv"], rel=1e-5)
    # Softened by its blurs, it gets its detail back.
    before, softest, *_, last = (row["tv"] for row in rows(out))
    assert softest < 0.5 * before
    assert 2 * softest < last < 1.2 * before
    assert retrofit(strided, "--data", pair_folder, "--out", out, steps=20) == 0
    assert "retrofitted already" in capsys.readouterr().out


@pytest.mark.parametrize(("architecture", "outputs"), [("unet", 3), ("unet", 9), ("resnet", 3)])
def test_a_new_head_passes_on_the_picture_and_new_carriers_change_nothing(
    architecture: str, outputs: int, tmp_path: Path
) -> None:
    """Right after, texture and head show what the same network without them shows."""
    torch.manual_seed(0)
    shape = {"ngf": 4, "sampling": "strided", "out_channels": outputs} | (
        {"num_downs": 3} if architecture == "unet" else {"n_blocks": 1}
    )
    kind = UNetGenerator if architecture == "unet" else ResnetGenerator
    original = kind(**shape)
    config = {"generator": {"architecture": architecture, **shape}, "data": {}}
    save_generator(tmp_path / "a.safetensors", original, config=config)
    words = {"sampling": "blur_late", "filter": "bin5", "trust": False, "window_px": None}
    with_head = load_and_rewrite(tmp_path / "a.safetensors", texture=True, **words).network
    bare = load_and_rewrite(tmp_path / "a.safetensors", texture=False, **words).network
    flat = torch.rand(2, 3, 5, 4) * 2 - 1  # carriers are silent where nothing is flat
    x = flat.repeat_interleave(8, -1).repeat_interleave(8, -2)
    with torch.inference_mode():
        torch.testing.assert_close(with_head(x), bare(x), rtol=0, atol=1e-5)
        expected = kind(**{**shape, "sampling": "blur_late"}).eval()
        take_weights(expected, original.state_dict(), tmp_path)
        torch.testing.assert_close(bare(x), expected(x), rtol=0, atol=1e-6)
    # And they learn: something reaches the carriers' weights and the head's other channels.
    with_head(x).square().mean().backward()
    grown, _ = with_head.grown_parts
    assert dict(with_head.named_parameters())[grown].grad[:, 3:].abs().sum() > 0
    assert with_head.detail.head.second.weight.grad[:, 2 * outputs :].abs().sum() > 0


def test_a_published_resnet(pair_folder: Path, tmp_path: Path) -> None:
    from tests.published_nets import PublishedResnet

    torch.manual_seed(0)
    weights_file = tmp_path / "latest_net_G.pth"
    torch.save(PublishedResnet(ngf=4, n_blocks=1).state_dict(), weights_file)
    out = tmp_path / "out"
    words = ["--data", pair_folder, "--out", out, "--window", "32", "--canvas", "40", "--sampling", "blur"]
    assert retrofit(weights_file, *words, "--no-texture", steps=1) == 0
    shape = load_generator(out).config["generator"]
    assert (shape["architecture"], shape["sampling"], shape.get("texture", "none")) == (
        "resnet",
        "blur",
        "none",
    )


def test_inputs_alone(strided: Path, tmp_path: Path, capsys: Capture) -> None:
    folder, out = tmp_path / "photos", tmp_path / "out"
    folder.mkdir()
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 256, (50, 44, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    assert retrofit(strided, "--data", folder, "--out", out, "--targets") == 2
    one_error_line(capsys, "--targets", "inputs alone")
    assert not out.exists()
    assert retrofit(strided, "--data", folder, "--out", out) == 0
    captured = capsys.readouterr()
    assert "11 inputs without targets to learn from, 1 to measure on" in captured.err
    assert "to targets" not in captured.out
    assert set(rows(out)[0]) == {"name", "step", "stability_db", "tv", "l1_before"}
    assert rows(out)[0]["l1_before"] == 0


# Two states are written before the first step. The first generator is measured before anything is trained.
@pytest.mark.parametrize(("count", "suffix"), [(7, "state.safetensors"), (1, "generator.safetensors")])
def test_a_killed_run_goes_on_to_the_same_weights(
    count: int,
    suffix: str,
    strided: Path,
    pair_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["--data", pair_folder]
    assert retrofit(strided, *words, "--out", tmp_path / "whole", steps=8) == 0
    with monkeypatch.context() as patch:
        patch.setattr(tuning, "SAVE_EVERY_S", 0.0)
        stop_after(patch, count, suffix)
        with pytest.raises(Stopped):
            retrofit(strided, *words, "--out", tmp_path / "killed", steps=8)
    assert retrofit(strided, *words, "--out", tmp_path / "killed", steps=8) == 0
    ours, theirs = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert rows(tmp_path / "whole") == rows(tmp_path / "killed")


def test_the_table_is_read_back_before_the_first_step(
    strided: Path, pair_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def lossy(path: Path, text: str) -> None:
        assert '"seed": 0' in text
        write_text(path, text.replace('"seed": 0', '"seed": 1'))

    monkeypatch.setattr("steadypix.checkpoints.retrofitting.tune.write_text", lossy)
    out = tmp_path / "out"
    assert retrofit(strided, "--data", pair_folder, "--out", out) == 2
    one_error_line(capsys, f"{out / 'retrofit.json'}: is not read as it was written")
    assert not (out / "metrics.jsonl").exists()


def test_sigterm_saves_after_the_step(
    strided: Path, pair_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    update, calls = DistillStep.__call__, []

    def killed(self: DistillStep, *batch: object) -> object:
        calls.append(batch)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return update(self, *batch)  # type: ignore[arg-type]

    monkeypatch.setattr(DistillStep, "__call__", killed)
    out = tmp_path / "out"
    assert retrofit(strided, "--data", pair_folder, "--out", out, steps=6) == 143
    assert "saved after 3 of 6 steps; the same command goes on" in capsys.readouterr().err
    assert retrofit(strided, "--data", pair_folder, "--out", out, steps=6) == 0
    assert len(calls) == 6
    assert [row["step"] for row in rows(out)] == [0, 0, 1, 2, 6]


def test_towards_targets(strided: Path, pair_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert retrofit(strided, "--data", pair_folder, "--out", out, "--targets", "--window", "32") == 0
    state = weights(out)
    assert {key.partition("/")[0] for key in state} == {"generator", "discriminator", "adam_g", "adam_d"}
    assert retrofit(strided, "--data", pair_folder, "--out", out, "--targets", "--window", "32") == 0


def test_a_module_of_others(
    pair_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    (tmp_path / "theirs_retro.py").write_text(FOREIGN)
    monkeypatch.chdir(tmp_path)
    words = ["theirs_retro:build", "--data", pair_folder, "--out", tmp_path / "out"]
    words += ["--window", "32", "--canvas", "40"]
    assert retrofit(*words) == 2
    one_error_line(capsys, "theirs_retro:build", "--trust")
    assert retrofit(*words, "--trust", "--sampling", "blur_late") == 2
    one_error_line(capsys, "blur_late", "networks of ours")
    assert retrofit(*words, "--trust") == 0
    captured = capsys.readouterr()
    assert "all blurs ran" in captured.err
    assert "difference of 0" in captured.out
    out = str(tmp_path / "out")
    argv = [out, "--out", str(tmp_path / "measured"), "--shifts", "0..3", "--margins", "4", "--limit", "2"]
    assert eval_stability([*argv, "--device", "cpu"]) == 2
    one_error_line(capsys, "generator.safetensors", "can run code", "--trust")
    assert eval_stability([*argv, "--device", "cpu", "--trust"]) == 0
    [measured] = json.loads((tmp_path / "measured/results.json").read_text())["models"]
    assert measured["quality"]["tv"]["mean"] == pytest.approx(rows(tmp_path / "out")[-1]["tv"], rel=1e-5)


def test_a_run_is_gone_on_with_as_it_was_begun(
    strided: Path, pair_folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "out"
    assert retrofit(strided, "--data", pair_folder, "--out", out) == 0
    before = (out / "generator.safetensors").read_bytes()
    for option, value in (("--learning_rate", 1e-3), ("--seed", 1), ("--filter", "tri3")):
        assert retrofit(strided, "--data", pair_folder, "--out", out, option, value) == 2
        one_error_line(capsys, option.lstrip("-"), str(value))
    assert (out / "generator.safetensors").read_bytes() == before
    (out / "last/state.safetensors").unlink()
    assert retrofit(strided, "--data", pair_folder, "--out", out) == 2
    one_error_line(capsys, str(out), "holds a generator already")


def test_a_foreign_or_damaged_state_is_named(
    strided: Path, pair_folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "out"
    assert retrofit(strided, "--data", pair_folder, "--out", out) == 0
    state = out / "last/state.safetensors"
    tensors, metadata = read_tensors(state)
    first, *others = metadata["rows"]
    odd: list[dict[str, Any]] = [{"rows": rows} for rows in (7, [7], [{}], [{**first, "tv": "much"}])]
    odd += [{"rows": [first, {**others[0], "l2": 1.0}]}, {"rows": [first, {"name": "short"}]}]
    odd += [{"seen": seen} for seen in (-1, 1.5, True, None)] + [{"config": 3}]
    for change in odd:
        write_tensors(state, tensors, metadata | change)
        assert retrofit(strided, "--data", pair_folder, "--out", out) == 2, change
        one_error_line(capsys, f"{state}: is no state of a retrofit")
    write_tensors(state, dict([*tensors.items()][:3]), metadata)
    assert retrofit(strided, "--data", pair_folder, "--out", out) == 2
    one_error_line(capsys, f"{state}: the retrofit cannot go on from it")


@pytest.mark.parametrize(
    ("words", "culprits"),
    [
        (["--canvas", "33"], ["--canvas 33", "no room", "34"]),
        (["--learning_rate", "0"], ["--learning_rate", "above 0"]),
        (["--steps", "0"], ["--steps", "at least 1"]),
        (["--batch_size", "7"], ["--batch_size 7", "6 pictures"]),
        (["--lpips-weights", "nowhere.pth"], ["nowhere.pth"]),
        (["--test-split", "nowhere"], ["nowhere"]),
    ],
)
def test_bad_words_are_one_line(
    words: list[str], culprits: list[str], strided: Path, pair_folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "out"
    assert main([str(strided), "--data", str(pair_folder), "--out", str(out), *FAST, *words]) == 2
    one_error_line(capsys, *culprits)
    assert not (out / "generator.safetensors").exists()


def test_what_cannot_be_rewritten_is_refused(pair_folder: Path, tmp_path: Path, capsys: Capture) -> None:
    steady = tiny_config(pair_folder)
    steady = dataclasses.replace(
        steady,
        generator=dataclasses.replace(steady.generator, sampling="blur_late", texture="anchored", head=16),
    )
    write_checkpoint(tmp_path / "steady.safetensors", steady)
    (tmp_path / "a.onnx").write_bytes(b"x")
    for name, culprit in (("steady.safetensors", "already"), ("a.onnx", "ONNX"), ("nowhere", "nowhere")):
        assert retrofit(tmp_path / name, "--data", pair_folder, "--out", tmp_path / "out") == 2
        one_error_line(capsys, name, culprit)
    assert not (tmp_path / "out").exists()


def test_a_generator_that_was_trained_without_validation(pair_folder: Path, tmp_path: Path) -> None:
    config = tiny_config(pair_folder, sampling="strided")
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, val_split="none"))
    network = write_checkpoint(tmp_path / "a.safetensors", config)
    assert retrofit(network, "--data", pair_folder, "--out", tmp_path / "out") == 0
    assert load_generator(tmp_path / "out").config["data"]["val_split"] == "test"


def test_points_are_shares_of_the_original_training() -> None:
    assert plan(None, 6400, 1) == (1280, {64: "after 1 %", 320: "after 5 %", 1280: "after 20 %"})
    assert plan(None, 6400, 4)[0] == 320
    assert plan(100, None, 1) == (100, {5: "after 5 steps", 25: "after 25 steps", 100: "after 100 steps"})
    assert plan(None, None, 1)[0] == 1000
    assert plan(1, 6400, 1) == (1, {1: "after 0.0156 %"})


def test_levels_are_known() -> None:
    """The choices of the command are those of the networks."""
    assert {"blur", "preblur", "blur_late"} == set(levels.SAMPLINGS) - {"strided"}
