"""Processes that share an evaluation: what they must agree on, and what becomes of those that are left."""

from __future__ import annotations

import atexit
from pathlib import Path

import pytest
import torch.distributed as dist

from steadypix.data.pairs.content import Content
from steadypix.errors import InputError
from steadypix.eval import eval_stability as command
from steadypix.eval.measure.processes import TO_FINISH, TO_MEET, ProcessError, Processes
from tests.cli import FAST
from tests.gloo import run_together

pytestmark = pytest.mark.slow

MEET = """
import sys
from steadypix.command import command
from steadypix.data.pairs.content import Content
from steadypix.errors import InputError
from steadypix.eval.measure.processes import Processes

@command("meet")
def main(argv):
    count, seed = map(int, argv)
    processes = Processes()
    alike = Content(("1",), (bytes(32),))
    processes.agree(alike, {"seed": 0})
    runs = processes.gather(processes.run)
    assert len(set(runs)) == 1 if processes.first else runs == []
    try:
        processes.agree(alike, {"seed": seed})
    except InputError as error:
        print(error, file=sys.stderr)
    processes.agree(Content(tuple(map(str, range(count))), tuple(bytes([n]) * 32 for n in range(count))), {})

sys.exit(main())
"""


def test_a_difference_is_named_by_every_process_and_none_waits() -> None:
    for code, said in run_together(["-c", MEET, "12", "0"], ["-c", MEET, "8", "7"]):
        assert code == 2
        assert said.strip().splitlines() == [
            "the processes differ in seed: 7 in process 1, 0 in process 0; expected the same",
            "meet: error: the processes see different pictures: process 0 has 12, process 1 has 8; expected "
            "the same",
        ]


@pytest.mark.parametrize("what", ["gather", "finish"])
def test_a_process_that_has_gone_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """What is raised was seen of gloo, and of a store that nobody came to."""

    def gone(*_: object, **__: object) -> None:
        raise RuntimeError(
            "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:537] Read error\n" + 80 * "x "
        )

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(Processes, "_meet", lambda self: None)
    monkeypatch.setattr(dist, "gather_object", gone)
    monkeypatch.setattr(dist, "barrier", gone)
    with pytest.raises(ProcessError, match="process 0 of 2: another one has ended or did not come") as caught:
        getattr(Processes(), what)(*[3][: what == "gather"])
    assert str(caught.value).endswith("what is measured is kept, and the same command goes on")
    assert len(str(caught.value)) < 300
    assert caught.value.exit_code == 1


def test_a_slow_process_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gloo's own half an hour is for meeting; a share may take days longer than another."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    asked = []
    monkeypatch.setattr(dist, "is_initialized", lambda: bool(asked))
    monkeypatch.setattr(dist, "init_process_group", lambda kind, timeout: asked.append((kind, timeout)))
    monkeypatch.setattr(
        dist, "new_group", lambda backend, timeout: asked.append((backend, timeout)) or "group"
    )
    used = []
    monkeypatch.setattr(dist, "gather_object", lambda value, to, group: used.append(group))
    monkeypatch.setattr(dist, "barrier", lambda group: used.append(group) or None)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: used.append("gone"))
    monkeypatch.setattr(atexit, "register", lambda _: None)
    processes = Processes()
    processes.gather(3)
    processes.finish()
    assert asked == [("gloo", TO_MEET), ("gloo", TO_FINISH)]
    assert TO_FINISH.days >= 7
    assert used == ["group", "group", "gone"]


def test_an_evaluation_agrees_on_pictures_generators_and_options(
    checkpoints: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is measured; a process may have a device and a number of threads of its own."""
    seen = []

    def agree(self: Processes, content: Content, what: dict) -> None:
        seen.append((content, what))
        raise InputError("different")

    monkeypatch.setattr(Processes, "agree", agree)
    argv = [*map(str, checkpoints), *FAST, "--out", str(tmp_path / "o")]
    assert command.main(argv) == 2
    assert not (tmp_path / "o").exists()
    ((content, what),) = seen
    assert content.names == ("1", "2", "3")
    assert len(what["models"]) == 2
    assert {"measures", "offsets", "batch_size", "seed", "versions", "data"} <= what.keys()
    assert not {"device", "threads"} & what.keys()
