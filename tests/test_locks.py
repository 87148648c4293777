"""One writer a folder: who holds a lock, who is refused, and what a process that ends leaves."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from soak import two
from steadypix import locks
from steadypix.checkpoints.generate import main as generate
from steadypix.data.cli import main as steadypix_data
from steadypix.errors import InputError
from steadypix.eval.eval_stability import main as eval_stability
from steadypix.files import prepare_output
from tests.cli import FAST, TINY, Capture, one_error_line
from tests.conftest import REPOSITORY
from tests.holder import SCRIPT, held_elsewhere
from train_pix2pix import main as train_pix2pix

pytestmark = pytest.mark.skipif(os.name != "posix", reason="flock")


def test_the_second_is_told_who_is_there(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with held_elsewhere(out) as other, pytest.raises(InputError) as caught:
        prepare_output(out)
    said = str(caught.value)
    assert said.startswith(f"{out}: is being written by another command (process {other.pid}, on ")
    assert socket.gethostname() in said
    assert ", since 20" in said
    assert "\n" not in said
    assert not (tmp_path / "deep").exists()  # nothing was written, so nothing is left
    prepare_output(out)
    locks.release()


def test_a_command_gives_its_locks_back_however_it_ends(tmp_path: Path, capsys: Capture) -> None:
    argv = [
        "synthetic",
        "facades",
        "--size",
        "16",
        "--train",
        "1",
        "--test",
        "0",
        "--out",
        str(tmp_path / "d"),
    ]
    assert steadypix_data(argv) == 0
    assert locks.held() == 0
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["train"]
    assert eval_stability([str(tmp_path / "none.safetensors"), "--out", str(tmp_path / "o")]) == 2
    assert locks.held() == 0
    assert not (tmp_path / "o").exists()


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path) as other:
        other.kill()
        other.wait()
        assert (tmp_path / locks.LOCK).exists()
        with locks.alone(tmp_path):
            assert json.loads((tmp_path / locks.LOCK).read_text())["pid"] == os.getpid()
    assert not (tmp_path / locks.LOCK).exists()


def test_a_worker_that_outlives_its_parent_holds_nothing(tmp_path: Path) -> None:
    script = SCRIPT.replace(
        'print("held"',
        'import os\nif os.fork(): os.wait()\nprint("held"',  # the worker says it, once it runs
    )
    argv = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(
        argv, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        process.kill()
        process.wait()
        with locks.alone(tmp_path):
            pass
        process.stdin.close()


@pytest.mark.parametrize("name", ["link", "folder", "pipe", "text"])
def test_what_lies_at_the_locks_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / "out" / locks.LOCK
    path.parent.mkdir()
    other = tmp_path / "precious"
    other.write_text("mine")
    makers = {"link": lambda: path.symlink_to(other), "folder": path.mkdir, "pipe": lambda: os.mkfifo(path)}
    makers.get(name, lambda: path.write_text("[" * 10_000))()
    if name == "text":
        with locks.alone(path.parent):
            pass
    else:
        with pytest.raises(InputError, match="out: cannot be written"):
            locks.hold(path.parent)
    assert locks.held() == 0
    assert other.read_text() == "mine"


def test_a_lock_that_cannot_be_written_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(InputError, match="No space left"):
            locks.hold(tmp_path / "out")
    with locks.alone(tmp_path / "out"):
        pass
    assert locks.held() == 0


def test_without_flock_the_file_is_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows and some network disks."""
    monkeypatch.setattr(locks, "_flock", lambda handle: False)
    path = tmp_path / locks.LOCK
    with locks.alone(tmp_path):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for pid, host, free in (
        (gone.pid, socket.gethostname(), True),
        (os.getppid(), socket.gethostname(), False),
        (gone.pid, "elsewhere", False),
    ):
        path.write_text(json.dumps({"pid": pid, "host": host, "since": "now"}))
        if free:
            with locks.alone(tmp_path):
                pass
        else:
            with pytest.raises(InputError, match=f"process {pid}, on {host}, since now.*delete"):
                locks.hold(tmp_path)
            path.unlink()
    assert list(tmp_path.iterdir()) == []


def test_of_several_processes_of_one_training_the_first_holds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with held_elsewhere(tmp_path / "o"), locks.alone(tmp_path / "o"):
        assert locks.held() == 0


@pytest.mark.slow
def test_every_command_is_refused_where_another_writes(
    tmp_path: Path, pair_folder: Path, checkpoints: list[Path], capsys: Capture
) -> None:
    out, net = tmp_path / "out", str(checkpoints[0])
    commands = {
        "train": lambda: train_pix2pix([*TINY, "--device=cpu", "--out", str(out)]),
        "eval": lambda: eval_stability([net, *FAST, "--out", str(out)]),
        "export": lambda: eval_stability([net, *FAST, "--export_inputs", str(out)]),
        "generate": lambda: generate([net, str(pair_folder / "test"), "--out", str(out)]),
        "synthetic": lambda: steadypix_data(["synthetic", "facades", "--out", str(out)]),
        "download": lambda: steadypix_data(["download", "facades", "--out", str(out)]),
    }
    with held_elsewhere(out) as other:
        for name, run in commands.items():
            assert run() == 2, name
            one_error_line(capsys, str(out), f"process {other.pid}")
            assert [path.name for path in out.iterdir()] == [locks.LOCK], name


@pytest.mark.slow
@pytest.mark.parametrize("name", ["synthetic", "download"])
def test_two_writers_at_once(tmp_path: Path, name: str) -> None:
    """A few pairs of what starts quickly; `make soak-two` tries every command fifty times."""
    two.two(tmp_path, [name], 2, print)
