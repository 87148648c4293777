"""A self-contained HTML page of sections: text, a table, pictures. For studies that need no script."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from data.files import write_text

TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Args:
        title: its heading.
        text: paragraphs.
        columns: headings of a table; none, no table.
        rows: cells as text, one for each column; the first names the row.
        pictures: (PNG file, what it shows).
    """

    title: str
    text: Sequence[str] = ()
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    pictures: Sequence[tuple[Path, str]] = field(default_factory=list)


def templates() -> Environment:
    """Return what renders our templates: everything escaped, a name that is not given an error."""
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def write_page(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Write the page with its pictures in it, whole or not at all; equal content gives equal bytes."""
    environment = templates()
    environment.filters["data_uri"] = _data_uri
    page = environment.get_template("page.html").render(title=title, sections=sections)
    write_text(path, page)


def to_markdown(title: str, sections: Sequence[Section]) -> str:
    """Return the same as Markdown; pictures are named as they lie, relative to the page's folder."""
    parts = [f"# {title}"]
    for section in sections:
        parts += [f"## {section.title}", *section.text]
        if section.columns:
            lines = ["| " + " | ".join(section.columns) + " |", "|" + "---|" * len(section.columns)]
            lines += ["| " + " | ".join(row) + " |" for row in section.rows]
            parts.append("\n".join(lines))
        parts += [f"![{text}]({file.as_posix()})" for file, text in section.pictures]
    return "\n\n".join(parts) + "\n"


def beside(sections: Sequence[Section], folder: Path) -> list[Section]:
    """Return the sections with their pictures named as they lie in `folder`, for `to_markdown`."""
    return [
        dataclasses.replace(section, pictures=[(folder / file.name, text) for file, text in section.pictures])
        for section in sections
    ]


def _data_uri(file: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode("ascii")
