"""Several processes under torchrun: equal to one, ended together, gone on with any number of them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import train_pix2pix as trainer
from steadypix.gen.weights.generators import load_generator
from tests.conftest import REPOSITORY
from tests.gloo import run_together

TINY = ["--data.load_size=40", "--data.crop_size=32", "--generator.ngf=4", "--generator.num_downs=3"]
TINY += ["--discriminator.ndf=4", "--discriminator.n_layers=1", "--device=cpu", "--data.synthetic_count=12"]
TINY += ["--train.sample_every=0", "--train.val_every=0", "--train.epochs=2", "--generator.dropout=false"]
TINY += ["--train.decay_epochs=0"]  # a schedule that does not depend on the length
# In doubles, so that only the order of sums is left to differ.
TINY += ["--train.precision=fp64"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error::FutureWarning:gen"}
LONG = "--train.epochs=100000"  # until something stops it

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc"),
]


def command(out: Path, *more: str, processes: int, restarts: int = 0) -> list[str]:
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    launch = [*torchrun, f"--max_restarts={restarts}"] if processes > 1 else []
    return [sys.executable, *launch, "train_pix2pix.py", *TINY, "--out", str(out), *more]


def train(out: Path, *more: str, processes: int = 1) -> str:
    """Train to the end; return what was said."""
    run = subprocess.run(
        command(out, *more, processes=processes),
        cwd=REPOSITORY,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    return run.stderr


@contextlib.contextmanager
def running(out: Path, *more: str, processes: int, restarts: int = 0) -> Iterator[subprocess.Popen[str]]:
    """A training that has begun to take steps; nothing of it outlives the test."""
    with subprocess.Popen(
        command(out, *more, "--train.log_every_steps=1", processes=processes, restarts=restarts),
        cwd=REPOSITORY,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            wait_for(lambda: (out / "metrics.jsonl").exists() and (out / "metrics.jsonl").stat().st_size > 0)
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def wait_for(condition: object, timeout_s: float = 90) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ranks(launcher: int) -> list[int]:
    """The training processes below a launcher, in the order in which they were started."""
    return [int(pid) for pid in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()]


def largest_difference(a: Path, b: Path, ending: str) -> float:
    first, second = (load_file(out / "last" / "state.safetensors") for out in (a, b))
    assert first.keys() == second.keys()
    keys = [key for key in first if key.endswith(ending)]
    assert keys
    return max(float((first[key] - second[key]).abs().max()) for key in keys)


# Batch norm looks at one batch at a time, so accumulated ones are one large batch for other norms only.
SHARINGS = {
    **{
        norm: ["--batch_size=2", f"--generator.norm={norm}", f"--discriminator.norm={norm}"]
        for norm in ("instance", "batch", "renorm")
    },
    "accumulated": ["--batch_size=1", "--train.accumulate=2", "--loss.equivariance=1"],
}


@pytest.mark.parametrize("name", SHARINGS)
def test_two_processes_have_the_gradients_of_one(name: str, tmp_path: Path) -> None:
    """Adam's first moment after six steps is a sum of all gradients; equal to 1e-9 in doubles."""
    sharing = SHARINGS[name]
    one_batch = [word for word in sharing if "batch_size" not in word and "accumulate" not in word]
    assert trainer.main([*TINY, "--out", str(tmp_path / "one"), "--batch_size=4", *one_batch]) == 0
    words = ["train_pix2pix.py", *TINY, "--out", str(tmp_path / "two"), *sharing]
    (first_code, first), (second_code, second) = run_together(words, words)
    assert (first_code, second_code) == (0, 0), first + second
    assert largest_difference(tmp_path / "one", tmp_path / "two", "/exp_avg") < 1e-9
    # Only the first process speaks and writes.
    assert first.count("from scratch") == first.count("done, 2 epochs") == 1
    assert "from scratch" not in second
    assert "done, 2 epochs" not in second
    assert "Warning" not in first + second
    assert len((tmp_path / "two" / "metrics.jsonl").read_text().splitlines()) == 2  # one an epoch


def test_a_killed_process_ends_all_and_the_run_goes_on_with_another_number(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with running(out, LONG, "--batch_size=2", "--train.save_every_s=0.05", processes=2) as process:
        wait_for((out / "last" / "state.safetensors").exists)
        began = time.monotonic()
        os.kill(ranks(process.pid)[1], signal.SIGKILL)
        said, _ = process.communicate(timeout=60)
        assert process.returncode not in (0, None)
        assert time.monotonic() - began < 45
    assert "another process of this run is gone" in said or "Signal 9 (SIGKILL)" in said
    epochs = int(load_generator(out).provenance["epoch"]) + 2
    # The same number of samples a step, now from one process.
    said = train(out, "--batch_size=4", f"--train.epochs={epochs}")
    assert "from sample" in said
    whole = ["--out", str(tmp_path / "whole"), "--batch_size=4", f"--train.epochs={epochs}"]
    assert trainer.main([*TINY, *whole]) == 0
    assert largest_difference(out, tmp_path / "whole", "/exp_avg") < 1e-6
    # Three processes take six samples a step: another number, which is allowed with other processes.
    train(out, "--batch_size=2", f"--train.epochs={epochs + 1}", processes=3)
    assert load_generator(out).provenance["epoch"] == epochs + 1


def test_sigterm_to_the_launcher_saves_and_the_run_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "run"
    sharing = ["--batch_size=2"]
    with running(out, LONG, *sharing, processes=2) as process:
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=60)
        assert process.returncode != 0
    assert "the same command goes on" in said
    seen = load_generator(out).provenance["seen"]
    epochs = seen // 12 + 1
    train(out, *sharing, f"--train.epochs={epochs}", processes=2)
    train(tmp_path / "whole", *sharing, f"--train.epochs={epochs}", processes=2)
    first, second = (load_file(o / "last" / "state.safetensors") for o in (out, tmp_path / "whole"))
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.skipif(
    "STEADYPIX_SOAK" not in os.environ,
    reason="torchrun now and then waits for minutes before it starts again; set STEADYPIX_SOAK to try",
)
def test_torchrun_starts_again_by_itself(tmp_path: Path) -> None:
    """Elastic restarts: a process that dies costs what lies behind the last checkpoint, nothing else."""
    out = tmp_path / "run"
    saves = ["--train.save_every_s=0.05", "--train.epochs=40", "--batch_size=2"]
    with running(out, *saves, processes=2, restarts=1) as process:
        wait_for((out / "last" / "state.safetensors").exists)
        os.kill(ranks(process.pid)[0], signal.SIGKILL)
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 0, said
    assert "from scratch" in said
    assert "from sample" in said
    assert load_generator(out).provenance["epoch"] == 40


def test_processes_that_see_different_pictures_are_told_and_do_not_wait(tmp_path: Path) -> None:
    """12 pairs on one machine and 8 on the other made one of them wait for ever."""
    for name, count in (("many", 12), ("few", 8)):
        (tmp_path / name / "train").mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (96, 48), (number, 0, 0)).save(tmp_path / name / "train" / f"{number}.png")
    words = ["train_pix2pix.py", *TINY, "--out", str(tmp_path / "run"), "--data.val_split=none"]
    for code, said in run_together(*([*words, f"--data.root={tmp_path / name}"] for name in ("many", "few"))):
        assert code == 2
        (line,) = (line for line in said.splitlines() if "error" in line)
        assert "the processes see different pictures: process 0 has 12, process 1 has 8; expected" in line
    assert not (tmp_path / "run").exists()
