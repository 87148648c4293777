"""Tiles against the whole: joined as `run_tiled` does it, against slow loops, and by laws."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from steadypix.errors import InputError
from steadypix.eval.charts.seam_chart import Seams, draw_seams
from steadypix.eval.generators.programs import Program
from steadypix.eval.large.seam import WAYS, SeamScores, Tiling, parse_tiles
from steadypix.eval.metrics.measure import Conditions, measure_alone
from steadypix.gen.networks.tiles import run_tiled, starts
from tests.eval.large.test_causes import ByHand
from tests.eval.measure.test_exchange import pixels_of

CANVAS = 76
TILINGS = st.tuples(
    st.tuples(st.integers(33, 120), st.integers(5, 120)), st.integers(8, 32), st.integers(0, 15)
).filter(lambda t: 2 * t[2] < t[1])


def pictures(size: int = CANVAS, count: int = 2) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def seams(network: nn.Module, *tiles: tuple[int, int]) -> SeamScores:
    def make(canvas_px: int) -> SeamScores:
        return SeamScores.make(list(map(list, tiles)), Conditions(canvas_px=canvas_px, window_px=64))

    return measure_alone(make, network, pictures(), window_px=64, batch_size=3)


def db(scores: SeamScores, place: int = 0) -> dict[str, float]:
    found = {way: scores.image_db_of(place, way) for way in WAYS}
    return {way: float(each.min()) for way, each in found.items() if each is not None}


def test_sizes_are_read() -> None:
    assert parse_tiles("64, 128/32,64/8,36/0") == [(64, 8), (128, 32), (36, 0)]
    for text, culprit in (
        ("wide", "'wide' is no tile"),
        ("64/", "is no tile"),
        ("64/x", "'64/x' is no tile"),
        ("-64", "'-64' is no tile"),
        ("", "'' is no tile"),
        ("16", "a tile of 16 px; expected at least 32 px"),
        ("64/32", "a halo of 32 px leaves nothing of 64 px"),
    ):
        with pytest.raises(InputError, match=culprit):
            parse_tiles(text)
    with pytest.raises(InputError, match="--seam 76: one tile is the whole picture of 76 px"):
        Tiling(76, 76, 8)


@settings(max_examples=60, deadline=None)
@given(TILINGS)
def test_every_px_is_taken_from_a_tile_that_has_it_deep_inside(
    sizes: tuple[tuple[int, int], int, int],
) -> None:
    """Tiles say who they are; a px lies a halo deep in its tile, or where the picture itself ends."""
    tiling = Tiling(*sizes)
    canvas, side, halo = sizes
    blank = torch.empty(1, 1, canvas[1], canvas[0])
    names = [torch.full_like(part, float(number)) for number, part in enumerate(tiling.windows(blank))]
    owner = tiling.cropped(names)[0, 0].long()
    assert owner.shape == canvas[::-1]
    places = torch.tensor(tiling.places)
    for axis, length in enumerate(canvas[::-1]):
        across = torch.arange(length)
        along = across[:, None] if axis == 0 else across[None, :]
        last = max(length - side, 0)
        assert places[:, axis].min() == 0
        assert places[:, axis].max() == last
        begin = places[owner, axis]
        before, after = along - begin, begin + side - 1 - along
        assert ((before >= halo) | (begin == 0)).all()
        assert ((after >= halo) | (begin == last)).all()
        # No other tile has it deeper by more than the px that a middle between two px takes.
        depth = torch.minimum(before, after)
        others = torch.tensor(tiling.starts[axis])
        deepest = torch.stack([torch.minimum(across - s, s + side - 1 - across) for s in others]).amax(0)
        best = deepest[:, None] if axis == 0 else deepest[None, :]
        clear = (begin > 0) & (begin < last)
        assert (depth >= best - 1)[clear.expand_as(depth)].all()


@pytest.mark.parametrize(("canvas", "side"), [(76, 32), (143, 64), (100, 96)])
def test_blended_as_generate_blends(canvas: int, side: int) -> None:
    network, picture = ByHand().eval(), pictures(canvas, 1)
    tiling = Tiling(canvas, side, side // 8)
    assert tiling.starts == (starts(canvas, side), starts(canvas, side))
    with torch.no_grad():
        found = tiling.blended([network(window) for window in tiling.windows(picture)])
        torch.testing.assert_close(found, run_tiled(network, picture, side, 1), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("side", "halo"), [(32, 4), (32, 12), (40, 1)])
def test_overlaps_against_a_slow_loop(side: int, halo: int) -> None:
    tiling = Tiling(CANVAS, side, halo)
    torch.manual_seed(0)
    outputs = list(torch.randn(len(tiling.places), 1, 3, side, side).unbind(0))
    count, squares = 0, []
    begins = tiling.starts[0]
    for (i, a), (j, b) in itertools.combinations(enumerate(itertools.product(begins, begins)), 2):
        steps = abs(begins.index(a[0]) - begins.index(b[0])) + abs(begins.index(a[1]) - begins.index(b[1]))
        if steps != 1:
            continue
        count += 1
        for y, x in itertools.product(range(CANVAS), range(CANVAS)):
            if all(0 <= y - place[0] < side and 0 <= x - place[1] < side for place in (a, b)):
                first, second = (outputs[n][0, :, y - p[0], x - p[1]] for n, p in ((i, a), (j, b)))
                squares.append(((first - second).double() ** 2).mean().item())
    assert count >= 4
    assert tiling.overlap_mse(outputs) == pytest.approx(np.mean(squares))


def test_tiles_that_do_not_overlap_have_no_overlap() -> None:
    tiling = Tiling(64, 32, 0)
    assert tiling.overlap_mse([torch.zeros(1, 3, 32, 32)] * 4) is None


def test_what_looks_at_one_px_has_no_seams() -> None:
    assert db(seams(nn.Sequential(nn.Conv2d(3, 3, 1), nn.Tanh()), (32, 4)))["cropped"] > 120
    assert min(db(seams(nn.Sequential(nn.Tanh()), (32, 4))).values()) > 120


@pytest.mark.parametrize(("halo", "hidden"), [(4, False), (6, True)])
def test_a_halo_that_covers_the_reach_hides_the_seam_of_cropped_tiles(halo: int, hidden: bool) -> None:
    torch.manual_seed(0)
    found = db(seams(nn.Sequential(nn.Conv2d(3, 3, 13, padding=6)), (32, halo)))
    assert found["cropped"] > 120 if hidden else found["cropped"] < 60
    # Ramps mix in what lies at a tile's edge, however wide they are.
    assert found["blended"] < 60
    assert found["overlap"] < 40


def test_tiles_that_are_normalised_by_themselves_differ_and_strips_do_not() -> None:
    scores = seams(ByHand(), (32, 8), (40, 8))
    for place in (0, 1):
        found = db(scores, place)
        assert found["strips"] > 110
        assert max(found["cropped"], found["blended"]) < 50
    entries = scores.summary(seed=0)["seam"]
    assert [(entry["tile_px"], entry["n_tiles"]) for entry in entries] == [(32, 16), (40, 9)]
    assert entries[0]["cropped_db"]["mean"] == pytest.approx(scores.image_db_of(0, "cropped").mean())


def test_what_cannot_run_in_strips_has_no_such_figure() -> None:
    scores = seams(Program(torch.tanh), (32, 4))
    assert set(db(scores)) == {"cropped", "blended", "overlap"}
    assert scores.summary(seed=0)["seam"][0]["strips_db"] is None
    odd = nn.Sequential(nn.ZeroPad2d(0), nn.Softmax(1))  # a function that strips do not know
    with pytest.warns(UserWarning, match=r"outputs lie within \[0, 1\]"):
        assert set(db(seams(odd, (32, 4)))) == {"cropped", "blended", "overlap"}


def test_the_picture_shows_where(tmp_path: Path) -> None:
    """The change of a single column is a bright column there, and nowhere else."""
    change = np.zeros((40, 40))
    change[:, 20] = 200.0
    pixels = np.full((40, 40, 3), 128, dtype=np.uint8)
    draw_seams(tmp_path / "seam.png", [Seams("net, 32 px", pixels, pixels, [("cropped, 20 dB", change)])])
    page = pixels_of(tmp_path / "seam.png").astype(int).mean(axis=2)
    left, top, scale = 24 + 2 * (320 + 12), 24 + 20 + 16 + 48, 320 // 40
    panel = page[top : top + 320, left : left + 320]
    bright = panel.mean(axis=0) > 128
    assert bright[20 * scale : 21 * scale].all()
    assert bright.sum() == scale
    with pytest.raises(ValueError, match="no tiles"):
        draw_seams(tmp_path / "none.png", [])
