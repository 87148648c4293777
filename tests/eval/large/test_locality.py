"""How far a change at the left is seen: against a slow loop, and by laws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from steadypix.errors import InputError
from steadypix.eval.charts.locality_chart import draw_locality
from steadypix.eval.generators.programs import Program
from steadypix.eval.large.locality import LocalityScores
from steadypix.eval.metrics.decibels import psnr_db
from steadypix.eval.metrics.measure import Conditions, measure_alone
from tests.eval.large.test_causes import ByFunction, ByHand

WINDOW, CANVAS, CHANGED = 64, 72, 12


def pictures(count: int = 2) -> Tensor:
    return torch.rand(count, 3, CANVAS, CANVAS, generator=torch.Generator().manual_seed(0)) * 2 - 1


def locality(network: nn.Module, changed: int = CHANGED) -> LocalityScores:
    def make(canvas_px: int) -> LocalityScores:
        return LocalityScores.make(changed, Conditions(canvas_px=canvas_px, window_px=WINDOW))

    return measure_alone(make, network, pictures(), window_px=WINDOW, batch_size=2)


@torch.no_grad()
def test_equals_a_slow_loop() -> None:
    network = ByHand().eval()
    scores = locality(network)
    assert scores.bands == [(0, 16), (16, 32), (32, None)]
    plain, still = scores.image_db_by_band()
    assert still is not None
    for image in range(2):
        base = pictures()[image : image + 1, :, 4:68, 4:68]
        changed = base.clone()
        changed[..., :CHANGED] = 0
        for found, first, second in (
            (plain, network(base), network(changed)),
            (still, network.given(base, base), network.given(changed, base)),
        ):
            squares = ((first - second).double() ** 2).mean((0, 1, 2)).numpy()  # a number a column
            distance = np.arange(WINDOW) - CHANGED
            for place, (low, high) in enumerate([(0, 16), (16, 32), (32, WINDOW), (0, WINDOW)]):
                expected = psnr_db(squares[(low <= distance) & (distance < high)].mean())
                tolerance = 1e-3 if expected < 100 else 25  # of equal outputs rounding is left
                assert found[image, place] == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("reach", [3, 20])
def test_layers_change_as_far_as_they_reach(reach: int) -> None:
    torch.manual_seed(0)
    scores = locality(nn.Conv2d(3, 3, 2 * reach + 1, padding=reach))
    db = scores.image_db_by_band()[0]
    changes = [db[:, 0] < 60, db[:, 1] < 80, db[:, 2] < 80]
    assert [band.all() for band in changes] == [True, reach > 16, False]
    assert (db[:, 2] == 150).all()


def test_a_norm_that_looks_changes_everything_and_frozen_nothing() -> None:
    scores = locality(nn.Sequential(nn.Conv2d(3, 3, 1), nn.InstanceNorm2d(3), nn.Tanh()))
    plain, still = scores.image_db_by_band()
    assert still is not None
    assert (plain < 60).all()
    assert (still > 120).all()
    entry = scores.summary(seed=0)["locality"]
    assert [band["from_px"] for band in entry["bands"]] == [0, 16, 32]
    assert entry["frozen_beyond_db"]["mean"] == pytest.approx(still[:, -1].mean())


def test_what_cannot_be_looked_into_is_measured_as_it_is() -> None:
    scores = locality(Program(torch.tanh))
    plain, still = scores.image_db_by_band()
    assert still is None
    assert (plain == 150).all()
    entry = scores.summary(seed=0)["locality"]
    assert entry["frozen_beyond_db"] is None
    assert [band["frozen_db"] for band in entry["bands"]] == [None] * 3


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"--locality 64: changes all of a window of 64 px; expected at most 63"
    ):
        locality(nn.Identity(), changed=64)
    assert len(locality(nn.Identity(), changed=63).bands) == 1
    with pytest.raises(InputError, match="calls instance_norm"):
        locality(ByFunction())


def test_the_chart_is_drawn_from_the_results_alone(tmp_path: Path) -> None:
    def band(low: int, high: int | None, frozen_db: float | None) -> dict:
        frozen = None if frozen_db is None else {"mean": frozen_db, "ci95": None}
        return {"from_px": low, "to_px": high, "db": {"mean": 30.0 + low, "ci95": None}, "frozen_db": frozen}

    models = [
        {"name": "a $1$ <b>", "locality": {"bands": [band(0, 16, 90.0), band(16, None, 150.0)]}},
        {"name": "program", "locality": {"bands": [band(0, 16, None), band(16, None, None)]}},
    ]
    results = {"models": models, "locality": {"changed_px": 8}}
    for name in ("one", "two"):
        draw_locality(tmp_path / f"{name}.png", results)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    with pytest.raises(ValueError, match="--locality"):
        draw_locality(tmp_path / "none.png", {"models": models})
