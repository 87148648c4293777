"""Hostile training states: going on from them is refused in one line, at once, and nothing is trained."""

from __future__ import annotations

import json
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from steadypix.gen.weights.tensors import read_tensors, write_tensors
from tests.hostile_files import with_header
from tests.hostile_runs import MEGABYTES, SECONDS, TINY, Outcome, run_measured

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="pipes, devices, limits"),
]

Tensors = dict[str, Tensor]
Metadata = dict[str, Any]
Spoil = Callable[[Tensors, Metadata], object]
WEIGHT = "generator/encoder.1.conv.weight"


def first_moment(tensors: Tensors) -> str:
    """The first moment of some weight of the generator."""
    return next(key for key in sorted(tensors) if key.startswith("adam_g/") and key.endswith("/exp_avg"))


def spoil_moment(entry: str, change: Callable[[Tensor], Tensor]) -> Spoil:
    def spoil(tensors: Tensors, metadata: Metadata) -> None:
        key = first_moment(tensors).replace("exp_avg", entry)
        tensors[key] = change(tensors[key].clone())

    return spoil


def rename_moment(name: str) -> Spoil:
    return lambda tensors, metadata: tensors.update({name: tensors.pop(first_moment(tensors))})


def spoil_weight(change: Callable[[Tensor], Tensor]) -> Spoil:
    return lambda tensors, metadata: tensors.update({WEIGHT: change(tensors[WEIGHT].clone())})


def set_config(section: str, value: object) -> Spoil:
    return lambda tensors, metadata: metadata["config"].update({section: value})


SPOILS: dict[str, Spoil] = {
    **{
        f"seen {value!r}": lambda tensors, metadata, value=value: metadata["progress"].update(seen=value)
        for value in (-1, -(10**18), 2.5, True, "2", None, [2], {})
    },
    **{
        f"{name} of {value!r}": lambda tensors, metadata, name=name, value=value: metadata["progress"].update(
            {name: value}
        )
        for name, value in (("epoch", -1), ("place", "0"), ("best", "low"), ("best_by", 1), ("plateau", 3))
    },
    "no seen": lambda tensors, metadata: metadata["progress"].pop("seen"),
    "no progress": lambda tensors, metadata: metadata.pop("progress"),
    "other pictures": lambda tensors, metadata: metadata.update(data="3 pairs, 000000000000"),
    "no config": lambda tensors, metadata: metadata.pop("config"),
    **{
        f"config {value!r}": lambda tensors, metadata, value=value: metadata.update(config=value)
        for value in (None, [], 3, "config", {})
    },
    "a section of a number": set_config("generator", 3),
    "a section of a list": set_config("data", [1]),
    "a seed of a text": set_config("seed", "0"),
    "a section unknown": set_config("evil", {"class_path": "os.system"}),
    "a control character": set_config("\x1b[2J", 1),
    "a place that is no number": rename_moment("adam_g/abc/exp_avg"),
    "a place below zero": rename_moment("adam_g/-1/exp_avg"),
    "a place too high": rename_moment("adam_g/99999/exp_avg"),
    "a place without an entry": rename_moment("adam_g/0"),
    "an entry unknown": rename_moment("adam_g/0/evil"),
    "an owner unknown": rename_moment("evil/0/exp_avg"),
    "a place twice": lambda tensors, metadata: tensors.update(
        {"adam_g/00/exp_avg": tensors[first_moment(tensors)].clone()}
    ),
    "no moments": lambda tensors, metadata: [
        tensors.pop(key) for key in sorted(tensors) if key.startswith("adam_g/")
    ],
    "no moments of one network": lambda tensors, metadata: [
        tensors.pop(key) for key in sorted(tensors) if key.startswith("adam_d/")
    ],
    "a moment of another shape": spoil_moment("exp_avg", lambda moment: moment[..., :-1]),
    "a moment of one number": spoil_moment("exp_avg", lambda moment: torch.zeros(())),
    "a moment of NaN": spoil_moment("exp_avg", lambda moment: moment.fill_(torch.nan)),
    "a moment of infinity": spoil_moment("exp_avg_sq", lambda moment: moment.fill_(torch.inf)),
    "a moment of doubles beyond floats": spoil_moment(
        "exp_avg", lambda moment: torch.full(moment.shape, 1e300, dtype=torch.float64)
    ),
    "a negative square": spoil_moment("exp_avg_sq", lambda moment: moment.fill_(-1.0)),
    "a moment of whole numbers": spoil_moment("exp_avg", lambda moment: moment.long()),
    "a count of steps of NaN": spoil_moment("step", lambda step: step.fill_(torch.nan)),
    "a count of steps below zero": spoil_moment("step", lambda step: step.fill_(-1.0)),
    "counts of steps": spoil_moment("step", lambda step: torch.zeros(3)),
    "weights of NaN": spoil_weight(lambda weight: weight.fill_(torch.nan)),
    "weights of another shape": spoil_weight(lambda weight: weight[:-1]),
    "weights of truths": spoil_weight(lambda weight: weight.bool()),
    "no weights": lambda tensors, metadata: tensors.pop(WEIGHT),
    "more weights": lambda tensors, metadata: tensors.update({"generator/evil": torch.zeros(1)}),
    "another's weights": lambda tensors, metadata: tensors.update({"evil": torch.zeros(1)}),
    "nothing": lambda tensors, metadata: tensors.clear(),
}
PROGRESS = '{"epoch": 1, "place": 0, "seen": %s, "best": null, "best_by": null, "plateau": {}}'
# Metadata as text that our own writer would never write.
TEXTS = {
    "seen of NaN": ("progress", PROGRESS % "NaN"),
    "seen of 1e999": ("progress", PROGRESS % "1e999"),
    "seen of a million digits": ("progress", PROGRESS % ("1" * 1_000_000)),
    "config nested": ("config", '{"a":' * 100_000),
    "config of maps": ("config", '{"a":' * 300 + "1" + "}" * 300),
    "config with Infinity": ("config", '{"seed": Infinity}'),
}


def set_text(path: Path, key: str, text: str) -> None:
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"][key] = text
    path.write_bytes(with_header(json.dumps(header).encode(), content[8 + length :]))


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """What going on from every state came to."""
    folder = tmp_path_factory.mktemp("states")
    train = ["train_pix2pix", *TINY, "--out"]
    first = run_measured([[*train, str(folder / "sound")]], folder)
    assert first[0]["code"] == 0, first
    # One epoch more, so that a state which is taken is stepped from.
    train[1:1] = ["--train.epochs=2"]
    train.remove("--train.epochs=1")
    todo = []
    for number, name in enumerate(("sound again", *SPOILS, *TEXTS)):
        path = folder / str(number) / "last" / "state.safetensors"
        shutil.copytree(folder / "sound" / "last", path.parent)
        if name in SPOILS:
            tensors, metadata = read_tensors(path)
            tensors = {key: tensor.clone() for key, tensor in tensors.items()}  # the file is written over
            SPOILS[name](tensors, metadata)
            write_tensors(path, tensors, metadata)
        elif name in TEXTS:
            set_text(path, *TEXTS[name])
        todo.append([*train, str(folder / str(number))])
    found = run_measured(todo, folder)
    assert found[0]["code"] == 0, found[0]
    for number in range(1, len(todo)):
        assert not (folder / str(number) / "generator.safetensors").exists() or found[number]["code"] != 2
    return dict(zip((*SPOILS, *TEXTS), found[1:], strict=True))


@pytest.mark.parametrize("name", [*SPOILS, *TEXTS])
def test_refused_in_one_line_at_once(outcomes: dict[str, Outcome], name: str) -> None:
    outcome = outcomes[name]
    assert outcome["code"] == 2, outcome
    lines = outcome["err"].splitlines()
    assert len(lines) == 1, outcome["err"]
    assert "train_pix2pix: error: " in lines[0]
    assert lines[0].isprintable()
    assert outcome["seconds"] < SECONDS, outcome
    assert outcome["mb"] < MEGABYTES, outcome
