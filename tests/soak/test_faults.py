"""Writes, fsyncs and renames that fail, a few of them; `make soak-faults` tries those of every command."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from soak import commands, faults

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux" or not shutil.which("cc"), reason="needs Linux and cc"),
]


def test_a_download_survives_calls_that_fail(capfd: pytest.CaptureFixture[str]) -> None:
    assert faults.main(["--command", "download", "--every", "6"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert [line.partition(": ")[0].rpartition(", ")[2] for line in lines] == list(faults.MODES)
    assert all(", 0 lost something" in line for line in lines)
    assert not any(": 0 calls tried" in line for line in lines)


def test_a_final_name_over_one_half_is_seen(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / ".results.12.tmp.json").write_text("{")  # not finished, and not called so
    commands.read_everything(out)
    for name, half in (("results.json", "{"), ("a.png", "\x89PNG"), ("page.html", "<html>"), ("a.onnx", "x")):
        (out / name).write_text(half)
        with pytest.raises(commands.Lost, match=name):
            commands.read_everything(out)
        (out / name).unlink()


def test_other_files_are_seen(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    whole = commands.tree(tmp_path)
    commands.must_equal(tmp_path, whole, "the same")
    (tmp_path / "b.txt").write_text("b")
    with pytest.raises(commands.Lost, match=r"leaves others: b\.txt"):
        commands.must_equal(tmp_path, whole, "another")
