"""The retrofit proves what it did, takes back what it cannot prove, and can be taken back itself."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steadypix.gen.layers.resample import BlurPool2d
from steadypix.gen.networks.patchgan import PatchDiscriminator
from steadypix.gen.networks.resnet import ResnetGenerator
from steadypix.gen.networks.unet import UNetGenerator
from steadypix.gen.retrofit.antialias import antialias


def picture(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


class WeightOnly(nn.Module):
    """Calls a conv's weights by a function, as fused kernels do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.conv.weight, self.conv.bias, self.conv.stride, 1).relu()


class Stubborn(nn.Conv2d):
    """A conv whose own forward does not look at its stride."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, 2, 1)


class Moody(nn.Module):
    """Calls its second conv only while the first one is strided."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.second = nn.Conv2d(4, 4, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.second(x) if self.first.stride == (2, 2) else F.avg_pool2d(x, 2)


class Fragile(nn.Module):
    """Raises when its conv is not strided any more."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if self.conv.stride != (2, 2):
            raise RuntimeError("I want my stride")
        return self.conv(x)


def state_of(model: nn.Module) -> list[Any]:
    """All that a retrofit could leave behind: modules, plain attributes, and how many hooks there are."""
    return [
        (
            name,
            type(module),
            {key: value for key, value in vars(module).items() if isinstance(value, int | tuple | str)},
            len(module._forward_hooks),
            len(module._forward_pre_hooks),
        )
        for name, module in model.named_modules()
    ]


@pytest.mark.parametrize(
    ("layer", "culprit"),
    [
        (Stubborn(3, 4, 3, stride=2, padding=1), r"^1: its output of \(32, 32\) would become \(16, 16\)"),
        (Moody(), r"^1\.second: its blur did not run"),
        (Fragile(), r"^the rewritten network raises, in 1: RuntimeError: I want my stride"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_proven_is_taken_back_and_named(layer: nn.Module, culprit: str) -> None:
    model = nn.Sequential(nn.Identity(), layer)
    x = picture(1, 3, 16, 16)
    before, output = state_of(model), model(x)
    with pytest.raises(ValueError, match=culprit):
        antialias(model)
    assert state_of(model) == before
    assert torch.equal(model(x), output)


def test_a_conv_whose_weights_a_function_uses_is_blurred_there() -> None:
    model = WeightOnly()
    x = picture(1, 3, 9, 12)
    dense = F.conv2d(x, model.conv.weight, model.conv.bias, padding=1)
    shape = model(x).shape
    retrofit = antialias(model)
    assert retrofit.proven
    assert [(item.module, item.kind) for item in retrofit.changes] == [("", "conv2d")]
    assert [(item.module, item.reason[:17]) for item in retrofit.left] == [("conv", "it was not called")]
    torch.testing.assert_close(model(x), BlurPool2d(4)(dense).relu())
    assert model(x).shape == shape


def test_an_example_is_run_and_said() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 2, 3, stride=2, padding=1)

        def forward(self, x: Tensor, y: Tensor, *, gain: float = 1) -> dict[str, Tensor]:
            return {"map": self.conv(torch.cat([x, y], 1)).relu() * gain}

    x = picture(1, 2, 20, 24)
    unproven = antialias(Two())
    assert not unproven.proven
    assert "give an example" in str(unproven)
    assert [change.module for change in unproven.changes] == ["conv"]
    assert unproven.before is None
    for example in ((x, x), {"x": x, "y": x, "gain": 2.0}):
        proven = antialias(Two(), example=example)
        assert proven.proven
        assert proven.probe == (1, 2, 20, 24)
        assert "1 x 2 x 20 x 24" in str(proven)
    with pytest.raises(ValueError, match="example: the network raises on it, in"):
        antialias(Two(), example=x)


def test_running_it_leaves_no_trace() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout()).train()
    model[1].eval()
    state, example = copy.deepcopy(model.state_dict()), picture(1, 3, 8, 8)
    kept, generator = example.clone(), torch.get_rng_state()
    antialias(model, example=example)
    assert [module.training for module in model] == [True, False, True, True]
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.equal(example, kept)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_the_cost_is_counted() -> None:
    """By hand: a 3x3 conv of 3 to 4 channels at 32 and then 64 px, and 25 taps for each blurred sample."""
    retrofit = antialias(nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU()))
    assert retrofit.before is not None
    assert retrofit.after is not None
    assert retrofit.before.macs == 9 * 3 * 4 * 32**2
    assert retrofit.after.macs == 9 * 3 * 4 * 64**2 + 25 * 4 * 32**2
    assert retrofit.before.map_bytes == 2 * 4 * 4 * 32**2
    assert retrofit.after.map_bytes > 2 * 4 * 4 * 64**2
    assert "MACs 111 k -> 545 k" in str(retrofit)


def test_a_network_that_samples_nothing_says_so() -> None:
    assert str(antialias(nn.Sequential(nn.Conv2d(3, 3, 3)))).startswith(
        "no layer changes the resolution; 0 changed"
    )


# ---- undo -------------------------------------------------------------------------------------------


class Everything(nn.Module):
    """One of each kind of change."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.pool = nn.MaxPool2d(2)
        self.mean = nn.AvgPool2d(2)
        self.up = nn.ConvTranspose2d(4, 4, 4, stride=2, padding=1)
        self.larger = nn.Upsample(scale_factor=2, mode="bilinear")

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(self.mean(self.pool(self.norm(self.down(x)).relu())))
        return F.interpolate(self.larger(x), scale_factor=2)


@pytest.mark.parametrize(
    "build",
    [
        Everything,
        lambda: UNetGenerator(ngf=2, num_downs=3, sampling="strided"),
        lambda: ResnetGenerator(ngf=2, n_blocks=1, sampling="strided"),
        lambda: PatchDiscriminator(3, ndf=2, n_layers=2),
    ],
    ids=["everything", "unet", "resnet", "patchgan"],
)
def test_undo_brings_back_the_network_to_the_bit(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    model = build().eval()
    x = picture(1, 3, 64, 64)
    before, output, keys = state_of(model), model(x), list(model.state_dict())
    retrofit = antialias(model)
    assert retrofit.model is model
    assert retrofit.proven
    assert list(model.state_dict()) == keys
    assert not torch.allclose(model(x), output)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.0)  # training goes on between; the weights are the network's
    retrofit.undo()
    assert state_of(model) == before
    assert torch.equal(model(x), output)
    retrofit.undo()
    assert torch.equal(model(x), output)
    antialias(model)
    assert not torch.allclose(model(x), output)


def test_retrofits_are_undone_in_reverse_order() -> None:
    class Twice(nn.Module):
        """The second conv carries the first one's blur, and then its own."""

        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 2, 3, stride=2, padding=1)
            self.second = nn.Conv2d(2, 2, 3, stride=2, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x).relu()).relu()

    model = Twice()
    x = picture(1, 3, 16, 16)
    output = model(x)
    first = antialias(model, skip=("second",))
    between = model(x)
    second = antialias(model, sampling="preblur")
    with pytest.raises(RuntimeError, match="undo the latest retrofit first"):
        first.undo()
    second.undo()
    assert torch.equal(model(x), between)
    first.undo()
    assert torch.equal(model(x), output)
