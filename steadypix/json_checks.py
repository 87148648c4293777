"""What a JSON file must hold, as small checks that name the key which is wrong.

A check is a function of a value and its place (`models[0].name`); it raises `WrongError` or returns nothing.
Files come from anywhere, so reading is strict too: no NaN, no number beyond a double's, no endless file.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from steadypix.errors import InputError

Check = Callable[[Any, str], None]

LARGEST_BYTES = 64 << 20  # of a file; the results of 40 models with maps have 2 MB
LONGEST_NUMBER = 19  # digits
LONGEST_SHOWN = 60  # characters of a value in a message
LARGEST_NUMBER = 1e15  # beyond it whole numbers get lost, and nothing that is measured here is so large
LARGEST_DB = 1000.0  # identical pictures count as 150
LARGEST_PX = 16_384  # of a side


class WrongError(ValueError):
    """A value that is not as it must be."""

    def __init__(self, where: str, expected: str, value: object) -> None:
        text = json.dumps(value, ensure_ascii=False, default=str)
        shown = text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."
        super().__init__(f"{where}: expected {expected}, got {shown}" if where else f"expected {expected}")


def read_json(path: Path, check: Check, what: str) -> Any:
    """Return what a JSON file holds, once it is known to be as `check` wants it.

    Args:
        path: the file.
        check: of the whole.
        what: the file should be, in the words of a message.

    Raises:
        InputError: naming the file, and the key that is wrong.
    """
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for its writer
            raise InputError(f"{path}: is no regular file; expected {what}")
        if path.stat().st_size > LARGEST_BYTES:
            raise InputError(f"{path}: has {path.stat().st_size} bytes; expected {what}")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; expected {what}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not JSON (no UTF-8); expected {what}") from None
    return parse_json(text, check, path, what)


def parse_json(text: str, check: Check, path: Path, what: str) -> Any:
    """Return what a text holds that a file was read from, or is to be written to; see `read_json`."""
    try:
        value = json.loads(text, parse_constant=_no_constant, parse_float=_finite, parse_int=_whole)
        json.dumps(value, ensure_ascii=False).encode()  # no half of a surrogate pair, which no file can hold
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON ({error}); expected {what}") from None
    try:
        check(value, "")
    except WrongError as error:
        raise InputError(f"{path}: is not {what}: {error}") from None
    return value


def _leaf(expected: str, fits: Callable[[Any], bool]) -> Check:
    """Want a value for which `fits` holds; messages call it `expected`."""

    def check(value: Any, where: str) -> None:
        if not fits(value):
            raise WrongError(where, expected, value)

    return check


def _is_number(value: Any, largest: float = LARGEST_NUMBER) -> bool:
    """Return whether this is a number; JSON's true is an int to Python."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= largest


def _is_whole(value: Any, least: int, most: float = LARGEST_NUMBER) -> bool:
    return _is_number(value) and int(value) == value and least <= value <= most


text = _leaf("a text", lambda value: isinstance(value, str))
number = _leaf("a number", _is_number)
decibels = _leaf("a number of dB", lambda value: _is_number(value, LARGEST_DB))
shift = _leaf("a shift in px", lambda value: _is_number(value, LARGEST_PX))
count = _leaf("a count", lambda value: _is_whole(value, 0))
side = _leaf(f"a whole number of 1 to {LARGEST_PX} px", lambda value: _is_whole(value, 1, LARGEST_PX))
anything = _leaf("a value", lambda value: True)
# Plain, so that it cannot lead out of its folder.
file_name = _leaf(
    "the name of a file beside it",
    lambda value: isinstance(value, str) and re.fullmatch(r"\w[\w.-]*", value) is not None,
)


def one_of(*choices: Any) -> Check:
    """Want one of a few values."""
    expected = " or ".join(map(str, choices))
    return _leaf(expected, lambda value: any(type(value) is type(c) and value == c for c in choices))


def maybe(inner: Check) -> Check:
    """Want null, or what `inner` wants."""
    return lambda value, where: None if value is None else inner(value, where)


def record(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """Want an object with these keys; others may stand beside them, because fields may be added."""
    checks = {**required, **(optional or {})}

    def check(value: Any, where: str) -> None:
        mapped(anything)(value, where)
        for key, inner in checks.items():
            if key in value:
                inner(value[key], _under(where, key))
            elif key in required:
                raise WrongError(_under(where, key), "a value", None)

    return check


def mapped(inner: Check, *, least: int = 0) -> Check:
    """Want an object whose values are alike, under whatever names."""
    expected = f"an object with at least {least} entry" if least else "an object"

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict) or len(value) < least:
            raise WrongError(where, expected, value)
        for key, item in value.items():
            inner(item, _under(where, key))

    return check


def listed(inner: Check, *, least: int = 0, most: int = 100_000) -> Check:
    """Want a list whose items are alike."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, list) or not least <= len(value) <= most:
            raise WrongError(where, f"a list of {least} to {most}", value)
        for place, item in enumerate(value):
            inner(item, f"{where}[{place}]")

    return check


def pair(inner: Check) -> Check:
    """Want a list of two."""
    return listed(inner, least=2, most=2)


INTERVAL_DB = maybe(pair(decibels))
FIGURE_DB = record({"mean": decibels, "ci95": INTERVAL_DB})


def size(value: Any, where: str) -> None:
    """Want the side of a square in px, or [width, height]."""
    (pair(side) if isinstance(value, list) else side)(value, where)


def _under(where: str, key: str) -> str:
    shown = key if len(key) <= LONGEST_SHOWN else f"{key[:LONGEST_SHOWN]}..."
    return f"{where}.{shown}" if where else shown


def _no_constant(constant: str) -> None:
    raise ValueError(f"it holds {constant}")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"it holds {digits[:LONGEST_SHOWN]}")
    return value


def _whole(digits: str) -> int:
    if len(digits) > LONGEST_NUMBER:
        raise ValueError(f"it holds a number of {len(digits)} digits")
    return int(digits)
