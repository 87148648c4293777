"""Shift protocols: exact on every picture, refused where they do not fit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steadypix.errors import InputError
from steadypix.eval.shifts.offsets import offsets_along, parse_shifts
from steadypix.eval.shifts.protocols import inner, make_protocol


def coded(size: int) -> torch.Tensor:
    """A picture in which every pixel has a value of its own."""
    return torch.arange(size * size, dtype=torch.float32).reshape(1, 1, size, size)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0..7", list(range(8))),
        ("-4..4", list(range(-4, 5))),
        ("1,3,5", [1, 3, 5]),
        ("5,1,5,-2", [-2, 1, 5]),
        ("7", [7]),
        ("0..2, 6", [0, 1, 2, 6]),
    ],
)
def test_parse_shifts(text: str, expected: list[int]) -> None:
    assert parse_shifts(text) == expected


@pytest.mark.parametrize(
    "text", ["0-7", "", "a", "1..", "..3", "1...3", "1/0", "1.5.2", "1/2..3", "0..7..9", "٣", "9" * 40]
)
def test_parse_shifts_names_the_text(text: str) -> None:
    with pytest.raises(InputError, match="shifts"):
        parse_shifts(text)


def test_parse_shifts_refuses_a_backward_range() -> None:
    with pytest.raises(InputError, match=r"7\.\.0"):
        parse_shifts("7..0")


@given(st.sets(st.integers(-500, 500), min_size=1))
def test_parse_shifts_reads_what_a_person_lists(shifts: set[int]) -> None:
    assert parse_shifts(",".join(map(str, shifts))) == sorted(shifts)


def test_offsets_along_axes() -> None:
    assert offsets_along([1, 2], "x") == [(1, 0), (2, 0)]
    assert offsets_along([1, 2], "y") == [(0, 1), (0, 2)]
    assert offsets_along([-1], "diagonal") == [(-1, -1)]
    with pytest.raises(InputError, match="'z'"):
        offsets_along([1], "z")


def test_crop_takes_the_documented_window() -> None:
    """143 - 128 = 15: the base sits at 7; a shift right by 3 takes the window at 4."""
    picture = coded(143)
    rule = make_protocol("crop", canvas_px=143, window_px=128)
    assert torch.equal(rule.base(picture), picture[..., 7:135, 7:135])
    assert torch.equal(rule.shifted(picture, (3, -2)), picture[..., 9:137, 4:132])
    rule.check((7, 7), 0)
    rule.check((-8, 0), 0)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_identity_is_identical_under_every_shift(data: st.DataObject) -> None:
    """What lies at one place of the scene is compared with itself, for every protocol and shift."""
    window = data.draw(st.integers(4, 20))
    canvas = window + data.draw(st.integers(0, 16))
    name = data.draw(st.sampled_from(["crop", "roll"]))
    rule = make_protocol(name, canvas_px=canvas, window_px=window)
    before, after = rule.origin_px, canvas - window - rule.origin_px
    reach = st.integers(-min(after, window - 1), min(before, window - 1))
    dx, dy = data.draw(reach), data.draw(reach)
    picture = coded(canvas)
    rule.check((dx, dy), 0)
    first, second = rule.aligned(rule.base(picture), rule.shifted(picture, (dx, dy)), (dx, dy))
    assert torch.equal(first, second)
    side = 0 if name == "roll" else 1
    assert first.shape[-2:] == (window - side * abs(dy), window - side * abs(dx))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=1, max_size=5))
def test_shared_area_shows_one_place_for_all_shifts(offsets: list[tuple[int, int]]) -> None:
    picture = coded(24)
    for name in ("crop", "roll"):
        rule = make_protocol(name, canvas_px=24, window_px=16)
        parts = [rule.shared(rule.shifted(picture, d), d, offsets) for d in offsets]
        assert all(torch.equal(part, parts[0]) for part in parts)


def test_crop_refuses_what_leaves_the_canvas() -> None:
    rule = make_protocol("crop", canvas_px=40, window_px=32)
    with pytest.raises(InputError, match=r"shift 5 px.*expected -4\.\.4"):
        rule.check((5, 0), 0)
    with pytest.raises(InputError, match=r"shift -5 px"):
        rule.check((0, -5), 0)
    with pytest.raises(InputError, match="margin 16 px"):
        rule.check((1, 0), 16)


def test_roll_refuses_a_whole_turn() -> None:
    rule = make_protocol("roll", canvas_px=32, window_px=32)
    with pytest.raises(InputError, match="32 px"):
        rule.check((32, 0), 0)


def test_unknown_protocol_and_window_name_the_value() -> None:
    with pytest.raises(InputError, match="'zoom'"):
        make_protocol("zoom", canvas_px=8, window_px=8)
    with pytest.raises(InputError, match="9 px"):
        make_protocol("crop", canvas_px=8, window_px=9)


def test_inner_is_a_view_less_the_margin() -> None:
    picture = coded(8)
    assert inner(picture, 0) is picture
    assert torch.equal(inner(picture, 3), picture[..., 3:5, 3:5])
