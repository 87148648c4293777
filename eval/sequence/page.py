"""What `eval_sequence` leaves behind: sequence.json, pictures, a page; and the table it prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from steadypix.errors import printable
from steadypix.eval.sequence.measure import Measured

COLUMNS = (
    "sequence",
    "warp [dB]",
    "TV",
    "warp_error",
    "- input's",
    "/ input's",
    "temporal_flickering",
)


def write_all(results: dict[str, Any], out: Path, measured: Sequence[Measured], *, fps: float) -> None:
    """Write sequence.json, the pictures, and sequence.html with all of them in it."""
    from steadypix.eval.report.page import Section, write_with_page
    from steadypix.eval.sequence.look import choose_look, read_look
    from steadypix.eval.sequence.pictures import draw_errors, draw_profile, draw_strip, save_film

    look = choose_look(measured, results["compared"])
    shown = read_look(measured, look)
    sequences = [results["input"], *results["outputs"]]
    names = [f"input: {sequences[0]['name']}", *(one["name"] for one in sequences[1:])]
    captions = [_caption(one) for one in sequences]
    out.mkdir(parents=True, exist_ok=True)
    save_film(out / "sequence.webp", names, captions, shown, look, fps=fps)
    draw_strip(out / "strip.png", names, captions, shown, look)
    draw_profile(out / "profile.png", names, captions, shown)
    draw_errors(out / "errors.png", results)
    left, top, right, bottom = look.box
    where = f"x {left} to {right - 1}, y {top} to {bottom - 1} of the input"
    section = Section(
        f"{results['n_frames']} frames of {sequences[0]['width_px']} x {sequences[0]['height_px']} px",
        meaning(results),
        COLUMNS,
        table_rows(results),
        [
            (out / "sequence.webp", f"Frames {look.film[0] + 1} to {look.film[1]}, {where}."),
            (
                out / "strip.png",
                "Successive frames where outputs flicker most, and the root mean squared warp error of every "
                "pixel over all frames.",
            ),
            (
                out / "profile.png",
                f"One row of pixels through time: y {look.row} of the input, frames {look.start + 1} to "
                f"{look.stop} downwards. What stands still leaves vertical lines, what moves slanted ones; "
                "flicker breaks them up.",
            ),
            (
                out / "errors.png",
                "Warp error from each frame to the next, as PSNR: higher is steadier. The input's own is "
                "what optical flow and interpolation leave.",
            ),
        ],
    )
    write_with_page(results, out, "sequence", "Flicker of a sequence", section)


def meaning(results: dict[str, Any]) -> list[str]:
    """Return what the figures mean, as paragraphs."""
    share = 100 * sum(results["compared"]) / len(results["compared"])
    margin = results["margin_px"]
    border = f", less {margin} px a side" if margin else ""
    return [
        "temporal_flickering (VBench): (255 - mean absolute difference of successive frames) / 255. It is "
        "for static scenes seen by a camera that stands still: motion lowers it too.",
        "warp_error (Lai et al. 2018): mean squared difference on [0, 1] between a frame and the next one, "
        "moved back along the input's optical flow, where both show the same place: "
        f"{share:.0f}\N{NO-BREAK SPACE}% of the pixels here{border}. The input's own error is what flow and "
        "interpolation leave: compare with it. In dB, higher is steadier.",
        "TV is total variation: how much detail a sequence has. A soft sequence is steady for free.",
    ]


def to_table(results: dict[str, Any]) -> str:
    """Return the table that people read."""
    from steadypix.eval.results.lines import table_lines

    rows = [[printable(row[0]), *row[1:]] for row in table_rows(results)]
    return "\n".join(table_lines([*zip(COLUMNS, map(list, zip(*rows, strict=True)), strict=True)]))


def table_rows(results: dict[str, Any]) -> list[list[str]]:
    """Return the cells: the input first, then the outputs."""
    source = results["input"]
    rows = [[f"input: {source['name']}", *_figures(source, ["", ""])]]
    for one in results["outputs"]:
        against = [_number(one["excess"], "+.6f"), _number(one["ratio"], ".2f")]
        rows.append([one["name"], *_figures(one, against)])
    return rows


def _figures(one: dict[str, Any], against: list[str]) -> list[str]:
    """Return all cells but the name; `against` are difference and ratio to the input."""
    return [
        _number(one["warp_db"], ".2f"),
        f"{one['tv']:.4f}",
        _number(one["warp_error"], ".6f"),
        *against,
        f"{one['temporal_flickering']:.4f}",
    ]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _caption(one: dict[str, Any]) -> str:
    db = "nothing compared" if one["warp_db"] is None else f"{one['warp_db']:.1f} dB"
    return f"{db} · TV {one['tv']:.3f}"
