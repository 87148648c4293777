"""The adversarial losses against torch's own modules and the formulas of their papers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from steadypix.gen.training.losses import GAN_MODES, discriminator_loss, generator_loss


def logits(seed: int) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(2, 1, 5, 4, dtype=torch.float64, generator=draw)


REAL, FAKE = logits(0), logits(1)


@pytest.mark.parametrize(
    ("mode", "criterion"), [("vanilla", nn.BCEWithLogitsLoss()), ("lsgan", nn.MSELoss())]
)
def test_losses_equal_torchs_criteria(mode: str, criterion: nn.Module) -> None:
    ones, zeros = torch.ones_like(REAL), torch.zeros_like(REAL)
    expected = (criterion(REAL, ones) + criterion(FAKE, zeros)) / 2
    torch.testing.assert_close(discriminator_loss(REAL, FAKE, mode=mode), expected)
    torch.testing.assert_close(generator_loss(FAKE, mode=mode), criterion(FAKE, ones))


def test_hinge_is_the_formula() -> None:
    """L_D = E max(0, 1 - D(real)) + E max(0, 1 + D(fake)), halved; L_G = -E D(fake)."""
    real = sum(max(0.0, 1 - value) for value in REAL.flatten().tolist()) / REAL.numel()
    fake = sum(max(0.0, 1 + value) for value in FAKE.flatten().tolist()) / FAKE.numel()
    loss = discriminator_loss(REAL, FAKE, mode="hinge").item()
    assert loss == pytest.approx((real + fake) / 2, rel=1e-12)
    mean = sum(FAKE.flatten().tolist()) / FAKE.numel()
    assert generator_loss(FAKE, mode="hinge").item() == pytest.approx(-mean, rel=1e-12)


def test_relativistic_is_the_formula() -> None:
    """L_D = E log(1 + exp(D(fake) - D(real))), pair by pair; L_G is the same with both exchanged."""
    pairs = list(zip(REAL.flatten().tolist(), FAKE.flatten().tolist(), strict=True))
    expected = [sum(math.log1p(math.exp(sign * (f - r))) for r, f in pairs) / len(pairs) for sign in (1, -1)]
    assert discriminator_loss(REAL, FAKE, mode="relativistic").item() == pytest.approx(expected[0], rel=1e-12)
    assert generator_loss(FAKE, REAL, mode="relativistic").item() == pytest.approx(expected[1], rel=1e-12)
    with pytest.raises(ValueError, match="'relativistic' compares with real logits; got none"):
        generator_loss(FAKE, mode="relativistic")


@pytest.mark.parametrize("mode", GAN_MODES)
def test_losses_are_scalars_of_any_shape_of_logits(mode: str) -> None:
    for shape in [(1,), (2, 1), (1, 1, 30, 30)]:
        real, fake = torch.ones(shape), -torch.ones(shape)
        assert discriminator_loss(real, fake, mode=mode).shape == ()
        assert generator_loss(fake, real, mode=mode).shape == ()


@pytest.mark.parametrize("mode", GAN_MODES)
def test_losses_pull_the_right_way(mode: str) -> None:
    """The discriminator raises real and lowers fake logits, the generator raises fake ones."""
    real, fake = torch.zeros(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    discriminator_loss(real, fake, mode=mode).backward()
    assert (real.grad < 0).all()
    assert (fake.grad >= 0).all()
    fake.grad = None
    generator_loss(fake, real.detach(), mode=mode).backward()
    assert (fake.grad < 0).all()


@pytest.mark.parametrize("mode", GAN_MODES)
def test_a_perfect_discriminator_has_no_loss_and_huge_logits_no_infinity(mode: str) -> None:
    perfect = {"lsgan": (1.0, 0.0), "hinge": (1.0, -1.0)}.get(mode, (50.0, -50.0))
    real, fake = (torch.full((4,), value) for value in perfect)
    assert discriminator_loss(real, fake, mode=mode).item() == pytest.approx(0, abs=1e-12)
    huge = torch.full((4,), 1e4)
    assert torch.isfinite(discriminator_loss(-huge, huge, mode=mode))
    assert torch.isfinite(generator_loss(-huge, huge, mode=mode))


def test_an_unknown_mode_is_named() -> None:
    with pytest.raises(ValueError, match="gan mode 'wgan' is unknown; expected one of vanilla"):
        discriminator_loss(REAL, FAKE, mode="wgan")
    with pytest.raises(ValueError, match="gan mode 'wgan' is unknown"):
        generator_loss(FAKE, mode="wgan")
