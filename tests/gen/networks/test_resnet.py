"""The ResNet generator: the published graph, and the rules every way of resampling keeps."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from steadypix import CheckpointError, ResnetGenerator, load_weights, save_generator
from steadypix.gen.layers.filters import FILTERS, binomial_taps
from steadypix.gen.layers.norms import NORMS
from steadypix.gen.layers.resample import PADDINGS
from steadypix.gen.networks.levels import SAMPLINGS, DownLevel, UpLevel
from steadypix.gen.weights.generators import load_generator
from tests.published_nets import PublishedResnet, liven

pytestmark = pytest.mark.slow

ANTI_ALIASED = [name for name in SAMPLINGS if name != "strided"]
EXACT = {"rtol": 0.0, "atol": 1e-11}


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def build(**arguments: object) -> ResnetGenerator:
    model = ResnetGenerator(**{"ngf": 2, "n_blocks": 2, **arguments})
    return liven(model).double().eval()


# --- an independent restatement ------------------------------------------------------------------


def pad(x: Tensor, before: int, after: int, mode: str) -> Tensor:
    """Pad by index arithmetic (a map of zeros around for `zeros`)."""
    for axis in (2, 3):
        size = x.shape[axis]
        place = torch.arange(-before, size + after)
        if mode == "circular":
            index = place % size
        elif mode == "reflect":
            index = (size - 1) - ((size - 1) - place.abs()).abs()
        else:
            index = place.clamp(0, size - 1)
        padded = x.index_select(axis, index)
        if mode == "zeros":
            inside = ((place >= 0) & (place < size)).to(x.dtype)
            padded = padded * inside.view(-1, *[1] * (3 - axis))
        x = padded
    return x


def blur(x: Tensor, filter: str, mode: str, *, upward: bool = False) -> Tensor:
    taps = torch.tensor(binomial_taps(filter), dtype=x.dtype)
    short, long = (len(taps) - 1) // 2, len(taps) // 2
    x = pad(x, *((long, short) if upward else (short, long)), mode)
    rows = sum(t * x[..., k : x.shape[2] - len(taps) + 1 + k, :] for k, t in enumerate(taps))
    return sum(t * rows[..., k : x.shape[3] - len(taps) + 1 + k] for k, t in enumerate(taps))


def zero_insert(x: Tensor) -> Tensor:
    grid = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    grid[..., ::2, ::2] = x
    return grid


def restated(weights: Mapping[str, Tensor], x: Tensor, *, sampling: str, filter: str, padding: str) -> Tensor:
    """Run the graph, norm instance: strided convs dense and subsampled, transposed ones zero-inserted."""
    level_mode = "zeros" if padding == "reflect" else padding
    blur_mode = "reflect" if padding in ("zeros", "reflect") else padding

    def conv(name: str, h: Tensor, reach: int, mode: str) -> Tensor:
        return F.conv2d(pad(h, reach, reach, mode), weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(h: Tensor) -> Tensor:
        mean, var = h.mean((2, 3), keepdim=True), h.var((2, 3), keepdim=True, unbiased=False)
        return (h - mean) / (var + 1e-5).sqrt()

    h = F.relu(norm(conv("stem.conv", x, 3, padding)))
    for level in range(2):
        if sampling == "preblur":
            h = blur(h, filter, blur_mode)
        h = conv(f"encoder.{level}.conv", h, 1, level_mode)
        if sampling in ("strided", "preblur"):
            h = F.relu(norm(h[..., ::2, ::2]))
        else:
            h = blur(F.relu(norm(h)), filter, blur_mode)[..., ::2, ::2]
    for place in range(sum(key.endswith("second.conv.bias") for key in weights)):
        inner = F.relu(norm(conv(f"blocks.{place}.first.conv", h, 1, padding)))
        h = h + norm(conv(f"blocks.{place}.second.conv", inner, 1, padding))
    for level in range(2):
        activate = F.relu if level else nn.Identity()
        weight, bias = weights[f"decoder.{level}.conv.weight"], weights[f"decoder.{level}.conv.bias"]
        dense = weight.flip(2, 3).transpose(0, 1)
        if sampling == "blur_late":
            late = activate(blur(zero_insert(h), filter, blur_mode, upward=True))
            h = F.conv2d(pad(late, 1, 1, level_mode), dense, bias)
        else:
            h = F.conv2d(pad(zero_insert(activate(h)), 1, 1, level_mode), dense, bias)
            h = h if sampling == "strided" else blur(h, filter, blur_mode, upward=True)
        h = norm(h)
    return torch.tanh(conv("head.conv", F.relu(h), 3, padding))


@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_circular_networks_equal_the_restatement(sampling: str, filter: str) -> None:
    """On a torus there are no borders, so every sampling can be restated by zero insertion."""
    how = {"sampling": sampling, "filter": filter, "padding": "circular"}
    model, x = build(**how), noise(2, 3, 16, 20)
    expected = restated(model.state_dict(), x, **how)
    assert expected.std() > 0.1
    torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("padding", ["reflect", "zeros"])
@pytest.mark.parametrize("filter", ["rect2", "bin5"])
@pytest.mark.parametrize("sampling", ["strided", "blur", "preblur"])
def test_zero_padded_levels_equal_the_restatement(sampling: str, filter: str, padding: str) -> None:
    """blur_late pads at low resolution before the zeros are inserted; the torus and DC gain test it."""
    how = {"sampling": sampling, "filter": filter, "padding": padding}
    model, x = build(**how), noise(1, 3, 24, 16)
    expected = restated(model.state_dict(), x, **how)
    torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-9)


# --- the published graph -------------------------------------------------------------------------


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize(("n_blocks", "inputs", "outputs"), [(1, 3, 3), (6, 1, 3), (9, 3, 1)])
def test_strided_equals_the_published_graph(
    n_blocks: int, inputs: int, outputs: int, norm: str, train: bool
) -> None:
    published = PublishedResnet(inputs, outputs, n_blocks=n_blocks, norm=norm)
    model = ResnetGenerator(inputs, outputs, ngf=2, n_blocks=n_blocks, sampling="strided", norm=norm)
    liven(published).double().train(train)
    # Both list their parameters from the input to the output, so order alone pairs them.
    state = dict(zip(model.state_dict(), published.state_dict().values(), strict=True))
    model.double().train(train).load_state_dict(state)
    x = noise(2, inputs, 16, 20)
    with torch.no_grad():
        expected = published(x)
        assert expected.std() > 0.1
        torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_the_published_size(sampling: str) -> None:
    """resnet_9blocks with ngf 64: counted by hand, biases of the convs behind an instance norm included."""
    with torch.device("meta"):
        model = ResnetGenerator(sampling=sampling)
    outside = 2 * 49 * 3 * 64 + 64 + 3  # the 7x7 convs
    levels = 2 * 9 * (64 * 128 + 128 * 256) + (128 + 256) + (128 + 64)
    blocks = 18 * (9 * 256 * 256 + 256)
    assert sum(p.numel() for p in model.parameters()) == outside + levels + blocks


def test_dropout_stands_inside_of_every_block() -> None:
    model = build(dropout=True)
    assert sum(isinstance(module, nn.Dropout) for module in model.modules()) == 2
    x = noise(1, 3, 16, 16)
    assert torch.equal(model(x), model(x))
    model.train()
    assert not torch.equal(model(x), model(x))
    assert not any(isinstance(module, nn.Dropout) for module in build().modules())


# --- the rules -----------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
def test_every_sampling_has_the_same_parameters(norm: str) -> None:
    strided = build(norm=norm, sampling="strided").state_dict()
    for sampling, filter, padding in itertools.product(SAMPLINGS, FILTERS, PADDINGS):
        other = build(norm=norm, sampling=sampling, filter=filter, padding=padding)
        assert list(other.state_dict()) == list(strided)
        other.load_state_dict(strided, strict=True)
    assert not [key for key in strided if "kernel" in key]


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("filter", FILTERS)
def test_a_level_down_and_up_displaces_nothing(sampling: str, filter: str) -> None:
    """An impulse's centroid over all four phases of the grid, with constant weights."""
    how = {"sampling": sampling, "filter": filter, "padding": "zeros", "norm": None, "bias": False}
    down = DownLevel(1, 1, kernel=3, slope=0.0, **how).double()
    up = UpLevel(1, 1, kernel=3, dropout=False, **how).double()
    for conv in (down.conv, up.conv):
        nn.init.constant_(conv.weight, 1 / 9)
    grid = torch.arange(48, dtype=torch.float64)
    for phase in itertools.product((0, 1), (0, 1)):
        place = (24 + phase[0], 24 + phase[1])
        x = torch.zeros(1, 1, 48, 48, dtype=torch.float64)
        x[0, 0, *place] = 1
        with torch.no_grad():
            y = up(down(x))[0, 0]
        moved = torch.stack([y.sum(1) @ grid, y.sum(0) @ grid]) / y.sum() - torch.tensor(place)
        if sampling != "strided" and filter == "rect2":
            continue  # two taps do not blend the phases; their mean is what must stand still
        torch.testing.assert_close(moved, torch.zeros_like(moved), **EXACT)


@pytest.mark.parametrize("padding", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("sampling", ANTI_ALIASED)
def test_a_constant_stays_constant_up_to_the_border(sampling: str, padding: str) -> None:
    """Tri-3 and wider have a zero at Nyquist, which takes the checkerboard of the transposed conv away."""
    how = {"sampling": sampling, "padding": padding, "norm": None, "bias": True}
    for filter, size in itertools.product(FILTERS, [(1, 1), (2, 3), (8, 5)]):
        up = UpLevel(3, 3, kernel=3, dropout=False, filter=filter, **how).double()
        y = up(noise(1, 3, 1, 1).abs().expand(1, 3, *size))
        torch.testing.assert_close(y, y[..., :1, :1].expand_as(y), **EXACT)


@pytest.mark.filterwarnings("ignore:a circular generator")
@settings(deadline=None, max_examples=25, derandomize=True)
@given(
    size=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    sampling=st.sampled_from(SAMPLINGS),
    filter=st.sampled_from(list(FILTERS)),
    padding=st.sampled_from(PADDINGS),
)
def test_any_size_comes_back(size: tuple[int, int], sampling: str, filter: str, padding: str) -> None:
    model = build(n_blocks=1, sampling=sampling, filter=filter, padding=padding)
    with torch.no_grad():
        y = model(noise(1, 3, *size))
    assert y.shape == (1, 3, *size)
    assert torch.isfinite(y).all()


def test_an_odd_size_is_completed_at_the_right_and_at_the_bottom() -> None:
    model, x = build(), noise(1, 3, 14, 19)
    rows = torch.tensor([*range(14), 12, 11])
    columns = torch.tensor([*range(19), 17])
    full = x.index_select(2, rows).index_select(3, columns)
    torch.testing.assert_close(model(x), model(full)[..., :14, :19], rtol=0, atol=0)


@settings(deadline=None, max_examples=12, derandomize=True)
@given(
    steps=st.tuples(st.integers(-3, 3), st.integers(-3, 3)),
    sampling=st.sampled_from(SAMPLINGS),
    filter=st.sampled_from(list(FILTERS)),
)
def test_circular_networks_commute_with_shifts_by_whole_levels(
    steps: tuple[int, int], sampling: str, filter: str
) -> None:
    model = build(sampling=sampling, filter=filter, padding="circular")
    x, shift = noise(1, 3, 16, 24), (4 * steps[0], 4 * steps[1])
    rolled = model(torch.roll(x, shift, (2, 3)))
    torch.testing.assert_close(rolled, torch.roll(model(x), shift, (2, 3)), rtol=0, atol=1e-9)


@pytest.mark.parametrize("sampling", ANTI_ALIASED)
def test_blurred_networks_are_more_stable_under_odd_shifts(sampling: str) -> None:
    x = noise(2, 3, 32, 32)
    drifts = {}
    for name in ("strided", sampling):
        model = build(sampling=name, padding="circular", ngf=4)
        with torch.no_grad():
            y = model(x)
            errors = [(model(x.roll(d, 3)) - y.roll(d, 3)).square().mean() for d in (1, 3)]
        drifts[name] = float(sum(errors) / y.var())
    assert drifts[sampling] < 0.5 * drifts["strided"]


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_gradients_reach_every_parameter(sampling: str) -> None:
    model = build(sampling=sampling, norm="batch").train()
    model(noise(2, 3, 16, 16)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 1e-9, name


def test_bad_arguments_are_named() -> None:
    for argument in ("sampling", "filter", "padding", "norm"):
        with pytest.raises(ValueError, match=f"{argument} 'typo' is unknown; expected one of"):
            ResnetGenerator(**{"sampling": "strided", argument: "typo"})
    for argument in ("in_channels", "out_channels", "ngf", "n_blocks"):
        with pytest.raises(ValueError, match=f"{argument} must be at least 1, not 0"):
            ResnetGenerator(**{argument: 0})
    with pytest.raises(ValueError, match="n_blocks must be at most 256"):
        ResnetGenerator(n_blocks=10**9)
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\), got \(1, 4, 8, 8\)"):
        build()(noise(1, 4, 8, 8))
    with pytest.warns(UserWarning, match="multiples of 4 px only; 10 x 8 px"):
        build(padding="circular")(noise(1, 3, 10, 8))


# --- checkpoints ---------------------------------------------------------------------------------


def test_a_checkpoint_says_which_network_it_is(tmp_path: Path) -> None:
    arguments = {"ngf": 2, "n_blocks": 1, "sampling": "strided", "norm": "batch"}
    model = liven(ResnetGenerator(**arguments)).eval()
    path = tmp_path / "r.safetensors"
    save_generator(path, model, config={"generator": {"architecture": "resnet", **arguments}})
    loaded = load_generator(path)
    assert isinstance(loaded, ResnetGenerator)
    x = noise(1, 3, 16, 16).float()
    torch.testing.assert_close(loaded(x), model(x), rtol=0, atol=0)
    retrofit = ResnetGenerator(ngf=2, n_blocks=1, sampling="blur", norm="batch").eval()
    load_weights(retrofit, path)
    assert not torch.equal(retrofit(x), model(x))
    save_generator(path, model, config={"generator": arguments})  # a U-Net, if nothing is said
    with pytest.raises(CheckpointError, match=r"cannot be built.*n_blocks"):
        load_generator(path)
    save_generator(path, model, config={"generator": {"architecture": "vit", **arguments}})
    with pytest.raises(CheckpointError, match="architecture 'vit' is unknown; expected one of unet, resnet"):
        load_generator(path)
