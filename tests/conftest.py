"""Fixtures shared by the tests: small pairs on disk, tiny checkpoints, real data where there is any."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from steadypix import UNetGenerator, save_generator
from steadypix.configs.schema import DataConfig, DiscriminatorConfig, GeneratorConfig, RunConfig, TrainConfig

REPOSITORY = Path(__file__).resolve().parent.parent
# Two test processes share two cores; more threads each only get in each other's way.
torch.set_num_threads(1)


# By fixture: the marker of every test that uses it, directly or through another fixture.
MARKER_OF = {"real_data": "real_data", "page": "browser", "context": "browser", "browser": "browser"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need real pictures or a browser, so that `make test-fast` leaves them out."""
    for item in items:
        for fixture in getattr(item, "fixturenames", ()):
            if fixture in MARKER_OF:
                item.add_marker(MARKER_OF[fixture])


@pytest.fixture
def real_data() -> Path:
    """The folder with real facades, maps and so on; STEADYPIX_DATA names another place."""
    root = Path(os.environ.get("STEADYPIX_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (root / "facades").is_dir():
        pytest.skip("no real data here (set STEADYPIX_DATA to a folder that holds facades/ and maps/)")
    return root


@pytest.fixture
def pair_folder(tmp_path: Path) -> Path:
    """Six training and three test pairs, side by side, 48 x 48 px each half."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 3)):
        folder = tmp_path / "pairs" / split
        folder.mkdir(parents=True)
        for number in range(1, count + 1):
            pixels = rng.integers(0, 256, (48, 96, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "pairs"


def tiny_config(root: Path | None = None, **changes: object) -> RunConfig:
    """A run that trains in a second: 32 px, 3 levels."""
    sampling = changes.pop("sampling", "blur")
    arguments: dict[str, object] = {
        "data": DataConfig(
            root=None if root is None else str(root), load_size=40, crop_size=32, synthetic_count=6
        ),
        "generator": GeneratorConfig(ngf=4, num_downs=3, sampling=sampling),
        "discriminator": DiscriminatorConfig(ndf=4, n_layers=1),
        "train": TrainConfig(epochs=2, log_every_steps=1, save_every=1, sample_every=0, val_every=0),
        "batch_size": 2,
        "device": "cpu",
    }
    return RunConfig(**{**arguments, **changes})  # type: ignore[arg-type]


def write_checkpoint(path: Path, config: RunConfig, seed: int = 0) -> Path:
    """Write an untrained generator of `config` to `path`."""
    import dataclasses

    torch.manual_seed(seed)
    generator = UNetGenerator(**dataclasses.asdict(config.generator))
    save_generator(path, generator, config=dataclasses.asdict(config))
    return path


@pytest.fixture
def checkpoints(tmp_path: Path, pair_folder: Path) -> list[Path]:
    """A strided and a blur generator, untrained, that belong to `pair_folder`."""
    return [
        write_checkpoint(tmp_path / f"{sampling}.safetensors", tiny_config(pair_folder, sampling=sampling))
        for sampling in ("strided", "blur")
    ]
