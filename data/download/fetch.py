"""Fetches one file over HTTP, and goes on where an earlier try was cut.

Downloaders of libraries (pooch's, urllib's) start from nothing every time. Here, what has arrived stays in
`NAME.part`, and `NAME.part.json` says what it is a part of.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steadypix.errors import InputError, printable
from steadypix.files import write_text
from steadypix.progress import progress_interval_s

if TYPE_CHECKING:
    import requests

_CHUNK = 2**16
_TIMEOUT_S = (20.0, 60.0)  # to connect; between two pieces
_SLOWEST = 1000  # bytes a second, on average over
_PACE_S = 60.0
_MOST_NOTE_BYTES = 100_000


class UnreachableError(InputError):
    """An address that leads to no server, or to one that has not got the file."""


def fetch_first(urls: Sequence[str], path: Path, *, place: Path, max_bytes: int | None = None) -> str:
    """Download from the first address that has the file; see `fetch`. Return that address.

    Raises:
        InputError: as `fetch`; if no address has the file, about the first.
    """
    first: UnreachableError | None = None
    for url in urls:
        if first is not None and url.startswith("http:"):
            print(f"{printable(str(first))}; trying {url}, without encryption", file=sys.stderr)
        try:
            fetch(url, path, place=place, max_bytes=max_bytes)
        except UnreachableError as error:
            first = first or error
        else:
            return url
    assert first is not None
    raise first


def fetch(url: str, path: Path, *, place: Path, max_bytes: int | None = None) -> None:
    """Download `url` to `path`, whole or not at all; a cut try is gone on with.

    Args:
        url: http or https.
        path: where the file goes. `.part` and `.part.json` beside it belong to this function.
        place: where somebody without a network should put the file, for the messages.
        max_bytes: more are refused, and what arrived is removed.

    Raises:
        UnreachableError: if the server is not reached, or refuses.
        InputError: if it cuts the connection or sends next to nothing, then what arrived is kept; or if the
            file is too large.
        OSError: if the disk is full, or the folder cannot be written to.
    """
    part, note = (path.with_name(f"{path.name}{suffix}") for suffix in (".part", ".part.json"))
    known = _read_note(note, url) if part.is_file() else {}
    have = part.stat().st_size if known else 0
    if not have or have != known.get("total"):  # else stopped between the last byte and the renaming
        with _ask(url, have, known, f"put the file at {place} and run the same command again") as response:
            have = have if response.status_code == 206 else 0
            found = _describe(response, url, have)
            if max_bytes is not None and (found["total"] or 0) > max_bytes:
                _remove(part, note)
                raise _too_large(url, max_bytes)
            # The note is written first: bytes without one are never trusted.
            write_text(note, json.dumps(found))
            if found["total"] is not None:
                try:
                    require_free(path.parent, found["total"] - have, what=f"the rest of {path.name}")
                except InputError:
                    if not have:
                        _remove(part, note)
                    raise
            try:
                _receive(url, response, part, have=have, total=found["total"], max_bytes=max_bytes)
            except _TooLargeError:
                _remove(part, note)
                raise _too_large(url, max_bytes) from None
    part.replace(path)
    note.unlink(missing_ok=True)


class _TooLargeError(ValueError):
    """More has arrived than may."""


def _too_large(url: str, max_bytes: int | None) -> InputError:
    most = size_text(max_bytes or 0)
    return InputError(f"{url}: is larger than the {most} that it may have; nothing was kept")


def _remove(*files: Path) -> None:
    for file in files:
        file.unlink(missing_ok=True)


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
        if not note.is_file() or note.stat().st_size > _MOST_NOTE_BYTES:  # opening a pipe would wait
            return {}
        known = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(known, dict) or known.get("url") != url:
        return {}
    total, validator = known.get("total"), known.get("validator")
    sound = (total is None or type(total) is int) and (validator is None or isinstance(validator, str))
    return known if sound else {}


def _describe(response: requests.Response, url: str, have: int) -> dict[str, Any]:
    """Return what tells this version of the file from others, and its whole size where the server says it."""
    total = _count(response.headers.get("Content-Range", "").rpartition("/")[2])
    length = _count(response.headers.get("Content-Length", ""))
    if total is None and length is not None:
        total = have + length
    tag = response.headers.get("ETag")
    return {
        "url": url,
        "total": total,
        # RFC 9110 forbids a weak tag in `If-Range`.
        "validator": tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified"),
    }


def _count(text: str) -> int | None:
    """Return a number of bytes in a header; None for anything else, such as digits that are none of ASCII."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _ask(url: str, have: int, known: dict[str, Any], by_hand: str) -> requests.Response:
    """Ask for what is missing, or for everything if the first `have` bytes are of another file by now."""
    import requests
    import urllib3

    headers = {"Accept-Encoding": "identity"}  # the archive as it is: its bytes are counted and hashed
    if have:
        headers["Range"] = f"bytes={have}-"
        if known.get("validator"):
            headers["If-Range"] = known["validator"]
    try:
        response = requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT_S)
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
        # Of malformed addresses not all are caught by requests: `http://.example`, `http://a:b:c`, ...
        raise UnreachableError(
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
        raise UnreachableError(
            f"{url}: the server answers {response.status_code} {response.reason}, not the file; {by_hand}"
        )
    return response


def _receive(
    url: str,
    response: requests.Response,
    part: Path,
    *,
    have: int,
    total: int | None,
    max_bytes: int | None,
) -> None:
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
                have += len(piece)
                if max_bytes is not None and have > max_bytes:
                    raise _TooLargeError
                file.write(piece)
                bar.update(len(piece))
    except OSError as error:  # of the disk: those of the network are caught where they arise
        error.filename = error.filename or str(part)
        raise


def _pieces(url: str, response: requests.Response, have: int, total: int | None) -> Iterator[bytes]:
    """Yield the body as it was sent.

    Raises:
        InputError: if the connection is cut, or too slow.
    """
    import urllib3

    fault = None
    # A plain read waits until a piece is full, and a server that sends a byte a minute never times out.
    read = getattr(response.raw, "read1", response.raw.read)
    since, before = time.monotonic(), have
    try:
        while piece := read(_CHUNK, decode_content=False):
            have += len(piece)
            yield piece
            took_s = time.monotonic() - since
            if took_s >= _PACE_S:
                _check_pace(url, have - before, took_s)
                since, before = time.monotonic(), have
    except (urllib3.exceptions.HTTPError, OSError) as error:
        fault = _reason(error)
    if fault or (total is not None and have != total):
        raise InputError(
            f"{url}: the connection was cut after {have} of {total or 'unknown'} bytes "
            f"({fault or 'no error'}); the same command goes on from there"
        )


def _check_pace(url: str, count: int, took_s: float) -> None:
    """Check that so many bytes in so many seconds are a download that will end.

    Raises:
        InputError: if they are not; what arrived is kept.
    """
    if count < _SLOWEST * took_s:
        raise InputError(
            f"{url}: sends {count / took_s:.0f} bytes a second, over {took_s:.0f} s; expected {_SLOWEST} at "
            "least; the same command goes on from there, with --url from another address"
        )


def _reason(error: BaseException) -> str:
    """Return the first cause of a network error, which libraries wrap several times."""
    while error.__context__:
        error = error.__context__
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
