"""A run goes on with the pictures it has seen, by their content, and with its threads; or starts anew."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import train_pix2pix as trainer
from steadypix.agreement import Everyone
from steadypix.checkpoints import setup
from steadypix.checkpoints.determinism import make_deterministic, settle_threads
from steadypix.checkpoints.resume import find_state
from steadypix.checkpoints.retrofitting import tune
from steadypix.configs.schema import RunConfig, TrainConfig
from steadypix.data.pairs.content import content_of
from steadypix.data.pairs.folders import PairedImages
from steadypix.errors import CheckpointError, InputError
from steadypix.gen.training.failures import TrainingError, failures_explained
from steadypix.gen.weights.generators import load_generator
from steadypix.gen.weights.tensors import read_tensors, write_tensors
from tests.cli import TINY, Capture, one_error_line
from tests.conftest import tiny_config

pytestmark = pytest.mark.slow
STATE = Path("last") / "state.safetensors"


def longer(config: RunConfig, epochs: int, **more: object) -> RunConfig:
    return dataclasses.replace(config, train=dataclasses.replace(config.train, epochs=epochs, **more))


@pytest.fixture
def run(pair_folder: Path, tmp_path: Path) -> Path:
    """A run of one epoch."""
    assert trainer.train(longer(tiny_config(pair_folder), 1), tmp_path / "run") == 0
    return tmp_path / "run"


def change_state(run: Path, **metadata: object) -> None:
    """Write other metadata into a state; what is None goes."""
    tensors, known = read_tensors(run / STATE)
    known |= metadata
    write_tensors(run / STATE, tensors, {key: value for key, value in known.items() if value is not None})


# ---- pictures -------------------------------------------------------------------------------------------


def test_the_state_says_which_pictures_it_is_of(run: Path, pair_folder: Path) -> None:
    tensors, metadata = read_tensors(run / STATE)
    pictures = content_of(PairedImages(pair_folder, "train", load_size=40, crop_size=32))
    assert metadata["pictures_sha256"] == pictures.sha256
    assert (tensors["pictures"].numpy() == pictures.marks).all()


def test_other_pictures_under_the_same_names_are_refused_by_name(run: Path, pair_folder: Path) -> None:
    folder = pair_folder / "train"
    for name in ("5.png", "3.png"):
        (folder / name).write_bytes((folder / "1.png").read_bytes())
    config = longer(tiny_config(pair_folder), 2)
    words = (
        r"data\.root: the run in .* was trained on other pictures \(of the same names; 3 is the first that"
    )
    with pytest.raises(InputError, match=f"{words}.*--allow-change data.root"):
        trainer.train(config, run)
    assert load_generator(run).provenance["epoch"] == 1
    # A damaged list of them leaves the difference without its name.
    tensors, metadata = read_tensors(run / STATE)
    for spoilt in (
        torch.zeros(3, 2),
        torch.zeros(6, 8, dtype=torch.bfloat16),
        torch.zeros((), dtype=torch.uint8),
    ):
        write_tensors(run / STATE, {**tensors, "pictures": spoilt}, metadata)
        with pytest.raises(InputError, match=r"other pictures \(of the same names\); expected"):
            trainer.train(config, run)


def test_another_name_is_refused_by_name_and_another_number_by_numbers(run: Path, pair_folder: Path) -> None:
    folder, config = pair_folder / "train", longer(tiny_config(pair_folder), 2)
    (folder / "2.png").rename(folder / "9.png")
    with pytest.raises(
        InputError, match=r"\(6 pairs, \w+; here: 6 pairs, \w+; 3 is the first that differs\)"
    ):
        trainer.train(config, run)
    (folder / "9.png").unlink()
    with pytest.raises(InputError, match=r"\(6 pairs, \w+; here: 5 pairs, \w+\)"):
        trainer.train(config, run)


def test_other_pictures_are_let_in_by_name_and_recorded(run: Path, pair_folder: Path) -> None:
    folder = pair_folder / "train"
    (folder / "6.png").write_bytes((folder / "1.png").read_bytes())
    (folder / "7.png").write_bytes((folder / "2.png").read_bytes())
    config = longer(tiny_config(pair_folder), 2)
    assert trainer.train(config, run, allow_change=["data.root"]) == 0
    (change,) = load_generator(run).provenance["changes"]
    assert (change["key"], change["seen"]) == ("data.root", 6)
    assert change["from"].startswith("6 pairs, ")
    assert change["to"].startswith("7 pairs, ")
    assert trainer.train(longer(config, 3), run) == 0  # these are the run's own now


def test_allowing_other_pictures_changes_nothing_where_they_are_the_same(
    run: Path, pair_folder: Path
) -> None:
    moved = pair_folder.rename(pair_folder.with_name("moved"))
    assert trainer.train(longer(tiny_config(moved), 2), run, allow_change=["data.root"]) == 0
    assert "changes" not in load_generator(run).provenance


def test_states_of_earlier_versions_go_on(run: Path, pair_folder: Path, capsys: Capture) -> None:
    tensors, _ = read_tensors(run / STATE)
    change_state(run, pictures_sha256=None, threads=None)
    _, metadata = read_tensors(run / STATE)
    write_tensors(run / STATE, {k: v for k, v in tensors.items() if k != "pictures"}, metadata)
    (pair_folder / "train" / "3.png").write_bytes((pair_folder / "train" / "1.png").read_bytes())
    config = longer(tiny_config(pair_folder), 2)
    assert trainer.train(config, run) == 0  # it knows them by name
    assert "threads and goes on" not in capsys.readouterr().err
    assert "pictures_sha256" in read_tensors(run / STATE)[1]


def test_processes_that_go_on_from_different_places_are_told(
    run: Path, pair_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For one because another machine does not see the run's folder."""
    others = {"the sample to go on from": 0}

    def everyone(_: object) -> Everyone:
        return lambda value: [value, others if isinstance(value, dict) else value]

    monkeypatch.setattr(setup, "everyone", everyone)
    with pytest.raises(InputError, match="the sample to go on from: 0 in process 1, 6 in process 0"):
        trainer.train(longer(tiny_config(pair_folder), 2), run)
    others["the sample to go on from"] = 6
    assert trainer.train(longer(tiny_config(pair_folder), 2), run) == 0


def test_a_retrofit_goes_on_with_the_same_contents(tmp_path: Path) -> None:
    def retrofit(**contents: object) -> tune.Run:
        network = {"network": torch.nn.Conv2d(1, 1, 1)}
        return tune.Run(tmp_path, {"steps": 3, **contents}, None, network, {}, dict)  # type: ignore[arg-type]

    retrofit().save_state()  # as an earlier version did
    retrofit(pictures_sha256="ab", code_sha256="cd").restore()
    retrofit(pictures_sha256="ab", code_sha256="cd").save_state()
    for contents in (
        {"pictures_sha256": "ab", "code_sha256": "ef"},
        {"pictures_sha256": "x", "code_sha256": "cd"},
    ):
        with pytest.raises(InputError, match=r"holds a retrofit with (code|pictures)_sha256"):
            retrofit(**contents).restore()


# ---- threads --------------------------------------------------------------------------------------------


@pytest.fixture
def threads() -> Iterator[None]:
    """Put back what `train.deterministic` sets."""
    yield
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(False)


def test_another_number_of_threads_is_said(
    run: Path, pair_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    config, words = tiny_config(pair_folder), "threads and goes on"
    assert read_tensors(run / STATE)[1]["threads"] == 1
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)  # really 2 would wait for a busy core
    assert trainer.train(longer(config, 2), run) == 0
    said = capsys.readouterr().err
    assert said.count(f"the run was trained with 1 {words} with 2") == said.count(words) == 1
    assert read_tensors(run / STATE)[1]["threads"] == 2
    assert trainer.train(longer(config, 3), run) == 0
    assert words not in capsys.readouterr().err


@pytest.mark.usefixtures("threads")
def test_deterministic_takes_the_number_of_before(run: Path, pair_folder: Path, capsys: Capture) -> None:
    torch.set_num_threads(2)
    assert trainer.train(longer(tiny_config(pair_folder), 2, deterministic=True), run) == 0
    assert torch.get_num_threads() == 1
    assert torch.are_deterministic_algorithms_enabled()
    assert "threads and goes on" not in capsys.readouterr().err
    assert read_tensors(run / STATE)[1]["threads"] == 1


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_deterministic_runs_are_equal_on_one_core_and_on_two(
    pair_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, norm: str
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    config = tiny_config(pair_folder)
    config = dataclasses.replace(config, generator=dataclasses.replace(config.generator, norm=norm))
    states = []
    for cores in (1, 2):
        torch.set_num_threads(cores)  # as torch takes them from the machine
        assert trainer.train(longer(config, 2, deterministic=True), tmp_path / f"run{cores}") == 0
        assert torch.get_num_threads() == 1
        states.append(load_file(tmp_path / f"run{cores}" / STATE))
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.usefixtures("threads")
def test_deterministic_takes_as_many_threads_as_the_user_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    torch.set_num_threads(2)
    make_deterministic()
    assert torch.get_num_threads() == 2
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    monkeypatch.delenv("OMP_NUM_THREADS")
    make_deterministic()
    assert torch.get_num_threads() == 1


@pytest.mark.usefixtures("threads")
def test_threads_matter_on_a_cpu_alone() -> None:
    assert settle_threads(5, deterministic=False, device="cuda") is None
    assert settle_threads(None, deterministic=True, device="cpu") is None
    assert settle_threads(1, deterministic=False, device="cpu") is None
    assert "with 5 threads and goes on with 1" in str(settle_threads(5, deterministic=False, device="cpu"))
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("threads", [0, -1, 10**9, "2", True, 1.5])
def test_a_number_of_threads_that_cannot_be_is_refused(run: Path, pair_folder: Path, threads: object) -> None:
    change_state(run, threads=threads)
    with pytest.raises(CheckpointError, match=r"cannot go on from it \(threads\)"):
        trainer.train(longer(tiny_config(pair_folder), 2), run)


def test_what_has_no_deterministic_algorithm_is_said() -> None:
    """As torch words it, on a GPU."""
    error = RuntimeError(
        "reflection_pad2d_backward_cuda does not have a deterministic implementation, but you"
    )
    words = r"reflection_pad2d.*expected train\.deterministic false"
    with pytest.raises(TrainingError, match=words), failures_explained(lambda: 0):
        raise error


# ---- a new beginning --------------------------------------------------------------------------------------


def test_overwrite_starts_anew(run: Path, pair_folder: Path, tmp_path: Path, capsys: Capture) -> None:
    """In the place of a run, of another one, and of what was kept of one; all else there stays."""
    config = tiny_config(pair_folder, seed=7)
    once = TrainConfig(epochs=1, sample_every=0, val_every=0)
    config = dataclasses.replace(config, train=once)
    with pytest.raises(InputError, match=r"seed: the run has 0, this command 7"):
        trainer.train(config, run)
    for name in ("generator-0005.safetensors", "generator-best.safetensors", "notes.txt", "mine.safetensors"):
        (run / name).write_text("x")
    (run / "samples").mkdir(exist_ok=True)
    (run / "samples" / "epoch-0001.png").write_text("x")
    assert trainer.train(config, run, overwrite=True) == 0
    assert trainer.train(config, tmp_path / "new") == 0
    first, second = (load_file(out / STATE) for out in (run, tmp_path / "new"))
    assert all(torch.equal(first[key], second[key]) for key in first)
    names = {path.name for path in run.iterdir() if path.is_file()}
    left = {"notes.txt", "mine.safetensors"}
    assert names == {"config.yaml", "metrics.jsonl", "generator.safetensors"} | left
    assert not list((run / "samples").iterdir())
    # A generator without its state was refused before, and named the way out.
    (run / STATE).unlink()
    (run / "last").rmdir()
    with pytest.raises(InputError, match="--overwrite to start anew"):
        trainer.train(config, run)
    assert trainer.train(config, run, overwrite=True) == 0


def test_overwrite_removes_nothing_before_it_can_begin(run: Path, pair_folder: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    (pair_folder / "test" / "2.png").write_text("no picture")
    watched = tiny_config(pair_folder, train=TrainConfig(epochs=1, val_every=1, sample_every=0))
    with pytest.raises(InputError, match=r"2\.png"):
        trainer.train(watched, run, overwrite=True)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    with pytest.raises(InputError, match="--overwrite: starts anew; expected no --resume elsewhere"):
        find_state(run, "elsewhere", overwrite=True)


def test_overwrite_and_its_hints_on_the_command_line(tmp_path: Path, capsys: Capture) -> None:
    argv = [*TINY, "--data.synthetic_count=2", "--train.epochs=1", "--device=cpu", "--train.val_every=0"]
    argv += ["--discriminator.ndf=4", "--discriminator.n_layers=1", "--train.sample_every=0"]
    argv += ["--out", str(tmp_path / "run")]
    assert trainer.main(argv) == 0
    assert trainer.main([*argv, "--resume", "never"]) == 2
    one_error_line(capsys, "holds a run already", "--overwrite")
    assert trainer.main([*argv, "--resume", "never", "--overwrite", "--seed=3"]) == 0
    assert load_generator(tmp_path / "run").config["seed"] == 3


def test_a_stopped_new_beginning_goes_on_without_the_option(
    run: Path, pair_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def stop(request: trainer.StopRequest, _: object) -> bool:
        request.signal = 2
        return True

    monkeypatch.setattr(trainer, "must_stop", stop)
    for overwrite, words in (
        (True, "the same command without --overwrite goes on"),
        (False, "the same command goes on"),
    ):
        with pytest.raises(KeyboardInterrupt):
            trainer.train(longer(tiny_config(pair_folder), 4), run, overwrite=overwrite)
        assert words in capsys.readouterr().err
