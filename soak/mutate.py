"""Ways to damage a file, and to make it lie: bytes without knowing what they are, and trees of JSON and YAML.

Every function takes a `random.Random`, so one seed gives one damage.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

import yaml

Mutator = Callable[[random.Random, bytes], bytes]

# What a length, a count or a place in a file is overwritten with.
LENGTHS: tuple[int, ...] = (0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
LENGTHS += (2**40, 2**63 - 1, 2**64 - 1)
MAGIC: tuple[bytes, ...] = (b"PK\x03\x04", b"PK\x05\x06", b"\x80\x02}", b"\x89PNG\r\n\x1a\n")
MAGIC += (b"II*\0", b"RIFF", b"{", b"[", b"\0" * 16, b"\xff\xd8")
# A raw text of JSON that json.dumps would not write.
RAW = ("NaN", "-Infinity", "1e999", "9" * 5000, "[" * 3000, '"\\ud800"', "-0", "1e-400", "", "{", '"\\u0000"')
HOSTILE: tuple[Any, ...] = (None, True, False)
HOSTILE += (0, -1, 1, 2**31, 2**63, 10**18, -(10**18), 0.5, -0.0, 1e308, -1e-300)
HOSTILE += ("", "x", "\x1b[2J\n", "../../etc/passwd", "/dev/zero", "<script>alert(1)</script>")
HOSTILE += ('"onload="alert(1)', "{{ 7 * 7 }}", "é\u202e\U0001f600", "a" * 10_000)
HOSTILE += ([], {}, [[]], [None], {"": None}, {"class_path": "os.system"}, "NaN", "1e12", [0] * 1000, "%s%n")
_PLACE = "\ue000"  # stands in a tree where a raw text is to be put


def mutate_bytes(rng: random.Random, data: bytes) -> bytes:
    """Damage a file in one to four places, without knowing what it is."""
    result = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        rng.choice(_BYTE_MUTATORS)(rng, result)
    return bytes(result)


def _flip(rng: random.Random, data: bytearray) -> None:
    for _ in range(rng.choice((1, 1, 3, 20))):
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _flip_early(rng: random.Random, data: bytearray) -> None:
    """Hit the first bytes, where headers are."""
    for _ in range(rng.choice((1, 2, 5))):
        if data:
            data[rng.randrange(min(len(data), 64))] = rng.randrange(256)


def _truncate(rng: random.Random, data: bytearray) -> None:
    del data[rng.randint(0, len(data)) :]


def _remove(rng: random.Random, data: bytearray) -> None:
    first, last = _span(rng, data)
    del data[first:last]


def _duplicate(rng: random.Random, data: bytearray) -> None:
    first, last = _span(rng, data)
    data[first:first] = data[first:last] * rng.choice((1, 1, 2, 10))


def _splice(rng: random.Random, data: bytearray) -> None:
    first, last = _span(rng, data)
    place = rng.randint(0, len(data))
    data[place : place + last - first] = data[first:last]


def _blank(rng: random.Random, data: bytearray) -> None:
    first, last = _span(rng, data)
    data[first:last] = bytes([rng.choice((0, 255, 32))]) * (last - first)


def _insert(rng: random.Random, data: bytearray) -> None:
    place = rng.randint(0, len(data))
    data[place:place] = rng.choice((*MAGIC, rng.randbytes(rng.choice((1, 4, 64)))))


def _append(rng: random.Random, data: bytearray) -> None:
    data += rng.randbytes(rng.choice((1, 100)))


def _set_length(rng: random.Random, data: bytearray) -> None:
    """Overwrite something like a length field, early in the file as often as anywhere."""
    width = rng.choice((1, 2, 4, 8))
    if len(data) < width:
        return
    place = rng.randrange(min(len(data), rng.choice((64, len(data)))) - width + 1) if len(data) > width else 0
    value = rng.choice(LENGTHS) & ((1 << 8 * width) - 1)
    data[place : place + width] = value.to_bytes(width, rng.choice(("little", "big")))


_BYTE_MUTATORS = [_flip, _flip, _flip_early, _truncate, _remove, _duplicate, _splice, _blank]
_BYTE_MUTATORS += [_insert, _append, _set_length]


def _span(rng: random.Random, data: bytearray) -> tuple[int, int]:
    first = rng.randint(0, len(data))
    return first, min(len(data), first + rng.choice((1, 4, 16, 256, 4096)))


# ---- trees ------------------------------------------------------------------------------------------


def mutate_tree(rng: random.Random, tree: Any) -> Any:
    """Return a tree of JSON values that differs in one to three places."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        tree = _mutate_once(rng, tree)
    return tree


def _grow(rng: random.Random, holder: dict[str, Any]) -> None:
    """Let all sizes beside each other grow alike: each in its range, and together out of bounds."""
    factor = rng.choice((2, 4, 16, 64, 256))
    for key, value in holder.items():
        if type(value) is int and value > 1:
            holder[key] = value * factor


def _mutate_once(rng: random.Random, tree: Any) -> Any:
    places = list(_places(tree))
    if not places or rng.random() < 0.02:
        return copy.deepcopy(rng.choice(HOSTILE))  # it may be changed in turn
    holder, key = rng.choice(places)
    how = rng.randrange(9)
    if how < 3:
        holder[key] = copy.deepcopy(rng.choice(HOSTILE))
    elif how == 3:
        del holder[key]
    elif how == 4 and isinstance(holder, dict):
        holder[rng.choice(("", "class_path", f"{key}x", str(key).upper(), "\x1b]0;"))] = holder.pop(key)
    elif how == 5:
        other, there = rng.choice(places)
        if there in other if isinstance(other, dict) else there < len(other):
            holder[key] = copy.deepcopy(other[there])
    elif how == 6 and isinstance(holder[key], int | float):
        scale = rng.choice((-1, 0, 1e3, 1e6, 1e15, 0.5))
        holder[key] = holder[key] * scale if rng.random() < 0.5 else int(holder[key] * scale)
    elif how == 7 and isinstance(holder, dict):
        _grow(rng, holder)
    elif isinstance(holder, list):
        holder[key:key] = [copy.deepcopy(holder[key])] * rng.choice((1, 1, 500))
    else:
        for _ in range(rng.choice((1, 5, 40))):
            holder[key] = rng.choice(([holder[key]], {"a": holder[key]}))
    return tree


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Return (container, key) of everything in a tree."""
    found: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        keys = node.keys() if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            found.append((node, key))
            waiting.append(node[key])
    return found


def mutate_json(rng: random.Random, data: bytes) -> bytes:
    """Change the tree of a JSON file; at times to what only looks like JSON."""
    tree = json.loads(data)
    if rng.random() < 0.8:
        return json.dumps(mutate_tree(rng, tree)).encode()
    places = _places(tree)
    if places:
        holder, key = rng.choice(places)
        holder[key] = _PLACE
    return json.dumps(tree).replace(json.dumps(_PLACE), rng.choice(RAW)).encode()


def mutate_lines(rng: random.Random, data: bytes) -> bytes:
    """Change the tree of one line of a file of JSON lines."""
    lines = data.splitlines(keepends=True)
    place = rng.randrange(len(lines))
    lines[place] = mutate_json(rng, lines[place]) + b"\n"
    return b"".join(lines)


def mutate_yaml(rng: random.Random, data: bytes) -> bytes:
    """Change the tree of a YAML file, or add what YAML alone has."""
    text = yaml.safe_dump(mutate_tree(rng, yaml.safe_load(data)), sort_keys=False)
    if rng.random() < 0.3:
        lines = text.splitlines()
        lines.insert(rng.randint(0, len(lines)), rng.choice(YAML_LINES))
        text = "\n".join(lines)
    return text.encode("utf-8", "replace")


YAML_LINES: tuple[str, ...] = ("seed: !!python/object/apply:os.getcwd []", "seed: 2001-99-99", "seed: 0b2")
YAML_LINES += ("seed: 1_000", "seed: 1:2:3", "a: &a [1, 1]\nb: *a", "a: &a {<<: *a}", "? [1, 2]\n: 3")
YAML_LINES += ("<<: {seed: 3}", "generator.ngf: 7", "- 3", "\t", "%TAG", "generator: {class_path: os.system}")
YAML_LINES += ("config: other.yaml", "seed: " + "9" * 5000, "--- 3", "seed: !!binary aGk=", "seed: !!set {a}")
YAML_LINES += (
    "seed: .inf",
    "seed: ~",
    "data: other.yaml",
    "loss: {lambda_l1: .nan}",
    "\ufeff",
    "seed: '\\0'",
)
