"""How every chart looks: palette, type, titles, and how a figure becomes a file."""

from __future__ import annotations

import contextlib
import io
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steadypix.files import write_whole

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Colormap
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
    return {"color": color, "marker": marker, "ms": 5, "mec": "white", "mew": 0.6, "lw": 1.8, "ls": style}


def line_handle(index: int) -> Line2D:
    """Return model `index`'s entry for a legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], **line_look(index))


@contextlib.contextmanager
def chart(
    path: str | os.PathLike[str],
    size: tuple[float, float],
    title: str,
    names: Sequence[str] = (),
    *,
    note: str = "",
    entry_width: float = 2.6,
    handles: Sequence[Artist] | None = None,
) -> Iterator[Figure]:
    """Give a figure in this project's style to draw into; then add title and legend, and write it.

    The PNG appears whole or not at all, and equal drawings give equal bytes. `size` is width and height in
    inches, to which the rows of the legend are added: of `names`, each `entry_width` inches wide.
    """
    import matplotlib
    from matplotlib.figure import Figure  # not pyplot, which keeps every figure alive and may open a window

    width, height = size
    rows = math.ceil(len(names) / max(1, int(width / entry_width)))
    with matplotlib.rc_context(STYLE):
        figure = Figure((width, height + 0.23 * rows), layout="constrained", facecolor="white")
        yield figure
        figure.suptitle(f"{title}\n{note}" if note else title)
        if names:
            legend(figure, names, math.ceil(len(names) / rows), handles)
        save_chart(path, figure)


def legend(
    figure: Figure, names: Sequence[str], columns: int, handles: Sequence[Artist] | None = None
) -> None:
    """Name the models below all panels; what stands before a name is by default the models' line."""
    handles = handles or [line_handle(index) for index in range(len(names))]
    figure.legend(handles, names, loc="outside lower center", ncols=columns, frameon=False)


def panels(
    figure: Figure, count: int, columns: int, *, ylabel: str, sharex: bool = False, sharey: bool = False
) -> list[Axes]:
    """Return the plain axes of `count` panels, `columns` in a row; the leftmost of each row is labelled."""
    rows = math.ceil(count / columns)
    grid = figure.subplots(rows, columns, sharex=sharex, sharey=sharey, squeeze=False).ravel()
    for axes in grid[::columns]:
        axes.set_ylabel(ylabel)
    for axes in grid[:count]:
        plain_axes(axes)
    for axes in grid[count:]:
        axes.set_axis_off()
    return list(grid[:count])


def colour_scale(low: float, high: float, colours: str | Colormap) -> ScalarMappable:
    """Return what gives values from `low` to `high` their colours."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    return ScalarMappable(Normalize(low, high), colours)


def colour_bar(figure: Figure, mappable: ScalarMappable, label: str, **where: Any) -> None:
    """Draw a scale's colours beside its panels."""
    bar = figure.colorbar(mappable, **where)
    bar.set_label(label)
    bar.outline.set_visible(False)


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

    `path` may be `source`, and appears whole or not at all. Of 1 to 256 colours, lines and text look the same
    with fewer; photos and colour scales show bands.
    """
    from PIL import Image

    with Image.open(source, formats=["PNG"]) as image:
        # The rounds of k-means halve what the colours of a heat map are off by.
        small = image.convert("RGB").quantize(colours, kmeans=2, dither=Image.Dither.NONE)
    write_whole(path, lambda temporary: small.save(temporary, optimize=True))


def plain_axes(axes: Axes) -> None:
    """Take away everything but two spines, the ticks' names and a pale grid."""
    axes.grid(color="#e4e4e7", lw=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, which="both")
    axes.spines[["top", "right"]].set_visible(False)
