"""Procedural street maps: a clean web map, and the aerial picture of the same streets."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from data.texture import to_bytes, value_noise

#: RGB of each kind of surface on the map side.
MAP_PALETTE: dict[str, tuple[int, int, int]] = {
    "land": (232, 228, 221),
    "building": (244, 241, 234),
    "park": (203, 223, 172),
    "water": (177, 208, 254),
    "casing": (214, 209, 201),
    "street": (254, 254, 252),
    "avenue_casing": (238, 196, 92),
    "avenue": (255, 226, 122),
    "motorway_casing": (222, 128, 24),
    "motorway": (251, 158, 37),
}
_IDS = {name: index for index, name in enumerate(MAP_PALETTE)}

# Both sides are drawn this many times too large: the map takes the middle sample (crisp edges),
# the aerial picture the mean (smooth ones).
_OVERSAMPLE = 3

_ROOFS = np.array(
    [(152, 98, 78), (136, 88, 72), (124, 116, 110), (104, 98, 96), (170, 154, 134), (112, 84, 72)]
)
_FLAT_ROOFS = np.array([(196, 194, 188), (172, 168, 160), (150, 148, 146), (206, 200, 186)])
_CARS = np.array([(236, 236, 234), (190, 192, 196), (44, 46, 50), (160, 40, 36), (58, 82, 128)])
# Lines on a road: how far off the middle in widths, and half the length of each piece of them.
_DASH, _SOLID = 0.005, 0.0101
_LINES = {
    "street": ((0.0, _DASH),),
    "avenue": ((0.0, _DASH), (-0.42, _SOLID), (0.42, _SOLID)),
    "motorway": (
        (-0.25, _DASH),
        (0.25, _DASH),
        *((aside, _SOLID) for aside in (-0.45, -0.03, 0.03, 0.45)),
    ),
}
# From below to above: a motorway passes over the avenues, and avenues meet streets on the level.
_LEVELS = ("street", "avenue", "motorway")
_ASPHALT = {"street": (112, 111, 110), "avenue": (104, 103, 104), "motorway": (96, 96, 98)}


class Road(NamedTuple):
    """A road along a line of points.

    Attributes:
        line: Points in relative units, float64 (n, 2), x and y.
        width: Of the carriageway, in relative units.
        kind: "street", "avenue" or "motorway".
    """

    line: np.ndarray
    width: float
    kind: str


class Buildings(NamedTuple):
    """Houses and halls, as arrays over all of them.

    Attributes:
        corners: In relative units, float64 (n, 4, 2); the first side runs along the ridge.
        height: Length of the shadow, in relative units, (n,).
        flat: Whether the roof is flat, instead of two slopes, bool (n,).
        colour: RGB of the roof, float64 (n, 3).
    """

    corners: np.ndarray
    height: np.ndarray
    flat: np.ndarray
    colour: np.ndarray


class Town(NamedTuple):
    """Everything about a map that does not depend on the size it is drawn at.

    Attributes:
        roads: All roads.
        water: Outlines of rivers and lakes, each (n, 2).
        parks: Outlines of parks, each (4, 2).
        yards: Outlines of paved yards, each (4, 2).
        buildings: All buildings.
        trees: x, y and radius of each tree, (n, 3).
        cars: x, y, heading, index of the colour and level in `_LEVELS` (-1: parked), (n, 5).
        marks: White lines as x0, y0, x1, y1 and level (as for cars), (n, 5).
        sun: Unit vector along which shadows fall.
    """

    roads: list[Road]
    water: list[np.ndarray]
    parks: list[np.ndarray]
    yards: list[np.ndarray]
    buildings: Buildings
    trees: np.ndarray
    cars: np.ndarray
    marks: np.ndarray
    sun: np.ndarray


class _Grid(NamedTuple):
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


class _Block(NamedTuple):
    """A block between four streets, in the axes of the grid."""

    u0: float
    v0: float
    u1: float
    v1: float

    @property
    def middle(self) -> np.ndarray:
        """Its middle (u, v)."""
        return np.array([self.u0 + self.u1, self.v0 + self.v1]) / 2

    @property
    def half(self) -> np.ndarray:
        """Half of its extents."""
        return np.array([self.u1 - self.u0, self.v1 - self.v0]) / 2


class _Lots:
    """Gathers what stands on the blocks, so that collisions are looked for once."""

    def __init__(self) -> None:
        self.parks: list[np.ndarray] = []
        self.yards: list[np.ndarray] = []
        self.trees: list[np.ndarray] = [np.zeros((0, 3))]
        self.cars: list[np.ndarray] = [np.zeros((0, 5))]
        self.marks: list[np.ndarray] = [np.zeros((0, 5))]
        # Columns of a building: eight of corners, height, flatness, RGB, room it needs.
        self.buildings: list[np.ndarray] = [np.zeros((0, 14))]

    def build(
        self, corners: np.ndarray, height: float, flat: bool, colour: np.ndarray, reach: float
    ) -> None:
        """Add buildings with corners (n, 4, 2) and colours (n, 3)."""
        count = len(corners)
        rest = np.column_stack([np.full(count, height), np.full(count, flat), colour])
        self.buildings.append(
            np.column_stack([corners.reshape(count, 8), rest, np.full(count, reach)])
        )


def plan_town(rng: np.random.Generator) -> Town:
    """Draw the layout of a map.

    Args:
        rng: The only source of randomness.

    Returns:
        A turned street grid with blocks of houses, halls and parks; most have an avenue across
        the grid, a winding motorway, a river or a lake.
    """
    grid = _street_grid(rng)
    roads, barriers = _through_roads(rng)
    water, shores = _water(rng)
    everything = barriers + shores
    lots = _blocks(rng, grid, everything)
    streets, marks, cars = _streets(rng, grid, barriers, shores)
    for road in roads:
        more_marks, more_cars = _traffic(rng, road)
        marks.append(more_marks)
        cars.append(more_cars)
    rows = np.concatenate(lots.buildings)
    rows = rows[_clear(rows[:, :8].reshape(-1, 4, 2).mean(1), rows[:, 13], everything)]
    trees, cars = np.concatenate(lots.trees), np.concatenate(cars)
    parked, lines = np.concatenate(lots.cars), np.concatenate(lots.marks)
    parked = parked[_clear(parked[:, :2], 0.004, everything)]
    lines = lines[_clear(lines[:, :2], 0.008, everything)]
    marks = np.concatenate([*marks, lines])
    sun = rng.uniform(0.15, 0.85) * np.pi / 2 + np.pi / 2 * rng.integers(2)
    return Town(
        roads=streets + roads,
        water=water,
        parks=lots.parks,
        yards=lots.yards,
        buildings=Buildings(
            rows[:, :8].reshape(-1, 4, 2), rows[:, 8], rows[:, 9] > 0, rows[:, 10:13]
        ),
        trees=trees[_clear(trees[:, :2], 0.004, everything)],
        cars=np.concatenate([cars[_clear(cars[:, :2], 0.01, [])], parked]),
        marks=marks[_clear(marks[:, :2], 0.02, [])],
        sun=np.array([np.cos(sun), np.sin(sun)]),
    )


def _street_grid(rng: np.random.Generator) -> _Grid:
    """Streets at uneven distances; some of them wider avenues."""

    def ladder(low: float, high: float) -> np.ndarray:
        steps = rng.uniform(low, high, 16)
        places = np.cumsum(steps) - steps.sum() / 2
        return places[np.abs(places) < 0.8]

    us, vs = ladder(0.2, 0.32), ladder(0.135, 0.185)
    u_widths = np.where(rng.random(len(us)) < 0.16, 0.034, 0.021)
    v_widths = np.where(rng.random(len(vs)) < 0.12, 0.034, 0.021)
    return _Grid(us, vs, u_widths, v_widths, rng.uniform(-0.65, 0.65))


def _wave(rng: np.random.Generator, bend: float) -> np.ndarray:
    """A line across the whole picture, winding about a straight one: (41, 2)."""
    along = np.linspace(-0.85, 0.85, 41)
    phase, turns, heading = rng.uniform(0, 6.28), rng.uniform(2.5, 4.5), rng.uniform(0, np.pi)
    across = bend * np.sin(turns * along + phase) + 0.3 * bend * np.sin(9 * along + 2 * phase)
    across += rng.uniform(-0.22, 0.22)
    c, s = np.cos(heading), np.sin(heading)
    return np.stack([along * c - across * s, along * s + across * c], -1) + 0.5


def _through_roads(rng: np.random.Generator) -> tuple[list[Road], list[tuple[np.ndarray, float]]]:
    """Roads that ignore the grid, and how far everything else keeps from their lines."""
    roads = []
    if rng.random() < 0.5:
        roads.append(Road(_wave(rng, 0.0), 0.032, "avenue"))
    if rng.random() < 0.4:
        roads.append(Road(_wave(rng, rng.uniform(0.04, 0.12)), 0.046, "motorway"))
    return roads, [(road.line, road.width / 2 + 0.012) for road in roads]


def _water(
    rng: np.random.Generator,
) -> tuple[list[np.ndarray], list[tuple[np.ndarray, float]]]:
    """A river, a lake or neither: outlines, and lines with the distance to keep from them."""
    kind = rng.random()
    if kind < 0.35:
        line, width = _wave(rng, rng.uniform(0.05, 0.14)), rng.uniform(0.07, 0.15)
        return [_ribbon(line, width)], [(line, width / 2 + 0.012)]
    if kind < 0.55:
        centre, radius = rng.uniform(0.15, 0.85, 2), rng.uniform(0.09, 0.17)
        angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        waves, phases = rng.uniform(0.03, 0.12, 3), rng.uniform(0, 6.28, 3)
        ripple = sum(
            w * np.sin((k + 2) * angle + p)
            for k, (w, p) in enumerate(zip(waves, phases, strict=True))
        )
        shore = centre + (radius * (1 + ripple))[:, None] * np.stack(
            [np.cos(angle), np.sin(angle)], -1
        )
        inner = np.concatenate([centre + (shore - centre) * t for t in (0.0, 0.5, 1.0)])
        return [shore], [(inner, radius * 0.3 + 0.012)]
    return [], []


def _ribbon(line: np.ndarray, width: float) -> np.ndarray:
    """Outline (2n, 2) of a band of constant width along a line (n, 2)."""
    ends = np.concatenate([line[:1], line, line[-1:]])
    along = ends[2:] - ends[:-2]
    side = along[:, ::-1] * (-1, 1)
    side *= width / 2 / np.sqrt((along**2).sum(1, keepdims=True))
    return np.concatenate([line + side, (line - side)[::-1]])


def _clear(
    points: np.ndarray, reach: np.ndarray | float, barriers: list[tuple[np.ndarray, float]]
) -> np.ndarray:
    """Which of the points (n, 2) are near the picture and `reach` away from all barriers."""
    reach = np.broadcast_to(reach, len(points))
    keep = np.abs(points - 0.5).max(-1, initial=0.0) < 0.5 + reach
    for line, distance in barriers:
        near = np.flatnonzero(keep)
        gaps = ((points[near, None] - line[None]) ** 2).sum(-1).min(-1)
        keep[near] = gaps > (distance + reach[near]) ** 2
    return keep


def _blocks(
    rng: np.random.Generator, grid: _Grid, barriers: list[tuple[np.ndarray, float]]
) -> _Lots:
    """Fill the blocks between the streets: parks, yards, buildings and trees."""
    lots = _Lots()
    share_halls, leafy = rng.choice([0.1, 0.35]), rng.uniform(0.6, 1.3)
    us, vs, u_half, v_half = grid.us, grid.vs, grid.u_widths / 2 + 0.007, grid.v_widths / 2 + 0.007
    for i in range(len(us) - 1):
        for j in range(len(vs) - 1):
            block = _Block(
                us[i] + u_half[i],
                vs[j] + v_half[j],
                us[i + 1] - u_half[i + 1],
                vs[j + 1] - v_half[j + 1],
            )
            outline = grid.quads(block.middle[None], block.half[None])[0]
            kind = rng.random()
            if (outline.max(0) < -0.02).any() or (outline.min(0) > 1.02).any():
                continue
            if kind < 0.1:
                lots.parks.append(outline)
                lots.trees.append(_scatter(rng, grid, block, int(55 * leafy)))
            elif kind < 0.1 + share_halls and _clear(outline.mean(0)[None], 0.075, barriers)[0]:
                lots.yards.append(outline)
                _add_halls(rng, grid, block, lots)
                lots.trees.append(_street_trees(rng, grid, block, 8))
            else:
                _add_houses(rng, grid, block, lots)
                inner = _Block(block.u0 + 0.01, block.v0 + 0.045, block.u1 - 0.01, block.v1 - 0.045)
                lots.trees.append(_scatter(rng, grid, inner, int(16 * leafy)))
                lots.trees.append(_street_trees(rng, grid, block, int(12 * leafy)))
    return lots


def _scatter(rng: np.random.Generator, grid: _Grid, block: _Block, count: int) -> np.ndarray:
    """Trees anywhere in a block: x, y and radius, (n, 3)."""
    u0, v0, u1, v1 = block
    points = grid.place(rng.uniform((u0, v0), (u1, max(v1, v0 + 1e-3)), (count, 2)))
    return np.column_stack([points, rng.uniform(0.006, 0.012, count)])


def _street_trees(rng: np.random.Generator, grid: _Grid, block: _Block, count: int) -> np.ndarray:
    """Trees in a row along the two long sides of a block: x, y and radius, (n, 3)."""
    u0, v0, u1, v1 = block
    u = np.tile(np.linspace(u0 + 0.008, u1 - 0.008, max(count // 2, 2)), 2)
    v = np.repeat([v0 + 0.002, v1 - 0.002], len(u) // 2)
    points = grid.place(np.stack([u, v], -1) + rng.normal(0, 0.002, (len(u), 2)))
    radii = rng.uniform(0.005, 0.009, len(u))
    return np.column_stack([points, radii])[rng.random(len(u)) < 0.75]


def _add_houses(rng: np.random.Generator, grid: _Grid, block: _Block, lots: _Lots) -> None:
    """Two rows of houses along the long sides of a block."""
    u0, v0, u1, v1 = block
    count = max(int((u1 - u0) / 0.034), 1)
    lot = (u1 - u0) / count
    across = rng.random() < 0.3
    u = np.tile(u0 + (np.arange(count) + 0.5) * lot, 2) + rng.normal(0, 0.0015, 2 * count)
    half_u = lot * rng.uniform(0.3, 0.43, 2 * count)
    half_v = rng.uniform(0.012, 0.0175, 2 * count)
    inset = 0.009 + half_v + rng.uniform(0, 0.004, 2 * count)
    v = np.where(np.arange(2 * count) < count, v0 + inset, v1 - inset)
    tints = _ROOFS[rng.integers(len(_ROOFS), size=2 * count)]
    tints = tints * rng.uniform(0.9, 1.1, (2 * count, 1))
    corners = grid.quads(np.stack([u, v], -1), np.stack([half_u, half_v], -1))
    corners = np.roll(corners, 1, axis=1) if across else corners
    keep = rng.random(2 * count) < 0.94
    lots.build(corners[keep], 0.009, False, tints[keep], 0.018)


def _add_halls(rng: np.random.Generator, grid: _Grid, block: _Block, lots: _Lots) -> None:
    """A few large flat-roofed buildings that share a block, or a car park in the place of one."""
    u0, v0, u1, v1 = block
    edges = np.linspace(u0, u1, int(rng.integers(2, 4)) + 1)
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        half = np.array([high - low, v1 - v0]) / 2
        half *= rng.uniform((0.65, 0.5), (0.85, 0.82))
        middle = np.array([low + high, v0 + v1]) / 2
        tint = _FLAT_ROOFS[rng.integers(len(_FLAT_ROOFS))] * rng.uniform(0.92, 1.06)
        height = rng.uniform(0.012, 0.03)
        if rng.random() < 0.25:
            _add_car_park(
                rng, grid, _Block(low + 0.006, v0 + 0.008, high - 0.006, v1 - 0.008), lots
            )
            continue
        corners = grid.quads(middle[None], half[None])
        lots.build(corners, height, True, tint[None], float(np.hypot(*half)) * 0.9)


def _add_car_park(rng: np.random.Generator, grid: _Grid, block: _Block, lots: _Lots) -> None:
    """Rows of bays between painted lines, most of them taken."""
    u0, v0, u1, v1 = block
    bays = np.arange(u0 + 0.004, u1 - 0.004, 0.0075)
    for row in np.arange(v0 + 0.007, v1 - 0.006, 0.0235):
        ends = [
            grid.place(np.stack([bays, np.full(len(bays), row + d)], -1)) for d in (-0.007, 0.007)
        ]
        lots.marks.append(np.column_stack([*ends, np.full(len(bays), -1.0)]))
        taken = bays[:-1][rng.random(len(bays) - 1) < 0.7] + 0.00375
        places = grid.place(np.stack([taken, np.full(len(taken), row)], -1))
        heading = np.full(len(taken), grid.angle + np.pi / 2)
        paint = rng.integers(len(_CARS), size=len(taken))
        lots.cars.append(np.column_stack([places, heading, paint, np.full(len(taken), -1.0)]))


def _streets(
    rng: np.random.Generator,
    grid: _Grid,
    barriers: list[tuple[np.ndarray, float]],
    shores: list[tuple[np.ndarray, float]],
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
            road = Road(grid.place(ends), float(width), _LEVELS[level])
            streets.append(road)
            for kept, items in zip(found[level], _traffic(rng, road), strict=True):
                along = (items[:, :2] - 0.5) @ np.array([[c, -s], [s, c]])[:, axis]
                kept.append(items[np.abs(along[:, None] - crossings[None]).min(-1) > 0.028])
            if level:
                found[0][0].append(_zebras(grid, float(place), float(width), crossings, axis))
    marks, cars = [], []
    # Streets end at the water, avenues go across it.
    for lists, blocked in zip(found, (barriers + shores, barriers), strict=True):
        for kept, pieces in zip((marks, cars), lists, strict=True):
            items = np.concatenate([np.zeros((0, 5)), *pieces])
            kept.append(items[_clear(items[:, :2], 0.0, blocked)])
    return streets, marks, cars


def _zebras(
    grid: _Grid, place: float, width: float, crossings: np.ndarray, axis: int
) -> np.ndarray:
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


def _traffic(rng: np.random.Generator, road: Road) -> tuple[np.ndarray, np.ndarray]:
    """White lines (n, 5) and cars (n, 5) along a road, as in `Town`."""
    steps = np.linalg.norm(np.diff(road.line, axis=0), axis=1)
    far = np.append(0, np.cumsum(steps))
    count = {"street": 14, "avenue": 20, "motorway": 34}[road.kind]
    marked = np.arange(0.01, far[-1] - 0.01, 0.02)
    places = np.append(marked, rng.uniform(0, far[-1], count))
    ends = np.concatenate([places - 1e-3, places + 1e-3])
    ends = np.stack([np.interp(ends, far, road.line[:, k]) for k in (0, 1)], -1)
    here, ahead = ends[: len(places)], ends[len(places) :]
    way = (ahead - here) / np.maximum(np.linalg.norm(ahead - here, axis=1, keepdims=True), 1e-9)
    side = np.stack([-way[:, 1], way[:, 0]], -1) * road.width
    point = (here + ahead) / 2

    split = len(marked)
    marks = []
    for aside, reach in _LINES[road.kind]:
        centre = point[:split] + aside * side[:split]
        marks.append(np.hstack([centre - reach * way[:split], centre + reach * way[:split]]))
    lane = 0.27 if road.kind != "motorway" else rng.choice([0.13, 0.35], (count, 1))
    left = np.where(rng.random((count, 1)) < 0.5, -1, 1)
    heading = np.arctan2(way[split:, 1], way[split:, 0])
    paint, level = rng.integers(len(_CARS), size=count), _LEVELS.index(road.kind)
    centre = point[split:] + left * lane * side[split:]
    cars = np.column_stack([centre, heading, paint, np.full(count, level)])
    lines = np.concatenate(marks)
    return np.column_stack([lines, np.full(len(lines), level)]), cars


class _Brush:
    """Draws shapes given in relative units on an oversampled PIL image."""

    def __init__(self, mode: str, size: int, fill: object) -> None:
        self.scale = size * _OVERSAMPLE
        self.image = Image.new(mode, (self.scale, self.scale), fill)
        self.draw = ImageDraw.Draw(self.image)

    def polygon(self, points: np.ndarray, fill: object) -> None:
        """Fill a polygon (n, 2)."""
        # PIL cuts coordinates down to whole pixels, and both ends of a span belong to it.
        self.draw.polygon((points * self.scale).ravel().tolist(), fill=fill)

    def polygons(self, corners: np.ndarray, inks: list[tuple[int, ...]] | int) -> None:
        """Fill many polygons (n, k, 2), in one colour or in one each."""
        flat = (corners * self.scale).reshape(len(corners), 2 * corners.shape[1]).tolist()
        for index, outline in enumerate(flat):
            self.draw.polygon(outline, fill=inks if isinstance(inks, int) else inks[index])

    def discs(self, centres: np.ndarray, radii: np.ndarray | float) -> list[list[float]]:
        """Bounding boxes, as PIL wants them, of discs about `centres` (n, 2)."""
        radius = np.broadcast_to(radii, len(centres))[:, None]
        return (np.hstack([centres - radius, centres + radius]) * self.scale).tolist()

    def disc(self, centre: np.ndarray, radius: float, fill: object) -> None:
        """Fill a disc."""
        self.draw.ellipse(self.discs(centre[None], radius)[0], fill=fill)

    def lines(self, ends: np.ndarray, width: float, fill: object) -> None:
        """Draw straight lines between ends (n, 4): x0, y0, x1, y1."""
        pixels = max(round(width * self.scale), 1)
        for line in (ends * self.scale).tolist():
            self.draw.line(line, fill=fill, width=pixels)

    def paste(self, image: Image.Image) -> None:
        """Go on with another picture of the same size."""
        self.image = image
        self.draw = ImageDraw.Draw(image)

    def mean(self) -> np.ndarray:
        """The picture at the size asked for: the mean over the samples, float32."""
        return np.asarray(self.image.reduce(_OVERSAMPLE), np.float32)


def _inks(colours: np.ndarray) -> list[tuple[int, ...]]:
    """Colours (n, 3) as tuples PIL takes."""
    return [tuple(colour) for colour in np.clip(colours, 0, 255).astype(int).tolist()]


def draw_map(town: Town, size: int) -> np.ndarray:
    """Rasterise the map side, without anti-aliasing.

    Args:
        town: The layout.
        size: Pixels a side.

    Returns:
        uint8 (size, size, 3), every pixel one of `MAP_PALETTE`.
    """
    brush = _Brush("L", size, _IDS["land"])
    for park in town.parks:
        brush.polygon(park, _IDS["park"])
    brush.polygons(town.buildings.corners, _IDS["building"])
    for kind in _LEVELS:
        roads = [road for road in town.roads if road.kind == kind]
        casing = "casing" if kind == "street" else f"{kind}_casing"
        for road in roads:
            brush.polygon(_ribbon(road.line, road.width + 0.008), _IDS[casing])
        for road in roads:
            brush.polygon(_ribbon(road.line, road.width), _IDS[kind])
        # Only the greater roads have bridges: the water comes between them and the streets.
        for shore in town.water if kind == "street" else ():
            brush.polygon(shore, _IDS["water"])
    middle = _OVERSAMPLE // 2
    ids = np.asarray(brush.image)[middle::_OVERSAMPLE, middle::_OVERSAMPLE]
    return np.array(list(MAP_PALETTE.values()), np.uint8)[ids]


def draw_aerial(
    town: Town, size: int, *, detail: np.random.Generator, sensor: np.random.Generator
) -> np.ndarray:
    """Render the aerial picture.

    Args:
        town: The layout.
        size: Pixels a side.
        detail: Source of all that belongs to the scene; what it gives does not depend on `size`.
        sensor: Source of the noise of the pixels.

    Returns:
        uint8 (size, size, 3) RGB.
    """
    brush = _Brush("RGB", size, (98, 108, 72))
    wet = _Brush("L", size, 0)
    _paint_ground(brush, wet, town)
    _paint_shadows(brush, town)
    _paint_trees(brush, town, detail)
    _paint_buildings(brush, town, detail)
    picture = brush.mean()
    water = (wet.mean() / 255)[..., None]
    soil = value_noise(detail, size=size, cells=5, octaves=3)[..., None]
    leaves = value_noise(detail, size=size, cells=72, octaves=2)[..., None]
    green = np.clip((picture[..., 1:2] - picture[..., 0:1]) / 12, 0, 1) * (1 - water)
    dry = np.array([1.16, 1.02, 0.86], np.float32) - 1
    picture *= 1 + green * (0.5 * soil * dry + 0.2 * leaves) + 0.05 * leaves * (1 - green)
    picture *= 1 + water * 0.09 * (leaves + soil)
    picture += 1.5 * sensor.standard_normal((size, size, 3), dtype=np.float32)
    return to_bytes(picture)


def _paint_ground(brush: _Brush, wet: _Brush, town: Town) -> None:
    """Everything that is flat: yards, parks, roads, water, and bridges across it."""
    for yard in town.yards:
        brush.polygon(yard, (140, 136, 128))
    for park in town.parks:
        brush.polygon(park, (92, 118, 62))
        middle = park.mean(0)
        paths = np.hstack([park, np.tile(middle, (len(park), 1))])
        brush.lines(paths, 0.006, (176, 164, 136))
        brush.disc(middle, 0.016, (176, 164, 136))
        brush.disc(middle, 0.01, (92, 122, 64))
    _paint_traffic(brush, town, -1)
    _paint_roads(brush, town, 0)
    for shore in town.water:
        brush.polygon(shore, (46, 74, 86))
        edge = (np.concatenate([shore, shore[:1]]) * brush.scale).ravel().tolist()
        brush.draw.line(edge, fill=(158, 148, 124), width=max(round(0.008 * brush.scale), 1))
        wet.polygon(shore, 255)
    _paint_roads(brush, town, 1)
    _paint_roads(brush, town, 2)
    for road in town.roads:
        if road.kind != "street":
            wet.polygon(_ribbon(road.line, road.width + 0.014), 0)


def _paint_roads(brush: _Brush, town: Town, level: int) -> None:
    """Pavements first, then all carriageways, so that crossings stay open; then the traffic."""
    roads = [road for road in town.roads if road.kind == _LEVELS[level]]
    for road in roads:
        brush.polygon(_ribbon(road.line, road.width + 0.012), (164, 160, 152))
    for road in roads:
        brush.polygon(_ribbon(road.line, road.width), _ASPHALT[road.kind])
    _paint_traffic(brush, town, level)


def _paint_traffic(brush: _Brush, town: Town, level: int) -> None:
    """White lines and cars, each car with a thin shadow."""
    brush.lines(town.marks[town.marks[:, 4] == level, :4], 0.0018, (214, 212, 200))
    cars = town.cars[town.cars[:, 4] == level]
    c, s = np.cos(cars[:, 2]), np.sin(cars[:, 2])
    way, side = np.stack([c, s], -1)[:, None] * 0.0052, np.stack([-s, c], -1)[:, None] * 0.0024
    turn = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])[None]
    bodies = cars[:, None, :2] + turn[..., :1] * way + turn[..., 1:] * side
    brush.polygons(bodies + town.sun * 0.0016, [(60, 60, 62)] * len(cars))
    brush.polygons(bodies, _inks(_CARS[cars[:, 3].astype(int)]))


def _paint_shadows(brush: _Brush, town: Town) -> None:
    """Shadows on the ground; what casts them is painted over it afterwards."""
    shade = _Brush("L", brush.scale // _OVERSAMPLE, 255)
    corners, height = town.buildings.corners, town.buildings.height[:, None, None]
    shade.polygons(corners + town.sun * height, 118)
    shade.polygons(corners[town.buildings.flat] + town.sun * 0.008, 118)
    centres, radii = town.trees[:, :2], town.trees[:, 2]
    for box in shade.discs(centres + town.sun * 0.8 * radii[:, None], radii):
        shade.draw.ellipse(box, fill=118)
    brush.paste(ImageChops.multiply(brush.image, Image.merge("RGB", [shade.image] * 3)))


def _paint_trees(brush: _Brush, town: Town, rng: np.random.Generator) -> None:
    """Crowns: a dark rim, and a lighter side towards the sun."""
    tints = np.array([58, 82, 44]) * rng.uniform(0.8, 1.2, (len(town.trees), 1))
    centres, radii = town.trees[:, :2], town.trees[:, 2]
    towards = town.sun * radii[:, None]
    layers = []
    for shift, share, light in ((0.0, 1.0, 0.72), (-0.18, 0.74, 1.08), (-0.36, 0.38, 1.42)):
        boxes = brush.discs(centres + shift * towards, radii * share)
        layers.append(zip(boxes, _inks(tints * light), strict=True))
    # Tree by tree, since a crown hides parts of the one before.
    for tree in zip(*layers, strict=True):
        for box, ink in tree:
            brush.draw.ellipse(box, fill=ink)


def _paint_buildings(brush: _Brush, town: Town, rng: np.random.Generator) -> None:
    """Pitched roofs of two slopes with a ridge and a chimney, then the flat roofs."""
    corners, _, flat, colour = town.buildings
    a, b, c, d = np.moveaxis(corners[~flat], 1, 0)
    left, right = (a + d) / 2, (b + c) / 2
    facing = ((d - a) @ town.sun / np.maximum(np.linalg.norm(d - a, axis=1), 1e-9))[:, None]
    tint = colour[~flat]
    near = _inks(tint * (1 + 0.24 * facing))
    far = _inks(tint * (1 - 0.24 * facing))
    slopes = np.stack([a, b, right, left], 1), np.stack([left, right, c, d], 1)
    brush.polygons(slopes[0], near)
    brush.polygons(slopes[1], far)
    brush.lines(np.concatenate([left, right], 1), 0.002, (150, 136, 122))
    chimneys = brush.discs(left + (right - left) * 0.3 + (a - left) * 0.35, 0.0022)
    for box, ink in zip(chimneys, _inks(tint * 0.55), strict=True):
        brush.draw.ellipse(box, fill=ink)
    for roof, ink in zip(corners[flat], colour[flat], strict=True):
        _paint_flat_roof(brush, roof, ink, town.sun, rng)


def _paint_flat_roof(
    brush: _Brush, roof: np.ndarray, tint: np.ndarray, sun: np.ndarray, rng: np.random.Generator
) -> None:
    """A parapet, seams in the felt, and a few boxes of plant with their shadows."""
    rim, felt, seam, box, dark = _inks(tint * np.array([[0.8], [1.0], [0.92], [1.15], [0.6]]))
    brush.polygon(roof, rim)
    middle = roof.mean(0)
    a, b, c, d = middle + (roof - middle) * 0.93
    brush.polygon(np.array([a, b, c, d]), felt)
    along = np.arange(0.1, 1.0, 0.1)[:, None]
    brush.lines(np.hstack([a + (b - a) * along, d + (c - d) * along]), 0.0018, seam)
    sizes = np.array([[0, 0], [0.09, 0], [0.09, 0.11], [0, 0.11]])
    for place in rng.uniform(0.1, 0.8, (5, 2)):
        unit = a + (place + sizes) @ np.array([b - a, d - a])
        brush.polygon(unit + sun * 0.004, dark)
        brush.polygon(unit, box)
