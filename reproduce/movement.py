"""The table of other movements on a study's page: fractions of a pixel, pans, and the grid's own pattern."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from reproduce.measuring import mean_of


def movement_cells(row: Mapping[str, Any]) -> dict[str, str]:
    """Return what was measured of a generator beside the protocol that leads, by the name of its column.

    Args:
        row: of a generator in results.json.
    """
    cells = {}
    subpixel = row["stability"].get("subpixel")
    if subpixel:
        margin, summary = list(subpixel.items())[-1]
        for shift in summary["per_shift"]:
            if shift["dx"] % 1:
                cells[f"shifted by {shift['dx']:g} px, {margin} px of margin [dB]"] = (
                    f"{shift['mean_db']:.2f}"
                )
    for pan in row.get("pan") or ():
        column = f"panning at {pan['speed_px']:g} px a frame [dB]"
        cells[column] = f"{mean_of(pan['difference_db']):.2f}"
    quality = row["quality"]
    if quality.get("ssim"):
        cells["SSIM"] = f"{mean_of(quality['ssim']):.3f}"
    if quality.get("checkerboard_db"):
        cells["checkerboard [dB]"] = f"{mean_of(quality['checkerboard_db']):.1f}"
        cells["the targets' [dB]"] = f"{mean_of(quality['target_checkerboard_db']):.1f}"
    return cells


def movement_rows(
    finals: Iterable[tuple[Sequence[str], Mapping[str, Any]]],
) -> tuple[list[str], list[list[str]]]:
    """Return the columns and rows of the table; no columns where nothing else was measured.

    Args:
        finals: how a reader knows a generator, and its row in results.json.
    """
    measured = [(list(names), movement_cells(row)) for names, row in finals]
    columns = list(dict.fromkeys(column for _, cells in measured for column in cells))
    return columns, [[*names, *(cells.get(column, "") for column in columns)] for names, cells in measured]
