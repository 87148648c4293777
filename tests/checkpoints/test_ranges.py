"""`generate` with a program on another range of numbers, or with several outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from steadypix.checkpoints.generate import main as generate
from tests.cli import Capture, one_error_line

NETS = """
import torch

def halved(x):
    return x / 2

def parts(x):
    return {"aux": x, "out": x / 2 - 0.5}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "range_nets.py").write_text(NETS)
    pixels = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "range_nets", raising=False)
    return tmp_path


def made(name: str, *options: str) -> np.ndarray:
    out = Path("out" + "".join(options).replace(",", "_").replace(":", "_"))
    words = [f"range_nets:{name}", "a.png", "--out", str(out), "--trust", "--device", "cpu"]
    assert generate([*words, *options]) == 0
    return np.asarray(Image.open(out / "a.png")).astype(int)


@pytest.mark.usefixtures("here")
def test_numbers_are_brought_into_its_range_and_back() -> None:
    expected = np.asarray(Image.open("a.png")).astype(float) / 2  # half of what is on [0, 1]
    for asked in ("0,1", "0,255"):
        assert np.abs(made("halved", "--range", asked) - expected).max() <= 0.5
    assert np.abs(made("halved", "--range", "0,1", "--tile", "32") - expected).max() <= 0.5
    # On [-1, 1] half of it is nearer to gray.
    assert np.abs(made("halved", "--range", "-1,1") - (expected + 255 / 4)).max() <= 0.51


@pytest.mark.usefixtures("here")
def test_one_output_of_several(capsys: Capture) -> None:
    expected = np.asarray(Image.open("a.png")).astype(float)
    assert np.abs(made("parts", "--output_key", "out") - expected / 2).max() <= 0.51
    assert np.array_equal(made("parts", "--output_key", "aux"), expected)
    capsys.readouterr()
    words = ["a.png", "--out", "none", "--trust", "--device", "cpu"]
    assert generate(["range_nets:parts", *words]) == 2
    one_error_line(capsys, "range_nets:parts", "--output_key")


@pytest.mark.usefixtures("here")
def test_what_is_evident_is_said_and_what_leaves_a_range_refused(capsys: Capture) -> None:
    words = ["a.png", "--trust", "--device", "cpu"]
    assert generate(["range_nets:halved", *words, "--out", "one", "--range=0,255:-1,1"]) == 2
    one_error_line(capsys, "range_nets:halved on a.png", "outside of its stated range [-1, 1]")
    assert not list(Path("one").glob("*.png"))
    assert generate(["facades-blur", *words, "--out", "two", "--range", "0,1"]) == 2
    one_error_line(capsys, "--range", "made elsewhere")
