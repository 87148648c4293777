"""Dense convolutions with fewer multiplications: torch's values and gradients, and used where they pay."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from steadypix import PatchDiscriminator, UNetGenerator
from steadypix.gen.kernels import products, winograd

pytestmark = pytest.mark.slow


def leaves(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


@settings(deadline=None, max_examples=40)
@given(batch=st.integers(1, 3), height=st.integers(1, 11), width=st.integers(1, 11), kernel=st.integers(1, 4))
def test_values_and_gradients_are_torchs(batch: int, height: int, width: int, kernel: int) -> None:
    x, weight, bias = leaves(
        (batch, 3, height + kernel - 1, width + kernel - 1), (5, 3, kernel, kernel), (5,)
    )
    ours, theirs = winograd.conv2d(x, weight, bias), F.conv2d(x, weight, bias)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    seed = torch.randn_like(ours)
    for a, b in zip(
        torch.autograd.grad(ours, (x, weight, bias), seed),
        torch.autograd.grad(theirs, (x, weight, bias), seed),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_rounding_in_float32_stays_within_what_the_module_says() -> None:
    x, weight = leaves((1, 256, 35, 35), (128, 256, 4, 4), dtype=torch.float32)
    exact = F.conv2d(x.double(), weight.double())
    error = (winograd.conv2d(x, weight) - exact).norm() / exact.norm()
    assert 3e-7 < error < 6e-6  # and is not by accident the plain convolution


def test_the_first_matrix_and_the_last_belong_together() -> None:
    """A polynomial of degree 3 by one of degree 3, at 7 points: the product's coefficients by brute force."""
    to_values, weight_to_values, to_outputs = winograd._transforms(4, torch.float64)
    torch.manual_seed(0)
    tile, kernel = torch.randn(7, 7, dtype=torch.float64), torch.randn(4, 4, dtype=torch.float64)
    product = (to_values @ tile.flatten()) * (weight_to_values @ kernel.flatten())
    windows = tile.unfold(0, 4, 1).unfold(1, 4, 1)
    torch.testing.assert_close((to_outputs @ product).view(4, 4), (windows * kernel).sum((2, 3)))


@pytest.mark.parametrize(
    ("shape", "weight", "expected"),
    [
        ((1, 256, 34, 34), (512, 256, 4, 4), True),  # the discriminator's dense layer at 256 px
        ((1, 256, 18, 18), (512, 256, 4, 4), False),  # 16 tiles: the weights would cost more than they save
        ((4, 256, 18, 18), (512, 256, 4, 4), True),
        ((1, 3, 259, 259), (64, 3, 4, 4), False),  # three channels: the maps would
        ((1, 64, 131, 131), (128, 64, 4, 4), False),
        ((1, 256, 131, 131), (64, 256, 4, 4), True),
        ((1, 256, 34, 34), (512, 256, 3, 3), False),
        ((1, 256, 3, 3), (512, 256, 4, 4), False),
    ],
)
def test_it_is_used_where_it_was_measured_to_pay(
    shape: tuple[int, ...], weight: tuple[int, ...], expected: bool
) -> None:
    assert winograd.pays(torch.empty(shape), torch.empty(weight)) is expected


def test_only_steps_with_gradients_take_it(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    original = winograd.conv2d
    monkeypatch.setattr(winograd, "conv2d", lambda *args: calls.append(1) or original(*args))
    x, weight = torch.randn(1, 128, 34, 34), torch.randn(128, 128, 4, 4)
    with torch.no_grad():
        assert torch.equal(products.conv2d(x, weight, None), F.conv2d(x, weight))
    with torch.autocast("cpu", torch.bfloat16):
        products.conv2d(x, weight, None)
    products.conv2d(x, weight, None, stride=2)
    assert not calls
    products.conv2d(x, weight, None)
    assert calls == [1]


@pytest.mark.parametrize("sampling", ["blur", "blur_late"])
def test_a_generator_and_a_discriminator_compute_the_same_either_way(
    sampling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    generator = UNetGenerator(ngf=8, num_downs=5, sampling=sampling, dropout=False).double()
    discriminator = PatchDiscriminator(ndf=8).double()
    monkeypatch.setattr(winograd, "LEAST_PAIRS", 64)
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    weights = [*generator.parameters(), *discriminator.parameters()]
    results = []
    for least in (16, 10**9):
        monkeypatch.setattr(winograd, "LEAST_TILES", least)
        logits = discriminator(torch.cat([x, generator(x)], dim=1))
        results.append((logits, torch.autograd.grad(logits.square().sum(), weights)))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-8, atol=1e-10)
    for a, b in zip(results[0][1], results[1][1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)
