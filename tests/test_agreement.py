"""Processes that must have the same before them, and what they are told where they have not."""

from __future__ import annotations

import pytest

from steadypix.agreement import require_same
from steadypix.errors import InputError


def test_equal_values_pass_and_the_first_other_one_is_named() -> None:
    mine = {"seed": 3, "models": ["ab"]}
    require_same(mine, lambda value: [value, dict(mine)])
    with pytest.raises(InputError, match=r"differ in models: \['cd'\] in process 2, \['ab'\] in process 0"):
        require_same(mine, lambda value: [value, value, {"seed": 3, "models": ["cd"]}])
    with pytest.raises(InputError, match=r"differ in seed: 4 in process 1, 3 in process 0"):
        require_same(mine, lambda value: [value, {"seed": 4, "models": ["cd"]}])


def test_long_values_are_cut() -> None:
    with pytest.raises(InputError) as caught:
        require_same({"models": "a" * 5000}, lambda value: [value, {"models": "b" * 5000}])
    assert len(str(caught.value)) < 300
