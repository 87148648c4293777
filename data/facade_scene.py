"""Procedural building facades: a label map in the style of CMP facades, and the photo of it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from data.texture import Canvas, Patch, masonry, to_bytes, value_noise

#: RGB of each label, as found in the pix2pix copy of the CMP facades.
FACADE_PALETTE: dict[str, tuple[int, int, int]] = {
    "background": (0, 0, 222),
    "facade": (0, 48, 255),
    "window": (0, 128, 255),
    "door": (0, 207, 255),
    "cornice": (33, 255, 222),
    "sill": (112, 255, 143),
    "balcony": (192, 255, 63),
    "blind": (255, 240, 0),
    "deco": (255, 160, 0),
    "molding": (255, 80, 0),
    "pillar": (255, 0, 0),
    "shop": (174, 0, 0),
}

# Later labels lie on top of earlier ones, in the label map and in the photo alike.
_ORDER = (
    "pillar",
    "molding",
    "deco",
    "window",
    "blind",
    "door",
    "shop",
    "cornice",
    "sill",
    "balcony",
)
_BRICKS = ((160, 86, 66), (146, 82, 66), (174, 104, 80), (168, 118, 88))
_PLASTERS = ((224, 202, 160), (218, 184, 136), (212, 198, 180))
_STONES = ((196, 184, 160), (184, 174, 156))


class Element(NamedTuple):
    """One labelled rectangle of a facade.

    Attributes:
        label: Key of `FACADE_PALETTE`.
        box: (x0, y0, x1, y1) in relative units.
        style: What the painter of that label makes of it.
    """

    label: str
    box: tuple[float, float, float, float]
    style: str = ""


class Facade(NamedTuple):
    """Everything about a facade that does not depend on the size it is drawn at.

    Attributes:
        wall: (x0, y0, x1, y1) of the front in relative units.
        ground: Where the ground floor begins (its upper edge).
        elements: The labelled rectangles, in no particular order.
        material: "brick", "plaster" or "stone".
        plinth: Material of the ground floor, "rustic" or that of the wall.
        colour: RGB of the wall.
        trim: RGB of sills, cornices, mouldings and pillars.
        frame: RGB of the window frames.
        panes: Columns and rows of panes in a window.
        surround: Whether windows have a stone surround.
        light: +1 where the light comes from the left, -1 from the right.
    """

    wall: tuple[float, float, float, float]
    ground: float
    elements: list[Element]
    material: str
    plinth: str
    colour: np.ndarray
    trim: np.ndarray
    frame: np.ndarray
    panes: tuple[int, int]
    surround: bool
    light: int


def plan_facade(rng: np.random.Generator) -> Facade:
    """Draw the layout of a facade.

    Args:
        rng: The only source of randomness.

    Returns:
        A facade with 2 to 7 floors and 3 to 9 columns of windows.
    """
    x0 = rng.uniform(0.035, 0.12) if rng.random() < 0.5 else 0.0
    x1 = 1 - (rng.uniform(0.035, 0.12) if rng.random() < 0.5 else 0.0)
    y0 = rng.uniform(0.08, 0.17) if rng.random() < 0.75 else 0.0
    y1 = 1 - rng.uniform(0.025, 0.05)
    floors = int(rng.choice([2, 3, 4, 5, 6, 7], p=[0.07, 0.22, 0.28, 0.23, 0.13, 0.07]))
    storeys = np.ones(floors)
    storeys[-1] = rng.uniform(1.05, 1.35)
    storeys[0] = rng.uniform(0.85, 1.05)
    crown = rng.uniform(0.03, 0.045) + 0.06 / floors
    edges = y0 + crown + np.append(0, np.cumsum(storeys) / storeys.sum()) * (y1 - y0 - crown)
    pitch = (edges[1] - edges[0]) * rng.uniform(0.62, 1.0)
    columns = int(np.clip(round((x1 - x0) / pitch), 3, 9))
    bays = np.ones(columns)
    if columns % 2 and rng.random() < 0.4:
        bays[columns // 2] = rng.uniform(1.15, 1.35)
    pillars = str(rng.choice(["", "corners", "all"], p=[0.6, 0.18, 0.22]))
    border = rng.uniform(0.03, 0.045) if pillars else rng.uniform(0.005, 0.03)
    bay_edges = x0 + border + np.append(0, np.cumsum(bays) / bays.sum()) * (x1 - x0 - 2 * border)
    material = str(rng.choice(["brick", "plaster", "stone"], p=[0.6, 0.26, 0.14]))
    tints = {"brick": _BRICKS, "plaster": _PLASTERS, "stone": _STONES}[material]
    colour = np.array(tints[rng.integers(len(tints))]) * rng.uniform(0.94, 1.05)
    elements = [Element("molding", (x0, y0, x1, y0 + crown), "crown")]
    elements += _upper_floors(rng, edges, bay_edges, (x0, x1), pillars)
    elements += _ground_floor(rng, edges[-2], y1, bay_edges)
    return Facade(
        wall=(x0, y0, x1, y1),
        ground=float(edges[-2]),
        elements=elements,
        material=material,
        plinth="rustic" if rng.random() < 0.5 else material,
        colour=colour,
        trim=np.array([222, 210, 190]) + rng.uniform(-9, 5) * np.array([0.6, 0.8, 1.3]),
        frame=np.array([232, 229, 220] if rng.random() < 0.85 else [92, 66, 50], float),
        panes=((2, 3), (2, 2), (2, 4), (3, 4), (1, 2))[rng.integers(5)],
        surround=bool(rng.random() < 0.6),
        light=1 if rng.random() < 0.75 else -1,
    )


def _upper_floors(
    rng: np.random.Generator,
    edges: np.ndarray,
    bays: np.ndarray,
    sides: tuple[float, float],
    pillars: str,
) -> list[Element]:
    """Windows with all that belongs to them, bands and pillars above the ground floor."""
    columns, floors = len(bays) - 1, len(edges) - 1
    share, tall = rng.uniform(0.4, 0.56), rng.uniform(0.54, 0.66)
    twin = columns <= 6 and rng.random() < 0.25
    shutters = not twin and rng.random() < 0.25
    share = min(share, 0.43) if shutters else share
    blinds = 0.0 if shutters else rng.choice([0.0, 0.12, 0.35])
    hood = ("flat", "gable", "arch")[rng.integers(3)]
    hooded = rng.random(floors) < rng.choice([0.1, 0.5, 0.8])
    balconies = rng.random(columns) < rng.choice([0.0, 0.25, 0.5])
    balconied = rng.random(floors) < 0.6
    long_balcony = rng.random() < 0.25
    bands = rng.random(floors) < rng.choice([0.1, 0.6])
    deco = rng.random() < 0.3
    elements = []
    for floor in range(floors - 1):
        top, height = edges[floor], edges[floor + 1] - edges[floor]
        if bands[floor] or floor == floors - 2:
            thick = float(np.clip(height * 0.09, 0.011, 0.022))
            band = (sides[0], edges[floor + 1] - thick / 2, sides[1], edges[floor + 1] + thick / 2)
            elements.append(Element("molding", band, "band"))
        for bay in range(columns):
            middle = (bays[bay] + bays[bay + 1]) / 2 + rng.normal(0, 0.0012)
            width = share * (bays[bay + 1] - bays[bay]) * (1.15 if twin else 1.0)
            head = top + height * (0.88 - tall)
            box = (middle - width / 2, head, middle + width / 2, top + height * 0.86)
            elements += _window(rng, box, twin, shutters, blinds, hood if hooded[floor] else "")
            if balconied[floor] and balconies[bay]:
                elements.append(_balcony(box, height))
            elif deco and not bands[floor] and floor < floors - 2:
                part = (middle - width * 0.3, top + height * 0.96, middle + width * 0.3)
                elements.append(Element("deco", (*part, top + height * 1.06), "panel"))
        if long_balcony and floor == floors - 2 and columns >= 4:
            inner = (bays[1], top + height * 0.1, bays[columns - 1], top + height * 0.86)
            elements.append(_balcony(inner, height, overhang=0.0))
    room = (bays[1] - bays[0]) * (1 - share * (1.15 if twin else 1.0))
    half = min(room * 0.2, 0.018)
    if pillars:
        low, high = sides[0] + half * 1.2, sides[1] - half * 1.2
        between = bays[1:-1] if pillars == "all" and not shutters else []
        for x in (low, *between, high):
            elements.append(Element("pillar", (x - half, edges[0], x + half, edges[-2])))
    return elements


def _window(
    rng: np.random.Generator,
    box: tuple[float, float, float, float],
    twin: bool,
    shutters: bool,
    blinds: float,
    hood: str,
) -> list[Element]:
    """One window, or a pair, with its sill, hood, shutters and blind."""
    x0, y0, x1, y1 = box
    width, height = x1 - x0, y1 - y0
    gap = width * 0.08
    lights = [(x0, y0, x1, y1)]
    if twin:
        middle = (x0 + x1) / 2
        lights = [(x0, y0, middle - gap, y1), (middle + gap, y0, x1, y1)]
    elements = [Element("window", light) for light in lights]
    for a, _, b, _ in lights:
        if rng.random() < blinds:
            low = y0 + height * rng.uniform(0.25, 0.7)
            elements.append(Element("blind", (a, y0, b, low), "roller"))
    if shutters and rng.random() < 0.9:
        leaf = width * 0.36
        elements.append(Element("blind", (x0 - leaf, y0, x0, y1), "shutter"))
        elements.append(Element("blind", (x1, y0, x1 + leaf, y1), "shutter"))
    thick, out = float(np.clip(height * 0.08, 0.009, 0.018)), width * 0.12
    elements.append(Element("sill", (x0 - out, y1, x1 + out, y1 + thick)))
    if hood:
        rise = height * (0.1 if hood == "flat" else 0.17)
        elements.append(Element("cornice", (x0 - out, y0 - rise, x1 + out, y0 - 0.002), hood))
    return elements


def _balcony(
    box: tuple[float, float, float, float], height: float, *, overhang: float = 0.22
) -> Element:
    """A balcony in front of the lower part of the windows in `box`."""
    x0, _, x1, y1 = box
    out = (x1 - x0) * overhang
    return Element("balcony", (x0 - out, y1 - height * 0.24, x1 + out, y1 + height * 0.1))


def _ground_floor(
    rng: np.random.Generator, top: float, bottom: float, bays: np.ndarray
) -> list[Element]:
    """Doors, windows and shop fronts at street level."""
    columns, height = len(bays) - 1, bottom - top
    entrance = columns // 2 if rng.random() < 0.5 else int(rng.integers(columns))
    shops = rng.random() < 0.45
    share = rng.uniform(0.46, 0.6)
    elements, bay = [], 0
    while bay < columns:
        middle, width = (bays[bay] + bays[bay + 1]) / 2, bays[bay + 1] - bays[bay]
        if bay == entrance:
            half = min(width * 0.33, height * 0.3)
            head = top + height * 0.2
            elements.append(Element("door", (middle - half, head, middle + half, bottom)))
            lintel = (middle - half * 1.2, head - height * 0.08, middle + half * 1.2, head)
            elements.append(Element("cornice", lintel, "flat"))
        elif shops:
            last = bay + 1 if bay + 1 < columns and bay + 1 != entrance else bay
            inset = width * 0.07
            front = (bays[bay] + inset, top + height * 0.14, bays[last + 1] - inset, bottom)
            elements.append(Element("shop", front, "awning" if rng.random() < 0.4 else "sign"))
            bay = last
        else:
            half = width * share / 2
            box = (middle - half, top + height * 0.26, middle + half, bottom - height * 0.26)
            elements += _window(rng, box, False, False, 0.0, "")
        bay += 1
    return elements


def draw_labels(facade: Facade, size: int) -> np.ndarray:
    """Rasterise the label map, without anti-aliasing.

    Args:
        facade: The layout.
        size: Pixels a side.

    Returns:
        uint8 (size, size, 3), every pixel one of `FACADE_PALETTE`.
    """
    labels = np.empty((size, size, 3), np.uint8)
    labels[:] = FACADE_PALETTE["background"]
    rank = {label: place for place, label in enumerate(_ORDER)}
    boxes = sorted(facade.elements, key=lambda element: rank[element.label])
    for label, box, _ in [Element("facade", facade.wall), *boxes]:
        x0, y0, x1, y1 = (min(max(round(edge * size), 0), size) for edge in box)
        labels[y0:y1, x0:x1] = FACADE_PALETTE[label]
    return labels


def draw_photo(
    facade: Facade, size: int, *, detail: np.random.Generator, sensor: np.random.Generator
) -> np.ndarray:
    """Render the photo.

    Args:
        facade: The layout.
        size: Pixels a side.
        detail: Source of all that belongs to the scene; what it gives does not depend on `size`.
        sensor: Source of the noise of the pixels.

    Returns:
        uint8 (size, size, 3) RGB.
    """
    canvas = Canvas(size)
    _paint_surroundings(canvas, facade, detail)
    _paint_wall(canvas, facade, detail)
    rank = {label: place for place, label in enumerate(_ORDER)}
    for element in sorted(facade.elements, key=lambda element: rank[element.label]):
        _PAINTERS[element.label](canvas, facade, element, detail)
    _paint_street(canvas, facade)
    falloff = 1.05 - 0.14 * (np.arange(size, dtype=np.float32) / size)[:, None]
    dirt = value_noise(detail, size=size, cells=3, octaves=3)
    canvas.pixels *= (falloff * (1 + 0.035 * dirt))[..., None]
    canvas.pixels += 1.5 * sensor.standard_normal((size, size, 3), dtype=np.float32)
    return to_bytes(canvas.pixels)


def _paint_surroundings(canvas: Canvas, facade: Facade, rng: np.random.Generator) -> None:
    """Sky with clouds, the roof, and what stands on either side."""
    x0, y0, x1, _ = facade.wall
    sky = canvas.patch(0, 0, 1, 1)
    zenith, haze = np.array([132, 172, 218]), np.array([214, 226, 236])
    depth = np.minimum(sky.v * 4, 1)[:, None, None]
    sky.blend(zenith + (haze - zenith) * depth)
    clouds = value_noise(rng, size=canvas.size, cells=4, octaves=4)
    sky.blend((246, 247, 248), np.clip(clouds * 1.3 - 0.1, 0, 0.85)[..., None])
    for left, right in ((0.0, x0), (x1, 1.0)):
        _paint_neighbour(canvas, left, right, y0 + rng.uniform(0.03, 0.12), rng)
    if y0 > 0:
        _paint_roof(canvas, facade, rng)


def _paint_neighbour(
    canvas: Canvas, left: float, right: float, top: float, rng: np.random.Generator
) -> None:
    """A strip of the next house: dull plaster, a gutter and rows of dim windows."""
    tint = np.array([154, 144, 132]) * rng.uniform(0.88, 1.08)
    house = canvas.patch(left, top, right, 1.0)
    house.blend(tint)
    house.blend(tint * 0.72, house.rows(np.array([0.0]), np.array([0.012])))
    house.blend(tint * 0.9, house.row_stripes(0.018, 0.12))
    starts = np.arange(0.06, 0.95, 0.17)
    across = house.cols(0.25, 0.75)
    house.blend((200, 194, 184), house.rows(starts - 0.008, starts + 0.108) * house.cols(0.2, 0.8))
    house.blend((66, 72, 84), house.rows(starts, starts + 0.1) * across)
    house.blend((190, 186, 178), house.rows(starts + 0.03, starts + 0.035) * across)


def _paint_roof(canvas: Canvas, facade: Facade, rng: np.random.Generator) -> None:
    """Tiles above the eaves, with chimneys against the sky."""
    x0, y0, x1, _ = facade.wall
    ridge = y0 - min(y0 - 0.025, 0.085)
    for place in rng.uniform(0.1, 0.9, 3):
        x = x0 + (x1 - x0) * place
        stack = canvas.patch(x - 0.014, ridge - 0.03, x + 0.014, ridge + 0.01)
        stack.blend(np.array([150, 92, 74]) * (1.1 - 0.35 * stack.u[None, :, None]))
        stack.blend((104, 66, 54), stack.row_stripes(0.008, 0.25))
        canvas.fill((x - 0.018, ridge - 0.035, x + 0.018, ridge - 0.028), (190, 180, 166))
    roof = canvas.patch(x0 - 0.01, ridge, x1 + 0.01, y0)
    tone, share = masonry(rng, roof, course=0.0125, length=0.014, joint=0.003)
    slope = 0.78 + 0.3 * roof.v[:, None, None]
    # The hips at the ends lean inwards, unless the building goes on beyond the picture.
    lean = (1 - roof.v[:, None]) * 0.05
    x = x0 - 0.01 + roof.u[None, :] * (x1 - x0 + 0.02)
    inside = np.ones((len(roof.v), len(roof.u)), np.float32)
    if x0 > 0:
        inside *= np.clip((x - x0 + 0.01 - lean) * canvas.size + 0.5, 0, 1)
    if x1 < 1:
        inside *= np.clip((x1 + 0.01 - lean - x) * canvas.size + 0.5, 0, 1)
    tiles = np.array([112, 78, 70]) * slope * (0.62 + 0.38 * share + 0.1 * tone)
    roof.blend(tiles, inside[..., None])
    roof.blend((150, 118, 106), roof.rows(0.0, 0.05) * inside[..., None])


def _paint_wall(canvas: Canvas, facade: Facade, rng: np.random.Generator) -> None:
    """The masonry of the front, another one below `facade.ground` where the plan says so."""
    x0, y0, x1, y1 = facade.wall
    split = facade.ground if facade.plinth == "rustic" else y1
    wall = canvas.patch(x0, y0, x1, split)
    cloud = value_noise(rng, size=canvas.size, cells=8, octaves=4)[..., None]
    height, width = wall.view.shape[:2]
    cloud_here = cloud[wall.row : wall.row + height, wall.col : wall.col + width]
    if facade.material == "plaster":
        grain = value_noise(rng, size=canvas.size, cells=90, octaves=2)[..., None]
        grain = grain[wall.row : wall.row + height, wall.col : wall.col + width]
        wall.blend(facade.colour * (1 + 0.035 * cloud_here + 0.045 * grain))
    elif facade.material == "brick":
        tone, share = masonry(rng, wall, course=0.0121, length=0.029, joint=0.003)
        mortar = np.array([206, 190, 168]) * (1 + 0.03 * cloud_here)
        brick = facade.colour * (share * (1 + 0.05 * cloud_here) + 0.15 * tone)
        wall.blend(brick + mortar * (1 - share))
    else:
        _paint_blocks(wall, facade.colour, rng, course=0.032, length=0.078)
    if facade.plinth == "rustic":
        plinth = canvas.patch(x0, split, x1, y1)
        _paint_blocks(plinth, facade.trim * 0.88, rng, course=0.037, length=0.1)
    shadow = canvas.patch(x0, y1 - 0.03, x1, y1)
    shadow.blend(facade.trim * 0.66)
    shadow.blend(facade.trim * 0.8, shadow.rows(0.0, 0.15))


def _paint_blocks(
    patch: Patch, colour: np.ndarray, rng: np.random.Generator, *, course: float, length: float
) -> None:
    """Dressed stone: lit along the upper edge of each block, dark in the joints."""
    tone, share = masonry(rng, patch, course=course, length=length, joint=0.005)
    patch.blend(colour * (0.6 + 0.4 * share + 0.07 * tone))
    patch.blend((250, 244, 230), 0.3 * patch.row_stripes(course, 0.14))
    patch.shade(1 - 0.16 * patch.row_stripes(course, 0.14, course * 0.7))


def _drop_shadow(
    canvas: Canvas, box: tuple[float, float, float, float], light: int, *, reach: float
) -> None:
    """Darken the wall below `box` and to the side away from the light, fading downwards."""
    x0, _, x1, y1 = box
    shift = light * reach * 0.6
    below = canvas.patch(x0 + shift, y1, x1 + shift, y1 + reach)
    below.shade(0.55 + 0.35 * below.v[:, None, None])


def _paint_window(
    canvas: Canvas, facade: Facade, element: Element, rng: np.random.Generator
) -> None:
    """Surround, reveal, frame with glazing bars, and glass that mirrors sky or shows a room."""
    x0, y0, x1, y1 = element.box
    sky, curtain, tilt = rng.random(), rng.random(), rng.uniform(0.25, 0.75)
    if facade.surround:
        edge = 0.007
        around = (x0 - edge, y0 - edge, x1 + edge, y1)
        _drop_shadow(canvas, (x0 - edge, y0, x1 + edge, y1), facade.light, reach=0.004)
        canvas.fill(around, facade.trim)
    elif facade.material == "brick":
        lintel = canvas.patch(x0 - 0.006, y0 - 0.02, x1 + 0.006, y0)
        lintel.blend(facade.colour * 0.86)
        lintel.blend((206, 190, 168), 0.8 * lintel.col_stripes(0.0105, 0.26))
    patch = canvas.patch(*element.box)
    u, v = patch.u[None, :, None], patch.v[:, None, None]
    room, bright = np.array([34.0, 42, 56]), np.array([136.0, 164, 196])
    # A slanted edge splits the glass into what mirrors the sky and what mirrors the street.
    mirror = np.clip((tilt + 0.3 * u - v) * 7, 0, 1) * (0.35 + 0.4 * sky)
    glass = room + (bright - room) * (mirror + 0.1 * (1 - v))
    if curtain < 0.4:
        drape = np.clip((np.abs(u - 0.5) - 0.22 - 0.12 * v) * 12, 0, 1) * 0.5
        folds = 0.85 + 0.3 * patch.col_stripes(0.008, 0.5)
        glass = glass + drape * (np.array([206, 200, 188]) * folds - glass)
    width, height = x1 - x0, y1 - y0
    # Narrow windows get fewer panes: bars must not crowd out the glass.
    across = min(facade.panes[0], max(int(width / 0.013), 1))
    down = min(facade.panes[1], max(int(height / 0.015), 1))
    bar_u, bar_v = 0.0034 / width, 0.0034 / height
    inner_u, inner_v = np.arange(1, across) / across, np.arange(1, down) / down
    if down == 3:
        inner_v = np.array([0.36])
    at_u = np.concatenate([[0.0], inner_u - bar_u / 2, [1 - 1.6 * bar_u]])
    at_v = np.concatenate([[0.0], inner_v - bar_v / 2, [1 - 1.6 * bar_v]])
    wide_u, wide_v = np.full(len(at_u), bar_u), np.full(len(at_v), bar_v)
    wide_u[[0, -1]], wide_v[[0, -1]] = 1.6 * bar_u, 1.6 * bar_v
    bars = 1 - (1 - patch.cols(at_u, at_u + wide_u)) * (1 - patch.rows(at_v, at_v + wide_v))
    reveal = 1 - 0.55 * patch.rows(0.0, 0.009 / height)
    side = (0.0, 0.006 / width) if facade.light > 0 else (1 - 0.006 / width, 1.0)
    reveal = reveal * (1 - 0.4 * patch.cols(*side))
    patch.blend((glass + bars * (facade.frame - glass)) * reveal)


def _paint_blind(
    canvas: Canvas, facade: Facade, element: Element, rng: np.random.Generator
) -> None:
    """A slatted roller blind in the window, or a leaf of a louvred shutter beside it."""
    patch = canvas.patch(*element.box)
    x0, y0, x1, y1 = element.box
    if element.style == "roller":
        patch.blend(np.array([226, 216, 192]) * rng.uniform(0.94, 1.03))
        patch.shade(1 - 0.42 * patch.row_stripes(0.0105, 0.36, 0.006))
        patch.shade(1 - 0.45 * patch.rows(0.0, 0.006 / (y1 - y0)))
        patch.blend((120, 112, 100), patch.rows(1 - 0.004 / (y1 - y0), 1.0))
        return
    _drop_shadow(canvas, element.box, facade.light, reach=0.006)
    tint = np.array([74, 104, 82])
    patch.blend(tint)
    rim_u, rim_v = 0.005 / (x1 - x0), 0.006 / (y1 - y0)
    inside = patch.cols(rim_u, 1 - rim_u) * (1 - patch.rows(0.5 - rim_v / 2, 0.5 + rim_v / 2))
    inside = inside * patch.rows(rim_v, 1 - rim_v)
    slats = patch.row_stripes(0.0105, 0.5)
    patch.blend(tint * (0.55 + 0.75 * slats), inside)


def _paint_sill(canvas: Canvas, facade: Facade, element: Element, _: np.random.Generator) -> None:
    """A light slab with a lit top, and its shadow on the wall."""
    _drop_shadow(canvas, element.box, facade.light, reach=0.011)
    patch = canvas.patch(*element.box)
    patch.blend(facade.trim * (1.1 - 0.22 * patch.v[:, None, None]))


def _paint_cornice(
    canvas: Canvas, facade: Facade, element: Element, _: np.random.Generator
) -> None:
    """A hood over a window: a flat shelf, a gable, or a segment of a circle."""
    x0, y0, x1, y1 = element.box
    patch = canvas.patch(*element.box)
    u, v = patch.u[None, :, None], patch.v[:, None, None]
    if element.style == "flat":
        patch.blend(facade.trim * (1.12 - 0.3 * v))
        patch.shade(1 - 0.35 * patch.rows(0.45, 0.6))
    else:
        bow = np.abs(2 * u - 1)
        line = bow * 0.72 if element.style == "gable" else 0.72 * bow * bow
        pixel = canvas.size * (y1 - y0)
        body = np.clip((v - line) * pixel + 0.5, 0, 1)
        field = np.clip((v - line - 0.24) * pixel + 0.5, 0, 1) * (1 - patch.rows(0.8, 1.0))
        patch.blend(facade.trim * 1.06, body)
        patch.blend(facade.trim * 0.72, body * field)
    _drop_shadow(canvas, element.box, facade.light, reach=0.008)


def _paint_molding(
    canvas: Canvas, facade: Facade, element: Element, _: np.random.Generator
) -> None:
    """A band across the front; the one under the eaves is deep and has dentils."""
    x0, y0, x1, y1 = element.box
    crown = element.style == "crown"
    _drop_shadow(canvas, element.box, 0, reach=0.02 if crown else 0.011)
    patch = canvas.patch(*element.box)
    height = y1 - y0
    patch.blend(facade.trim * (1.1 - 0.16 * patch.v[:, None, None]))
    if not crown:
        patch.shade(1 - 0.3 * patch.rows(0.62, 0.8))
        return
    patch.shade(1 - 0.4 * patch.rows(0.26, 0.34))
    dentils = patch.rows(0.5, 0.5 + 0.014 / height)
    patch.blend(facade.trim * 0.5, dentils)
    patch.blend(facade.trim * 1.04, dentils * patch.col_stripes(0.0155, 0.55))
    patch.shade(1 - 0.25 * patch.rows(0.9, 0.96))


def _paint_pillar(canvas: Canvas, facade: Facade, element: Element, _: np.random.Generator) -> None:
    """A fluted pilaster with a base and a capital, its shadow beside it."""
    x0, y0, x1, y1 = element.box
    width, height = x1 - x0, y1 - y0
    shift = facade.light * 0.007
    canvas.shade((x0 + shift, y0, x1 + shift, y1), 0.68)
    patch = canvas.patch(*element.box)
    u = patch.u[None, :, None] if facade.light > 0 else 1 - patch.u[None, :, None]
    patch.blend(facade.trim * (1.1 - 0.34 * u))
    flutes = np.arange(1, 4) / 4 - 0.06
    shaft = patch.rows(0.018 / height, 1 - 0.02 / height)
    patch.shade(1 - 0.3 * patch.cols(flutes, flutes + 0.12) * shaft)
    for top, low in ((y0, y0 + 0.016), (y1 - 0.018, y1)):
        block = canvas.patch(x0 - width * 0.12, top, x1 + width * 0.12, low)
        block.blend(facade.trim * (1.12 - 0.3 * block.v[:, None, None]))


def _paint_deco(canvas: Canvas, facade: Facade, element: Element, _: np.random.Generator) -> None:
    """A carved panel: a sunk field with a row of lozenges."""
    patch = canvas.patch(*element.box)
    patch.blend(facade.trim)
    patch.shade(1 - 0.3 * patch.rows(0.15, 0.85) * patch.cols(0.05, 0.95))
    u, v = patch.u[None, :, None], patch.v[:, None, None]
    wave = np.abs((u * 4) % 1 - 0.5) + np.abs(v - 0.5) * 0.8
    patch.blend(facade.trim * 1.12, np.clip((0.36 - wave) * 6, 0, 1))


def _paint_balcony(
    canvas: Canvas, facade: Facade, element: Element, _: np.random.Generator
) -> None:
    """Iron railings before a dim opening, on a stone slab that shades the wall below."""
    x0, y0, x1, y1 = element.box
    height = y1 - y0
    slab = y1 - height * 0.2
    _drop_shadow(canvas, element.box, facade.light, reach=0.024)
    canvas.shade((x0, y0, x1, slab), 0.82)
    rail = canvas.patch(x0, y0, x1, slab)
    iron = np.array([44, 46, 50])
    span = slab - y0
    rail.blend(iron, rail.col_stripes(0.0118, 0.38) * 0.95)
    for start, thick in ((0.0, 0.006), (0.2, 0.003), (1 - 0.006 / span, 0.005)):
        rail.blend(iron, rail.rows(start, start + thick / span))
    rail.blend((150, 150, 148), 0.6 * rail.rows(0.0, 0.0022 / span))
    post = 0.006 / (x1 - x0)
    rail.blend(iron, rail.cols(np.array([0, 1 - post]), np.array([post, 1.0])))
    floor = canvas.patch(x0, slab, x1, y1)
    floor.blend(facade.trim * (1.1 - 0.4 * floor.v[:, None, None]))


def _paint_door(canvas: Canvas, facade: Facade, element: Element, _: np.random.Generator) -> None:
    """Two leaves of wood with sunk panels under a fanlight, in a stone frame."""
    x0, y0, x1, y1 = element.box
    width, height = x1 - x0, y1 - y0
    canvas.fill((x0 - 0.01, y0, x1 + 0.01, y1), facade.trim)
    patch = canvas.patch(*element.box)
    wood = np.array([112, 70, 42])
    patch.blend(wood)
    patch.shade(1 - 0.12 * patch.col_stripes(0.0075, 0.4))
    light = patch.rows(0.03, 0.2) * patch.cols(0.06, 0.94)
    patch.blend((70, 86, 108), light)
    ribs = np.arange(1, 5) / 5
    patch.blend(wood * 1.3, light * patch.cols(ribs - 0.02, ribs + 0.02))
    lefts, tops = np.array([0.08, 0.57]), np.array([0.27, 0.52, 0.77])
    sunk = patch.cols(lefts, lefts + 0.35) * patch.rows(tops, tops + 0.19)
    raised = patch.cols(lefts + 0.06, lefts + 0.29) * patch.rows(tops + 0.035, tops + 0.155)
    patch.shade((1 - 0.5 * sunk) * (1 + 0.9 * raised))
    patch.blend(wood * 0.35, patch.cols(0.485, 0.515) * patch.rows(0.2, 1.0))
    patch.blend((214, 180, 96), patch.cols(0.44, 0.47) * patch.rows(0.58, 0.63))
    patch.shade(1 - 0.5 * patch.rows(0.0, 0.012 / height))
    side = (0.0, 0.007 / width) if facade.light > 0 else (1 - 0.007 / width, 1.0)
    patch.shade(1 - 0.4 * patch.cols(*side))


def _paint_shop(canvas: Canvas, facade: Facade, element: Element, rng: np.random.Generator) -> None:
    """A shop front: a lettered sign or a striped awning over a lit display window."""
    x0, y0, x1, y1 = element.box
    width, height = x1 - x0, y1 - y0
    paint = np.array([58, 52, 50])
    patch = canvas.patch(*element.box)
    patch.blend(paint)
    glass = canvas.patch(x0 + 0.008, y0 + height * 0.24, x1 - 0.008, y1 - height * 0.16)
    u, v = glass.u[None, :, None], glass.v[:, None, None]
    glass.blend(np.array([122, 104, 84]) - 46 * v + 22 * np.clip((0.5 + 0.4 * u - v) * 9, 0, 1))
    for place, tall, wide, hue in rng.uniform(0, 1, (10, 4)):
        left, base = 0.03 + place * 0.87, 0.96
        cold = np.array([-50, 0, 60]) if hue > 0.7 else np.array([0, 0, 0])
        goods = glass.rows(base - 0.12 - 0.36 * tall, base)
        goods = goods * glass.cols(left, left + 0.04 + 0.05 * wide)
        glass.blend(np.array([214, 156, 92]) * (0.6 + 0.5 * hue) + cold, 0.85 * goods)
    lamps = np.arange(0.1, 0.95, 0.16)
    glass.blend((255, 240, 196), glass.rows(0.06, 0.12) * glass.cols(lamps, lamps + 0.05))
    panes = np.arange(1, max(int(width / 0.07), 1)) / max(int(width / 0.07), 1)
    if len(panes):
        glass.blend(paint * 1.5, glass.cols(panes - 0.002 / width, panes + 0.002 / width))
    glass.blend((226, 208, 160), 0.7 * glass.rows(0.0, 0.03))
    if element.style == "awning":
        awning = canvas.patch(x0, y0, x1, y0 + height * 0.34)
        awning.blend((236, 228, 212))
        awning.blend((172, 58, 48), awning.col_stripes(0.022, 0.5))
        awning.shade(1.05 - 0.3 * awning.v[:, None, None])
        awning.shade(1 - 0.3 * awning.rows(0.84, 0.88))
        canvas.shade((x0, y0 + height * 0.34, x1, y0 + height * 0.46), 0.6)
        return
    _paint_sign(canvas.patch(x0, y0, x1, y0 + height * 0.2), rng)


def _paint_sign(sign: Patch, rng: np.random.Generator) -> None:
    """A painted board with a line of made-up letters: stems, and bars at three heights."""
    width = sign.box[2] - sign.box[0]
    sign.blend(np.array([104, 44, 42]) * (1.15 - 0.3 * sign.v[:, None, None]))
    pitch, stroke, gold = 0.014 / width, 0.003 / width, (240, 222, 170)
    strokes = rng.random((64, 5)) < np.array([0.85, 0.5, 0.6, 0.45, 0.55])
    starts = 0.15 + np.arange(min(int(0.7 / pitch), 64)) * pitch
    strokes = strokes[: len(starts)] & (rng.random(64)[: len(starts), None] > 0.15)
    tall = sign.rows(0.26, 0.76)
    for column, shift in ((0, 0.0), (1, 2 * stroke)):
        stems = starts[strokes[:, column]] + shift
        sign.blend(gold, tall * sign.cols(stems, stems + stroke))
    for column, top in ((2, 0.26), (3, 0.46), (4, 0.64)):
        bars = starts[strokes[:, column]]
        sign.blend(gold, sign.rows(top, top + 0.12) * sign.cols(bars, bars + 3 * stroke))


def _paint_street(canvas: Canvas, facade: Facade) -> None:
    """Pavement slabs and the kerb."""
    street = canvas.patch(0.0, facade.wall[3], 1.0, 1.0)
    street.blend(np.array([150, 146, 140]))
    street.shade(1 - 0.2 * street.col_stripes(0.05, 0.06))
    street.blend((196, 192, 184), street.rows(0.55, 0.7))
    street.blend((84, 84, 86), street.rows(0.7, 1.0))
    street.shade(0.75 + 0.25 * np.minimum(street.v * 3, 1)[:, None, None])


_PAINTERS = {
    "window": _paint_window,
    "blind": _paint_blind,
    "sill": _paint_sill,
    "cornice": _paint_cornice,
    "molding": _paint_molding,
    "pillar": _paint_pillar,
    "deco": _paint_deco,
    "balcony": _paint_balcony,
    "door": _paint_door,
    "shop": _paint_shop,
}
