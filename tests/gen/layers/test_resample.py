"""The resampling layers against a slow reference with every index written out, then their laws."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

import kornia
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from steadypix.gen.layers.filters import FILTERS, binomial_taps
from steadypix.gen.layers.resample import PADDINGS, BlurPool2d, BlurUpsample2d, MaxBlurPool2d, pad2d

pytestmark = pytest.mark.slow

SIZES = [(8, 8), (7, 7), (6, 9), (5, 12), (4, 3)]
TINY = [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (1, 5), (2, 3)]
DC_PADDINGS = [name for name in PADDINGS if name != "zeros"]
EXACT = {"rtol": 0.0, "atol": 1e-12}
few = settings(deadline=None, max_examples=25, derandomize=True)


# --- the reference -----------------------------------------------------------------------------


def source_index(index: int, size: int, reach: int, padding: str) -> int | None:
    """Which sample stands at `index` of an axis extended by `reach` samples; None is a zero."""
    if 0 <= index < size:
        return index
    if padding == "zeros":
        return None
    if padding == "circular":
        return index % size
    if padding == "reflect" and reach < size:
        return -index if index < 0 else 2 * (size - 1) - index
    return 0 if index < 0 else size - 1  # replicate, and reflect where the map is too small for it


def filter_axis(
    row: np.ndarray, taps: list[float], *, before: int, reach: int, stride: int, padding: str
) -> np.ndarray:
    """y[i] = sum over k of taps[k] * x[i * stride + k - before]."""
    size = len(row)
    out = np.zeros(-(-size // stride))
    for i, k in itertools.product(range(len(out)), range(len(taps))):
        source = source_index(i * stride + k - before, size, reach, padding)
        if source is not None:
            out[i] += taps[k] * row[source]
    return out


def reference_blur_pool(x: np.ndarray, filter: str, stride: int, padding: str) -> np.ndarray:
    taps = binomial_taps(filter)
    before, after = (len(taps) - 1) // 2, len(taps) // 2
    places = {"before": before, "reach": max(before, after), "stride": stride, "padding": padding}
    return along_both_axes(x, lambda row: filter_axis(row, taps, **places))


def reference_dense_max(x: np.ndarray, window: int, padding: str) -> np.ndarray:
    """The max over a square window of (window - 1) // 2 samples before and window // 2 after."""
    before, after = (window - 1) // 2, window // 2

    def running_max(row: np.ndarray) -> np.ndarray:
        out = np.empty_like(row)
        for i in range(len(row)):
            sources = [
                source_index(j, len(row), max(before, after), padding)
                for j in range(i - before, i + after + 1)
            ]
            out[i] = max(0.0 if source is None else row[source] for source in sources)
        return out

    return along_both_axes(x, running_max)


def reference_upsample(x: np.ndarray, filter: str, padding: str) -> np.ndarray:
    """Pad the low map, insert zeros, blur with k // 2 samples before; a gain of 2 an axis."""
    taps = binomial_taps(filter)
    before = len(taps) // 2

    def upsample(row: np.ndarray) -> np.ndarray:
        size = len(row)
        # (output, tap, low sample) wherever a tap meets a sample and not an inserted zero.
        hits = [
            (n, k, (n + k - before) // 2)
            for n, k in itertools.product(range(2 * size), range(len(taps)))
            if (n + k - before) % 2 == 0
        ]
        low = [j for _, _, j in hits]
        reach = max(0, -min(low), max(low) - (size - 1))
        out = np.zeros(2 * size)
        for n, k, j in hits:
            source = source_index(j, size, reach, padding)
            if source is not None:
                out[n] += 2.0 * taps[k] * row[source]
        return out

    return along_both_axes(x, upsample)


def along_both_axes(x: np.ndarray, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    return np.apply_along_axis(function, -1, np.apply_along_axis(function, -2, x))


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# --- against the reference -----------------------------------------------------------------------


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_blur_pool_equals_the_reference(filter: str, padding: str, stride: int) -> None:
    layer = BlurPool2d(2, filter=filter, stride=stride, padding=padding)
    for size in SIZES + TINY:
        x = noise(2, 2, *size)
        expected = reference_blur_pool(x.numpy(), filter, stride, padding)
        torch.testing.assert_close(layer(x), torch.from_numpy(expected), **EXACT)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("filter", FILTERS)
def test_an_upward_blur_is_the_mirror_image_of_a_downward_one(filter: str, padding: str) -> None:
    down = BlurPool2d(2, filter=filter, stride=1, padding=padding)
    up = BlurPool2d(2, filter=filter, stride=1, padding=padding, upward=True)
    for size in SIZES + TINY:
        x = noise(1, 2, *size)
        torch.testing.assert_close(up(x.flip(2, 3)).flip(2, 3), down(x), **EXACT)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("window", [1, 2, 3])
def test_max_blur_pool_equals_the_reference(filter: str, padding: str, window: int) -> None:
    layer = MaxBlurPool2d(2, kernel_size=window, filter=filter, padding=padding)
    for size in [(8, 8), (5, 6), *TINY]:
        x = noise(1, 2, *size)
        dense = reference_dense_max(x.numpy(), window, padding)
        expected = reference_blur_pool(dense, filter, 2, padding)
        torch.testing.assert_close(layer(x), torch.from_numpy(expected), **EXACT)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("filter", FILTERS)
def test_blur_upsample_equals_the_reference(filter: str, padding: str) -> None:
    layer = BlurUpsample2d(2, filter=filter, padding=padding)
    for size in SIZES + TINY:
        x = noise(2, 2, *size)
        expected = reference_upsample(x.numpy(), filter, padding)
        torch.testing.assert_close(layer(x), torch.from_numpy(expected), **EXACT)


def test_the_gain_of_the_upsampling_is_a_plain_factor() -> None:
    x = noise(1, 3, 5, 4)
    torch.testing.assert_close(BlurUpsample2d(3, gain=1.0)(x) * 4, BlurUpsample2d(3)(x), **EXACT)


@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("size", [(16, 16), (15, 22)])
def test_blur_pool_equals_kornia_inside(filter: str, size: tuple[int, int]) -> None:
    """kornia pads with zeros, so only the samples that see no border can agree."""
    x = noise(2, 3, *size)
    theirs = kornia.filters.blur_pool2d(x, FILTERS[filter], stride=2)[..., 2:6, 2:6]
    as_module = kornia.filters.BlurPool2D(FILTERS[filter], stride=2)(x)[..., 2:6, 2:6]
    ours = BlurPool2d(3, filter=filter)(x)[..., 2:6, 2:6]
    torch.testing.assert_close(ours, theirs, **EXACT)
    torch.testing.assert_close(ours, as_module, rtol=0, atol=1e-6)  # its kernel is float32


@pytest.mark.parametrize("filter", FILTERS)
def test_max_blur_pool_equals_kornia_inside(filter: str) -> None:
    """With a window of 2 the max reaches 0 before and 1 after, as kornia's unpadded one does."""
    x = noise(1, 2, 16, 18)
    theirs = kornia.filters.max_blur_pool2d(x, FILTERS[filter], stride=2, max_pool_size=2)
    ours = MaxBlurPool2d(2, kernel_size=2, filter=filter)(x)
    torch.testing.assert_close(ours[..., 2:6, 2:6], theirs[..., 2:6, 2:6], **EXACT)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("build", [BlurPool2d, BlurUpsample2d, MaxBlurPool2d])
def test_gradients_are_right(build: type[nn.Module], padding: str) -> None:
    x = noise(1, 1, 3, 4).requires_grad_()
    for filter in ("rect2", "bin5"):
        assert torch.autograd.gradcheck(build(1, filter=filter, padding=padding), (x,))


# --- laws ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", DC_PADDINGS)
@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("build", [BlurPool2d, BlurUpsample2d, MaxBlurPool2d])
def test_a_constant_stays_that_constant_up_to_the_border(
    build: type[nn.Module], filter: str, padding: str
) -> None:
    layer = build(1, filter=filter, padding=padding)
    for size in SIZES + TINY:
        y = layer(torch.full((1, 1, *size), 0.7, dtype=torch.float64))
        torch.testing.assert_close(y, torch.full_like(y, 0.7), **EXACT)


@pytest.mark.parametrize("filter", FILTERS)
def test_zeros_darken_the_border(filter: str) -> None:
    y = BlurPool2d(1, filter=filter, stride=1, padding="zeros")(torch.ones(1, 1, 9, 9))
    assert y[0, 0, 4, 4] == 1
    assert y[0, 0, -1, -1] < 1


@few
@given(
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    stride=st.integers(1, 4),
    filter=st.sampled_from(list(FILTERS)),
    padding=st.sampled_from(PADDINGS),
)
def test_sizes(size: tuple[int, int], stride: int, filter: str, padding: str) -> None:
    """Down gives ceil(n / stride) for odd and even filters, up gives 2n."""
    x = torch.zeros(1, 1, *size)
    down = tuple(-(-n // stride) for n in size)
    pools = {"filter": filter, "stride": stride, "padding": padding}
    assert BlurPool2d(1, **pools)(x).shape[2:] == down
    assert MaxBlurPool2d(1, **pools)(x).shape[2:] == down
    up = BlurUpsample2d(1, filter=filter, padding=padding)(x)
    assert up.shape[2:] == (2 * size[0], 2 * size[1])


@pytest.mark.parametrize("filter", FILTERS)
def test_64_halves_to_32(filter: str) -> None:
    assert BlurPool2d(1, filter=filter)(torch.zeros(1, 1, 64, 64)).shape[2:] == (32, 32)


@few
@given(
    half=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    shift=st.tuples(st.integers(-8, 8), st.integers(-8, 8)),
    filter=st.sampled_from(list(FILTERS)),
    seed=st.integers(0, 99),
)
def test_circular_layers_commute_with_shifts(
    half: tuple[int, int], shift: tuple[int, int], filter: str, seed: int
) -> None:
    """Two samples in are one sample out going down, one in are two out going up."""
    twice = (2 * shift[0], 2 * shift[1])
    roll = functools.partial(torch.roll, dims=(2, 3))
    high, low = noise(1, 2, 2 * half[0], 2 * half[1], seed=seed), noise(1, 2, *half, seed=seed)
    for build in (BlurPool2d, MaxBlurPool2d):
        down = build(2, filter=filter, padding="circular")
        torch.testing.assert_close(down(roll(high, twice)), roll(down(high), shift), **EXACT)
    up = BlurUpsample2d(2, filter=filter, padding="circular")
    torch.testing.assert_close(up(roll(low, shift)), roll(up(low), twice), **EXACT)
    blur = BlurPool2d(2, filter=filter, stride=1, padding="circular")
    torch.testing.assert_close(blur(roll(high, shift)), roll(blur(high), shift), **EXACT)


@pytest.mark.parametrize("filter", FILTERS)
def test_down_then_up_displaces_nothing(filter: str) -> None:
    """An impulse's centroid, averaged over its four phases, stays where it was."""
    moved = torch.zeros(2, dtype=torch.float64)
    down, up = BlurPool2d(1, filter=filter), BlurUpsample2d(1, filter=filter)
    for dy, dx in itertools.product((0, 1), (0, 1)):
        x = torch.zeros(1, 1, 32, 32, dtype=torch.float64)
        x[0, 0, 16 + dy, 16 + dx] = 1
        y = up(down(x))[0, 0]
        grid = torch.arange(32, dtype=torch.float64)
        centre = torch.stack([y.sum(1) @ grid, y.sum(0) @ grid]) / y.sum()
        moved += (centre - torch.tensor([16.0 + dy, 16.0 + dx])) / 4
    torch.testing.assert_close(moved, torch.zeros_like(moved), **EXACT)


@pytest.mark.parametrize("build", [BlurPool2d, BlurUpsample2d, MaxBlurPool2d])
def test_taps_are_no_part_of_the_state_and_follow_the_input(build: type[nn.Module]) -> None:
    layer = build(2)
    assert layer.state_dict() == {}
    assert not list(layer.parameters())
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        assert layer(torch.ones(1, 2, 4, 4, dtype=dtype)).dtype == dtype
    assert layer.to("meta")(torch.ones(1, 2, 4, 4, device="meta")).device.type == "meta"


def test_channels_do_not_mix() -> None:
    x = noise(1, 3, 8, 8)
    for build in (BlurPool2d, BlurUpsample2d, MaxBlurPool2d):
        apart = torch.cat([build(1)(x[:, c : c + 1]) for c in range(3)], dim=1)
        torch.testing.assert_close(build(3)(x), apart, **EXACT)


# --- padding -------------------------------------------------------------------------------------


@few
@given(
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    before=st.integers(0, 7),
    after=st.integers(0, 7),
    padding=st.sampled_from(PADDINGS),
)
def test_padding_takes_the_samples_it_names(
    size: tuple[int, int], before: int, after: int, padding: str
) -> None:
    """Every size and pad works; each sample of the result is the one the index map names."""
    x = noise(1, 1, *size)
    y = pad2d(x, before, after, padding)
    rows, columns = (range(-before, n + after) for n in size)
    assert y.shape[2:] == (len(rows), len(columns))
    for (i, row), (j, column) in itertools.product(enumerate(rows), enumerate(columns)):
        reach = max(before, after)
        source_y = source_index(row, size[0], reach, padding)
        source_x = source_index(column, size[1], reach, padding)
        inside = source_y is not None and source_x is not None
        assert y[0, 0, i, j] == (x[0, 0, source_y, source_x] if inside else 0)


# --- bad arguments -------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [BlurPool2d, BlurUpsample2d, MaxBlurPool2d])
def test_errors_name_the_bad_value(build: type[nn.Module]) -> None:
    with pytest.raises(ValueError, match="filter 'box9' is unknown"):
        build(3, filter="box9")
    with pytest.raises(ValueError, match="padding 'same' is unknown"):
        build(3, padding="same")
    with pytest.raises(ValueError, match="channels must be at least 1, not 0"):
        build(0)
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\), got \(1, 4, 8, 8\)"):
        build(3)(torch.zeros(1, 4, 8, 8))


@pytest.mark.parametrize("build", [BlurPool2d, BlurUpsample2d])
def test_a_map_without_a_batch_is_refused(build: type[nn.Module]) -> None:
    with pytest.raises(ValueError, match=r"got \(3, 8, 8\)"):
        build(3)(torch.zeros(3, 8, 8))


def test_errors_name_a_bad_stride_window_or_padding() -> None:
    with pytest.raises(ValueError, match="stride must be at least 1, not 0"):
        BlurPool2d(3, stride=0)
    with pytest.raises(ValueError, match="stride must be at least 1, not -2"):
        MaxBlurPool2d(3, stride=-2)
    with pytest.raises(ValueError, match="kernel_size must be at least 1, not 0"):
        MaxBlurPool2d(3, kernel_size=0)
    with pytest.raises(ValueError, match="padding 'wrap' is unknown"):
        pad2d(torch.zeros(1, 1, 2, 2), 1, 1, "wrap")
