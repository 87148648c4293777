"""A self-contained HTML page of sections: text, a table, pictures. For studies that need no script."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from steadypix.eval.results.write import to_json
from steadypix.files import write_text

TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True)
class Section:
    """A part of a page."""

    title: str
    text: Sequence[str] = ()  # paragraphs
    columns: Sequence[str] = ()  # headings of a table; none, no table
    rows: Sequence[Sequence[str]] = ()  # cells, one for each column; the first names the row
    pictures: Sequence[tuple[Path, str]] = ()  # PNG or WebP file, what it shows


def templates(folder: Path = TEMPLATES, *, markup: bool = True) -> Environment:
    """Return what renders templates; a name that is not given is an error, `markup` escapes all values."""
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=markup,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def write_page(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Write the page with its pictures in it, whole or not at all; equal content gives equal bytes."""
    environment = templates()
    environment.filters["data_uri"] = _data_uri
    write_text(path, environment.get_template("page.html").render(title=title, sections=sections))


def write_with_page(results: dict[str, Any], out: Path, name: str, title: str, section: Section) -> None:
    """Write what a command found: `name.json`, and `name.html`, a page of one section."""
    write_text(out / f"{name}.json", to_json(results))
    write_page(out / f"{name}.html", title, [section])


def to_markdown(title: str, sections: Sequence[Section], folder: Path = Path()) -> str:
    """Return the same as Markdown, which names the pictures as they lie in `folder`, seen from the page."""
    parts = [f"# {title}"]
    for section in sections:
        parts += [f"## {section.title}", *section.text]
        if section.columns:
            parts.append(markdown_table(section.columns, section.rows))
        parts += [f"![{text}]({(folder / file.name).as_posix()})" for file, text in section.pictures]
    return "\n\n".join(parts) + "\n"


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table as Markdown."""
    head, *others = ["| " + " | ".join(line) + " |" for line in [columns, *rows]]
    return "\n".join([head, "|" + "---|" * len(columns), *others])


def plus_minus(mean: float, half: float | None, digits: int = 2) -> str:
    """Return a figure and how far off it may be, `1.23 ± 0.04`; the figure alone where that is not known."""
    return f"{mean:.{digits}f}" + ("" if half is None else f" ± {half:.{digits}f}")


def percent(figure: Mapping[str, Any]) -> str:
    """Return a proportion in per cent, with its standard error, its deviation, or half its interval."""
    half = next(figure[key] for key in ("stderr", "std", "half_ci95") if key in figure)
    return plus_minus(100 * figure["mean"], None if half is None else 100 * half)


def _data_uri(file: Path) -> str:
    return f"data:image/{file.suffix[1:]};base64," + base64.b64encode(file.read_bytes()).decode("ascii")
