"""The retrofit against the layers it is made of, and on torchvision's own networks: shapes, weights, laws."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from steadypix.eval.torchvision_shim import import_torchvision
from steadypix.gen.layers.gated_pool import GatedPool2d, gate_pools
from steadypix.gen.layers.resample import BlurPool2d, MaxBlurPool2d
from steadypix.gen.retrofit.antialias import Retrofit, antialias
from steadypix.gen.retrofit.circular import make_circular
from steadypix.gen.retrofit.dense import make_dense

pytestmark = pytest.mark.slow

FILTERS = ["rect2", "tri3", "bin5"]


def picture(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def torchvision_model(name: str, **words: Any) -> nn.Module:
    torch.manual_seed(0)
    return getattr(import_torchvision("torchvision.models"), name)(weights=None, **words).eval()


# ---- each layer against its statement ---------------------------------------------------------------


@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("kernel", [2, 3])
@pytest.mark.parametrize("size", [(8, 8), (9, 12)])
def test_max_pool_becomes_max_blur_pool(filter: str, kernel: int, size: tuple[int, int]) -> None:
    pool = nn.MaxPool2d(kernel, 2, padding=kernel // 2 if kernel == 3 else 0)
    x = picture(2, 3, *size)
    shape = pool(x).shape
    model = nn.Sequential(pool)
    antialias(model, filter=filter)
    dense = F.max_pool2d(x, kernel, 1, kernel // 2 if kernel == 3 else 0)
    expected = BlurPool2d(3, filter=filter).reference(dense)
    assert model(x).shape == shape
    torch.testing.assert_close(model(x), expected)


def slow_max_blur_pool(x: Tensor, taps: list[float]) -> Tensor:
    """Zhang's layer as loops over samples: the maximum of 2 x 2, then taps at every second sample."""
    height, width = x.shape[-2:]

    def reflect(place: int, size: int) -> int:
        place = abs(place)
        return place if place < size else 2 * (size - 1) - place

    def dense(row: int, column: int) -> Tensor:
        rows = (reflect(row, height), reflect(row + 1, height))
        columns = (reflect(column, width), reflect(column + 1, width))
        return torch.stack([x[:, :, r, c] for r in rows for c in columns]).amax(0)

    grid = [[dense(r, c) for c in range(width)] for r in range(height)]
    first = (len(taps) - 1) // 2
    out = torch.zeros(*x.shape[:2], -(-height // 2), -(-width // 2))
    for r in range(out.shape[-2]):
        for c in range(out.shape[-1]):
            for i, a in enumerate(taps):
                for j, b in enumerate(taps):
                    row, column = reflect(2 * r + i - first, height), reflect(2 * c + j - first, width)
                    out[:, :, r, c] += a * b * grid[row][column]
    return out


@pytest.mark.parametrize(
    ("filter", "taps"), [("rect2", [1, 1]), ("tri3", [1, 2, 1]), ("bin5", [1, 4, 6, 4, 1])]
)
def test_max_blur_pool_equals_the_slow_reference(filter: str, taps: list[int]) -> None:
    x = picture(2, 3, 9, 8)
    expected = slow_max_blur_pool(x, [tap / sum(taps) for tap in taps])
    torch.testing.assert_close(MaxBlurPool2d(3, filter=filter)(x), expected)
    torch.testing.assert_close(MaxBlurPool2d(None, filter=filter)(x), expected)


@pytest.mark.parametrize("filter", FILTERS)
def test_conv_is_blurred_after_its_activation(filter: str) -> None:
    """conv, norm, ReLU, stride: equation 8 of the paper."""
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4).eval()
    model = nn.Sequential(conv, norm, nn.ReLU())
    x = picture(2, 3, 10, 11)
    shape = model(x).shape
    retrofit = antialias(model, filter=filter)
    dense = norm(F.conv2d(x, conv.weight, conv.bias, padding=1)).relu()
    assert model(x).shape == shape
    torch.testing.assert_close(model(x), BlurPool2d(4, filter=filter).reference(dense))
    assert str(retrofit).splitlines()[0] == "0  Conv2d  1/2  blurred after 2"


@pytest.mark.parametrize("size", [8, 9])
def test_average_pool_becomes_blur_pool(size: int) -> None:
    model = nn.Sequential(nn.AvgPool2d(2))
    x = picture(1, 2, size, size)
    before = model(x)
    antialias(model, filter="bin5")
    even = x[..., : size // 2 * 2, : size // 2 * 2]
    torch.testing.assert_close(model(x), BlurPool2d(2).reference(even))
    # Rect-2 is the average pool itself, as the paper notes.
    plain = nn.Sequential(nn.AvgPool2d(2))
    antialias(plain, filter="rect2")
    torch.testing.assert_close(plain(x), before)


def test_a_global_average_stays_one() -> None:
    model = nn.Sequential(nn.AvgPool2d(8))
    x = picture(1, 2, 8, 8)
    before = model(x)
    antialias(model)
    torch.testing.assert_close(model(x), before)


def test_a_transposed_conv_is_blurred_after() -> None:
    torch.manual_seed(0)
    up = nn.ConvTranspose2d(2, 3, 4, stride=2, padding=1)
    model = nn.Sequential(up)
    x = picture(1, 2, 5, 6)
    expected = BlurPool2d(3, stride=1, upward=True).reference(up(x))
    antialias(model)
    torch.testing.assert_close(model(x), expected)


def test_stride_4_is_blurred_in_two_steps() -> None:
    conv = nn.Conv2d(1, 1, 1, stride=4, bias=False)
    nn.init.ones_(conv.weight)
    antialias(conv)
    x = picture(1, 1, 17, 16)
    once = BlurPool2d(1)
    torch.testing.assert_close(conv(x), once(once(x)))


def test_preblur_keeps_strides() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 3, 3, stride=2, padding=1)
    model = nn.Sequential(conv, nn.ReLU())
    x = picture(1, 2, 8, 8)
    expected = F.conv2d(BlurPool2d(2, stride=1)(x), conv.weight, conv.bias, stride=2, padding=1).relu()
    retrofit = antialias(model, sampling="preblur")
    torch.testing.assert_close(model(x), expected)
    assert conv.stride == (2, 2)
    assert retrofit.changes[0].blur == "blurred before"


class Branches(nn.Module):
    """A ReLU that is used twice, so that the blur can only go to the module that follows its first use."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(2, 4, 3, stride=2, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.shortcut = nn.Conv2d(2, 4, 1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.conv(self.relu(self.down(x))) + self.shortcut(x))


def test_a_residual_block() -> None:
    torch.manual_seed(0)
    model = Branches()
    x = picture(1, 2, 9, 8)
    shape = model(x).shape
    retrofit = antialias(model)
    blur = BlurPool2d(None)
    deep = model.conv._conv_forward(
        blur.reference(F.conv2d(x, model.down.weight, model.down.bias, padding=1).relu()),
        model.conv.weight,
        model.conv.bias,
    )
    short = F.conv2d(blur.reference(x), model.shortcut.weight, model.shortcut.bias)
    assert model(x).shape == shape
    torch.testing.assert_close(model(x), (deep + short).relu())
    assert [change.blur for change in retrofit.changes] == [
        "blurred after its activation, before conv",
        "blurred before",
    ]


class DataDependent(nn.Module):
    """Control flow that no symbolic trace can follow."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x if x.sum() > 0 else -x).relu()


def test_the_blur_goes_behind_an_activation_that_is_a_function() -> None:
    torch.manual_seed(0)
    model = DataDependent()
    x = picture(1, 1, 8, 8).abs()
    retrofit = antialias(model)
    dense = F.conv2d(x, model.conv.weight, model.conv.bias, padding=1)
    torch.testing.assert_close(model(x), BlurPool2d(1)(dense.relu()))
    assert [change.blur for change in retrofit.changes] == ["blurred after relu, a function"]


def test_where_the_activation_is_out_of_reach_the_blur_follows_the_conv_and_says_so() -> None:
    class Twice(DataDependent):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).relu() + 1

    torch.manual_seed(0)
    model = Twice()
    x = picture(1, 1, 8, 8).abs()
    retrofit = antialias(model)
    dense = F.conv2d(x, model.conv.weight, model.conv.bias, padding=1)
    torch.testing.assert_close(model(x), BlurPool2d(1)(dense).relu() + 1)
    assert [change.blur for change in retrofit.changes] == [
        "blurred after itself: its activation relu is called elsewhere, too"
    ]


# ---- any network ------------------------------------------------------------------------------------


NETWORKS = ["resnet18", "vgg11_bn", "densenet121", "mobilenet_v2", "squeezenet1_1", "shufflenet_v2_x0_5"]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("sampling", ["blur", "preblur"])
def test_torchvision_networks_keep_weights_names_and_shapes(name: str, sampling: str) -> None:
    model = torchvision_model(name)
    state = copy.deepcopy(model.state_dict())
    parameters = [id(parameter) for parameter in model.parameters()]
    shapes = shapes_of(model, picture(1, 3, 75, 64))
    retrofit = antialias(model, filter="tri3", sampling=sampling)
    assert retrofit.proven
    assert retrofit.changes
    # At 64 px a VGG's maps are smaller than what its adaptive pool makes of them.
    assert [item.module for item in retrofit.left] == (["avgpool"] if name == "vgg11_bn" else [])
    after = shapes_of(model, picture(1, 3, 75, 64))
    assert after == shapes
    assert [id(parameter) for parameter in model.parameters()] == parameters  # an optimiser keeps them
    assert list(model.state_dict()) == list(state)
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[key])
    plain = torchvision_model(name)
    plain.load_state_dict(model.state_dict())


def shapes_of(model: nn.Module, x: Tensor) -> dict[str, Any]:
    """Shapes at the ends of blocks and of the network: inside a block, a dense conv is larger by design."""
    shapes: dict[str, Any] = {}

    def note(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            shapes[name] = tuple(output.shape)

        return hook

    handles = [
        module.register_forward_hook(note(name))
        for name, module in model.named_modules()
        if name.count(".") < 2 and list(module.children()) and isinstance(module, nn.Sequential) and name
        and "blur" not in name
    ]  # fmt: skip
    with torch.no_grad():
        shapes[""] = tuple(model(x).shape)
    for handle in handles:
        handle.remove()
    return shapes


def test_resnet_is_changed_where_the_paper_says() -> None:
    retrofit = antialias(torchvision_model("resnet18"))
    found = {change.module: change.blur for change in retrofit.changes}
    assert found["conv1"] == "blurred after relu"
    assert found["maxpool"] == "blurred after"
    assert found["layer2.0.conv1"] == "blurred after its activation, before layer2.0.conv2"
    assert found["layer2.0.downsample.0"] == "blurred before"
    assert len(found) == 8


def test_pool_window_and_shortcut_say_how_antialiased_cnns_does_it() -> None:
    pool, x = nn.MaxPool2d(3, 2, 1), picture(1, 2, 8, 12)
    shape = pool(x).shape
    antialias(nn.Sequential(pool), pool_window=2)
    torch.testing.assert_close(pool(x), BlurPool2d(2)(F.max_pool2d(x, 2, 1)))
    assert pool(x).shape == shape

    torch.manual_seed(0)
    before, after = Branches(), Branches()
    after.load_state_dict(before.state_dict())
    places = [antialias(model, shortcut=where).changes[1].blur for model, where in
              ((before, "before"), (after, "after"))]  # fmt: skip
    assert places == ["blurred before", "blurred after itself: add follows it"]
    assert hasattr(after.shortcut, "blur_after")
    torch.testing.assert_close(after(x), before(x))  # a blur and a 1x1 conv commute


def test_skip_leaves_modules_alone() -> None:
    model = torchvision_model("resnet18")
    retrofit = antialias(model, skip=("conv1", "layer4"))
    assert {change.module.partition(".")[0] for change in retrofit.changes} == {"maxpool", "layer2", "layer3"}
    with pytest.raises(ValueError, match=r"no module 'layer9'"):
        antialias(model, skip=("layer9",))


@pytest.mark.parametrize("sampling", ["blur", "preblur"])
def test_twice_is_once(sampling: str) -> None:
    resnet = torchvision_model("resnet18")
    hourglass = nn.Sequential(nn.Conv2d(3, 2, 3, 2, 1), nn.ReLU(), nn.ConvTranspose2d(2, 3, 4, 2, 1))
    for model in (resnet, hourglass):
        antialias(model, sampling=sampling)
        x = picture(1, 3, 64, 64)
        with torch.no_grad():
            before = model(x)
            again = antialias(model, sampling=sampling)
            assert again.changes == ()
            assert torch.equal(model(x), before)


def test_a_blur_of_the_conv_before_is_not_a_conv_s_own() -> None:
    """The second conv, left alone at first, carries what the first is blurred by."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(1, 2, 3, stride=2, padding=1)
            self.second = nn.Conv2d(2, 2, 3, stride=2, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x).relu()).relu()

    torch.manual_seed(0)
    at_once = Twice()
    in_steps = copy.deepcopy(at_once)
    antialias(at_once)
    assert [change.module for change in antialias(in_steps, skip=("second",)).changes] == ["first"]
    assert [change.module for change in antialias(in_steps).changes] == ["second"]
    x = picture(1, 1, 16, 16)
    torch.testing.assert_close(in_steps(x), at_once(x))


def test_gradients_reach_every_parameter() -> None:
    model = torchvision_model("resnet18").train()
    antialias(model)
    model(picture(2, 3, 64, 64)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_copies_keep_their_blurs() -> None:
    model = torchvision_model("resnet18")
    antialias(model)
    x = picture(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(copy.deepcopy(model)(x), model(x))


def test_export_sees_the_blurs() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3, stride=2, padding=1), nn.ReLU(), nn.MaxPool2d(2)).eval()
    antialias(model)
    x = picture(1, 1, 16, 16)
    program = torch.export.export(model, (x,))
    torch.testing.assert_close(program.module()(x), model(x))


def test_what_cannot_be_changed_is_said() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.uneven = nn.Conv2d(1, 1, 3, stride=(2, 1))
            self.indices = nn.MaxPool2d(2, return_indices=True)

        def forward(self, x: Tensor) -> Tensor:
            return F.avg_pool2d(F.lp_pool2d(self.indices(self.uneven(x))[0], 2, 2), 3, stride=1)

    retrofit: Retrofit = antialias(Functional())
    assert retrofit.changes == ()
    assert [(item.module, item.kind, item.reason) for item in retrofit.left] == [
        ("uneven", "Conv2d", "its strides 2 and 1 differ"),
        ("indices", "MaxPool2d", "it returns indices"),
        ("", "lp_pool2d", "it has no low-pass counterpart here"),
    ]


class Halve(nn.Module):
    """A pool in a class of its own, made of no other module."""

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, 2)


class Rare(nn.Module):
    """Made of no other module, and with control flow that depends on data."""

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, 2) if x.sum() > 0 else F.max_pool2d(-x, 2)


class PowerAverage(nn.Module):
    """Its stride is its fourth argument, where other pools have it as the third."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return F.lp_pool2d(x, 1, 3, self.stride)


NO_COUNTERPART = "it has no low-pass counterpart here"


@pytest.mark.parametrize(
    ("pool", "left"),
    [
        (PowerAverage(2), ("2", NO_COUNTERPART)),
        (PowerAverage(1), None),
        (nn.LPPool2d(2, 2), ("2", NO_COUNTERPART)),
        (nn.LPPool2d(2, 3, stride=1), None),
        (GatedPool2d(2), ("2", NO_COUNTERPART)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_pools_that_stay_are_said(pool: nn.Module, left: tuple[str, str] | None) -> None:
    """Whatever they are made of, and without the conv's activation going out of sight."""
    retrofit = antialias(nn.Sequential(nn.Conv2d(1, 1, 3, 2, 1), nn.ReLU(), pool))
    assert [(item.module, item.reason) for item in retrofit.left] == ([] if left is None else [left])
    assert [change.blur for change in retrofit.changes] == ["blurred after 1"]


@pytest.mark.parametrize("pool", [Halve(), Rare()], ids=lambda value: type(value).__name__)
def test_pools_that_are_functions_are_changed(pool: nn.Module) -> None:
    """Also where control flow depends on data, which no symbolic trace can follow."""
    model = nn.Sequential(pool)
    x = picture(1, 2, 9, 8).abs()
    retrofit = antialias(model)
    assert [(change.module, change.kind) for change in retrofit.changes] == [("0", "max_pool2d")]
    torch.testing.assert_close(model(x), BlurPool2d(2)(F.max_pool2d(x, 2, 1)))


@pytest.mark.parametrize(
    ("words", "culprit"),
    [
        ({"filter": "box9"}, "box9"),
        ({"padding": "mirror"}, "mirror"),
        ({"sampling": "late"}, "late"),
        ({"patches": "all"}, "all"),
        ({"shortcut": "beside"}, "beside"),
        ({"pool_window": 0}, "pool_window"),
    ],
)
def test_unknown_words(words: dict[str, Any], culprit: str) -> None:
    model = nn.Sequential(nn.MaxPool2d(2))
    with pytest.raises(ValueError, match=culprit):
        antialias(model, **words)
    assert model[0].stride == 2


@given(st.integers(0, 7), st.integers(0, 7), st.sampled_from(FILTERS))
@settings(max_examples=20, deadline=None)
def test_shifts_by_the_stride_commute(dx: int, dy: int, filter: str) -> None:
    """With circular borders, a shift by the whole stride moves the maps and nothing else."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, stride=2, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
    ).eval()
    antialias(model, filter=filter)
    make_circular(model)
    x = picture(1, 1, 32, 32)
    with torch.no_grad():
        moved = model(x.roll((4 * dy, 4 * dx), (-2, -1)))
        torch.testing.assert_close(moved, model(x).roll((dy, dx), (-2, -1)), atol=1e-6, rtol=1e-5)


def test_ceil_mode_keeps_its_size() -> None:
    for size in range(5, 14):
        for kernel, padding in ((2, 0), (3, 0), (3, 1)):
            pool = nn.MaxPool2d(kernel, 2, padding, ceil_mode=True)
            x = picture(1, 1, size, size + 1)
            shape = pool(x).shape
            antialias(pool)
            assert pool(x).shape == shape, (size, kernel, padding)


# ---- circular borders -------------------------------------------------------------------------------


def test_circular_pools_and_convs() -> None:
    torch.manual_seed(0)
    conv, pool = nn.Conv2d(1, 2, 3, padding=1), nn.MaxPool2d(3, 1, 1)
    model = nn.Sequential(conv, pool)
    x = picture(1, 1, 8, 8)
    wide = F.pad(x, (2, 2, 2, 2), mode="circular")
    expected = F.max_pool2d(F.conv2d(wide, conv.weight, conv.bias), 3, 1)
    make_circular(model)
    torch.testing.assert_close(model(x), expected)


@pytest.mark.parametrize(
    "pool",
    [
        GatedPool2d(3, stride=2, padding=1),
        nn.MaxPool2d(3, 1, 1, ceil_mode=True),
        nn.AvgPool2d(3, (1, 1), 1, ceil_mode=True),
    ],
    ids=lambda pool: type(pool).__name__,
)
def test_a_padded_pool_wraps(pool: Any) -> None:
    torch.manual_seed(0)
    if isinstance(pool, GatedPool2d):
        nn.init.normal_(pool.mask)
    without_padding = copy.deepcopy(pool)
    without_padding.padding = 0
    x = picture(2, 3, 8, 10)
    expected = without_padding(F.pad(x, (1, 1, 1, 1), mode="circular"))
    model = nn.Sequential(pool)
    for _ in range(2):  # the second changes nothing
        make_circular(model)
        torch.testing.assert_close(model(x), expected)


def test_a_padded_pool_that_rounds_up_cannot_wrap() -> None:
    model = nn.Sequential(nn.MaxPool2d(3, 2, 1, ceil_mode=True))
    with pytest.raises(ValueError, match="0: a pool with padding and ceil_mode"):
        make_circular(model)
    antialias(model)  # its stride is 1 now, but its blur continues the map as the pool would have done
    with pytest.raises(ValueError, match="0: a pool with padding and ceil_mode"):
        make_circular(model)


def test_a_transposed_conv_cannot_wrap() -> None:
    with pytest.raises(ValueError, match="0: a transposed conv"):
        make_circular(nn.Sequential(nn.ConvTranspose2d(1, 1, 4)))


# ---- dense evaluation -------------------------------------------------------------------------------


def test_dense_values_at_every_nth_place_are_the_strided_ones() -> None:
    """With circular borders this is exact everywhere."""
    model = torchvision_model("resnet18")
    make_circular(model)
    body = nn.Sequential(*list(model.children())[:-2])
    x = picture(1, 3, 64, 64)
    with torch.no_grad():
        strided = body(x)
        assert make_dense(body) == 32
        dense = body(x)
    assert dense.shape[-2:] == (64, 64)
    torch.testing.assert_close(dense[..., ::32, ::32], strided, atol=1e-4, rtol=1e-3)


def test_dense_pools_without_padding_shorten_the_map() -> None:
    """What is left is exact as far as no border reaches."""
    body = torchvision_model("vgg11").features[:7]
    x = picture(1, 3, 64, 64)
    with torch.no_grad():
        strided = body(x)
        assert make_dense(body) == 4
        dense = body(x)
    assert dense.shape[-2:] == (61, 61)
    torch.testing.assert_close(dense[..., :48:4, :48:4], strided[..., :12, :12], atol=1e-5, rtol=1e-4)


def test_dense_maps_move_with_the_input() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3, 2, 1), nn.ReLU(), nn.Conv2d(3, 3, 3, 2, 1)).eval()
    make_circular(model)
    make_dense(model)
    x = picture(1, 1, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(model(x.roll((1, 3), (-2, -1))), model(x).roll((1, 3), (-2, -1)))


@pytest.mark.parametrize(
    ("model", "culprit"),
    [
        (nn.Sequential(nn.Conv2d(1, 1, 3, 2), nn.AvgPool2d(2)), "average pool"),
        (nn.Sequential(nn.Conv2d(1, 1, 3, (2, 1))), "differ"),
        (nn.Sequential(nn.Conv2d(1, 1, 3), Halve()), "max_pool2d: a function"),
        (nn.Sequential(nn.Conv2d(1, 1, 3, 2), PowerAverage(1)), "lp_pool2d: a function"),
        (nn.Sequential(nn.Conv2d(1, 1, 3, 2), GatedPool2d(2)), "1: a gated pool cannot be dilated"),
        (nn.Sequential(nn.LPPool2d(2, 2)), "0: LPPool2d cannot be dense"),
        (nn.Sequential(nn.ConvTranspose2d(1, 1, 2, 2)), "0: ConvTranspose2d cannot be dense"),
        (Branches(), None),
    ],
)
def test_what_cannot_be_dense_is_said(model: nn.Module, culprit: str | None) -> None:
    if culprit is None:
        assert make_dense(model) == 2
        return
    with pytest.raises(ValueError, match=culprit):
        make_dense(model)


def test_what_cannot_be_dense_stays_as_it_is() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 3, 2), GatedPool2d(2))
    with pytest.raises(ValueError, match="gated"):
        make_dense(model)
    assert model[0].stride == (2, 2)


def test_a_gated_pool_before_all_strides_is_made_dense() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(GatedPool2d(3, stride=2, padding=1), nn.Conv2d(2, 3, 3, padding=1))
    nn.init.normal_(model[0].mask)
    make_circular(model)
    x = picture(1, 2, 12, 12)
    with torch.no_grad():
        strided = model(x)
        assert make_dense(model) == 2
        dense = model(x)
    assert dense.shape[-2:] == (12, 12)
    torch.testing.assert_close(dense[..., ::2, ::2], strided)


def test_antialiased_networks_are_not_made_dense() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 3, 2, 1), nn.MaxPool2d(2))
    antialias(model)
    with pytest.raises(ValueError, match="not anti-aliased"):
        make_dense(model)


# ---- gated pooling ----------------------------------------------------------------------------------


def test_gated_pool_against_loops() -> None:
    pool = GatedPool2d(2)
    nn.init.normal_(pool.mask)
    x = picture(2, 3, 6, 8)
    got = pool(x)
    for r in range(3):
        for c in range(4):
            window = x[..., 2 * r : 2 * r + 2, 2 * c : 2 * c + 2]
            gate = (window * pool.mask[0, 0]).sum((-2, -1)).sigmoid()
            expected = gate * window.amax((-2, -1)) + (1 - gate) * window.mean((-2, -1))
            torch.testing.assert_close(got[..., r, c], expected)


def test_gates_take_the_place_of_pools() -> None:
    model = torchvision_model("vgg11_bn")
    assert gate_pools(model) == [f"features.{place}" for place in (3, 7, 14, 21, 28)]
    assert not any(isinstance(module, nn.MaxPool2d) for module in model.modules())
    with pytest.raises(ValueError, match="cannot be"):
        GatedPool2d(0)


def test_gates_take_pools_whose_sides_are_stated_twice() -> None:
    x = picture(1, 2, 9, 8)
    for pool in (
        nn.MaxPool2d(2, stride=(2, 2)),
        nn.MaxPool2d((3, 3), 2, padding=(1, 1), dilation=(1, 1)),
        nn.AvgPool2d((2, 2)),
    ):
        model = nn.Sequential(pool)
        shape = model(x).shape
        assert gate_pools(model) == ["0"]
        assert model(x).shape == shape
    for pool in (
        nn.MaxPool2d((2, 3)),
        nn.MaxPool2d(2, stride=(2, 1)),
        nn.AvgPool2d(3, padding=(1, 0)),
        nn.MaxPool2d(2, dilation=(2, 2)),
    ):
        model = nn.Sequential(pool)
        assert gate_pools(model) == []
        assert model[0] is pool
