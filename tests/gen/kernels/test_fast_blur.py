"""The compiled blurs equal the layers' own slow references: values, gradients, laws, and who gets them.

Where there is no compiled kernel everything here but its own tests still runs, on the reference alone.
"""

from __future__ import annotations

import importlib.machinery
import itertools
import os
import shutil
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from steadypix.gen.kernels import fast_blur, native
from steadypix.gen.kernels.axis_map import AxisMap, blur_map, upsample_map
from steadypix.gen.layers.filters import FILTERS
from steadypix.gen.layers.resample import PADDINGS, BlurPool2d, BlurUpsample2d

pytestmark = pytest.mark.slow

SIZES = [(1, 1), (2, 3), (4, 4), (5, 64), (17, 16), (20, 37), (40, 18)]
EXACT = {"rtol": 0.0, "atol": 1e-12}
FORMATS = [torch.contiguous_format, torch.channels_last]
few = settings(deadline=None, max_examples=60, derandomize=True)


needs_kernel = pytest.mark.skipif(native.library() is None, reason="no compiled blur (native.library())")


@pytest.fixture
def _fresh_library() -> Iterator[None]:
    """The kernel is looked for again, in the test and after it."""
    native.library.cache_clear()
    yield
    native.library.cache_clear()


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def with_gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """The result, and the gradient of its product with noise."""
    x = x.detach().requires_grad_()
    y = function(x)
    (gradient,) = torch.autograd.grad(y, x, noise(*y.shape, seed=1, dtype=y.dtype))
    return y, gradient


def assert_equal_to_the_reference(layer: BlurPool2d | BlurUpsample2d, x: Tensor) -> None:
    assert fast_blur.usable(x) == (native.library() is not None)
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


def test_a_negated_view() -> None:
    view = torch.complex(noise(1, 2, 8, 8), noise(1, 2, 8, 8, seed=1)).conj().imag
    assert view.is_neg()
    assert_equal_to_the_reference(BlurPool2d(2), view)


@pytest.mark.parametrize("memory", FORMATS)
def test_more_channels_than_pixels_and_no_picture_at_all(memory: torch.memory_format) -> None:
    assert_equal_to_the_reference(BlurPool2d(5000), noise(1, 5000, 3, 2).to(memory_format=memory))
    for layer in (BlurPool2d(3), BlurUpsample2d(3)):
        y, gradient = with_gradient(layer, torch.zeros(0, 3, 8, 8, dtype=torch.float64))
        assert y.shape[0] == gradient.shape[0] == 0


@pytest.mark.parametrize("upward", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("filter", FILTERS)
def test_maps_that_carry_their_padding(filter: str, stride: int, upward: bool) -> None:
    layer = BlurPool2d(3, filter=filter, stride=stride, upward=upward)
    for height, width in ((layer.taps, layer.taps + 1), (9, 40)):
        x = noise(2, 3, height, width)
        for fast, slow in zip(
            with_gradient(layer.unpadded, x), with_gradient(layer._convolve, x), strict=True
        ):
            torch.testing.assert_close(fast, slow, **EXACT)


@needs_kernel  # the reference of the upsampling returns a crop
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


@pytest.mark.parametrize("memory", FORMATS)
def test_batches_of_gradients(memory: torch.memory_format) -> None:
    x = noise(1, 2, 6, 7).to(memory_format=memory)
    for layer in (BlurPool2d(2), BlurUpsample2d(2)):
        fast, slow = (
            torch.autograd.functional.jacobian(f, x, vectorize=True) for f in (layer, layer.reference)
        )
        torch.testing.assert_close(fast, slow, **EXACT)


@needs_kernel
def test_nothing_is_kept_for_the_backward_pass() -> None:
    x = noise(1, 4, 32, 32).requires_grad_()
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        BlurPool2d(4)(x)
        BlurUpsample2d(4)(x)
    assert kept == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("memory", FORMATS)
@pytest.mark.parametrize("width", [64, 37])
def test_any_number_of_threads_gives_the_same_to_the_bit(
    width: int, memory: torch.memory_format, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = noise(2, 96, 65, width, dtype=dtype).to(memory_format=memory)  # enough for seven threads
    before = torch.get_num_threads()
    try:
        for layer in (BlurPool2d(96), BlurUpsample2d(96)):
            results = []
            for threads in (1, 2, 3, 3, 7):
                torch.set_num_threads(threads)
                results.append(with_gradient(layer, x))
            with monkeypatch.context() as patch:
                patch.setattr(native, "parallel", lambda: None)  # no OpenMP
                results.append(with_gradient(layer, x))
            for result in results[1:]:
                assert all(map(torch.equal, result, results[0]))
    finally:
        torch.set_num_threads(before)


def test_an_input_is_never_changed() -> None:
    for memory, layer in itertools.product(FORMATS, (BlurPool2d(4), BlurUpsample2d(4))):
        x = noise(1, 4, 20, 20).to(memory_format=memory)
        before = x.clone()
        with_gradient(layer, x)
        assert torch.equal(x, before)


# --- who gets it -----------------------------------------------------------------------------------


def test_which_path_is_active() -> None:
    """Where there is a compiler the installation has compiled the kernel: that is what is tested above."""
    if os.environ.get("STEADYPIX_NATIVE") == "0":
        pytest.skip("switched off by STEADYPIX_NATIVE=0")
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        pytest.skip(f"no compiler ({compiler}): the layers run as their references")
    assert native.library() is not None, "gen/kernels/blur_kernel.c is not compiled; pip install -e . does it"


@pytest.mark.usefixtures("_fresh_library")
def test_the_environment_switches_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEADYPIX_NATIVE", "0")
    x = noise(1, 2, 20, 20)
    assert not fast_blur.usable(x)
    for layer in (BlurPool2d(2), BlurUpsample2d(2)):
        assert torch.equal(layer(x), layer.reference(x))


@pytest.mark.usefixtures("_fresh_library")
@pytest.mark.parametrize("origin", [None, "damaged"])
def test_a_kernel_that_is_missing_or_does_not_load(
    origin: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "damaged").write_bytes(b"of another machine")
    spec = importlib.machinery.ModuleSpec("gen._blur_kernel", None, origin=origin and str(tmp_path / origin))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
    assert native.library() is None
    x = noise(1, 2, 20, 20)
    assert torch.equal(BlurPool2d(2)(x), BlurPool2d(2).reference(x))


@needs_kernel
def test_only_what_it_was_made_for_takes_the_fast_path() -> None:
    x = torch.zeros(1, 2, 8, 8)
    assert fast_blur.usable(x)
    assert fast_blur.usable(x.double())
    assert not fast_blur.usable(x.bfloat16())
    assert not fast_blur.usable(x.half())
    assert not fast_blur.usable(x[:0])
    assert not fast_blur.usable(x.to("meta"))
    with torch.autocast("cpu", torch.bfloat16):
        assert not fast_blur.usable(x)


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


def test_a_recorded_graph_holds_the_reference() -> None:
    layer, x = BlurPool2d(3), torch.rand(1, 3, 8, 8)
    recorded = make_fx(layer)(x)
    torch.testing.assert_close(recorded(x + 1), layer.reference(x + 1))


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
def test_the_interior_repeats_itself(padding: str) -> None:
    """The kernel reads the sums of one period and trusts that the others are the same, further on."""
    for n, axis_map in itertools.chain.from_iterable(
        zip(itertools.repeat(n), maps(n, padding)) for n in (1, 2, 7, 40, 67)
    ):
        for here in (axis_map, axis_map.transpose()):
            first, repeats = here.interior
            matrix = here.dense()
            assert first >= 0
            assert first + repeats * here.period <= here.n_out
            for i in range(first + here.period, first + repeats * here.period):
                expected = np.zeros(here.n_in)
                expected[here.step :] = matrix[i - here.period, : here.n_in - here.step]
                assert np.array_equal(matrix[i], expected), (n, here, i)
            if n >= 40:  # and it is nearly everything, which is what makes it fast
                assert repeats * here.period >= here.n_out - 12 * max(here.period, 1)


@pytest.mark.parametrize("padding", PADDINGS)
def test_the_transpose_is_the_transposed_matrix(padding: str) -> None:
    for axis_map in maps(9, padding):
        there = axis_map.transpose()
        assert np.array_equal(there.dense(), axis_map.dense().T)
        assert np.array_equal(there.transpose().dense(), axis_map.dense())


@pytest.mark.parametrize("padding", [name for name in PADDINGS if name != "zeros"])
def test_every_output_of_a_blur_is_a_mean(padding: str) -> None:
    for n, filter, stride in itertools.product((1, 2, 5, 16), FILTERS, (1, 2)):
        sums = blur_map(n, filter, stride, padding, False).dense().sum(1)
        assert np.array_equal(sums, np.ones_like(sums))
