"""Batch renormalisation against torch's batch norm, which it is at first and at test time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from steadypix.gen.layers.norms import BatchRenorm2d


def maps(seed: int, scale: float = 1.0, offset: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, 8, 9, generator=generator, dtype=torch.float64) * scale + offset


def pair(momentum: float | None = 0.1) -> tuple[BatchRenorm2d, nn.BatchNorm2d]:
    """The same scales and offsets in both."""
    ours, theirs = BatchRenorm2d(3).double(), nn.BatchNorm2d(3, momentum=momentum).double()
    for norm in (ours, theirs):
        with torch.no_grad():
            norm.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
            norm.bias.copy_(torch.tensor([0.0, -1.0, 0.25]))
    return ours, theirs


def test_the_first_batch_is_batch_norm_with_its_gradients() -> None:
    ours, theirs = pair()
    gradients = []
    for norm in (ours, theirs):
        x = maps(0, 3.0, 1.0).requires_grad_()
        y = norm(x)
        (y * maps(1)).sum().backward()
        gradients.append([y.detach(), x.grad, norm.weight.grad, norm.bias.grad])
    for mine, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-10, atol=1e-10)


def test_in_test_mode_it_is_batch_norm_with_the_same_statistics() -> None:
    ours, theirs = pair()
    for seed in range(5):
        ours(maps(seed, 2.0, 0.5))
    theirs.running_mean.copy_(ours.running_mean)
    theirs.running_var.copy_(ours.running_var)
    torch.testing.assert_close(ours.eval()(maps(9)), theirs.eval()(maps(9)), rtol=1e-12, atol=1e-12)


def test_the_running_statistics_begin_as_the_mean_over_all_batches() -> None:
    """While there are fewer than 1 / momentum of them; torch calls that a cumulative average."""
    ours, theirs = pair(momentum=None)
    for seed in range(20):
        x = maps(seed, 1 + seed / 10, seed / 5)
        ours(x)
        theirs(x)
    count = 2 * 8 * 9
    torch.testing.assert_close(ours.running_mean, theirs.running_mean, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(
        ours.running_var, theirs.running_var * (count - 1) / count, rtol=1e-10, atol=1e-10
    )


def test_warmed_up_the_output_in_training_is_the_one_at_test_time() -> None:
    ours, _ = pair()
    for seed in range(10):
        ours(maps(seed))
    ours.num_batches_tracked.fill_(ours.WARM_UP)
    x = maps(77, 1.5, 0.7)
    as_tested = ours.eval()(x)
    torch.testing.assert_close(ours.train()(x), as_tested, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("scale", "offset", "mean", "deviation"),
    [(1, 20, 5, 1), (1, -20, -5, 1), (50, 0, None, 3), (0.01, 0, None, 1 / 3)],
)
def test_what_is_out_of_bounds_is_normalised_by_the_batch(
    scale: float, offset: float, mean: float | None, deviation: float
) -> None:
    """Then the output is bounded whatever came in."""
    ours = BatchRenorm2d(3).double()
    for seed in range(10):
        ours(maps(seed))
    ours.num_batches_tracked.fill_(ours.WARM_UP)
    y = ours(maps(5, scale, offset)).detach()
    assert y.std((0, 2, 3), correction=0) == pytest.approx(deviation, rel=0.1)
    assert mean is None or y.mean((0, 2, 3)) == pytest.approx(mean, abs=1e-6)


def test_bfloat16_comes_out_as_it_came_in_and_the_statistics_stay_precise() -> None:
    norm = BatchRenorm2d(3)
    assert norm(maps(0).bfloat16()).dtype == torch.bfloat16
    assert norm.running_mean.dtype == torch.float32
    expected = maps(0).bfloat16().float().mean((0, 2, 3))
    torch.testing.assert_close(norm.running_mean, expected, rtol=1e-5, atol=1e-6)


def test_gradients_are_those_of_r_and_d_held_fixed() -> None:
    ours, _ = pair()
    for seed in range(3):
        ours(maps(seed))
    ours.num_batches_tracked.fill_(500)
    state = {key: value.clone() for key, value in ours.state_dict().items()}
    x = maps(7, 1.2, 0.3).requires_grad_()
    y = ours(x)
    (y * maps(1)).sum().backward()
    ours.load_state_dict(state)
    with torch.no_grad():  # y as a map of the batch's own normal form: y = weight (n r + d) + bias
        running = (state["running_var"] + ours.eps).sqrt()
        deviation = (x.var((0, 2, 3), correction=0) + ours.eps).sqrt()
        r = (deviation / running).clamp(1 / 2, 2)
    z = x.detach().clone().requires_grad_()
    (nn.functional.batch_norm(z, None, None, ours.weight * r, training=True) * maps(1)).sum().backward()
    torch.testing.assert_close(x.grad, z.grad, rtol=1e-9, atol=1e-9)
