"""The trainer: it learns, writes what it should, resumes to the bit, and stops in time."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import train_pix2pix as trainer
from checkpoints.progress import Progress
from configs.load import ConfigError
from configs.schema import (
    DiscriminatorConfig,
    GeneratorConfig,
    LossConfig,
    TrainConfig,
)
from data.command import StopRequest, Terminated
from data.errors import InputError
from data.sampler import ignore_signals
from gen import CheckpointError, UNetGenerator, load_generator
from gen.checkpoint import read_tensors, write_tensors
from gen.failures import TrainingError
from tests.conftest import tiny_config, write_checkpoint


def rows(out: Path, kind: str) -> list[dict]:
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


def same_weights(a: Path, b: Path) -> bool:
    first, second = load_file(a / "last/state.safetensors"), load_file(b / "last/state.safetensors")
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_a_run_learns_and_leaves_what_it_should(pair_folder: Path, tmp_path: Path) -> None:
    """L1 to a target of one colour falls well below where it began: gradients reach the generator."""
    for file in pair_folder.glob("*/*.png"):
        pixels = np.array(Image.open(file))
        pixels[:, :48] = (200, 40, 120)
        Image.fromarray(pixels).save(file)
    config = tiny_config(
        pair_folder,
        train=TrainConfig(
            epochs=12, learning_rate=2e-3, log_every_steps=3, val_every=6, sample_every=6, keep_every=6
        ),
    )
    out = tmp_path / "run"
    assert trainer.train(config, out) == 0
    train_rows, val_rows = rows(out, "train"), rows(out, "val")
    assert train_rows[-1]["loss_l1"] < 0.7 * train_rows[0]["loss_l1"]
    assert [row["epoch"] for row in val_rows] == [6, 12]
    assert val_rows[-1]["val_stability_db"] > 10
    assert {path.name for path in out.iterdir()} == {
        "config.yaml",
        "generator-0006.safetensors",
        "generator-0012.safetensors",
        "generator.safetensors",
        "last",
        "metrics.jsonl",
        "samples",
    }
    assert {path.name for path in (out / "samples").iterdir()} == {"epoch-0006.png", "epoch-0012.png"}
    generator = load_generator(out)
    assert generator.config["generator"]["ngf"] == 4
    assert generator.provenance["epoch"] == 12
    assert trainer.train(config, out) == 0  # nothing left to do


@pytest.mark.parametrize("gan", ["vanilla", "lsgan", "hinge"])
@pytest.mark.parametrize("kind", ["patch", "pixel"])
def test_every_objective_trains(pair_folder: Path, tmp_path: Path, gan: str, kind: str) -> None:
    config = tiny_config(
        pair_folder,
        loss=LossConfig(gan=gan),
        discriminator=DiscriminatorConfig(kind=kind, ndf=4, n_layers=1, norm="batch"),
    )
    assert trainer.train(config, tmp_path / "run") == 0


def test_grayscale_trains(pair_folder: Path, tmp_path: Path) -> None:
    generator = GeneratorConfig(ngf=4, num_downs=3, in_channels=1, out_channels=1)
    train = TrainConfig(epochs=1, sample_every=1, val_every=1)
    config = tiny_config(pair_folder, generator=generator, train=train)
    assert trainer.train(config, tmp_path / "run") == 0


@pytest.mark.parametrize("workers", [0, 2])
def test_resume_is_exact_to_the_bit(pair_folder: Path, tmp_path: Path, workers: int) -> None:
    """Stopped in the middle of an epoch by SIGTERM, gone on: the same state as never stopped."""
    generator = GeneratorConfig(ngf=4, num_downs=6)  # deep enough for dropout
    config = tiny_config(pair_folder, generator=generator, workers=workers)
    assert trainer.train(config, tmp_path / "whole") == 0
    out = tmp_path / "stopped"
    original = trainer.Run.log

    def log_and_stop(run: trainer.Run, progress: Progress, *rest: object) -> None:
        original(run, progress, *rest)  # type: ignore[arg-type]
        if progress.seen in (4, 8):  # 6 pairs an epoch, 2 a step: in the middle of both epochs
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer.Run, "log", log_and_stop)
        for _ in range(2):
            with pytest.raises(Terminated):
                trainer.train(config, out)
            assert not same_weights(out, tmp_path / "whole")
    assert trainer.train(config, out) == 0
    assert same_weights(out, tmp_path / "whole")
    whole = [{k: v for k, v in r.items() if k != "images_per_s"} for r in rows(tmp_path / "whole", "train")]
    ours = [{k: v for k, v in r.items() if k != "images_per_s"} for r in rows(out, "train")]
    assert ours == whole


def test_more_epochs_may_be_asked_for_but_nothing_else(pair_folder: Path, tmp_path: Path) -> None:
    config = tiny_config(pair_folder)
    out = tmp_path / "run"
    trainer.train(config, out)
    more = dataclasses.replace(config, train=dataclasses.replace(config.train, epochs=3))
    assert trainer.train(more, out) == 0
    assert load_generator(out).provenance["epoch"] == 3
    with pytest.raises(ConfigError, match=r"seed: .* has 0, this command 5"):
        trainer.train(dataclasses.replace(config, seed=5), out)
    with pytest.raises(ConfigError, match="holds a run already"):
        trainer.train(config, out, resume="never")
    with pytest.raises(ConfigError, match="holds no run"):
        trainer.train(config, tmp_path / "new", resume=str(tmp_path / "elsewhere"))


def test_a_branch_starts_from_a_named_run_and_then_from_itself(pair_folder: Path, tmp_path: Path) -> None:
    config = tiny_config(pair_folder)
    trainer.train(config, tmp_path / "run")
    more = dataclasses.replace(config, train=dataclasses.replace(config.train, epochs=3))
    trainer.train(more, tmp_path / "branch", resume=str(tmp_path / "run"))
    assert [row["seen"] for row in rows(tmp_path / "branch", "train")] == [14, 16, 18]
    assert load_generator(tmp_path / "run").provenance["epoch"] == 2
    most = dataclasses.replace(config, train=dataclasses.replace(config.train, epochs=4))
    trainer.train(most, tmp_path / "branch", resume=str(tmp_path / "run"))
    assert [row["seen"] for row in rows(tmp_path / "branch", "train")] == [14, 16, 18, 20, 22, 24]


def test_a_tail_left_by_another_number_of_processes_ends_the_epoch(pair_folder: Path, tmp_path: Path) -> None:
    """A state that stands where no whole batch is left still ends its epoch and is saved."""
    config = tiny_config(pair_folder)
    out = tmp_path / "run"
    trainer.train(config, out)
    state = out / "last" / "state.safetensors"
    tensors, metadata = read_tensors(state)
    # 6 an epoch, 2 a step: one sample is left.
    progress = {**metadata["progress"], "epoch": 0, "place": 5, "seen": 5}
    write_tensors(state, tensors, {**metadata, "progress": progress})
    trainer.train(config, out)
    provenance = load_generator(out).provenance
    assert (provenance["epoch"], provenance["seen"]) == (2, 11)


def test_a_signal_to_the_whole_group_is_the_trainers_to_handle() -> None:
    previous = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        ignore_signals(0)
        assert all(signal.getsignal(s) == signal.SIG_IGN for s in previous)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def test_what_cannot_work_is_said_before_training(pair_folder: Path, tmp_path: Path) -> None:
    deep = tiny_config(pair_folder, discriminator=DiscriminatorConfig(ndf=4, n_layers=5))
    with pytest.raises(ConfigError, match=r"n_layers 5: too many for a data.crop_size of 32"):
        trainer.train(deep, tmp_path / "run")
    (pair_folder / "test" / "2.png").write_text("not a picture")
    watched = tiny_config(pair_folder, train=TrainConfig(epochs=1, val_every=1, sample_every=0))
    with pytest.raises(InputError, match=r"2\.png"):
        trainer.train(watched, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_damaged_state_is_refused(pair_folder: Path, tmp_path: Path) -> None:
    config = tiny_config(pair_folder)
    trainer.train(config, tmp_path / "run")
    state = tmp_path / "run" / "last" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:2000])
    with pytest.raises(CheckpointError, match=r"state\.safetensors"):
        trainer.train(config, tmp_path / "run")
    write_checkpoint(state, config)
    with pytest.raises(CheckpointError, match="no training state"):
        trainer.train(config, tmp_path / "run")


def test_a_loss_that_is_not_finite_stops_before_the_update(
    pair_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(pair_folder)
    trainer.train(config, tmp_path / "run")
    before = load_file(tmp_path / "run" / "generator.safetensors")
    more = dataclasses.replace(config, train=dataclasses.replace(config.train, epochs=4))
    monkeypatch.setattr("gen.step.F.l1_loss", lambda a, b: (a - b).mean() * float("nan"))
    with pytest.raises(TrainingError, match="generator's loss is nan, after 12 samples"):
        trainer.train(more, tmp_path / "run")
    after = load_file(tmp_path / "run" / "generator.safetensors")
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_init_takes_the_weights_of_another_sampling(pair_folder: Path, tmp_path: Path) -> None:
    strided = tiny_config(pair_folder, sampling="strided")
    start = write_checkpoint(tmp_path / "strided.safetensors", strided, seed=9)
    frozen = TrainConfig(epochs=1, learning_rate=0.0, sample_every=0, val_every=0)
    trainer.train(tiny_config(pair_folder, train=frozen), tmp_path / "run", init=str(start))
    ours, theirs = load_generator(tmp_path / "run"), load_generator(start)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    assert ours.config["generator"]["sampling"] == "blur"


def test_a_second_signal_acts_at_once() -> None:
    stop = StopRequest()
    with stop.listening():
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.signal == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_unavailable_device_is_named(pair_folder: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has the device that the test expects to be missing")
    with pytest.raises(ConfigError, match="cuda"):
        trainer.train(tiny_config(pair_folder, device="cuda"), tmp_path / "run")


def test_too_few_pairs_for_a_batch(pair_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="6 pairs"):
        trainer.train(tiny_config(pair_folder, batch_size=7), tmp_path / "run")


def test_a_strided_generator_and_its_blur_twin_start_alike(tmp_path: Path) -> None:
    """The same seed gives every sampling the same initial weights: comparisons are paired."""
    twins = []
    for sampling in ("strided", "blur"):
        torch.manual_seed(0)
        twins.append(UNetGenerator(ngf=4, num_downs=3, sampling=sampling))
    assert all(torch.equal(a, b) for a, b in zip(*(t.parameters() for t in twins), strict=True))
