"""Fetches one file over HTTP, and goes on where an earlier try was cut.

Downloaders of libraries (pooch's, urllib's) start from nothing every time. Here, what has arrived stays in
`NAME.part`, and `NAME.part.json` says what it is a part of.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steadypix.errors import InputError
from steadypix.files import write_text
from steadypix.progress import progress_interval_s

if TYPE_CHECKING:
    import requests

_CHUNK = 2**16
_TIMEOUT_S = (20.0, 60.0)  # to connect; between two pieces


def fetch(url: str, path: Path, *, place: Path) -> None:
    """Download `url` to `path`, whole or not at all; a cut try is gone on with.

    Args:
        url: http or https.
        path: where the file goes. `.part` and `.part.json` beside it belong to this function.
        place: where somebody without a network should put the file, for the messages.

    Raises:
        InputError: if the server is not reached, refuses, or cuts the connection. What arrived is kept.
        OSError: if the disk is full, or the folder cannot be written to.
    """
    part, note = (path.with_name(f"{path.name}{suffix}") for suffix in (".part", ".part.json"))
    known = _read_note(note, url) if part.is_file() else {}
    have = part.stat().st_size if known else 0
    if not have or have != known.get("total"):  # else stopped between the last byte and the renaming
        with _ask(url, have, known, f"put the file at {place} and run the same command again") as response:
            have = have if response.status_code == 206 else 0
            found = _describe(response, url, have)
            # The note is written first: bytes without one are never trusted.
            write_text(note, json.dumps(found))
            if found["total"] is not None:
                require_free(path.parent, found["total"] - have, what=f"the rest of {path.name}")
            _receive(url, response, part, have=have, total=found["total"])
    part.replace(path)
    note.unlink(missing_ok=True)


def require_free(folder: Path, needed: int, *, what: str) -> None:
    """Check that `needed` bytes are free on the disk of `folder`.

    Raises:
        InputError: if they are not; it names the folder and `what` needs the room.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(f"{folder}: {size_text(free)} are free, but {what} takes {size_text(needed)}")


def size_text(count: int) -> str:
    """Return a number of bytes for people, in decimal units."""
    from tqdm import tqdm

    return tqdm.format_sizeof(count, "B")


def _read_note(note: Path, url: str) -> dict[str, Any]:
    """Return what the part is known to be a part of; nothing if that is unknown, or another address."""
    try:
        known = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) and known.get("url") == url else {}


def _describe(response: requests.Response, url: str, have: int) -> dict[str, Any]:
    """Return what tells this version of the file from others, and its whole size where the server says it."""
    total = response.headers.get("Content-Range", "").rpartition("/")[2]
    length = response.headers.get("Content-Length", "")
    tag = response.headers.get("ETag")
    return {
        "url": url,
        "total": int(total) if total.isdigit() else have + int(length) if length.isdigit() else None,
        # RFC 9110 forbids a weak tag in `If-Range`.
        "validator": tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified"),
    }


def _ask(url: str, have: int, known: dict[str, Any], by_hand: str) -> requests.Response:
    """Ask for what is missing, or for everything if the first `have` bytes are of another file by now."""
    import requests

    headers = {"Accept-Encoding": "identity"}  # the archive as it is: its bytes are counted and hashed
    if have:
        headers["Range"] = f"bytes={have}-"
        if known.get("validator"):
            headers["If-Range"] = known["validator"]
    try:
        response = requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT_S)
    except requests.exceptions.RequestException as error:
        raise InputError(
            f"{url}: cannot be reached ({_reason(error)}); without a network, {by_hand}"
        ) from None
    if response.status_code == 206:
        starts = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        other = not starts or _describe(response, url, have) != known  # not every server checks `If-Range`
    else:
        other = response.status_code == 416
    if have and other:
        response.close()
        return _ask(url, 0, {}, by_hand)
    if not response.ok:
        response.close()
        raise InputError(
            f"{url}: the server answers {response.status_code} {response.reason}, not the file; "
            f"give another address with --url, or {by_hand}"
        )
    return response


def _receive(url: str, response: requests.Response, part: Path, *, have: int, total: int | None) -> None:
    """Append the answer's body to the first `have` bytes of the part."""
    from tqdm import tqdm

    bar = tqdm(
        desc=part.stem,
        total=total,
        initial=have,
        unit="B",
        unit_scale=True,
        mininterval=progress_interval_s(),
    )
    try:
        with bar, part.open("ab" if have else "wb") as file:
            for piece in _pieces(url, response, have, total):
                file.write(piece)
                bar.update(len(piece))
    except OSError as error:  # of the disk: those of the network are caught where they arise
        error.filename = error.filename or str(part)
        raise


def _pieces(url: str, response: requests.Response, have: int, total: int | None) -> Iterator[bytes]:
    """Yield the body as it was sent.

    Raises:
        InputError: if the connection is cut.
    """
    import urllib3

    fault = None
    try:
        for piece in response.raw.stream(_CHUNK, decode_content=False):
            have += len(piece)
            yield piece
    except (urllib3.exceptions.HTTPError, OSError) as error:
        fault = _reason(error)
    if fault or (total is not None and have != total):
        raise InputError(
            f"{url}: the connection was cut after {have} of {total or 'unknown'} bytes "
            f"({fault or 'no error'}); the same command goes on from there"
        )


def _reason(error: BaseException) -> str:
    """Return the first cause of a network error, which libraries wrap several times."""
    while error.__context__:
        error = error.__context__
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
