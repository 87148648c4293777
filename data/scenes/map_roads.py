"""Where the roads of a procedural map lie, with the lines and the cars on them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

#: From below to above: a motorway passes over the avenues, and avenues meet streets on the level.
LEVELS = ("street", "avenue", "motorway")
#: RGB of the cars.
CAR_COLOURS = np.array([(236, 236, 234), (190, 192, 196), (44, 46, 50), (160, 40, 36), (58, 82, 128)])
# Lines on a road: how far off the middle in widths, and half the length of each piece of them.
_DASH, _SOLID = 0.005, 0.0101
_LINES = {
    "street": ((0.0, _DASH),),
    "avenue": ((0.0, _DASH), (-0.42, _SOLID), (0.42, _SOLID)),
    "motorway": (*((a, _DASH) for a in (-0.25, 0.25)), *((a, _SOLID) for a in (-0.45, -0.03, 0.03, 0.45))),
}
# A line (n, 2), and how far all that is not allowed on it has to keep from it.
Barrier = tuple[np.ndarray, float]


class Road(NamedTuple):
    """A road along a line of points."""

    line: np.ndarray  # x and y in relative units, float64 (n, 2)
    width: float  # of the carriageway, in relative units
    kind: str  # one of `LEVELS`


class Grid(NamedTuple):
    """The street grid in its own axes (u, v), turned by `angle` about the middle of the map."""

    us: np.ndarray
    vs: np.ndarray
    u_widths: np.ndarray
    v_widths: np.ndarray
    angle: float

    def place(self, uv: np.ndarray) -> np.ndarray:
        """Relative picture coordinates of points (..., 2) given in the axes of the grid."""
        c, s = np.cos(self.angle), np.sin(self.angle)
        u, v = uv[..., 0], uv[..., 1]
        points = np.empty(np.shape(uv))
        points[..., 0] = u * c - v * s + 0.5
        points[..., 1] = u * s + v * c + 0.5
        return points

    def quads(self, uv: np.ndarray, halves: np.ndarray) -> np.ndarray:
        """Corners (n, 4, 2) of rectangles about `uv` (n, 2), in relative picture coordinates."""
        turn = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
        return self.place(uv[:, None] + turn * halves[:, None])


def street_grid(rng: np.random.Generator) -> Grid:
    """Streets at uneven distances; some of them wider avenues."""

    def ladder(low: float, high: float) -> np.ndarray:
        steps = rng.uniform(low, high, 16)
        places = np.cumsum(steps) - steps.sum() / 2
        return places[np.abs(places) < 0.8]

    us, vs = ladder(0.2, 0.32), ladder(0.135, 0.185)
    u_widths = np.where(rng.random(len(us)) < 0.16, 0.034, 0.021)
    v_widths = np.where(rng.random(len(vs)) < 0.12, 0.034, 0.021)
    return Grid(us, vs, u_widths, v_widths, rng.uniform(-0.65, 0.65))


def through_roads(rng: np.random.Generator) -> tuple[list[Road], list[Barrier]]:
    """Roads that ignore the grid, and how far everything else keeps from their lines."""
    roads = []
    if rng.random() < 0.5:
        roads.append(Road(wave(rng, 0.0), 0.032, "avenue"))
    if rng.random() < 0.4:
        roads.append(Road(wave(rng, rng.uniform(0.04, 0.12)), 0.046, "motorway"))
    return roads, [(road.line, road.width / 2 + 0.012) for road in roads]


def streets_of(
    rng: np.random.Generator, grid: Grid, barriers: list[Barrier], shores: list[Barrier]
) -> tuple[list[Road], list[np.ndarray], list[np.ndarray]]:
    """The streets of the grid with the lines and cars on them, clear of the crossings."""
    streets: list[Road] = []
    # Marks and cars, first of the streets, then of the avenues.
    found: tuple[list, list] = ([[], []], [[], []])
    c, s = np.cos(grid.angle), np.sin(grid.angle)
    axes = ((grid.us, grid.u_widths, grid.vs, 1), (grid.vs, grid.v_widths, grid.us, 0))
    for places, widths, crossings, axis in axes:
        for place, width in zip(places, widths, strict=True):
            ends = np.full((2, 2), place)
            ends[:, axis] = (-0.85, 0.85)
            level = int(width > 0.03)
            road = Road(grid.place(ends), float(width), LEVELS[level])
            streets.append(road)
            for kept, items in zip(found[level], traffic(rng, road), strict=True):
                along = (items[:, :2] - 0.5) @ np.array([[c, -s], [s, c]])[:, axis]
                kept.append(items[np.abs(along[:, None] - crossings[None]).min(-1) > 0.028])
            if level:
                found[0][0].append(_zebras(grid, float(place), float(width), crossings, axis))
    marks: list[np.ndarray] = []
    cars: list[np.ndarray] = []
    # Streets end at the water, avenues go across it.
    for lists, blocked in zip(found, (barriers + shores, barriers), strict=True):
        for kept, pieces in zip((marks, cars), lists, strict=True):
            items = np.concatenate([np.zeros((0, 5)), *pieces])
            kept.append(items[clear(items[:, :2], 0.0, blocked)])
    return streets, marks, cars


def _zebras(grid: Grid, place: float, width: float, crossings: np.ndarray, axis: int) -> np.ndarray:
    """Zebra crossings over an avenue on both sides of every street it meets: (n, 5)."""
    along = np.concatenate([crossings - 0.021, crossings + 0.021])
    across = place + np.linspace(-0.42, 0.42, 6) * width
    ends = []
    for shift in (-0.0035, 0.0035):
        points = np.empty((len(along), len(across), 2))
        points[..., axis] = along[:, None] + shift
        points[..., 1 - axis] = across[None]
        ends.append(grid.place(points.reshape(-1, 2)))
    return np.column_stack([*ends, np.ones(len(ends[0]))])


def traffic(rng: np.random.Generator, road: Road) -> tuple[np.ndarray, np.ndarray]:
    """White lines (n, 5) and cars (n, 5) along a road, as in `Town`."""
    steps = np.diff(road.line, axis=0)
    far = np.append(0, np.cumsum(np.hypot(steps[:, 0], steps[:, 1])))
    count = {"street": 14, "avenue": 20, "motorway": 34}[road.kind]
    marked = np.arange(0.01, far[-1] - 0.01, 0.02)
    places = np.append(marked, rng.uniform(0, far[-1], count))
    ends = np.concatenate([places - 1e-3, places + 1e-3])
    ends = np.stack([np.interp(ends, far, road.line[:, k]) for k in (0, 1)], -1)
    here, ahead = ends[: len(places)], ends[len(places) :]
    way = ahead - here
    way /= np.maximum(np.hypot(way[:, 0], way[:, 1]), 1e-9)[:, None]
    side = way[:, ::-1] * (-road.width, road.width)
    point = (here + ahead) / 2

    split = len(marked)
    marks = []
    for aside, reach in _LINES[road.kind]:
        centre = point[:split] + aside * side[:split]
        marks.append(np.hstack([centre - reach * way[:split], centre + reach * way[:split]]))
    lane = 0.27 if road.kind != "motorway" else rng.choice([0.13, 0.35], (count, 1))
    left = np.where(rng.random((count, 1)) < 0.5, -1, 1)
    heading = np.arctan2(way[split:, 1], way[split:, 0])
    paint, level = rng.integers(len(CAR_COLOURS), size=count), LEVELS.index(road.kind)
    centre = point[split:] + left * lane * side[split:]
    cars = np.column_stack([centre, heading, paint, np.full(count, level)])
    lines = np.concatenate(marks)
    return np.column_stack([lines, np.full(len(lines), level)]), cars


def wave(rng: np.random.Generator, bend: float) -> np.ndarray:
    """A line across the whole picture, winding about a straight one: (41, 2)."""
    along = np.linspace(-0.85, 0.85, 41)
    phase, turns, heading = rng.uniform(0, 6.28), rng.uniform(2.5, 4.5), rng.uniform(0, np.pi)
    across = bend * np.sin(turns * along + phase) + 0.3 * bend * np.sin(9 * along + 2 * phase)
    across += rng.uniform(-0.22, 0.22)
    c, s = np.cos(heading), np.sin(heading)
    return np.stack([along * c - across * s, along * s + across * c], -1) + 0.5


def ribbon(line: np.ndarray, width: float) -> np.ndarray:
    """Outline (2n, 2) of a band of constant width along a line (n, 2)."""
    ends = np.concatenate([line[:1], line, line[-1:]])
    along = ends[2:] - ends[:-2]
    side = along[:, ::-1] * (-1, 1)
    side *= width / 2 / np.sqrt((along**2).sum(1, keepdims=True))
    return np.concatenate([line + side, (line - side)[::-1]])


def clear(points: np.ndarray, reach: np.ndarray | float, barriers: list[Barrier]) -> np.ndarray:
    """Which of the points (n, 2) are near the picture and `reach` away from all barriers."""
    reach = np.broadcast_to(reach, len(points))
    x, y = points[:, 0], points[:, 1]
    keep = np.maximum(np.abs(x - 0.5), np.abs(y - 0.5)) < 0.5 + reach
    for line, distance in barriers:
        near = np.flatnonzero(keep)
        # Axis by axis: numpy is slow at sums over an axis as short as that of the coordinates.
        across, down = x[near, None] - line[:, 0], y[near, None] - line[:, 1]
        gaps = (across * across + down * down).min(1)
        keep[near] = gaps > (distance + reach[near]) ** 2
    return keep
