"""A step as a CUDA graph: the same training as without, on a GPU; what guards it, anywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import nn

import train_pix2pix as trainer
from steadypix import PatchDiscriminator, UNetGenerator
from steadypix.configs.schema import TrainConfig
from steadypix.gen.training.captured import AHEAD, EAGER_STEPS, CapturedStep, Latch, make_adam
from steadypix.gen.training.failures import TrainingError
from steadypix.gen.training.schedules import set_learning_rate
from steadypix.gen.training.step import NonFiniteLossError, Pix2PixStep
from steadypix.gen.weights.tensors import read_tensors
from tests.conftest import tiny_config

pytestmark = pytest.mark.slow

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


def build(device: str, sampling: str = "blur", **options: Any) -> Pix2PixStep:
    torch.manual_seed(0)
    cuda = device == "cuda"
    networks: list[nn.Module] = [
        UNetGenerator(ngf=8, num_downs=6, sampling=sampling).to(device),  # 6 levels: one has dropout
        PatchDiscriminator(ndf=8, n_layers=2).to(device),
    ]
    adams = [
        make_adam(network, learning_rate=2e-3, betas=(0.5, 0.999), captured=cuda) for network in networks
    ]
    return Pix2PixStep(Accelerator(cpu=not cuda), *networks, *adams, **options)


def pairs(device: str, count: int) -> list[dict[str, Any]]:
    draw = torch.Generator().manual_seed(1)
    x, y = (torch.rand(2, count, 1, 3, 64, 64, generator=draw) * 2 - 1).to(device)
    return [{"input": a, "target": b} for a, b in zip(x, y, strict=True)]


def weights(step: Pix2PixStep) -> list[torch.Tensor]:
    networks = (step.generator, step.discriminator)
    return [p.detach().clone() for network in networks for p in network.parameters()]


def unchanged(step: Pix2PixStep, before: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights(step), before, strict=True))


# --- the latch -------------------------------------------------------------------------------------


def test_a_latch_that_stays_open_changes_nothing() -> None:
    plain, guarded = build("cpu"), build("cpu")
    latch = Latch(guarded, "cpu")
    for seed, pair in enumerate(pairs("cpu", 3)):
        assert plain([pair], [seed]) == guarded([pair], [seed])
    latch.check(latch.culprit.item())
    assert unchanged(guarded, weights(plain))


@pytest.mark.parametrize("which", ["discriminator", "generator"])
def test_a_latch_holds_the_weights_and_names_the_first_culprit(which: str) -> None:
    step = build("cpu")
    latch = Latch(step, "cpu")
    good, bad, later = pairs("cpu", 3)
    step([good], [0])
    before = weights(step)
    if which == "discriminator":
        step([{**bad, "target": bad["target"] * torch.nan}], [1])
    else:
        step.lambda_l1 = float("inf")
        step([bad], [1])
        step.lambda_l1 = 100.0
        # As without a latch, the discriminator was updated before the generator's loss was known.
        assert unchanged_part(step.generator, before)
        before = weights(step)
    step([later], [2])
    assert unchanged(step, before)
    with pytest.raises(NonFiniteLossError, match=f"the {which}'s loss is not finite"):
        latch.check(latch.culprit.item())


def unchanged_part(network: nn.Module, before: list[torch.Tensor]) -> bool:
    parameters = list(network.parameters())
    return all(torch.equal(a, b) for a, b in zip(parameters, before[: len(parameters)], strict=True))


def test_a_latch_refuses_what_would_not_look_at_it() -> None:
    step = build("cpu")
    step.adam_d = torch.optim.Adam(step.discriminator.parameters())
    with pytest.raises(ValueError, match="expected fused optimisers, see make_adam; got Adam"):
        Latch(step, "cpu")


def test_a_learning_rate_that_is_a_tensor_keeps_its_memory() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    rate = torch.tensor(1.0)
    held, plain = torch.optim.Adam([parameter], lr=rate), torch.optim.Adam([parameter], lr=1.0)
    held.param_groups[0]["lr"] = rate
    for optimizer in (held, plain):
        set_learning_rate(optimizer, 0.25)
    assert rate.item() == 0.25
    assert held.param_groups[0]["lr"] is rate
    assert plain.param_groups[0]["lr"] == 0.25


# --- the command -----------------------------------------------------------------------------------


def test_without_a_gpu_the_switch_has_no_effect(pair_folder: Path, tmp_path: Path) -> None:
    for name, capture in (("with", True), ("without", False)):
        settings = TrainConfig(epochs=1, save_every=1, sample_every=0, val_every=0, capture=capture)
        trainer.train(tiny_config(pair_folder, train=settings), tmp_path / name)
    a, b = (tmp_path / name / "generator.safetensors" for name in ("with", "without"))
    one, other = read_tensors(a)[0], read_tensors(b)[0]
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_loss_still_under_way_is_waited_for_before_anything_is_written(
    pair_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last step of an epoch is the culprit: no checkpoint, no line of metrics, no "done"."""
    settled: list[int] = []

    def settle(step: Pix2PixStep) -> None:
        settled.append(1)
        raise NonFiniteLossError("the generator's loss is not finite")

    monkeypatch.setattr(Pix2PixStep, "settle", settle)
    settings = TrainConfig(epochs=1, log_every_steps=100, save_every=1, sample_every=0, val_every=0)
    with pytest.raises(TrainingError, match=r"the generator's loss is not finite, after 6 samples"):
        trainer.train(tiny_config(pair_folder, train=settings), tmp_path / "run")
    assert settled == [1]
    assert not (tmp_path / "run" / "generator.safetensors").exists()
    assert not (tmp_path / "run" / "last" / "state.safetensors").exists()


# --- on a GPU --------------------------------------------------------------------------------------


@needs_gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_replays_are_the_eager_steps(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout included, and a learning rate that changes after the recording."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    eager, inner = build("cuda", precision=precision), build("cuda", precision=precision)
    captured = CapturedStep(inner)
    count = EAGER_STEPS + 5
    for seed, pair in enumerate(pairs("cuda", count)):
        for step in (eager, inner):
            for adam in (step.adam_g, step.adam_d):
                set_learning_rate(adam, 2e-3 if seed < count - 2 else 5e-4)
        expected, got = eager([pair], [seed]), captured([pair], [seed])
        for key, value in expected.items():
            torch.testing.assert_close(got[key], value, rtol=1e-3, atol=1e-4)
    probe = pairs("cuda", 1)[0]["input"]
    with torch.no_grad():
        one, other = (step.generator.eval()(probe) for step in (eager, inner))
    torch.testing.assert_close(one, other, rtol=0, atol=0.02)
    first = build("cuda", precision=precision)
    assert not unchanged(inner, weights(first))


@needs_gpu
@pytest.mark.parametrize("at_once", [False, True])
def test_a_replayed_loss_that_is_not_finite_changes_nothing(at_once: bool) -> None:
    inner = build("cuda")
    step = CapturedStep(inner)
    good = pairs("cuda", EAGER_STEPS + 3)
    for seed, pair in enumerate(good):
        step([pair], [seed])
    before = weights(inner)
    bad = {**good[0], "target": good[0]["target"] * torch.nan}
    step([bad], [0])
    if at_once:
        with pytest.raises(NonFiniteLossError, match="the discriminator's loss"):
            step.settle()
    else:
        for seed in range(AHEAD - 1):
            step([good[0]], [seed])
        with pytest.raises(NonFiniteLossError, match="the discriminator's loss"):
            step([good[0]], [9])
    torch.cuda.synchronize()
    assert unchanged(inner, before)


@needs_gpu
def test_a_captured_run_goes_on_where_it_stopped(pair_folder: Path, tmp_path: Path) -> None:
    """Three epochs at once, and two then one: the same losses to rounding."""
    settings = {"save_every": 1, "log_every_steps": 1, "sample_every": 0, "val_every": 0, "decay_epochs": 0}
    for name, lengths in (("whole", [3]), ("parts", [2, 3])):
        for epochs in lengths:
            config = tiny_config(
                pair_folder,
                train=TrainConfig(epochs=epochs, capture=True, **settings),  # type: ignore[arg-type]
                device="cuda",
                batch_size=1,
            )
            trainer.train(config, tmp_path / name)
    rows = {
        name: [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("whole", "parts")
    }
    assert len(rows["whole"]) == len(rows["parts"]) == 18
    for one, other in zip(rows["whole"], rows["parts"], strict=True):
        assert one["loss_l1"] == pytest.approx(other["loss_l1"], rel=0.02)


@needs_gpu
@pytest.mark.parametrize("sampling", ["strided", "preblur", "blur_late"])
def test_other_samplings_are_recorded_too(sampling: str) -> None:
    inner = build("cuda", sampling=sampling)
    step = CapturedStep(inner)
    pair = pairs("cuda", 1)[0]
    losses = [step([pair], [0])["loss_l1"].item() for _ in range(EAGER_STEPS + 12)]
    assert losses[-1] < losses[0]
