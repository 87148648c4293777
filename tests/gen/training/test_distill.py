"""Fine-tuning without targets: the average over shifts, the detail there is, and what a student learns."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from steadypix.eval.metrics.quality import total_variation
from steadypix.gen.training.distill import (
    LAGS_PX,
    DistillStep,
    detail_loss,
    shift_average,
    variations,
)
from steadypix.gen.training.step import NonFiniteLossError
from tests.networks import AddPattern

SIDE, REACH = 24, 3


def checkerboard(amplitude: float) -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    return amplitude * (1 - 2 * ((rows + columns) % 2)).float()[None, None]


def canvas(seed: int = 0, batch: int = 1) -> Tensor:
    side = SIDE + 2 * REACH
    return torch.rand(batch, 1, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


PLACE = st.tuples(st.integers(0, 2 * REACH), st.integers(0, 2 * REACH))


@settings(max_examples=20, deadline=None)
@given(places=st.lists(PLACE, min_size=1, max_size=5), batch=st.integers(1, 2))
def test_the_average_is_that_of_a_slow_obvious_one(places: list[tuple[int, int]], batch: int) -> None:
    """A pixel of the middle is averaged over the windows that show it, each looked at by itself."""
    x = canvas(batch=batch)
    network = AddPattern(torch.rand(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1)))
    mean, varied, first = shift_average(network, x, places, reach_px=REACH)
    for b, row, column in itertools.product(range(batch), (0, 1, 11, 23), (0, 12, 23)):
        seen, differences = [], []
        for top, left in places:
            output = network(x[b : b + 1, :, top : top + SIDE, left : left + SIDE])[0, 0]
            y, z = row + REACH - top, column + REACH - left  # where this window shows that pixel
            if 0 <= y < SIDE and 0 <= z < SIDE:
                seen.append(output[y, z].item())
                across = abs(output[y, z + 1] - output[y, z]).item() if z + 1 < SIDE else 0
                down = abs(output[y + 1, z] - output[y, z]).item() if y + 1 < SIDE else 0
                differences.append(across + down)
        expected = sum(seen) / len(seen) if seen else 0.0
        assert mean[b, 0, row, column].item() == pytest.approx(expected, abs=1e-6)
        expected = sum(differences) / len(differences) if seen else 0.0
        assert varied[0][b, 0, row, column].item() == pytest.approx(expected, abs=1e-6)
    top, left = places[0]
    assert torch.equal(first, network(x[..., top : top + SIDE, left : left + SIDE]))


def test_what_moves_with_the_scene_stays_and_what_is_fixed_to_the_frame_averages_out() -> None:
    """Over all four phases of a checkerboard of period 2."""
    x = canvas()
    middle = x[..., REACH:-REACH, REACH:-REACH]
    places = [(REACH + dy, REACH + dx) for dy, dx in itertools.product((0, 1), (0, 1))]
    mean, varied, _ = shift_average(AddPattern(checkerboard(0.5)), x, places, reach_px=REACH)
    inner = (..., slice(1, None), slice(1, None))  # which all four show
    torch.testing.assert_close(mean[inner], middle[inner])
    # The variation is that of the single outputs, and the average has less.
    one = F.l1_loss(varied[0], torch.zeros_like(varied[0]))
    assert variations(mean)[0].mean() < 0.8 * one


def test_variation_is_total_variation() -> None:
    picture = canvas()
    height, width = picture.shape[-2:]
    across, down = height * (width - 1), (height - 1) * width
    x_part = (picture[..., 1:] - picture[..., :-1]).abs().sum() / across
    y_part = (picture[..., 1:, :] - picture[..., :-1, :]).abs().sum() / down
    assert total_variation(picture) == pytest.approx((x_part + y_part).item() / 2)
    sums = x_part * across + y_part * down
    assert variations(picture)[0].sum().item() == pytest.approx(sums.item(), rel=1e-5)
    assert [v.shape for v in variations(picture)] == [picture.shape] * len(LAGS_PX)


def test_the_detail_loss_asks_how_much_there_is_and_not_which() -> None:
    generator = torch.Generator().manual_seed(2)
    noise, other = (torch.randn(1, 3, 96, 96, generator=generator) for _ in range(2))
    wanted = variations(noise)
    soft = F.avg_pool2d(noise, 3, 1, 1)
    assert detail_loss(noise, wanted) == 0
    assert detail_loss(other, wanted) < 0.1 * detail_loss(soft, wanted)
    lopsided = torch.cat([2 * noise[..., :48], torch.zeros(1, 3, 96, 48)], dim=-1)  # as much, elsewhere
    assert detail_loss(lopsided, wanted) > 0.5 * detail_loss(torch.zeros_like(noise), wanted)


def make_step(student: nn.Module, teacher: nn.Module, rate: float = 0.05, **options: float) -> DistillStep:
    adam = torch.optim.Adam(student.parameters(), rate)
    return DistillStep(student, teacher, adam, reach_px=REACH, **options)  # type: ignore[arg-type]


def test_a_student_learns_what_the_teacher_paints_without_its_grid() -> None:
    """Teacher: 0.7 x and a checkerboard. A student that cannot paint one finds the 0.7."""
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), AddPattern(checkerboard(0.4)))
    student = nn.Conv2d(1, 1, 1)
    nn.init.constant_(teacher[0].weight, 0.7)
    step = make_step(student, teacher, detail=0.0)
    for seed in range(60):
        losses = step([{"input": canvas(seed, batch=2)}], [seed])
    assert student.weight.item() == pytest.approx(0.7, abs=0.05)
    assert student.bias.item() == pytest.approx(0.0, abs=0.05)
    assert losses["loss_equivariance"] < 1e-6  # a 1x1 conv commutes with shifts
    assert teacher[0].weight.item() == pytest.approx(0.7)  # and the teacher is as it was


def test_detail_keeps_a_student_from_winning_by_softness() -> None:
    """Where single outputs vary more than their average, the student is pulled above it."""
    torch.manual_seed(0)
    teacher = AddPattern(torch.randn(1, 1, SIDE, SIDE))
    weights = []
    for detail in (0.0, 4.0):
        student = nn.Conv2d(1, 1, 1)
        nn.init.constant_(student.weight, 0.5)
        step = make_step(student, teacher, detail=detail)
        for seed in range(60):
            step([{"input": canvas(seed)}], [seed])
        weights.append(student.weight.item())
    assert weights[0] == pytest.approx(1.0, abs=0.1)
    assert weights[1] > weights[0] + 0.2


def test_the_same_seeds_give_the_same_step_and_batches_count_alike() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(0)
        student = nn.Conv2d(1, 1, 3, padding=1)
        step = make_step(student, AddPattern(checkerboard(0.4)))
        losses = step([{"input": canvas(0)}, {"input": canvas(1)}], [5, 6])
        states.append((student.weight.detach().clone(), losses))
    assert torch.equal(states[0][0], states[1][0])
    assert states[0][1] == states[1][1]
    assert set(losses) == {"loss_l1", "loss_detail", "loss_equivariance"}


def test_a_perceptual_distance_is_to_the_output_for_the_same_window() -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    def distance(ours: Tensor, theirs: Tensor) -> Tensor:
        seen.append((ours, theirs))
        return (ours - theirs).square().mean((1, 2, 3))

    student, teacher, x = nn.Conv2d(1, 1, 1), AddPattern(checkerboard(0.4)), canvas()
    losses = make_step(student, teacher, perceptual=distance)([{"input": x}], [0])  # type: ignore[arg-type]
    middle = x[..., REACH:-REACH, REACH:-REACH]
    assert torch.equal(seen[0][1], teacher(middle))
    assert losses["loss_lpips"] == pytest.approx(distance(*seen[0]).item())


def test_a_loss_that_is_not_finite_stops_before_the_update() -> None:
    student = nn.Conv2d(1, 1, 1)
    before = student.weight.detach().clone()
    with pytest.raises(NonFiniteLossError, match="loss is nan"):
        make_step(student, AddPattern(checkerboard(float("nan"))))([{"input": canvas()}], [0])
    assert torch.equal(student.weight, before)


@pytest.mark.parametrize("options", [{"reach_px": 0}, {"views": 0}])
def test_what_cannot_be_is_refused(options: dict[str, int]) -> None:
    student = nn.Conv2d(1, 1, 1)
    with pytest.raises(ValueError, match="must be at least 1"):
        DistillStep(student, student, torch.optim.Adam(student.parameters()), **options)
