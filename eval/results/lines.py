"""Aligned lines of text: the first column to the left, figures to the right."""

from __future__ import annotations

from collections.abc import Sequence


def table_lines(columns: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """Return a line of headings and one for every row.

    >>> table_lines([("model", ["a", "bcd"]), ("dB", ["1.5", "10"])])
    ['model   dB', 'a      1.5', 'bcd     10']
    """
    widths = [max(map(len, [title, *cells])) for title, cells in columns]
    rows = [[title for title, _ in columns], *zip(*(cells for _, cells in columns), strict=True)]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0]), *map(str.rjust, others, widths[1:])]
        lines.append("  ".join(cells).rstrip())
    return lines


def with_half(value: float, interval: Sequence[float] | None, digits: int = 2) -> str:
    """Return a figure and half its interval; one image alone has no interval.

    >>> with_half(24.0, [23.5, 24.6]), with_half(24.0, None)
    ('24.00 ± 0.55', '24.00')
    """
    half = f" ± {(interval[1] - interval[0]) / 2:.{digits}f}" if interval else ""
    return f"{value:.{digits}f}{half}"
