"""Carriers of texture: they move with the picture's edges, to the bit, and are no stripes."""

from __future__ import annotations

import io
import math
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from torch import Tensor

from steadypix.data.pictures.transforms import resize
from steadypix.eval.metrics.perturb_kinds import perturbed_canvas
from steadypix.eval.shifts.fractional import sinc_shift
from steadypix.gen.layers.anchors import LOUDNESS, REACH_PX, AnchoredTexture, noise_table
from steadypix.gen.layers.edges import (
    FULLY,
    LIGHTLY,
    NEARBY_PX,
    RAMP_REACH,
    Edges,
    find_edges,
    nearest,
    nearest_true,
    smooth,
    window_max,
)

pytestmark = pytest.mark.slow

SETTINGS = settings(deadline=None, max_examples=25)
BORDER = 24  # px within which a border has its say in how flat it is
PRESENT = 0.5


def boxes(size: tuple[int, int], *, seed: int, count: int = 6, channels: int = 3, border: int = 0) -> Tensor:
    """A flat picture (1, channels, H, W) with boxes of other values, `border` px and more from its border."""
    rng = np.random.default_rng(seed)
    picture = np.full((1, channels, *size), -1.0, dtype=np.float32)
    for _ in range(count):
        (top, bottom), (left, right) = (
            np.sort(rng.choice(np.arange(border, side - border + 1), 2, replace=False)) for side in size
        )
        picture[..., top:bottom, left:right] = rng.choice([-0.3, 0.3, 1.0], (channels, 1, 1))
    return torch.from_numpy(picture)


def edges_of(x: Tensor) -> Edges:
    """Edges along the last axis, found as the carriers find them."""
    return find_edges(smooth(smooth(x, LIGHTLY), FULLY))


def place_of_edges(row: Tensor) -> list[float]:
    """Where the edges of a row (W,) lie, in samples."""
    edges = edges_of(row[None, None, None].expand(1, 1, 3, -1))
    places = torch.arange(len(row)) + 0.5 + edges.middle[0, 1]
    return places[edges.presence[0, 1] > PRESENT].tolist()


# --- whole pixels ------------------------------------------------------------------------------------


@SETTINGS
@given(
    seed=st.integers(0, 1000),
    shift=st.tuples(st.integers(-9, 9), st.integers(-9, 9)),
    size=st.tuples(st.integers(70, 110), st.integers(70, 110)),
    channels=st.sampled_from([1, 3, 16, 64]),
)
def test_a_crop_has_the_same_carriers(
    seed: int, shift: tuple[int, int], size: tuple[int, int], channels: int
) -> None:
    texture = AnchoredTexture(3)
    (dx, dy), (height, width) = shift, size
    canvas = boxes((height + 20, width + 20), seed=seed, channels=channels, border=BORDER + 10)
    here = texture(canvas[..., 10 : 10 + height, 10 : 10 + width])
    there = texture(canvas[..., 10 - dy : 10 - dy + height, 10 - dx : 10 - dx + width])
    moved = torch.roll(here, (dy, dx), (-2, -1))
    inner = (..., slice(9, height - 9), slice(9, width - 9))
    assert here.abs().max() > LOUDNESS
    assert torch.equal(moved[inner], there[inner])


@SETTINGS
@given(seed=st.integers(0, 1000), shift=st.tuples(st.integers(-9, 9), st.integers(-9, 9)))
def test_so_has_a_rolled_window_but_for_its_seam(seed: int, shift: tuple[int, int]) -> None:
    texture = AnchoredTexture(2)
    x = boxes((90, 100), seed=seed, border=BORDER + 10)
    there = texture(torch.roll(x, shift, (-1, -2)))
    moved = torch.roll(texture(x), shift, (-1, -2))
    assert torch.equal(moved[..., 10:-10, 10:-10], there[..., 10:-10, 10:-10])


@SETTINGS
@given(
    seed=st.integers(0, 1000),
    shift=st.tuples(st.integers(-99, 99), st.integers(-99, 99)),
    size=st.tuples(st.integers(1, 80), st.integers(1, 80)),
)
def test_circular_carriers_roll_exactly(seed: int, shift: tuple[int, int], size: tuple[int, int]) -> None:
    texture = AnchoredTexture(2, circular=True)
    x = boxes(size, seed=seed)
    rolled = texture(torch.roll(x, shift, (-1, -2)))
    assert torch.equal(rolled, torch.roll(texture(x), shift, (-1, -2)))


def test_pictures_of_a_batch_do_not_see_each_other() -> None:
    x = torch.cat([boxes((60, 70), seed=seed) for seed in range(3)])
    alone = torch.cat([AnchoredTexture(2)(picture[None]) for picture in x])
    assert torch.equal(AnchoredTexture(2)(x), alone)


# --- fractions of a pixel -----------------------------------------------------------------------------


@SETTINGS
@given(
    middle=st.floats(12, 28),
    width=st.floats(0.05, 3.0),
    step=st.sampled_from([0.4, 1.0, 2.0]),
    up=st.booleans(),
)
def test_a_ramp_is_found_once_where_it_crosses_its_middle(
    middle: float, width: float, step: float, up: bool
) -> None:
    fine = (torch.arange(40 * 64) + 0.5) / 64 - 0.5  # each sample is the mean over its pixel
    ramp = ((fine - middle) / width + 0.5).clamp(0, 1).reshape(40, 64).mean(1)
    row = (ramp - 0.5) * (step if up else -step)
    (found,) = place_of_edges(row)
    assert found == pytest.approx(middle, abs=0.12)


def test_a_step_lies_between_its_samples() -> None:
    row = torch.full((30,), -1.0)
    row[14:] = 1
    assert place_of_edges(row) == pytest.approx([13.5], abs=1e-5)


def test_a_line_of_a_pixel_has_two_edges() -> None:
    row = torch.full((30,), -1.0)
    row[14] = 1
    left, right = place_of_edges(row)
    assert left + right == pytest.approx(28, abs=1e-4)
    assert 0.5 < right - left < 6  # as far apart as smoothing leaves them


@pytest.mark.parametrize(
    "fraction", [(Fraction(1, 2), 0), (0, Fraction(1, 2)), (Fraction(1, 4), Fraction(1, 3))]
)
def test_half_a_pixel_moves_the_carriers_by_half_a_pixel(fraction: tuple[Fraction, Fraction]) -> None:
    texture = AnchoredTexture(2)
    errors, powers = [], []
    for seed in range(6):
        x = boxes((140, 140), seed=seed, count=3, border=30)
        there = texture(sinc_shift(x, fraction).float())
        moved = sinc_shift(texture(x), fraction)
        inner = (..., slice(24, -24), slice(24, -24))
        errors.append((there - moved)[inner].square().mean())
        powers.append(moved[inner].square().mean())
    # The prototype, whose distances were whole, kept none of it: 0.5 and more.
    assert sum(errors) < 0.15 * sum(powers)


# --- nothing that is no edge --------------------------------------------------------------------------


def test_jpeg_leaves_no_edges() -> None:
    clean = boxes((96, 96), seed=3, count=5, border=12)
    pixels = ((clean[0] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=75)
    rough = torch.from_numpy(np.asarray(Image.open(file)).copy()).permute(2, 0, 1)[None] / 127.5 - 1
    ours, theirs = (edges_of(x).presence > PRESENT for x in (clean, rough))
    inner = (..., slice(RAMP_REACH + 1, -RAMP_REACH - 2))
    near = ours | torch.roll(ours, 1, -1) | torch.roll(ours, -1, -1)
    strays = (theirs & ~near)[inner].sum()
    assert strays <= 0.03 * ours.sum()
    assert theirs.sum() >= 0.95 * ours.sum()


@pytest.mark.parametrize("value", [-1.0, 0.3])
def test_a_flat_picture_has_none(value: float) -> None:
    assert not AnchoredTexture(2)(torch.full((1, 3, 80, 90), value)).any()


def test_nor_has_noise() -> None:
    x = 0.3 * torch.randn(1, 3, 90, 90, generator=torch.Generator().manual_seed(0))
    assert AnchoredTexture(2)(x).std() < 0.1 * LOUDNESS


@SETTINGS
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 150)),
    channels=st.integers(1, 64),
    seed=st.integers(0, 99),
    kind=st.sampled_from(["boxes", "noise", "pixel", "beyond"]),
)
def test_any_picture_has_finite_carriers(size: tuple[int, int], channels: int, seed: int, kind: str) -> None:
    x = boxes(size, seed=seed, channels=channels)
    if kind == "noise":
        x = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    elif kind == "pixel":
        x = torch.zeros_like(x)
        x[..., size[0] // 2, size[1] // 2] = 1
    elif kind == "beyond":
        x = x * 1e6
    y = AnchoredTexture(2)(x)
    assert y.shape == (1, 2, *size)
    assert y.isfinite().all()
    assert y.abs().max() < 8 * LOUDNESS


# --- no stripes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [-1, -2])
def test_an_edge_along_one_axis_alone_makes_nothing(axis: int) -> None:
    x = torch.full((1, 1, 80, 80), -1.0)
    x.narrow(axis, 30, 20).fill_(1.0)
    assert not AnchoredTexture(4)(x).any()


@pytest.mark.parametrize("axis", [-1, -2])
def test_a_band_across_the_window_borrows_from_what_stands_on_it(axis: int) -> None:
    x = torch.full((1, 1, 96, 96), -1.0)
    x[..., 50:64, :] = 1.0  # the band
    x[..., 20:50, 30:60] = 0.2
    band = (..., slice(51, 58), slice(20, 70))
    if axis == -2:
        x = x.transpose(-1, -2)
    y = AnchoredTexture(4)(x)
    if axis == -2:
        y = y.transpose(-1, -2)
    within = y[band]
    assert within.std() > 0.4 * LOUDNESS
    across, down = (within.diff(dim=dim).square().mean() for dim in (-1, -2))
    assert 0.5 < across / down < 2


def test_noise_has_no_direction_and_its_octaves_get_coarser() -> None:
    table = noise_table(4, 2)
    assert table.shape == (4, 8 * REACH_PX + 1, 8 * REACH_PX + 1)
    assert table.std((1, 2)).tolist() == pytest.approx([LOUDNESS] * 4, rel=0.01)
    across, down = (table.diff(dim=dim).square().mean((1, 2)) for dim in (-1, -2))
    assert (across / down).tolist() == pytest.approx([1] * 4, rel=0.05)
    assert (across[0::2] / across[1::2]).tolist() == pytest.approx([4, 4], rel=0.1)
    assert abs(torch.corrcoef(table.flatten(1)).fill_diagonal_(0)).max() < 0.05
    # The same numbers on every machine.
    assert table[0, 3, :3].tolist() == pytest.approx(FIRST, abs=1e-5)


FIRST = [0.56098, 0.79829, 0.95453]


# --- distances ---------------------------------------------------------------------------------------


@SETTINGS
@given(st.lists(st.booleans(), min_size=1, max_size=90), st.integers(1, 6))
def test_the_nearest_is_found_as_by_looking(marks: list[bool], doublings: int) -> None:
    row = torch.tensor(marks)[None, None]
    far = 2**doublings
    left, right = nearest_true(row, doublings)
    for place in range(len(marks)):
        before = min([place - other for other in range(place + 1) if marks[other]], default=far)
        behind = min([other - place for other in range(place, len(marks)) if marks[other]], default=far)
        assert left[0, 0, place] == min(before, far)
        assert right[0, 0, place] == min(behind, far)


def test_distances_count_from_the_edge() -> None:
    row = torch.full((40,), -1.0)
    row[14:] = 1
    edges = edges_of(row[None, None, None].expand(1, 1, 3, -1))
    left, right = (side.distance[0, 0, 1] for side in nearest(edges, 6))
    assert left[14:].tolist() == pytest.approx([0.5 + k for k in range(26)], abs=1e-5)
    assert right[:14].tolist() == pytest.approx([13.5 - k for k in range(14)], abs=1e-5)
    assert (left[:14] == 64).all()


def test_a_weak_edge_hides_no_certain_one_behind_it() -> None:
    row = torch.full((60,), -1.0)
    row[20:] = 0.5
    row[29:] = 0.9  # a quarter of the strongest jump
    edges = edges_of(row[None, None, None].expand(1, 1, 3, -1))
    left, _ = nearest(edges, 6)
    assert 0 < left.presence[0, 1, 45] < 1
    assert left.distance[0, 0, 1, 45] == pytest.approx(45 - 28.5, abs=0.2)
    assert left.distance[1, 0, 1, 45] == pytest.approx(45 - 19.5, abs=0.2)
    assert left.presence[0, 1, 25] == 1
    assert left.distance[0, 0, 1, 25] == left.distance[1, 0, 1, 25]


@SETTINGS
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)), seed=st.integers(0, 99), circular=st.booleans()
)
def test_the_highest_nearby_is_found_as_by_looking(size: tuple[int, int], seed: int, circular: bool) -> None:
    x = np.random.default_rng(seed).random((1, *size), dtype=np.float32)
    mode = {"mode": "wrap"} if circular else {}
    padded = np.pad(x[0], NEARBY_PX, **mode)
    around = np.lib.stride_tricks.sliding_window_view(padded, (2 * NEARBY_PX + 1, 2 * NEARBY_PX + 1))
    assert (window_max(torch.from_numpy(x), circular=circular)[0].numpy() == around.max((2, 3))).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (30, 20)])
def test_smoothing_is_a_row_of_small_binomials(size: tuple[int, int]) -> None:
    x = torch.rand(2, 3, *size, dtype=torch.float64)
    theirs = x.numpy()
    for dilation in (1, 1, 2, 2):
        taps = np.zeros(2 * dilation + 1)
        taps[::dilation] = 0.25, 0.5, 0.25
        for axis in (-1, -2):
            theirs = ndimage.convolve1d(theirs, taps, axis, mode="nearest")
    np.testing.assert_allclose(smooth(smooth(x, LIGHTLY), FULLY), theirs, atol=1e-14)


# --- arguments and types -----------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [{"channels": 0}, {"channels": 17}, {"octaves": 0}, {"octaves": 5}])
def test_counts_out_of_range_are_named(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="texture_channels"):
        AnchoredTexture(**arguments)


def test_it_has_no_weights_and_no_gradient() -> None:
    texture = AnchoredTexture(2)
    assert not texture.state_dict()
    x = boxes((50, 50), seed=0).requires_grad_()
    assert not texture(x).requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(dtype: torch.dtype) -> None:
    x = boxes((60, 60), seed=1, border=10)
    y = AnchoredTexture(2)(x.to(dtype))
    assert y.dtype == dtype
    # A value that cannot be held exactly moves an edge by a hair.
    assert (y.float() - AnchoredTexture(2)(x)).square().mean().sqrt() < 0.05 * LOUDNESS


def test_it_is_built_where_a_network_is_on_the_meta_device() -> None:
    with torch.device("meta"):
        texture = AnchoredTexture(2)
    assert torch.equal(texture.table, noise_table(2, 2))


# --- real pictures ------------------------------------------------------------------------------------


def windows(folder: Path, half: int, count: int = 16) -> Tensor:
    """The first pictures of a folder at 286 px: half 0 left, 1 right. (N, 3, 286, 286)."""
    found = []
    for file in sorted(folder.iterdir())[:count]:
        pixels = np.asarray(Image.open(file).convert("RGB"))
        side = pixels.shape[1] // 2
        pixels = resize(pixels[:, half * side : (half + 1) * side], 286)
        found.append(torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 127.5 - 1)
    return torch.stack(found)


def test_few_pixels_change_at_whole_shifts_of_real_labels(
    real_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = windows(real_data / "facades" / "test", 1)
    texture = AnchoredTexture(4)
    base = texture(labels[..., 79:207, 79:207])
    shares = {}
    for shift in range(1, 8):
        moved = texture(labels[..., 79:207, 79 - shift : 207 - shift])
        changed = (moved[..., shift:] - base[..., :-shift]).abs().amax(1) > 0.1 * LOUDNESS
        shares[shift] = [100 * part.float().mean().item() for part in (changed, changed[:, 16:-16, 16:-16])]
    with capsys.disabled():
        print("\nshare of carriers that change [%], full frame and less 16 px, by shift in px:")
        print("; ".join(f"{shift}: {full:.2f}, {inner:.2f}" for shift, (full, inner) in shares.items()))
    # The prototype has 1.70 % at 5 px within the margin, by the same measure, and 3.37 % over the full frame.
    assert shares[5][1] < 1.7
    assert all(inner < 2 for _, inner in shares.values())


def test_noise_blur_and_jpeg_leave_most_of_the_carriers_of_real_labels(real_data: Path) -> None:
    texture = AnchoredTexture(4)
    window = (..., slice(79, 207), slice(79, 207))
    inner = (..., slice(16, -16), slice(16, -16))
    canvases = windows(real_data / "facades" / "test", 1, count=6)
    for kind, value, least_db in (("noise", 0.04, 13), ("blur", 1.0, 12), ("jpeg", 70, 10)):
        errors, powers = [], []
        for canvas in canvases:
            place = {"origin_px": 79, "window_px": 128}
            changed = perturbed_canvas(canvas[None], kind, value, **place)
            base, moved = texture(canvas[None][window]), texture(changed[window])
            errors.append((moved - base)[inner].square().mean())
            powers.append(base[inner].square().mean())
        # Edges found by a threshold alone keep 0.5, 6 and 3.5 dB.
        assert 10 * math.log10(sum(powers) / sum(errors)) > least_db, kind


def test_a_photo_without_flat_regions_has_next_to_no_carriers(real_data: Path) -> None:
    aerial = windows(real_data / "maps" / "val", 0)[..., 79:207, 79:207]
    labels = windows(real_data / "facades" / "test", 1)[..., 79:207, 79:207]
    texture = AnchoredTexture(4)
    power = [texture(x).square().mean().item() for x in (aerial, labels)]
    assert power[0] < 0.4 * power[1]


def test_they_cost_little_beside_a_generator() -> None:
    from steadypix import UNetGenerator

    x = boxes((128, 128), seed=0)
    network, texture = UNetGenerator(ngf=64, num_downs=7).eval(), AnchoredTexture(4)
    seconds = []
    with torch.no_grad():
        for module in (network, texture):
            module(x)
            runs = []
            for _ in range(5):
                start = time.perf_counter()
                module(x)
                runs.append(time.perf_counter() - start)
            seconds.append(min(runs))
    assert seconds[1] < 0.5 * seconds[0]
