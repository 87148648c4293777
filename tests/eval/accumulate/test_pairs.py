"""Stability of pairs: equal to `shift_stability` on the same pairs, to scikit-image and to torchmetrics."""

from __future__ import annotations

import importlib
import importlib.util
import math
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing
from skimage.metrics import peak_signal_noise_ratio
from torch import Tensor, nn

import steadypix
from steadypix import InputError, PairStability, shift_stability
from steadypix.eval.shifts.protocols import make_protocol
from tests.conftest import REPOSITORY
from tests.eval.accumulate import processes

SHIFTS = (1, 3, 5)  # at even ones this network moves nothing


@pytest.fixture
def torchmetrics() -> ModuleType:
    if importlib.util.find_spec("torchmetrics") is None:
        pytest.skip("the extra torchmetrics is not installed")
    assert steadypix.ShiftStability.__mro__[1].__module__.startswith("torchmetrics")
    return importlib.import_module("torchmetrics")


@pytest.fixture(params=["bare", "torchmetrics"])
def make(request: pytest.FixtureRequest) -> Callable[..., Any]:
    if request.param == "bare":
        return PairStability
    request.getfixturevalue("torchmetrics")
    return steadypix.ShiftStability


def pairs(protocol: str, network: nn.Module, pictures: Tensor) -> list[tuple[Tensor, Tensor]]:
    """What a user's own loop would make: outputs for shifted inputs, and shifted outputs."""
    rule = make_protocol(protocol, canvas_px=48, window_px=36)
    made = []
    with torch.no_grad():
        for shift in SHIFTS:
            base, moved = network(rule.base(pictures)), network(rule.shifted(pictures, (shift, 0)))
            shifted, moved = rule.aligned(base, moved, (shift, 0))
            made.append((moved, shifted))
    return made


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Tanh(), nn.ConvTranspose2d(8, 3, 2, 2), nn.Tanh()
    )


def images(count: int = 3, px: int = 48) -> Tensor:
    return torch.rand(count, 3, px, px, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize(("protocol", "margin"), [("crop", 0), ("crop", 4), ("roll", 0)])
def test_equal_to_shift_stability(make: Callable[..., Any], protocol: str, margin: int) -> None:
    how = {"window_px": 36, "shifts": SHIFTS, "protocol": protocol, "margins_px": [margin]}
    expected = shift_stability(network(), images(), **how).mean_db(margin)  # type: ignore[arg-type]
    metric = make(margin_px=margin)
    for moved, shifted in pairs(protocol, network(), images()):
        metric.update(moved, shifted)
    assert 5 < expected < 60
    assert float(metric.compute()) == pytest.approx(expected, abs=1e-4)  # float32 in batches of other sizes


@pytest.mark.parametrize("data_range", [1.0, 2.0, 255.0])
def test_equal_to_scikit_image(make: Callable[..., Any], data_range: float) -> None:
    a, b = (data_range * torch.rand(5, 1, 9, 7, dtype=torch.float64) for _ in range(2))
    metric = make(data_range=data_range, margin_px=2)
    metric.update(a[:2], b[:2])
    metric.update(a[2:], b[2:])
    inside = (slice(None), slice(2, -2), slice(2, -2))
    expected = [
        peak_signal_noise_ratio(x.numpy()[inside], y.numpy()[inside], data_range=data_range)
        for x, y in zip(a, b, strict=True)
    ]
    assert float(metric.compute()) == pytest.approx(np.mean(expected), abs=1e-10)


def test_equal_to_the_psnr_of_torchmetrics(torchmetrics: ModuleType) -> None:
    theirs = torchmetrics.image.PeakSignalNoiseRatio(
        data_range=2.0, reduction="elementwise_mean", dim=(1, 2, 3)
    )
    ours = steadypix.ShiftStability()
    collection = torchmetrics.MetricCollection({"theirs": theirs, "ours": ours})
    for moved, shifted in pairs("crop", network(), images()):
        collection.update(moved, shifted)
    found = collection.compute()
    assert found["ours"].item() == pytest.approx(found["theirs"].item(), abs=1e-4)  # theirs is in float32


@pytest.mark.usefixtures("torchmetrics")
def test_the_ways_of_torchmetrics() -> None:
    """A step's own value, saved and copied metrics, and gradients."""
    metric, (a, b) = steadypix.ShiftStability(), images(2)[:, None].split(1)
    step = metric(a[0], b[0])
    fresh = steadypix.ShiftStability()
    fresh.update(a[0], b[0])
    assert step == fresh.compute()
    again = pickle.loads(pickle.dumps(metric)).clone()
    assert again.compute() == metric.compute()
    leaf = a[0].clone().requires_grad_()
    steadypix.ShiftStability()(leaf, b[0]).backward()
    assert leaf.grad is not None
    assert leaf.grad.abs().sum() > 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchmetrics says that nothing was added
        assert torch.isnan(steadypix.ShiftStability().compute())


@pytest.mark.usefixtures("torchmetrics")
def test_what_other_processes_saw_is_added_up() -> None:
    """As torchmetrics gathers states, but without processes: the others' states are handed over."""
    shares = [processes.share_of(rank) for rank in range(2)]
    other, all_of_them = steadypix.ShiftStability(), steadypix.ShiftStability()
    other.update(*shares[1])

    def gather(state: Tensor, group: Any) -> list[Tensor]:
        return [state, other.count if state.dtype == torch.int64 else other.sum_db]

    mine = steadypix.ShiftStability(dist_sync_fn=gather, distributed_available_fn=lambda: True)
    mine.update(*shares[0])
    for share in shares:
        all_of_them.update(*share)
    assert mine.compute().item() == pytest.approx(all_of_them.compute().item(), abs=1e-12)


def test_reset_and_equal_pairs(make: Callable[..., Any]) -> None:
    metric, x = make(), images(2)
    metric.update(x, -x)
    low = float(metric.compute())
    metric.reset()
    metric.update(x, x)
    assert float(metric.compute()) == 150.0 > low
    metric.update(x, -x)
    assert float(metric.compute()) == pytest.approx((150 + low) / 2, abs=1e-9)


def test_half_precision_and_gradients_are_taken(make: Callable[..., Any]) -> None:
    metric, x = make(), images(1).half()
    metric.update(x.clone().float().requires_grad_().half(), x / 2)
    assert 0 < float(metric.compute()) < 30


def test_pixels_of_8_bits_have_differences_below_0(make: Callable[..., Any]) -> None:
    dark, light = (torch.full((1, 3, 8, 8), level, dtype=torch.uint8) for level in (10, 20))
    scores = []
    for first, second in ((dark, light), (light, dark), (dark.float(), light.float())):
        metric = make(data_range=255)
        metric.update(first, second)
        scores.append(float(metric.compute()))
    assert scores == [pytest.approx(20 * math.log10(25.5))] * 3


def test_bad_input(make: Callable[..., Any]) -> None:
    for words, match in (({"data_range": 0}, "data_range 0"), ({"margin_px": -1}, "margin_px -1")):
        with pytest.raises(InputError, match=match):
            make(**words)
    metric, x = make(margin_px=4), images(1, 8)
    with pytest.raises(InputError, match=r"\(1, 3, 8, 8\) and \(1, 3, 8, 7\); expected two of one size"):
        metric.update(x, x[..., :7])
    with pytest.raises(InputError, match="margin 4 px: nothing is left"):
        metric.update(x, x)
    metric = make()
    metric.update(x, x / 2)
    before = float(metric.compute())
    with pytest.raises(InputError, match="not finite"):
        metric.update(x, x * torch.nan)
    assert float(metric.compute()) == before
    if make is PairStability:
        with pytest.raises(InputError, match="no pairs of outputs"):
            make().compute()


# ---- several processes ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_share_the_pairs(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(processes.measure, (str(tmp_path / "meeting"),), nprocs=2)
    alone = PairStability()
    for rank in range(2):
        alone.update(*processes.share_of(rank))
    for rank in range(2):
        found = float((tmp_path / f"meeting.{rank}").read_text())
        assert found == pytest.approx(alone.compute(), abs=1e-9)


# ---- without torchmetrics ---------------------------------------------------------------------------------


def test_without_torchmetrics(tmp_path: Path) -> None:
    """The name is there, and using it says in a line what is missing."""
    (tmp_path / "torchmetrics.py").write_text("raise ImportError('not installed')\n")
    script = (
        "from steadypix import PairStability, ShiftStability\n"
        "PairStability()\n"
        "try:\n"
        "    ShiftStability()\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    environment = {"PYTHONPATH": str(tmp_path), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPOSITORY,
        env=environment,
    )
    assert done.stdout.count("\n") == 1
    assert "needs torchmetrics" in done.stdout
    assert "pip install 'steadypix[torchmetrics]'" in done.stdout
