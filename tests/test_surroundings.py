"""What a command is started with: streams that are closed or full, remains of torchrun, and signals."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from steadypix.checkpoints.stop import StopRequest
from steadypix.command import command
from steadypix.files import prepare_output, write_text
from steadypix.locks import release
from steadypix.signals import PROGRAMS, end_workers
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and file numbers as POSIX has them")

TRAINER = REPOSITORY / "train_pix2pix.py"
SCRIPT = """
import sys
from steadypix.command import command
@command("made")
def main(argv):
    print("said", file=sys.stderr)
    open("done", "w").write("done")
    print("result")
    return 0
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("streams", "code", "said"),
    [
        (">&-", 0, "said\n"),
        ("2>&-", 0, ""),
        ("<&- >&- 2>&-", 0, ""),
        ("2>/dev/full", 0, ""),
        (">/dev/full", 2, "said\nmade: error: stdout: No space left on device\n"),
        (">/dev/full 2>&1", 2, ""),
    ],
)
def test_streams_that_are_closed_or_full(tmp_path: Path, streams: str, code: int, said: str) -> None:
    if "full" in streams and not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    shell = f'"{sys.executable}" -c "$0" {streams}'
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    run = subprocess.run(
        ["sh", "-c", shell, SCRIPT],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (code, said)
    assert (tmp_path / "done").read_text() == "done"  # and nothing that was meant for a stream


@pytest.mark.parametrize(
    ("there", "kept"),
    [
        ({"RANK": "1"}, False),
        ({"WORLD_SIZE": "2"}, False),
        ({"RANK": "x", "WORLD_SIZE": "y", "LOCAL_RANK": "0"}, False),
        ({"RANK": "2", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, False),
        ({"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, True),
        ({}, True),
    ],
)
def test_remains_of_a_launcher(
    there: dict[str, str], kept: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    for key in keys:
        monkeypatch.setenv(key, there.get(key, ""))
        if key not in there:
            monkeypatch.delenv(key)
    found = {}

    def main(_: object) -> int:
        found.update({key: os.environ[key] for key in keys[:3] if key in os.environ})
        return 0

    assert command("made")(main)([]) == 0
    assert found == ({key: there[key] for key in keys[:3] if key in there} if kept else {})
    assert ("ignored" in capsys.readouterr().err) is not kept


# ---- signals ----------------------------------------------------------------------------------------


class Swallows:
    """An object in whose end a signal comes, where Python lets no exception out."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        signal.raise_signal(self.number)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_is_not_lost_where_exceptions_are(number: int, code: int) -> None:
    def main(_: object) -> int:
        thing = Swallows(number)
        del thing
        gc.collect()
        for _ in range(3000):
            time.sleep(0.01)
        return 0

    before = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]
    assert command("made")(main)([]) == code
    assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)] == before


AT_AN_IMPORT = """
import os, signal, sys
class At:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["AT"]:
            sys.meta_path.remove(self)
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, At())
"""
SCRIPT_OF_GENERATE = """
import sys
try:
    from steadypix.checkpoints.generate import main
except KeyboardInterrupt:
    sys.exit(5)
sys.exit(main())
"""
SCRIPT_OF_ANOTHER = """
import sys
try:
    import steadypix.checkpoints.generate
except KeyboardInterrupt:
    sys.exit(5)
"""


@pytest.mark.parametrize(
    ("program", "at", "code"),
    [
        ("generate", "lazy_loader", 130),
        ("generate", "steadypix.surroundings", 130),
        ("generate", "steadypix.data.pictures.inputs", 130),
        ("-m", "steadypix.eval.measure.options", 130),
        ("train_pix2pix.py", "steadypix.configs.load", 130),
        # Somebody else's program may go on, whatever its name.
        ("mine", "steadypix.surroundings", 5),
        ("theirs/generate", "steadypix.surroundings", 5),
    ],
)
def test_ctrl_c_while_modules_are_imported(tmp_path: Path, program: str, at: str, code: int) -> None:
    (tmp_path / "sitecustomize.py").write_text(AT_AN_IMPORT)
    (tmp_path / "generate").write_text(SCRIPT_OF_GENERATE)
    (tmp_path / "mine").write_text(SCRIPT_OF_GENERATE)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "generate").write_text(SCRIPT_OF_ANOTHER)
    words = {"-m": ["-m", "steadypix.eval.eval_stability"], "train_pix2pix.py": [str(TRAINER)]}
    environment = {**os.environ, "AT": at, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(REPOSITORY)))}
    done = subprocess.run(
        [sys.executable, *words.get(program, [str(tmp_path / program)]), "--help"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr == ("interrupted\n" if code == 130 else "")


def test_every_command_is_known_to_start() -> None:
    scripts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["scripts"]
    assert {*scripts, TRAINER.name} == set(PROGRAMS)


def test_a_second_signal_does_not_disturb_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def again(**_: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    def main(_: object) -> int:
        signal.raise_signal(signal.SIGTERM)
        return 0

    monkeypatch.setattr("steadypix.locks.release", again)
    assert command("made")(main)([]) == 143
    assert capsys.readouterr().err == "made: terminated\n"


def ends_by_itself(script: str) -> int:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, timeout=120, check=False
    ).returncode


def test_a_third_signal_ends_what_hangs() -> None:
    script = """
import signal, time
from steadypix.command import command
@command("made")
def main(argv):
    for _ in range(3):
        try:
            signal.raise_signal(signal.SIGTERM)
        except BaseException:
            pass
    time.sleep(1000)
main()
"""
    assert ends_by_itself(script) == 143


def test_a_second_signal_ends_workers_that_nobody_tells() -> None:
    """They leave signals to the trainer, which would wait for them when it ends."""
    script = """
import multiprocessing, signal, sys, time
from steadypix.checkpoints.stop import StopRequest
from steadypix.command import command
def work(ready):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ready.set()
    time.sleep(1000)
@command("made")
def main(argv):
    ready = multiprocessing.Event()
    multiprocessing.Process(target=work, args=(ready,), daemon=True).start()
    ready.wait()
    with StopRequest().listening():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
sys.exit(main())
"""
    assert ends_by_itself(script) == 143


def test_a_stop_is_remembered_once() -> None:
    stop = StopRequest()
    with stop.listening():
        signal.raise_signal(signal.SIGTERM)
    assert stop.signal == signal.SIGTERM
    end_workers()  # there are none


def test_outside_of_the_main_thread_signals_are_left_alone() -> None:
    codes = []
    main: Callable[[list[str]], int] = command("made")(lambda _: 0)
    thread = threading.Thread(target=lambda: codes.append(main([])))
    thread.start()
    thread.join()
    assert codes == [0]


# ---- what a killed command leaves -------------------------------------------------------------------


def test_what_a_killed_command_left_half_written_goes(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / "frames").mkdir()
    left = [tmp_path / f".grid.{gone.pid}.tmp.png", tmp_path / "frames" / f".a.{gone.pid}.tmp.png"]
    stays = [tmp_path / f".grid.{os.getppid()}.tmp.png", tmp_path / ".grid.tmp.png", tmp_path / "a.5.tmp"]
    for path in (*left, *stays):
        path.write_text("half")
    prepare_output(tmp_path, only=tmp_path / "other.onnx")
    release()
    assert all(path.exists() for path in left)
    prepare_output(tmp_path, only=tmp_path / "grid.png")
    release()
    assert [path.exists() for path in left] == [False, True]
    prepare_output(tmp_path)
    release()
    assert [path.exists() for path in (*left, *stays)] == [False, False, True, True, True]
    write_text(tmp_path / "a.txt", "whole")
    assert (tmp_path / "a.txt").read_text() == "whole"
