"""The full frame with context against a slow loop, and by its laws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steadypix import UNetGenerator
from steadypix.errors import InputError
from steadypix.eval.large.context import ContextScores
from steadypix.eval.metrics.decibels import psnr_db
from steadypix.eval.metrics.measure import Conditions, measure_alone
from steadypix.eval.metrics.stability import Stability
from steadypix.eval.shifts.offsets import offsets_along


def pictures(size: int, count: int = 2) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def stability(
    network: nn.Module,
    canvases: Tensor,
    *,
    window: int,
    context: int,
    shifts: list[int],
    multiple: int = 1,
    axis: str = "x",
) -> Stability:
    settings = {"context_px": context, "multiple": multiple}

    def make(canvas_px: int) -> ContextScores:
        return ContextScores.make(
            settings, Conditions(canvas_px=canvas_px, window_px=window, offsets=offsets_along(shifts, axis))
        )

    return measure_alone(make, network, canvases, window_px=window, batch_size=3).result()


@pytest.mark.parametrize(("context", "multiple", "sides"), [(3, 1, (3, 3)), (5, 16, (8, 8)), (1, 7, (1, 2))])
def test_equals_a_slow_loop(context: int, multiple: int, sides: tuple[int, int]) -> None:
    """Every px of a window is looked up in the mirrored picture by itself; NumPy does the rest."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 3, 5, padding=2), nn.InstanceNorm2d(3), nn.Tanh()).eval()
    window, canvas = (32, 40) if multiple != 7 else (32, 39)
    found = stability(
        network,
        pictures(canvas),
        window=window,
        context=context,
        shifts=[-3, 0, 2],
        multiple=multiple,
        axis="diagonal",
    )
    assert found.offsets == ((-3, -3), (2, 2))
    origin = (canvas - window) // 2
    before, after = sides

    def mirror(place: int) -> int:
        while not 0 <= place < canvas:
            place = -place if place < 0 else 2 * (canvas - 1) - place
        return place

    for image in range(2):
        pixels = pictures(canvas)[image].numpy()
        outputs = {}
        for shift in (0, -3, 2):
            places = [mirror(origin - shift + p) for p in range(-before, window + after)]
            seen = np.stack([[pixels[:, y, x] for x in places] for y in places]).transpose(2, 0, 1)
            with torch.no_grad():
                y = network(torch.from_numpy(np.ascontiguousarray(seen))[None])[0].double().numpy()
            outputs[shift] = y[:, before : before + window, before : before + window]
        for column, shift in enumerate((-3, 2)):
            size, d = window - abs(shift), abs(shift)
            first, second = outputs[0], outputs[shift]
            if shift > 0:
                difference = first[:, :size, :size] - second[:, d:, d:]
            else:
                difference = first[:, d:, d:] - second[:, :size, :size]
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
    settings = {"context_px": 16, "multiple": 32}
    conditions = Conditions(canvas_px=143, window_px=128, offsets=offsets_along([0, 1, 7], "x"))
    about = ContextScores.about(settings, conditions)["context"]
    # The window begins 7 px from the edge and ends 8 px from the other: at shift 7 there are 0 and 15.
    assert about["real_px"] == [0, 15]
    assert about["sides_px"] == [16, 16]
    assert about["area_factor"] == pytest.approx((160 / 128) ** 2)
    grown = {**settings, "multiple": 256}
    about = ContextScores.about(grown, Conditions(canvas_px=286, window_px=256, offsets=[(1, 0)]))["context"]
    assert about["sides_px"] == [128, 128]
    assert about["area_factor"] == 4


def test_generators_agree_on_a_multiple() -> None:
    networks = {
        "a": UNetGenerator(ngf=2, num_downs=5),
        "b": UNetGenerator(ngf=2, num_downs=3),
        "c": nn.Identity(),
    }
    assert ContextScores.suit({"context_px": 16, "multiple": 1}, networks)["multiple"] == 32
    assert ContextScores.suit({"context_px": 16, "multiple": 1}, {})["multiple"] == 1


def test_shifts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="would leave"):
        stability(nn.Identity(), pictures(40), window=32, context=8, shifts=[5])
