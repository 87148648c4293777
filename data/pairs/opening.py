"""One way to open any source of pairs by name: a folder, or procedural pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from steadypix.data.download.catalogue import download_hint
from steadypix.data.pairs.base import Pairs
from steadypix.data.pairs.folders import SIDES, TRAIN, VALIDATION, PairedImages
from steadypix.data.pairs.procedural import SyntheticPairs
from steadypix.data.pairs.singles import SinglePictures, count_halves
from steadypix.data.pictures.listing import list_images
from steadypix.data.scenes.render import KINDS
from steadypix.errors import InputError

_OF_PAIRS = ("synthetic_count", "output_channels", "hold_out_seed")
SYNTHETIC = {f"synthetic-{kind}": kind for kind in KINDS}


def open_pairs(
    source: str,
    split: str,
    *,
    synthetic_count: int = 400,
    input_channels: int = 3,
    output_channels: int = 3,
    resize: str = "square",
    hold_out_seed: int | None = None,
    **options: Any,
) -> Pairs:
    """Open pairs from a folder or from the procedural scenes.

    Args:
        source: a folder, `synthetic-facades`, or `synthetic-maps`.
        split: `train`, `val`, `test` or another folder name.
        synthetic_count: number of procedural pairs.
        input_channels: see `steadypix.data.pairs.folders.PairedImages`; procedural pictures are RGB.
        output_channels: the same for the target.
        resize: see there; procedural pictures are squares.
        hold_out_seed: see there; procedural splits never meet.
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
        source,
        split,
        input_channels=input_channels,
        output_channels=output_channels,
        resize=resize,
        hold_out_seed=hold_out_seed,
        **options,
    )


def open_pictures(
    source: str, split: str | None, *, pairing: str = "auto", **options: Any
) -> tuple[Pairs, str | None, list[str]]:
    """Open the pictures of a folder for an evaluation, which can do without targets.

    Found by looking, unless `pairing` says so: pairs side by side (`ROOT/test`) or in two folders with the
    same names (`ROOT/testA`, `ROOT/testB`); else pictures without targets: those of `ROOT` itself, of `testA`
    alone, or, of two folders that share no name (CycleGAN's), of that side which is the input.

    Args:
        source: the folder.
        split: name of the split, or None: `test` or `val`, whichever there is, else the pictures of `source`
            itself.
        pairing: `auto`, `aligned` (pairs) or `none` (every file is a picture by itself).
        **options: see `open_pairs`.

    Returns:
        The pictures, the split they are of (None: they lie in `source` itself), and remarks on what was
        found.

    Raises:
        InputError: if there are none.
    """
    root = Path(source)
    splits = VALIDATION if split is None else (split,)
    there = next((name for name in splits if any((root / (name + end)).is_dir() for end in SIDES)), None)
    bare = there is None and split is None and root.is_dir() and bool(list_images(root))
    if there is None and not bare:  # for its message
        return open_pairs(source, splits[0], **options), splits[0], []
    single, remarks = _find_single(root, there, pairing, options.get("direction") == "AtoB")
    if single is None:
        return open_pairs(source, there or TRAIN, **options), there, remarks
    others = {key: value for key, value in options.items() if key not in _OF_PAIRS}
    return SinglePictures(single, **others), there, remarks


def _find_single(root: Path, split: str | None, pairing: str, forward: bool) -> tuple[Path | None, list[str]]:
    """Return the folder whose pictures are single, or None where there are pairs; and remarks."""
    whole = root if split is None else root / split
    sides = [] if split is None else [root / f"{split}{end}" for end in "AB"]
    present = [folder for folder in sides if folder.is_dir()]
    if len(present) == 2:
        names = [{path.stem for path in list_images(folder)} for folder in sides]
        unpaired = all(names) and names[0].isdisjoint(names[1])
        if pairing == "aligned" or (pairing == "auto" and not unpaired):
            return None, []
        chosen = sides[0 if forward else 1]
        note = f"{sides[0]} and {sides[1].name}: unpaired, so no targets; the inputs are {chosen.name}"
        return chosen, [f"{note} (see --direction)"]
    if present and not whole.is_dir():
        if pairing == "aligned":
            raise InputError(f"{present[0]}: has no partner folder beside it, so there are no pairs")
        return present[0], _remarks(present[0], paired=False)
    # Pictures of a split are pairs, as pix2pix keeps them; those that lie in no split are single.
    paired = pairing == "aligned" or (pairing == "auto" and split is not None)
    return None if paired else whole, _remarks(whole, paired=paired)


def _remarks(folder: Path, *, paired: bool) -> list[str]:
    """Say where pictures do not look like what they are taken for."""
    halves, looked_at = count_halves(list_images(folder))
    if paired and looked_at and 4 * halves <= looked_at:
        most = f"{looked_at - halves} of the first {looked_at} pictures look like one picture"
        return [f"{folder}: {most}, but are cut into two halves; if they are single, give --pairs none"]
    if not paired and 4 * halves >= 3 * looked_at > 0:
        most = f"{halves} of the first {looked_at} pictures look like two halves (input and target)"
        return [f"{folder}: {most}, but are taken as single ones; if they are pairs, give --pairs aligned"]
    return []
