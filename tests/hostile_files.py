"""Files made to harm whoever opens them, by name: each is written to a path that is given."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from steadypix import UNetGenerator
from steadypix.gen.weights.generators import FORMAT
from steadypix.gen.weights.tensors import write_tensors

Write = Callable[[Path], object]

SIZES = {"ngf": 4, "num_downs": 3}
GENERATOR = {**SIZES, "norm": "batch", "in_channels": 3, "out_channels": 3}
DATA = {"root": None, "synthetic": "facades", "val_split": "test", "direction": "BtoA"}
DATA |= {"load_size": 40, "crop_size": 32}
# Weights, but for the tests that are about them: small numbers that fit GENERATOR.
WEIGHT = "encoder.1.conv.weight"
HUGE = 10**12


def weights(**changes: Tensor) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {**UNetGenerator(**GENERATOR).state_dict(), **changes}


def generator(
    tensors: dict[str, Tensor] | None = None, *, data: Any = None, provenance: Any = None, **claims: Any
) -> Write:
    """A generator in our own format that claims to be built with `claims`."""
    config = {"generator": {**GENERATOR, **claims}, "data": DATA if data is None else data}
    metadata = {"format": FORMAT, "config": config, "provenance": provenance or {}}
    return lambda path: write_tensors(path, weights() if tensors is None else tensors, metadata)


def resnet(**claims: int) -> Write:
    """The same weights, said to be those of a ResNet."""
    config = {"generator": {"architecture": "resnet", **claims}, "data": DATA}
    return lambda path: write_tensors(path, weights(), {"format": FORMAT, "config": config, "provenance": {}})


def with_metadata(key: str, text: str) -> Write:
    """A generator one of whose metadata is any text."""

    def write(path: Path) -> None:
        generator()(path)
        length = struct.unpack("<Q", path.read_bytes()[:8])[0]
        header, body = json.loads(path.read_bytes()[8 : 8 + length]), path.read_bytes()[8 + length :]
        header["__metadata__"][key] = text
        path.write_bytes(with_header(json.dumps(header).encode(), body))

    return write


def config_text(old: str, new: str) -> Write:
    """A generator whose configuration is text that our own writer would never write."""
    config = json.dumps({"generator": GENERATOR, "data": DATA})
    assert old in config
    return with_metadata("config", config.replace(old, new))


def with_header(header: bytes, body: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + body


def entry(name: str = WEIGHT, **changes: object) -> bytes:
    described = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}
    return json.dumps({name: described}).encode()


def raw(header: bytes, body: bytes = bytes(8), length: int | None = None) -> Write:
    return lambda path: path.write_bytes(with_header(header, body, length))


def sparse(numbers: int) -> Write:
    """A file that holds as many zeros as it claims, and takes no room for them."""

    def write(path: Path) -> None:
        path.write_bytes(with_header(entry(shape=[numbers], data_offsets=[0, 4 * numbers])))
        os.truncate(path, path.stat().st_size + 4 * numbers)

    return write


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (str(self.marker),)


def trapped(path: Path) -> dict[str, object]:
    return {WEIGHT: torch.zeros(2), "trap": Trap(path.with_name("it-ran"))}


def archive(pickled: bytes, *, kind: int = zipfile.ZIP_STORED) -> Write:
    """A `.pth` with this pickle in it."""

    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", kind) as file:
            for name, content in (("data.pkl", pickled), ("version", b"3\n"), ("byteorder", b"little")):
                file.writestr(f"a/{name}", content)

    return write


def saved(value: Callable[[], object], *, old: bool = False) -> Write:
    return lambda path: torch.save(value(), path, _use_new_zipfile_serialization=not old)


def claims_numbers(count: int, *, old: bool) -> Write:
    """A `.pth` whose storage claims other than its four numbers."""

    def write(path: Path) -> None:
        torch.save({"a": torch.zeros(4)}, path, _use_new_zipfile_serialization=not old)
        claim = b"\x8a\x08" + struct.pack("<q", count)
        if old:
            path.write_bytes(path.read_bytes().replace(b"K\x04Nt", claim + b"Nt", 1))
            return
        with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as file:
            entries = {name: file.read(name) for name in file.namelist()}
        with zipfile.ZipFile(path, "w") as file:
            for name, content in entries.items():
                file.writestr(name, content.replace(b"K\x04tq", claim + b"tq", 1))

    return write


def bytearray_of(count: int) -> bytes:
    """A pickle that asks for `count` bytes; torch's own unpickler grants it."""
    return b"\x80\x02cbuiltins\nbytearray\n(J" + struct.pack("<i", count) + b"tR."


def behind_an_archive(path: Path) -> None:
    """An old-style pickle bomb, with a harmless archive at its end for whoever looks there."""
    archive(b"\x80\x02}.")(path)
    path.write_bytes(bytearray_of(2**31 - 1) + path.read_bytes())


def loop(path: Path) -> None:
    path.symlink_to(path.with_name("other"))
    path.with_name("other").symlink_to(path)


def many(count: int, name: str = "") -> bytes:
    """A header of `count` empty tensors, under names of their own or one name."""
    body = ",".join(
        f'"{name or number}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}' for number in range(count)
    )
    return f"{{{body}}}".encode()


# Refused whoever reads them: an evaluation, `generate`, `--init` or `--resume`.
ANYWHERE: dict[str, Write] = {
    "empty": Path.touch,
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
    "/dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "pickle": lambda path: path.write_bytes(pickle.dumps(trapped(path))),
    "torch.save": lambda path: torch.save(trapped(path), path),
    "old torch.save": lambda path: torch.save(trapped(path), path, _use_new_zipfile_serialization=False),
    "header of 2^63": raw(entry(), length=2**63),
    "header of 2^40": raw(entry(), length=2**40),
    "header larger than the file": raw(entry(), length=len(entry()) + 9),
    "header of 90 MB, nested": raw(b'{"a":' + b"[" * 90_000_000),
    "header nested": raw(b'{"a":' + b"[" * 1_000_000),
    "header of 90 MB, one name": raw(many(1) + b" " * 90_000_000, b""),
    "header of 50,000 tensors": raw(many(50_000), b""),
    "header with a name twice": raw(many(2, "a"), b""),
    "header with a control character": raw(entry("\x1b[2J")),
    "metadata is no text": raw(b'{"__metadata__":{"format":3}}', b""),
    "1e12 numbers claimed": raw(entry(shape=[HUGE], data_offsets=[0, 4 * HUGE])),
    "1e12 numbers, sparse": sparse(HUGE),
    "shape that overflows": raw(entry(shape=[2**62, 2**62])),
    "shape of a text": raw(entry(shape="ab")),
    "shape of fractions": raw(entry(shape=[2.0])),
    "shape of truths": raw(entry(shape=[True, True])),
    "no shape": raw(b'{"a":{}}'),
    "no entry": raw(b'{"a":[1]}'),
    "type of a list": raw(entry(dtype=["F32"])),
    "type of 8 bits": raw(entry(dtype="F8_E4M3", data_offsets=[0, 2]), bytes(2)),
    "complex": raw(entry(dtype="C64", data_offsets=[0, 16]), bytes(16)),
    "offsets that overlap": raw(
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        b'"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}',
        bytes(6),
    ),
    "offsets below zero": raw(entry(data_offsets=[-8, 0])),
    "offsets of nothing": raw(entry(data_offsets=None)),
}

# Refused as a generator, whether whole or as weights to start from.
WEIGHTS: dict[str, Write] = {
    "a loop of links": loop,  # of a state it is no state, and the run begins
    "nan": generator(weights(**{WEIGHT: torch.full((8, 4, 4, 4), torch.nan)})),
    "infinity": generator(weights(**{WEIGHT: torch.full((8, 4, 4, 4), -torch.inf)})),
    "beyond a float": generator(weights(**{WEIGHT: torch.full((8, 4, 4, 4), 1e300, dtype=torch.float64)})),
    "another shape": generator(weights(**{WEIGHT: torch.zeros(8, 4, 4, 3)})),
    "whole numbers": generator(weights(**{WEIGHT: torch.zeros(8, 4, 4, 4, dtype=torch.int64)})),
    "truths": generator(weights(**{WEIGHT: torch.zeros(8, 4, 4, 4, dtype=torch.bool)})),
    "a negative variance": generator(weights(**{"encoder.1.norm.running_var": torch.full((8,), -1.0)})),
    "a count of fractions": generator(weights(**{"encoder.1.norm.num_batches_tracked": torch.tensor(0.5)})),
    "none": generator({}),
}

# Refused as a whole generator for what it says of itself.
CLAIMS: dict[str, Write] = {
    **{
        f"{key} {value!r:.30}": generator(**{key: value})
        for key, value in (
            ("ngf", 10**9),
            ("ngf", 10**18),
            ("ngf", True),
            ("in_channels", 3.0),
            ("in_channels", "3"),
            ("in_channels", [3]),
            ("out_channels", -3),
            ("num_downs", 10**9),
            ("n_blocks", 9),
            ("dropout", "no"),
            ("norm", ["batch"]),
            ("sampling", "x" * 100_000),
            ("\x1b[2J", 1),
            ("architecture", "transformer"),
            ("architecture", None),
        )
    },
    "12 levels of 4096": generator(num_downs=12, ngf=4096),
    "1e9 blocks": resnet(n_blocks=10**9),
    "256 blocks of 1e9": resnet(n_blocks=256, ngf=10**9),
    "a block of 2e6": resnet(n_blocks=1, ngf=2 * 10**6),  # its blurs alone would take 1.7 GB
    "NaN": config_text('"ngf": 4', '"ngf": NaN'),
    "Infinity": config_text('"ngf": 4', '"ngf": Infinity'),
    "1e999": config_text('"ngf": 4', '"ngf": 1e999'),
    "a million digits": config_text('"ngf": 4', '"ngf": 1' + "0" * 1_000_000),
    "configuration nested": with_metadata("config", "[" * 1_000_000),
    "configuration of maps": with_metadata("config", '{"a":' * 300 + "1" + "}" * 300),
    "half a surrogate pair": config_text('"facades"', '"\\ud800"'),
    "provenance of NaN": with_metadata("provenance", '{"seen": NaN}'),
    "provenance of a list": with_metadata("provenance", "[1]"),
    "window beyond the canvas": generator(data={**DATA, "crop_size": 99}),
    "canvas of 1e9": generator(data={**DATA, "load_size": 10**9, "crop_size": 10**9}),
    "canvas of true": generator(data={**DATA, "load_size": True, "crop_size": True}),
    "a direction unknown": generator(data={**DATA, "direction": "AtoZ"}),
    "pictures unknown": generator(data={**DATA, "synthetic": "cars"}),
    "no data": generator(data=[]),
}

# Refused as weights of pytorch-CycleGAN-and-pix2pix.
PUBLISHED: dict[str, Write] = {
    "a trap": saved(lambda: {"model.model.0.weight": Trap(Path("it-ran"))}),
    "an old trap": saved(lambda: {"model.model.0.weight": Trap(Path("it-ran"))}, old=True),
    "2 GB of bytearray": archive(bytearray_of(2**31 - 1)),
    "2 GB of bytearray, bare": lambda path: path.write_bytes(bytearray_of(2**31 - 1)),
    "2 GB of bytearray before an archive": behind_an_archive,
    "one number 1e12 times": saved(lambda: {"model.model.0.weight": torch.zeros(1).expand(HUGE, 1, 4, 4)}),
    "one number 1e12 times, old": saved(
        lambda: {"model.model.0.weight": torch.zeros(1).expand(HUGE, 1, 4, 4)}, old=True
    ),
    "1e12 numbers on no device": saved(lambda: {"model.model.0.weight": torch.empty(HUGE, device="meta")}),
    "1e12 numbers claimed": claims_numbers(HUGE, old=False),
    "1e12 numbers claimed, old": claims_numbers(HUGE, old=True),
    "1e9 numbers claimed": claims_numbers(10**9, old=False),
    "1e9 numbers claimed, old": claims_numbers(10**9, old=True),
    "a zip bomb": archive(b"\x80\x02" + b"N0" * 20_000_000 + b".", kind=zipfile.ZIP_DEFLATED),
    "nested": archive(b"\x80\x02" + b"(" * 3_000_000 + b"t" * 3_000_000 + b"."),
    "a million steps": archive(b"\x80\x02" + b"N0" * 500_000 + b"N."),
    "a million digits": archive(b"\x80\x02L" + b"1" * 1_000_000 + b"L\n."),
    "a name of control characters": saved(lambda: {"\x1b[2J": torch.zeros(1)}),
    "an archive of nothing": lambda path: zipfile.ZipFile(path, "w").close(),
}
