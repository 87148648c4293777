"""Every reader of files on damaged and lying ones, a few of each; `make soak` tries ten thousand."""

from __future__ import annotations

import importlib.util
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from soak.fuzz import HangError, fuzz, judge, make_input, peak_mb, try_input
from soak.readers import Reader, make_readers

pytestmark = pytest.mark.slow

NAMES = ["checkpoint", "weights", "state", "retrofit", "strips", "classifier", "idx", "published", "config"]
NAMES += ["results", "baseline", "frames", "partial", "manifest", "image", "foreign", "record"]
NAMES += ["onnx"] if importlib.util.find_spec("onnx") else []
FEW = {"state": 12, "retrofit": 12, "onnx": 4}  # those that take a while


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reader]:
    found = {reader.name: reader for reader in make_readers(tmp_path_factory.mktemp("fuzz"))}
    assert list(found) == NAMES
    return found


@pytest.mark.parametrize("name", NAMES)
def test_damage_is_read_or_refused_in_one_line(
    readers: dict[str, Reader], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    count = FEW.get(name, 40)  # the same every time; new ones are the soak's task
    outcomes, _ = fuzz(readers[name], range(count))
    assert outcomes["read"] + outcomes["refused"] == count, capsys.readouterr().err


def test_an_input_is_a_function_of_its_number(readers: dict[str, Reader]) -> None:
    reader = readers["checkpoint"]
    made = [make_input(reader, 0, number) for number in range(20)]
    assert made == [make_input(reader, 0, number) for number in range(20)]
    assert len({content for _, _, content in made}) > 15
    assert make_input(reader, 1, 0) != made[0]


# ---- that the harness sees what it looks for --------------------------------------------------------


def reader_that(read: Callable[[Path], int | None]) -> Reader:
    limit_s = 0.1 if read in (spin, wait) else 10.0
    return Reader("made up", 1, {"a.bin": b""}, Path(), read, limit_s=limit_s)


def spin(path: Path) -> None:
    while True:
        path.exists()


def wait(path: Path) -> None:
    time.sleep(60)


def raise_key_error(path: Path) -> None:
    raise KeyError(path)


def warn(path: Path) -> None:
    warnings.warn("noise", stacklevel=1)


def hoard(path: Path) -> None:
    # More than this process has ever held, whatever other tests it ran before.
    bytearray(b"x") * int((peak_mb() + 200) * 2**20)


def two_lines(path: Path) -> int:
    print("made up: error: a.bin", "and more", sep="\n", file=sys.stderr)
    return 2


class WithoutNameError(ValueError):
    exit_code = 2


def name_nothing(path: Path) -> None:
    raise WithoutNameError("something is wrong")


@pytest.mark.parametrize(
    ("read", "outcome"),
    [
        (spin, "hang"),
        (wait, "hang"),
        (raise_key_error, "KeyError"),
        (warn, "UserWarning"),
        (hoard, "memory"),
        (two_lines, "not one line"),
        (name_nothing, "names no file"),
    ],
)
def test_failures_are_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], int | None], outcome: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert try_input(reader_that(read), "a.bin", b"x")[0] == outcome
    assert (tmp_path / "a.bin").read_bytes() == b""  # the sound file lies there again


def test_messages_are_judged() -> None:
    reader, path = reader_that(spin), Path("folder/a.bin")
    assert judge(reader, path, 2, "fuzz: error: folder/a.bin: is damaged\n")[0] == "refused"
    assert judge(reader, path, 1, "fuzz: error: a.bin\n")[0] == "exit code 1"
    assert judge(reader, path, 2, "fuzz: error: a.bin \x1b[2J\n")[0] == "not printable"
    assert judge(reader, path, 2, "a.bin\n")[0] == "not one line"
    assert not issubclass(HangError, Exception)
