"""Any network: ranges, loaders, several outputs, larger and smaller outputs, rectangles."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from steadypix import InputError, eqt, pan_flicker, shift_stability
from steadypix.eval.metrics.eqt import EqtScores
from steadypix.eval.metrics.eqt_frac import EqtFracScores
from steadypix.eval.metrics.forward import fits
from steadypix.eval.metrics.measure import measure_alone
from steadypix.eval.metrics.perturb import PerturbationScores
from steadypix.eval.shifts.protocols import Crop, make_protocol

SMALL: dict[str, Any] = {"window_px": 32, "shifts": range(4), "margins_px": [0]}


def pictures(width: int = 40, height: int = 40, count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 8, 8, generator=generator) * 2 - 1
    return F.interpolate(coarse, (height, width), mode="bilinear")


def unstable(x: Tensor) -> Tensor:
    """A function that moves with the input only by steps of 2 px, on [-1, 1]."""
    return F.interpolate(x[..., ::2, ::2], scale_factor=2.0)


def on(low: float, high: float) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """From [-1, 1] to this range, and back."""
    half = (high - low) / 2
    return lambda x: (x + 1) * half + low, lambda y: (y - low) / half - 1


@pytest.mark.parametrize("data_range", [(0, 1), (-1, 1), (0, 255)])
def test_scores_are_the_same_in_every_range(data_range: tuple[float, float]) -> None:
    to, back = on(*data_range)
    expected = shift_stability(unstable, pictures(), **SMALL).mean_db(0)
    found = shift_stability(lambda x: to(unstable(back(x))), to(pictures()), data_range=data_range, **SMALL)
    assert found.mean_db(0) == pytest.approx(expected, abs=1e-3)
    same = shift_stability(lambda x: x, to(pictures()), data_range=data_range, **SMALL)
    assert same.mean_db(0) == 150.0
    eq, flicker = (
        measure(lambda x: to(unstable(back(x))), to(pictures(96, 96, 1)), window_px=48, data_range=data_range)
        for measure in (eqt, pan_flicker)
    )
    assert eq.db == pytest.approx(eqt(unstable, pictures(96, 96, 1), window_px=48).db, abs=1e-3)
    plain = pan_flicker(unstable, pictures(96, 96, 1), window_px=48).image_db()
    assert flicker.image_db() == pytest.approx(plain, abs=1e-3)


def test_inputs_and_outputs_may_have_ranges_of_their_own() -> None:
    to, _ = on(0, 255)
    expected = shift_stability(unstable, pictures(), **SMALL).mean_db(0)
    both = ((-1, 1), (0, 255))
    found = shift_stability(lambda x: to(unstable(x)), pictures(), data_range=both, **SMALL)
    assert found.mean_db(0) == pytest.approx(expected, abs=1e-3)


def test_outputs_that_leave_the_stated_range_are_refused() -> None:
    with pytest.raises(InputError, match=r"reaches -1.*outside of its stated range \[0, 1\]"):
        shift_stability(lambda x: -(x > 0.5).float(), pictures().abs(), data_range=(0, 1), **SMALL)
    for wrong in ((1, 0), (0,), "x", (0, math.nan), 3):
        with pytest.raises(InputError, match="data_range"):
            shift_stability(unstable, pictures(), data_range=wrong, **SMALL)


def test_a_range_that_is_evidently_another_is_named() -> None:
    with pytest.warns(UserWarning, match=r"outputs lie within \[0, 1\].*6 dB.*data_range=\(0,1\)"):
        shift_stability(nn.Sigmoid(), pictures(), **SMALL)
    with pytest.warns(UserWarning, match=r"as on \[0, 255\].*data_range=\(0,255\)"):
        shift_stability(lambda x: (x + 1) * 127.5, pictures(), **SMALL)
    shift_stability(nn.Sigmoid(), pictures(), data_range=((-1, 1), (0, 1)), **SMALL)


def test_loaders_of_tuples_dicts_and_tensors_give_the_same() -> None:
    x = pictures()
    expected = shift_stability(unstable, x, **SMALL).errors[0]
    ways: list[tuple[Any, Any]] = [
        (DataLoader(TensorDataset(x, torch.zeros(2)), batch_size=2), None),
        (DataLoader(TensorDataset(torch.zeros(2), x), batch_size=1), 1),
        ([{"input": x, "target": x * 0}], None),
        ([{"image": x}], None),
        ([{"photo": x, "labels": x * 0}], "photo"),
        ([{"photo": x, "labels": x * 0}], lambda batch: batch["photo"]),
        (list(x), None),  # single pictures
    ]
    for batches, which in ways:
        np.testing.assert_array_equal(
            shift_stability(unstable, batches, input=which, **SMALL).errors[0], expected
        )
    with pytest.raises(InputError, match="dict of 'photo', 'labels'; say which"):
        shift_stability(unstable, [{"photo": x, "labels": x}], **SMALL)
    with pytest.raises(InputError, match="there is no input 5"):
        shift_stability(unstable, [(x, x)], input=5, **SMALL)
    with pytest.raises(InputError, match="pictures must be tensors"):
        shift_stability(unstable, ["x"], **SMALL)


def test_outputs_of_several_parts() -> None:
    x = pictures()
    expected = shift_stability(unstable, x, **SMALL).errors[0]
    for network, which in [
        (lambda x: {"out": unstable(x), "aux": x}, "out"),
        (lambda x: (x, unstable(x)), 1),
        (lambda x: {"a": [unstable(x)]}, lambda y: y["a"][0]),
    ]:
        found = shift_stability(network, x, output=which, **SMALL)  # type: ignore[arg-type]
        np.testing.assert_array_equal(found.errors[0], expected)
    with pytest.raises(InputError, match="dict of 'out', 'aux'; say which is the picture by output='out'"):
        shift_stability(lambda x: {"out": x, "aux": x}, x, **SMALL)
    with pytest.raises(InputError, match="there is no 'in'"):
        shift_stability(lambda x: {"out": x}, x, output="in", **SMALL)


@pytest.mark.parametrize("protocol", ["crop", "roll"])
def test_super_resolution_against_a_slow_loop(protocol: str) -> None:
    """A shift of s px of the input is one of 2 s px of an output twice as large."""

    def network(x: Tensor) -> Tensor:
        return F.interpolate(unstable(x), scale_factor=2.0)

    x = pictures(44, 44, 1)
    result = shift_stability(
        network, x, window_px=32, shifts=[1, 3], protocol=protocol, margins_px=[0, 2], axis="y"
    )
    base = network(x[..., 6:38, 6:38])
    for column, d in enumerate([1, 3]):
        if protocol == "crop":
            moved = network(x[..., 6 - d : 38 - d, 6:38])
            first, second = base[..., : 64 - 2 * d, :], moved[..., 2 * d :, :]
        else:
            moved = network(x[..., 6:38, 6:38].roll(d, -2))
            first, second = base, moved.roll(-2 * d, -2)
        for margin in result.margins_px:
            inside = slice(2 * margin, -2 * margin or None)
            expected = (first - second)[..., inside, inside].double().square().mean().item()
            assert result.errors[margin][0, column] == pytest.approx(expected, rel=1e-6)


def test_valid_convolutions_against_the_same_with_its_border_cut() -> None:
    x = pictures(44, 44, 1)
    smaller = shift_stability(lambda x: unstable(x)[..., 3:-3, 5:-5], x, **SMALL)
    # The output for the window is the same place of the scene: what is left of all of it less those px.
    base = unstable(x[..., 6:38, 6:38])[..., 3:-3, 5:-5]
    for column, d in enumerate([1, 2, 3]):
        moved = unstable(x[..., 6:38, 6 - d : 38 - d])[..., 3:-3, 5:-5]
        expected = (base[..., : 22 - d] - moved[..., d:]).double().square().mean().item()
        assert smaller.errors[0][0, column] == pytest.approx(expected, rel=1e-6)
    with pytest.raises(InputError, match="roll compares everywhere"):
        shift_stability(lambda x: x[..., 1:-1, 1:-1], x, protocol="roll", **SMALL)
    with pytest.raises(InputError, match="margin 12 px: nothing is left"):
        shift_stability(lambda x: x[..., 3:-3, 5:-5], x, window_px=32, shifts=[1], margins_px=[12])


def test_outputs_so_small_that_nothing_is_shared_are_refused() -> None:
    x = pictures(64, 64, 1)
    for shift in (5, 6, 8):  # of 5 px
        with pytest.raises(InputError, match="nothing is left"):
            shift_stability(lambda x: x[..., 14:-14, 14:-14], x, window_px=33, shifts=[shift])
    with pytest.raises(InputError, match="eqt: outputs share nothing at a translation by"):
        eqt(lambda x: x[..., 29:-29, 29:-29], x, window_px=63)
    with pytest.raises(InputError, match="eqt_frac: outputs share nothing at a translation by"):
        measure_alone(
            lambda size: EqtFracScores(size, 40),
            lambda x: x[..., 4:-4, 4:-4],
            pictures(),
            window_px=40,
            batch_size=8,
        )


@pytest.mark.parametrize(
    ("given", "fit"),
    [
        *[((32, 48), True), ((64, 96), True), ((96, 144), True), ((28, 44), True), ((28, 48), True)],
        *[((64, 48), False), ((27, 43), False), ((16, 24), False), ((33, 49), False)],
        *[((0, 0), False), ((0, 44), False)],
    ],
)
def test_which_sizes_can_be_compared(given: tuple[int, int], fit: bool) -> None:
    assert fits((32, 48), given) == fit


def test_other_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="expected the input's size, a whole multiple"):
        shift_stability(lambda x: x[..., ::2, ::2], pictures(), **SMALL)
    with pytest.raises(InputError, match="must be of one size"):
        shift_stability(unstable, [pictures(), pictures(48, 40)], **SMALL)


@pytest.mark.parametrize("factor", [1, 2])
def test_smooth_enlargement_is_stable_under_every_measure(factor: int) -> None:
    """A network that only enlarges, exactly (Fourier), moves with its input: rectangles and both scales."""

    def enlarge(x: Tensor) -> Tensor:
        return x.repeat_interleave(factor, -1).repeat_interleave(factor, -2)

    x, window = pictures(112, 88, 1), (64, 48)
    for protocol in ("crop", "roll", "subpixel"):
        result = shift_stability(
            enlarge, x, window_px=window, shifts=[1, 2], protocol=protocol, margins_px=[0], axis="diagonal"
        )
        assert result.mean_db(0) > 140
    assert eqt(enlarge, x, window_px=window).db == 150.0
    assert pan_flicker(enlarge, x, window_px=window, n_frames=4).image_db()[0] == 150.0

    def make(canvas_px: Any) -> PerturbationScores:
        return PerturbationScores(Crop(canvas_px, window), ["noise", "rotation"], 4)

    table = measure_alone(make, enlarge, x, window_px=window, batch_size=4).table()
    least = {kind: min(row["mean_db"] for row in rows.values()) for kind, rows in table.items()}
    assert least["noise"] < 40  # noise goes through
    if factor == 1:
        assert least["rotation"] == 150.0
    else:  # turned about the same centre, up to how px were repeated
        assert least["rotation"] > 20


def test_rectangles_equal_a_slow_loop() -> None:
    x = pictures(60, 36, 1)
    result = shift_stability(unstable, x, window_px=(48, 24), shifts=[1, 3], margins_px=[0], axis="diagonal")
    base = unstable(x[..., 6:30, 6:54])
    for column, d in enumerate([1, 3]):
        moved = unstable(x[..., 6 - d : 30 - d, 6 - d : 54 - d])
        expected = (base[..., : 24 - d, : 48 - d] - moved[..., d:, d:]).double().square().mean().item()
        assert result.errors[0][0, column] == pytest.approx(expected, rel=1e-6)
    with pytest.raises(InputError, match="the 48x24 px window would leave the 60x36 px canvas"):
        shift_stability(unstable, x, window_px=(48, 24), shifts=[7], margins_px=[0])


def test_a_square_said_as_a_rectangle_is_the_same() -> None:
    for name in ("crop", "roll", "subpixel"):
        one, two = (
            make_protocol(name, canvas_px=c, window_px=w) for c, w in ((80, 64), ((80, 80), (64, 64)))
        )
        assert vars(one) == vars(two)
        assert one.room == two.room_along(1)
    assert EqtScores(80, 64).offsets(3) == EqtScores((80, 80), (64, 64)).offsets(3)
