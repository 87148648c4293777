"""`generate --tile` of generators that strips cannot look into: tiles with a halo, from file to file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from steadypix.checkpoints.generate import main as generate
from steadypix.checkpoints.generation.freeze import main as statistics_command
from steadypix.data.pictures.images import read_image
from tests.cli import Capture, one_error_line

NETS = """
import torch
from steadypix import UNetGenerator

def unet(norm):
    network = UNetGenerator(ngf=4, num_downs=2, norm=norm, sampling="strided")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return network

def batch():
    return unet("batch")

def instance():
    return unet("instance")

class Bare(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = torch.nn.InstanceNorm2d(3)

    def forward(self, x):
        return torch.tanh(self.norm(x))
"""


@pytest.fixture
def scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A picture of 150 x 210 px, darker at the right; `nets.py` lies in the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiled_nets.py").write_text(NETS)
    rng = np.random.default_rng(0)
    pixels = np.asarray(Image.fromarray(rng.integers(0, 256, (20, 28, 3), dtype=np.uint8)).resize((212, 152)))
    pixels = np.concatenate([pixels[:, :100], pixels[:, 100:] // 4], axis=1)
    Image.fromarray(pixels).save(tmp_path / "scan.png")
    return tmp_path / "scan.png"


def made(name: str, scan: Path, *more: str) -> np.ndarray:
    """The output as floats on [-1, 1], to be told apart from rounding."""
    out = scan.parent / "out"
    argv = [name, str(scan), "--out", str(out), "--device", "cpu", "--bits", "16", "--trust", *more]
    assert generate(argv) == 0
    return read_image(out / "scan.png", 3).astype(float) / 32767.5 - 1


def db(first: np.ndarray, second: np.ndarray) -> float:
    return float(10 * np.log10(4 / max(np.square(first - second).mean(), 1e-15)))


def test_without_a_norm_that_looks_it_is_the_untiled_picture(scan: Path, capsys: Capture) -> None:
    whole = made("tiled_nets:batch", scan)
    capsys.readouterr()
    assert db(made("tiled_nets:batch", scan, "--tile", "96"), whole) > 60
    said = capsys.readouterr().err
    assert "tiles of 96 px, halo " in said
    assert "norms" not in said
    assert db(made("tiled_nets:batch", scan, "--tile", "96", "--halo", "0"), whole) < 60


def test_with_one_its_cost_is_said(scan: Path, capsys: Capture) -> None:
    whole = made("tiled_nets:instance", scan)
    capsys.readouterr()
    error_db = db(made("tiled_nets:instance", scan, "--tile", "96"), whole)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "norms go by each tile" in line]
    stated_db = float(line.partition("here by ")[2].split()[0])
    assert error_db < 40
    assert abs(stated_db - error_db) < 10


def test_a_program_of_one_size(scan: Path, capsys: Capture) -> None:
    network = torch.nn.Conv2d(3, 3, 5, padding=2).eval()
    program = torch.export.export(network, (torch.zeros(1, 3, 64, 64),))
    torch.export.save(program, scan.parent / "net.pt2")
    found = made("net.pt2", scan, "--tile", "64")
    with torch.inference_mode():
        x = torch.from_numpy(read_image(scan, 3).astype(np.float32)).permute(2, 0, 1)[None] / 127.5 - 1
        expected = network(x)[0].clamp(-1, 1).permute(1, 2, 0).double().numpy()
    # All but the right and bottom edges, where the last tiles are completed by mirroring.
    np.testing.assert_allclose(found[:-2, :-2], expected[:-2, :-2], rtol=0, atol=1e-4)
    argv = ["net.pt2", str(scan), "--out", "out", "--device", "cpu", "--trust", "--tile"]
    capsys.readouterr()
    assert generate([*argv, "96"]) == 2
    one_error_line(capsys, "net.pt2", "scan.png", "expected --tile 64")
    assert generate([*argv, "auto"]) == 2
    one_error_line(capsys, "net.pt2", "expected --tile PX")


@pytest.mark.parametrize(
    ("words", "culprit"),
    [
        (["--halo", "8"], "--halo"),
        (["--halo", "8", "--tile", "64", "--statistics", "tile"], "--halo"),
        (["--tile", "64", "--statistics", "first"], "--statistics first"),
        (["--tile", "64", "--context", "8"], "--context"),
    ],
)
def test_what_does_not_fit_together(words: list[str], culprit: str, scan: Path, capsys: Capture) -> None:
    argv = ["tiled_nets:instance", str(scan), "--out", "out", "--device", "cpu", "--trust", *words]
    assert generate(argv) == 2
    one_error_line(capsys, culprit)
    assert not list((scan.parent / "out").glob("*")) if (scan.parent / "out").exists() else True


def test_a_halo_is_not_for_what_needs_no_tiles(checkpoints: list[Path], scan: Path, capsys: Capture) -> None:
    argv = [str(checkpoints[0]), str(scan), "--out", "out", "--device", "cpu", "--tile", "64", "--halo", "8"]
    assert generate(argv) == 2
    one_error_line(capsys, "--halo", "without tiles")


def test_statistics_of_a_network_without_parameters(scan: Path) -> None:
    """Frozen by a picture, that picture's output stays."""
    argv = ["tiled_nets:Bare", str(scan), "--out", "s.safetensors", "--trust", "--device", "cpu"]
    assert statistics_command(argv) == 0
    whole = made("tiled_nets:Bare", scan)
    np.testing.assert_allclose(
        made("tiled_nets:Bare", scan, "--statistics", "s.safetensors"), whole, atol=1e-4
    )
    tiled = made("tiled_nets:Bare", scan, "--statistics", "s.safetensors", "--tile", "64", "--halo", "0")
    np.testing.assert_allclose(tiled, whole, atol=1e-4)
