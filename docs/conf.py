"""The site: `make docs` builds it from docs/ and a few pages beside it; warnings are errors.

The source folder is the whole checkout, so that links such as `../CHANGELOG.md` mean on the site what they
mean in the repository. Nothing is fetched, neither by the build nor by the pages.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from docs.site import commands, notebooks  # noqa: E402

project = "steadypix"
author = "The steadypix authors"
copyright = f"{author}. Apache-2.0"
root_doc = "docs/index"

include_patterns = [
    "docs/**",
    "benchmarks/README.md",
    "checkpoints/MODEL_CARD.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
]
# Folders that are not even looked into.
exclude_patterns = [".*", "build", "results", "runs", "tests", "docs/site", "checkpoints/[!M]*"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 4
myst_links_external_new_tab = False
highlight_language = "none"  # blocks without a language are commands and figures

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
python_display_short_literal_types = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_google_docstring = True
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = "steadypix"
html_static_path = ["site/static"]
html_css_files = ["steadypix.css"]
html_copy_source = False
html_show_sphinx = False
templates_path = ["site/templates"]
html_additional_pages = {"index": "redirect.html"}  # the start page is docs/index.html
pygments_style = "tango"


def escape_for_rst(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Make ``x`` of `x`, and keep `|x|` and `*args` from being read as markup, outside of code."""
    for number, line in enumerate(lines):
        if line.lstrip().startswith(">>>"):
            continue
        parts = re.split(r"(?<!`)`([^`]+)`(?!`)", line)
        parts[::2] = [re.sub(r"(?<!\\)([|*])", r"\\\1", part) for part in parts[::2]]
        parts[1::2] = [f"``{part}``" for part in parts[1::2]]
        lines[number] = "".join(parts)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", escape_for_rst, priority=100)  # before napoleon writes its own
    commands.setup(app)
    notebooks.setup(app)
