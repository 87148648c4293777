"""One loader: what one command reads, the others read too, and refusals are the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import steadypix
import train_pix2pix
from steadypix.checkpoints.generate import main as generate
from steadypix.eval.eval_features import main as eval_features
from steadypix.eval.eval_stability import main as eval_stability
from steadypix.eval.generators.loading import initialise
from steadypix.gen import UNetGenerator
from tests.cli import TINY, Capture, one_error_line
from tests.conftest import tiny_config, write_checkpoint
from tests.published_nets import PublishedUnet

pytestmark = pytest.mark.slow


def callable_network() -> torch.nn.Module:
    return UNetGenerator(ngf=2, num_downs=2, sampling="strided")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def published(folder: Path) -> Path:
    torch.manual_seed(0)
    torch.save(PublishedUnet(ngf=2).state_dict(), folder / "latest_net_G.pth")
    return folder / "latest_net_G.pth"


def test_generate_takes_every_format(photo: Path, tmp_path: Path) -> None:
    spec = "tests.eval.generators.test_loading:callable_network"
    for what in ("facades-blur", str(published(tmp_path)), spec):
        out = tmp_path / "out" / Path(what).stem
        assert generate([what, str(photo), "--out", str(out), "--trust", "--device", "cpu"]) == 0
        with Image.open(out / "photo.png") as image:
            assert image.size == (256, 256)


def test_the_api_loads_by_name_and_knows_the_configuration() -> None:
    assert {"facades-blur", "facades-strided"} <= set(steadypix.list_generators())
    network = steadypix.load_generator("facades-blur")
    assert not network.training
    assert network.config["generator"]["sampling"] == "blur"  # type: ignore[index]


def test_features_take_a_released_generator_and_refuse_borders_of_programs(
    tmp_path: Path, capsys: Capture
) -> None:
    argv = ["--limit", "1", "--shifts", "0..1", "--device", "cpu", "--out", str(tmp_path / "f")]
    assert eval_features(["facades-strided", *argv]) == 0
    spec = "tests.eval.generators.test_loading:callable_network"
    assert eval_features([spec, "--data", "synthetic-facades", "--trust", *argv]) == 2
    one_error_line(capsys, "borders cannot be changed", "--borders own")


def test_training_starts_from_a_published_file(tmp_path: Path) -> None:
    file = published(tmp_path)
    network = UNetGenerator(ngf=2, num_downs=5, sampling="blur", norm="batch")
    initialise(network, file)
    stored = torch.load(file, weights_only=True)
    ours = network.state_dict()["encoder.0.conv.weight"]
    assert any(torch.equal(ours, tensor) for tensor in stored.values())


COMMANDS: dict[str, Callable[[str, Path, Path], int]] = {
    "eval_stability": lambda what, photo, out: eval_stability([what, "--device", "cpu", "--out", str(out)]),
    "generate": lambda what, photo, out: generate([what, str(photo), "--out", str(out), "--device", "cpu"]),
    "eval_features": lambda what, photo, out: eval_features([what, "--device", "cpu", "--out", str(out)]),
    "train_pix2pix": lambda what, photo, out: train_pix2pix.main(
        [*TINY, "--device=cpu", "--init", what, "--out", str(out)]
    ),
}


@pytest.mark.parametrize("command", ["eval_stability", "generate", "train_pix2pix"])
def test_an_unknown_name_is_refused_alike(command: str, photo: Path, tmp_path: Path, capsys: Capture) -> None:
    assert COMMANDS[command]("facades-blurr", photo, tmp_path / "out") == 2
    one_error_line(capsys, "facades-blurr: no such file; expected one, a run folder, or one of facades-blur")


@pytest.mark.parametrize("command", ["eval_stability", "generate", "eval_features"])
def test_what_runs_code_needs_trust_everywhere(
    command: str, photo: Path, tmp_path: Path, capsys: Capture
) -> None:
    spec = "tests.eval.generators.test_loading:callable_network"
    assert COMMANDS[command](spec, photo, tmp_path / "out") == 2
    one_error_line(capsys, "is a Python callable, which can run code; give --trust")


def test_a_file_of_that_name_goes_before_a_released_generator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "facades-blur"
    folder.mkdir()
    write_checkpoint(folder / "generator.safetensors", tiny_config())
    assert steadypix.load_generator("facades-blur").config["generator"]["ngf"] == 4  # type: ignore[index]
