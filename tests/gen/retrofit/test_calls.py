"""Every change of resolution is found, whatever makes it: modules, functions, slices, code of others."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from steadypix.gen.layers.resample import BlurPool2d
from steadypix.gen.retrofit.antialias import Retrofit, antialias
from steadypix.gen.retrofit.blurs import dense_blur_of
from steadypix.gen.retrofit.circular import make_circular


def picture(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


class Calls(nn.Module):
    """A network whose own forward is a function, between two convs."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.first(x))


UP = BlurPool2d(None, stride=1, upward=True)
SAME = BlurPool2d(None, stride=1)
DOWN = BlurPool2d(None)
FOUR = dense_blur_of(None, "bin5", 4, "reflect", upward=True)
WEIGHT = picture(2, 4, 3, 3, seed=1)
PATCHES = picture(2, 4, 4, 4, seed=1)

CHANGED: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], str]] = {
    "max_pool2d": (lambda x: F.max_pool2d(x, 2), lambda x: DOWN(F.max_pool2d(x, 2, 1)), "blurred after"),
    "max_pool2d-keyword": (
        lambda x: F.max_pool2d(x, kernel_size=3, stride=2, padding=1),
        lambda x: DOWN(F.max_pool2d(x, 3, 1, 1)),
        "blurred after",
    ),
    "avg_pool2d": (
        lambda x: F.avg_pool2d(x, 3, 2, 1),
        lambda x: DOWN(F.avg_pool2d(x, 3, 1, 1)),
        "blurred after",
    ),
    "avg_pool2d-all keywords": (
        lambda x: F.avg_pool2d(input=x, kernel_size=3, stride=2, padding=1),
        lambda x: DOWN(F.avg_pool2d(x, 3, 1, 1)),
        "blurred after",
    ),
    "avg_pool2d-2": (
        lambda x: F.avg_pool2d(x, 2),
        lambda x: DOWN(x[..., : x.shape[-2] // 2 * 2, : x.shape[-1] // 2 * 2]),
        "blurred in its place",
    ),
    "conv2d": (
        lambda x: F.conv2d(x, WEIGHT, stride=2, padding=1),
        lambda x: DOWN(F.conv2d(x, WEIGHT, padding=1)),
        "blurred after itself: a function",
    ),
    "conv_transpose2d": (
        lambda x: F.conv_transpose2d(x, WEIGHT.transpose(0, 1), stride=2),
        lambda x: UP(F.conv_transpose2d(x, WEIGHT.transpose(0, 1), stride=2)),
        "blurred after",
    ),
    "interpolate-nearest": (
        lambda x: F.interpolate(x, scale_factor=2),
        lambda x: UP(F.interpolate(x, scale_factor=2)),
        "blurred after",
    ),
    "interpolate-bilinear": (
        lambda x: F.interpolate(x, (2 * x.shape[-2], 2 * x.shape[-1]), mode="bilinear", align_corners=False),
        lambda x: UP(F.interpolate(x, scale_factor=2, mode="bilinear")),
        "blurred after",
    ),
    "interpolate-half": (
        lambda x: F.interpolate(x, scale_factor=0.5),
        lambda x: F.interpolate(SAME(x), scale_factor=0.5),
        "blurred before",
    ),
    "pixel_shuffle": (lambda x: F.pixel_shuffle(x, 2), lambda x: UP(F.pixel_shuffle(x, 2)), "blurred after"),
    "slice with a step": (lambda x: x[..., ::2, 1::2], lambda x: SAME(x)[..., ::2, 1::2], "blurred before"),
    "slice with a step-last": (
        lambda x: x.permute(0, 2, 3, 1)[:, 1::2, ::2],
        lambda x: SAME(x).permute(0, 2, 3, 1)[:, 1::2, ::2],
        "blurred before",
    ),
}


@pytest.mark.parametrize("name", CHANGED)
def test_functions_are_changed(name: str) -> None:
    torch.manual_seed(0)
    function, expected, where = CHANGED[name]
    model = Calls(function)
    retrofit = antialias(model)
    assert [(item.module, item.kind, item.blur) for item in retrofit.changes] == [
        ("", name.partition("-")[0], where)
    ]
    assert retrofit.proven
    assert not retrofit.left
    for size in ((16, 16), (15, 18), (33, 20)):  # sizes that were not on the probe
        x = picture(1, 3, *size)
        plain = model.first(x)
        torch.testing.assert_close(model(x), expected(plain))
        assert model(x).shape == function(plain).shape
    assert antialias(model).changes == ()
    copied = copy.deepcopy(model)
    assert torch.equal(copied(x), model(x))
    retrofit.undo()
    assert torch.equal(model(x), function(model.first(x)))


@pytest.mark.parametrize("named", [False, True])
def test_each_factor_of_one_function_has_a_blur_of_its_own(named: bool) -> None:
    def resized(x: Tensor, factor: float) -> Tensor:
        if named:
            return F.interpolate(input=x, size=[round(side * factor) for side in x.shape[-2:]])
        return F.interpolate(x, None, factor)

    model = Calls(lambda x: resized(resized(resized(resized(x, 4), 0.5), 1), 2))
    retrofit = antialias(model)
    assert [(item.stride, item.upward, item.blur) for item in retrofit.changes] == [
        (4, True, "blurred after"),
        (2, False, "blurred before"),
        (2, True, "blurred after"),
    ]
    x = picture(1, 3, 20, 24)
    half = resized(SAME(FOUR(resized(model.first(x), 4))), 0.5)
    torch.testing.assert_close(model(x), UP(resized(half, 2)))


def test_shuffles_by_different_factors_have_blurs_of_their_own() -> None:
    model = Calls(lambda x: F.pixel_shuffle(F.pixel_shuffle(torch.cat([x] * 16, 1), 2), 4))
    antialias(model)
    x = picture(1, 3, 8, 8)
    once = UP(F.pixel_shuffle(torch.cat([model.first(x)] * 16, 1), 2))
    torch.testing.assert_close(model(x), FOUR(F.pixel_shuffle(once, 4)))


def test_pixel_unshuffle_is_blurred_before() -> None:
    for model in (Calls(lambda x: F.pixel_unshuffle(x, 2)), nn.Sequential(nn.PixelUnshuffle(2))):
        first = model.first if isinstance(model, Calls) else nn.Identity()
        x = picture(1, 3, 16, 12)
        assert [item.blur for item in antialias(model).changes] == ["blurred before"]
        torch.testing.assert_close(model(x), F.pixel_unshuffle(SAME(first(x)), 2))


@pytest.mark.parametrize(
    "layer",
    [nn.Upsample(scale_factor=2), nn.Upsample(scale_factor=2, mode="bilinear"), nn.PixelShuffle(2)],
    ids=["nearest", "bilinear", "shuffle"],
)
def test_upsampling_modules_are_blurred_after(layer: nn.Module) -> None:
    plain = copy.deepcopy(layer)
    x = picture(1, 4, 5, 6)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), layer)
    assert [item.upward for item in antialias(model).changes] == [True]
    torch.testing.assert_close(layer(x), UP(plain(x)))


def test_upsampling_by_4_is_blurred_over_two_octaves() -> None:
    """A blur of one octave would leave most of the edges that the upsampling draws."""
    x = torch.zeros(1, 1, 1, 32)
    x[..., ::2] = 1  # the highest frequency of the low resolution
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Upsample(scale_factor=4))
    antialias(model)
    y = model[1](x)
    torch.testing.assert_close(y[..., 16:-16], torch.full_like(y[..., 16:-16], 0.5), atol=0.15, rtol=0)
    once = UP(F.interpolate(x, scale_factor=4))
    assert (once[..., 16:-16] - 0.5).abs().max() > 0.3


LEFT: dict[str, tuple[Any, str, str]] = {
    "adaptive": (lambda x: F.adaptive_avg_pool2d(x, 3), "adaptive_avg_pool2d", "fixed size"),
    "indices": (lambda x: F.max_pool2d(x, 2, return_indices=True)[0], "max_pool2d_with_indices", "indices"),
    "ceil": (lambda x: F.max_pool2d(x, 2, ceil_mode=True), "max_pool2d", "ceil_mode"),
    "uneven": (lambda x: F.max_pool2d(x, (2, 1)), "max_pool2d", "differ"),
    "repeat": (
        lambda x: x.repeat_interleave(2, -1).repeat_interleave(2, -2), "repeat_interleave", "repeats samples",
    ),
    "one axis": (lambda x: x[..., ::2], "slice with a step", "height and width"),
    "quarter": (lambda x: F.interpolate(x, scale_factor=0.25), "interpolate", "antialias=True"),
    "low-pass": (
        lambda x: F.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True), "interpolate",
        "low-pass",
    ),
    "blocks": (
        lambda x: x.unflatten(-1, (-1, 2)).unflatten(-3, (-1, 2)).amax((-3, -1)), "amax", "blocks of a map",
    ),
    "patches": (lambda x: F.conv2d(x, PATCHES, stride=4), "conv2d", "patches='dense'"),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_what_stays_is_listed_with_its_reason(name: str) -> None:
    function, kind, reason = LEFT[name]
    model = Calls(function)
    x = picture(1, 3, 16, 16)
    before = model(x)
    retrofit = antialias(model)
    assert retrofit.changes == ()
    assert {item.kind for item in retrofit.left} == {kind}
    assert reason in retrofit.left[0].reason
    assert "LEFT" in str(retrofit)
    assert torch.equal(model(x), before)


def test_code_that_is_not_known_is_found_by_its_shapes() -> None:
    class Opaque(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            picked = x.flatten(2)[..., torch.arange(0, x.shape[-1] ** 2, 4)]
            return picked.unflatten(-1, (x.shape[-2] // 2, x.shape[-1] // 2))

    retrofit = antialias(nn.Sequential(nn.Conv2d(3, 2, 1), Opaque()))
    assert [(item.module, item.kind) for item in retrofit.left] == [("1", "Opaque")]
    assert "from (64, 64) to (32, 32)" in retrofit.left[0].reason


def test_windows_of_attention_are_no_sampling() -> None:
    class Windows(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (
                x.unflatten(-1, (-1, 8))
                .unflatten(-3, (-1, 8))
                .permute(0, 1, 2, 4, 3, 5)
                .reshape(1, 2, -1, 64)
            )

    assert antialias(nn.Sequential(nn.Conv2d(3, 2, 1), Windows())).left == ()


class Merging(nn.Module):
    """Patch merging of Swin: four slices with a step of a map (B, H, W, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 4, 4, stride=4)
        self.reduce = nn.Linear(16, 8, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).permute(0, 2, 3, 1)
        parts = [x[:, row::2, column::2] for row in (0, 1) for column in (0, 1)]
        return self.reduce(torch.cat(parts, -1)).permute(0, 3, 1, 2)


def test_patches_are_left_alone_unless_asked_with_the_cost_named() -> None:
    """4 x 4 patches: 48 products for each of 4 channels at 16 x 16 places."""
    model = Merging()
    x = picture(1, 3, 64, 64)
    shape = model(x).shape
    kept = antialias(model)
    assert [(item.kind, item.stride) for item in kept.changes] == [("slice with a step", 2)]
    [left] = kept.left
    assert left.module == "embed"
    assert "16 times as much (0.0492 M -> 0.786 M MACs)" in left.reason
    kept.undo()
    for patches, stride in (("half", (2, 2)), ("dense", (1, 1))):
        asked = antialias(model, patches=patches)
        assert not asked.left
        assert model.embed.stride == stride
        assert model(x).shape == shape
        assert asked.before is not None
        assert asked.after is not None
        assert asked.after.macs > asked.before.macs + (3 if patches == "half" else 15) * 48 * 4 * 16**2
        asked.undo()


def test_an_odd_stride_has_no_half() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 7, stride=7))
    halved = antialias(model, patches="half")
    assert halved.changes == ()
    assert "its stride 7 has no half" in halved.left[0].reason
    assert antialias(model, patches="dense").changes[0].stride == 7


def test_without_a_probe_functions_are_listed() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            x = F.conv2d(F.max_pool2d(F.max_pool2d(x, 3, 1), 2), y)
            return F.interpolate(F.conv2d(x, y, None, 2), scale_factor=2)[..., ::2, ::2][..., 1:]

    retrofit = antialias(Two())
    assert not retrofit.proven
    assert [item.kind for item in retrofit.left] == [
        "max_pool2d",
        "conv2d",
        "interpolate",
        "slice with a step",
    ]
    assert {item.reason for item in retrofit.left} == {
        "a function, not a module; with an example it can be changed"
    }


class Stages(nn.Module):
    """Two modules, one inside of the other, each with functions of its own, and a strided conv."""

    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(F.interpolate(x, scale_factor=2))

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.inner = self.Inner()

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(
            self.inner(F.conv2d(self.down(x), WEIGHT.repeat(2, 1, 1, 1), None, 2, 1)), scale_factor=2
        )


def test_each_module_s_calls_are_its_own() -> None:
    """The outer module's rules do not reach into the inner one's forward, nor into the blurs."""
    torch.manual_seed(0)
    model = Stages()
    x = picture(1, 3, 18, 16)
    only_outer = copy.deepcopy(model)
    antialias(only_outer, skip=("inner", "down"))
    dense = F.conv2d(model.down(x), WEIGHT.repeat(2, 1, 1, 1), None, 1, 1)
    torch.testing.assert_close(only_outer(x), UP(F.interpolate(model.inner(DOWN(dense)), scale_factor=2)))

    retrofit = antialias(model)
    assert {(item.module, item.kind) for item in retrofit.changes} == {
        ("down", "Conv2d"), ("", "conv2d"), ("", "interpolate"), ("inner", "interpolate"),
    }  # fmt: skip
    down = DOWN(F.conv2d(x, model.down.weight, model.down.bias, padding=1))
    dense = DOWN(F.conv2d(down, WEIGHT.repeat(2, 1, 1, 1), None, 1, 1))
    inner = model.inner.conv(UP(F.interpolate(dense, scale_factor=2)))
    torch.testing.assert_close(model(x), UP(F.interpolate(inner, scale_factor=2)))


def test_an_error_in_the_middle_switches_the_blurs_off() -> None:
    def fails(x: Tensor) -> Tensor:
        y = F.interpolate(x, scale_factor=2)
        if x.shape[-1] == 5:
            raise KeyError("5")
        return y

    model = Calls(fails)
    antialias(model)
    x = picture(1, 3, 8, 8)
    before = model(x)
    with pytest.raises(KeyError):
        model(picture(1, 3, 5, 5))
    assert torch.equal(
        F.interpolate(x, scale_factor=2)[..., ::2, ::2], x
    )  # outside of the network: torch's own
    assert torch.equal(model(x), before)


# ---- activations ------------------------------------------------------------------------------------


class NormAct(nn.BatchNorm2d):
    """A norm with its activation inside, as timm's `BatchNormAct2d`."""

    def __init__(self, channels: int, act: nn.Module) -> None:
        super().__init__(channels)
        self.drop = nn.Identity()
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(x)))


@pytest.mark.parametrize("probed", [True, False])
def test_the_blur_goes_behind_a_fused_norm_and_activation(probed: bool) -> None:
    torch.manual_seed(0)

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
            self.fused = NormAct(4, nn.SiLU())

        def forward(self, x: Tensor, *, scale: Tensor) -> Tensor:
            return self.fused(self.conv(x)) * scale

    model = Block().eval()
    words = {"x": picture(1, 3, 9, 12), "scale": torch.ones(1)}
    retrofit = antialias(model, example=words if probed else None)
    assert retrofit.proven is probed
    assert [item.blur for item in retrofit.changes] == ["blurred after fused"]
    dense = F.conv2d(words["x"], model.conv.weight, model.conv.bias, padding=1)
    expected = DOWN(F.silu(F.batch_norm(dense, torch.zeros(4), torch.ones(4))))
    torch.testing.assert_close(model(**words), expected)


def test_submodules_of_what_cannot_be_traced_are_traced() -> None:
    """Without a picture to run on, and with control flow that depends on data around them."""

    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU())

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.body(x if y.sum() > 0 else -x)

    retrofit: Retrofit = antialias(Branching())
    assert not retrofit.proven
    assert [item.blur for item in retrofit.changes] == ["blurred after body.2"]
    assert [item.module for item in retrofit.left] == [""]
    assert "cannot be traced in full" in str(retrofit)


# ---- laws -------------------------------------------------------------------------------------------


def drift(model: nn.Module, x: Tensor) -> float:
    """How far a shift by one sample moves what comes out of a network that keeps the resolution."""
    with torch.no_grad():
        difference = model(x.roll((1, 1), (-2, -1))) - model(x).roll((1, 1), (-2, -1))
        return float(difference.abs().mean() / model(x).std())


def random_network(choices: Sequence[str]) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(3, 4, 3, padding=1)]
    for choice in choices:
        layers += {
            "conv": [nn.Conv2d(4, 4, 3, stride=2, padding=1), nn.LeakyReLU(), nn.Upsample(scale_factor=2)],
            "pool": [nn.MaxPool2d(2), nn.Upsample(scale_factor=2, mode="bilinear")],
            "call": [Halving(), nn.Conv2d(4, 16, 1), nn.PixelShuffle(2)],
        }[choice]
    return nn.Sequential(*layers)


class Halving(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(F.leaky_relu(x), 2)


@given(
    st.lists(st.sampled_from(["conv", "pool", "call"]), min_size=1, max_size=2),
    st.integers(0, 99),
    st.tuples(st.integers(5, 24), st.integers(5, 24)),
)
@settings(max_examples=12, deadline=None)
def test_random_networks_keep_the_shapes_of_all_sizes(
    choices: list[str], seed: int, size: tuple[int, int]
) -> None:
    torch.manual_seed(seed)
    plain = random_network(choices).eval()
    model = copy.deepcopy(plain)
    retrofit = antialias(model)
    assert retrofit.proven
    assert len(retrofit.changes) == 2 * len(choices)
    x = picture(1, 3, *size, seed=seed)
    assert model(x).shape == plain(x).shape
    retrofit.undo()
    assert torch.equal(model(x), plain(x))


@pytest.mark.parametrize("choices", [["conv"], ["pool"], ["call"], ["conv", "pool"], ["call", "conv"]])
def test_random_networks_drift_less(choices: list[str]) -> None:
    """All of six, and by more the longer the filter."""
    drifts = []
    for seed in range(6):
        torch.manual_seed(seed)
        plain = random_network(choices).eval()
        models = [plain]
        for filter in ("tri3", "bin5"):
            models.append(copy.deepcopy(plain))
            antialias(models[-1], filter=filter)
        for model in models:
            make_circular(model)
        drifts.append([drift(model, picture(1, 3, 32, 32, seed=seed)) for model in models])
    plain_drift, tri3, bin5 = torch.tensor(drifts).T
    assert (tri3 < plain_drift).all()
    assert (bin5 < plain_drift).all()
    assert bin5.mean() < tri3.mean() < 0.7 * plain_drift.mean()


# ---- programs made of it ----------------------------------------------------------------------------


# Warnings of torch 2.6 about its own graph.
@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr", "ignore:Node lifted_tensor")
def test_exports_and_pickles_have_the_blurs() -> None:
    model = Stages().eval()
    antialias(model)
    x = picture(1, 3, 16, 16)
    program = torch.export.export(model, (x,), strict=False)  # torch 2.6 is strict by itself
    torch.testing.assert_close(program.module()(x), model(x))
    kept = io.BytesIO()
    torch.save(model, kept)
    kept.seek(0)
    assert torch.equal(torch.load(kept, weights_only=False)(x), model(x))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch looks at it itself
def test_a_compiler_does_not_lose_them() -> None:
    """It would trace through the forward of a module, and past what is switched on around it."""
    model = nn.Sequential(nn.Identity(), Stages()).eval()
    antialias(model)
    x = picture(1, 3, 16, 16)
    expected = model(x)
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(model, backend="eager")(x), expected)
    torch._dynamo.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported):
        torch.compile(model, backend="eager", fullgraph=True)(x)
