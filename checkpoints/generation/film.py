"""A film translated as one sequence: its frames, kept one by one beside the output until all are encoded.

`OUT.unfinished/` holds every translated frame as `NUMBER.TIME.png`, without loss, and what the sequence is of
(see `sequence`). The next run goes on with them; encoding is done at the end, in one go.
"""

from __future__ import annotations

import contextlib
import functools
import re
import shutil
import sys
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from steadypix.checkpoints.generation.sequence import Translator, Unfinished, options_of, stamp, versions
from steadypix.data.pictures import video
from steadypix.data.pictures.images import Picture, read_image
from steadypix.errors import InputError
from steadypix.files import TEMPORARY, write_whole
from steadypix.progress import progress

if TYPE_CHECKING:
    import argparse

TRY = "try"  # a film without frames, written before any work is done
KEPT = re.compile(r"\d{8,}\.(-?\d+)\.png")  # the time in ticks of the film


def translate_film(
    args: argparse.Namespace, translator: Translator, *, out_channels: int, digest: str, device: str
) -> int:
    """Translate a film frame by frame; return the exit code. The output is there whole or not at all.

    Args:
        args: of the command.
        translator: the generator, its norms not yet frozen unless by a file.
        out_channels: that it makes.
        digest: of the generator's file.
        device: where it runs.

    Raises:
        InputError: naming the film, if it cannot be read to its end or written with this codec and sound.
    """
    source, out = args.inputs[0], args.out
    if out_channels not in (1, 3):
        raise InputError(f"{args.checkpoint}: makes {out_channels} channels; a film holds 1 or 3")
    if out.resolve() == source.resolve():
        raise InputError(f"{source}: would be overwritten by its own output; expected another --out")
    known = {**versions(), "av": video.version()}
    film = video.survey(source)
    if film.left_out:
        print(f"generate: left out: {', '.join(film.left_out)}", file=sys.stderr)
    work = out.with_name(f"{out.name}.unfinished")
    same = {"generator": digest, "options": options_of(args, device), "versions": known}
    state = Unfinished(work, same, [(source.name, stamp(source))])
    write = functools.partial(video.write_film, film=film, name=out, codec=args.codec, crf=args.crf)
    kept = _kept(work) if state.is_there else []
    if kept:
        state.go_on([0])
        _remove_half_written(out)
        if args.statistics == "first":
            translator.freeze_again(state.statistics)
        print(f"generate: going on after {len(kept)} of {film.frames} frames", file=sys.stderr)
    else:
        _begin(args, translator, film, state, write)
    frames = progress(video.read_frames(film, skip=len(kept)), film.frames - len(kept), unit="frame")
    for number, (time, pixels) in enumerate(frames, len(kept)):
        where = f"{source}: frame {number + 1}"
        made = translator(Picture(source, pixels).with_channels(translator.channels), where)
        file = work / f"{number:08d}.{time}.png"
        write_whole(file, functools.partial(_write_frame, pixels=made))
        kept.append(file)
    with contextlib.closing(_read(kept, out_channels)) as coded:  # closed, its bar stands above an error
        write_whole(out, functools.partial(write, times=[_time(file) for file in kept], frames=coded))
    state.finish()
    height, width = read_image(kept[0], out_channels).shape[:2]
    shutil.rmtree(work)
    print(f"wrote {len(kept)} frames to {out}{_left_off(out, width, height)}", file=sys.stderr)
    return 0


def _begin(
    args: argparse.Namespace,
    translator: Translator,
    film: video.Film,
    state: Unfinished,
    write: Callable[..., None],
) -> None:
    """Try what would fail at the end, freeze the norms by the first frame, and write down what begins."""
    _, pixels = next(video.read_frames(film))
    had = state.folder.exists()
    try:
        write_whole(state.folder / TRY, functools.partial(write, times=[], frames=[]))
        for file in state.folder.iterdir():  # of a run whose state somebody deleted, and the try
            if KEPT.fullmatch(file.name) or TEMPORARY.fullmatch(file.name) or file.name == TRY:
                file.unlink()
        if args.statistics == "first":
            pixels = Picture(film.path, pixels).with_channels(translator.channels)
            translator.freeze_by(pixels, f"{film.path}: frame 1", state.statistics)
    except InputError:
        if not had:
            shutil.rmtree(state.folder)
        raise
    state.begin((film.height, film.width), [])


def _remove_half_written(out: Path) -> None:
    """Remove what a kill left of a film that was being encoded."""
    half_written = re.compile(rf"\.{re.escape(out.stem)}\.\d+\.tmp{re.escape(out.suffix)}")  # see TEMPORARY
    for file in out.parent.iterdir():
        if half_written.fullmatch(file.name):  # and not of `out.b.mp4`, which another command may be at
            file.unlink()


def _left_off(out: Path, width: int, height: int) -> str:
    """Say what is not in a film that holds even sizes only."""
    film = video.survey(out)
    sides = (("row", film.height, height), ("column", film.width, width))
    names = [name for name, there, was in sides if there < was]
    return f", without the last {' and '.join(names)}: its codec wants even sizes" if names else ""


def _kept(work: Path) -> list[Path]:
    """Return the frames that are there, from the first one without a gap."""
    files = sorted(file for file in work.iterdir() if KEPT.fullmatch(file.name))
    return [file for place, file in enumerate(files) if file.name.startswith(f"{place:08d}.")]


def _time(file: Path) -> int:
    found = KEPT.fullmatch(file.name)
    assert found is not None
    return int(found[1])


def _write_frame(path: Path, pixels: np.ndarray) -> None:
    from PIL import Image

    plain = np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    Image.fromarray(plain).save(path, format="PNG", compress_level=1)  # a third of the time of the default


def _read(files: Sequence[Path], channels: int) -> Generator[np.ndarray]:
    for file in progress(files, len(files), unit="frame encoded"):
        yield read_image(file, channels)
