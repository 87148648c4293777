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
    try:
        value = json.loads(text, parse_constant=_no_constant, parse_float=_finite, parse_int=_whole)
        _require_text(value)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON ({error}); expected {what}") from None
    try:
        check(value, "")
    except WrongError as error:
        raise InputError(f"{path}: is not {what}: {error}") from None
    return value


def text(value: Any, where: str) -> None:
    """Want a text."""
    _want(isinstance(value, str), where, "a text", value)


def number(value: Any, where: str) -> None:
    """Want a number."""
    _want(_is_number(value), where, "a number", value)


def decibels(value: Any, where: str) -> None:
    """Want a level in dB."""
    _want(_is_number(value) and abs(value) <= LARGEST_DB, where, "a number of dB", value)


def count(value: Any, where: str) -> None:
    """Want a whole number that is not negative."""
    _want(_is_number(value) and int(value) == value and value >= 0, where, "a count", value)


def side(value: Any, where: str) -> None:
    """Want the side of a picture in px."""
    fits = _is_number(value) and int(value) == value and 1 <= value <= LARGEST_PX
    _want(fits, where, f"a whole number of 1 to {LARGEST_PX} px", value)


def shift(value: Any, where: str) -> None:
    """Want a shift in px, whole or not."""
    _want(_is_number(value) and abs(value) <= LARGEST_PX, where, "a shift in px", value)


def anything(value: Any, where: str) -> None:
    """Want no more than that the key is there."""


def one_of(*choices: Any) -> Check:
    """Want one of a few values."""

    def check(value: Any, where: str) -> None:
        fits = any(type(value) is type(choice) and value == choice for choice in choices)
        _want(fits, where, " or ".join(map(str, choices)), value)

    return check


def maybe(inner: Check) -> Check:
    """Want null, or what `inner` wants."""
    return lambda value, where: None if value is None else inner(value, where)


def record(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """Want an object with these keys; others may stand beside them, because fields may be added."""

    def check(value: Any, where: str) -> None:
        _want(isinstance(value, dict), where, "an object", value)
        for key, inner in required.items():
            if key not in value:
                raise WrongError(_under(where, key), "a value", None)
            inner(value[key], _under(where, key))
        for key, inner in (optional or {}).items():
            if key in value:
                inner(value[key], _under(where, key))

    return check


def mapped(inner: Check, *, least: int = 0) -> Check:
    """Want an object whose values are alike, under whatever names."""

    def check(value: Any, where: str) -> None:
        _want(isinstance(value, dict) and len(value) >= least, where, _at_least(least, "entry"), value)
        for key, item in value.items():
            inner(item, _under(where, key))

    return check


def listed(inner: Check, *, least: int = 0, most: int = 100_000) -> Check:
    """Want a list whose items are alike."""

    def check(value: Any, where: str) -> None:
        fits = isinstance(value, list) and least <= len(value) <= most
        _want(fits, where, f"a list of {least} to {most}", value)
        for place, item in enumerate(value):
            inner(item, f"{where}[{place}]")

    return check


def pair(inner: Check) -> Check:
    """Want a list of two."""
    return listed(inner, least=2, most=2)


def file_name(value: Any, where: str) -> None:
    """Want the plain name of a file, which cannot lead out of its folder."""
    fits = isinstance(value, str) and re.fullmatch(r"\w[\w.-]*", value)
    _want(bool(fits), where, "the name of a file beside it", value)


def _want(fits: bool, where: str, expected: str, value: object) -> None:
    if not fits:
        raise WrongError(where, expected, value)


def _is_number(value: Any) -> bool:
    """Return whether this is a number; JSON's true is an int to Python."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST_NUMBER


def _under(where: str, key: str) -> str:
    shown = key if len(key) <= LONGEST_SHOWN else f"{key[:LONGEST_SHOWN]}..."
    return f"{where}.{shown}" if where else shown


def _at_least(least: int, what: str) -> str:
    return f"an object with at least {least} {what}" if least else "an object"


def _require_text(value: Any) -> None:
    """Refuse half of a surrogate pair, which no file can be written with."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, str):
            value.encode()


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
