"""What a run shows along the way, trackers, and going on with other values of named options."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import sys
import types
from pathlib import Path

import pytest
from safetensors.torch import load_file

import train_pix2pix as trainer
from steadypix.checkpoints.run import in_words, start_tracker
from steadypix.command import Terminated
from steadypix.configs.resume import CHANGEABLE_KEYS, FREE_KEYS, flatten
from steadypix.configs.schema import RunConfig, TrainConfig
from steadypix.errors import InputError
from steadypix.gen.training.schedules import lr_factor
from steadypix.gen.weights.generators import load_generator
from tests.cli import Capture, one_error_line
from tests.conftest import tiny_config

pytestmark = pytest.mark.slow


def rows(out: Path, kind: str) -> list[dict]:
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


def weights(out: Path) -> dict:
    return {key: value.tolist() for key, value in load_file(out / "generator.safetensors").items()}


def with_train(config: RunConfig, **changes: object) -> RunConfig:
    return dataclasses.replace(config, train=dataclasses.replace(config.train, **changes))


def test_a_short_run_logs_every_epoch_and_shows_tv_beside_db(
    pair_folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    """Three steps an epoch, with lines of losses asked for every 5 and every 50 steps."""
    out = tmp_path / "run"
    config = tiny_config(pair_folder, train=TrainConfig(epochs=3, sample_every=0, log_every_steps=50))
    assert trainer.train(config, out) == 0
    assert [(row["seen"], row["epoch"]) for row in rows(out, "train")] == [(6, 1), (12, 2), (18, 3)]
    (validated,) = rows(out, "val")
    assert validated["epoch"] == 3
    assert validated["val_tv_ratio"] == pytest.approx(validated["val_tv"] / validated["val_target_tv"])
    said = capsys.readouterr().err
    shown = f"stability {validated['val_stability_db']:.2f} dB at TV {validated['val_tv']:.4f} (targets "
    assert f"epoch 3: L1 {validated['val_l1']:.4f}, {shown}" in said
    assert f"(targets {validated['val_target_tv']:.4f}, ratio {validated['val_tv_ratio']:.2f})" in said
    # Where an epoch has a line already, none is added; the means are of the steps since the last one.
    assert trainer.train(with_train(config, log_every_steps=2), tmp_path / "often") == 0
    assert [row["seen"] for row in rows(tmp_path / "often", "train")] == [4, 8, 12, 16]
    assert weights(out) == weights(tmp_path / "often")


def test_the_bar_shows_db_beside_tv(
    pair_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = []
    original = trainer.Run.shown_figures
    monkeypatch.setattr(trainer.Run, "shown_figures", lambda run: shown.append(original(run)) or shown[-1])
    train = TrainConfig(epochs=2, log_every_steps=1, val_every=1, sample_every=0, save_every=2)
    assert trainer.train(tiny_config(pair_folder, train=train), tmp_path / "run") == 0
    first = rows(tmp_path / "run", "val")[0]
    assert "TV" not in shown[2]
    assert shown[3]["dB"] == f"{first['val_stability_db']:.1f}"
    assert shown[3]["TV"] == f"{first['val_tv']:.3f}"
    assert shown[3]["TV/targets"] == f"{first['val_tv'] / first['val_target_tv']:.2f}"


def test_where_nothing_can_be_shifted_there_is_no_db() -> None:
    figures = {"val_l1": 0.1, "val_tv": 0.05, "val_target_tv": 0.1, "val_stability_db": None}
    assert in_words({**figures, "val_tv_ratio": 0.5}) == "L1 0.1000 at TV 0.0500 (targets 0.1000, ratio 0.50)"
    flat = {**figures, "val_target_tv": 0.0, "val_tv_ratio": None}
    assert in_words(flat) == "L1 0.1000 at TV 0.0500 (targets 0.0000)"


# ---- trackers -------------------------------------------------------------------------------------------


def test_tensorboard_gets_figures_and_configuration_and_changes_no_weight(
    pair_folder: Path, tmp_path: Path
) -> None:
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="tensorboard is not installed (the extra steadypix[tensorboard])",
    )
    config = tiny_config(pair_folder, train=TrainConfig(epochs=1, log_every_steps=1, sample_every=0))
    tracked = with_train(config, tracker="tensorboard")
    assert trainer.train(config, tmp_path / "plain") == 0
    assert trainer.train(tracked, tmp_path / "run") == 0
    assert weights(tmp_path / "plain") == weights(tmp_path / "run")
    folder = tmp_path / "run" / "tracker" / "steadypix"
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    shown = {event.step: event.value for event in events.Scalars("train/loss_l1")}
    assert shown == pytest.approx({row["seen"]: row["loss_l1"] for row in rows(tmp_path / "run", "train")})
    (validated,) = rows(tmp_path / "run", "val")
    for key in ("stability_db", "tv"):
        assert events.Scalars(f"val/{key}")[0].value == pytest.approx(validated[f"val_{key}"])
    (written,) = folder.glob("*/hparams.yml")
    for line in ("generator.ngf: 4", "train.learning_rate: 0.0002", "train.ema: 0.0"):
        assert line in written.read_text()
    # A tracker may come and go between parts of a run.
    assert trainer.train(with_train(config, epochs=2), tmp_path / "run") == 0


def test_tensorboard_forgets_what_a_killed_process_wrote_too_much(pair_folder: Path, tmp_path: Path) -> None:
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="tensorboard is not installed (the extra steadypix[tensorboard])",
    )
    train = TrainConfig(epochs=2, log_every_steps=1, val_every=0, sample_every=0, tracker="tensorboard")
    config, out = tiny_config(pair_folder, train=train), tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        save = trainer.Run.save
        # Nothing is saved after the first epoch, and the process ends in the second.
        patch.setattr(trainer.Run, "save", lambda run, progress: progress.seen > 6 or save(run, progress))
        patch.setattr(trainer, "must_stop", lambda *_: rows(out, "train")[-1]["seen"] == 10)
        with pytest.raises(Terminated):
            trainer.train(config, out)
    assert trainer.train(config, out) == 0
    events = accumulator.EventAccumulator(str(out / "tracker" / "steadypix"))
    events.Reload()
    shown = [(event.step, event.value) for event in events.Scalars("train/loss_l1")]
    assert [step for step, _ in shown] == [2, 4, 6, 8, 10, 12]
    assert dict(shown) == pytest.approx({row["seen"]: row["loss_l1"] for row in rows(out, "train")})


def test_mlflow_writes_below_the_run_unless_told_otherwise(
    pair_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own default is the folder that the command was called in."""
    said: list[str] = []
    told = types.SimpleNamespace(is_tracking_uri_set=lambda: bool(said), set_tracking_uri=said.append)
    monkeypatch.setitem(sys.modules, "mlflow", told)
    started: list[dict] = []
    accelerator = types.SimpleNamespace(
        is_main_process=True, init_trackers=lambda name, config, init_kwargs: started.append(init_kwargs)
    )
    config = with_train(tiny_config(pair_folder), tracker="mlflow")
    for _ in range(2):
        start_tracker(accelerator, config, tmp_path / "run", 0)
    assert said == [f"sqlite:///{tmp_path}/run/tracker/mlflow.db"]
    assert (tmp_path / "run" / "tracker").is_dir()
    assert started[0]["mlflow"] == {"run_name": "run", "logging_dir": str(tmp_path / "run" / "tracker")}


@pytest.mark.filterwarnings("ignore")  # of the tracker's own dependencies
def test_mlflow_gets_every_part_of_a_run(pair_folder: Path, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    train = TrainConfig(epochs=1, log_every_steps=1, val_every=1, sample_every=0, tracker="mlflow")
    config, out = tiny_config(pair_folder, train=train), tmp_path / "run"
    assert trainer.train(config, out) == 0
    assert trainer.train(with_train(config, epochs=2), out) == 0
    client = mlflow.MlflowClient(f"sqlite:///{out}/tracker/mlflow.db")
    runs = client.search_runs([each.experiment_id for each in client.search_experiments()])
    history = [client.get_metric_history(run.info.run_id, "train/loss_l1") for run in runs]
    shown = {point.step: point.value for points in history for point in points}
    assert shown == pytest.approx({row["seen"]: row["loss_l1"] for row in rows(out, "train")})
    assert {run.data.params["train.learning_rate"] for run in runs} == {"0.0002"}
    assert {run.data.metrics["val/tv_ratio"] for run in runs} == {
        row["val_tv_ratio"] for row in rows(out, "val")
    }


@pytest.mark.filterwarnings("ignore")
def test_wandb_keeps_its_files_here_when_offline(
    pair_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    train = TrainConfig(epochs=1, log_every_steps=1, val_every=1, sample_every=0, tracker="wandb")
    assert trainer.train(tiny_config(pair_folder, train=train), tmp_path / "run") == 0
    (written,) = (tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb")
    for word in (b"train/loss_l1", b"val/tv_ratio", b"generator.ngf"):
        assert word in written.read_bytes()


def test_a_missing_tracker_is_named_before_anything_is_done(tmp_path: Path, capsys: Capture) -> None:
    if importlib.util.find_spec("wandb") is not None:
        pytest.skip("wandb is installed here")
    argv = ["--train.tracker", "wandb", "--device", "cpu", "--out", str(tmp_path / "run")]
    assert trainer.main(argv) == 2
    one_error_line(capsys, "train.tracker wandb", "pip install wandb")
    assert not (tmp_path / "run").exists()
    assert trainer.main(["--train.tracker", "paper"]) == 2
    one_error_line(capsys, "train.tracker", "paper")


# ---- other values on the way ----------------------------------------------------------------------------


def test_named_options_may_change_and_the_change_is_recorded(
    pair_folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "run"
    config = tiny_config(pair_folder)
    assert trainer.train(with_train(config, epochs=1), out) == 0
    assert "changes" not in load_generator(out).provenance
    other = with_train(config, learning_rate=1e-3)
    with pytest.raises(
        InputError, match=r"train\.learning_rate: the run has 0\.0002, this command 0\.001; --al"
    ):
        trainer.train(other, out)
    with pytest.raises(InputError, match=r"train\.learning_rate: the run has"):
        trainer.train(other, out, allow_change=["train.beta1"])
    capsys.readouterr()
    assert trainer.train(other, out, allow_change=["train.learning_rate", "train.beta1"]) == 0
    assert "train.learning_rate changes from 0.0002 to 0.001" in capsys.readouterr().err
    change = {"key": "train.learning_rate", "from": 0.0002, "to": 0.001, "seen": 6}
    assert load_generator(out).provenance["changes"] == [change]
    factor = lr_factor("linear", 1, epochs=2, decay_epochs=1, step_epochs=50)
    assert rows(out, "train")[-1]["learning_rate"] == pytest.approx(1e-3 * factor)
    # From here on the changed value is the run's own, and the record stays.
    assert trainer.train(with_train(other, epochs=3), out) == 0
    assert load_generator(out).provenance["changes"] == [change]
    with pytest.raises(InputError, match=r"seed: the run has 0, this command 1"):
        trainer.train(dataclasses.replace(with_train(other, epochs=4), seed=1), out)


def test_options_that_cannot_change_are_refused_by_name(capsys: Capture) -> None:
    for key, hint in (("generator.ngf", "cannot change"), ("train.learning_rat", "train.learning_rate")):
        assert trainer.main(["--allow-change", key]) == 2
        one_error_line(capsys, f"--allow-change {key}", hint)


def test_every_name_is_an_options() -> None:
    options = flatten(dataclasses.asdict(RunConfig()))
    assert options.keys() >= CHANGEABLE_KEYS
    assert not CHANGEABLE_KEYS & FREE_KEYS
