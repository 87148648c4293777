"""Folders and repositories as users of Hugging Face know them: written, read back, without a network."""

from __future__ import annotations

import builtins
import json
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

import steadypix
from steadypix import CheckpointError, InputError, ResnetGenerator, UNetGenerator
from steadypix.eval.eval_stability import main as eval_stability
from tests.conftest import tiny_config, write_checkpoint

RESNET = {"ngf": 4, "n_blocks": 1}


def resnet() -> ResnetGenerator:
    torch.manual_seed(1)
    return ResnetGenerator(**RESNET).eval()


def same(one: nn.Module, other: nn.Module) -> bool:
    x = torch.rand(1, 3, 16, 20, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        return torch.equal(one(x), other(x))


def card_of(folder: Path) -> tuple[dict, str]:
    _, front, text = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(front), text


def test_a_folder_comes_back_as_it_was(tmp_path: Path) -> None:
    network = resnet()
    steadypix.save_pretrained(network, tmp_path / "own", config={"generator": RESNET})
    assert {file.name for file in (tmp_path / "own").iterdir()} == {
        "model.safetensors",
        "config.json",
        "README.md",
    }
    again = steadypix.from_pretrained(tmp_path / "own")
    assert type(again) is ResnetGenerator
    assert not again.training
    assert same(network, again)
    assert same(network, steadypix.load_generator(tmp_path / "own"))  # every command takes the folder, too
    described = json.loads((tmp_path / "own" / "config.json").read_text())
    assert described["library_name"] == "steadypix"
    assert described["generator"] == {"architecture": "resnet", **RESNET}
    # What was loaded knows its arguments, and is kept as it is; so is a model card that was edited.
    (tmp_path / "own" / "README.md").write_text("mine")
    steadypix.save_pretrained(again, tmp_path / "own")
    assert (tmp_path / "own" / "README.md").read_text() == "mine"
    assert same(network, steadypix.from_pretrained(tmp_path / "own"))


def test_where_the_pictures_lie_is_not_told(tmp_path: Path, pair_folder: Path) -> None:
    ours = write_checkpoint(tmp_path / "net.safetensors", tiny_config(pair_folder))
    steadypix.save_pretrained(steadypix.load_generator(ours), tmp_path / "own")
    for file in (tmp_path / "own").iterdir():
        assert str(tmp_path).encode() not in file.read_bytes()
    config = steadypix.from_pretrained(tmp_path / "own").config
    assert config["data"]["root"] == "pairs"  # type: ignore[index]


@pytest.mark.slow
def test_the_model_card_holds_what_was_measured(
    tmp_path: Path, pair_folder: Path, checkpoints: list[Path]
) -> None:
    argv = ["--shifts", "0..1", "--margins", "4", "--device", "cpu", "--limit", "1"]
    assert eval_stability([*map(str, checkpoints), *argv, "--out", str(tmp_path / "o")]) == 0
    results = tmp_path / "o" / "results.json"
    generator = steadypix.load_generator(checkpoints[1])
    steadypix.save_pretrained(generator, tmp_path / "own", results=results, model="blur")
    measured = json.loads(results.read_text())["models"][1]
    metadata, text = card_of(tmp_path / "own")
    assert (metadata["library_name"], metadata["pipeline_tag"]) == ("steadypix", "image-to-image")
    (entry,) = metadata["model-index"][0]["results"]
    values = {metric["type"]: metric["value"] for metric in entry["metrics"]}
    stability = measured["stability"]["crop"]["4"]["odd_mean_db"]["mean"]
    assert values == {
        "stability_db": pytest.approx(stability, abs=1e-4),
        "tv": pytest.approx(measured["quality"]["tv"]["mean"], abs=1e-4),
        "tv_ratio": pytest.approx(measured["quality"]["tv_ratio"], abs=1e-4),
    }
    assert entry["dataset"]["name"] == "pairs"
    assert f"{stability:.4g}" in text
    for name in (None, "tanh"):
        with pytest.raises(InputError, match=r"results\.json: holds .*expected model= one of strided, blur"):
            steadypix.save_pretrained(generator, tmp_path / "other", results=results, model=name)
    assert not (tmp_path / "other").exists()


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    for network, config, words in (
        (nn.Conv2d(3, 3, 1), None, "Conv2d: expected a UNetGenerator"),
        (resnet(), None, "arguments are not known"),
        (resnet(), {"generator": {"architecture": "unet"}}, "says unet, but the network is a Resnet"),
    ):
        with pytest.raises(InputError, match=words):
            steadypix.save_pretrained(network, tmp_path / "own", config=config)
    assert not (tmp_path / "own").exists()


# ---- repositories ---------------------------------------------------------------------------------------


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with HF_HUB_OFFLINE=1, which huggingface_hub reads when it is first imported."""
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed (steadypix[hub])")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.mark.usefixtures("offline")
def test_a_repository_that_was_downloaded_before(tmp_path: Path) -> None:
    network, commit = resnet(), "0" * 40
    place = tmp_path / "models--someone--facades"
    steadypix.save_pretrained(network, place / "snapshots" / commit, config={"generator": RESNET})
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    assert same(network, steadypix.from_pretrained("someone/facades", cache_dir=tmp_path))
    for name, options in (("someone/else", {}), ("someone/facades", {"revision": "v2"})):
        with pytest.raises(CheckpointError, match=rf"{name}: cannot be loaded from the hub \("):
            steadypix.from_pretrained(name, cache_dir=tmp_path, **options)
    with pytest.raises(CheckpointError, match="nowhere: is no folder, and no repository"):
        steadypix.from_pretrained("nowhere")


def test_a_repository_gets_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for the hub's client: what is asked of it."""
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed (steadypix[hub])")
    asked: list[tuple] = []

    class HfApi:
        def __init__(self, token: str | None) -> None:
            asked.append(("token", token))

        def create_repo(self, repository: str, *, private: bool, exist_ok: bool) -> None:
            asked.append(("create", repository, private, exist_ok))

        def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> str:
            if repo_id == "someone/full":
                raise OSError("no room")
            asked.append(("upload", repo_id, sorted(file.name for file in folder_path.iterdir())))
            asked.append(("loads", same(resnet(), steadypix.from_pretrained(folder_path))))
            return "address"

    monkeypatch.setattr(hub, "HfApi", HfApi)
    options = {"config": {"generator": RESNET}, "token": "t", "private": True}
    assert steadypix.push_to_hub(resnet(), "someone/facades", **options) == "address"
    files = ["README.md", "config.json", "model.safetensors"]
    assert asked[:3] == [
        ("token", "t"),
        ("create", "someone/facades", True, True),
        ("upload", "someone/facades", files),
    ]
    assert asked[3] == ("loads", True)
    with pytest.raises(InputError, match=r"someone/full: cannot be written \(no room\)"):
        steadypix.push_to_hub(resnet(), "someone/full", **options)
    with pytest.raises(InputError, match="facades: expected owner/repository"):
        steadypix.push_to_hub(resnet(), "facades", **options)


def test_without_the_package_folders_work_and_repositories_name_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_import = builtins.__import__

    def no_hub(name: str, *args: object, **kwargs: object) -> object:
        if name.partition(".")[0] == "huggingface_hub":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_hub)
    network = UNetGenerator(ngf=2, num_downs=2).eval()
    steadypix.save_pretrained(network, tmp_path / "o", config={"generator": {"ngf": 2, "num_downs": 2}})
    assert same(network, steadypix.from_pretrained(tmp_path / "o"))
    for call in (
        lambda: steadypix.from_pretrained("someone/facades"),
        lambda: steadypix.push_to_hub(network, "a/b"),
    ):
        with pytest.raises(InputError, match=r"steadypix\[hub\]"):
            call()
