"""Where everything lies on a procedural building facade, drawn at random and free of any size."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from steadypix.data.scenes.texture import Box

#: RGB of a wall, per material.
_TINTS = {
    "brick": ((160, 86, 66), (146, 82, 66), (174, 104, 80), (168, 118, 88)),
    "plaster": ((224, 202, 160), (218, 184, 136), (212, 198, 180)),
    "stone": ((196, 184, 160), (184, 174, 156)),
}


class Element(NamedTuple):
    """One labelled rectangle of a facade."""

    label: str  # key of `FACADE_PALETTE`
    box: Box
    style: str = ""  # what the painter of that label makes of it


class Facade(NamedTuple):
    """Everything about a facade that does not depend on the size it is drawn at."""

    wall: Box
    ground: float  # where the ground floor begins (its upper edge)
    elements: list[Element]  # in no particular order
    material: str  # "brick", "plaster" or "stone"
    plinth: str  # material of the ground floor, "rustic" or that of the wall
    colour: np.ndarray  # RGB of the wall
    trim: np.ndarray  # RGB of sills, cornices, mouldings and pillars
    frame: np.ndarray  # RGB of the window frames
    panes: tuple[int, int]  # columns and rows of panes in a window
    surround: bool  # whether windows have a stone surround
    light: int  # +1 where the light comes from the left, -1 from the right


def plan_facade(rng: np.random.Generator) -> Facade:
    """Draw the layout of a facade with 2 to 7 floors and 3 to 9 columns of windows."""
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
    tints = _TINTS[material]
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
    rng: np.random.Generator, edges: np.ndarray, bays: np.ndarray, sides: tuple[float, float], pillars: str
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
        between = bays[1:-1] if pillars == "all" and not shutters else bays[:0]
        for x in (low, *between, high):
            elements.append(Element("pillar", (x - half, edges[0], x + half, edges[-2])))
    return elements


def _window(
    rng: np.random.Generator, box: Box, twin: bool, shutters: bool, blinds: float, hood: str
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


def _balcony(box: Box, height: float, *, overhang: float = 0.22) -> Element:
    """A balcony in front of the lower part of the windows in `box`."""
    x0, _, x1, y1 = box
    out = (x1 - x0) * overhang
    return Element("balcony", (x0 - out, y1 - height * 0.24, x1 + out, y1 + height * 0.1))


def _ground_floor(rng: np.random.Generator, top: float, bottom: float, bays: np.ndarray) -> list[Element]:
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
