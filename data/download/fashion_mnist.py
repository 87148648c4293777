"""The four files of Fashion-MNIST, fetched and held against their hashes."""

from __future__ import annotations

import hashlib
from pathlib import Path

from steadypix.data.download.fetch import fetch_first
from steadypix.errors import InputError

URLS = (
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",  # has no https
)
MAX_BYTES = 30_000_000  # of a file: the largest has 26.4 million

# Of the files as published; their md5 sums are in the data set's own README.
SHA256 = {
    "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}


def download_fashion_mnist(folder: Path) -> None:
    """Fetch those of the four files that are not in `folder`, and hold every one against its hash.

    Raises:
        InputError: if the server is not reached, or a file is not the published one.
        OSError: as the system raises it; a full disk, mostly.
    """
    for name, expected in SHA256.items():
        path = folder / name
        if not path.is_file():
            fetch_first([f"{url}/{name}" for url in URLS], path, place=path, max_bytes=MAX_BYTES)
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != expected:
            raise InputError(
                f"{path}: has sha256 {found}, expected {expected}; delete it to download it again"
            )
