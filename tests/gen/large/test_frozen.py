"""Norms with frozen statistics: the same output of the same picture, and nothing that travels across it."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from steadypix import CheckpointError, InputError, ResnetGenerator, UNetGenerator
from steadypix.checkpoints.generate import main as generate
from steadypix.checkpoints.generation.freeze import main as statistics_command
from steadypix.gen.large.frozen import (
    freeze,
    gather,
    load_statistics,
    looking_norms,
    save_statistics,
)
from steadypix.gen.large.strips import Strips, run_in_strips
from steadypix.gen.large.workspace import Workspace
from tests.cli import Capture, one_error_line
from tests.published_nets import PublishedUnet

DOUBLE = torch.float64


def picture(size: int = 64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, 3, size, size, generator=generator, dtype=DOUBLE) * 2 - 1


def networks() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    made = {
        "U-Net": UNetGenerator(ngf=4, num_downs=3, sampling="blur"),
        "group": UNetGenerator(ngf=4, num_downs=3, sampling="strided", norm="group"),
        "ResNet": ResnetGenerator(ngf=4, n_blocks=1),
        "published": PublishedUnet(num_downs=5, ngf=4, norm="instance"),
    }
    return {name: network.to(DOUBLE).eval() for name, network in made.items()}


@pytest.mark.parametrize("name", networks())
def test_frozen_by_a_picture_its_output_stays(name: str) -> None:
    network = networks()[name]
    x = picture()
    with torch.no_grad():
        expected = network(x)
        found = freeze(network, gather(network, [x]))(x)
    assert not looking_norms(network)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)  # statistics are kept as float32


def test_statistics_of_several_pictures_are_their_mean() -> None:
    network = networks()["U-Net"]
    pictures = [picture(seed=seed) for seed in range(3)]
    together = gather(network, pictures)
    each = [gather(network, [x]) for x in pictures]
    for key, value in together.items():
        expected = torch.stack([statistics[key] for statistics in each]).mean(0)
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-7)


def test_frozen_nothing_travels_further_than_the_layers_reach() -> None:
    """What enters at the left changes the right only where norms look at all of the picture."""
    network = UNetGenerator(ngf=4, num_downs=2, sampling="strided").to(DOUBLE).eval()
    x = picture(128)
    changed = x.clone()
    changed[..., :16] = 1
    with torch.no_grad():
        looking = (network(x) - network(changed))[..., 64:].abs().max()
        freeze(network, gather(network, [x]))
        frozen = (network(x) - network(changed))[..., 64:].abs().max()
    assert looking > 1e-5
    assert frozen == 0


def test_frozen_networks_run_in_strips() -> None:
    network = networks()["U-Net"]
    freeze(network, gather(network, [picture(seed=1)]))
    x = picture(96)
    with torch.no_grad():
        expected = network(x)
    strips = list(run_in_strips(network, x, Workspace(strip_samples=4000, keep_samples=0)))
    assert len(strips) > 1
    torch.testing.assert_close(torch.cat(strips, dim=2), expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("frozen", [True, False])
def test_without_moments_the_output_is_the_same(frozen: bool) -> None:
    """Frozen norms ask for none; others read their map again."""
    network, x = networks()["U-Net"], picture(96)
    if frozen:
        freeze(network, gather(network, [x]))
    ways = (Workspace(strip_samples=4000, keep_samples=0, moments=moments) for moments in (True, False))
    expected, found = (torch.cat(list(run_in_strips(network, x, way)), dim=2) for way in ways)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", networks())
def test_statistics_of_a_picture_in_strips_are_its_own(name: str) -> None:
    network, x = networks()[name], picture()
    in_strips = Strips.of(x, Workspace(strip_samples=2000, keep_samples=0))
    expected = gather(network, [x])
    for key, value in gather(network, [in_strips]).items():
        torch.testing.assert_close(value, expected[key], rtol=1e-5, atol=1e-6)


def test_a_file_holds_them_and_knows_its_network(tmp_path: Path) -> None:
    network = networks()["group"]
    file = tmp_path / "s.safetensors"
    kept = gather(network, [picture()])
    save_statistics(file, kept, pictures=1)
    read = load_statistics(file, network)
    assert read.keys() == kept.keys()
    assert all(torch.equal(read[key], value) for key, value in kept.items())
    with pytest.raises(CheckpointError, match=r"s\.safetensors: .* of another architecture"):
        load_statistics(file, networks()["ResNet"])
    with pytest.raises(InputError, match="no norm of the generator looks at the picture"):
        load_statistics(file, UNetGenerator(ngf=4, num_downs=3, norm="batch").eval())
    kept[next(key for key in kept if key.endswith(".variance"))][0] = -1
    save_statistics(file, kept, pictures=1)
    with pytest.raises(CheckpointError, match="negative variance"):
        load_statistics(file, network)


def frames(folder: Path) -> Path:
    """A fixed camera; in the second frame something bright stands at the left."""
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 160, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "1.png")
    pixels[:, :12] = 255
    Image.fromarray(pixels).save(folder / "2.png")
    return folder


def test_statistics_are_not_written_over_anything_else(
    tmp_path: Path, checkpoints: list[Path], capsys: Capture
) -> None:
    picture = str(frames(tmp_path / "frames") / "1.png")
    weights, text = tmp_path / "generator.safetensors", tmp_path / "text.safetensors"
    weights.write_bytes(checkpoints[0].read_bytes())
    text.write_text("no weights")
    for file in (weights, text):
        before = file.read_bytes()
        assert statistics_command([str(checkpoints[0]), picture, "--out", str(file)]) == 2
        one_error_line(capsys, str(file))
        assert file.read_bytes() == before
    file = tmp_path / "s.safetensors"
    for _ in range(2):
        assert statistics_command([str(checkpoints[0]), picture, "--out", str(file)]) == 0
    assert not list(tmp_path.glob(".s.*"))


def test_generate_treats_frames_alike(tmp_path: Path, checkpoints: list[Path], capsys: Capture) -> None:
    folder = frames(tmp_path / "frames")
    file = str(tmp_path / "s.safetensors")
    assert statistics_command([str(checkpoints[0]), str(folder / "1.png"), "--out", file]) == 0
    apart = {}
    for way in ("picture", "first", file):
        out = tmp_path / Path(way).stem
        argv = [str(checkpoints[0]), str(folder), "--out", str(out), "--device", "cpu", "--statistics", way]
        assert generate(argv) == 0
        one, two = (np.asarray(Image.open(out / f"{n}.png")).astype(int)[:, -8:] for n in (1, 2))
        apart[way] = np.abs(one - two).max()
    assert apart["picture"] > 0
    assert apart["first"] == apart[file] == 0
    first, by_file = ((tmp_path / name / "2.png").read_bytes() for name in ("first", "s"))
    assert first == by_file


@pytest.mark.parametrize(
    ("way", "culprits"),
    [
        ("nowhere.safetensors", ["nowhere.safetensors", "no such"]),
        ("tile", ["--statistics tile", "--tile PX"]),
    ],
)
def test_generate_refuses_statistics(
    way: str, culprits: list[str], tmp_path: Path, checkpoints: list[Path], capsys: Capture
) -> None:
    argv = [str(checkpoints[0]), str(frames(tmp_path / "frames")), "--out", str(tmp_path / "o")]
    assert generate([*argv, "--statistics", way]) == 2
    one_error_line(capsys, *culprits)
    assert not (tmp_path / "o").exists()


def test_a_network_of_batch_norms_has_nothing_to_freeze(tmp_path: Path, capsys: Capture) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="nothing to freeze"):
            gather(UNetGenerator(ngf=4, num_downs=3, norm="batch").eval(), [picture().float()])
