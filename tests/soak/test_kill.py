"""What `make soak` does thirty times over: killed trainings and evaluations go on. And a disk that fills."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import train_pix2pix as trainer
from soak import kill
from steadypix.gen.weights.generators import load_generator
from steadypix.gen.weights.tensors import read_tensors
from tests.cli import run_python
from tests.conftest import tiny_config

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="SIGKILL and tmpfs as Linux has them"),
]


def test_trainings_and_evaluations_survive_kills_at_every_kind_of_instant() -> None:
    # In a process of its own: torch runs no gradients in a fork of a process that has done so.
    run = run_python("-m", "soak.kill", "--kills", "3", "--seed", "1")
    training, evaluation = run.stdout.splitlines()
    assert training.startswith("3 kills survived (1 in start, 1 in steps, 1 in write")
    assert evaluation.startswith("3 kills of ")


def test_the_soak_notices_a_run_that_is_not_the_same(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 1)):
        trainer.train(tiny_config(seed=seed), tmp_path / name)
    (tmp_path / "a" / "generator-best.safetensors").symlink_to("generator.safetensors")
    (tmp_path / "b" / "generator-best.safetensors").symlink_to("generator.safetensors")
    with pytest.raises(kill.Lost, match="differs from the uninterrupted run's"):
        kill.compare(tmp_path / "a", tmp_path / "b")
    (tmp_path / "a" / "generator.safetensors").write_bytes(b"half")
    with pytest.raises(kill.Lost, match=r"kill 1: .*generator\.safetensors"):
        kill.check(tmp_path / "a", "kill 1")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB, which the tests' small runs fit into."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a small tmpfs")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk_leaves_the_checkpoint_before(
    small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--data.load_size=40", "--data.crop_size=32", "--generator.ngf=4", "--generator.num_downs=3"]
    argv += [
        "--discriminator.ndf=4",
        "--discriminator.n_layers=1",
        "--device=cpu",
        "--data.synthetic_count=4",
    ]
    argv += ["--train.sample_every=0", "--train.val_every=0", "--out", str(small_disk / "run")]
    assert trainer.main([*argv, "--train.epochs=1"]) == 0
    state = small_disk / "run" / "last" / "state.safetensors"
    before = read_tensors(state)
    filler = small_disk / "filler"
    with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    os.truncate(filler, filler.stat().st_size - 4 * 4096)  # enough to begin a checkpoint, not to end it
    capsys.readouterr()
    assert trainer.main([*argv, "--train.epochs=2"]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.endswith("No space left on device")
    assert str(small_disk / "run") in line
    after = read_tensors(state)
    assert after[1] == before[1]
    assert all(torch.equal(after[0][key], before[0][key]) for key in before[0])
    load_generator(small_disk / "run")
    assert not list((small_disk / "run").rglob(".*.tmp*"))
    filler.unlink()
    assert trainer.main([*argv, "--train.epochs=2"]) == 0
    assert load_generator(small_disk / "run").provenance["epoch"] == 2
