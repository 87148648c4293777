"""The discriminators: sizes, names, what each logit sees, and the anti-aliased variant."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steadypix.gen.layers.filters import FILTERS, binomial_taps
from steadypix.gen.layers.norms import NORMS
from steadypix.gen.networks.patchgan import PatchDiscriminator, PixelDiscriminator
from steadypix.gen.retrofit.antialias import antialias


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def footprint(model: nn.Module, size: int) -> tuple[int, int]:
    """Height and width of the input that the middle logit depends on, in px."""
    x = noise(1, 6, size, size).double().requires_grad_()
    logits = model.double()(x)
    middle = logits.shape[-1] // 2
    (gradient,) = torch.autograd.grad(logits[0, 0, middle, middle], x)
    rows, columns = torch.nonzero(gradient[0].abs().sum(0), as_tuple=True)
    assert min(rows.min(), columns.min()) > 0, "the footprint must not be cut by the border"
    assert max(rows.max(), columns.max()) < size - 1
    return int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1


@pytest.mark.parametrize(("n_layers", "field_px"), [(1, 16), (2, 34), (3, 70), (4, 142)])
def test_receptive_field(n_layers: int, field_px: int) -> None:
    """70 px for three layers (Isola et al. 2017, section 6.1.2), and their other patches."""
    model = PatchDiscriminator(ndf=1, n_layers=n_layers, norm="none")
    assert footprint(model, 2 * field_px + 20) == (field_px, field_px)


def test_a_pixel_discriminator_sees_one_pixel() -> None:
    assert footprint(PixelDiscriminator(ndf=4, norm="none"), 9) == (1, 1)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("filter", [None, *FILTERS])
def test_256_px_give_30_by_30_logits(norm: str, filter: str | None) -> None:
    with torch.device("meta"):
        model = PatchDiscriminator(norm=norm, filter=filter)
        assert model(torch.zeros(2, 6, 256, 256)).shape == (2, 1, 30, 30)


@pytest.mark.parametrize("filter", FILTERS)
def test_a_filter_keeps_every_size(filter: str) -> None:
    with torch.device("meta"):
        plain, blurred = PatchDiscriminator(ndf=2), PatchDiscriminator(ndf=2, filter=filter)
        for height, width in [(32, 32), (33, 47), (64, 38), (71, 35)]:
            x = torch.zeros(1, 6, height, width)
            assert blurred(x).shape == plain(x).shape


def test_a_pixel_discriminator_keeps_the_size_and_its_kernels_are_1x1() -> None:
    model = PixelDiscriminator(in_channels=4, ndf=8)
    assert model(noise(2, 4, 11, 7)).shape == (2, 1, 11, 7)
    assert {m.kernel_size for m in model.modules() if isinstance(m, nn.Conv2d)} == {(1, 1)}


@pytest.mark.parametrize("filter", [None, "bin5"])
def test_parameter_names(filter: str | None) -> None:
    """The same with and without a filter; biases where no norm follows that has its own."""
    convs = [f"layers.{i}.conv.weight" for i in range(4)]
    biases = ["layers.0.conv.bias", "head.weight", "head.bias"]
    norms = [f"layers.{i}.norm.{entry}" for i in range(1, 4) for entry in ("weight", "bias")]
    batch = dict(PatchDiscriminator(norm="batch", filter=filter).named_parameters())
    assert set(batch) == {*convs, *biases, *norms}
    instance = dict(PatchDiscriminator(norm="instance", filter=filter).named_parameters())
    assert set(instance) == {*convs, *biases, *(f"layers.{i}.conv.bias" for i in range(1, 4))}
    widths = [(64, 6), (128, 64), (256, 128), (512, 256)]
    assert [tuple(batch[name].shape) for name in convs] == [(*width, 4, 4) for width in widths]
    assert batch["head.weight"].shape == (1, 512, 4, 4)


def test_widths_double_up_to_eightfold() -> None:
    with torch.device("meta"):
        model = PatchDiscriminator(ndf=4, n_layers=5)
    assert [layer.conv.out_channels for layer in model.layers] == [4, 8, 16, 32, 32, 32]


def test_the_published_size() -> None:
    """The 70 px PatchGAN on 3 + 3 channels with batch norm is the 2.769 M parameter network."""
    with torch.device("meta"):
        model = PatchDiscriminator(norm="batch")
    assert sum(parameter.numel() for parameter in model.parameters()) == 2_768_705


def test_taps_are_in_no_state_dict() -> None:
    plain, blurred = PatchDiscriminator(ndf=2), PatchDiscriminator(ndf=2, filter="bin5")
    assert list(plain.state_dict()) == list(blurred.state_dict())
    blurred.load_state_dict(plain.state_dict(), strict=True)


@pytest.mark.parametrize("filter", FILTERS)
def test_an_input_filter_blurs_what_is_judged_and_nothing_else(filter: str) -> None:
    plain, soft = PatchDiscriminator(ndf=2), PatchDiscriminator(ndf=2, input_filter=filter)
    soft.load_state_dict(plain.state_dict(), strict=True)
    x = noise(2, 6, 64, 48)
    taps = torch.tensor(binomial_taps(filter))
    before, after = (len(taps) - 1) // 2, len(taps) // 2
    kernel = torch.outer(taps, taps).expand(6, 1, -1, -1)
    blurred = F.conv2d(F.pad(x, (before, after, before, after), mode="reflect"), kernel, groups=6)
    torch.testing.assert_close(soft(x), plain(blurred))


def test_an_input_filter_hides_the_finest_pattern() -> None:
    """A checkerboard is at the highest frequency, where a binomial filter lets nothing through."""
    soft = PatchDiscriminator(ndf=2, norm="none", input_filter="bin5")
    x = noise(1, 6, 40, 40)
    checkerboard = (-1.0) ** (torch.arange(40)[:, None] + torch.arange(40))
    torch.testing.assert_close(soft(x + checkerboard), soft(x))
    assert (PatchDiscriminator(ndf=2, norm="none")(checkerboard.expand(1, 6, 40, 40)) != 0).any()


@pytest.mark.parametrize("build", [PatchDiscriminator, PixelDiscriminator])
def test_initial_weights_are_the_published_ones(build: type[nn.Module]) -> None:
    torch.manual_seed(0)
    for name, parameter in build(ndf=32, norm="batch").named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif "norm" not in name:
            tolerance = 4 / parameter.numel() ** 0.5
            assert parameter.std().item() == pytest.approx(0.02, rel=tolerance), name


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("filter", [None, "tri3"])
def test_gradients_reach_every_parameter_and_the_image(norm: str, filter: str | None) -> None:
    torch.manual_seed(0)
    model = PatchDiscriminator(ndf=2, norm=norm, filter=filter)
    x = noise(2, 6, 48, 48).requires_grad_()
    model(x).square().sum().backward()
    assert x.grad is not None
    assert x.grad.abs().max() > 0
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def drift(filter: str | None) -> float:
    """Mean squared change of the logits when the input moves by 1 px, over their variance."""
    torch.manual_seed(0)
    model = PatchDiscriminator(ndf=8, norm="none", filter=filter)
    x = noise(2, 6, 96, 96)
    with torch.no_grad():
        logits = model(x)[..., 2:-2, 2:-2]
        moved = model(torch.roll(x, 1, 3))[..., 2:-2, 2:-2]
    return float((moved - logits).square().mean() / logits.var())


@pytest.mark.parametrize("filter", ["tri3", "bin5"])
def test_a_filter_makes_the_logits_more_stable(filter: str) -> None:
    assert drift(filter) < 0.5 * drift(None)


def test_it_can_be_retrofitted_and_hooked_into() -> None:
    """Its convs are called as modules, so what others put around them takes part."""
    plain = PatchDiscriminator(ndf=4, n_layers=2)
    x = torch.rand(1, 6, 64, 64)
    size = plain(x).shape
    before = plain(x)
    antialias(plain)
    assert plain(x).shape == size
    assert not torch.allclose(plain(x), before)

    called: list[str] = []
    hooked = PatchDiscriminator(ndf=4, n_layers=2)
    hooked.layers[0].conv.register_forward_hook(lambda *_: called.append("conv"))
    hooked.layers[1].norm.register_forward_hook(lambda *_: called.append("norm"))
    hooked(x)
    assert called == ["conv", "norm"]


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="n_layers must be at least 1, not 0"):
        PatchDiscriminator(n_layers=0)
    with pytest.raises(ValueError, match="filter 'typo' is unknown"):
        PatchDiscriminator(filter="typo")
    with pytest.raises(ValueError, match="norm 'typo' is unknown"):
        PatchDiscriminator(norm="typo")
    with pytest.raises(ValueError, match="norm 'typo' is unknown"):
        PixelDiscriminator(norm="typo")
