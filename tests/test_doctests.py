"""The examples in docstrings run, and say what they say."""

from __future__ import annotations

import doctest
import importlib

import pytest

from tests.conftest import REPOSITORY
from tests.test_architecture import module_name, sources

MODULES = [module_name(file, REPOSITORY) for file in sources() if ">>> " in file.read_text(encoding="utf-8")]


def test_there_are_examples() -> None:
    assert {"steadypix.eval.metrics.stability", "steadypix.eval.metrics.decibels"} <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
