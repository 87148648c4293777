"""One way to open any source of pairs by name: a folder, or procedural pictures."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from steadypix.data.download.catalogue import download_hint
from steadypix.data.pairs.base import Pairs
from steadypix.data.pairs.folders import PairedImages
from steadypix.data.pairs.procedural import SyntheticPairs
from steadypix.data.scenes.render import KINDS
from steadypix.errors import InputError

SYNTHETIC = {f"synthetic-{kind}": kind for kind in KINDS}


def open_pairs(
    source: str,
    split: str,
    *,
    synthetic_count: int = 400,
    input_channels: int = 3,
    output_channels: int = 3,
    **options: Any,
) -> Pairs:
    """Open pairs from a folder or from the procedural scenes.

    Args:
        source: a folder, `synthetic-facades`, or `synthetic-maps`.
        split: `train`, `val`, `test` or another folder name.
        synthetic_count: number of procedural pairs.
        input_channels: see `steadypix.data.pairs.folders.PairedImages`; procedural pictures are RGB.
        output_channels: the same for the target.
        **options: see `steadypix.data.pairs.base.Pairs`.

    Raises:
        InputError: if there is no such source, or it does not have these channels.
    """
    if source in SYNTHETIC:
        if (input_channels, output_channels) != (3, 3):
            raise InputError(
                f"{source}: is RGB, but the generator maps {input_channels} to {output_channels} channels"
            )
        return SyntheticPairs(SYNTHETIC[source], split, count=synthetic_count, **options)
    if not Path(source).is_dir():
        raise InputError(
            f"{source}: no such folder of pairs; expected a folder or one of {', '.join(SYNTHETIC)}"
            f"{download_hint(source)}"
        )
    return PairedImages(
        source, split, input_channels=input_channels, output_channels=output_channels, **options
    )


def fingerprint(pairs: Pairs) -> str:
    """Return what tells one set of pairs from another: a digest of their names, and how many there are.

    The pictures themselves are not read. Wherever the same folder lies, its fingerprint is the same.
    """
    digest = hashlib.sha256("\n".join(pairs.name(index) for index in range(len(pairs))).encode())
    return f"{len(pairs)} pairs, {digest.hexdigest()[:12]}"
