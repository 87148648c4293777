"""Notebooks as pages, and as code to run: their cells in order, without Jupyter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def cells(path: Path) -> list[tuple[str, str]]:
    """Return the cells of a notebook (nbformat 4), each as (`markdown` or `code`, its text)."""
    return _cells(path.read_text(encoding="utf-8"))


def _cells(text: str) -> list[tuple[str, str]]:
    return [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(text)["cells"]]


def to_markdown(text: str) -> str:
    """Return a notebook's text as a page: code cells become blocks of Python."""
    return "\n\n".join(
        source if kind == "markdown" else f"```python\n{source}\n```" for kind, source in _cells(text)
    )


def setup(app: Any) -> None:
    """Let Sphinx read .ipynb files as pages."""
    from myst_parser.sphinx_ import Parser

    class NotebookParser(Parser):
        """Markdown cells as they are, code as it stands; outputs are left out."""

        supported = ("ipynb",)

        def parse(self, inputstring: str, document: Any) -> None:
            super().parse(to_markdown(inputstring), document)

    app.add_source_suffix(".ipynb", "ipynb")
    app.add_source_parser(NotebookParser)
