"""Texture and head: both generators, every sampling, exported, and beside checkpoints from before them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from steadypix import CheckpointError, ResnetGenerator, UNetGenerator, load_weights
from steadypix import save_generator as save
from steadypix.configs.resume import contradiction
from steadypix.configs.schema import DataConfig, GeneratorConfig, LossConfig
from steadypix.gen.networks.detail import TEXTURES
from steadypix.gen.networks.levels import SAMPLINGS
from steadypix.gen.weights.generators import load_generator
from tests.gen.layers.test_anchors import boxes

pytestmark = pytest.mark.slow

SMALL: dict[str, dict[str, Any]] = {"unet": {"ngf": 2, "num_downs": 3}, "resnet": {"ngf": 2, "n_blocks": 1}}
KINDS: dict[str, type[nn.Module]] = {"unet": UNetGenerator, "resnet": ResnetGenerator}
BOTH: dict[str, Any] = {"texture": "anchored", "texture_channels": 3, "head": 4}


def build(kind: str, seed: int = 0, **arguments: Any) -> nn.Module:
    torch.manual_seed(seed)
    return KINDS[kind](**{**SMALL[kind], **arguments}).eval()


def input_of(channels: int = 3, size: tuple[int, int] = (40, 48)) -> Tensor:
    return boxes(size, seed=1, channels=channels, border=6)


# --- what is added -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize(
    "more", [{"texture": "anchored"}, {"head": 5}, BOTH], ids=["texture", "head", "both"]
)
def test_every_generator_takes_them(kind: str, sampling: str, more: dict[str, Any]) -> None:
    network = build(kind, sampling=sampling, **more).train()
    y = network(input_of())
    assert y.shape == (1, 3, 40, 48)
    y.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=10)
@given(
    channels=st.sampled_from([1, 2, 3, 7, 64]),
    size=st.tuples(st.integers(16, 50), st.integers(16, 50)),
    padding=st.sampled_from(["zeros", "reflect", "replicate"]),
    norm=st.sampled_from(["instance", "batch", "none"]),
)
def test_any_channels_and_size(
    kind: str, channels: int, size: tuple[int, int], padding: str, norm: str
) -> None:
    network = build(kind, in_channels=channels, out_channels=2, padding=padding, norm=norm, **BOTH)
    y = network(boxes(size, seed=0, channels=channels))
    assert y.shape == (1, 2, *size)
    assert y.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_without_them_a_generator_is_what_it_was(kind: str) -> None:
    plain = build(kind)
    assert not any(name.startswith("detail") for name in plain.state_dict())
    named = build(kind, texture="none", texture_channels=9, head=0)
    assert torch.equal(named(input_of()), plain(input_of()))


def test_the_head_sees_the_input_the_carriers_and_the_last_level() -> None:
    network = build("unet", **BOTH)
    assert network.detail.head.first.in_channels == 4 + 3 + 3
    assert network.encoder[0].conv.in_channels == 3 + 3
    assert network.decoder[-1].conv.out_channels == 4


@pytest.mark.parametrize("sampling", ["strided", "blur_late"])
def test_a_circular_network_commutes_with_shifts_by_whole_levels(sampling: str) -> None:
    network = build("unet", padding="circular", sampling=sampling, **BOTH).double()
    x = boxes((32, 40), seed=2).double()
    moved = network(torch.roll(x, (8, 16), (-2, -1)))
    torch.testing.assert_close(moved, torch.roll(network(x), (8, 16), (-2, -1)), rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"texture": "anchred"}, "texture 'anchred' is unknown; expected one of none, anchored"),
        ({"texture": "anchored", "texture_channels": 0}, "texture_channels 0"),
        ({"texture": "anchored", "texture_octaves": 9}, "texture_octaves 9"),
        ({"head": -1}, "head must be 0 to 256, not -1"),
        ({"head": 1000}, "head must be 0 to 256"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_bad_arguments_are_named(kind: str, arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        build(kind, **arguments)
    with pytest.raises(ValueError, match=r"generator\.(texture|head)"):
        GeneratorConfig(**{**arguments, "texture_channels": 0})


def test_a_head_is_a_whole_number() -> None:
    with pytest.raises(TypeError, match="head must be a whole number, not True"):
        build("unet", head=True)
    assert TEXTURES == ("none", "anchored")


# --- other forms --------------------------------------------------------------------------------------


def test_exported_and_traced_it_computes_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = build("unet", sampling="blur_late", **BOTH)
    x = input_of(size=(24, 26))
    assert network.detail.texture(x).any()
    with torch.no_grad():
        expected = network(x)
        program = torch.export.export(network, (x,))
        compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(program.module()(x), expected, rtol=0, atol=1e-6)
        torch.testing.assert_close(compiled(x), expected, rtol=0, atol=1e-6)
    pytest.importorskip("onnxscript", reason="onnxscript is not installed (the extra steadypix[onnx])")
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "1")  # read on import: it would write files otherwise
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (the same extra)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(program, (x,), tmp_path / "net.onnx", dynamo=True, verbose=False)
    net = runtime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    (found,) = net.run(None, {net.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=0, atol=1e-5)


# --- checkpoints --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_they_come_back_from_a_checkpoint(kind: str, tmp_path: Path) -> None:
    network = build(kind, **BOTH)
    save(
        tmp_path / "g.safetensors",
        network,
        config={"generator": {"architecture": kind, **SMALL[kind], **BOTH}},
    )
    assert torch.equal(load_generator(tmp_path / "g.safetensors")(input_of()), network(input_of()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_from_before_them_has_none(kind: str, tmp_path: Path) -> None:
    network = build(kind, seed=3)
    save(tmp_path / "old.safetensors", network, config={"generator": {"architecture": kind, **SMALL[kind]}})
    found = load_generator(tmp_path / "old.safetensors")
    # From before `late_levels`, too, but `blur` has none of them.
    assert torch.equal(found(input_of()), network(input_of()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "more", [{"texture": "anchored"}, {"head": 5}, BOTH], ids=["texture", "head", "both"]
)
def test_what_fits_is_kept_and_what_is_new_is_said(kind: str, more: dict[str, Any], tmp_path: Path) -> None:
    plain, network = build(kind, seed=3), build(kind, seed=4, **more)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    save(tmp_path / "plain.safetensors", plain, config={"generator": {"architecture": kind, **SMALL[kind]}})
    said = load_weights(network, tmp_path / "plain.safetensors")
    first, last = network.grown_parts
    after, theirs = network.state_dict(), plain.state_dict()
    new = {phrase.partition(":")[0] for phrase in said}
    assert (first in new) == ("texture" in more)
    assert (f"{last}conv.weight" in new or f"{last}weight" in new) == ("head" in more)
    for key, tensor in after.items():
        if key == first:
            assert torch.equal(tensor[:, :3], theirs[key])
            assert torch.equal(tensor[:, 3:], before[key][:, 3:])
        elif key in new:
            assert torch.equal(tensor, before[key])
        else:
            assert torch.equal(tensor, theirs[key])


def test_another_architecture_is_still_refused(tmp_path: Path) -> None:
    save(tmp_path / "wide.safetensors", build("unet", ngf=3), config={"generator": {"ngf": 3}})
    with pytest.raises(CheckpointError, match="of another architecture"):
        load_weights(build("unet", **BOTH), tmp_path / "wide.safetensors")
    save(tmp_path / "more.safetensors", build("unet", **BOTH), config={"generator": BOTH})
    with pytest.raises(CheckpointError, match="of another architecture"):
        load_weights(build("unet"), tmp_path / "more.safetensors")


def test_a_run_from_before_them_is_gone_on_with() -> None:
    import dataclasses

    parts = {"generator": GeneratorConfig, "data": DataConfig, "loss": LossConfig}
    ours = {name: dataclasses.asdict(kind()) for name, kind in parts.items()}
    new = {"texture", "texture_channels", "texture_octaves", "head", "lighting", "jitter_px", "r1"}
    theirs = {
        name: {key: value for key, value in part.items() if key not in new} for name, part in ours.items()
    }
    assert contradiction(ours, theirs, sharing=True) is None
    ours["generator"]["texture"] = "anchored"
    assert (
        contradiction(ours, theirs, sharing=True)
        == "generator.texture: the run has none, this command anchored"
    )
