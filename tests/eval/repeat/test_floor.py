"""A generator that answers equal inputs unequally is named, with its own floor, before it is scored."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steadypix import InputError, UNetGenerator, eqt, pan_flicker, shift_stability
from steadypix.eval.eval_stability import main as eval_stability
from steadypix.eval.metrics.decibels import IDENTICAL_DB
from steadypix.eval.repeat.convention import PublishedConvention
from steadypix.eval.repeat.floor import AGREE_DB, find_floor, seeded
from steadypix.eval.report.render import render
from steadypix.eval.results.schema import read_results
from tests.cli import FAST, one_error_line
from tests.published_nets import PublishedResnet, PublishedUnet, liven

Capture = pytest.CaptureFixture[str]
DEVIATION = 0.05


class Noisy(nn.Module):
    """Adds noise of a known deviation."""

    def forward(self, x: Tensor) -> Tensor:
        return x / 2 + DEVIATION * torch.randn_like(x)


class ByBatch(nn.Module):
    """Normalises by the batch, as a batch norm left in training mode does."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(F.batch_norm(x, None, None, training=True))


class Rounding(nn.Module):
    """What another order of sums does."""

    def forward(self, x: Tensor) -> Tensor:
        return x / 2 + 1e-7 * torch.randn_like(x)


class Counting(nn.Module):
    """A tanh that counts the windows it saw."""

    seen = 0

    def forward(self, x: Tensor) -> Tensor:
        Counting.seen += len(x)
        return torch.tanh(x)


def noisy() -> nn.Module:
    return Noisy()


def by_batch() -> nn.Module:
    return ByBatch()


def exact() -> nn.Module:
    return nn.Tanh()


def window(px: int = 64) -> Tensor:
    return torch.rand(1, 3, px, px, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_exact_generators_have_no_floor() -> None:
    floor = find_floor(nn.Tanh(), window())
    assert (floor.cause, floor.db) == ("", IDENTICAL_DB)
    rounding = find_floor(Rounding(), window())
    assert rounding.cause == ""
    assert AGREE_DB < rounding.db < IDENTICAL_DB


def test_the_floor_of_noise_is_that_of_its_deviation() -> None:
    """The difference of two draws has twice the variance: 10 log10(4 / (2 s^2))."""
    floor = find_floor(Noisy(), window())
    assert floor.cause == "random"
    assert floor.repeat_db == pytest.approx(10 * math.log10(4 / (2 * DEVIATION**2)), abs=0.3)
    assert floor == find_floor(Noisy(), window()), "seeded"
    assert floor != find_floor(Noisy(), window(), seed=1)


def test_the_floor_of_a_batch() -> None:
    x = window()
    floor = find_floor(ByBatch(), x)
    alone, beside = ByBatch()(x), ByBatch()(torch.cat([x, x / 2]))[:1]
    expected = 10 * math.log10(4 / (alone - beside).double().square().mean().item())
    assert (floor.cause, floor.repeat_db) == ("batch", IDENTICAL_DB)
    assert floor.db == floor.batch_db == pytest.approx(expected, abs=1e-6)
    assert find_floor(ByBatch(), x, batches=False).cause == ""


def test_what_is_drawn_depends_on_the_numbers_and_nothing_stays() -> None:
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    with seeded("cpu", 0, 3):
        first = torch.rand(4)
    assert torch.equal(torch.rand(2), expected)
    with seeded("cpu", 0, 3):
        assert torch.equal(torch.rand(4), first)
    with seeded("cpu", 3, 0):
        assert not torch.equal(torch.rand(4), first)


# ---- in Python --------------------------------------------------------------------------------------------


def test_shift_stability_refuses_random_networks() -> None:
    pictures = torch.rand(2, 3, 40, 40) * 2 - 1
    how: dict[str, Any] = {"window_px": 32, "shifts": range(3), "margins_px": [0]}
    with pytest.raises(InputError, match=r"^the network is random: .* 29\.\d dB.*expected allow_random=True"):
        shift_stability(Noisy(), pictures, **how)
    with pytest.raises(
        InputError, match=r"^the network goes by .*expected batch_size=1, or allow_random=True"
    ):
        shift_stability(ByBatch(), iter([pictures]), **how)
    allowed = shift_stability(Noisy(), pictures, **how, allow_random=True)
    assert allowed.floor_db is not None
    assert allowed.mean_db(0) == pytest.approx(allowed.floor_db, abs=0.5), "noise alone moves"
    assert allowed.select([(1, 0)]).floor_db == allowed.floor_db
    assert shift_stability(ByBatch(), pictures, **how, batch_size=1).floor_db is None


@pytest.mark.parametrize("measure", [eqt, pan_flicker])
def test_other_measures_refuse_them_too(measure: Callable[..., Any]) -> None:
    pictures = torch.rand(1, 3, 84, 84) * 2 - 1
    how = {"window_px": 32} if measure is eqt else {"window_px": 48, "n_frames": 4}
    with pytest.raises(InputError, match=r"^the network is random: .*expected allow_random=True"):
        measure(Noisy(), pictures, **how)
    assert measure(Noisy(), pictures, **how, allow_random=True) is not None
    assert measure(ByBatch(), pictures, **how, batch_size=1) is not None


def test_the_check_costs_four_windows_of_one_picture() -> None:
    pictures = torch.rand(3, 3, 40, 40) * 2 - 1
    Counting.seen = 0
    shift_stability(Counting(), pictures, window_px=32, shifts=range(5), margins_px=[0])
    assert Counting.seen == 3 * 5 + 4


# ---- the command ------------------------------------------------------------------------------------------

WORDS = ["--trust", "--data", "synthetic-facades", "--limit", "2", "--window", "32", "--canvas", "40", *FAST]


def test_random_generators_are_refused(tmp_path: Path, capsys: Capture) -> None:
    out = ["--out", str(tmp_path / "out")]
    assert eval_stability([f"{__name__}:exact", f"{__name__}:noisy", *WORDS, *out]) == 2
    one_error_line(capsys, f"{__name__}:noisy", "is random", " 29.", "--allow-random")
    assert eval_stability([f"{__name__}:by_batch", *WORDS, *out]) == 2
    one_error_line(capsys, f"{__name__}:by_batch", "batch", "--batch_size 1", "--allow-random")
    assert not list((tmp_path / "out").rglob("*"))
    assert eval_stability([f"{__name__}:by_batch", *WORDS, *out, "--batch_size", "1"]) == 0
    assert "floor" not in json.loads((tmp_path / "out" / "results.json").read_text())["models"][0]


def test_the_floor_stands_beside_the_score(tmp_path: Path, capsys: Capture) -> None:
    words = [f"{__name__}:exact", f"{__name__}:noisy", *WORDS, "--allow-random"]
    assert eval_stability([*words, "--out", str(tmp_path / "a")]) == 0
    printed = capsys.readouterr().out
    heading = printed.splitlines()[0]
    assert heading.index("crop, 4 px") < heading.index("floor [dB]")
    results = read_results(tmp_path / "a" / "results.json")
    still, moving = results["models"]
    assert "floor" not in still
    floor = moving["floor"]
    assert floor["cause"] == "random"
    assert f"{floor['db']:.2f}" in printed
    assert f"{__name__}:noisy is random" in printed
    assert moving["stability"]["crop"]["0"]["odd_mean_db"]["mean"] == pytest.approx(floor["db"], abs=1)
    page = render(results)
    assert "noisy is random: equal inputs give outputs that agree to" in page
    assert "floor" in page
    # Seeded by picture: the same numbers from another run, and from one that was interrupted.
    assert eval_stability([*words, "--out", str(tmp_path / "b")]) == 0
    again = read_results(tmp_path / "b" / "results.json")
    assert again["models"] == results["models"]


def test_a_picture_that_cannot_be_read_is_passed_over(
    pair_folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    (pair_folder / "test" / "1.png").write_bytes(b"no picture")
    words = [f"{__name__}:noisy", "--trust", "--data", str(pair_folder), "--window", "32", "--canvas", "40"]
    words += ["--on_error", "skip", "--out", str(tmp_path / "out"), *FAST]
    assert eval_stability(words) == 2
    one_error_line(capsys, "is random", "--allow-random")


# ---- the published convention -----------------------------------------------------------------------------


def test_the_convention_is_training_mode_on_one_picture_at_a_time() -> None:
    network = liven(PublishedUnet(num_downs=5, norm="batch"))
    x = torch.cat([window(64), window(64) / 3, -window(64)])
    before = {key: value.clone() for key, value in network.state_dict().items()}
    network.train()
    with torch.no_grad():
        expected = torch.cat([network(picture) for picture in x.split(1)])
    network.load_state_dict(before)
    wrapped = PublishedConvention(network).eval()
    with torch.inference_mode():
        assert torch.equal(wrapped(x), expected)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert wrapped.modes == {"norm_mode": "statistics of each picture", "dropout_mode": "there is none"}
    assert find_floor(wrapped, x[:1]).cause == "", "no dropout, a picture at a time: nothing is random"


def test_dropout_is_on() -> None:
    network = liven(PublishedResnet(dropout=True, norm="instance"))
    wrapped = PublishedConvention(network)
    assert wrapped.modes["dropout_mode"] == "on"
    x = window(32)
    with torch.no_grad():
        torch.manual_seed(0)
        first = wrapped(x)
        torch.manual_seed(0)
        network.train()
        assert torch.equal(network(x), first)
        assert not torch.equal(wrapped(x), first)
    assert find_floor(wrapped, x).cause == "random"


def test_the_command_by_the_published_convention(tmp_path: Path, capsys: Capture) -> None:
    torch.save(liven(PublishedUnet(num_downs=6, norm="batch")).state_dict(), tmp_path / "net.pth")
    words = [str(tmp_path / "net.pth"), "--data", "synthetic-facades", "--limit", "2", "--window", "64"]
    words += ["--canvas", "72", *FAST, "--out"]
    assert eval_stability([*words, str(tmp_path / "eval")]) == 0
    assert eval_stability([*words, str(tmp_path / "as-tested"), "--published-convention"]) == 0
    plain, tested = (
        read_results(tmp_path / name / "results.json")["models"][0] for name in ("eval", "as-tested")
    )
    assert (plain["norm_mode"], plain["dropout_mode"]) == ("running statistics", "off")
    assert (tested["norm_mode"], tested["dropout_mode"]) == ("statistics of each picture", "on")
    assert "floor" not in plain
    assert tested["floor"]["cause"] == "random"
    score = tested["stability"]["crop"]["0"]["odd_mean_db"]["mean"]
    assert score < tested["floor"]["db"] + 1
    capsys.readouterr()
    more = [str(tmp_path / "x"), "--published-convention"]
    assert eval_stability([*words, *more, "--causes"]) == 2
    one_error_line(capsys, "--causes", "--published-convention")


def test_the_convention_needs_layers(tmp_path: Path, capsys: Capture) -> None:
    program = torch.export.export(nn.Sequential(nn.Tanh()), (torch.zeros(1, 3, 32, 32),))
    torch.export.save(program, tmp_path / "net.pt2")
    words = [str(tmp_path / "net.pt2"), *WORDS, "--out", str(tmp_path / "out"), "--published-convention"]
    assert eval_stability(words) == 2
    one_error_line(capsys, "net.pt2", "torch.export program", "--published-convention")


def test_a_network_that_training_mode_cannot_run_is_named(tmp_path: Path) -> None:
    network = UNetGenerator(ngf=2, num_downs=5, norm="batch")
    with pytest.raises(InputError, match="training mode on one picture"):
        PublishedConvention(nn.Sequential(network, nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3)))(window(32))


def test_the_convention_hands_on_what_a_network_says() -> None:
    class Picky(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise InputError("takes 4 channels")

    with pytest.raises(InputError, match=r"^takes 4 channels$"):
        PublishedConvention(Picky())(window(32))
