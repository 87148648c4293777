"""Our own networks, retrofitted: what their own `sampling` builds, with the same weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from steadypix.gen.networks.patchgan import PatchDiscriminator
from steadypix.gen.networks.resnet import ResnetGenerator
from steadypix.gen.networks.unet import UNetGenerator
from steadypix.gen.retrofit.antialias import antialias


def picture(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def twins(
    kind: Any, words: dict[str, Any], plain: dict[str, Any], blurred: dict[str, Any]
) -> tuple[Any, Any]:
    """A plain network, and one that was built anti-aliased and got its weights."""
    torch.manual_seed(0)
    one, other = kind(**words, **plain).eval(), kind(**words, **blurred).eval()
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2)
    other.load_state_dict(one.state_dict())
    return one, other


UNET = (UNetGenerator, {"ngf": 2, "num_downs": 4, "norm": "batch"})
STEADY = (UNetGenerator, {"ngf": 2, "num_downs": 3, "texture": "anchored", "head": 4})
RESNET = (ResnetGenerator, {"ngf": 2, "n_blocks": 1})


@pytest.mark.parametrize("sampling", ["blur", "preblur"])
@pytest.mark.parametrize(
    ("network", "padding"),
    [
        (UNET, "zeros"),
        (UNET, "replicate"),
        (UNET, "circular"),
        (STEADY, "zeros"),
        (RESNET, "zeros"),
        (RESNET, "reflect"),
        (RESNET, "circular"),
    ],
)
def test_generators_become_what_sampling_builds(
    network: tuple[Any, dict[str, Any]], sampling: str, padding: str
) -> None:
    kind, words = network
    words = {**words, "filter": "tri3", "padding": padding}
    model, expected = twins(kind, words, {"sampling": "strided"}, {"sampling": sampling})
    retrofit = antialias(model, filter="tri3", sampling=sampling)
    assert retrofit.proven
    assert len(retrofit.changes) == 2 * words.get("num_downs", 2)
    assert not retrofit.left
    for size in ((32, 48),) if padding == "circular" else ((32, 48), (37, 29)):
        x = picture(2, 3, *size)
        assert torch.equal(model(x), expected(x))
    assert antialias(model).changes == ()


def test_a_discriminator_becomes_what_filter_builds() -> None:
    words = {"ndf": 2, "n_layers": 2, "norm": "batch"}
    model, expected = twins(PatchDiscriminator, words, {}, {"filter": "bin5"})
    assert len(antialias(model).changes) == 2
    for size in ((64, 64), (45, 52)):
        x = picture(1, 6, *size)
        assert torch.equal(model(x), expected(x))


def test_a_discriminator_is_preblurred() -> None:
    model = PatchDiscriminator(ndf=2, n_layers=2)
    x = picture(1, 6, 45, 64)
    before = model(x)
    retrofit = antialias(model, sampling="preblur")
    assert [change.blur for change in retrofit.changes] == ["blurred before"] * 2
    assert model(x).shape == before.shape
    assert not torch.allclose(model(x), before)
    assert antialias(model).changes == ()


def test_they_are_found_inside_of_other_networks_and_skipped_on_request() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 1), UNetGenerator(ngf=2, num_downs=3, sampling="strided"))
    retrofit = antialias(model, skip=("1.encoder.0", "1.decoder.2.conv"))
    assert [change.module for change in retrofit.changes] == [
        "1.encoder.1", "1.encoder.2", "1.decoder.0", "1.decoder.1"
    ]  # fmt: skip


def test_another_padding_is_refused_with_the_way_to_do_it() -> None:
    model = UNetGenerator(ngf=2, num_downs=3, sampling="strided")
    x = picture(1, 3, 16, 16)
    before = model.eval()(x)
    with pytest.raises(ValueError, match=r"encoder\.0: .*build the network with padding='circular'"):
        antialias(model, padding="circular")
    assert torch.equal(model(x), before)
    circular = UNetGenerator(ngf=2, num_downs=3, sampling="strided", padding="circular")
    assert antialias(circular, padding="circular").proven
