"""The trainer: it learns, writes what it should, resumes to the bit, and stops in time."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import train_pix2pix as trainer
from steadypix import CheckpointError, UNetGenerator
from steadypix.checkpoints.progress import Progress
from steadypix.checkpoints.run import BEST_FILE, Run
from steadypix.checkpoints.run_directory import RunDirectory
from steadypix.checkpoints.stop import StopRequest
from steadypix.command import Terminated
from steadypix.configs.schema import DataConfig, DiscriminatorConfig, GeneratorConfig, LossConfig, TrainConfig
from steadypix.data.pairs.folders import PairedImages
from steadypix.data.pairs.sampler import ignore_signals
from steadypix.errors import InputError
from steadypix.files import write_text
from steadypix.gen.training.failures import TrainingError, failures_explained
from steadypix.gen.training.losses import GAN_MODES
from steadypix.gen.weights.generators import load_generator
from steadypix.gen.weights.tensors import read_tensors, write_tensors
from tests.cli import TINY, Capture, one_error_line
from tests.conftest import REPOSITORY, tiny_config, write_checkpoint

pytestmark = pytest.mark.slow


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


@pytest.mark.parametrize("gan", GAN_MODES)
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


def stop_after(patch: pytest.MonkeyPatch, places: set[int]) -> None:
    """Have every run send itself SIGTERM behind the steps that end at these places."""
    original = trainer.Run.log

    def log_and_stop(run: trainer.Run, progress: Progress, *rest: object) -> None:
        original(run, progress, *rest)  # type: ignore[arg-type]
        if progress.seen in places:
            os.kill(os.getpid(), signal.SIGTERM)

    patch.setattr(trainer.Run, "log", log_and_stop)


def untimed(out: Path, kind: str) -> list[dict]:
    return [{key: value for key, value in row.items() if key != "images_per_s"} for row in rows(out, kind)]


@pytest.mark.parametrize(
    "train",
    [
        {},
        {"accumulate": 2, "ema": 0.9, "val_every": 1, "best_by": "l1"},
        {
            "lr_policy": "plateau",
            "patience": 0,
            "val_every": 1,
            "best_by": "stability",
            "checkpointing": True,
        },
        {"lr_policy": "cosine", "channels_last": True, "precision": "bf16"},
    ],
    ids=["plain", "accumulated-averaged", "plateau", "bf16"],
)
def test_resume_is_exact_to_the_bit(pair_folder: Path, tmp_path: Path, train: dict) -> None:
    """Stopped in the middle of epochs by SIGTERM, gone on: the same state as never stopped.

    The uninterrupted run loads its data in the trainer, the other one in two workers.
    """
    for number in (7, 8):  # 8 pairs an epoch
        (pair_folder / "train" / f"{number}.png").write_bytes((pair_folder / "train/1.png").read_bytes())
    config = tiny_config(
        pair_folder,
        generator=GeneratorConfig(ngf=4, num_downs=6),  # deep enough for dropout
        loss=LossConfig(equivariance=1.0, equivariance_px=3),
        train=TrainConfig(epochs=3, log_every_steps=1, sample_every=0, **{"val_every": 0, **train}),
    )
    assert trainer.train(config, tmp_path / "whole") == 0
    out = tmp_path / "stopped"
    config = dataclasses.replace(config, workers=2)
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, {4, 12, 20})
        for _ in range(3):
            with pytest.raises(Terminated):
                trainer.train(config, out)
            assert not same_weights(out, tmp_path / "whole")
    assert trainer.train(config, out) == 0
    assert same_weights(out, tmp_path / "whole")
    for kind in ("train", "val"):
        assert untimed(out, kind) == untimed(tmp_path / "whole", kind)
    if train.get("best_by"):
        first, second = (load_generator(o / BEST_FILE) for o in (out, tmp_path / "whole"))
        assert first.provenance["seen"] == second.provenance["seen"]


def test_the_equivariance_loss_begins_after_its_share_of_the_epochs(
    pair_folder: Path, tmp_path: Path
) -> None:
    """Until then the run is the one without it, and what is logged is the mean over steps that had it."""
    loss = LossConfig(equivariance=5.0, equivariance_px=3, equivariance_start=0.5)
    for name, every, change in (("plain", 4, {}), ("late", 4, {"loss": loss}), ("each", 1, {"loss": loss})):
        settings = TrainConfig(epochs=3, log_every_steps=every, keep_every=1, val_every=0, sample_every=0)
        assert trainer.train(tiny_config(pair_folder, train=settings, **change), tmp_path / name) == 0
    for name, equal in (("generator-0001", True), ("generator-0002", True), ("generator", False)):
        plain, late = (load_file(tmp_path / run / f"{name}.safetensors") for run in ("plain", "late"))
        assert all(torch.equal(plain[key], late[key]) for key in plain) is equal
    *_, before, last = rows(tmp_path / "late", "train")
    assert "loss_equivariance" not in before
    each = [row for row in rows(tmp_path / "each", "train") if before["seen"] < row["seen"] <= last["seen"]]
    found = [row["loss_equivariance"] for row in each if "loss_equivariance" in row]
    assert 0 < len(found) < len(each)
    assert last["loss_equivariance"] == pytest.approx(sum(found) / len(found))


def test_killed_behind_a_validation_its_row_stands_once(pair_folder: Path, tmp_path: Path) -> None:
    """Saved after every step; a state of an epoch's last one would have the epoch end again."""

    class Killed(BaseException):
        pass

    config = tiny_config(
        pair_folder,
        train=TrainConfig(epochs=3, log_every_steps=1, save_every=9, sample_every=0, val_every=1),
    )
    assert trainer.train(config, tmp_path / "whole") == 0
    write_row = RunDirectory.write_row

    def write_and_end(self: RunDirectory, kind: str, **row: Any) -> None:
        write_row(self, kind, **row)
        if kind == "val" and row["epoch"] == 2:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "save_is_due", lambda self: True)
        patch.setattr(RunDirectory, "write_row", write_and_end)
        with pytest.raises(Killed):
            trainer.train(config, tmp_path / "killed")
    assert trainer.train(config, tmp_path / "killed") == 0
    for kind in ("train", "val"):
        assert untimed(tmp_path / "killed", kind) == untimed(tmp_path / "whole", kind)


def test_more_epochs_may_be_asked_for_but_nothing_else(pair_folder: Path, tmp_path: Path) -> None:
    config = tiny_config(pair_folder)
    out = tmp_path / "run"
    trainer.train(config, out)
    more = dataclasses.replace(config, train=dataclasses.replace(config.train, epochs=3))
    assert trainer.train(more, out) == 0
    assert load_generator(out).provenance["epoch"] == 3
    with pytest.raises(InputError, match=r"seed: .* has 0, this command 5"):
        trainer.train(dataclasses.replace(config, seed=5), out)
    longer = dataclasses.replace(config, train=dataclasses.replace(config.train, beta1=0.9))
    with pytest.raises(InputError, match=r"train.beta1: the run has 0.5, this command 0.9"):
        trainer.train(longer, out)
    # Twice the batches of half the size are the same step; half the batches are not.
    shared = dataclasses.replace(
        more, batch_size=1, train=dataclasses.replace(more.train, accumulate=2, epochs=4)
    )
    assert trainer.train(shared, out) == 0
    with pytest.raises(InputError, match=r"batch_size: the run has 1, this command 3"):
        trainer.train(dataclasses.replace(config, batch_size=3), out)
    with pytest.raises(InputError, match="holds a run already"):
        trainer.train(config, out, resume="never")
    with pytest.raises(InputError, match="holds no run"):
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
    with pytest.raises(InputError, match=r"n_layers 5: too many for a data.crop_size of 32"):
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
    monkeypatch.setattr("steadypix.gen.training.step.F.l1_loss", lambda a, b: (a - b).mean() * float("nan"))
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


def test_init_says_what_is_new(pair_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = write_checkpoint(tmp_path / "plain.safetensors", tiny_config(pair_folder), seed=9)
    config = tiny_config(pair_folder, train=TrainConfig(epochs=1, sample_every=0, val_every=0))
    wider = dataclasses.replace(config.generator, texture="anchored", head=4)
    config = dataclasses.replace(config, generator=wider)
    trainer.train(config, tmp_path / "run", init=str(start))
    said = capsys.readouterr().err
    assert f"{start}: encoder.0.conv.weight: 4 of 7 inputs: new" in said
    assert f"{start}: detail.head.first.weight: new" in said
    assert load_generator(tmp_path / "run").config["generator"]["head"] == 4


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
    with pytest.raises(InputError, match="cuda"):
        trainer.train(tiny_config(pair_folder, device="cuda"), tmp_path / "run")


def test_too_few_pairs_for_a_batch(pair_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="6 pairs"):
        trainer.train(tiny_config(pair_folder, batch_size=7), tmp_path / "run")


def test_a_strided_generator_and_its_blur_twin_start_alike(tmp_path: Path) -> None:
    """The same seed gives every sampling the same initial weights: comparisons are paired."""
    twins = []
    for sampling in ("strided", "blur"):
        torch.manual_seed(0)
        twins.append(UNetGenerator(ngf=4, num_downs=3, sampling=sampling))
    assert all(torch.equal(a, b) for a, b in zip(*(t.parameters() for t in twins), strict=True))


def test_a_run_goes_on_where_its_data_lie_now_but_not_with_others(pair_folder: Path, tmp_path: Path) -> None:
    trainer.train(tiny_config(pair_folder), tmp_path / "run")
    moved = pair_folder.rename(tmp_path / "moved")
    more = TrainConfig(epochs=3, sample_every=0, val_every=0, log_every_steps=1)
    assert trainer.train(tiny_config(moved, train=more), tmp_path / "run") == 0
    (moved / "train" / "6.png").unlink()
    with pytest.raises(InputError, match=r"data.root: .* other pictures \(6 pairs, \w+; here: 5 pairs, "):
        trainer.train(tiny_config(moved, train=more), tmp_path / "run")


def test_seconds_bound_what_a_kill_can_cost(pair_folder: Path, tmp_path: Path) -> None:
    """Where epochs' ends save none, a state is there behind every step, once behind an epoch's last."""
    config = tiny_config(
        pair_folder,
        train=TrainConfig(
            epochs=2, sample_every=0, val_every=0, log_every_steps=1, save_every=9, save_every_s=1e-6
        ),
    )
    with pytest.MonkeyPatch.context() as patch:
        saved: list[int] = []
        original = trainer.Run.save
        patch.setattr(trainer.Run, "save", lambda run, p: (saved.append(p.seen), original(run, p)))
        trainer.train(config, tmp_path / "run")
    assert saved == [2, 4, 6, 8, 10, 12]


@pytest.mark.parametrize(("by", "better"), [("l1", min), ("stability", max)])
def test_the_best_generator_is_kept(pair_folder: Path, tmp_path: Path, by: str, better: object) -> None:
    config = tiny_config(
        pair_folder,
        train=TrainConfig(
            epochs=6, learning_rate=5e-3, val_every=1, sample_every=0, log_every_steps=1, best_by=by
        ),
    )
    trainer.train(config, tmp_path / "run")
    scores = {
        row["seen"]: row["val_l1" if by == "l1" else "val_stability_db"]
        for row in rows(tmp_path / "run", "val")
    }
    best = load_generator(tmp_path / "run" / BEST_FILE).provenance
    assert scores[best["seen"]] == better(scores.values())  # type: ignore[operator]


def test_an_average_is_what_is_saved_and_validated(pair_folder: Path, tmp_path: Path) -> None:
    config = tiny_config(pair_folder, train=TrainConfig(epochs=2, ema=0.5, val_every=1, sample_every=0))
    trainer.train(config, tmp_path / "run")
    state, _ = read_tensors(tmp_path / "run/last/state.safetensors")
    saved = load_generator(tmp_path / "run")
    for key, value in saved.state_dict().items():
        assert torch.equal(value, state[f"ema/module.{key}"])
    assert not torch.equal(
        state["generator/encoder.0.conv.weight"], state["ema/module.encoder.0.conv.weight"]
    )
    assert saved.provenance["averaged"] is True


def test_a_worker_that_dies_ends_the_run_in_one_line(
    pair_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = PairedImages.read

    def read(pairs: PairedImages, index: int) -> object:
        if index == 3 and torch.utils.data.get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)  # as the system does when memory runs out
        return original(pairs, index)

    monkeypatch.setattr(PairedImages, "read", read)
    argv = ["--data.root", str(pair_folder), "--data.load_size=40", "--data.crop_size=32", "--device=cpu"]
    argv += ["--generator.ngf=4", "--generator.num_downs=3", "--discriminator.ndf=4", "--train.val_every=0"]
    argv += ["--discriminator.n_layers=1", "--train.sample_every=0", "--out", str(tmp_path / "run")]
    assert trainer.main([*argv, "--workers=2", "--train.epochs=1"]) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("train_pix2pix: error: DataLoader worker")
    assert "a process that loads data is gone" in line
    monkeypatch.undo()
    assert trainer.main([*argv, "--workers=2", "--train.epochs=1"]) == 0


def test_unreadable_pairs_are_named_once_and_counted(
    pair_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pair_folder / "train" / "2.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"2\.png"):
        trainer.train(tiny_config(pair_folder), tmp_path / "fails")
    data = DataConfig(root=str(pair_folder), load_size=40, crop_size=32, on_error="skip")
    assert trainer.train(tiny_config(data=data), tmp_path / "run") == 0
    said = capsys.readouterr().err
    assert said.count("skipped: ") == 1
    assert "2.png" in said
    assert "epoch 2: others stood in for 1 samples that cannot be read" in said


def test_a_configuration_is_read_back_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def lossy(path: Path, text: str) -> None:
        write_text(path, text.replace("seed: 7", "seed: 1") if path.name == "config.yaml" else text)

    monkeypatch.setattr("steadypix.checkpoints.run_directory.write_text", lossy)
    out = tmp_path / "run"
    assert trainer.main([*TINY, "--seed", "7", "--device", "cpu", "--out", str(out)]) == 2
    one_error_line(capsys, f"{out / 'config.yaml'}: is not read as it was written")
    assert not list(out.glob("generator*"))
    assert (out / "metrics.jsonl").read_text() == ""


def test_compiled_networks_train_alike(tmp_path: Path) -> None:
    """As a user runs it, because torch's compiler warns of parts of torch when it is first imported."""
    if shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler on a CPU")
    losses = []
    argv = ["--data.load_size=40", "--data.crop_size=32", "--generator.ngf=4", "--generator.num_downs=1"]
    argv += ["--discriminator.kind=pixel", "--discriminator.ndf=4", "--device=cpu", "--train.val_every=0"]
    argv += ["--train.sample_every=0", "--train.log_every_steps=1", "--train.epochs=1"]
    argv += ["--data.synthetic_count=2", "--batch_size=2", "--generator.sampling=strided"]
    for compiled in ("false", "true"):
        out = tmp_path / compiled
        command = [
            sys.executable,
            "train_pix2pix.py",
            *argv,
            f"--train.compile={compiled}",
            "--out",
            str(out),
        ]
        subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
        losses.append([row["loss_l1"] for row in rows(out, "train")])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    # The weights keep their names: the file loads like any other.
    load_generator(tmp_path / "true")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), "train.checkpointing true"),
        (torch.distributed.DistBackendError("NCCL error"), "another process of this run is gone"),
        (RuntimeError("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer"), "another process"),
    ],
)
def test_failures_from_outside_say_what_to_do(error: RuntimeError, expected: str) -> None:
    with pytest.raises(TrainingError, match=expected), failures_explained(lambda: 7):
        raise error
    with pytest.raises(RuntimeError, match="a bug"), failures_explained(lambda: 7):
        raise RuntimeError("a bug")


@pytest.mark.parametrize(
    ("argument", "value", "expected"),
    [
        ("epoch", -1, "epoch must be a count"),
        ("seen", 10**30, "seen must be a count"),
        ("best", float("nan"), "best must be a finite number"),
        ("plateau", None, "plateau"),
        ("best_by", 3, "best_by must be a name"),
    ],
)
def test_progress_that_cannot_be_is_refused(argument: str, value: object, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        Progress.from_json({**Progress().to_json(), argument: value})
    assert Progress.from_json(Progress(epoch=3, best=0.5).to_json()) == Progress(epoch=3, best=0.5)
