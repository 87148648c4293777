"""A network run in strips of rows against the same network run at once."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from steadypix import ResnetGenerator, UNetGenerator
from steadypix.gen.large.maps import NotInStrips
from steadypix.gen.large.strips import Strips, run_in_strips
from steadypix.gen.large.workspace import Moments, Workspace
from steadypix.gen.layers.resample import PADDINGS
from steadypix.gen.networks.levels import SAMPLINGS
from tests.published_nets import PublishedResnet, PublishedUnet

DOUBLE = torch.float64


def picture(height: int, width: int, channels: int = 3, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, channels, height, width, generator=generator, dtype=DOUBLE) * 2 - 1


def lively(network: nn.Module) -> nn.Module:
    """In doubles, with weights that make more of an input than the initial ones."""
    torch.manual_seed(1)
    network.to(DOUBLE).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer.uniform_(-0.1, 0.1)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 2)
    return network


def in_strips(network: nn.Module, x: Tensor, strip: int = 2000, keep: int = 1000) -> Tensor:
    workspace = Workspace(strip_samples=strip, keep_samples=keep)
    return torch.cat(list(run_in_strips(network, x, workspace)), dim=2)


def assert_same(network: nn.Module, x: Tensor, **strips: int) -> None:
    with torch.no_grad():
        expected = network(x)
    found = in_strips(network, x, **strips)
    assert found.shape == expected.shape
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize(("sampling", "padding"), list(itertools.product(SAMPLINGS, PADDINGS)))
def test_a_unet_in_strips_is_the_unet(sampling: str, padding: str) -> None:
    network = UNetGenerator(ngf=4, num_downs=4, sampling=sampling, padding=padding, norm="instance")
    assert_same(lively(network), picture(96, 80))


@pytest.mark.parametrize("norm", ["batch", "renorm", "group", "none"])
@pytest.mark.parametrize("make", [UNetGenerator, ResnetGenerator])
def test_whatever_the_norm(norm: str, make: Callable[..., nn.Module]) -> None:
    network = make(
        ngf=4,
        norm=norm,
        sampling="blur_late",
        **({"num_downs": 4} if make is UNetGenerator else {"n_blocks": 2}),
    )
    assert_same(lively(network), picture(64, 48))


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_a_resnet_in_strips_is_the_resnet(sampling: str) -> None:
    assert_same(lively(ResnetGenerator(ngf=4, n_blocks=2, sampling=sampling)), picture(50, 37))


def test_the_published_networks_run_as_they_are() -> None:
    assert_same(lively(PublishedUnet(num_downs=5, ngf=4)), picture(64, 96))
    assert_same(lively(PublishedResnet(ngf=4, n_blocks=2)), picture(64, 48))


def test_texture_and_head_are_those_of_the_whole_picture() -> None:
    network = UNetGenerator(ngf=4, num_downs=4, sampling="blur_late", texture="anchored", head=4)
    labels = picture(40, 10).sign().repeat_interleave(16, 2).repeat_interleave(16, 3)
    assert_same(lively(network), labels, strip=60_000)


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 40),
    strip=st.integers(1, 4000),
    keep=st.sampled_from([0, 10_000_000]),
)
def test_any_size_and_any_strip(height: int, width: int, strip: int, keep: int) -> None:
    network = lively(UNetGenerator(ngf=2, num_downs=3, sampling="blur", norm="batch"))
    assert_same(network, picture(height, width), strip=strip, keep=keep)


LAYERS: dict[str, Callable[[Tensor], Tensor]] = {
    "dilated": lambda x: F.conv2d(x, torch.ones(2, 3, 3, 3, dtype=DOUBLE), padding=(4, 2), dilation=(4, 2)),
    "grouped": lambda x: F.conv2d(x, torch.ones(3, 1, 5, 5, dtype=DOUBLE), stride=(3, 2), groups=3),
    "transposed, stride 3": lambda x: F.conv_transpose2d(
        x, torch.ones(3, 2, 5, 5, dtype=DOUBLE), stride=3, padding=2, output_padding=1
    ),
    "transposed, gaps": lambda x: F.conv_transpose2d(x, torch.ones(3, 2, 2, 2, dtype=DOUBLE), stride=4),
    "max pool": lambda x: F.max_pool2d(x, 3, 2),
    "average pool": lambda x: F.avg_pool2d(x, 2),
    "a module's average pool": nn.AvgPool2d(3, 2),
    "cut": lambda x: torch.tanh(x[..., 3:-2, 1:])[:, 1:],
    "a constant around": lambda x: F.pad(x, (1, 2, 7, 3), value=0.5),
    "repeated": lambda x: F.pad(x, (1, 2, 9, 3), mode="replicate"),
    "mirrored": lambda x: F.pad(x, (1, 2, 30, 30), mode="reflect"),
    "wrapped": lambda x: F.pad(x, (1, 2, 30, 30), mode="circular"),
    "a sum": lambda x: x + 0.5 * F.relu(x),
    "a difference": lambda x: -(x - 0.25 * x) - 0.5,
    "a gate of one channel": lambda x: F.instance_norm(x[:, :1] * x),
    "a gate behind": lambda x: x * torch.sigmoid(x[:, :1]),
    "one channel made several": lambda x: x[:, :1] * torch.arange(1.0, 6.0, dtype=DOUBLE)[:, None, None],
    "a scale by channel": lambda x: x * torch.arange(3.0, dtype=DOUBLE)[:, None, None],
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str) -> None:
    class Layer(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return LAYERS[name](x)

    assert_same(Layer(), picture(31, 12), strip=200)


class Counted(nn.Module):
    """Counts the rows a conv is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1, dtype=DOUBLE)
        self.blur = nn.Conv2d(3, 3, 5, padding=2, dtype=DOUBLE)

    def forward(self, x: Tensor) -> Tensor:
        return self.blur(F.relu(self.conv(x)))


def test_no_row_is_made_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader of five rows a row finds four of them still there."""
    made = []
    plain = F.conv2d

    def counting(x: Tensor, weight: Tensor, *args: object) -> Tensor:
        y = plain(x, weight, *args)
        if isinstance(y, Tensor):
            made.append(y.shape[2])
        return y

    monkeypatch.setattr("steadypix.gen.large.functions.F.conv2d", counting)
    in_strips(Counted(), picture(64, 8), strip=3 * 8 * 4, keep=0)
    assert sum(made) == 2 * 64


def test_moments_are_those_of_the_whole() -> None:
    x = picture(50, 7, 4) * 1000 + 1e6
    moments = Moments(4, x.device)
    for part in x.split([1, 20, 29], dim=2):
        moments.add(part)
    mean, variance = moments.result()
    expected = torch.var_mean(x, (0, 2, 3), correction=0)
    torch.testing.assert_close((variance, mean), expected, rtol=1e-12, atol=0)


class Unknown(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.rfft2(x).abs()


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - F.adaptive_avg_pool2d(x, 1)


class Power(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x**2


class Position(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.ones(x.shape[-2:], dtype=DOUBLE)


class MoreChannels(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, 0, 1, 1))


class Sum(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 2, divisor_override=1)


@pytest.mark.parametrize(
    ("network", "name"),
    [
        (Unknown(), "fft_rfft2"),
        (Mean(), "adaptive_avg_pool2d"),
        (Power(), "unsupported operand"),
        (Position(), "rows of its own"),
        (MoreChannels(), "padding of channels"),
        (nn.MaxPool2d(2, dilation=2), "a pool with .*dilation"),
        (Sum(), "a divisor of its own"),
    ],
)
def test_what_is_not_known_is_refused_by_name(network: nn.Module, name: str) -> None:
    with pytest.raises(NotInStrips, match=name):
        in_strips(network, picture(8, 8))


def test_a_full_disk_says_where(tmp_path: Path) -> None:
    script = """
import resource, sys, torch
from steadypix.gen.large.strips import Strips
from steadypix.gen.large.workspace import Workspace
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
workspace = Workspace(sys.argv[1], strip_samples=1000, keep_samples=0)
torch.relu(Strips.of(torch.zeros(1, 3, 200, 50), workspace)).store()
"""
    argv = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.stderr.strip().endswith(f"File too large: '{tmp_path}'")
    assert not list(tmp_path.iterdir())


def test_a_batch_is_refused() -> None:
    with pytest.raises(NotInStrips, match="batch of 2"):
        Strips.of(torch.zeros(2, 3, 4, 4), Workspace())
