"""Hostile checkpoints through the commands: one line, exit code 2, no time, no memory, and nothing runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import REPOSITORY
from tests.hostile_files import ANYWHERE, CLAIMS, DATA, PUBLISHED, WEIGHTS, Write, generator
from tests.hostile_runs import MEGABYTES, SECONDS, TINY, Outcome, run_measured

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="pipes, /dev/zero, limits of memory"),
]

EVALUATE = ["eval_stability", "--limit", "1", "--shifts", "0..2", "--device", "cpu"]


def commands(kind: str, path: Path, out: Path, picture: Path) -> dict[str, list[str]]:
    """The commands that read a file, by name."""
    every = {
        "eval_stability": [
            "eval_stability",
            str(path),
            "--limit",
            "1",
            "--shifts",
            "0..2",
            "--device",
            "cpu",
            "--out",
            str(out),
        ],
        "generate": ["generate", str(path), str(picture), "--device", "cpu", "--out", str(out)],
        "init": ["train_pix2pix", *TINY, "--init", str(path), "--out", str(out)],
        "resume": ["train_pix2pix", *TINY, "--resume", "auto", "--out", str(path.parent.parent)],
    }
    names = {
        "anywhere": list(every),
        "weights": ["eval_stability", "generate", "init"],
        "claims": ["eval_stability"],
        "published": ["eval_stability"],
    }
    return {name: every[name] for name in names[kind]}


GROUPS: dict[str, dict[str, Write]] = {
    "anywhere": ANYWHERE,
    "weights": WEIGHTS,
    "claims": CLAIMS,
    "published": PUBLISHED,
}
CASES = [(kind, name) for kind, group in GROUPS.items() for name in group]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str, str], Outcome]:
    """What every command made of every file."""
    folder = tmp_path_factory.mktemp("hostile")
    picture = folder / "picture.png"
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(picture)
    sound = folder / "sound.safetensors"
    generator()(sound)
    # The first command warms up: imports, and memory that torch keeps.
    keys: list[tuple[str, str, str]] = []
    todo = [commands("weights", sound, folder / f"warm-{n}", picture)[n] for n in ("init", "eval_stability")]
    todo.append(commands("weights", sound, folder / "warm-generate", picture)["generate"])
    for number, (kind, name) in enumerate(CASES):
        path = folder / str(number) / "last" / ("state.safetensors" if kind != "published" else "net.pth")
        path.parent.mkdir(parents=True)
        GROUPS[kind][name](path)
        for command, argv in commands(kind, path, folder / str(number) / "out", picture).items():
            keys.append((kind, name, command))
            todo.append(argv)
    results = run_measured(todo, folder)
    assert all(outcome["code"] == 0 for outcome in results[:3]), results[:3]
    assert results[0]["mb"] > 5, "memory is not measured"
    assert not list(folder.rglob("it-ran"))
    assert not (REPOSITORY / "it-ran").exists()
    for path in folder.rglob("state.safetensors"):
        if path.is_file():
            path.unlink()  # sparse ones look large
    return dict(zip(keys, results[3:], strict=True))


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_refused_in_one_line_at_once(
    outcomes: dict[tuple[str, str, str], Outcome], kind: str, name: str
) -> None:
    found = {key[2]: outcome for key, outcome in outcomes.items() if key[:2] == (kind, name)}
    assert found
    for command, outcome in found.items():
        assert outcome["code"] == 2, (command, outcome)
        lines = outcome["err"].splitlines()
        assert len(lines) == 1, (command, outcome["err"])
        assert ": error: " in lines[0]
        assert lines[0].isprintable()
        assert len(lines[0]) < 2200
        assert "state.safetensors" in lines[0] or "net.pth" in lines[0] or f"{name}" in lines[0], lines[0]
        assert outcome["seconds"] < SECONDS, (command, outcome)
        assert outcome["mb"] < MEGABYTES, (command, outcome)


def test_a_folder_of_checkpoints_with_a_pipe_in_it_is_searched(tmp_path: Path) -> None:
    from steadypix.eval.generators.models import find_checkpoints

    generator()(tmp_path / "sound.safetensors")
    os.mkfifo(tmp_path / "pipe.safetensors")
    assert find_checkpoints(tmp_path) == [tmp_path / "sound.safetensors"]


def test_a_generator_that_names_no_folder_is_of_procedural_pictures(tmp_path: Path) -> None:
    from steadypix.eval.generators.models import load_models

    generator(data={key: value for key, value in DATA.items() if key != "root"})(tmp_path / "a.safetensors")
    assert load_models([tmp_path / "a.safetensors"])[0].config["data"]["synthetic"] == "facades"


def test_a_generator_whose_folder_s_name_is_too_long_is_named(tmp_path: Path) -> None:
    from steadypix.errors import InputError
    from steadypix.eval.generators.models import load_models
    from steadypix.eval.measure.sources import open_data

    file = tmp_path / "a.safetensors"
    generator(data={**DATA, "root": "a" * 10_000})(file)
    with pytest.raises(InputError, match=r"a: the pictures .*a\.safetensors was trained for are not there"):
        open_data(load_models([file]), source=None, split=None, limit=None)
