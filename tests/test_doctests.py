"""The examples in docstrings run, and say what they say."""

from __future__ import annotations

import doctest
import importlib

import pytest

from tests.conftest import REPOSITORY

MODULES = sorted(
    ".".join(file.relative_to(REPOSITORY).with_suffix("").parts)
    for package in ("configs", "data", "gen", "eval")
    for file in (REPOSITORY / package).glob("*.py")
    if ">>> " in file.read_text(encoding="utf-8")
)


def test_there_are_examples() -> None:
    assert {"eval.stability", "eval.decibels"} <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
