"""How a facade looks: its label map in the style of CMP facades, and the photo of it."""

from __future__ import annotations

import numpy as np

from steadypix.data.scenes.facade_layout import Element, Facade
from steadypix.data.scenes.facade_parts import PAINTERS
from steadypix.data.scenes.texture import Canvas, Patch, masonry, to_bytes, value_noise

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
_STACK = ("pillar", "molding", "deco", "window", "blind", "door", "shop", "cornice", "sill", "balcony")


def draw_labels(facade: Facade, size: int) -> np.ndarray:
    """Rasterise the label map (size, size, 3) uint8: flat colours of `FACADE_PALETTE`, no anti-aliasing."""
    labels = np.empty((size, size, 3), np.uint8)
    labels[:] = FACADE_PALETTE["background"]
    for label, box, _ in [Element("facade", facade.wall), *_stacked(facade)]:
        x0, y0, x1, y1 = (min(max(round(edge * size), 0), size) for edge in box)
        labels[y0:y1, x0:x1] = FACADE_PALETTE[label]
    return labels


def draw_photo(
    facade: Facade, size: int, *, detail: np.random.Generator, sensor: np.random.Generator
) -> np.ndarray:
    """Render the photo (size, size, 3) uint8: the scene drawn from `detail`, pixel noise from `sensor`."""
    canvas = Canvas(size)
    _paint_surroundings(canvas, facade, detail)
    _paint_wall(canvas, facade, detail)
    for element in _stacked(facade):
        PAINTERS[element.label](canvas, facade, element, detail)
    _paint_street(canvas, facade)
    falloff = 1.05 - 0.14 * (np.arange(size, dtype=np.float32) / size)[:, None]
    dirt = value_noise(detail, size=size, cells=3, octaves=3)
    canvas.pixels *= (falloff * (1 + 0.035 * dirt))[..., None]
    canvas.pixels += 1.5 * sensor.standard_normal((size, size, 3), dtype=np.float32)
    return to_bytes(canvas.pixels)


def _stacked(facade: Facade) -> list[Element]:
    """The elements from the lowest to the uppermost."""
    return sorted(facade.elements, key=lambda element: _STACK.index(element.label))


def _paint_surroundings(canvas: Canvas, facade: Facade, rng: np.random.Generator) -> None:
    """Sky with clouds, the roof, and what stands on either side."""
    x0, y0, x1, _ = facade.wall
    sky = canvas.patch(0, 0, 1, 1)
    zenith, haze = np.array([132, 172, 218]), np.array([214, 226, 236])
    sky.blend(zenith + (haze - zenith) * np.minimum(sky.v * 4, 1))
    clouds = value_noise(rng, size=canvas.size, cells=4, octaves=4)
    sky.blend((246, 247, 248), np.clip(clouds * 1.3 - 0.1, 0, 0.85)[..., None])
    for left, right in ((0.0, x0), (x1, 1.0)):
        _paint_neighbour(canvas, left, right, y0 + rng.uniform(0.03, 0.12), rng)
    if y0 > 0:
        _paint_roof(canvas, facade, rng)


def _paint_neighbour(canvas: Canvas, left: float, right: float, top: float, rng: np.random.Generator) -> None:
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
        stack.blend(np.array([150, 92, 74]) * (1.1 - 0.35 * stack.u))
        stack.blend((104, 66, 54), stack.row_stripes(0.008, 0.25))
        canvas.fill((x - 0.018, ridge - 0.035, x + 0.018, ridge - 0.028), (190, 180, 166))
    roof = canvas.patch(x0 - 0.01, ridge, x1 + 0.01, y0)
    tone, share = masonry(rng, roof, course=0.0125, length=0.014, joint=0.003)
    slope = 0.78 + 0.3 * roof.v
    # The hips at the ends lean inwards, unless the building goes on beyond the picture.
    lean = (1 - roof.v) * 0.05
    x = x0 - 0.01 + roof.u * (x1 - x0 + 0.02)
    inside = np.ones_like(roof.alpha)
    if x0 > 0:
        inside *= np.clip((x - x0 + 0.01 - lean) * canvas.size + 0.5, 0, 1)
    if x1 < 1:
        inside *= np.clip((x1 + 0.01 - lean - x) * canvas.size + 0.5, 0, 1)
    tiles = np.array([112, 78, 70]) * slope * (0.62 + 0.38 * share + 0.1 * tone)
    roof.blend(tiles, inside)
    roof.blend((150, 118, 106), roof.rows(0.0, 0.05) * inside)


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


def _paint_street(canvas: Canvas, facade: Facade) -> None:
    """Pavement slabs and the kerb."""
    street = canvas.patch(0.0, facade.wall[3], 1.0, 1.0)
    street.blend(np.array([150, 146, 140]))
    street.shade(1 - 0.2 * street.col_stripes(0.05, 0.06))
    street.blend((196, 192, 184), street.rows(0.55, 0.7))
    street.blend((84, 84, 86), street.rows(0.7, 1.0))
    street.shade(0.75 + 0.25 * np.minimum(street.v * 3, 1))
