"""Fashion-MNIST by its name or its folder, both splits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from steadypix.data.labelled.fashion_mnist import NAME
from steadypix.errors import InputError

if TYPE_CHECKING:
    from steadypix.data.labelled.labelled import Labelled

DATASETS = Path("datasets")


def open_data(source: str) -> tuple[Labelled, Labelled]:
    """Open both splits; Fashion-MNIST by name is downloaded unless a folder of that name is here.

    Raises:
        InputError: if there is no such folder, or it holds other files.
    """
    from steadypix.data.download.fashion_mnist import download_fashion_mnist
    from steadypix.data.labelled.fashion_mnist import is_fashion_mnist
    from steadypix.data.labelled.labelled import open_labelled

    folder = Path(source)
    if source == NAME and not folder.is_dir():
        folder = DATASETS / NAME
        download_fashion_mnist(folder)
    if folder.is_dir() and not is_fashion_mnist(folder):
        raise InputError(f"{folder}: holds no idx files of Fashion-MNIST")
    return open_labelled(folder, "train"), open_labelled(folder, "test")
