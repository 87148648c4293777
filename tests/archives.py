"""Tiny data sets, their archives, and a server on loopback that can be told to misbehave."""

from __future__ import annotations

import contextlib
import http.server
import io
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from steadypix.data.download.catalogue import Dataset

TINY = Dataset(
    name="facades",
    splits={"train": 3, "test": 2},
    size_px=(16, 8),
    url="http://127.0.0.1:9/facades.tar.gz",  # nobody listens there
)


def picture(size: tuple[int, int] = TINY.size_px, seed: int = 0) -> bytes:
    """A PNG of noise, so that the archive does not compress to nothing."""
    width, height = size
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def member(name: str, content: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    """A member of an archive; `fields` such as `type` and `linkname` are set as they are."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


def honest_members(prefix: str = "facades/", dataset: Dataset = TINY) -> list[tuple[tarfile.TarInfo, bytes]]:
    """What the data set's own archive holds."""
    return [
        member(f"{prefix}{split}/{number}.png", picture(dataset.size_px, seed=number))
        for split, count in dataset.splits.items()
        for number in range(1, count + 1)
    ]


def archive_of(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """A tar.gz archive with these members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@dataclass
class Server:
    """What is served, how badly, and what was asked for."""

    content: bytes
    cut_after: list[int] = field(default_factory=list)
    """the first answers stop after so many bytes of their body"""
    ranges: bool = True
    status: int = 200
    tag: str = '"one"'
    honours_if_range: bool = True
    length: str | None = None
    """what `Content-Length` says; empty: nothing"""
    moved_to: str = ""
    url: str = ""
    asked: list[str | None] = field(default_factory=list)
    """the Range header of each request"""
    sent: list[int] = field(default_factory=list)
    """bytes of body in each answer"""

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        asked = request.headers.get("Range")
        self.asked.append(asked)
        if self.status != 200:
            request.send_error(self.status)
            self.sent.append(0)
            return
        if self.moved_to:
            request.send_response(302)
            request.send_header("Location", self.moved_to)
            request.end_headers()
            return
        start = 0
        fresh = request.headers.get("If-Range", self.tag) == self.tag or not self.honours_if_range
        if asked and self.ranges and fresh:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start > len(self.content):
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{len(self.content)}")
            request.send_header("Content-Length", "0")
            request.end_headers()
            self.sent.append(0)
            return
        body = self.content[start:]
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        length = str(len(body)) if self.length is None else self.length
        if length:
            request.send_header("Content-Length", length)
        request.send_header("ETag", self.tag)
        request.end_headers()
        body = body[: self.cut_after.pop(0)] if self.cut_after else body
        request.wfile.write(body)
        self.sent.append(len(body))


@contextlib.contextmanager
def serving(content: bytes, **behaviour: object) -> Iterator[Server]:
    """Serve `content` under any path on a free port of 127.0.0.1."""
    server = Server(content, **behaviour)  # type: ignore[arg-type]

    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            server.answer(self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Listener(http.server.ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """Say nothing of a client that hangs up, as one does that has enough."""

    with Listener(("127.0.0.1", 0), Handler) as listener:
        server.url = f"http://127.0.0.1:{listener.server_address[1]}/mirror/facades.tar.gz"
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown()
            thread.join(timeout=10)


def tree(folder: Path) -> set[str]:
    """All files below a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
