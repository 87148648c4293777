"""Where everything lies on a procedural street map, drawn at random and free of any size."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from steadypix.data.scenes.map_roads import (
    CAR_COLOURS,
    Barrier,
    Grid,
    Road,
    clear,
    ribbon,
    street_grid,
    streets_of,
    through_roads,
    traffic,
    wave,
)

_ROOFS = np.array(
    [(152, 98, 78), (136, 88, 72), (124, 116, 110), (104, 98, 96), (170, 154, 134), (112, 84, 72)]
)
_FLAT_ROOFS = np.array([(196, 194, 188), (172, 168, 160), (150, 148, 146), (206, 200, 186)])


_Block = Sequence[float]  # between four streets: u0, v0, u1, v1 in the axes of the grid


class Buildings(NamedTuple):
    """Houses and halls, as arrays over all of them."""

    corners: np.ndarray  # in relative units, float64 (n, 4, 2); the first side runs along the ridge
    height: np.ndarray  # length of the shadow, in relative units, (n,)
    flat: np.ndarray  # whether the roof is flat, instead of two slopes, bool (n,)
    colour: np.ndarray  # RGB of the roof, float64 (n, 3)


class Town(NamedTuple):
    """Everything about a map that does not depend on the size it is drawn at."""

    roads: list[Road]
    water: list[np.ndarray]  # outlines of rivers and lakes, each (n, 2)
    parks: list[np.ndarray]  # outlines, each (4, 2)
    yards: list[np.ndarray]  # outlines of paved yards, each (4, 2)
    buildings: Buildings
    trees: np.ndarray  # x, y and radius of each tree, (n, 3)
    cars: np.ndarray  # x, y, heading, index of the colour and level in `LEVELS` (-1: parked), (n, 5)
    marks: np.ndarray  # white lines as x0, y0, x1, y1 and level (as for cars), (n, 5)
    sun: np.ndarray  # unit vector along which shadows fall


class _Lots:
    """Gathers what stands on the blocks, so that all of it is placed and checked at once."""

    def __init__(self) -> None:
        self.parks: list[np.ndarray] = []
        self.yards: list[np.ndarray] = []
        # Columns of a tree: u, v, radius.
        self.trees: list[np.ndarray] = [np.zeros((0, 3))]
        self.cars: list[np.ndarray] = [np.zeros((0, 5))]
        self.marks: list[np.ndarray] = [np.zeros((0, 5))]
        # Columns of a building: u, v, half its extents along both, RGB, height, flatness, whether
        # its ridge runs along v, room it needs.
        self.buildings: list[np.ndarray] = [np.zeros((0, 11))]

    def placed_trees(self, grid: Grid, barriers: list[Barrier]) -> np.ndarray:
        """The trees that stand clear of everything: x, y and radius, (n, 3)."""
        rows = np.concatenate(self.trees)
        rows[:, :2] = grid.place(rows[:, :2])
        return rows[clear(rows[:, :2], 0.004, barriers)]

    def placed_buildings(self, grid: Grid, barriers: list[Barrier]) -> Buildings:
        """The buildings that stand clear of everything."""
        rows = np.concatenate(self.buildings)
        rows = rows[clear(grid.place(rows[:, :2]), rows[:, 10], barriers)]
        corners = grid.quads(rows[:, :2], rows[:, 2:4])
        across = rows[:, 9] > 0
        corners[across] = np.roll(corners[across], 1, axis=1)
        return Buildings(corners, height=rows[:, 7], flat=rows[:, 8] > 0, colour=rows[:, 4:7])


def plan_town(rng: np.random.Generator) -> Town:
    """Draw the layout of a map: a turned street grid with blocks of houses, halls and parks.

    Most have an avenue across the grid, a winding motorway, a river or a lake.
    """
    grid = street_grid(rng)
    roads, barriers = through_roads(rng)
    water, shores = _water(rng)
    everything = barriers + shores
    lots = _blocks(rng, grid, everything)
    streets, painted, moving = streets_of(rng, grid, barriers, shores)
    for road in roads:
        more_marks, more_cars = traffic(rng, road)
        painted.append(more_marks)
        moving.append(more_cars)
    cars = np.concatenate(moving)
    parked, lines = np.concatenate(lots.cars), np.concatenate(lots.marks)
    parked = parked[clear(parked[:, :2], 0.004, everything)]
    lines = lines[clear(lines[:, :2], 0.008, everything)]
    marks = np.concatenate([*painted, lines])
    sun = rng.uniform(0.15, 0.85) * np.pi / 2 + np.pi / 2 * rng.integers(2)
    return Town(
        roads=streets + roads,
        water=water,
        parks=lots.parks,
        yards=lots.yards,
        buildings=lots.placed_buildings(grid, everything),
        trees=lots.placed_trees(grid, everything),
        cars=np.concatenate([cars[clear(cars[:, :2], 0.01, [])], parked]),
        marks=marks[clear(marks[:, :2], 0.02, [])],
        sun=np.array([np.cos(sun), np.sin(sun)]),
    )


def _water(rng: np.random.Generator) -> tuple[list[np.ndarray], list[Barrier]]:
    """A river, a lake or neither: outlines, and lines with the distance to keep from them."""
    kind = rng.random()
    if kind < 0.35:
        line, width = wave(rng, rng.uniform(0.05, 0.14)), rng.uniform(0.07, 0.15)
        return [ribbon(line, width)], [(line, width / 2 + 0.012)]
    if kind < 0.55:
        centre, radius = rng.uniform(0.15, 0.85, 2), rng.uniform(0.09, 0.17)
        angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        waves, phases = rng.uniform(0.03, 0.12, 3), rng.uniform(0, 6.28, 3)
        ripple = sum(
            w * np.sin((k + 2) * angle + p) for k, (w, p) in enumerate(zip(waves, phases, strict=True))
        )
        shore = centre + (radius * (1 + ripple))[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1)
        inner = np.concatenate([centre + (shore - centre) * t for t in (0.0, 0.5, 1.0)])
        return [shore], [(inner, radius * 0.3 + 0.012)]
    return [], []


def _blocks(rng: np.random.Generator, grid: Grid, barriers: list[Barrier]) -> _Lots:
    """Fill the blocks between the streets: parks, yards, buildings and trees."""
    lots = _Lots()
    share_halls, leafy = rng.choice([0.1, 0.35]), rng.uniform(0.6, 1.3)
    u_half, v_half = grid.u_widths / 2 + 0.007, grid.v_widths / 2 + 0.007
    low = _pairs((grid.us + u_half)[:-1], (grid.vs + v_half)[:-1])
    high = _pairs((grid.us - u_half)[1:], (grid.vs - v_half)[1:])
    outlines = grid.quads((low + high) / 2, (high - low) / 2)
    unseen = ((outlines.max(1) < -0.02) | (outlines.min(1) > 1.02)).any(1)
    for block, outline, hidden in zip(np.hstack([low, high]).tolist(), outlines, unseen, strict=True):
        kind = rng.random()
        if hidden:
            continue
        if kind < 0.1:
            lots.parks.append(outline)
            lots.trees.append(_scatter(rng, block, int(55 * leafy)))
        elif kind < 0.1 + share_halls and clear(outline.mean(0)[None], 0.075, barriers)[0]:
            lots.yards.append(outline)
            _add_halls(rng, grid, block, lots)
            lots.trees.append(_street_trees(rng, block, 8))
        else:
            lots.buildings.append(_houses(rng, block))
            u0, v0, u1, v1 = block
            inner = (u0 + 0.01, v0 + 0.045, u1 - 0.01, v1 - 0.045)
            lots.trees.append(_scatter(rng, inner, int(16 * leafy)))
            lots.trees.append(_street_trees(rng, block, int(12 * leafy)))
    return lots


def _pairs(us: np.ndarray, vs: np.ndarray) -> np.ndarray:
    """Every u with every v: (n, 2)."""
    return np.column_stack([np.repeat(us, len(vs)), np.tile(vs, len(us))])


def _scatter(rng: np.random.Generator, block: _Block, count: int) -> np.ndarray:
    """Trees anywhere in a block: rows as in `_Lots`."""
    u0, v0, u1, v1 = block
    rows = np.empty((count, 3))
    rows[:, :2] = rng.uniform((u0, v0), (u1, max(v1, v0 + 1e-3)), (count, 2))
    rows[:, 2] = rng.uniform(0.006, 0.012, count)
    return rows


def _street_trees(rng: np.random.Generator, block: _Block, count: int) -> np.ndarray:
    """Trees in a row along the two long sides of a block: rows as in `_Lots`."""
    u0, v0, u1, v1 = block
    each = max(count // 2, 2)
    rows = np.empty((2 * each, 3))
    rows[:each, 0] = rows[each:, 0] = np.linspace(u0 + 0.008, u1 - 0.008, each)
    rows[:each, 1], rows[each:, 1] = v0 + 0.002, v1 - 0.002
    rows[:, :2] += rng.normal(0, 0.002, (2 * each, 2))
    rows[:, 2] = rng.uniform(0.005, 0.009, 2 * each)
    return rows[rng.random(2 * each) < 0.75]


def _houses(rng: np.random.Generator, block: _Block) -> np.ndarray:
    """Two rows of houses along the long sides of a block: rows as in `_Lots`."""
    u0, v0, u1, v1 = block
    each = max(int((u1 - u0) / 0.034), 1)
    count, lot = 2 * each, (u1 - u0) / each
    rows = np.empty((count, 11))
    rows[:, 7:] = (0.009, False, rng.random() < 0.3, 0.018)
    rows[:each, 0] = rows[each:, 0] = u0 + (np.arange(each) + 0.5) * lot
    rows[:, 0] += rng.normal(0, 0.0015, count)
    rows[:, 2] = lot * rng.uniform(0.3, 0.43, count)
    rows[:, 3] = rng.uniform(0.012, 0.0175, count)
    inset = 0.009 + rows[:, 3] + rng.uniform(0, 0.004, count)
    rows[:each, 1], rows[each:, 1] = v0 + inset[:each], v1 - inset[each:]
    tints = _ROOFS[rng.integers(len(_ROOFS), size=count)]
    rows[:, 4:7] = tints * rng.uniform(0.9, 1.1, (count, 1))
    return rows[rng.random(count) < 0.94]


def _add_halls(rng: np.random.Generator, grid: Grid, block: _Block, lots: _Lots) -> None:
    """A few large flat-roofed buildings that share a block, or a car park in the place of one."""
    u0, v0, u1, v1 = block
    edges = np.linspace(u0, u1, int(rng.integers(2, 4)) + 1)
    for low, high in itertools.pairwise(edges):
        half = np.array([high - low, v1 - v0]) / 2
        half *= rng.uniform((0.65, 0.5), (0.85, 0.82))
        middle = np.array([low + high, v0 + v1]) / 2
        tint = _FLAT_ROOFS[rng.integers(len(_FLAT_ROOFS))] * rng.uniform(0.92, 1.06)
        height = rng.uniform(0.012, 0.03)
        if rng.random() < 0.25:
            _add_car_park(rng, grid, (low + 0.006, v0 + 0.008, high - 0.006, v1 - 0.008), lots)
            continue
        reach = float(np.hypot(*half)) * 0.9
        lots.buildings.append(np.array([[*middle, *half, *tint, height, True, False, reach]]))


def _add_car_park(rng: np.random.Generator, grid: Grid, block: _Block, lots: _Lots) -> None:
    """Rows of bays between painted lines, most of them taken."""
    u0, v0, u1, v1 = block
    bays = np.arange(u0 + 0.004, u1 - 0.004, 0.0075)
    for row in np.arange(v0 + 0.007, v1 - 0.006, 0.0235):
        ends = [grid.place(np.stack([bays, np.full(len(bays), row + d)], -1)) for d in (-0.007, 0.007)]
        lots.marks.append(np.column_stack([*ends, np.full(len(bays), -1.0)]))
        taken = bays[:-1][rng.random(len(bays) - 1) < 0.7] + 0.00375
        places = grid.place(np.stack([taken, np.full(len(taken), row)], -1))
        heading = np.full(len(taken), grid.angle + np.pi / 2)
        paint = rng.integers(len(CAR_COLOURS), size=len(taken))
        lots.cars.append(np.column_stack([places, heading, paint, np.full(len(taken), -1.0)]))
