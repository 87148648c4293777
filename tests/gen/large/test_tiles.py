"""Tiles with a halo that is cut off, against the whole picture."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from steadypix import InputError, UNetGenerator
from steadypix.gen.large.strips import Strips
from steadypix.gen.large.tiles import (
    LEAST_PX,
    Tiles,
    accepted_multiple,
    measure,
    middle,
    plan_tiles,
    tiled_map,
)
from steadypix.gen.large.workspace import Workspace

DOUBLE = torch.float64


def picture(height: int, width: int, *, dtype: torch.dtype = DOUBLE) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(1, 3, height, width, generator=generator, dtype=dtype) * 2 - 1


def strips(x: Tensor) -> Strips:
    return Strips.of(x, Workspace(strip_samples=4000))


def unet(norm: str, *, dtype: torch.dtype = DOUBLE) -> nn.Module:
    """Two levels down: its grid is 4 px, and a row of its output has seen less than 32 around it."""
    torch.manual_seed(0)
    network = UNetGenerator(ngf=4, num_downs=2, norm=norm, sampling="strided").to(dtype).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return network


def whole(network: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return network(x)


def in_tiles(network: nn.Module, x: Tensor, tiles: Tiles) -> Tensor:
    """All of it, read in rows of a few px, which do not fit the tiles."""
    y = tiled_map(network, strips(x), tiles)
    with torch.inference_mode():
        return torch.cat([y.rows(top, min(top + 7, y.shape[2])) for top in range(0, y.shape[2], 7)], dim=2)


@given(
    st.integers(1, 700),
    st.sampled_from([32, 64, 96, 128]),
    st.integers(0, 40),
    st.sampled_from([4, 16, 32]),
)
def test_tiles_cover_a_side_on_the_grid_and_keep_their_halo(
    size: int, tile: int, halo: int, grid: int
) -> None:
    tiles = Tiles(tile, min(halo, (tile - grid) // 2), grid, 1, 3)
    spans = tiles.spans(size)
    assert [spans[0].start, spans[0].keep_from, spans[-1].end, spans[-1].keep_to] == [0, 0, size, size]
    for first, second in itertools.pairwise(spans):
        assert first.keep_to == second.keep_from
        assert first.end - first.keep_to >= tiles.halo_px
        assert second.keep_from - second.start >= tiles.halo_px
    for span in spans:
        assert span.start % grid == 0
        assert span.start <= span.keep_from < span.keep_to <= span.end <= span.start + tile
    if tile >= LEAST_PX + grid:
        assert all(span.end - span.start >= min(size, LEAST_PX) for span in spans)


@pytest.mark.parametrize("size", [(64, 64), (70, 150), (131, 97)])
def test_where_the_halo_covers_the_reach_tiles_are_the_whole(size: tuple[int, int]) -> None:
    """The picture's edges too, where a network sees its padding."""
    network = unet("batch")
    x = picture(size[0] // 4 * 4, size[1] // 4 * 4)  # others are completed, untiled and at the last tile
    found = in_tiles(network, x, Tiles(96, 32, 4, 1, 3))
    torch.testing.assert_close(found, whole(network, x), rtol=0, atol=1e-12)


def test_the_reach_is_measured() -> None:
    """Of a convolution of 2 * r + 1 columns it is r, on a window whose other half changes."""
    for reach in (1, 5):
        network = nn.Conv2d(3, 3, 2 * reach + 1, padding=reach)
        nn.init.ones_(network.weight)
        window = picture(64, 64, dtype=torch.float32)
        found = measure(network, window, whole(network, window), 1)
        assert (found.reach_px, found.is_local) == (reach, True)


def test_without_a_norm_that_looks_tiles_are_60_db_from_the_whole() -> None:
    network = unet("batch", dtype=torch.float32)
    x = picture(200, 260, dtype=torch.float32)
    tiles, found = plan_tiles(network, strips(x), tile_px=96, halo_px=None, side_px=0, grid_px=4)
    assert found is not None
    assert found.is_local
    assert 0 < tiles.halo_px <= 24
    error = (in_tiles(network, x, tiles) - whole(network, x)).square().mean()
    assert 10 * torch.log10(4 / error) > 60


def test_a_norm_that_looks_is_found_and_what_it_costs() -> None:
    """The stated difference of neighbours is about that between tiles and the whole."""
    network = unet("instance", dtype=torch.float32)
    x = picture(200, 260, dtype=torch.float32)
    x[..., 100:] *= 0.2
    tiles, found = plan_tiles(network, strips(x), tile_px=96, halo_px=24, side_px=0, grid_px=4)
    assert found is not None
    assert not found.is_local
    error = float((in_tiles(network, x, tiles) - whole(network, x)).square().mean())
    assert 0.2 < found.neighbours_mse / error < 5


class Fussy(nn.Module):
    """Takes multiples of 8 px alone."""

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] % 8 or x.shape[3] % 8:
            raise RuntimeError("sizes of tensors must match")
        return x


def test_a_network_of_multiples_gets_them() -> None:
    x = picture(101, 90)
    assert accepted_multiple(Fussy(), x) == 8
    assert accepted_multiple(nn.Identity(), x) == 1
    tiles, _ = plan_tiles(Fussy(), strips(x), tile_px=44, halo_px=4, side_px=0, grid_px=0)
    assert (tiles.tile_px, tiles.grid_px, tiles.multiple) == (40, 8, 8)
    assert torch.equal(in_tiles(Fussy(), x, tiles), x)


def test_a_network_of_one_size_gets_it() -> None:
    sizes = set()

    class Fixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            sizes.add(tuple(x.shape))
            return x

    x = picture(101, 40)
    tiles, _ = plan_tiles(Fixed(), strips(x), tile_px=64, halo_px=None, side_px=64, grid_px=0)
    assert torch.equal(in_tiles(Fixed(), x, tiles), x)
    assert sizes == {(1, 3, 64, 64)}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tile_px": 64, "side_px": 48}, "takes tiles of 48 px only; expected --tile 48"),
        ({"tile_px": 64, "halo_px": 31, "grid_px": 4}, "leaves nothing .* expected --tile 66"),
        ({"tile_px": 64, "halo_px": 0, "grid_px": 128}, "expected --tile 128"),
        ({"tile_px": 64, "side_px": 64, "halo_px": 20}, "expected --halo 16 or less"),
    ],
)
def test_tiles_that_cannot_be(settings: dict[str, int], words: str) -> None:
    chosen = {"halo_px": None, "side_px": 0, "grid_px": 0, **settings}
    with pytest.raises(InputError, match=words):
        plan_tiles(nn.Identity(), strips(picture(200, 200)), **chosen)


def test_the_tile_that_is_expected_is_one_that_the_network_takes() -> None:
    class Multiples(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if x.shape[-1] % 32:
                raise RuntimeError("sizes do not match")
            return x

    x, settings = strips(picture(200, 200)), {"halo_px": 20, "side_px": 0, "grid_px": 0}
    with pytest.raises(InputError, match="expected --tile 96 or more"):
        plan_tiles(Multiples(), x, tile_px=64, **settings)
    assert plan_tiles(Multiples(), x, tile_px=96, **settings)[0].halo_px == 20


def test_an_output_of_another_size_is_refused() -> None:
    with pytest.raises(InputError, match="gives 32 x 32 px for a tile of"):
        plan_tiles(nn.AvgPool2d(2), strips(picture(90, 90)), tile_px=64, halo_px=0, side_px=64, grid_px=0)
    with pytest.raises(InputError, match="takes no tiles of 64 px and less"):
        accepted_multiple(nn.AvgPool2d(2), picture(64, 64))


def test_the_middle_of_a_small_picture_is_completed() -> None:
    x = picture(5, 90)
    found = middle(strips(x), 32)
    assert found.shape == (1, 3, 32, 32)
    assert torch.equal(found[:, :, :5], x[..., 29:61])
