"""steadypix as users install it, run from a folder that has packages `data`, `eval`, `gen` ... of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS = ("steadypix", "gen", "data", "eval", "configs", "checkpoints")
SCRIPTS = sorted(PROJECT["project"]["scripts"])
TRAINING = ["--config=demo", "--device=cpu", "--data.load_size=40", "--data.crop_size=32", "--batch_size=2"]
TRAINING += ["--data.synthetic_count=4", "--generator.ngf=4", "--generator.num_downs=3", "--train.epochs=1"]
TRAINING += ["--discriminator.ndf=4", "--discriminator.n_layers=1", "--train.val_every=0"]
EVALUATION = ["--shifts=0..2", "--margins=0", "--limit=2", "--device=cpu", "--data=synthetic", "--window=32"]
PAIRS = ["--train=1", "--test=1", "--size=32"]
VERSION = PROJECT["project"]["version"]
# A measurement from Python needs torch and NumPy; each of these is imported only by what uses it.
MEASURING = """
import sys
import torch
from steadypix import shift_stability
pictures = torch.rand(1, 3, 40, 40) * 2 - 1
result = shift_stability(torch.nn.Tanh(), pictures, window_px=32, shifts=range(3), margins_px=[0])
assert result.mean_db(0) == 150
heavy = {"accelerate", "imagecodecs", "jsonargparse", "kornia", "lpips", "matplotlib", "pooch", "requests"}
heavy |= {"PIL", "scipy", "skimage", "tifffile", "torchmetrics", "torchvision"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
# Every public name; a layer, a generator and a measurement at work. Arguments: a run, the version.
API = """
import sys
import steadypix
assert "torch" not in sys.modules
from steadypix import *
from steadypix import eqt, pan_flicker
import torch
x = torch.randn(1, 3, 48, 48)
assert BlurPool2d(3)(x).shape == (1, 3, 24, 24)
generator = UNetGenerator(ngf=4, num_downs=3)
assert type(load_generator(sys.argv[1])).__name__ == "UNetGenerator"
shifts = parse_shifts("0..2")
scores = shift_stability(generator, x, window_px=32, shifts=shifts, margins_px=[0])
assert isinstance(scores, Stability)
assert "facades-blur" in list_generators()
from steadypix.eval.metrics.decibels import psnr_db
from steadypix.gen.networks.unet import UNetGenerator as same
assert same is UNetGenerator
assert steadypix.__version__ == sys.argv[2]
"""


def run(folder: Path, *words: str | Path) -> str:
    """Run a program in `folder` without our own search path; return what it printed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        words,
        cwd=folder,
        env={**environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def copy_sources(to: Path) -> None:
    """What git holds of the package, without what was built or trained in the checkout."""
    for folder in FOLDERS:
        shutil.copytree(REPOSITORY / folder, to / folder, ignore=_built_or_trained)
    for name in ("pyproject.toml", "train_pix2pix.py", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, to)


def _built_or_trained(folder: str, names: Iterable[str]) -> set[str]:
    ignored = {name for name in names if name == "__pycache__" or name.endswith(".so")}
    if Path(folder) == REPOSITORY / "checkpoints":
        runs = (name for name in names if (Path(folder) / name).is_dir() and name != "released")
        ignored |= {name for name in runs if not (Path(folder) / name / "__init__.py").exists()}
    return ignored


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution: both must be whole."""
    sources = tmp_path_factory.mktemp("sources")
    copy_sources(sources)
    run(sources, sys.executable, "-m", "build", "--no-isolation", sources)
    (built,) = (sources / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts of an environment of its own with the wheel; dependencies are found where ours has them.

    Python does not run the `.pth` files of that place: the checkout is out of the environment's sight.
    """
    folder = tmp_path_factory.mktemp("environment")
    run(folder, sys.executable, "-m", "venv", "--without-pip", "venv")
    scripts = folder / "venv" / "bin"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(scripts / "python"))
    run(folder, *pip, "install", "--quiet", "--no-deps", "--no-index", wheel)
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    where = run(folder, scripts / "python", "-c", "import steadypix; print(steadypix.__file__)")
    assert Path(where.strip()).is_relative_to(site)
    return scripts


@pytest.fixture
def editable() -> Path:
    """The scripts of the environment that the tests run in, where `make` installed the checkout."""
    scripts = Path(sysconfig.get_path("scripts"))
    if not (scripts / "steadypix").exists():
        pytest.skip("steadypix is not installed in this environment (make install)")
    return scripts


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A project with packages named like our folders; importing one of them fails, but for `models`."""
    for name in ("data", "eval", "gen", "configs", "checkpoints", "models"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(
            f"raise RuntimeError('the foreign {name} was imported')\n"
        )
    (tmp_path / "models" / "__init__.py").write_text(
        "from torch import nn\n\n\ndef network():\n    return nn.Conv2d(3, 3, 3, padding=1)\n"
    )
    return tmp_path


def test_the_wheel_holds_one_package_and_the_trainer(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    tops = {name.partition("/")[0] for name in packed}
    assert tops == {"steadypix", "train_pix2pix.py", f"steadypix-{VERSION}.dist-info"}

    copy_sources(tmp_path)
    files = [file.relative_to(tmp_path) for folder in FOLDERS for file in (tmp_path / folder).rglob("*.*")]
    needed = [str(file) for file in files if file.suffix not in (".c", ".h")]
    assert {name if name.startswith("steadypix/") else f"steadypix/{name}" for name in needed} <= packed
    assert "steadypix/checkpoints/released/SHA256SUMS" in packed
    if shutil.which("cc"):
        assert any(name.startswith("steadypix/gen/kernels/_blur_kernel") for name in packed)


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_says_how_it_is_used(script: str, installed: Path, foreign: Path) -> None:
    before = sorted(foreign.rglob("*"))
    assert "usage:" in run(foreign, installed / script, "--help")
    assert VERSION in run(foreign, installed / script, "--version")
    assert sorted(foreign.rglob("*")) == before


def test_measuring_from_python_imports_torch_and_numpy_alone(installed: Path, foreign: Path) -> None:
    run(foreign, installed / "python", "-c", MEASURING)


def test_work_in_a_foreign_folder(installed: Path, foreign: Path) -> None:
    """Train, measure beside a network of the folder's own, translate, write the report, use the API."""
    run(foreign, installed / "steadypix", "train", *TRAINING, "--out", "run")
    run(foreign, installed / "eval_stability", "run", "models:network", "--trust", *EVALUATION)
    run(foreign, installed / "steadypix_data", "synthetic", "facades", "--out", "pairs", *PAIRS)
    pictures = sorted((foreign / "pairs" / "test").rglob("*.png"))
    run(foreign, installed / "generate", "run", *pictures, "--out", "translated")
    assert [file.name for file in (foreign / "translated").iterdir()] == [file.name for file in pictures]
    report = foreign / "results" / "report.html"
    report.unlink()
    run(foreign, installed / "python", "-m", "steadypix.eval.report", "results")
    assert "models:network" in report.read_text(encoding="utf-8")
    run(foreign, installed / "python", "-c", API, "run", VERSION)


def test_a_checkout_that_is_installed_works_in_a_foreign_folder(editable: Path, foreign: Path) -> None:
    run(foreign, editable / "python", "-c", API, "facades-blur", VERSION)
