"""Convolutions of small maps as products: torch's values and gradients, and used where they should be."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from steadypix import UNetGenerator
from steadypix.gen.kernels import products

SIDES = st.integers(1, 9)


def equal_with_gradients(ours: Tensor, theirs: Tensor, *leaves: Tensor) -> None:
    torch.testing.assert_close(ours, theirs)
    seed = torch.randn_like(ours)
    for a, b in zip(
        torch.autograd.grad(ours, leaves, seed), torch.autograd.grad(theirs, leaves, seed), strict=True
    ):
        torch.testing.assert_close(a, b)


def leaves(*shapes: tuple[int, ...]) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


@settings(deadline=None, max_examples=40)
@given(
    batch=st.integers(1, 3),
    height=SIDES,
    width=SIDES,
    kernel=st.sampled_from([3, 4]),
    stride=st.integers(1, 2),
)
def test_conv2d_is_torchs(batch: int, height: int, width: int, kernel: int, stride: int) -> None:
    x, weight, bias = leaves(
        (batch, 3, height + kernel - 1, width + kernel - 1), (5, 3, kernel, kernel), (5,)
    )
    ours = products.conv2d(x, weight, bias, stride=stride)
    equal_with_gradients(ours, F.conv2d(x, weight, bias, stride), x, weight, bias)


@settings(deadline=None, max_examples=40)
@given(
    batch=st.integers(1, 3),
    height=SIDES,
    width=SIDES,
    form=st.sampled_from([(4, 1, 0), (3, 1, 1), (4, 0, 0)]),
)
def test_conv_transpose2d_is_torchs(batch: int, height: int, width: int, form: tuple[int, int, int]) -> None:
    kernel, padding, rest = form
    x, weight, bias = leaves((batch, 5, height, width), (5, 3, kernel, kernel), (3,))
    ours = products.conv_transpose2d(x, weight, bias, padding=padding, output_padding=rest)
    equal_with_gradients(ours, F.conv_transpose2d(x, weight, bias, 2, padding, rest), x, weight, bias)


@settings(deadline=None, max_examples=20)
@given(batch=st.integers(1, 3), outputs=st.integers(1, 4), width=SIDES, kernel=st.sampled_from([3, 4]))
def test_few_outputs_are_sums_of_shifted_products(batch: int, outputs: int, width: int, kernel: int) -> None:
    x, weight, bias = leaves((batch, 5, 9, width + kernel - 1), (outputs, 5, kernel, kernel), (outputs,))
    equal_with_gradients(products._few_outputs(x, weight, bias), F.conv2d(x, weight, bias), x, weight, bias)


@settings(deadline=None, max_examples=40)
@given(batch=st.integers(1, 3), height=SIDES, width=SIDES, kernel=st.sampled_from([3, 4]))
def test_a_flipped_conv_is_what_a_transposed_conv_does_within(
    batch: int, height: int, width: int, kernel: int
) -> None:
    shape = (batch, 5, height + kernel - 1, width + kernel - 1)  # small and not small
    x, weight, bias = leaves(shape, (5, 6, kernel, kernel), (6,))
    theirs = F.conv_transpose2d(x, weight, bias, stride=1, padding=kernel - 1)
    equal_with_gradients(products.flipped_conv2d(x, weight, bias), theirs, x, weight, bias)


def test_three_channels_at_full_size_take_that_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_few_outputs", lambda *_: torch.tensor(7.0))
    x, weight = torch.randn(1, 8, 20, 20), torch.randn(3, 8, 4, 4)
    assert products.conv2d(x, weight, None) == 7
    assert products.conv2d(x, weight, None, stride=2).ndim == 4
    assert products.conv2d(x, torch.randn(5, 8, 4, 4), None).ndim == 4


def test_small_maps_become_products_and_large_ones_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, ...]] = []
    original = F.unfold

    def unfold(x: Tensor, *rest: object, **options: object) -> Tensor:
        calls.append(tuple(x.shape))
        return original(x, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(products.F, "unfold", unfold)
    weight = torch.randn(4, 4, 4, 4)
    products.conv2d(torch.randn(1, 4, 11, 11), weight, None)
    assert len(calls) == 1
    products.conv2d(torch.randn(3, 4, 11, 11), weight, None)  # 192 pixels
    products.conv2d(torch.randn(1, 4, 11, 11).bfloat16(), weight.bfloat16(), None)
    with torch.autocast("cpu", torch.bfloat16):
        products.conv2d(torch.randn(1, 4, 11, 11), weight, None)
    assert len(calls) == 1


@pytest.mark.parametrize("sampling", ["strided", "blur", "preblur", "blur_late"])
def test_a_generator_computes_the_same_either_way(sampling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    generator = UNetGenerator(ngf=4, num_downs=6, sampling=sampling, dropout=False).double()
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    outputs, gradients = [], []
    for small in (products.SMALL, 0):
        monkeypatch.setattr(products, "SMALL", small)
        y = generator(x)
        outputs.append(y)
        gradients.append(torch.autograd.grad(y.square().sum(), list(generator.parameters())))
    torch.testing.assert_close(*outputs)
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)
