"""Fetches one file over HTTP, and goes on where an earlier try was cut.

pooch brings the file into place; its own downloader starts from nothing every time, so this module gives it
another one. What has arrived stays in `NAME.part`, and `NAME.part.json` says what it is a part of.
"""

from __future__ import annotations

import json
import logging
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.command import progress_interval_s
from data.errors import InputError
from data.files import write_whole
from data.space import require_free

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
    import pooch

    pooch.get_logger().setLevel(logging.WARNING)  # its progress in words would stand among ours
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    downloader = ResumingDownloader(part, place=place)
    # The hash is compared by the caller, who keeps a file that fails: the expectation may be what is wrong.
    pooch.retrieve(url, known_hash=None, fname=path.name, path=path.parent, downloader=downloader)


def check_url(url: str) -> str:
    """Return `url` if it can be fetched.

    Raises:
        InputError: if it is no http or https address.
    """
    parsed = urllib.parse.urlsplit(url)
    if parsed.scheme not in ("http", "https") or not parsed.netloc:
        raise InputError(f"--url {url}: expected an address that starts with http:// or https://")
    return url


class ResumingDownloader:
    """A downloader for pooch that continues a partial file by HTTP ranges where the server offers them.

    Args:
        part: the partial file; it survives every failure and becomes the download in the end.
        place: where somebody without a network should put the file, for the messages.
    """

    def __init__(self, part: Path, *, place: Path) -> None:
        self.part = part
        self.place = place
        self._by_hand = f"put this archive at {place} and run the same command again"
        self._note = part.with_name(part.name + ".json")

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        """Download `url` to `output_file`. Called by pooch, which then renames that file."""
        if not self._transfer(url):
            # The part was no part of what the server has now; without it there is no such answer.
            self._forget()
            if not self._transfer(url):
                raise InputError(f"{url}: the server refuses a range that was not asked for (416)")
        self.part.replace(output_file)
        self._forget()

    def _transfer(self, url: str) -> bool:
        """Fetch what is missing; return whether the part is whole now, or else of no use."""
        import requests

        known = self._known(url)
        have = self.part.stat().st_size if known else 0
        if have and have == known.get("total"):
            return True  # stopped between the last byte and the renaming
        headers = {"Accept-Encoding": "identity"}  # the archive as it is: its bytes are counted and hashed
        if have:
            headers["Range"] = f"bytes={have}-"
            if known.get("validator"):
                headers["If-Range"] = known["validator"]
        with self._ask(url, headers) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable and have:
                return False
            if not response.ok:
                raise InputError(
                    f"{url}: the server answers {response.status_code} {response.reason}, not the archive; "
                    f"give another address with --url, or {self._by_hand}"
                )
            if response.status_code != requests.codes.partial_content:
                have = 0
            elif not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                return False
            total = _total(response, have)
            if have and total != known.get("total"):
                return False  # another file by now, under a server that does not check `If-Range`
            self._receive(url, response, have=have, total=total)
        return True

    def _ask(self, url: str, headers: dict[str, str]) -> requests.Response:
        import requests

        try:
            return requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT_S)
        except requests.exceptions.RequestException as error:
            raise InputError(
                f"{url}: cannot be reached ({_reason(error)}); without a network, {self._by_hand}"
            ) from None

    def _receive(self, url: str, response: requests.Response, *, have: int, total: int | None) -> None:
        """Append the answer's body to the first `have` bytes of the part."""
        from tqdm import tqdm

        if total is not None:
            require_free(self.part.parent, total - have, what=f"the rest of {self.place.name}")
        # The note is written first: bytes without one are never trusted.
        note = {"url": url, "total": total, "validator": _validator(response)}
        write_whole(self._note, lambda path: path.write_text(json.dumps(note), encoding="utf-8"))
        bar = tqdm(
            desc=self.place.name,
            total=total,
            initial=have,
            unit="B",
            unit_scale=True,
            mininterval=progress_interval_s(),
        )
        cut = None
        try:
            with bar, self.part.open("r+b" if have else "wb") as file:
                file.seek(have)
                for piece in _pieces(response):
                    if isinstance(piece, Exception):
                        cut = _reason(piece)
                        break
                    file.write(piece)
                    have += len(piece)
                    bar.update(len(piece))
        except OSError as error:  # of the disk, for those of the network come as pieces
            error.filename = error.filename or str(self.part)
            raise
        if cut is not None or (total is not None and have != total):
            raise InputError(
                f"{url}: the connection was cut after {have} of {total or 'unknown'} bytes "
                f"({cut or 'no error'}); the same command goes on from there"
            )

    def _known(self, url: str) -> dict[str, Any]:
        """Return what the part is known to be a part of; nothing if there is none, or of another address."""
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        usable = isinstance(note, dict) and note.get("url") == url and self.part.is_file()
        return note if usable else {}

    def _forget(self) -> None:
        self.part.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)


def _pieces(response: requests.Response) -> Iterator[bytes | Exception]:
    """Yield the body as it was sent; a failure of the network, and only that, comes as the last item."""
    import urllib3

    try:
        yield from response.raw.stream(_CHUNK, decode_content=False)
    except (urllib3.exceptions.HTTPError, ConnectionError, TimeoutError) as error:
        yield error


def _validator(response: requests.Response) -> str | None:
    """Return what tells this version of the file from others; RFC 9110 forbids a weak tag in `If-Range`."""
    tag = response.headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")


def _total(response: requests.Response, have: int) -> int | None:
    """Return the size of the whole file in bytes, or None if the server does not say."""
    total = response.headers.get("Content-Range", "").rpartition("/")[2]
    if total.isdigit():
        return int(total)
    length = response.headers.get("Content-Length", "")
    return have + int(length) if length.isdigit() else None


def _reason(error: Exception) -> str:
    """Return the innermost cause of a network error, in few words."""
    cause: Any = error
    while inner := getattr(cause, "reason", None) or next(
        (argument for argument in cause.args if isinstance(argument, Exception)), None
    ):
        if not isinstance(inner, Exception):
            break
        cause = inner
    text = getattr(cause, "strerror", None) or str(cause).rpartition(": ")[2] or type(cause).__name__
    return " ".join(str(text).split())
