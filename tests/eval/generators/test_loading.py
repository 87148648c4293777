"""One loader: what one command reads, the others read too, and refusals are said alike."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import steadypix
import train_pix2pix
from steadypix import UNetGenerator, save_generator
from steadypix.checkpoints.generate import main as generate
from steadypix.errors import InputError
from steadypix.eval.eval_features import main as eval_features
from steadypix.eval.eval_stability import main as eval_stability
from steadypix.eval.generators.loading import initialise
from steadypix.eval.generators.models import find_checkpoints
from steadypix.files import write_whole
from tests.cli import TINY, Capture, one_error_line
from tests.conftest import tiny_config, write_checkpoint
from tests.eval.generators.test_models import export, export_onnx
from tests.published_nets import PublishedUnet, liven

pytestmark = pytest.mark.slow

CPU = ["--device", "cpu"]
CALLABLE = f"{__name__}:callable_network"
FORMATS = ("file", "run", "name", "pix2pix", "program", "onnx", "callable")
WINDOW_PX = 32


def callable_network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1), nn.Tanh())


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (WINDOW_PX, WINDOW_PX, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def published(folder: Path) -> Path:
    torch.manual_seed(0)
    torch.save(liven(PublishedUnet(ngf=2)).state_dict(), folder / "latest_net_G.pth")
    return folder / "latest_net_G.pth"


def make(form: str, folder: Path) -> str:
    """A tiny generator of a format, as a user would name it."""
    if form == "name":
        return "facades-strided"
    if form == "callable":
        return CALLABLE
    if form in ("file", "run"):
        path = write_checkpoint(folder / "run" / "generator.safetensors", tiny_config())
        return str(path if form == "file" else path.parent)
    if form == "pix2pix":
        return str(published(folder))
    network = liven(PublishedUnet(ngf=2))
    if form == "program":
        return str(export(network, folder / "net.pt2", WINDOW_PX))
    return str(export_onnx(network, folder / "net.onnx", WINDOW_PX))


# ---- every command, every format ------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_generate_and_the_api(form: str, photo: Path, tmp_path: Path) -> None:
    """The command's picture is what the API's network makes."""
    what, out = make(form, tmp_path), tmp_path / "out"
    assert generate([what, str(photo), "--out", str(out), "--trust", *CPU]) == 0
    network = steadypix.load_generator(what, trust=True)
    assert not network.training
    assert isinstance(network.config["generator"], dict)  # type: ignore[index]
    with Image.open(photo) as image:
        x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.inference_mode():
        expected = (network(x)[0].permute(1, 2, 0) + 1) * 127.5
    with Image.open(out / "photo.png") as image:
        assert np.abs(np.array(image) - expected.numpy()).max() <= 0.51


@pytest.mark.parametrize("form", ["name", "pix2pix", "callable"])
def test_features(form: str, tmp_path: Path, pair_folder: Path) -> None:
    argv = ["--limit", "1", "--shifts", "0..1", "--trust", *CPU, "--data", str(pair_folder)]
    if form == "pix2pix":
        argv += ["--borders", "own"]
    assert eval_features([make(form, tmp_path), *argv, "--out", str(tmp_path / "f")]) == 0
    found = (tmp_path / "f" / "features.json").read_text()
    assert '"encoder.0"' in found if form != "callable" else '"0"' in found


@pytest.mark.parametrize("form", ["file", "run", "name", "pix2pix"])
def test_training_starts_from_weights(form: str, tmp_path: Path) -> None:
    what = make(form, tmp_path)
    source = steadypix.load_generator(what)
    shape = {k: v for k, v in source.config["generator"].items() if k != "architecture"}  # type: ignore[index]
    network = UNetGenerator(**{**shape, "sampling": "blur_late"})
    assert initialise(network, what) == []
    ours, theirs = network.state_dict(), source.state_dict()
    assert all(torch.equal(ours[key], theirs[key].to(ours[key])) for key in theirs)


def test_a_generator_that_says_nothing_of_its_data_loads(tmp_path: Path) -> None:
    """Data are needed to measure it, not to run it."""
    network = UNetGenerator(ngf=2, num_downs=2)
    save_generator(tmp_path / "own.safetensors", network, config={"generator": {"ngf": 2, "num_downs": 2}})
    x = torch.rand(1, 3, 8, 8)
    again = steadypix.load_generator(tmp_path / "own.safetensors")
    torch.testing.assert_close(again(x), network.eval()(x), rtol=0, atol=0)


def test_released_generators_have_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"facades-blur", "facades-strided"} <= set(steadypix.list_generators())
    assert steadypix.load_generator("facades-blur").config["generator"]["sampling"] == "blur"  # type: ignore[index]
    # A file or folder of that name goes first.
    monkeypatch.chdir(tmp_path)
    write_checkpoint(tmp_path / "facades-blur" / "generator.safetensors", tiny_config())
    assert steadypix.load_generator("facades-blur").config["generator"]["ngf"] == 4  # type: ignore[index]


def test_a_generator_that_is_being_written_is_not_found(tmp_path: Path) -> None:
    """Nor one that a killed process left half-written."""
    whole = write_checkpoint(tmp_path / "whole.safetensors", tiny_config())
    found: list[list[Path]] = []

    def write(temporary: Path) -> None:
        temporary.write_bytes(whole.read_bytes())
        found.append(find_checkpoints(tmp_path))

    write_whole(tmp_path / "next.safetensors", write)
    assert found == [[whole]]


# ---- refusals -------------------------------------------------------------------------------------------

COMMANDS: dict[str, Callable[[str, Path, Path], int]] = {
    "eval_stability": lambda what, photo, out: eval_stability([what, *CPU, "--out", str(out)]),
    "generate": lambda what, photo, out: generate([what, str(photo), "--out", str(out), *CPU]),
    "eval_features": lambda what, photo, out: eval_features([what, *CPU, "--out", str(out)]),
    "train_pix2pix": lambda what, photo, out: train_pix2pix.main(
        [*TINY, "--device=cpu", "--data.synthetic_count=2", "--init", what, "--out", str(out)]
    ),
}
NAMES = ", ".join(steadypix.list_generators())


def script(folder: Path) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(callable_network(), torch.rand(1, 3, 8, 8)).save(str(folder / "script.pt"))
    return str(folder / "script.pt")


def pickled(folder: Path) -> str:
    torch.save(PublishedUnet(ngf=2), folder / "whole.pth")
    return str(folder / "whole.pth")


def cut(folder: Path) -> str:
    whole = write_checkpoint(folder / "cut.safetensors", tiny_config())
    whole.write_bytes(whole.read_bytes()[:2000])
    return str(whole)


REFUSED: dict[str, tuple[Callable[[Path], str], str, set[str]]] = {
    # eval_features takes classifiers too, so a name that is neither is refused in other words there.
    "unknown name": (
        lambda folder: "facades-blurr",
        f"facades-blurr: no such file; expected one, a run folder, or one of {NAMES}",
        {"eval_features"},
    ),
    "missing file": (
        lambda folder: str(folder / "missing.safetensors"),
        "missing.safetensors: no such checkpoint",
        {"eval_features"},
    ),
    "TorchScript": (script, "script.pt: is a TorchScript archive; expected its weights", set()),
    "pickled network": (pickled, "whole.pth: ", set()),
    "cut short": (cut, "cut.safetensors: is damaged", set()),
    "callable": (
        lambda folder: CALLABLE,
        "is a Python callable, which can run code; give --trust",
        {"train_pix2pix"},
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_every_command_refuses_in_the_same_words(
    name: str, photo: Path, tmp_path: Path, capsys: Capture
) -> None:
    spoilt, words, not_in = REFUSED[name]
    what = spoilt(tmp_path)
    said = set()
    for command in sorted(COMMANDS.keys() - not_in):
        assert COMMANDS[command](what, photo, tmp_path / "out") == 2
        said.add(one_error_line(capsys, words).partition(": error: ")[2])
    with pytest.raises(InputError) as caught:
        steadypix.load_generator(what)
    assert said == {str(caught.value)}


@pytest.mark.parametrize("form", ["program", "onnx", "callable"])
def test_training_starts_from_no_program(form: str, photo: Path, tmp_path: Path, capsys: Capture) -> None:
    assert COMMANDS["train_pix2pix"](make(form, tmp_path), photo, tmp_path / "out") == 2
    one_error_line(capsys, "; expected a steadypix generator or weights of pytorch-CycleGAN-and-pix2pix")


def test_features_of_an_unknown_name_offer_classifiers_and_generators(
    photo: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert COMMANDS["eval_features"]("facades-blurr", photo, tmp_path / "out") == 2
    one_error_line(capsys, "facades-blurr: no such file", "such as resnet18", f"or one of {NAMES}")


def test_features_need_layers_that_can_be_seen(tmp_path: Path, pair_folder: Path, capsys: Capture) -> None:
    argv = ["--data", str(pair_folder), "--trust", "--limit", "1", "--shifts", "0..1", *CPU]
    assert eval_features([make("onnx", tmp_path), *argv, "--out", str(tmp_path / "f")]) == 2
    one_error_line(capsys, "net.onnx: is an ONNX model, whose layers cannot be seen; expected its weights")


def test_outputs_made_elsewhere_run_on_nothing_new(photo: Path, tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "outputs"
    folder.mkdir()
    (folder / "1.png").write_bytes(photo.read_bytes())
    assert COMMANDS["generate"](str(folder), photo, tmp_path / "out") == 2
    one_error_line(capsys, "outputs: is a folder of outputs made elsewhere; expected a generator")


def test_a_program_of_one_size_names_the_picture_and_takes_tiles(
    tmp_path: Path, pair_folder: Path, capsys: Capture
) -> None:
    argv = [make("onnx", tmp_path), str(pair_folder / "test" / "1.png"), "--out", str(tmp_path / "o"), *CPU]
    assert generate(argv) == 2
    one_error_line(capsys, "net.onnx on ", "1.png: takes 32 x 32 px only, but gets 48 x 96 px", "--tile 32")
    for more in ([], ["--statistics", "tile"]):  # cropped; blended
        assert generate([*argv, "--tile", "32", *more]) == 0
        with Image.open(tmp_path / "o" / "1.png") as image:
            assert image.size == (96, 48)
