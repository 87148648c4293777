"""Retrofitted networks of others as files: built, rewritten again, and refused where damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from steadypix import CheckpointError, load_generator
from steadypix.checkpoints.export import main as export
from steadypix.checkpoints.retrofitting.rewrite import Rewritten, load_and_rewrite
from steadypix.errors import InputError
from steadypix.eval.generators.formats import RETROFITTED
from steadypix.eval.generators.loading import find_generator
from steadypix.eval.generators.models import find_checkpoints
from steadypix.gen.weights.tensors import read_tensors, write_tensors
from tests.cli import Capture

FOREIGN = """
from torch import nn


def build():
    layers = [nn.Conv2d(3, 8, 4, 2, 1), nn.InstanceNorm2d(8, affine=True), nn.ReLU()]
    layers += [nn.ConvTranspose2d(8, 3, 4, 2, 1), nn.Tanh()]
    return nn.Sequential(*layers)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(3, 3, 3, 2, 1)
        self.up = nn.Upsample(scale_factor=2)
        self.paint = nn.Conv2d(3, 3, 3, 1, 1)
        self.paint.weight = self.down.weight

    def forward(self, x):
        return self.paint(self.up(self.down(x).relu())).tanh()


def tied():
    return Tied()


def flat():
    return nn.Conv2d(3, 3, 3, 1, 1)


def plain(x):
    return x
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "theirs_files.py").write_text(FOREIGN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rewritten(function: str) -> Rewritten:
    words: dict[str, Any] = {
        "sampling": None,
        "filter": "tri3",
        "texture": True,
        "trust": True,
        "window_px": 32,
    }
    return load_and_rewrite(f"theirs_files:{function}", **words)


def picture() -> Tensor:
    return torch.rand(2, 3, 40, 36, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("function", ["build", "tied"])
def test_a_file_holds_the_network_with_its_blurs_and_weights(function: str, home: Path) -> None:
    made = rewritten(function)
    with torch.no_grad():  # as if it had been trained
        for parameter in made.network.parameters():
            parameter.add_(0.01)
        expected = made.network(picture())
        assert not torch.allclose(made.teacher(picture()), expected, atol=1e-3)
    made.save(home / "a.safetensors", {"run": "a"})
    assert find_generator(home / "a.safetensors")[1] == "retrofitted"
    again = load_generator(home / "a.safetensors", trust=True)
    with torch.no_grad():
        assert torch.equal(again(picture()), expected)
    assert again.provenance == {"run": "a"}
    # A folder of a run is found as well; a command without arguments does not pick up what runs code.
    (home / "run").mkdir()
    (home / "a.safetensors").rename(home / "run/generator.safetensors")
    assert find_generator(home / "run") == (home / "run/generator.safetensors", "retrofitted")
    with pytest.raises(InputError, match="give --trust"):
        load_generator(home / "run")
    assert home / "run/generator.safetensors" not in find_checkpoints(home)


def test_it_is_exported_as_any_other(home: Path, capsys: Capture) -> None:
    rewritten("build").save(home / "a.safetensors", {})
    assert export([str(home / "a.safetensors"), "--out", str(home / "a.pt2"), "--trust", "--size", "32"]) == 0
    assert "largest difference" in capsys.readouterr().out
    program = load_generator(home / "a.pt2", trust=True)
    with torch.no_grad():
        x = picture()[..., :32, :32]
        expected = load_generator(home / "a.safetensors", trust=True)(x)
        torch.testing.assert_close(program(x), expected, rtol=0, atol=1e-5)


def test_nothing_to_rewrite_is_refused(home: Path) -> None:
    with pytest.raises(InputError, match=r"theirs_files:flat: has nothing to rewrite; no layer changes"):
        rewritten("flat")


@pytest.mark.parametrize(
    ("change", "culprit"),
    [
        ({"builder": "os"}, "builder"),
        ({"builder": ["theirs_files:build"]}, "builder"),
        ({"builder": "theirs_files:gone"}, "theirs_files:gone: cannot be called"),
        ({"options": {}}, "options"),
        ({"options": {"sampling": "blur", "filter": "no", "probe": [1, 3, 32, 32]}}, "cannot be rewritten"),
        ({"options": {"sampling": "blur", "filter": "tri3", "probe": [1, 3, 1 << 20, 1 << 20]}}, "options"),
        ({"options": {"sampling": "blur", "filter": "tri3", "probe": [1, 3, 0, 32]}}, "options"),
        ({"options": {"sampling": "blur", "filter": "tri3", "probe": [1, 4, 32, 32]}}, "cannot be rewritten"),
        ({"config": 3}, "generator and data"),
        ({"config": {"generator": {}}}, "generator and data"),
        ({"builder": "theirs_files:plain"}, "theirs_files:plain gives a function of pictures"),
        ({"builder": "theirs_files:tied"}, "another architecture"),
    ],
)
def test_a_damaged_file_is_one_line(change: dict[str, Any], culprit: str, home: Path) -> None:
    rewritten("build").save(home / "a.safetensors", {})
    tensors, metadata = read_tensors(home / "a.safetensors")
    assert metadata["format"] == RETROFITTED
    write_tensors(home / "a.safetensors", tensors, {**metadata, **change})
    with pytest.raises((CheckpointError, InputError), match=culprit) as caught:
        load_generator(home / "a.safetensors", trust=True)
    assert "\n" not in str(caught.value)
