"""One update of both networks: against a plain statement of it, and the laws of accumulation."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from steadypix import PatchDiscriminator, UNetGenerator
from steadypix.gen.training.ema import make_ema
from steadypix.gen.training.losses import discriminator_loss, equivariance_loss
from steadypix.gen.training.step import NonFiniteLossError, Pix2PixStep

pytestmark = pytest.mark.slow

DOUBLE = torch.float64


def networks(
    *, norm: str = "instance", dropout: bool = False, num_downs: int = 3
) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    generator = UNetGenerator(ngf=4, num_downs=num_downs, norm=norm, dropout=dropout)
    return generator.to(DOUBLE), PatchDiscriminator(ndf=4, n_layers=1, norm=norm).to(DOUBLE)


def make_step(generator: nn.Module, discriminator: nn.Module, **options: Any) -> Pix2PixStep:
    optimizers = [
        torch.optim.Adam(network.parameters(), lr=2e-3, betas=(0.5, 0.999))
        for network in (generator, discriminator)
    ]
    return Pix2PixStep(Accelerator(cpu=True), generator, discriminator, *optimizers, **options)


def batch(size: int = 4, seed: int = 1, **more: Any) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.rand(2, size, 3, 32, 32, generator=generator, dtype=DOUBLE).mul(2).sub(1).unbind()
    return {"input": x, "target": y, **more}


def same(a: nn.Module, b: nn.Module, tolerance: float = 0.0) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.allclose(x, y, rtol=0, atol=tolerance) for x, y in pairs)


def plain_step(
    generator: nn.Module, discriminator: nn.Module, adam_g: Any, adam_d: Any, x: Tensor, y: Tensor
) -> None:
    """The published step, said the long way: two passes of the discriminator, cross-entropy, lambda 100."""
    fake = generator(x)
    real_logits = discriminator(torch.cat([x, y], 1))
    fake_logits = discriminator(torch.cat([x, fake.detach()], 1))
    ones, zeros = torch.ones_like(real_logits), torch.zeros_like(fake_logits)
    cross_entropy = F.binary_cross_entropy_with_logits
    loss_d = 0.5 * (cross_entropy(real_logits, ones) + cross_entropy(fake_logits, zeros))
    adam_d.zero_grad()
    loss_d.backward()
    adam_d.step()
    loss_g = cross_entropy(discriminator(torch.cat([x, fake], 1)), ones) + 100 * (fake - y).abs().mean()
    adam_g.zero_grad()
    loss_g.backward()
    adam_g.step()


def test_context_is_cut_off_before_any_loss() -> None:
    """As if the generator gave the middle alone: a step on it is the plain step of a wrapped generator."""

    class Middle(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: Tensor) -> Tensor:
            made: Tensor = self.network(F.pad(x, (8, 8, 8, 8)))
            return made[..., 8:-8, 8:-8]

    generator, discriminator = networks(num_downs=2)
    ours, theirs = make_step(generator, discriminator, context_px=8), copy.deepcopy(discriminator)
    wrapped = Middle(copy.deepcopy(generator))
    plain = make_step(wrapped, theirs)
    for number in range(3):
        small = batch(2, seed=number)
        losses = ours([{**small, "input": F.pad(small["input"], (8, 8, 8, 8))}], [number])
        expected = plain([small], [number])
        for name, loss in losses.items():
            assert loss == pytest.approx(expected[name].item(), rel=1e-12)
    assert same(generator, wrapped.network, 1e-12)
    assert same(discriminator, theirs, 1e-12)


@pytest.mark.parametrize("seed", [0, 7, 8, 63, 64 + 29])
def test_jitter_shows_the_discriminator_the_same_part_of_every_picture(seed: int) -> None:
    """As a step whose discriminator cuts for itself."""
    top, left = divmod(seed % 64, 8)

    class Cut(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x[..., top : top + 25, left : left + 25])

    ours, theirs = networks(), networks()
    made = make_step(*ours, jitter_px=7)([batch()], [seed])
    expected = make_step(theirs[0], Cut(theirs[1]))([batch()], [seed])
    for name, loss in made.items():
        torch.testing.assert_close(loss, expected[name], rtol=1e-12, atol=0)
    assert same(ours[0], theirs[0], 1e-9)
    assert same(ours[1], theirs[1], 1e-9)


def test_every_place_of_the_grid_comes_in_turn() -> None:
    step = make_step(*networks(), jitter_px=3)
    x = torch.arange(64.0).reshape(1, 1, 8, 8)
    corners = {step._seen(x, x, seed)[0, 0, 0, 0].item() for seed in range(16)}
    assert corners == {8.0 * row + column for row in range(4) for column in range(4)}
    assert step._seen(x, x, 5).shape == (1, 2, 5, 5)


def test_approximated_r1_is_how_far_noise_moves_the_logits() -> None:
    generator, discriminator = networks()
    pair = batch()
    with torch.no_grad():
        fake = generator(pair["input"])
        pairs = [torch.cat([pair["input"], y], dim=1) for y in (pair["target"], fake)]
        torch.manual_seed(5)
        generator(pair["input"])
        moved = [discriminator(z + 0.01 * torch.randn_like(z)) for z in pairs]
        logits = [discriminator(z) for z in pairs]
        penalty = sum((a - b).square().mean() for a, b in zip(moved, logits, strict=True)) / 2
        expected = discriminator_loss(*logits, mode="vanilla") + 100 * penalty
    assert make_step(generator, discriminator, r1=100.0)([pair], [5])["loss_d"].item() == pytest.approx(
        expected.item(), rel=1e-10
    )
    assert penalty > 0


@pytest.mark.parametrize("norm", ["instance", "batch", "group"])
def test_a_step_is_the_published_one(norm: str) -> None:
    ours, theirs = networks(norm=norm), networks(norm=norm)
    step = make_step(*ours, together=norm != "batch")
    optimizers = [torch.optim.Adam(n.parameters(), lr=2e-3, betas=(0.5, 0.999)) for n in theirs]
    for seed in range(3):
        pair = batch(seed=seed)
        step([pair], [0])
        plain_step(*theirs, *optimizers, pair["input"], pair["target"])
    # Outputs, not weights: of a bias in front of instance norm the gradient is rounding error, which Adam
    # blows up to full steps; what the network computes does not depend on it.
    probe = batch(seed=9)
    fakes = [generator(probe["input"]) for generator, _ in (ours, theirs)]
    torch.testing.assert_close(*fakes, rtol=0, atol=1e-9)
    logits = [d(torch.cat([probe["input"], probe["target"]], 1)) for _, d in (ours, theirs)]
    torch.testing.assert_close(*logits, rtol=0, atol=1e-9)
    if norm == "batch":  # the running statistics, too
        assert all(same(a.eval(), b.eval(), 1e-9) for a, b in zip(ours, theirs, strict=True))


def test_accumulated_batches_equal_one_large_batch() -> None:
    """Gradients, read off Adam's first moment, agree to 1e-12; so do the weights after one step."""
    whole, parts = networks(), networks()
    pair = batch(4)
    one, many = make_step(*whole), make_step(*parts)
    halves = [{key: value[start : start + 2] for key, value in pair.items()} for start in (0, 2)]
    first = one([pair], [0])
    second = many(halves, [0, 1])
    for key in first:
        assert first[key] == pytest.approx(second[key].item(), rel=1e-12)
    for a, b in ((one.adam_g, many.adam_g), (one.adam_d, many.adam_d)):
        moments = zip(a.state.values(), b.state.values(), strict=True)
        assert all(torch.allclose(m["exp_avg"], n["exp_avg"], rtol=0, atol=1e-12) for m, n in moments)


def test_accumulation_draws_the_same_dropout_twice() -> None:
    """The discriminator and the generator look at one G(x) although it is computed twice."""
    generator, discriminator = networks(dropout=True, num_downs=6)
    step = make_step(generator, discriminator)
    seen: list[Tensor] = []
    generator.register_forward_hook(lambda module, inputs, output: seen.append(output.detach()))
    # 6 levels bring 64 px to 1 x 1, so that instance norm has something to normalise one level out.
    pairs = [
        {key: F.interpolate(value, scale_factor=2) for key, value in batch(2, seed=seed).items()}
        for seed in (1, 2)
    ]
    step(pairs, [5, 6])
    assert torch.equal(seen[0], seen[2])
    assert torch.equal(seen[1], seen[3])
    assert not torch.equal(seen[0], seen[1])


@pytest.mark.parametrize("shift", [(3, 1), (-2, 0), (0, -4), (-1, 5)])
@pytest.mark.parametrize("margin", [0, 2])
def test_equivariance_loss_vanishes_for_what_moves_along(shift: tuple[int, int], margin: int) -> None:
    """Two windows of one canvas: an identity network has no distance, a fixed pattern has its own."""
    canvas = torch.rand(1, 3, 40, 40, dtype=DOUBLE)
    dx, dy = shift
    base, moved = canvas[..., 8:32, 8:32], canvas[..., 8 - dy : 32 - dy, 8 - dx : 32 - dx]
    assert equivariance_loss(base, moved, [shift], margin_px=margin) == 0
    ramp = torch.arange(24, dtype=DOUBLE).expand(1, 3, 24, 24)  # stays where it is: differs by dx everywhere
    assert equivariance_loss(ramp, ramp, [shift], margin_px=margin) == pytest.approx(abs(dx))


def test_equivariance_loss_is_the_mean_over_samples_and_says_what_does_not_fit() -> None:
    output, moved = torch.rand(2, 2, 3, 16, 16, dtype=DOUBLE).unbind()
    shifts = [(1, 2), (-3, 0)]
    each = [
        equivariance_loss(output[i : i + 1], moved[i : i + 1], [shifts[i]], margin_px=1) for i in range(2)
    ]
    assert equivariance_loss(output, moved, shifts, margin_px=1) == pytest.approx(sum(each).item() / 2)
    with pytest.raises(ValueError, match=r"shift \(9, 0\) px and margins of 4 px leave nothing"):
        equivariance_loss(output[:1], moved[:1], [(9, 0)], margin_px=4)


def test_the_equivariance_loss_makes_a_generator_move_along() -> None:
    """Trained on it alone, the distance falls far below what an untrained network has."""
    generator, discriminator = networks()
    step = make_step(generator, discriminator, lambda_l1=10.0, equivariance=100.0)
    canvas = torch.rand(2, 3, 40, 40, dtype=DOUBLE).mul(2).sub(1)
    rows = []
    for number in range(30):
        dx, dy = number % 5 - 2, number % 3 - 1
        pair = {
            "input": canvas[..., 4:36, 4:36],
            "target": canvas[..., 4:36, 4:36].flip(1),
            "moved": canvas[..., 4 - dy : 36 - dy, 4 - dx : 36 - dx],
            "shift": [(dx, dy)] * 2,
        }
        rows.append(step([pair], [0])["loss_equivariance"].item())
    plain = make_step(*networks(), lambda_l1=10.0)
    for _ in range(30):
        plain([{"input": canvas[..., 4:36, 4:36], "target": canvas[..., 4:36, 4:36].flip(1)}], [0])
    with torch.no_grad():
        outputs = [n(canvas[..., 4:36, 4:36]) for n in (plain.generator, generator)]
        moved = [n(canvas[..., 4:36, 3:35]) for n in (plain.generator, generator)]
    without, with_loss = (
        equivariance_loss(a, b, [(1, 0)] * 2, margin_px=4) for a, b in zip(outputs, moved, strict=True)
    )
    assert with_loss < 0.5 * without


@pytest.mark.parametrize("which", ["discriminator", "generator"])
def test_a_loss_that_is_not_finite_changes_nothing(which: str) -> None:
    generator, discriminator = networks()
    before = copy.deepcopy(generator if which == "generator" else discriminator)
    step = make_step(generator, discriminator)
    pair = batch()
    if which == "generator":
        step.lambda_l1 = float("inf")
    else:
        pair["target"] = pair["target"] * float("nan")
    with pytest.raises(NonFiniteLossError, match=f"the {which}'s loss is"):
        step([pair], [0])
    assert same(before, generator if which == "generator" else discriminator)


def test_recomputation_gives_the_same_gradients_to_the_bit() -> None:
    grads = []
    for checkpointing in (False, True):
        generator, _ = networks(dropout=True, num_downs=6)
        generator.checkpointing = checkpointing
        torch.manual_seed(3)
        generator(
            torch.rand(2, 3, 64, 64, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
        ).sum().backward()
        grads.append([parameter.grad for parameter in generator.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_average_is_the_recursion_said_the_long_way() -> None:
    generator, _ = networks(norm="batch")
    average = make_ema(generator, 0.3)
    expected: dict[str, Tensor] = {}
    for step, decay in enumerate((0.0, 2 / 11, 3 / 12, 0.3, 0.3)):  # 4 / 13 is more than asked for
        torch.manual_seed(step)
        with torch.no_grad():
            for tensor in [*generator.parameters(), *generator.buffers()]:
                tensor.add_(torch.randn_like(tensor) if tensor.is_floating_point() else 1)
        average.update_parameters(generator)
        for name, now in generator.named_parameters():
            expected[name] = decay * expected.get(name, 0) + (1 - decay) * now.detach()
    for name, ours in average.module.named_parameters():
        torch.testing.assert_close(ours.detach(), expected[name], msg=name)
    statistics = dict(generator.named_buffers())
    assert any("running_var" in name for name in statistics)
    for name, copied in average.module.named_buffers():
        assert torch.equal(copied, statistics[name]), name


def test_nothing_is_left_of_the_first_weights_after_a_few_hundred_steps() -> None:
    layer = torch.nn.Linear(1, 1, bias=False)
    average = make_ema(layer, 0.999)
    for weight in (1e6, *[1.0] * 300):
        torch.nn.init.constant_(layer.weight, weight)
        average.update_parameters(layer)
    assert average.module.weight.item() == pytest.approx(1.0, abs=1e-3)


def test_a_decay_lies_between_0_and_1() -> None:
    generator, _ = networks()
    for decay in (0.0, 1.0):
        with pytest.raises(ValueError, match="between 0 and 1"):
            make_ema(generator, decay)
