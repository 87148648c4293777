"""The command `steadypix`, which calls all others by short names."""

from __future__ import annotations

import importlib
import tomllib

import pytest

from steadypix.main import COMMANDS, main
from tests.cli import Capture, one_error_line
from tests.conftest import REPOSITORY


def test_every_script_has_a_short_name_and_a_line_of_help(capsys: Capture) -> None:
    assert main(["--help"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")}
    assert list(lines) == list(COMMANDS)
    scripts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["scripts"]
    of_modules = {target: script for script, target in scripts.items() if script != "steadypix"}
    assert {f"{module}:main": script for module, script, _ in COMMANDS.values() if script} == of_modules
    for module, _, _ in COMMANDS.values():
        assert callable(importlib.import_module(module).main)


def test_the_other_words_and_the_exit_code_are_the_commands_own(capsys: Capture) -> None:
    assert main(["data", "check", "nowhere"]) == 2
    assert one_error_line(capsys, "nowhere").startswith("steadypix_data: error: ")
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["data", "--version"])
    assert main(["--version"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == second


def test_a_command_answers_to_its_own_name_too(capsys: Capture) -> None:
    assert main(["steadypix_data", "check", "nowhere"]) == 2
    assert one_error_line(capsys, "nowhere").startswith("steadypix_data: error: ")
    assert main(["eval_sequence", "nowhere", "elsewhere"]) == 2
    assert one_error_line(capsys, "nowhere").startswith("eval_sequence: error: ")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("trian", "train"),
        ("evaluate", "eval"),
        ("gen", "generate"),
        ("eval_stabilty", "eval"),
        ("eval_sequences", "sequence"),
    ],
)
def test_a_word_close_to_a_command_is_answered_with_it(word: str, meant: str, capsys: Capture) -> None:
    assert main([word, "--shifts", "0..7"]) == 2
    line = one_error_line(capsys, word, f"did you mean `steadypix {meant}`?")
    assert line.startswith("steadypix: error: ")


@pytest.mark.parametrize("argv", [[], ["xyz"], ["--no_such_option"]])
def test_anything_else_is_answered_with_all_commands(argv: list[str], capsys: Capture) -> None:
    assert main(argv) == 2
    line = one_error_line(capsys, *argv, *COMMANDS)
    assert "did you mean" not in line
