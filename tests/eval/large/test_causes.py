"""Sampling, statistics and border told apart: against a slow loop, and on networks with one cause alone."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steadypix import UNetGenerator
from steadypix.errors import InputError
from steadypix.eval.generators.programs import Program
from steadypix.eval.large.causes import PARTS, CauseScores
from steadypix.eval.large.freezing import frozen, require_layers
from steadypix.eval.metrics.decibels import Array, psnr_db
from steadypix.eval.metrics.measure import Conditions, measure_alone
from steadypix.eval.shifts.offsets import offsets_along

WINDOW, CANVAS = 32, 40


def pictures(count: int = 2) -> Tensor:
    return torch.rand(count, 3, CANVAS, CANVAS, generator=torch.Generator().manual_seed(0)) * 2 - 1


def causes(network: nn.Module, margins: Sequence[int] = (0, 4, 8)) -> CauseScores:
    def make(canvas_px: int) -> CauseScores:
        offsets = offsets_along([0, 1, 2, 3], "x")
        return CauseScores.make(
            {}, Conditions(canvas_px=canvas_px, window_px=WINDOW, offsets=offsets, margins_px=margins)
        )

    return measure_alone(make, network, pictures(), window_px=WINDOW, batch_size=4)


def parts(network: nn.Module) -> dict[str, Array]:
    return causes(network).parts()


class ByHand(nn.Module):
    """Two convolutions with a norm between, whose statistics can be given."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1)
        self.norm = nn.InstanceNorm2d(4, affine=True)
        nn.init.normal_(self.norm.weight)
        nn.init.normal_(self.norm.bias)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.second(F.relu(self.norm(self.first(x)))))

    def given(self, x: Tensor, of: Tensor) -> Tensor:
        """The same with the statistics of another picture, written out."""
        y, other = self.first(x), self.first(of)
        mean = other.mean((2, 3), keepdim=True)
        deviation = ((other - mean) ** 2).mean((2, 3), keepdim=True).add(1e-5).sqrt()
        y = (y - mean) / deviation * self.norm.weight[:, None, None] + self.norm.bias[:, None, None]
        return torch.tanh(self.second(F.relu(y)))


@torch.no_grad()
def test_equals_a_slow_loop() -> None:
    network = ByHand().eval()
    found = parts(network)
    for image, canvas in enumerate(pictures().split(1)):
        full, interior, sampling = [], [], []
        base = canvas[..., 4:36, 4:36]
        for shift in (1, 3):  # the odd ones lead
            moved = canvas[..., 4:36, 4 - shift : 36 - shift]
            plain = (network(base)[..., :-shift] - network(moved)[..., shift:]).double().square()
            still = network.given(base, base)[..., :-shift] - network.given(moved, base)[..., shift:]
            full.append(psnr_db(plain.mean().item()))
            interior.append(psnr_db(plain[..., 8:-8, 8:-8].mean().item()))
            sampling.append(psnr_db(still.double().square()[..., 8:-8, 8:-8].mean().item()))
        assert found["full_frame"][image] == pytest.approx(np.mean(full), abs=1e-4)
        assert found["interior"][image] == pytest.approx(np.mean(interior), abs=1e-4)
        # Without strides only rounding is left: about the floor of float32.
        assert found["sampling"][image] == pytest.approx(np.mean(sampling), abs=12)
        assert min(found["sampling"][image], np.mean(sampling)) > 120


def test_the_parts_add_up_to_the_full_frame() -> None:
    torch.manual_seed(0)
    network = UNetGenerator(ngf=4, num_downs=3, sampling="strided")
    scores = causes(network)
    found = scores.parts()
    total = found["sampling"] - found["statistics"] - found["border"]
    np.testing.assert_allclose(total, found["full_frame"], atol=1e-9)
    summary = scores.summary(seed=0)["causes"]
    assert set(summary) == {"over", *(f"{part}_db" for part in PARTS)}
    assert summary["over"] == "odd shifts"
    means = {part: summary[f"{part}_db"]["mean"] for part in PARTS}
    assert means["full_frame"] == pytest.approx(means["sampling"] - means["statistics"] - means["border"])


def test_sampling_alone() -> None:
    found = parts(nn.Sequential(nn.AvgPool2d(2), nn.Upsample(scale_factor=2)))
    assert (found["sampling"] < 30).all()
    assert (found["statistics"] == 0).all()
    assert (np.abs(found["border"]) < 1).all()


def test_statistics_alone() -> None:
    found = parts(nn.Sequential(nn.Conv2d(3, 3, 1), nn.InstanceNorm2d(3), nn.Tanh()))
    assert (found["sampling"] > 120).all()
    assert (found["statistics"] > 60).all()
    assert (np.abs(found["border"]) < 3).all()


def test_border_alone() -> None:
    torch.manual_seed(0)
    found = parts(nn.Sequential(nn.Conv2d(3, 3, 5, padding=2), nn.Tanh()))
    assert (found["sampling"] > 120).all()
    assert (found["statistics"] == 0).all()
    assert (found["border"] > 60).all()


def test_the_generator_stays_as_it_is() -> None:
    torch.manual_seed(0)
    network = UNetGenerator(ngf=4, num_downs=3, norm="instance")
    before = copy.deepcopy(network)
    causes(network)
    assert str(network) == str(before)
    for key, tensor in before.state_dict().items():
        assert torch.equal(network.state_dict()[key], tensor)
    still, output = frozen(network.eval(), pictures(1))
    with torch.no_grad():
        torch.testing.assert_close(output, network(pictures(1)), rtol=0, atol=1e-5)
    # A large network is not held twice.
    assert all(a is b for a, b in zip(network.parameters(), still.parameters(), strict=True))


def test_a_network_without_norms_that_look_is_its_own() -> None:
    network = UNetGenerator(ngf=4, num_downs=3, norm="batch").eval()
    assert frozen(network, pictures(1))[0] is network


class ByFunction(nn.Module):
    """Normalises without a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.instance_norm(self.conv(x))


def test_norms_that_cannot_be_frozen_are_refused() -> None:
    with pytest.raises(InputError, match="calls instance_norm, which is no layer"):
        parts(ByFunction())
    program = Program(torch.tanh)
    with pytest.raises(InputError, match=r"^net\.onnx: --causes cannot freeze its norms"):
        require_layers("--causes", {"net.onnx": program})
    with pytest.raises(InputError, match="no exported input"):
        require_layers("--causes", {})
    # A Python callable's module is there to be looked into.
    wrapped = Program(module := nn.Sequential(nn.Conv2d(3, 3, 1), nn.InstanceNorm2d(3), nn.Tanh()))
    wrapped.module = module
    require_layers("--causes", {"nets:make": wrapped})
    assert (parts(wrapped)["statistics"] > 60).all()


def test_a_margin_is_needed() -> None:
    with pytest.raises(InputError, match="--causes: has no margin"):
        causes(nn.Identity(), margins=(0,))
    with pytest.raises(InputError, match="--causes: has no margin"):
        causes(nn.Identity(), margins=(0, 16))
