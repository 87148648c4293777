"""The generator: the published graph, and the rules every way of resampling keeps."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from steadypix.gen.layers.filters import FILTERS, binomial_taps
from steadypix.gen.layers.norms import NORMS, BatchRenorm2d
from steadypix.gen.layers.resample import PADDINGS
from steadypix.gen.networks.unet import SAMPLINGS, DownLevel, UNetGenerator, UpLevel
from tests.published_unet import published_unet

pytestmark = pytest.mark.slow

ANTI_ALIASED = [name for name in SAMPLINGS if name != "strided"]
DC_PADDINGS = [name for name in PADDINGS if name != "zeros"]
EXACT = {"rtol": 0.0, "atol": 1e-11}


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def build(seed: int = 0, **arguments: object) -> UNetGenerator:
    """A small float64 generator in eval mode, as initialised."""
    torch.manual_seed(seed)
    return UNetGenerator(**{"ngf": 2, "num_downs": 4, **arguments}).double().eval()


def liven(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give a network weights of a trained one's scale and batch statistics that are not 0 and 1."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2.0, generator=draw)
            elif tensor.is_floating_point():
                spread = 1.2 / tensor[0].numel() ** 0.5 if tensor.ndim == 4 else 0.3
                centre = 1.0 if name.endswith("norm.weight") else 0.0
                tensor.normal_(centre, spread, generator=draw)
    return model


def down_level(sampling: str, filter: str, padding: str, channels: int = 1) -> DownLevel:
    torch.manual_seed(1)
    how = {"sampling": sampling, "filter": filter, "padding": padding}
    return DownLevel(channels, channels, norm=None, bias=False, **how).double()


def up_level(sampling: str, filter: str, padding: str, channels: int = 1, bias: bool = False) -> UpLevel:
    torch.manual_seed(2)
    how = {"sampling": sampling, "filter": filter, "padding": padding}
    return UpLevel(channels, channels, norm=None, bias=bias, dropout=False, **how).double()


# --- the published graph -------------------------------------------------------------------------


def published_names(state: dict[str, Tensor], num_downs: int) -> dict[str, Tensor]:
    """Name our tensors as the reference does."""
    named = {}
    for key, tensor in state.items():
        side, place, layer, entry = key.split(".")
        down = side == "encoder"
        level = int(place) if down else num_downs - 1 - int(place)
        kind = {"conv": "", "norm": "norm"}[layer]
        named[f"{level}.{'down' if down else 'up'}{kind}.{entry}"] = tensor
    return named


@pytest.mark.parametrize("train", [False, True], ids=["running statistics", "batch statistics"])
@pytest.mark.parametrize(
    ("num_downs", "ngf", "in_channels", "out_channels"),
    [(5, 4, 3, 3), (6, 3, 1, 3), (7, 2, 3, 1), (8, 2, 4, 2)],
)
def test_strided_equals_the_published_graph(
    num_downs: int, ngf: int, in_channels: int, out_channels: int, train: bool
) -> None:
    model = UNetGenerator(
        in_channels,
        out_channels,
        ngf=ngf,
        num_downs=num_downs,
        sampling="strided",
        norm="batch",
        dropout=False,
    )
    liven(model.double()).train(train)
    weights = published_names({k: v.clone() for k, v in model.state_dict().items()}, num_downs)
    x = noise(2, in_channels, 2**num_downs, 2**num_downs)
    with torch.no_grad():
        expected = published_unet(weights, x, num_downs=num_downs, train=train)
        result = model(x)
    assert expected.std() > 0.1  # the comparison sees more than zeros
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-9)


def test_strided_equals_the_published_graph_in_single_precision() -> None:
    model = UNetGenerator(ngf=4, num_downs=5, sampling="strided", norm="batch").eval()
    liven(model)
    x = noise(1, 3, 32, 64).float()
    with torch.no_grad():
        expected = published_unet(published_names(model.state_dict(), 5), x, num_downs=5)
        torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_the_published_size(sampling: str) -> None:
    """unet_256 with ngf 64 and batch norm is known as the 54.414 M parameter network."""
    with torch.device("meta"):
        model = UNetGenerator(norm="batch", sampling=sampling)
    assert sum(parameter.numel() for parameter in model.parameters()) == 54_413_955


def test_levels_are_named_lists() -> None:
    """The graph is: down the encoder, up the decoder, each skip before the map that came up."""
    for sampling, padding in itertools.product(SAMPLINGS, PADDINGS):
        model = liven(build(sampling=sampling, padding=padding))
        x = h = noise(1, 3, 16, 32)
        skips = []
        for down in model.encoder:
            h = down(h)
            skips.append(h)
        h = model.decoder[0](skips[-1])
        for up, skip in zip(model.decoder[1:], skips[-2::-1], strict=True):
            h = up(torch.cat([skip, h], dim=1))
        torch.testing.assert_close(model(x), torch.tanh(h), rtol=0, atol=0)


@pytest.mark.parametrize("norm", NORMS)
def test_biases_and_norms_stand_where_the_published_graph_has_them(norm: str) -> None:
    model = build(norm=norm, num_downs=6)
    own_bias = norm in ("batch", "renorm", "group")  # the norm brings a bias, so the convs have none
    kinds = {
        "instance": nn.InstanceNorm2d,
        "batch": nn.BatchNorm2d,
        "renorm": BatchRenorm2d,
        "group": nn.GroupNorm,
        "none": nn.Identity,
    }
    for place, level in enumerate(model.encoder):
        assert (level.conv.bias is None) == own_bias
        bare = place in (0, 5)
        assert isinstance(level.norm, nn.Identity if bare else kinds[norm])
    for place, level in enumerate(model.decoder):
        outermost = place == 5
        assert (level.conv.bias is None) == (own_bias and not outermost)
        assert isinstance(level.norm, nn.Identity if outermost else kinds[norm])


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("num_downs", [1, 4, 5, 6, 8])
def test_dropout_stands_just_outside_the_innermost_level(sampling: str, num_downs: int) -> None:
    with torch.device("meta"):
        model = UNetGenerator(ngf=2, num_downs=num_downs, sampling=sampling)
        without = UNetGenerator(ngf=2, num_downs=num_downs, sampling=sampling, dropout=False)
    places = [i for i, level in enumerate(model.decoder) if isinstance(level.dropout, nn.Dropout)]
    assert places == list(range(1, num_downs - 4))
    drops = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    assert len(drops) == max(0, num_downs - 5)
    assert all(drop.p == 0.5 for drop in drops)
    assert not [module for module in without.modules() if isinstance(module, nn.Dropout)]


def test_dropout_draws_in_training_only() -> None:
    model = liven(build(num_downs=6))
    x = noise(1, 3, 64, 64)
    assert torch.equal(model(x), model(x))
    model.train()
    assert not torch.equal(model(x), model(x))


def test_an_input_is_never_changed() -> None:
    for sampling in SAMPLINGS:
        x = noise(1, 3, 16, 16)
        before = x.clone()
        build(sampling=sampling)(x)
        assert torch.equal(x, before)


@pytest.mark.parametrize("norm", NORMS)
def test_initial_weights_are_the_published_ones(norm: str) -> None:
    """Convs N(0, 0.02), norm scales N(1, 0.02), biases 0."""
    torch.manual_seed(0)
    model = UNetGenerator(ngf=16, num_downs=6, norm=norm)
    scales = []
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif name.endswith("norm.weight"):
            scales.append(parameter)
        else:
            tolerance = 4 / parameter.numel() ** 0.5  # of mean and deviation, in standard errors
            assert parameter.std().item() == pytest.approx(0.02, rel=tolerance), name
            assert abs(parameter.mean().item()) < 0.02 * tolerance, name
    assert len(scales) == (4 + 5 if norm in ("batch", "renorm", "group") else 0)
    if scales:
        every = torch.cat(scales)
        assert every.mean().item() == pytest.approx(1.0, abs=0.004)
        assert every.std().item() == pytest.approx(0.02, rel=0.15)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_gradients_reach_every_parameter(sampling: str, norm: str) -> None:
    model = liven(build(sampling=sampling, norm=norm, num_downs=5)).train()
    model(noise(2, 3, 64, 64)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        # A constant before an instance norm cancels: that bias has no gradient but rounding.
        cancels = norm == "instance" and name.endswith("conv.bias")
        assert cancels or parameter.grad.abs().max() > 1e-9, name


# --- same parameters -----------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
def test_every_sampling_has_the_same_parameters(norm: str) -> None:
    strided = build(norm=norm, sampling="strided").state_dict()
    shapes = {name: tensor.shape for name, tensor in strided.items()}
    for sampling, filter, padding in itertools.product(SAMPLINGS, FILTERS, PADDINGS):
        other = build(1, norm=norm, sampling=sampling, filter=filter, padding=padding)
        state = other.state_dict()
        assert {name: tensor.shape for name, tensor in state.items()} == shapes
        assert list(state) == list(strided)
        other.load_state_dict(strided, strict=True)
        assert all(torch.equal(strided[name], value) for name, value in other.state_dict().items())


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_taps_are_in_no_state_dict(sampling: str) -> None:
    names = build(sampling=sampling, norm="batch").state_dict()
    entries = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
    assert {name.split(".")[0] for name in names} == {"encoder", "decoder"}
    assert {name.split(".")[2] for name in names} == {"conv", "norm"}
    assert {name.split(".")[3] for name in names} == entries


# --- no displacement -----------------------------------------------------------------------------


def displacement(sampling: str, filter: str, padding: str, phase: tuple[int, int]) -> Tensor:
    """How far a level down and a level up move an impulse's centroid, (dy, dx) in px."""
    down, up = down_level(sampling, filter, padding), up_level(sampling, filter, padding)
    nn.init.constant_(down.conv.weight, 1 / 16)  # positive throughout, so ReLUs are the identity
    nn.init.constant_(up.conv.weight, 1 / 16)
    x = torch.zeros(1, 1, 48, 48, dtype=torch.float64)
    place = (24 + phase[0], 24 + phase[1])
    x[0, 0, *place] = 1
    with torch.no_grad():
        y = up(down(x))[0, 0]
    grid = torch.arange(48, dtype=torch.float64)
    return torch.stack([y.sum(1) @ grid, y.sum(0) @ grid]) / y.sum() - torch.tensor(place)


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("filter", FILTERS)
def test_a_level_down_and_up_displaces_nothing(sampling: str, filter: str) -> None:
    for padding in PADDINGS:
        phases = itertools.product((0, 1), (0, 1))
        mean = sum(displacement(sampling, filter, padding, phase) for phase in phases) / 4
        torch.testing.assert_close(mean, torch.zeros_like(mean), **EXACT)


@pytest.mark.parametrize("sampling", ANTI_ALIASED)
@pytest.mark.parametrize("filter", [name for name in FILTERS if name != "rect2"])
@pytest.mark.parametrize("phase", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_no_phase_alone_is_displaced(sampling: str, filter: str, phase: tuple[int, int]) -> None:
    moved = displacement(sampling, filter, "zeros", phase)
    torch.testing.assert_close(moved, torch.zeros_like(moved), **EXACT)


# --- same operator -------------------------------------------------------------------------------


def zero_insert(x: Tensor) -> Tensor:
    grid = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    grid[..., ::2, ::2] = x
    return grid


def wrap(x: Tensor, before: int, after: int) -> Tensor:
    return F.pad(x, (before, after, before, after), mode="circular")


def circular_blur(x: Tensor, filter: str, *, upward: bool) -> Tensor:
    """Blur at stride 1; an even filter reaches further back going up, further on going down."""
    taps = torch.tensor(binomial_taps(filter), dtype=x.dtype)
    short, long = (len(taps) - 1) // 2, len(taps) // 2
    x = wrap(x, *((long, short) if upward else (short, long)))
    kernel = torch.outer(taps, taps).expand(x.shape[1], 1, -1, -1)
    return F.conv2d(x, kernel, groups=x.shape[1])


def dense_conv(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The conv that follows zero insertion in place of a transposed conv: 2 before, 1 after."""
    return F.conv2d(wrap(x, 2, 1), weight.flip(2, 3).transpose(0, 1), bias)


@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("sampling", ["blur", "preblur"])
def test_blurring_the_transposed_conv_is_blurring_the_inserted_zeros(sampling: str, filter: str) -> None:
    """Everywhere on a circular map, and away from the borders for every other padding."""
    x = noise(1, 3, 12, 14)
    for padding in PADDINGS:
        level = up_level(sampling, filter, padding, channels=3, bias=True)
        nn.init.normal_(level.conv.bias)
        blurred = circular_blur(zero_insert(F.relu(x)), filter, upward=True)
        expected = dense_conv(blurred, level.conv.weight, level.conv.bias)
        margin = 0 if padding == "circular" else 6
        inside = (..., slice(margin, 24 - margin), slice(margin, 28 - margin))
        torch.testing.assert_close(level(x)[inside], expected[inside], **EXACT)


@pytest.mark.parametrize("filter", FILTERS)
def test_blur_late_is_zeros_blur_relu_conv(filter: str) -> None:
    x = noise(1, 3, 12, 14)
    for padding in PADDINGS:
        level = up_level("blur_late", filter, padding, channels=3, bias=True)
        nn.init.normal_(level.conv.bias)
        late = F.relu(circular_blur(zero_insert(x), filter, upward=True))
        expected = dense_conv(late, level.conv.weight, level.conv.bias)
        margin = 0 if padding == "circular" else 6
        inside = (..., slice(margin, 24 - margin), slice(margin, 28 - margin))
        torch.testing.assert_close(level(x)[inside], expected[inside], **EXACT)


@pytest.mark.parametrize("filter", FILTERS)
def test_blur_late_is_blur_where_no_relu_bites(filter: str) -> None:
    x = noise(1, 3, 8, 8).abs()
    late = up_level("blur_late", filter, "circular", channels=3)
    early = up_level("blur", filter, "circular", channels=3)
    torch.testing.assert_close(late(x), early(x), **EXACT)


@pytest.mark.parametrize("filter", FILTERS)
def test_preblur_is_blur_pool_after_the_dense_conv(filter: str) -> None:
    """A blur and a conv commute: with nothing between them both samplings are one operator."""
    x = noise(1, 2, 12, 10).abs()
    levels = [down_level(name, filter, "circular", channels=2) for name in ("preblur", "blur")]
    with torch.no_grad():
        for level in levels:
            level.conv.weight.abs_()  # a positive map passes the LeakyReLU unchanged
    torch.testing.assert_close(levels[0](x), levels[1](x), **EXACT)


@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("sampling", ["blur", "blur_late"])
def test_a_blurred_level_down_is_conv_leaky_relu_blur_subsample(sampling: str, filter: str) -> None:
    """With the dense conv padded 1 before and 2 after: at even samples it is the strided one."""
    level = down_level(sampling, filter, "circular", channels=2)
    x = noise(1, 2, 12, 10)
    dense = F.conv2d(wrap(x, 1, 2), level.conv.weight)
    strided = F.conv2d(wrap(x, 1, 1), level.conv.weight, stride=2)
    torch.testing.assert_close(dense[..., ::2, ::2], strided, **EXACT)
    expected = circular_blur(F.leaky_relu(dense, 0.2), filter, upward=False)[..., ::2, ::2]
    torch.testing.assert_close(level(x), expected, **EXACT)


def test_late_levels_are_the_outermost() -> None:
    """The rest of the decoder is that of `blur`; weights, and so checkpoints, are the same."""
    x, networks = noise(1, 3, 16, 16), {}
    for late_levels in (None, 1, 2, 3, 4):
        networks[late_levels] = liven(build(sampling="blur_late", late_levels=late_levels))
    blur = liven(build(sampling="blur"))
    for late_levels, network in networks.items():
        late = [level.late for level in reversed(network.decoder)]
        assert late == [level < (late_levels or 4) for level in range(4)]
        assert network.state_dict().keys() == blur.state_dict().keys()
    outputs = [network(x) for network in (*networks.values(), blur)]
    assert torch.equal(outputs[0], outputs[-2])  # all four
    for one, other in itertools.pairwise(outputs[1:]):
        assert (one - other).abs().max() > 1e-3
    assert torch.equal(build(sampling="blur", late_levels=2)(x), build(sampling="blur")(x))
    with pytest.raises(ValueError, match="late_levels must be at least 1, not 0"):
        UNetGenerator(ngf=2, sampling="blur_late", late_levels=0)


# --- borders -------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", DC_PADDINGS)
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_a_constant_stays_constant_down_to_the_border(sampling: str, padding: str) -> None:
    for filter, size in itertools.product(FILTERS, [(2, 2), (2, 4), (6, 4), (12, 16)]):
        level = down_level(sampling, filter, padding, channels=3)
        y = level(noise(1, 3, 1, 1).expand(1, 3, *size))
        torch.testing.assert_close(y, y[..., :1, :1].expand_as(y), **EXACT)


@pytest.mark.parametrize("padding", DC_PADDINGS)
@pytest.mark.parametrize("sampling", ANTI_ALIASED)
@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 2), (3, 1), (5, 4), (8, 8)])
def test_a_constant_stays_constant_up_to_the_border(
    sampling: str, padding: str, size: tuple[int, int]
) -> None:
    """Also where the transposed conv alone would draw a checkerboard: the blur takes it away."""
    for filter in FILTERS:
        level = up_level(sampling, filter, padding, channels=3)
        y = level(noise(1, 3, 1, 1).abs().expand(1, 3, *size))
        torch.testing.assert_close(y, y[..., :1, :1].expand_as(y), **EXACT)


@pytest.mark.parametrize("padding", DC_PADDINGS)
def test_a_plain_level_up_draws_its_checkerboard_up_to_the_border(padding: str) -> None:
    for size in [(1, 1), (2, 2), (3, 1), (5, 4)]:
        level = up_level("strided", "bin5", padding, channels=3)
        y = level(noise(1, 3, 1, 1).abs().expand(1, 3, *size))
        tile = y[..., :2, :2].repeat(1, 1, *size)
        torch.testing.assert_close(y, tile, **EXACT)


# --- sizes and channels --------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:a circular generator")
@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("padding", PADDINGS)
def test_any_size_comes_back(sampling: str, padding: str) -> None:
    model = build(sampling=sampling, padding=padding)
    with torch.no_grad():
        for size in [(1, 1), (1, 40), (5, 3), (16, 16), (17, 31), (37, 64), (33, 2)]:
            y = model(noise(2, 3, *size))
            assert y.shape == (2, 3, *size)
            assert torch.isfinite(y).all()


@settings(deadline=None, max_examples=15, derandomize=True)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    num_downs=st.integers(1, 5),
    sampling=st.sampled_from(SAMPLINGS),
    filter=st.sampled_from(list(FILTERS)),
    padding=st.sampled_from(PADDINGS),
)
def test_any_combination_keeps_the_size(
    size: tuple[int, int], num_downs: int, sampling: str, filter: str, padding: str
) -> None:
    model = build(ngf=1, num_downs=num_downs, sampling=sampling, filter=filter, padding=padding)
    with torch.no_grad():
        y = model(noise(1, 3, *size))
    assert y.shape == (1, 3, *size)
    assert torch.isfinite(y).all()


def completed(x: Tensor, *size: int) -> Tensor:
    """Look up every row and column: mirrored after the last one, repeated on an axis too short to mirror."""
    for axis, length in zip((2, 3), size, strict=True):
        have = x.shape[axis]
        extra = length - have
        mirrored = [have - 2 - i for i in range(extra)]
        repeated = [have - 1] * extra
        index = [*range(have), *(mirrored if extra < have else repeated)]
        x = x.index_select(axis, torch.tensor(index))
    return x


@pytest.mark.parametrize("size", [(37, 64), (64, 41), (18, 31), (17, 17), (9, 9), (5, 3), (8, 30), (1, 1)])
def test_odd_maps_are_completed_level_by_level(size: tuple[int, int]) -> None:
    model = liven(build())
    x = noise(1, 3, *size)
    with torch.no_grad():
        y = completed(x, *(max(side, 16) for side in size))
        skips = []
        for down in model.encoder:
            skips.append(y)
            y = down(completed(y, *(side + side % 2 for side in y.shape[2:])))
        for up in model.decoder:
            y, before = up(y), skips.pop()
            y = torch.cat([before, y[..., : before.shape[2], : before.shape[3]]], dim=1)
        y = y[:, before.shape[1] :]  # nothing joins the input itself
        expected = torch.tanh(y)[..., : size[0], : size[1]]
        torch.testing.assert_close(model(x), expected, rtol=0, atol=0)


def test_no_size_grows_by_more_than_a_row_a_level() -> None:
    model = build(ngf=1, num_downs=8)
    seen: list[tuple[int, int]] = []
    for level in model.encoder:
        level.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape[2:])))
    with torch.no_grad():
        model(noise(1, 3, 288, 600))
    # 288 / 32 = 9 and 600 / 8 = 75 are the first odd ones.
    assert [rows for rows, _ in seen] == [288, 144, 72, 36, 18, 10, 6, 4]
    assert [columns for _, columns in seen] == [600, 300, 150, 76, 38, 20, 10, 6]


@pytest.mark.parametrize(("in_channels", "out_channels"), [(1, 1), (1, 3), (3, 1), (12, 5)])
def test_channels(in_channels: int, out_channels: int) -> None:
    for sampling in SAMPLINGS:
        model = build(in_channels=in_channels, out_channels=out_channels, sampling=sampling)
        assert model(noise(1, in_channels, 16, 16)).shape == (1, out_channels, 16, 16)


def test_outputs_lie_in_the_range_of_tanh() -> None:
    y = liven(build())(100 * noise(1, 3, 32, 32))
    assert y.abs().max() <= 1


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_images_of_a_batch_do_not_see_each_other(sampling: str) -> None:
    model = liven(build(sampling=sampling))
    x = noise(3, 3, 16, 16)
    apart = torch.cat([model(x[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(model(x), apart, **EXACT)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_the_smallest_maps_train(sampling: str) -> None:
    """At 2 ** num_downs px the innermost map is one sample: no norm may stand there."""
    for norm, padding in itertools.product(NORMS, PADDINGS):
        model = build(sampling=sampling, norm=norm, padding=padding).train()
        model(noise(1, 3, 16, 16)).sum().backward()


# --- shifts --------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=12, derandomize=True)
@given(
    steps=st.tuples(st.integers(-3, 3), st.integers(-3, 3)),
    sampling=st.sampled_from(SAMPLINGS),
    filter=st.sampled_from(list(FILTERS)),
)
def test_circular_networks_commute_with_shifts_by_whole_levels(
    steps: tuple[int, int], sampling: str, filter: str
) -> None:
    model = liven(build(sampling=sampling, filter=filter, padding="circular", num_downs=3))
    x, shift = noise(1, 3, 24, 32), (8 * steps[0], 8 * steps[1])
    with torch.no_grad():
        rolled = model(torch.roll(x, shift, (2, 3)))
        expected = torch.roll(model(x), shift, (2, 3))
    torch.testing.assert_close(rolled, expected, rtol=0, atol=1e-9)


def drift(model: nn.Module, x: Tensor) -> float:
    """Mean squared change of the output under odd rolls, over the output's variance."""
    with torch.no_grad():
        y = model(x)
        errors = [(model(torch.roll(x, d, 3)) - torch.roll(y, d, 3)).square().mean() for d in (1, 3, 5, 7)]
        return float(sum(errors) / 4 / y.var())


@pytest.mark.parametrize("sampling", ANTI_ALIASED)
def test_blurred_networks_are_more_stable_under_odd_shifts(sampling: str) -> None:
    """With the same weights, as initialised."""
    x = noise(2, 3, 64, 64)
    arguments = {"padding": "circular", "ngf": 8}
    assert drift(build(sampling=sampling, **arguments), x) < 0.5 * drift(
        build(sampling="strided", **arguments), x
    )


# --- bad arguments -------------------------------------------------------------------------------


@pytest.mark.parametrize("argument", ["sampling", "filter", "padding", "norm"])
@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("num_downs", [1, 4])
def test_unknown_names_are_named(argument: str, sampling: str, num_downs: int) -> None:
    """Also where the network would have no use for them: a typo must not go unnoticed."""
    arguments = {"sampling": sampling, "num_downs": num_downs, argument: "typo"}
    with pytest.raises(ValueError, match=f"{argument} 'typo' is unknown; expected one of"):
        UNetGenerator(ngf=2, **arguments)


@pytest.mark.parametrize("argument", ["in_channels", "out_channels", "ngf", "num_downs"])
@pytest.mark.parametrize("count", [0, -3])
def test_counts_below_one_are_named(argument: str, count: int) -> None:
    with pytest.raises(ValueError, match=f"{argument} must be at least 1, not {count}"):
        UNetGenerator(**{"ngf": 2, "num_downs": 2, argument: count})


@pytest.mark.parametrize("shape", [(1, 4, 16, 16), (3, 16, 16), (1, 1, 16, 16), (1, 3, 16, 16, 1)])
def test_a_wrong_input_is_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"\(B, 3, H, W\), got \({', '.join(map(str, shape))}\)"):
        build()(noise(*shape))


def test_a_circular_generator_says_when_exactness_is_lost() -> None:
    generator = UNetGenerator(ngf=2, num_downs=3, padding="circular").eval()
    with pytest.warns(UserWarning, match="multiples of 8 px only; 12 x 16 px"):
        generator(torch.zeros(1, 3, 12, 16))
    generator(torch.zeros(1, 3, 8, 16))
