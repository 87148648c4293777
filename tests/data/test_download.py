"""Data sets by name, against a server on loopback: what is fetched, resumed, refused, and left behind."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import types
from pathlib import Path
from typing import Any

import pytest
import requests

from steadypix.data.cli import main as steadypix_data
from steadypix.data.download import fetch
from steadypix.data.download import obtain as download
from steadypix.data.download.catalogue import DATASETS, Dataset, verify_structure
from steadypix.data.download.fashion_mnist import URLS
from steadypix.data.pairs.opening import open_pairs
from steadypix.errors import InputError
from tests.archives import TINY, archive_of, honest_members, member, picture, serving, tree
from tests.conftest import REPOSITORY
from tests.holder import held_elsewhere

pytestmark = pytest.mark.slow

Capture = pytest.CaptureFixture[str]
PICTURES = {f"facades/train/{n}.png" for n in (1, 2, 3)} | {f"facades/test/{n}.png" for n in (1, 2)}
HONEST = archive_of(honest_members())
CATALOGUE = dict(DATASETS)


@pytest.fixture(autouse=True)
def _tiny_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATASETS, "facades", TINY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def run(out: Path, *more: str) -> int:
    return steadypix_data(["download", "facades", "--out", str(out), *more])


def refused(capsys: Capture, *culprits: str) -> str:
    """The last line on stderr is the error and names the culprits; there is no traceback."""
    err = capsys.readouterr().err
    assert "Traceback" not in err
    line = err.strip().splitlines()[-1]
    assert ": error: " in line
    for culprit in culprits:
        assert culprit in line
    return line


def place(out: Path, content: bytes) -> Path:
    """Put an archive where somebody without a network puts it."""
    out.mkdir(exist_ok=True)
    (out / "facades.tar.gz").write_bytes(content)
    return out / "facades.tar.gz"


def record(out: Path) -> dict[str, Any]:
    return json.loads((out / download.RECORD).read_text())


# ---- what works -------------------------------------------------------------------------------------


def test_download_verify_and_again(tmp_path: Path, capsys: Capture) -> None:
    with serving(HONEST) as server:
        assert run(tmp_path, "--url", server.url) == 0
        assert capsys.readouterr().out == f"{tmp_path / 'facades'}\n"
        assert tree(tmp_path) == PICTURES | {download.RECORD}
        assert (tmp_path / "facades" / "train" / "2.png").read_bytes() == picture(seed=2)
        entry = record(tmp_path)["facades"]
        assert entry["sha256"] == hashlib.sha256(HONEST).hexdigest()
        assert entry["url"] == server.url
        assert run(tmp_path, "--url", server.url) == 0
        assert "there and whole" in capsys.readouterr().err
        assert server.asked == [None]  # the second time, nobody was asked
    assert len(open_pairs(str(tmp_path / "facades"), "train", load_size=8, crop_size=8)) == 3


def test_the_archive_is_kept_on_request(tmp_path: Path) -> None:
    with serving(HONEST) as server:
        assert run(tmp_path, "--url", server.url, "--keep-archive") == 0
    assert (tmp_path / "facades.tar.gz").read_bytes() == HONEST


def test_as_a_module(tmp_path: Path) -> None:
    place(tmp_path, b"no archive")
    argv = [sys.executable, "-m", "steadypix.data.cli", "download", "facades", "--out", str(tmp_path)]
    done = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "facades.tar.gz" in done.stderr
    assert "Traceback" not in done.stderr


def test_splits_without_a_folder_around_them(tmp_path: Path) -> None:
    place(tmp_path, archive_of(honest_members(prefix="")))
    assert run(tmp_path) == 0
    assert tree(tmp_path) == PICTURES | {download.RECORD, "facades.tar.gz"}


# ---- the network ------------------------------------------------------------------------------------


def test_a_cut_download_goes_on_where_it_was(tmp_path: Path, capsys: Capture) -> None:
    with serving(HONEST, cut_after=[700, 300]) as server:
        assert run(tmp_path, "--url", server.url, "--keep-archive") == 2
        refused(capsys, server.url, f"cut after 700 of {len(HONEST)} bytes", "goes on from there")
        assert tree(tmp_path) == {
            ".facades.partial/facades.tar.gz.part",
            ".facades.partial/facades.tar.gz.part.json",
        }
        assert run(tmp_path, "--url", server.url, "--keep-archive") == 2
        refused(capsys, "cut after 1000 of")
        assert run(tmp_path, "--url", server.url, "--keep-archive") == 0
        assert server.asked == [None, "bytes=700-", "bytes=1000-"]
        assert server.sent == [700, 300, len(HONEST) - 1000]
    assert (tmp_path / "facades.tar.gz").read_bytes() == HONEST
    assert tree(tmp_path) == PICTURES | {download.RECORD, "facades.tar.gz"}


def test_a_server_without_ranges_starts_again(tmp_path: Path) -> None:
    with serving(HONEST, cut_after=[700], ranges=False) as server:
        assert run(tmp_path, "--url", server.url) == 2
        assert run(tmp_path, "--url", server.url) == 0
        assert server.sent == [700, len(HONEST)]
    assert record(tmp_path)["facades"]["sha256"] == hashlib.sha256(HONEST).hexdigest()


@pytest.mark.parametrize("honours_if_range", [True, False])
@pytest.mark.parametrize("longer", [True, False])
def test_another_archive_by_now_is_not_appended(tmp_path: Path, honours_if_range: bool, longer: bool) -> None:
    other = archive_of([*honest_members(), *([member("facades/LICENSE", picture())] if longer else [])])
    first = HONEST if longer else archive_of([*honest_members(), member("facades/LICENSE", picture())])
    with serving(first, cut_after=[len(first) - 100], honours_if_range=honours_if_range) as server:
        assert run(tmp_path, "--url", server.url) == 2
        server.content, server.tag = other, '"two"'
        assert run(tmp_path, "--url", server.url) == 0
    assert record(tmp_path)["facades"]["sha256"] == hashlib.sha256(other).hexdigest()


def test_another_archive_of_the_same_size_is_told_by_its_tag(tmp_path: Path) -> None:
    with serving(HONEST[:4] + b"date" + HONEST[8:], cut_after=[700]) as server:
        assert run(tmp_path, "--url", server.url) == 2
        server.content, server.tag = HONEST, '"two"'
        assert run(tmp_path, "--url", server.url) == 0
    assert record(tmp_path)["facades"]["sha256"] == hashlib.sha256(HONEST).hexdigest()


def test_a_part_of_another_address_is_not_continued(tmp_path: Path) -> None:
    with serving(HONEST, cut_after=[700]) as server:
        assert run(tmp_path, "--url", server.url) == 2
        assert run(tmp_path, "--url", server.url + "?mirror=2") == 0
        assert server.asked == [None, None]


def test_not_found(tmp_path: Path, capsys: Capture) -> None:
    with serving(HONEST, status=404) as server:
        assert run(tmp_path, "--url", server.url) == 2
        refused(capsys, server.url, "404", "--url")
    assert tree(tmp_path) == set()


def test_offline_says_what_to_put_where_and_goes_on_from_there(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "data"
    assert run(out) == 2
    refused(capsys, TINY.url, "refused", str(out / "facades.tar.gz"), "same command")
    assert tree(out) == set()
    place(out, HONEST)
    assert run(out) == 0
    # It was put there by hand, so it stays.
    assert tree(out) == PICTURES | {download.RECORD, "facades.tar.gz"}
    assert record(out)["facades"]["url"] is None


def test_no_such_host(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def get(url: str, **_: object) -> None:
        raise requests.exceptions.ConnectionError("Name or service not known")

    monkeypatch.setattr(requests, "get", get)
    assert run(tmp_path) == 2
    refused(capsys, TINY.url, "Name or service not known", str(tmp_path / "facades.tar.gz"))


# ---- the hash ---------------------------------------------------------------------------------------


def test_a_wrong_hash_is_refused_and_nothing_is_lost(tmp_path: Path, capsys: Capture) -> None:
    digest = hashlib.sha256(HONEST).hexdigest()
    with serving(HONEST) as server:
        assert run(tmp_path, "--url", server.url, "--sha256", "ab" * 32) == 2
        refused(capsys, "facades.tar.gz", digest, "ab" * 32)
        assert tree(tmp_path) == {".facades.partial/facades.tar.gz"}
        assert run(tmp_path, "--url", server.url, "--sha256", digest.upper()) == 0
        assert len(server.asked) == 1


def test_a_pinned_hash_is_held(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATASETS, "facades", dataclasses.replace(TINY, sha256="cd" * 32))
    place(tmp_path, HONEST)
    assert run(tmp_path) == 2
    refused(capsys, "cd" * 32)


def test_what_was_recorded_first_is_held_against_later_archives(tmp_path: Path, capsys: Capture) -> None:
    with serving(HONEST) as server:
        assert run(tmp_path, "--url", server.url) == 0
        (tmp_path / "facades").rename(tmp_path / "away")
        server.content = archive_of(honest_members()[::-1])
        assert run(tmp_path, "--url", server.url) == 2
        refused(capsys, "facades.tar.gz", hashlib.sha256(HONEST).hexdigest())
        assert not (tmp_path / "facades").exists()
        assert run(tmp_path, "--sha256", hashlib.sha256(server.content).hexdigest()) == 0


def test_a_broken_record_is_named(tmp_path: Path, capsys: Capture) -> None:
    place(tmp_path, HONEST)
    (tmp_path / download.RECORD).write_text("[1]")
    assert run(tmp_path) == 2
    refused(capsys, download.RECORD, "expected JSON")


# ---- hostile and broken archives --------------------------------------------------------------------


def header(size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """The header of a member that claims a size, without what it claims."""
    info, _ = member("facades/a", type=kind)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


PAX_BOMB = archive_of([member("facades/train/1.png", bytes(3 * 2**20), type=tarfile.XHDTYPE)])
HOSTILE = {
    "dotdot": ([member("facades/../../escaped.png", b"x")], ["escaped.png", "leaves the folder"]),
    "absolute": (
        [member("/tmp/steadypix-escaped.png", b"x")],
        ["escaped.png", "leaves the folder"],
    ),
    "backslash": ([member("facades\\..\\..\\x.png", b"x")], ["x.png", "leaves the folder"]),
    "symlink": (
        [member("facades/train/9.png", type=tarfile.SYMTYPE, linkname="/etc/passwd")],
        ["9.png", "link"],
    ),
    "inner symlink": ([member("facades/l", type=tarfile.SYMTYPE, linkname="train")], ["facades/l", "link"]),
    "hardlink": (
        [member("facades/train/9.png", type=tarfile.LNKTYPE, linkname="facades/train/1.png")],
        ["9.png", "link"],
    ),
    "device": ([member("facades/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3)], ["null", "device"]),
    "fifo": ([member("facades/pipe", type=tarfile.FIFOTYPE)], ["pipe", "pipe"]),
    "large": ([member("facades/zeros", bytes(8 * 2**20))], ["facades.tar.gz", "more than 1.07MB"]),
    "many": ([member(f"facades/{n}") for n in range(200)], ["facades.tar.gz", "more than 110 members"]),
    "file and folder": ([member("facades/a", b"x"), member("facades/a/b", b"x")], ["facades/a/b", "at once"]),
    "sparse": ([member("facades/hole", type=tarfile.GNUTYPE_SPARSE)], ["facades/hole", "no plain file"]),
    "time": ([member("facades/old", pax_headers={"mtime": "1e300"})], ["facades.tar.gz", "timestamp"]),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_archives(tmp_path: Path, capsys: Capture, kind: str) -> None:
    evil, culprits = HOSTILE[kind]
    out = tmp_path / "deep" / "data"
    out.mkdir(parents=True)
    place(out, archive_of([*honest_members(), *evil]))
    assert run(out) == 2
    refused(capsys, "facades.tar.gz", *culprits)
    # Nothing but the archive itself: no folder, no temporary, no record, nothing outside.
    assert tree(tmp_path) == {"deep/data/facades.tar.gz"}
    assert not Path("/tmp/steadypix-escaped.png").exists()


@pytest.mark.parametrize(
    ("content", "culprit"),
    [
        (HONEST[: len(HONEST) // 2], "ended before the end"),
        (HONEST[:-4], "ended before the end"),
        (gzip.compress(gzip.decompress(HONEST)[:2000]), "unexpected end of data"),
        (HONEST[:-8] + b"abcd" + HONEST[-4:], "CRC check failed"),
        (b"<html>please log in</html>" * 100, "Not a gzipped file"),
        (gzip.compress(b"no tar" * 1000), "invalid header"),
        (b"", "empty file"),
        (PAX_BOMB, "header of more than"),
        (gzip.compress(header(2**60)), "unpacks to more than"),
        (gzip.compress(header(-(2**40)) + bytes(10240)), "seeking backwards"),
        (gzip.compress(header(2**60, tarfile.GNUTYPE_LONGNAME) + bytes(1024)), "header of more than"),
        (gzip.compress(header(0, tarfile.XHDTYPE) * 5000), "recursion"),
    ],
    ids=[
        "half",
        "trailer",
        "inner",
        "checksum",
        "page",
        "gzip",
        "empty",
        "pax",
        "huge",
        "backwards",
        "name",
        "nested",
    ],
)
def test_broken_archives(tmp_path: Path, capsys: Capture, content: bytes, culprit: str) -> None:
    place(tmp_path, content)
    assert run(tmp_path) == 2
    refused(capsys, "facades.tar.gz", culprit)
    assert tree(tmp_path) == {"facades.tar.gz"}
    place(tmp_path, HONEST)  # a broken archive's hash is not held against the next
    assert run(tmp_path) == 0


@pytest.mark.parametrize(
    ("members", "culprits"),
    [
        (honest_members()[1:], ["train 2, test 2", "train 3, test 2"]),
        (honest_members()[:3], ["train 3, no test/"]),
        ([member("other/train/1.png", picture())], ["no train/, no test/"]),
        (
            [*honest_members()[:-1], member("facades/test/2.png", picture((16, 10)))],
            ["2.png", "16x10", "16x8"],
        ),
        ([*honest_members()[:-1], member("facades/test/2.png", b"text")], ["2.png", "cannot be read"]),
    ],
    ids=["count", "split", "folder", "size", "no picture"],
)
def test_a_wrong_structure(tmp_path: Path, capsys: Capture, members: list[Any], culprits: list[str]) -> None:
    place(tmp_path, archive_of(members))
    assert run(tmp_path) == 2
    line = refused(capsys, "facades.tar.gz", *culprits)
    assert ".partial" not in line
    assert tree(tmp_path) == {"facades.tar.gz"}


def test_a_folder_in_the_way_is_never_touched(tmp_path: Path, capsys: Capture) -> None:
    place(tmp_path, HONEST)
    assert run(tmp_path) == 0
    (tmp_path / "facades" / "train" / "2.png").unlink()
    before = tree(tmp_path)
    assert run(tmp_path) == 2
    refused(capsys, str(tmp_path / "facades"), "train 2, test 2", "move")
    assert tree(tmp_path) == before


# ---- what is no picture of the formats allowed ----------------------------------------------------------

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 8\n%%EndComments\n%%EOF\n"


def test_a_picture_of_another_format_is_found_before_anything_is_put_into_place(
    tmp_path: Path, capsys: Capture
) -> None:
    place(tmp_path, archive_of([*honest_members()[:-1], member("facades/test/2.png", EPS)]))
    assert run(tmp_path) == 2
    refused(capsys, "facades.tar.gz", "2.png", "cannot be read as an image")
    assert tree(tmp_path) == {"facades.tar.gz"}


def test_what_is_no_picture_of_the_data_set_is_left_out(tmp_path: Path, capsys: Capture) -> None:
    others = ["LICENSE", "run.sh", "train/evil.eps", "train/.1.png", "train/deep/4.png", "more/1.png"]
    place(tmp_path, archive_of([*honest_members(), *(member(f"facades/{n}", picture()) for n in others)]))
    assert run(tmp_path) == 0
    assert tree(tmp_path) == PICTURES | {download.RECORD, "facades.tar.gz"}
    assert {path.name for path in (tmp_path / "facades").iterdir()} == {"train", "test"}
    said = capsys.readouterr().err
    assert "left out, as they are no pictures of the data set: " in said
    assert "LICENSE" in said
    assert "and 1 more" in said


# ---- notes, records, headers and addresses that make no sense -------------------------------------------

DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    "text",
    [
        '{"facades": {"sha256": 5}}',
        '{"facades": {"sha256": ["a"]}}',
        '{"facades": {"sha256": "abc"}}',
        '{"facades": null}',
        DEEP,
        '{"facades": ' + DEEP + "}",
        "\udcff",
        " " * 2_000_000,
    ],
    ids=["number", "list", "short", "null", "deep", "deep inside", "no text", "long"],
)
def test_a_record_of_wrong_type_or_depth_is_named(tmp_path: Path, capsys: Capture, text: str) -> None:
    place(tmp_path, HONEST)
    (tmp_path / download.RECORD).write_bytes(text.encode("utf-8", "surrogateescape"))
    assert run(tmp_path) == 2
    refused(capsys, download.RECORD, "expected JSON")


@pytest.mark.parametrize("name", [download.RECORD, "facades.tar.gz"])
def test_a_pipe_is_not_waited_for(tmp_path: Path, capsys: Capture, name: str) -> None:
    os.mkfifo(tmp_path / name)
    assert run(tmp_path) == 2
    refused(capsys, name)


@pytest.mark.parametrize(
    "change",
    [{"total": "5"}, {"total": True}, {"validator": 7}, {"validator": ["x"]}, {"deep": 1}, {"url": None}],
    ids=["text", "bool", "number", "list", "deep", "address"],
)
def test_a_note_of_wrong_type_or_depth_is_not_gone_on_with(tmp_path: Path, change: dict[str, Any]) -> None:
    with serving(HONEST, cut_after=[700]) as server:
        assert run(tmp_path, "--url", server.url) == 2
        note = tmp_path / ".facades.partial" / "facades.tar.gz.part.json"
        known = json.loads(note.read_text())
        note.write_text(DEEP if "deep" in change else json.dumps(known | change))
        assert run(tmp_path, "--url", server.url) == 0
        assert server.asked == [None, None]


@pytest.mark.parametrize(
    "length", ["\xb2", "9" * 5000, "-5", "1e3"], ids=["superscript", "long", "minus", "e"]
)
def test_a_length_that_is_no_number_is_unknown(tmp_path: Path, length: str) -> None:
    with serving(HONEST, length=length) as server:
        assert run(tmp_path, "--url", server.url) == 0


@pytest.mark.parametrize(
    "url",
    [
        "http://[::1",
        "http://.example.invalid/x",
        "http://a:b:c/x",
        "http://127.0.0.1:99999999/x",
        "http://" + "a" * 300 + ".invalid/x",
        "http:///x",
        "http://\udcff.invalid/x",
        "x",
        "",
    ],
)
def test_malformed_addresses(tmp_path: Path, capsys: Capture, url: str) -> None:
    assert run(tmp_path, "--url", url) == 2
    refused(capsys, "cannot be reached")
    assert tree(tmp_path) == set()


def test_a_redirect_to_a_malformed_address(tmp_path: Path, capsys: Capture) -> None:
    with serving(HONEST, moved_to="http://[::1") as server:
        assert run(tmp_path, "--url", server.url) == 2
    refused(capsys, server.url, "cannot be reached")


def test_more_than_the_data_set_can_have_is_not_kept(tmp_path: Path, capsys: Capture) -> None:
    """Whether or not the server says how much it is going to send."""
    large = HONEST + bytes(TINY.max_bytes)
    for length in (None, ""):
        with serving(large, length=length) as server:
            assert run(tmp_path, "--url", server.url) == 2
        refused(capsys, server.url, "is larger than")
        assert tree(tmp_path) == set()


def test_next_to_nothing_a_second_is_no_download(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that passes 61 s between two looks; what arrived is gone on with."""
    now = itertools.count(step=61.0)
    monkeypatch.setattr(fetch, "time", types.SimpleNamespace(monotonic=lambda: next(now)))
    with serving(HONEST) as server:
        monkeypatch.setattr(fetch, "_CHUNK", 512)
        assert run(tmp_path, "--url", server.url) == 2
        refused(capsys, server.url, "bytes a second", "expected 1000 at least", "goes on from there")
        part = next(tmp_path.rglob("*.part"))
        assert part.read_bytes() == HONEST[: part.stat().st_size]
        monkeypatch.setattr(fetch, "time", types.SimpleNamespace(monotonic=lambda: 0.0))
        assert run(tmp_path, "--url", server.url) == 0
        assert server.asked == [None, f"bytes={512}-"]
    assert not list(tmp_path.rglob("*.part*"))


def test_the_pace_is_looked_at_minute_by_minute() -> None:
    fetch._check_pace("url", 60_000, 60.0)
    with pytest.raises(InputError, match="sends 999 bytes a second, over 61 s"):
        fetch._check_pace("url", 60_939, 61.0)


def test_nothing_is_left_of_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than may be, or more than the disk has room for."""
    file = tmp_path / "file"
    with serving(HONEST) as server:
        with pytest.raises(InputError, match="larger than"):
            fetch.fetch(server.url, file, place=file, max_bytes=100)
        assert list(tmp_path.iterdir()) == []
        full = shutil.disk_usage(tmp_path)._replace(free=10)
        monkeypatch.setattr(fetch.shutil, "disk_usage", lambda path: full)
        with pytest.raises(InputError, match="are free"):
            fetch.fetch(server.url, file, place=file)
    assert list(tmp_path.iterdir()) == []


def test_the_encrypted_address_comes_first(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(HONEST) as server:
        both = dataclasses.replace(TINY, url="https://127.0.0.1:9/facades.tar.gz", plain_url=server.url)
        monkeypatch.setitem(DATASETS, "facades", both)
        assert run(tmp_path) == 0
        said = capsys.readouterr().err
        assert both.url in said
        assert "without encryption" in said
        assert record(tmp_path)["facades"]["url"] == server.url
    assert all(url.startswith("https:") for url in URLS[:1])


def test_another_address_is_asked_for_where_it_can_be_given(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = requests.Response()
    answer.status_code, answer.reason, answer.raw = 404, "Not Found", io.BytesIO()
    monkeypatch.setattr(requests, "get", lambda *_, **__: answer)
    assert run(tmp_path) == 2
    refused(capsys, "404 Not Found", "another address with --url")
    assert steadypix_data(["download", "fashion-mnist", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "404 Not Found" in said
    assert "--url" not in said


def test_every_known_data_set_is_asked_for_over_https_first() -> None:
    for dataset in CATALOGUE.values():
        assert dataset.urls[0].startswith("https://")


# ---- kills and full disks ---------------------------------------------------------------------------

KILLED = """
import os, signal, tarfile, sys
from steadypix.data import cli
from steadypix.data.download import fetch
from steadypix.data.download import obtain as download
from steadypix.data.download.catalogue import DATASETS
from tests.archives import TINY
DATASETS["facades"] = TINY
extract, done = tarfile.TarFile.extract, []
def deadly(self, *args, **options):
    done.append(1)
    if len(done) == {after}:
        os.kill(os.getpid(), signal.{signal})
    return extract(self, *args, **options)
tarfile.TarFile.extract = deadly
sys.exit(cli.main(["download", "facades", "--out", sys.argv[1]]))
"""


def test_what_a_killed_download_left_half_written_goes(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = tmp_path / f".{Path(download.RECORD).stem}.{gone.pid}.tmp.json"
    left.write_text("{")
    with serving(HONEST) as server:
        assert run(tmp_path, "--url", server.url) == 0
    assert not left.exists()


@pytest.mark.parametrize(("name", "code"), [("SIGKILL", -signal.SIGKILL), ("SIGTERM", 143), ("SIGINT", 130)])
def test_a_kill_while_unpacking_leaves_nothing_that_looks_whole(tmp_path: Path, name: str, code: int) -> None:
    place(tmp_path, HONEST)
    script = KILLED.format(after=3, signal=name)
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], cwd=REPOSITORY, capture_output=True, check=False
    )
    assert done.returncode == code, done.stderr
    assert not (tmp_path / "facades").exists()
    left = {path for path in tree(tmp_path) if path.startswith(".facades.partial/")}
    assert bool(left) == (name == "SIGKILL")
    assert run(tmp_path) == 0
    assert tree(tmp_path) == PICTURES | {download.RECORD, "facades.tar.gz"}


def test_a_full_disk_while_unpacking(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(tmp_path, HONEST)
    original = tarfile.TarFile.makefile

    def full(self: tarfile.TarFile, info: tarfile.TarInfo, target: str) -> None:
        if info.name.endswith("3.png"):
            raise OSError(28, "No space left on device")
        original(self, info, target)

    with monkeypatch.context() as patch:
        patch.setattr(tarfile.TarFile, "makefile", full)
        assert run(tmp_path) == 2
    refused(capsys, "3.png", "No space left")
    assert tree(tmp_path) == {"facades.tar.gz"}
    assert run(tmp_path) == 0


def test_a_full_disk_while_downloading(tmp_path: Path, capsys: Capture) -> None:
    """A write that fails names the part, which stays for the next run. The limit is the process's own."""
    resource = pytest.importorskip("resource")
    large = archive_of([*honest_members(), member("facades/LICENSE", picture((300, 300)))])
    before, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with serving(large) as server:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
            assert run(tmp_path, "--url", server.url) == 2
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (before, hard))
            signal.signal(signal.SIGXFSZ, ignored)
        refused(capsys, "facades.tar.gz.part")
        assert run(tmp_path, "--url", server.url) == 0
        assert server.asked[1] == "bytes=100000-"


def test_room_is_asked_for_first(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with serving(HONEST) as server:
        assert run(tmp_path, "--url", server.url) == 2
    refused(capsys, "1.00kB are free", "facades.tar.gz")
    place(tmp_path, HONEST)
    assert run(tmp_path) == 2
    refused(capsys, "unpacked takes")


def test_two_at_once_are_refused(tmp_path: Path, capsys: Capture) -> None:
    with serving(HONEST) as server, held_elsewhere(tmp_path):
        assert run(tmp_path, "--url", server.url) == 2
        assert server.asked == []
    refused(capsys, str(tmp_path), "another command (process ")
    assert run(place(tmp_path, HONEST).parent) == 0


# ---- usage and hints --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "culprit"),
    [
        (["download", "cars", "--out", "x"], "cars"),
        (["download", "facades"], "--out"),
        (["download", "facades", "--out", "x", "--sha256", "abc"], "64 hexadecimal digits"),
        (["download", "facades", "--out", "x", "--url", "ftp://host/x"], "ftp://host/x"),
    ],
)
def test_usage(
    argv: list[str], culprit: str, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert steadypix_data(argv) == 2
    refused(capsys, culprit)
    assert tree(tmp_path) == set()


def test_a_missing_folder_with_a_known_name_is_told_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"`steadypix_data download maps --out \.` fetches it"):
        open_pairs("maps", "val")
    with pytest.raises(InputError, match="no such folder") as caught:
        open_pairs(str(tmp_path / "mine"), "val")
    assert "download" not in str(caught.value)


def test_real_facades_have_the_structure(real_data: Path) -> None:
    """The copy here has no val/; the rest must be as the catalogue says."""
    facades = Dataset(
        name="facades", splits={"train": 400, "test": 106}, size_px=(512, 256), url="http://127.0.0.1/"
    )
    verify_structure(real_data / "facades", facades)
    with pytest.raises(InputError, match="no val/"):
        verify_structure(
            real_data / "facades", dataclasses.replace(facades, splits={**facades.splits, "val": 100})
        )
