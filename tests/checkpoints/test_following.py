"""What a run shows along the way, trackers, and going on with other values of named options."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

import train_pix2pix as trainer
from steadypix.checkpoints.run import in_words
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
    assert {"val_stability_db", "val_tv", "val_target_tv"} <= validated.keys()
    said = capsys.readouterr().err
    shown = f"stability {validated['val_stability_db']:.2f} dB at TV {validated['val_tv']:.4f} (targets "
    assert f"epoch 3: L1 {validated['val_l1']:.4f}, {shown}" in said
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


def test_where_nothing_can_be_shifted_there_is_no_db() -> None:
    figures = {"val_l1": 0.1, "val_tv": 0.05, "val_target_tv": 0.1, "val_stability_db": None}
    assert in_words(figures) == "L1 0.1000 at TV 0.0500 (targets 0.1000)"


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
