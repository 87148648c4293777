"""How each labelled part of a facade looks in the photo: one painter per label."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from steadypix.data.scenes.facade_layout import Element, Facade
from steadypix.data.scenes.texture import Box, Canvas, Patch


def _drop_shadow(canvas: Canvas, box: Box, light: int, *, reach: float) -> None:
    """Darken the wall below `box` and to the side away from the light, fading downwards."""
    x0, _, x1, y1 = box
    shift = light * reach * 0.6
    below = canvas.patch(x0 + shift, y1, x1 + shift, y1 + reach)
    below.shade(0.55 + 0.35 * below.v)


def _paint_window(canvas: Canvas, facade: Facade, element: Element, rng: np.random.Generator) -> None:
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
    u, v = patch.u, patch.v
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


def _paint_blind(canvas: Canvas, facade: Facade, element: Element, rng: np.random.Generator) -> None:
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
    patch.blend(facade.trim * (1.1 - 0.22 * patch.v))


def _paint_cornice(canvas: Canvas, facade: Facade, element: Element, _: np.random.Generator) -> None:
    """A hood over a window: a flat shelf, a gable, or a segment of a circle."""
    patch = canvas.patch(*element.box)
    u, v = patch.u, patch.v
    if element.style == "flat":
        patch.blend(facade.trim * (1.12 - 0.3 * v))
        patch.shade(1 - 0.35 * patch.rows(0.45, 0.6))
    else:
        bow = np.abs(2 * u - 1)
        line = bow * 0.72 if element.style == "gable" else 0.72 * bow * bow
        pixel = canvas.size * (element.box[3] - element.box[1])
        body = np.clip((v - line) * pixel + 0.5, 0, 1)
        field = np.clip((v - line - 0.24) * pixel + 0.5, 0, 1) * (1 - patch.rows(0.8, 1.0))
        patch.blend(facade.trim * 1.06, body)
        patch.blend(facade.trim * 0.72, body * field)
    _drop_shadow(canvas, element.box, facade.light, reach=0.008)


def _paint_molding(canvas: Canvas, facade: Facade, element: Element, _: np.random.Generator) -> None:
    """A band across the front; the one under the eaves is deep and has dentils."""
    crown = element.style == "crown"
    _drop_shadow(canvas, element.box, 0, reach=0.02 if crown else 0.011)
    patch = canvas.patch(*element.box)
    height = element.box[3] - element.box[1]
    patch.blend(facade.trim * (1.1 - 0.16 * patch.v))
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
    u = patch.u if facade.light > 0 else 1 - patch.u
    patch.blend(facade.trim * (1.1 - 0.34 * u))
    flutes = np.arange(1, 4) / 4 - 0.06
    shaft = patch.rows(0.018 / height, 1 - 0.02 / height)
    patch.shade(1 - 0.3 * patch.cols(flutes, flutes + 0.12) * shaft)
    for top, low in ((y0, y0 + 0.016), (y1 - 0.018, y1)):
        block = canvas.patch(x0 - width * 0.12, top, x1 + width * 0.12, low)
        block.blend(facade.trim * (1.12 - 0.3 * block.v))


def _paint_deco(canvas: Canvas, facade: Facade, element: Element, _: np.random.Generator) -> None:
    """A carved panel: a sunk field with a row of lozenges."""
    patch = canvas.patch(*element.box)
    patch.blend(facade.trim)
    patch.shade(1 - 0.3 * patch.rows(0.15, 0.85) * patch.cols(0.05, 0.95))
    u, v = patch.u, patch.v
    wave = np.abs((u * 4) % 1 - 0.5) + np.abs(v - 0.5) * 0.8
    patch.blend(facade.trim * 1.12, np.clip((0.36 - wave) * 6, 0, 1))


def _paint_balcony(canvas: Canvas, facade: Facade, element: Element, _: np.random.Generator) -> None:
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
    floor.blend(facade.trim * (1.1 - 0.4 * floor.v))


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
    u, v = glass.u, glass.v
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
        awning.shade(1.05 - 0.3 * awning.v)
        awning.shade(1 - 0.3 * awning.rows(0.84, 0.88))
        canvas.shade((x0, y0 + height * 0.34, x1, y0 + height * 0.46), 0.6)
        return
    _paint_sign(canvas.patch(x0, y0, x1, y0 + height * 0.2), rng)


def _paint_sign(sign: Patch, rng: np.random.Generator) -> None:
    """A painted board with a line of made-up letters: stems, and bars at three heights."""
    width = sign.box[2] - sign.box[0]
    sign.blend(np.array([104, 44, 42]) * (1.15 - 0.3 * sign.v))
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


#: The painter of each label; its last argument is the source of the details.
PAINTERS: dict[str, Callable[[Canvas, Facade, Element, np.random.Generator], None]] = {
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
