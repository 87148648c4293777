"""How every chart looks: palette, type, titles, and how a figure becomes a file."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.files import write_whole

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

Results = Mapping[str, Any]

# Okabe and Ito's palette, which colour-blind readers can tell apart; its yellow is lost on white.
COLORS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8A8A8A")
MARKERS = "osD^vph>"
DPI = 200  # twice the usual, for dense screens
INK, GREY = "#18181b", "#696970"
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.edgecolor": "#b4b4bb",
    "axes.labelcolor": INK,
    "axes.titlesize": 10.5,
    "figure.titlesize": 11.5,
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.w_pad": 0.12,
    "figure.constrained_layout.hspace": 0.06,
    "text.parse_math": False,  # a "$" in a model's name is a "$"
    "text.color": INK,
    "xtick.color": GREY,
    "ytick.color": GREY,
}


def data_note(results: Results) -> str:
    """Return a title's second line: which images were measured."""
    data = results.get("data") or {}
    count = f"{data['n_images']} images" if "n_images" in data else ""
    # Of a folder its name: where it lies is nobody's concern but this machine's.
    parts = (shorten(Path(str(data.get("source") or "")).name, 28), data.get("split"), count)
    return "\n" + " · ".join(part for part in parts if part)


def shorten(name: str, most: int) -> str:
    """Return `name` with its middle left out if it is longer than `most` characters."""
    return name if len(name) <= most else f"{name[: most // 2]}…{name[-(most - 1) // 2 :]}"


def line_look(index: int) -> dict[str, Any]:
    """Return model `index`'s colour and marker; from the ninth on, the line is dashed."""
    style = "-" if index < len(COLORS) else "--"
    color, marker = COLORS[index % len(COLORS)], MARKERS[index % len(MARKERS)]
    return {
        "color": color,
        "marker": marker,
        "ms": 5,
        "mec": "white",
        "mew": 0.6,
        "lw": 1.8,
        "ls": style,
    }


def line_handle(index: int) -> Line2D:
    """Return model `index`'s entry for a legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], **line_look(index))


def chart_style() -> AbstractContextManager[None]:
    """Return a context in which figures are drawn in this project's style."""
    import matplotlib

    return matplotlib.rc_context(STYLE)


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, sizes in inches."""
    # Not pyplot, which keeps every figure alive and may open a window.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def save_chart(path: str | os.PathLike[str], figure: Figure) -> None:
    """Write a figure as PNG, whole or not at all; equal figures give equal bytes."""
    buffer = io.BytesIO()
    # Without the version of matplotlib in it, the same picture is the same bytes.
    # More effort takes half of the time a chart takes, and saves a tenth of its bytes.
    figure.savefig(
        buffer, format="png", dpi=DPI, metadata={"Software": None}, pil_kwargs={"compress_level": 3}
    )
    write_whole(Path(path), lambda temporary: temporary.write_bytes(buffer.getvalue()))


def save_smaller(source: Path, path: Path, colours: int = 256) -> None:
    """Write a chart again with a palette, which takes a third of the bytes and looks the same.

    Args:
        source: an image file.
        path: the PNG to write, which may be the same.
        colours: 1 to 256; lines and text look the same with fewer, photos and colour scales show bands.
    """
    from PIL import Image

    with Image.open(source) as image:
        # The rounds of k-means halve what the colours of a heat map are off by.
        image.convert("RGB").quantize(colours, kmeans=2, dither=Image.Dither.NONE).save(path, optimize=True)


def plain_axes(axes: Axes) -> None:
    """Take away everything but two spines, the ticks' names and a pale grid."""
    axes.grid(color="#e4e4e7", lw=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, which="both")
    axes.spines[["top", "right"]].set_visible(False)
