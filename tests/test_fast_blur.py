"""The fast blurs equal the layers' own slow references: values, gradients, laws, and who gets them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gen import fast_blur
from gen.axis_map import AxisMap, blur_map, upsample_map
from gen.filters import FILTERS
from gen.resample import PADDINGS, BlurPool2d, BlurUpsample2d

SIZES = [(1, 1), (2, 3), (5, 64), (17, 16), (20, 37), (40, 18)]
EXACT = {"rtol": 0.0, "atol": 1e-12}
FORMATS = [torch.contiguous_format, torch.channels_last]
few = settings(deadline=None, max_examples=60, derandomize=True)


@pytest.fixture(autouse=True)
def _no_map_is_small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Maps of a test's size take the fast path, too."""
    monkeypatch.setattr(fast_blur, "SMALL", 1)
    return


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def with_gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """The result, and the gradient of its product with noise."""
    x = x.detach().requires_grad_()
    y = function(x)
    (gradient,) = torch.autograd.grad(y, x, noise(*y.shape, seed=1, dtype=y.dtype))
    return y, gradient


def assert_equal_to_the_reference(layer: BlurPool2d | BlurUpsample2d, x: Tensor) -> None:
    assert fast_blur.usable(x)
    for fast, slow in zip(with_gradient(layer, x), with_gradient(layer.reference, x), strict=True):
        torch.testing.assert_close(fast, slow, **EXACT)


# --- equality --------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_blur_pool(filter: str, padding: str, stride: int) -> None:
    for upward, size, memory in itertools.product([False, True], SIZES, FORMATS):
        layer = BlurPool2d(3, filter=filter, stride=stride, padding=padding, upward=upward)
        assert_equal_to_the_reference(layer, noise(2, 3, *size).to(memory_format=memory))


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("gain", [4.0, 1.0])
def test_blur_upsample(filter: str, padding: str, gain: float) -> None:
    for size, memory in itertools.product(SIZES, FORMATS):
        layer = BlurUpsample2d(3, filter=filter, padding=padding, gain=gain)
        assert_equal_to_the_reference(layer, noise(2, 3, *size).to(memory_format=memory))


@few
@given(
    size=st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 40), st.integers(1, 40)),
    stride=st.integers(1, 4),
    filter=st.sampled_from(list(FILTERS)),
    padding=st.sampled_from(PADDINGS),
    memory=st.sampled_from(FORMATS),
    upward=st.booleans(),
)
def test_any_map(
    size: tuple[int, int, int, int],
    stride: int,
    filter: str,
    padding: str,
    memory: torch.memory_format,
    upward: bool,
) -> None:
    x = noise(*size).to(memory_format=memory)
    down = BlurPool2d(size[1], filter=filter, stride=stride, padding=padding, upward=upward)
    assert_equal_to_the_reference(down, x)
    assert_equal_to_the_reference(BlurUpsample2d(size[1], filter=filter, padding=padding), x)


def test_single_precision_to_its_rounding() -> None:
    for layer, memory in itertools.product((BlurPool2d(16), BlurUpsample2d(16)), FORMATS):
        x = noise(2, 16, 64, 96, dtype=torch.float32).to(memory_format=memory)
        fast, slow = with_gradient(layer, x), with_gradient(layer.reference, x)
        torch.testing.assert_close(fast, slow, rtol=0, atol=3e-6)


def test_any_strides_in_memory() -> None:
    x = noise(4, 6, 40, 50)
    views = [x[::2], x[:, 1::2], x[..., ::2], x.transpose(2, 3), x[:1].expand(3, -1, -1, -1), x.flip(3)]
    for view in views:
        assert_equal_to_the_reference(BlurPool2d(view.shape[1]), view)


def test_the_memory_format_stays() -> None:
    for layer, memory in itertools.product((BlurPool2d(8), BlurUpsample2d(8)), FORMATS):
        x = noise(2, 8, 24, 24).to(memory_format=memory).requires_grad_()
        y = layer(x)
        (gradient,) = torch.autograd.grad(y, x, torch.ones_like(y))
        assert y.is_contiguous(memory_format=memory)
        assert gradient.is_contiguous(memory_format=memory)


# --- derivatives -----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:`torch.jit.script")  # torch's own, in its forward mode
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("memory", FORMATS)
@pytest.mark.parametrize("build", [BlurPool2d, BlurUpsample2d])
def test_derivatives(build: type[nn.Module], memory: torch.memory_format, padding: str) -> None:
    """First, second (a penalty on gradients needs it) and forward mode."""
    layer = build(2, padding=padding)
    x = noise(1, 2, 3, 18).to(memory_format=memory).requires_grad_()
    assert torch.autograd.gradcheck(layer, (x,), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(layer, (x,))


def test_nothing_is_kept_for_the_backward_pass() -> None:
    x = noise(1, 4, 32, 32).requires_grad_()
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        BlurPool2d(4)(x)
        BlurUpsample2d(4)(x)
    assert kept == []


def test_results_are_the_same_to_the_bit_every_time() -> None:
    for memory in FORMATS:
        x = noise(2, 32, 65, 64, dtype=torch.float32).to(memory_format=memory)
        first = with_gradient(BlurPool2d(32), x)
        for _ in range(3):
            assert all(map(torch.equal, with_gradient(BlurPool2d(32), x), first))


def test_an_input_is_never_changed() -> None:
    for memory, layer in itertools.product(FORMATS, (BlurPool2d(4), BlurUpsample2d(4))):
        x = noise(1, 4, 20, 20).to(memory_format=memory)
        before = x.clone()
        with_gradient(layer, x)
        assert torch.equal(x, before)


# --- who gets it -----------------------------------------------------------------------------------


def test_only_what_it_was_made_for_takes_the_fast_path() -> None:
    x = torch.zeros(1, 2, 8, 8)
    assert fast_blur.usable(x)
    assert fast_blur.usable(x.double())
    assert not fast_blur.usable(x.bfloat16())
    assert not fast_blur.usable(x.half())
    assert not fast_blur.usable(x.to("meta"))
    with torch.autocast("cpu", torch.bfloat16):
        assert not fast_blur.usable(x)


def test_small_maps_are_padded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert not fast_blur.usable(torch.zeros(1, 1, 255, 256))
    assert fast_blur.usable(torch.zeros(1, 1, 256, 256))


@pytest.mark.parametrize("build", [BlurPool2d, BlurUpsample2d])
def test_exports_hold_no_operator_of_ours(build: type[nn.Module]) -> None:
    x = torch.randn(1, 4, 32, 32)
    layer = build(4)
    program = torch.export.export(layer, (x,))
    targets = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert all(target.startswith("aten.") for target in targets), targets
    torch.testing.assert_close(program.module()(x), layer(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("build", [BlurPool2d, BlurUpsample2d])
def test_function_transforms_see_the_reference(build: type[nn.Module]) -> None:
    layer, x = build(2), noise(3, 1, 2, 20, 20)
    mapped = torch.func.vmap(layer)(x)
    torch.testing.assert_close(mapped, torch.stack([layer(one) for one in x]), **EXACT)


def test_tracing_is_the_reference() -> None:
    layer, x = BlurPool2d(2), noise(1, 2, 20, 20)
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), layer(x), **EXACT)


def test_autocast_gives_what_the_reference_gives() -> None:
    x = noise(1, 4, 32, 32, dtype=torch.float32)
    layer = BlurPool2d(4)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(x), layer.reference(x))


@pytest.mark.parametrize("memory", FORMATS)
def test_what_is_cached_serves_everyone(memory: torch.memory_format) -> None:
    """Made in inference mode, or where another device is the default, it is used in training too."""
    x = noise(1, 5, 23, 29).to(memory_format=memory)
    for layer in (BlurPool2d(5, filter="bin7"), BlurUpsample2d(5, filter="bin7")):
        fast_blur.border_of.cache_clear()
        blur_map.cache_clear()
        upsample_map.cache_clear()
        with torch.device("meta"), torch.inference_mode():
            layer(x)
        assert_equal_to_the_reference(layer, x)


# --- the matrices ----------------------------------------------------------------------------------


def maps(n: int, padding: str) -> Iterator[AxisMap]:
    for filter in FILTERS:
        for stride, upward in itertools.product((1, 2, 3), (False, True)):
            yield blur_map(n, filter, stride, padding, upward)
        yield upsample_map(n, filter, padding, 2.0)


@pytest.mark.parametrize("padding", PADDINGS)
def test_blocks_and_wraps_hold_every_entry_once(padding: str) -> None:
    for n, axis_map in itertools.chain.from_iterable(
        zip(itertools.repeat(n), maps(n, padding)) for n in (1, 2, 7, 40, 67)
    ):
        for here in (axis_map, axis_map.transpose()):
            whole = torch.zeros(here.n_out, here.n_in, dtype=torch.float64)
            for block in here.blocks(torch.float64):
                whole[block.outputs, block.inputs] += block.weights
            for wrap in here.wraps:
                whole[wrap.output, wrap.input] += wrap.weight
            assert torch.equal(whole, here.dense(torch.float64)), (n, here)


@pytest.mark.parametrize("padding", PADDINGS)
def test_the_transpose_is_the_transposed_matrix(padding: str) -> None:
    for axis_map in maps(9, padding):
        there = axis_map.transpose()
        assert torch.equal(there.dense(torch.float64), axis_map.dense(torch.float64).T)
        assert torch.equal(there.transpose().dense(torch.float64), axis_map.dense(torch.float64))


@pytest.mark.parametrize("padding", [name for name in PADDINGS if name != "zeros"])
def test_every_output_of_a_blur_is_a_mean(padding: str) -> None:
    for n, filter, stride in itertools.product((1, 2, 5, 16), FILTERS, (1, 2)):
        sums = blur_map(n, filter, stride, padding, False).dense(torch.float64).sum(1)
        assert torch.equal(sums, torch.ones_like(sums))
