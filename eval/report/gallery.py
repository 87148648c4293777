"""A page of translated pictures: input, output and target side by side, in files beside it.

It works from a folder (file://) and fetches nothing from elsewhere: its Content-Security-Policy allows
pictures of its own place, and the one script whose hash it names. Pictures are loaded when they are near.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from steadypix.errors import printable
from steadypix.eval.report.page import TEMPLATES, templates
from steadypix.files import write_text

GALLERY = "index.html"
MARK = '<meta name="generator" content="steadypix generate">'  # by which a page is known to be ours


@dataclass(frozen=True)
class Shown:
    """One picture of the page.

    Attributes:
        name: of the input.
        files: what is shown, as (title, path relative to the page): input, output, and the target if any.
        width: of them in px.
        height: of them in px.
        l1: mean absolute difference of output and target on [0, 1]; None without a target.
    """

    name: str
    files: Sequence[tuple[str, str]]
    width: int
    height: int
    l1: float | None = None


def write_gallery(
    folder: Path, title: str, facts: Sequence[tuple[str, str]], pictures: Sequence[Shown]
) -> Path:
    """Write `index.html` into the folder that holds the pictures, and return its path.

    Args:
        folder: where the pictures lie.
        title: the generator's name.
        facts: what is to be known of all of them, as (what, value).
        pictures: in the order of the page.
    """
    script = (TEMPLATES / "gallery.js").read_text(encoding="utf-8")
    known = [picture.l1 for picture in pictures if picture.l1 is not None]
    page = templates().get_template("gallery.html")
    text = page.render(
        title=printable(title),
        facts=[(what, printable(value)) for what, value in facts],
        pictures=[
            {
                "name": printable(picture.name),
                "files": [(what, quote(file, errors="surrogateescape")) for what, file in picture.files],
                "width": picture.width,
                "height": picture.height,
                "l1": picture.l1,
            }
            for picture in pictures
        ],
        mean_l1=sum(known) / len(known) if known else None,
        # Our own file, which holds no one's names: the only text that the template marks as safe.
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii"),
    )
    write_text(folder / GALLERY, text)
    return folder / GALLERY
