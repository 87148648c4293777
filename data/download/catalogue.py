"""The data sets known by name: where they lie, what is in them, and whether a folder is one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from steadypix.errors import InputError
from steadypix.progress import progress

_OFFICIAL = "https://efrosgans.eecs.berkeley.edu/pix2pix/datasets"


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Side-by-side pairs that come as one tar.gz archive."""

    name: str
    """of the archive, and of the folder in it"""
    splits: Mapping[str, int]
    """folders, and how many pictures each holds"""
    size_px: tuple[int, int]
    """width and height of every picture: two halves side by side"""
    url: str
    """where the archive is published"""
    plain_url: str | None = None
    """the same without encryption, for where that cannot be had"""
    sha256: str | None = None
    """of the archive, in hexadecimal; None where its publisher names none"""

    @property
    def pictures(self) -> int:
        """Number of pictures in all splits."""
        return sum(self.splits.values())

    @property
    def max_bytes(self) -> int:
        """What an honest archive unpacks to at most: its pixels uncompressed, 4 KiB a file for the rest."""
        width, height = self.size_px
        return self.pictures * (3 * width * height + 4096) + 2**20

    @property
    def urls(self) -> tuple[str, ...]:
        """Where it is published, the encrypted address first."""
        return (self.url,) if self.plain_url is None else (self.url, self.plain_url)

    @property
    def max_members(self) -> int:
        """How many members an honest archive has at most: some systems add a second file to each."""
        return 2 * self.pictures + 100


def _pix2pix(name: str, size_px: tuple[int, int], **splits: int) -> Dataset:
    url = f"{_OFFICIAL}/{name}.tar.gz"
    plain_url = url.replace("https:", "http:", 1)
    return Dataset(name=name, splits=splits, size_px=size_px, url=url, plain_url=plain_url)


# Isola et al. 2017, the archives their authors publish. No sha256 is published with them, so none is pinned:
# what came first is recorded and held against what comes later.
DATASETS = {
    dataset.name: dataset
    for dataset in (
        _pix2pix("facades", (512, 256), train=400, val=100, test=106),
        _pix2pix("maps", (1200, 600), train=1096, val=1098),
        _pix2pix("cityscapes", (512, 256), train=2975, val=500),
        _pix2pix("edges2shoes", (512, 256), train=49825, val=200),
    )
}


def verify_structure(folder: Path, dataset: Dataset) -> None:
    """Hold a folder against what the data set is known to hold: the count and the size of its pictures.

    Sizes come from the pictures' headers; nothing is decoded (`steadypix_data check` does that).

    Raises:
        InputError: one line that names what was found and what was expected.
    """
    from steadypix.data.pictures.listing import list_images

    files = {
        split: list_images(folder / split) if (folder / split).is_dir() else None for split in dataset.splits
    }
    found = {split: None if paths is None else len(paths) for split, paths in files.items()}
    if found != dict(dataset.splits):
        here = ", ".join(
            f"no {split}/" if count is None else f"{split} {count}" for split, count in found.items()
        )
        expected = ", ".join(f"{split} {count}" for split, count in dataset.splits.items())
        raise InputError(f"{folder}: holds {here} pictures; {dataset.name} has {expected}")
    pictures = [path for paths in files.values() for path in paths or ()]
    for path in progress(pictures, len(pictures), unit="picture"):
        size = _size_px(path)
        if size != dataset.size_px:
            raise InputError(
                f"{path}: is {size[0]}x{size[1]} px; "
                f"every picture of {dataset.name} is {dataset.size_px[0]}x{dataset.size_px[1]} px"
            )


def leave_out_the_rest(folder: Path, dataset: Dataset) -> list[str]:
    """Remove from a freshly unpacked data set whatever is no picture of its splits; return the names.

    That the pictures are pictures is for `verify_structure` to say.
    """
    from steadypix.data.pictures.listing import list_images

    keep = {path for split in dataset.splits for path in list_images(folder / split)}
    left_out = []
    for path in sorted(folder.rglob("*"), reverse=True):  # what lies in a folder before the folder
        if path.is_dir():
            if path.parent != folder or path.name not in dataset.splits:
                path.rmdir()
        elif path not in keep:
            left_out.append(path.relative_to(folder).as_posix())
            path.unlink()
    return left_out[::-1]


def download_hint(source: str) -> str:
    """Return how to fetch a folder that is missing and named as a known data set; else nothing."""
    path = Path(source)
    if path.name not in DATASETS:
        return ""
    return f"; `steadypix_data download {path.name} --out {path.parent}` fetches it"


def _size_px(path: Path) -> tuple[int, int]:
    from PIL import Image

    from steadypix.data.pictures.images import open_picture

    try:
        with open_picture(path) as image:
            return image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: cannot be read as an image ({error})") from None
