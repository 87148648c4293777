"""Weights of pytorch-CycleGAN-and-pix2pix: read from names and shapes alone, and nothing in them runs."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from steadypix import CheckpointError, UNetGenerator, load_weights, save_generator
from steadypix.gen.weights.generators import load_generator
from steadypix.gen.weights.published import load_published
from tests.cut_net import cut_resnet, cut_weights
from tests.published_nets import PublishedResnet, PublishedUnet, liven


def save(network: nn.Module, path: Path, prefix: str = "") -> Path:
    torch.save({prefix + key: value for key, value in network.state_dict().items()}, path)
    return path


def picture(channels: int = 3, size: tuple[int, int] = (32, 32)) -> Tensor:
    return torch.rand(2, channels, *size, generator=torch.Generator().manual_seed(3)) * 2 - 1


def assert_equal(published: nn.Module, path: Path, x: Tensor) -> nn.Module:
    loaded = load_published(path)
    with torch.no_grad():  # in doubles, where the order of sums is too small to see
        expected = published.double().eval()(x.double())
        assert expected.std() > 0.1
        torch.testing.assert_close(loaded.double()(x.double()), expected, rtol=0, atol=1e-10)
    return loaded


@pytest.mark.parametrize(
    ("num_downs", "norm", "prefix"),
    [
        (5, "instance", ""),
        (6, "instance", "module."),
        (7, "none", ""),
        (8, "batch", ""),
        (7, "batch", "module."),
    ],
)
def test_unets(tmp_path: Path, num_downs: int, norm: str, prefix: str) -> None:
    published = liven(PublishedUnet(num_downs=num_downs, norm=norm, ngf=3))
    path = save(published, tmp_path / "latest_net_G.pth", prefix)
    # At 2 ** num_downs px the inner instance norms would see one sample; twice that has four.
    side = 2 ** (num_downs + (norm == "instance"))
    loaded = assert_equal(published, path, picture(size=(side, side)))
    generator = loaded.config["generator"]
    assert (generator["num_downs"], generator["ngf"], generator["norm"]) == (num_downs, 3, norm)
    assert generator["sampling"] == "strided"


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
@pytest.mark.parametrize("n_blocks", [1, 9])
def test_resnets(tmp_path: Path, n_blocks: int, norm: str, dropout: bool, prefix: str) -> None:
    published = liven(PublishedResnet(n_blocks=n_blocks, norm=norm, dropout=dropout))
    loaded = assert_equal(published, save(published, tmp_path / "w.pth", prefix), picture())
    generator = loaded.config["generator"]
    assert (generator["n_blocks"], generator["norm"], generator["dropout"]) == (n_blocks, norm, dropout)


@pytest.mark.parametrize("network", [PublishedUnet, PublishedResnet])
def test_channels_and_old_containers(tmp_path: Path, network: type[nn.Module]) -> None:
    published = liven(network(1, 4))
    torch.save(published.state_dict(), tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    assert_equal(published, tmp_path / "w.pth", picture(1))


@pytest.mark.parametrize("network", [PublishedUnet, PublishedResnet])
def test_statistics_that_old_instance_norms_kept_are_left_out(
    tmp_path: Path, network: type[nn.Module]
) -> None:
    published = liven(network(norm="instance"))
    state = published.state_dict()
    for name, module in published.named_modules():
        if isinstance(module, nn.InstanceNorm2d):
            state[f"{name}.running_mean"] = torch.ones(module.num_features)
            state[f"{name}.running_var"] = torch.ones(module.num_features)
            state[f"{name}.num_batches_tracked"] = torch.tensor(0)
    torch.save(state, tmp_path / "w.pth")
    assert_equal(published, tmp_path / "w.pth", picture(size=(64, 64)))


def test_published_weights_start_an_anti_aliased_network(tmp_path: Path) -> None:
    loaded = load_published(save(liven(PublishedUnet()), tmp_path / "w.pth"))
    save_generator(tmp_path / "w.safetensors", loaded, config=loaded.config)
    retrofit = UNetGenerator(ngf=2, num_downs=5, norm="batch", sampling="blur").eval()
    load_weights(retrofit, tmp_path / "w.safetensors")
    assert torch.isfinite(retrofit(picture())).all()


@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
@pytest.mark.parametrize(("down", "up"), [(True, True), (True, False), (False, True)])
def test_the_anti_aliased_resnet_of_cut(
    tmp_path: Path, down: bool, up: bool, norm: str, dropout: bool
) -> None:
    weights = cut_weights(norm=norm, dropout=dropout, down=down, up=up)
    torch.save(weights, tmp_path / "w.pth")
    loaded = load_published(tmp_path / "w.pth")
    x = picture(size=(24, 20)).double()
    expected = cut_resnet({key: value.double() for key, value in weights.items()}, x, dropout=dropout)
    assert expected.std() > 0.1
    with torch.no_grad():
        torch.testing.assert_close(loaded.double()(x), expected, rtol=0, atol=1e-12)
    generator = loaded.config["generator"]
    assert generator["architecture"] == "cut"
    assert (generator["sampling"], generator["upsampling"]) == tuple(
        "blur" if blurred else "strided" for blurred in (down, up)
    )
    assert (generator["norm"], generator["dropout"], generator["n_blocks"]) == (norm, dropout, 2)


def test_cut_as_a_file_of_ours(tmp_path: Path) -> None:
    torch.save(cut_weights(n_blocks=1), tmp_path / "w.pth")
    loaded = load_published(tmp_path / "w.pth")
    save_generator(tmp_path / "w.safetensors", loaded, config=loaded.config)
    with torch.no_grad():
        assert torch.equal(load_generator(tmp_path / "w.safetensors")(picture()), loaded(picture()))


@pytest.mark.parametrize("taps", [[1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 4.0, 6.0, 4.0, 1.0]])
def test_other_blurs_than_published_are_refused(tmp_path: Path, taps: list[float]) -> None:
    weights = cut_weights(n_blocks=1)
    line = torch.tensor(taps) / sum(taps)
    weights["model.7.filt"] = torch.outer(line, line)[None, None].repeat(6, 1, 1, 1)
    refused(tmp_path / "w.pth", weights, r"model\.7\.filt is no blur")
    refused(tmp_path / "w.pth", {**cut_weights(), "model.8.filt": torch.zeros(())}, r"model\.8\.filt is no")
    refused(
        tmp_path / "w.pth", {**cut_weights(), "model.30.filt": cut_weights()["model.7.filt"]}, "known here"
    )
    unet = {**PublishedUnet().state_dict(), "model.model.2.filt": cut_weights()["model.7.filt"]}
    refused(tmp_path / "w.pth", unet, "known here")


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_wrapped_and_compiled_networks(tmp_path: Path, prefix: str, wrapper: str | None) -> None:
    published = liven(PublishedUnet())
    state: object = {prefix + key: value for key, value in published.state_dict().items()}
    if wrapper:
        state = {"epoch": 3, "lr": [1e-4], wrapper: state, "optimizer": {"step": torch.tensor(5)}}
    torch.save(state, tmp_path / "w.pth")
    assert_equal(published, tmp_path / "w.pth", picture())


def test_a_compiled_part_of_a_network(tmp_path: Path) -> None:
    published = liven(PublishedResnet(n_blocks=1))
    state = {
        key.replace(".conv_block.", "._orig_mod.conv_block."): v for key, v in published.state_dict().items()
    }
    torch.save(state, tmp_path / "w.pth")
    assert_equal(published, tmp_path / "w.pth", picture())


def test_names_that_differ_by_a_prefix_alone_are_refused(tmp_path: Path) -> None:
    state = PublishedUnet().state_dict()
    key = next(iter(state))
    refused(tmp_path / "w.pth", {**state, f"module.{key}": state[key]}, "two tensors of one name")


class Bomb:
    """A pickle that leaves a file behind if it is ever run."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("container", ["zip", "legacy", "bare pickle"])
def test_code_is_refused_and_never_run(tmp_path: Path, container: str) -> None:
    path, trace = tmp_path / "bomb.pth", tmp_path / "trace"
    payload = {"model.model.0.weight": Bomb(trace)}
    if container == "bare pickle":
        path.write_bytes(pickle.dumps(payload))
    else:
        torch.save(payload, path, _use_new_zipfile_serialization=container == "zip")
    with pytest.raises(CheckpointError, match=r"bomb\.pth: is a pickle"):
        load_published(path)
    assert not trace.exists()


def test_whole_modules_are_refused(tmp_path: Path) -> None:
    torch.save(PublishedUnet(), tmp_path / "whole.pth")
    with pytest.raises(CheckpointError, match=r"more than tensors, which can run code: refused"):
        load_published(tmp_path / "whole.pth")


def refused(path: Path, state: object, match: str) -> None:
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=match) as caught:
        load_published(path)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("network", [PublishedUnet, PublishedResnet])
def test_other_weights_are_refused(tmp_path: Path, network: type[nn.Module]) -> None:
    path = tmp_path / "w.pth"
    state = network(norm="batch").state_dict()
    first, last = next(iter(state)), list(state)[-1]
    refused(path, {**state, "extra.weight": torch.zeros(1)}, r"holds extra\.weight, unknown")
    refused(path, {key: state[key] for key in state if key != last}, "another architecture|known here")
    refused(path, {**state, last: torch.full_like(state[last], torch.nan)}, "not finite")
    refused(path, {**state, first: state[first][..., :2]}, "expected .*; it is of another architecture")
    refused(path, {**state, first: torch.zeros(())}, "known here")
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    bare = {key: value for key, value in state.items() if not key.endswith(statistics)}
    refused(path, bare, "scales but no statistics")
    discriminator = nn.Sequential(nn.Conv2d(6, 4, 4), nn.LeakyReLU(), nn.Conv2d(4, 1, 4))
    refused(path, nn.ModuleDict({"model": discriminator}).state_dict(), "known here")
    for foreign in ([], {}, {"epoch": 3}, {"state_dict": {}}, {"state_dict": {"epoch": 3}}, torch.zeros(2)):
        refused(path, foreign, "of no named tensors")


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    whole = save(PublishedUnet(), tmp_path / "w.pth").read_bytes()
    for cut in (0, 3, 100, len(whole) // 2, len(whole) - 10):
        (tmp_path / "cut.pth").write_bytes(whole[:cut])
        with pytest.raises(CheckpointError, match=r"cut\.pth"):
            load_published(tmp_path / "cut.pth")
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_published(tmp_path / "nowhere.pth")
