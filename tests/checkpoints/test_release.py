"""Which checkpoints are released: equally sharp ones, trained as long as that leaves open."""

from __future__ import annotations

import pytest

from steadypix.checkpoints.release import choose


def test_the_latest_equally_sharp_checkpoints_are_chosen() -> None:
    found = {"a": {1: 0.5, 2: 0.9, 3: 1.2}, "b": {1: 0.7, 2: 0.92, 3: 1.0}}
    assert choose(found) == {"a": 2, "b": 2}


def test_one_that_never_becomes_as_sharp_ships_from_its_end() -> None:
    found = {"a": {1: 0.9, 2: 1.2}, "soft": {1: 0.2, 2: 0.5}, "b": {1: 0.91, 2: 1.0}}
    assert choose(found) == {"a": 1, "b": 1, "soft": 2}


def test_nothing_is_chosen_where_nothing_is_equal() -> None:
    with pytest.raises(ValueError, match="within 5% of each other"):
        choose({"a": {1: 1.0}, "b": {1: 2.0}, "c": {1: 4.0}})
