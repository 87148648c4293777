"""Mirrored context against NumPy's padding, and what it does to networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from steadypix import UNetGenerator
from steadypix.gen.large.context import WithContext, mirrored, with_context
from steadypix.gen.large.frozen import freeze, gather
from steadypix.gen.large.strips import Strips, run_in_strips
from steadypix.gen.large.workspace import Workspace

PADS = st.tuples(st.integers(0, 20), st.integers(0, 20))


def picture(height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(1, 3, height, width, generator=generator, dtype=torch.float64) * 2 - 1


def by_numpy(x: Tensor, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    return torch.from_numpy(np.pad(x.numpy(), ((0, 0), (0, 0), rows, columns), mode="reflect"))


def test_no_context_is_no_context() -> None:
    x = picture(5, 7)
    assert with_context(x, 0, lambda y: y) is not None
    assert torch.equal(with_context(x, 0, lambda y: y), x)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 7), st.integers(1, 7), PADS, PADS)
def test_mirrored_as_numpy_does_it_however_small_the_picture(
    height: int, width: int, rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    x = picture(height, width)
    assert torch.equal(mirrored(x, rows, columns), by_numpy(x, rows, columns))


@pytest.mark.parametrize(("height", "width"), [(30, 22), (3, 40), (40, 3)])
def test_strips_are_mirrored_alike(height: int, width: int) -> None:
    x = picture(height, width)
    strips = mirrored(Strips.of(x, Workspace(strip_samples=200)), (9, 4), (5, 12))
    made = torch.cat([strips.rows(top, bottom) for top, bottom in strips.strips()], dim=2)
    assert torch.equal(made, by_numpy(x, (9, 4), (5, 12)))


def test_what_is_kept_lies_where_it_lay() -> None:
    """A network that tells places shows the same places as without context."""
    x = picture(13, 21)
    assert torch.equal(with_context(x, 6, lambda y: y.flip(1)), x.flip(1))


@pytest.mark.parametrize(("reach", "context", "seen"), [(2, 1, True), (2, 2, False), (2, 9, False)])
def test_a_border_that_is_padded_lies_outside(reach: int, context: int, seen: bool) -> None:
    """A convolution with zeros at its border equals one of the mirrored picture, if context covers it."""
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 3, 2 * reach + 1, padding=reach).double()
    x = picture(12, 9)
    with torch.no_grad():
        found = with_context(x, context, conv)
        expected = F.conv2d(by_numpy(x, (reach, reach), (reach, reach)), conv.weight, conv.bias)
    assert torch.allclose(found, expected, atol=1e-12) != seen


def test_networks_get_as_much_as_was_asked_for() -> None:
    network = UNetGenerator(ngf=2, num_downs=5).eval()
    seen: list[tuple[int, ...]] = []
    network.register_forward_pre_hook(lambda module, args: seen.append(tuple(args[0].shape[-2:])))
    with torch.no_grad():
        made = WithContext(network, 16)(picture(128, 100).float())
    assert made.shape == (1, 3, 128, 100)
    assert seen == [(160, 132)]


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_in_strips_and_frozen_as_any_network(norm: str) -> None:
    torch.manual_seed(0)
    network = WithContext(UNetGenerator(ngf=4, num_downs=3, norm=norm, padding="reflect"), 5).double().eval()
    x = picture(40, 27)
    with torch.no_grad():
        whole = network(x)
        strips = torch.cat(list(run_in_strips(network, x, Workspace(strip_samples=500))), dim=2)
        torch.testing.assert_close(strips, whole, rtol=0, atol=1e-11)
        if norm == "instance":
            freeze(network, gather(network, [x]))
            torch.testing.assert_close(network(x), whole, rtol=0, atol=1e-5)
