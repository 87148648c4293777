"""A data set by name: fetched, unpacked aside, held against what is known of it, only then put into place.

Everything lies in the folder the user names: `NAME.tar.gz`, the finished `NAME/`, a hidden `.NAME.partial/`
for what is not finished, and `.steadypix-download.json`, which records the sha256 of every archive.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data import fashion_mnist
from data.archive import require_space, unpack
from data.catalogue import DATASETS, Dataset, verify_structure
from data.command import Parser, command, version
from data.errors import InputError
from data.fetch import check_url, fetch
from data.files import write_whole

RECORD = ".steadypix-download.json"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    names = (*DATASETS, fashion_mnist.NAME)
    parser.add_argument("name", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the pictures go to DIR/NAME")
    parser.add_argument("--url", help="another address of the archive (a mirror)")
    parser.add_argument("--sha256", type=_sha256, metavar="HEX", help="what the archive must have")
    parser.add_argument(
        "--keep-archive", action="store_true", help="keep DIR/NAME.tar.gz after a download (else removed)"
    )


def run(args: argparse.Namespace) -> int:
    """Do what the command says: bring a data set, print its folder."""
    if args.name == fashion_mnist.NAME:
        return _run_fashion_mnist(args)
    dataset = DATASETS[args.name]
    folder = obtain(dataset, args.out, url=args.url, sha256=args.sha256, keep_archive=args.keep_archive)
    splits = ", ".join(f"{split} {count}" for split, count in dataset.splits.items())
    print(f"{folder}: {dataset.name} is there and whole ({splits} pictures)", file=sys.stderr)
    print(folder)
    return 0


def _run_fashion_mnist(args: argparse.Namespace) -> int:
    for option in ("url", "sha256", "keep_archive"):
        if getattr(args, option):
            raise InputError(f"--{option.replace('_', '-')}: {args.name} is four files of known hashes")
    folder: Path = args.out / args.name
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        fashion_mnist.download_fashion_mnist(folder)
    print(f"{folder}: {args.name} is there and whole", file=sys.stderr)
    print(folder)
    return 0


@command("data.download")
def main(argv: Sequence[str]) -> int:
    """Run as `python -m data.download NAME --out DIR`."""
    parser = Parser(prog="python -m data.download", description="Download a data set of pairs by name.")
    parser.add_argument("--version", action="version", version=f"steadypix {version()}")
    add_options(parser)
    return run(parser.parse(argv))


def obtain(
    dataset: Dataset,
    out: Path,
    *,
    url: str | None = None,
    sha256: str | None = None,
    keep_archive: bool = False,
) -> Path:
    """Bring a data set into `out/NAME`; whatever an earlier, stopped call left is used.

    An archive that already lies at `out/NAME.tar.gz` is taken instead of a download, and never removed if it
    was put there by hand.

    Args:
        dataset: which one, and what it must turn out to hold.
        out: the folder; it is made.
        url: where the archive lies, if not where the data set is published.
        sha256: what the archive must have, in hexadecimal. Without it, what is known of the data set or, that
            failing, what was recorded when the archive was first seen.
        keep_archive: keep a downloaded archive.

    Returns:
        The folder with the splits.

    Raises:
        InputError: naming the file or the address, if the archive cannot be had, is not the expected one, is
            hostile, cut short or no archive, or if the pictures are not what the data set holds.
        OSError: as the system raises it; a full disk, mostly.
    """
    url = dataset.url if url is None else check_url(url)
    folder, archive = out / dataset.name, out / f"{dataset.name}.tar.gz"
    work = out / f".{dataset.name}.partial"
    out.mkdir(parents=True, exist_ok=True)
    with _alone(out):
        if folder.exists() and not (folder.is_dir() and _is_empty(folder)):
            _verify(folder, dataset, advice=f"move {folder} away to download it again")
            shutil.rmtree(work, ignore_errors=True)
            return folder
        record = _read_record(out)
        known = record.get(dataset.name, {})
        if not archive.exists():
            _download(url, archive, work)
            known = {**known, "url": url, "archive": "downloaded"}
        elif known.get("archive") != "downloaded":
            known = {**known, "url": None, "archive": "put there by hand"}
        digest = _verified(archive, sha256 or dataset.sha256 or known.get("sha256"))
        if digest != known.get("sha256"):
            known = {**known, "sha256": digest, "bytes": archive.stat().st_size, "first_seen": _now()}
        _write_record(out, {**record, dataset.name: known})
        require_space(archive, out)
        try:
            _unpack_into_place(dataset, archive, folder, work)
        except InputError:
            # Whatever it is, it is no archive to hold later ones against.
            _write_record(out, {name: entry for name, entry in record.items() if name != dataset.name})
            raise
        if known["archive"] == "downloaded" and not keep_archive:
            archive.unlink()
            _write_record(out, {**record, dataset.name: {**known, "archive": "removed"}})
    return folder


def _download(url: str, archive: Path, work: Path) -> None:
    try:
        fetch(url, work / archive.name, place=archive)
        (work / archive.name).replace(archive)
    finally:
        _remove_if_empty(work)


def _unpack_into_place(dataset: Dataset, archive: Path, folder: Path, work: Path) -> None:
    """Unpack beside the destination, verify, rename: no kill leaves a folder that only looks whole."""
    unpacked = work / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)  # of a run that was killed
    unpacked.mkdir(parents=True)
    try:
        unpack(
            archive,
            unpacked,
            members=dataset.pictures,
            max_members=dataset.max_members,
            max_bytes=dataset.max_bytes,
        )
        inner = unpacked / dataset.name
        if not inner.is_dir() and any((unpacked / split).is_dir() for split in dataset.splits):
            inner = unpacked  # a mirror's archive may hold the splits without a folder around them
        try:
            _verify(inner, dataset, advice=f"delete {archive} to download it again")
        except InputError as error:
            # The temporary place means nothing to anybody; the archive does.
            raise InputError(str(error).replace(str(unpacked), str(archive))) from None
        inner.replace(folder)
        shutil.rmtree(work, ignore_errors=True)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
        _remove_if_empty(work)


def _verify(folder: Path, dataset: Dataset, *, advice: str) -> None:
    try:
        verify_structure(folder, dataset)
    except InputError as error:
        raise InputError(f"{error}; {advice}") from None


def _verified(archive: Path, expected: str | None) -> str:
    """Return the archive's sha256 in hexadecimal.

    Raises:
        InputError: if it is not the expected one.
    """
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if expected is not None and digest != expected.lower():
        raise InputError(
            f"{archive}: has sha256 {digest}, expected {expected.lower()}; delete it to download it again, "
            f"or give --sha256 {digest} to take it"
        )
    return digest


def _read_record(out: Path) -> dict[str, Any]:
    path = out / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        record = None
    if not isinstance(record, dict) or not all(isinstance(entry, dict) for entry in record.values()):
        raise InputError(f"{path}: is no record of downloads; expected JSON; delete it to start anew")
    return record


def _write_record(out: Path, record: dict[str, Any]) -> None:
    text = json.dumps(record, indent=1) + "\n"
    write_whole(out / RECORD, lambda path: path.write_text(text, encoding="utf-8"))


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keep a second run out of the folder, where the system can; the lock ends with the process.

    Raises:
        InputError: if another run is at work there.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    handle = os.open(out, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise InputError(f"{out}: another download into this folder is running; wait for it") from None
    except OSError:
        pass  # some network disks have no locks
    try:
        yield
    finally:
        os.close(handle)


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def _is_empty(folder: Path) -> bool:
    return next(folder.iterdir(), None) is None


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _sha256(text: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise argparse.ArgumentTypeError(f"expected 64 hexadecimal digits, got {text!r}")
    return text.lower()


if __name__ == "__main__":
    sys.exit(main())
