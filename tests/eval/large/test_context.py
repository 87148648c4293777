"""The full frame with context against a slow loop, and by its laws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steadypix.errors import InputError
from steadypix.eval.large.context import ContextScores
from steadypix.eval.metrics.decibels import psnr_db
from steadypix.eval.metrics.measure import Conditions, measure_alone
from steadypix.eval.metrics.stability import Stability
from steadypix.eval.shifts.offsets import offsets_along
from steadypix.sizes import Size, sides


def pictures(size: Size, count: int = 2) -> Tensor:
    width, height = sides(size)
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


def stability(
    network: nn.Module,
    canvases: Tensor,
    *,
    window: Size,
    context: int,
    shifts: list[int],
    axis: str = "x",
) -> Stability:
    def make(canvas_px: Size) -> ContextScores:
        return ContextScores.make(
            context, Conditions(canvas_px=canvas_px, window_px=window, offsets=offsets_along(shifts, axis))
        )

    return measure_alone(make, network, canvases, window_px=window, batch_size=3).result()


@pytest.mark.parametrize(
    ("context", "canvas", "window"),
    [(3, (40, 40), (32, 32)), (8, (41, 36), (32, 24)), (1, (39, 39), (32, 32))],
)
def test_equals_a_slow_loop(context: int, canvas: tuple[int, int], window: tuple[int, int]) -> None:
    """Every px of a window is looked up in the mirrored picture by itself; NumPy does the rest."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 3, 5, padding=2), nn.InstanceNorm2d(3), nn.Tanh()).eval()
    found = stability(
        network, pictures(canvas), window=window, context=context, shifts=[-3, 0, 2], axis="diagonal"
    )
    assert found.offsets == ((-3, -3), (2, 2))

    def places(axis: int, shift: int) -> list[int]:
        """Return the px of the canvas that a window with its context shows along an axis."""
        found = []
        for place in range(-context, window[axis] + context):
            at = (canvas[axis] - window[axis]) // 2 - shift + place
            while not 0 <= at < canvas[axis]:
                at = -at if at < 0 else 2 * (canvas[axis] - 1) - at
            found.append(at)
        return found

    for image in range(2):
        pixels = pictures(canvas)[image].numpy()
        outputs = {}
        for shift in (0, -3, 2):
            seen = np.stack([[pixels[:, y, x] for x in places(0, shift)] for y in places(1, shift)])
            with torch.no_grad():
                y = network(torch.from_numpy(np.ascontiguousarray(seen.transpose(2, 0, 1)))[None])[0]
            inside = y.double().numpy()[:, context:-context, context:-context]
            assert inside.shape == (3, window[1], window[0])
            outputs[shift] = inside
        for column, shift in enumerate((-3, 2)):
            d = abs(shift)
            first, second = outputs[0], outputs[shift]
            if shift > 0:
                difference = first[:, :-d, :-d] - second[:, d:, d:]
            else:
                difference = first[:, d:, d:] - second[:, :-d, :-d]
            assert found.errors[0][image, column] == pytest.approx((difference**2).mean(), rel=1e-6)


@pytest.mark.parametrize(("context", "steady"), [(1, False), (4, True), (16, True)])
def test_context_takes_the_border_out(context: int, steady: bool) -> None:
    """Zeros at the border are all that moves here, and they reach 4 px."""
    torch.manual_seed(0)
    network = nn.Sequential(*(nn.Conv2d(3, 3, 5, padding=2) for _ in range(2)))
    found = stability(network, pictures(48), window=32, context=context, shifts=[0, 1, 5])
    db = psnr_db(found.errors[0])
    assert (db > 120).all() if steady else (db < 60).all()


def test_context_is_no_help_against_sampling() -> None:
    network = nn.Sequential(nn.AvgPool2d(2), nn.Upsample(scale_factor=2))
    without = F.mse_loss(network(pictures(48))[..., :-1], network(pictures(48).roll(1, -1))[..., 1:])
    found = stability(network, pictures(48), window=32, context=8, shifts=[1])
    assert psnr_db(found.errors[0]).mean() == pytest.approx(psnr_db(without.item()), abs=1)


def test_what_results_say_of_it() -> None:
    conditions = Conditions(canvas_px=143, window_px=128, offsets=offsets_along([0, 1, 7], "x"))
    about = ContextScores.about(16, conditions)["context"]
    # The window begins 7 px from the edge and ends 8 px from the other: at shift 7 there are 0 and 15.
    assert about["real_px"] == [0, 15]
    assert about["context_px"] == 16
    assert about["area_factor"] == pytest.approx((160 / 128) ** 2)


def test_shifts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="would leave"):
        stability(nn.Identity(), pictures(40), window=32, context=8, shifts=[5])
