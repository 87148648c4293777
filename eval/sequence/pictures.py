"""The pictures of a report on sequences: a row through time, a few frames, an animation, errors over time."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from steadypix.eval.charts.curve import OFF_SCALE_DB
from steadypix.eval.charts.drawing import GREY, blank, full_scale, heat, heat_bar, scaled, write
from steadypix.eval.charts.film import save_flicker
from steadypix.eval.charts.strips import Strip
from steadypix.eval.charts.style import chart, line_look, panels
from steadypix.eval.sequence.scores import error_db
from steadypix.files import write_whole

if TYPE_CHECKING:
    from steadypix.eval.sequence.look import Look, Shown

GAP_PX = 12
PANEL_PX = 256  # least width of a panel; smaller parts are enlarged to about this
TIME_PX = 288  # height of a row through time, about
CELL_PX = 176  # side of a frame in the strip


def draw_profile(path: Path, names: Sequence[str], captions: Sequence[str], shown: Sequence[Shown]) -> None:
    """Write one row of pixels through time, time downwards, as a panel a sequence, two beside each other.

    What stands still leaves vertical lines, what moves slanted ones; flicker breaks them up.
    """
    count, wide = shown[0].profile.shape[:2]
    across, down = max(1, round(PANEL_PX / wide)), max(1, TIME_PX // count)
    columns = min(2, len(shown))
    width, height = wide * across, count * down
    page = blank(
        columns * (width + GAP_PX) + GAP_PX, math.ceil(len(shown) / columns) * (height + 60) + GAP_PX
    )
    for number, (name, caption, one) in enumerate(zip(names, captions, shown, strict=True)):
        x = GAP_PX + number % columns * (width + GAP_PX)
        y = GAP_PX + number // columns * (height + 60)
        write(page, (x, y), name, size=16, width=width, bold=True)
        write(page, (x, y + 21), caption, size=13, width=width, fill=GREY)
        pixels = one.profile.repeat(down, axis=0).repeat(across, axis=1)
        page.paste(Image.fromarray(np.ascontiguousarray(pixels)), (x, y + 42))
    _save(path, page)


def draw_strip(
    path: Path, names: Sequence[str], captions: Sequence[str], shown: Sequence[Shown], look: Look
) -> None:
    """Write a few successive frames of every sequence, and beside them where it flickers over all frames."""
    count, tall, wide = shown[0].strip.shape[:3]
    factor = CELL_PX / max(tall, wide)
    height, width = max(1, round(tall * factor)), max(1, round(wide * factor))
    heads = [f"frame {number + 1}" for number in range(*look.strip)]
    columns = count + 1
    page = blank(columns * (width + 6) - 6 + 2 * GAP_PX, 34 + len(shown) * (height + 42) + 40)
    hottest = full_scale(np.concatenate([one.flicker.ravel() for one in shown]))
    for column, head in enumerate([*heads, "flicker"]):
        x = GAP_PX + column * (width + 6)
        write(page, (x, GAP_PX), head, size=14, width=width, fill=GREY)
    for number, (name, caption, one) in enumerate(zip(names, captions, shown, strict=True)):
        y = 34 + number * (height + 42)
        write(page, (GAP_PX, y), f"{name} · {caption}", size=15, width=page.width - 2 * GAP_PX)
        cells = [*one.strip, heat(one.flicker / hottest)]
        for column, pixels in enumerate(cells):
            page.paste(scaled(pixels, factor), (GAP_PX + column * (width + 6), y + 24))
    y = page.height - 32
    bar = min(200, page.width // 3)
    write(page, (GAP_PX, y), "flicker: 0", size=13, width=80, fill=GREY)
    page.paste(heat_bar(bar, 12), (GAP_PX + 76, y + 3))
    write(page, (GAP_PX + 84 + bar, y), f"{hottest} of 255", size=13, width=120, fill=GREY)
    _save(path, page)


def save_film(
    path: Path,
    names: Sequence[str],
    captions: Sequence[str],
    shown: Sequence[Shown],
    look: Look,
    *,
    fps: float,
) -> None:
    """Write the sequences side by side as an endless WebP animation."""
    strips = [Strip(*each) for each in zip(names, captions, (one.film for one in shown), strict=True)]
    labels = [str(number + 1) for number in range(*look.film)]
    save_flicker(path, strips, shifts=labels, heading="frame", fps=fps, columns=2)


def draw_errors(path: Path, results: dict[str, Any]) -> None:
    """Write the warp error of every pair of frames in dB, a line a sequence; the input's is dashed."""
    sequences = [results["input"], *results["outputs"]]
    names = [f"input: {results['input']['name']}", *(one["name"] for one in results["outputs"])]
    looks: list[dict[str, Any]] = [{"color": "#8A8A8A", "ls": "--", "lw": 1.5}]
    looks += [{**line_look(number), "marker": ""} for number in range(len(results["outputs"]))]
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    handles = [Line2D([], [], **look) for look in looks]
    title = "Warp error from each frame to the next"
    with chart(path, (6.4, 3.4), title, names, entry_width=3.2, handles=handles) as figure:
        (axes,) = panels(figure, 1, 1, ylabel="PSNR along the motion, dB")
        for one, look in zip(sequences, looks, strict=True):
            errors = one["pairs"]["warp_error"]
            # Beyond 80 dB no 8-bit file shows a change, and an exact 150 dB would press the others together.
            db = [math.nan if e is None else min(OFF_SCALE_DB, error_db(e)) for e in errors]
            axes.plot(range(1, len(db) + 1), db, **(look if len(db) > 1 else {**look, "marker": "o"}))
        axes.set_xlabel("frame")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _save(path: Path, page: Image.Image) -> None:
    write_whole(path, functools.partial(page.save, format="PNG"))
