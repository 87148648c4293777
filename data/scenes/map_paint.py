"""How a street map looks: a clean web map, and the aerial picture of the same streets."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from steadypix.data.scenes.map_layout import Town
from steadypix.data.scenes.map_roads import CAR_COLOURS, LEVELS, ribbon
from steadypix.data.scenes.texture import to_bytes, value_noise

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

_ASPHALT = {"street": (112, 111, 110), "avenue": (104, 103, 104), "motorway": (96, 96, 98)}

# What PIL fills a shape with: a grey or an index in mode L, RGB in mode RGB.
Ink = int | tuple[int, ...]


def draw_map(town: Town, size: int) -> np.ndarray:
    """Rasterise the map side (size, size, 3) uint8: flat colours of `MAP_PALETTE`, no anti-aliasing."""
    brush = _Brush("L", size, _IDS["land"])
    for park in town.parks:
        brush.polygon(park, _IDS["park"])
    brush.polygons(town.buildings.corners, _IDS["building"])
    for kind in LEVELS:
        roads = [road for road in town.roads if road.kind == kind]
        casing = "casing" if kind == "street" else f"{kind}_casing"
        for road in roads:
            brush.polygon(ribbon(road.line, road.width + 0.008), _IDS[casing])
        for road in roads:
            brush.polygon(ribbon(road.line, road.width), _IDS[kind])
        # Only the greater roads have bridges: the water comes between them and the streets.
        for shore in town.water if kind == "street" else ():
            brush.polygon(shore, _IDS["water"])
    middle = _OVERSAMPLE // 2
    ids = np.asarray(brush.image)[middle::_OVERSAMPLE, middle::_OVERSAMPLE]
    return np.array(list(MAP_PALETTE.values()), np.uint8)[ids]


def draw_aerial(
    town: Town, size: int, *, detail: np.random.Generator, sensor: np.random.Generator
) -> np.ndarray:
    """Render the aerial picture (size, size, 3) uint8: details from `detail`, pixel noise from `sensor`."""
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
        brush.discs(middle[None], 0.016, [(176, 164, 136)])
        brush.discs(middle[None], 0.01, [(92, 122, 64)])
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
            wet.polygon(ribbon(road.line, road.width + 0.014), 0)


def _paint_roads(brush: _Brush, town: Town, level: int) -> None:
    """Pavements first, then all carriageways, so that crossings stay open; then the traffic."""
    roads = [road for road in town.roads if road.kind == LEVELS[level]]
    for road in roads:
        brush.polygon(ribbon(road.line, road.width + 0.012), (164, 160, 152))
    for road in roads:
        brush.polygon(ribbon(road.line, road.width), _ASPHALT[road.kind])
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
    brush.polygons(bodies, _inks(CAR_COLOURS[cars[:, 3].astype(int)]))


def _paint_shadows(brush: _Brush, town: Town) -> None:
    """Shadows on the ground; what casts them is painted over it afterwards."""
    shade = _Brush("1", brush.scale // _OVERSAMPLE, 0)
    corners, height = town.buildings.corners, town.buildings.height[:, None, None]
    shade.polygons(corners + town.sun * height, 1)
    shade.polygons(corners[town.buildings.flat] + town.sun * 0.008, 1)
    centres, radii = town.trees[:, :2], town.trees[:, 2]
    shade.discs(centres + town.sun * 0.8 * radii[:, None], radii, 1)
    dark = [value * 118 // 255 for value in range(256)]
    brush.image.paste(brush.image.point(dark * 3), mask=shade.image)


def _paint_trees(brush: _Brush, town: Town, rng: np.random.Generator) -> None:
    """Crowns: a dark rim, and a lighter side towards the sun."""
    tints = np.array([58, 82, 44]) * rng.uniform(0.8, 1.2, (len(town.trees), 1))
    centres, radii = town.trees[:, :2], town.trees[:, 2]
    towards = town.sun * radii[:, None]
    shifts, shares, lights = np.array([(0.0, 1.0, 0.72), (-0.18, 0.74, 1.08), (-0.36, 0.38, 1.42)]).T
    # Tree by tree, since a crown hides parts of the one before.
    layers = centres[:, None] + shifts[:, None] * towards[:, None]
    inks = _inks((tints[:, None] * lights[:, None]).reshape(-1, 3))
    brush.discs(layers.reshape(-1, 2), np.outer(radii, shares).ravel(), inks)


def _paint_buildings(brush: _Brush, town: Town, rng: np.random.Generator) -> None:
    """Pitched roofs of two slopes with a ridge and a chimney, then the flat roofs."""
    corners, _, flat, colour = town.buildings
    a, b, c, d = np.moveaxis(corners[~flat], 1, 0)
    left, right = (a + d) / 2, (b + c) / 2
    facing = ((d - a) @ town.sun / np.maximum(np.linalg.norm(d - a, axis=1), 1e-9))[:, None]
    tint = colour[~flat]
    near, far = _inks(tint * (1 + 0.24 * facing)), _inks(tint * (1 - 0.24 * facing))
    brush.polygons(np.stack([a, b, right, left], 1), near)
    brush.polygons(np.stack([left, right, c, d], 1), far)
    brush.lines(np.concatenate([left, right], 1), 0.002, (150, 136, 122))
    brush.discs(left + (right - left) * 0.3 + (a - left) * 0.35, 0.0022, _inks(tint * 0.55))
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


class _Brush:
    """Draws shapes given in relative units on an oversampled PIL image."""

    def __init__(self, mode: str, size: int, fill: Ink) -> None:
        self.scale = size * _OVERSAMPLE
        self.image = Image.new(mode, (self.scale, self.scale), fill)
        self.draw = ImageDraw.Draw(self.image)

    def polygon(self, points: np.ndarray, fill: Ink) -> None:
        """Fill a polygon (n, 2)."""
        # PIL cuts coordinates down to whole pixels, and both ends of a span belong to it.
        self.draw.polygon((points * self.scale).ravel().tolist(), fill=fill)

    def polygons(self, corners: np.ndarray, inks: list[Ink] | int) -> None:
        """Fill many polygons (n, k, 2), in one colour or in one each."""
        flat = (corners * self.scale).reshape(len(corners), 2 * corners.shape[1]).tolist()
        for index, outline in enumerate(flat):
            self.draw.polygon(outline, fill=inks if isinstance(inks, int) else inks[index])

    def discs(self, centres: np.ndarray, radii: np.ndarray | float, inks: list[Ink] | int) -> None:
        """Fill many discs about `centres` (n, 2), in one colour or in one each."""
        radius = np.broadcast_to(radii, len(centres))[:, None]
        boxes = (np.hstack([centres - radius, centres + radius]) * self.scale).tolist()
        for index, box in enumerate(boxes):
            self.draw.ellipse(box, fill=inks if isinstance(inks, int) else inks[index])

    def lines(self, ends: np.ndarray, width: float, fill: Ink) -> None:
        """Draw straight lines between ends (n, 4): x0, y0, x1, y1."""
        pixels = max(round(width * self.scale), 1)
        for line in (ends * self.scale).tolist():
            self.draw.line(line, fill=fill, width=pixels)

    def mean(self) -> np.ndarray:
        """The picture at the size asked for: the mean over the samples, float32."""
        return np.asarray(self.image.reduce(_OVERSAMPLE), np.float32)


def _inks(colours: np.ndarray) -> list[Ink]:
    """Colours (n, 3) as tuples PIL takes."""
    return [tuple(colour) for colour in np.clip(colours, 0, 255).astype(int).tolist()]
