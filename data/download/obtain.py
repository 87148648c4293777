"""A data set by name: fetched, unpacked aside, held against what is known of it, only then put into place.

Everything lies in the folder the user names: the finished `NAME/`, a `NAME.tar.gz` that was put there by hand
or is to be kept, a hidden `.NAME.partial/` for what is not finished, the downloaded archive with it, and
`.steadypix-download.json`, which records the sha256 of every archive.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from steadypix.data.download.archive import unpack
from steadypix.data.download.catalogue import DATASETS, Dataset, leave_out_the_rest, verify_structure
from steadypix.data.download.fashion_mnist import download_fashion_mnist
from steadypix.data.download.fetch import UnreachableError, fetch_first
from steadypix.data.labelled.fashion_mnist import NAME as FASHION_MNIST
from steadypix.errors import InputError, printable
from steadypix.files import prepare_output, remove_half_written, write_text
from steadypix.locks import alone

RECORD = ".steadypix-download.json"
MOST_RECORD_BYTES = 1_000_000
MOST_NAMES = 5  # of files left out that are named
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    names = (*DATASETS, FASHION_MNIST)
    parser.add_argument("name", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the pictures go to DIR/NAME")
    parser.add_argument("--url", help="another address of the archive (a mirror)")
    parser.add_argument("--sha256", type=_sha256, metavar="HEX", help="what the archive must have")
    parser.add_argument(
        "--keep-archive", action="store_true", help="keep DIR/NAME.tar.gz after a download (else removed)"
    )


def run(args: argparse.Namespace) -> int:
    """Do what the command says: bring a data set, print its folder."""
    if args.name == FASHION_MNIST:
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
    prepare_output(folder)
    folder.mkdir(parents=True, exist_ok=True)
    download_fashion_mnist(folder)
    print(f"{folder}: {args.name} is there and whole", file=sys.stderr)
    print(folder)
    return 0


def obtain(
    dataset: Dataset,
    out: Path,
    *,
    url: str | None = None,
    sha256: str | None = None,
    keep_archive: bool = False,
) -> Path:
    """Bring a data set into `out/NAME`; whatever an earlier, stopped call left is used.

    An archive that already lies at `out/NAME.tar.gz` is taken instead of a download, and never removed.

    Args:
        dataset: which one, and what it must turn out to hold.
        out: the folder; it is made.
        url: where the archive lies, if not where the data set is published.
        sha256: what the archive must have, in hexadecimal. Without it, what is known of the data set or, that
            failing, what was recorded when the archive was first unpacked.
        keep_archive: keep a downloaded archive.

    Returns:
        The folder with the splits.

    Raises:
        InputError: naming the file or the address, if the archive cannot be had, is not the expected one, is
            hostile, cut short or no archive, or if the pictures are not what the data set holds.
        OSError: as the system raises it; a full disk, mostly.
    """
    urls = dataset.urls if url is None else [url]
    folder, by_hand = out / dataset.name, out / f"{dataset.name}.tar.gz"
    work = out / f".{dataset.name}.partial"
    with alone(out):
        remove_half_written(out)
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            try:
                verify_structure(folder, dataset)
            except InputError as error:
                raise InputError(f"{error}; move {folder} away to download it again") from None
            shutil.rmtree(work, ignore_errors=True)
            return folder
        record = read_record(out)
        archive = by_hand if by_hand.exists() else work / by_hand.name
        if archive.exists():
            if not archive.is_file():  # opening a pipe would wait for its writer
                raise InputError(f"{archive}: is no regular file; expected an archive, or none")
            source = None if archive == by_hand else urls[0]
        else:
            try:
                source = fetch_first(urls, archive, place=by_hand, max_bytes=dataset.max_bytes)
            except UnreachableError as error:
                raise InputError(f"{error}, or give another address with --url") from None
        digest = _verified(archive, sha256 or dataset.sha256 or record.get(dataset.name, {}).get("sha256"))
        with _unpacked(dataset, archive, work) as pictures:
            # Only the hash of an archive that turned out sound is held against later ones.
            record[dataset.name] = {"url": source, "sha256": digest}
            write_text(out / RECORD, json.dumps(record, indent=1) + "\n")
            if keep_archive:
                archive.replace(by_hand)
            pictures.replace(folder)
        shutil.rmtree(work, ignore_errors=True)
    return folder


@contextlib.contextmanager
def _unpacked(dataset: Dataset, archive: Path, work: Path) -> Iterator[Path]:
    """Unpack beside the destination and verify: no kill leaves a folder that only looks whole.

    Yields:
        The folder with the splits, which may be moved; what is left of it goes afterwards.
    """
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
            verify_structure(inner, dataset)
        except InputError as error:
            # The temporary place means nothing to anybody; the archive does.
            fault = str(error).replace(str(unpacked), str(archive))
            raise InputError(f"{fault}; delete {archive} to download it again") from None
        if names := leave_out_the_rest(inner, dataset):
            more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
            said = f"{archive}: left out, as they are no pictures of the data set: "
            print(printable(f"{said}{', '.join(names[:MOST_NAMES])}{more}"), file=sys.stderr)
        yield inner
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
        with contextlib.suppress(OSError):  # where a downloaded archive is still in it
            work.rmdir()


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


def read_record(out: Path) -> dict[str, Any]:
    """Return what is recorded of earlier downloads into a folder.

    Raises:
        InputError: if that makes no sense.
    """
    path = out / RECORD
    if not path.exists():
        return {}
    try:
        if not path.is_file() or path.stat().st_size > MOST_RECORD_BYTES:  # opening a pipe would wait
            raise ValueError
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict) or not all(map(_is_entry, record.values())):
        raise InputError(f"{path}: is no record of downloads; expected JSON; delete it to start anew")
    return record


def _is_entry(entry: object) -> bool:
    """Whether this is what `obtain` records of an archive; other keys are of other versions."""
    if not isinstance(entry, dict):
        return False
    digest = entry.get("sha256")
    return digest is None or (isinstance(digest, str) and bool(_SHA256.fullmatch(digest)))


def _sha256(text: str) -> str:
    if not _SHA256.fullmatch(text):
        raise argparse.ArgumentTypeError(f"expected 64 hexadecimal digits, got {text!r}")
    return text.lower()
