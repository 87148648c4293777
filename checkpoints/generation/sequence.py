"""Frames of a folder as one sequence: one set of statistics, and the next run goes on where one stopped.

While a sequence is unfinished, the folder of its outputs holds `unfinished.json`, which says what it is of,
and `unfinished.safetensors`, the statistics that its first frame was normalised by. Every frame is written
whole, so those that are there are kept.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steadypix.command import version
from steadypix.data.pictures.inputs import collect, read_input
from steadypix.errors import InputError, printable
from steadypix.files import TEMPORARY, write_text
from steadypix.progress import progress

if TYPE_CHECKING:
    import argparse

    import numpy as np
    from torch import nn

STATE, STATISTICS = "unfinished.json", "unfinished.safetensors"
FORMAT = "steadypix.sequence"
# What must be the same to go on, and how a message says that it is not.
SAME = {"generator": "another generator", "options": "other options", "versions": "other versions"}
MOST_NAMES = 10  # of files left out that are named one by one
Stamp = tuple[int, ...]


@dataclass(frozen=True)
class Translator:
    """A generator that is shown one frame after the other.

    Attributes:
        name: of the generator, as it was typed.
        generator: maps (1, C, H, W) to (1, C', H', W').
        channels: that it takes.
        prepare: makes of pixels (H, W, C) what `gather` and `run` take.
        run: returns the output's pixels, None if they are not finite.
    """

    name: str
    generator: nn.Module
    channels: int
    prepare: Callable[[np.ndarray], Any]
    run: Callable[[Any], np.ndarray | None]

    def __call__(self, pixels: np.ndarray, where: str) -> np.ndarray:
        """Return the output (H', W', C') of pixels (H, W, C).

        Raises:
            InputError: naming generator and frame (`where`), if the generator cannot translate it.
        """
        made = self._named(where, lambda: self.run(self.prepare(pixels)))
        if made is None:
            raise InputError(f"{self.name}: makes an output of {where} that is not finite (NaN or infinity)")
        return made

    def freeze_by(self, pixels: np.ndarray, where: str, keep: Path) -> None:
        """Freeze the norms by what they see in one frame, and keep that in a file; see `freeze_again`."""
        from steadypix.gen.large.frozen import freeze, gather, looking_norms, save_statistics

        if looking_norms(self.generator):
            statistics = self._named(where, lambda: gather(self.generator, [self.prepare(pixels)]))
            save_statistics(keep, statistics, pictures=1)
            freeze(self.generator, statistics)

    def freeze_again(self, kept: Path) -> None:
        """Freeze the norms as `freeze_by` did.

        Raises:
            CheckpointError: if the file is missing, damaged, or of another generator.
        """
        from steadypix.gen.large.frozen import freeze, load_statistics, looking_norms

        if looking_norms(self.generator):
            freeze(self.generator, load_statistics(kept, self.generator))

    def _named(self, where: str, work: Callable[[], Any]) -> Any:
        from steadypix.gen.large.maps import NotInStrips

        try:
            return work()
        except NotInStrips as error:
            raise InputError(f"{self.name}: --tile cannot run {error}; expected --statistics tile") from None
        except InputError as error:  # a program that takes pictures of another size
            raise InputError(f"{self.name} on {where}: {error}") from None


class Unfinished:
    """What a sequence that is not finished is of, in a file beside what is done of it.

    Args:
        folder: of the outputs.
        same: JSON values by the keys of `SAME`, which must be the same to go on.
        inputs: of every input in order its name and a stamp (size and time), by which a change is seen.
    """

    def __init__(
        self, folder: Path, same: Mapping[str, Any], inputs: Sequence[tuple[str, Sequence[int]]]
    ) -> None:
        self.folder = folder
        self.path = folder / STATE
        self.statistics = folder / STATISTICS
        self._same = json.loads(json.dumps(same))
        self._inputs = [[name, list(stamp)] for name, stamp in inputs]
        self._earlier: dict[str, list[int]] = {}
        self.size: tuple[int, ...] = ()
        self._found = self._read()

    @property
    def is_there(self) -> bool:
        """Whether an earlier run left something to go on with."""
        return self._found is not None

    def done(self, output: Path) -> bool:
        """Whether an output was written by an unfinished run, and not before it."""
        return self.is_there and output.is_file() and self._earlier.get(output.name) != identity(output)

    def begin(self, size: Sequence[int], outputs: Sequence[Path]) -> None:
        """Write down that a sequence of this size (H, W) begins; outputs that are there are not its own."""
        self._earlier = {out.name: identity(out) for out in outputs if out.is_file()}
        self.size = tuple(size)
        self._write()

    def go_on(self, done: Collection[int]) -> None:
        """Check that what is done is of the same inputs, and write down what the others are now.

        Args:
            done: which inputs, by their place.

        Raises:
            InputError: naming what is different.
        """
        assert self._found is not None
        for key, words in SAME.items():
            found, now = self._found[key], self._same[key]
            if found != now:
                raise self._other(f"{words}{_differences(found, now)}")
        names = [name for name, _ in self._inputs]
        before = [name for name, _ in self._found["inputs"]]
        if before != names:
            changed = sorted(set(map(str, before)) ^ set(map(str, names))) or ["another order"]
            raise self._other(f"other inputs ({changed[0]})")
        for place in sorted(done):
            if self._found["inputs"][place] != self._inputs[place]:
                raise self._other(f"{names[place]} as it was before it changed")
        for file in self.folder.iterdir():  # what a kill left half-written
            if TEMPORARY.fullmatch(file.name):
                file.unlink()
        self._write()

    def finish(self) -> None:
        """Remove what only an unfinished sequence needs."""
        self.path.unlink()
        self.statistics.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any] | None:
        if not self.path.is_file():
            return None
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            if found["format"] != FORMAT or not found.keys() >= SAME.keys():
                raise ValueError("another format")
            for name, stamp in found["inputs"]:
                if not isinstance(name, str) or not isinstance(stamp, list):
                    raise ValueError("no inputs")
            self._earlier, self.size = dict(found["earlier"]), tuple(map(int, found["size"]))
        except (ValueError, KeyError, TypeError, RecursionError):
            raise InputError(f"{self.path}: is damaged; delete it to start again") from None
        return dict(found)

    def _write(self) -> None:
        content = {
            "format": FORMAT,
            **self._same,
            "size": self.size,
            "inputs": self._inputs,
            "earlier": self._earlier,
        }
        write_text(self.path, json.dumps(content) + "\n")

    def _other(self, what: str) -> InputError:
        return InputError(
            f"{self.folder}: holds an unfinished sequence of {what}; repeat its command, or delete {STATE} "
            "there to start again"
        )


def _differences(found: Any, now: Any) -> str:
    if not isinstance(found, dict) or not isinstance(now, dict):
        return ""
    keys = sorted(key for key in found.keys() | now.keys() if found.get(key) != now.get(key))
    return f" ({', '.join(f'{key} {found.get(key)}, now {now.get(key)}' for key in keys)})"


def identity(file: Path) -> list[int]:
    """Return what tells one file from another that takes its name later."""
    found = file.stat()
    return [found.st_ino, found.st_size, found.st_mtime_ns]


def stamp(file: Path) -> list[int]:
    """Return size and time of a file, by which a change is seen."""
    found = file.stat()
    return [found.st_size, found.st_mtime_ns]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that sequences and films have."""
    parser.add_argument(
        "--sequence",
        action="store_true",
        help="INPUT is one folder of frames in natural order, all of one size: one set of statistics for all "
        "(default: the first one's), and the same command goes on where it was stopped. The same for a film: "
        "INPUT is in.mp4, --out is out.mp4; its sound is copied",
    )
    parser.add_argument("--codec", metavar="NAME", help="encoder of a film (default: the container's)")
    parser.add_argument("--crf", type=float, metavar="X", help="quality of a film's encoder, less is better")


def settle(args: argparse.Namespace) -> None:
    """Check the options that belong together; set `args.film` and the default of `args.statistics`.

    Raises:
        InputError: saying what was expected.
    """
    from steadypix.data.pictures.video import FORMATS, is_film

    films = [path for path in args.inputs if is_film(path)]
    args.film = bool(films) or (args.out.suffix.lower() in FORMATS and not args.out.is_dir())
    if args.film:
        if len(args.inputs) != 1 or not films or args.out.suffix.lower() not in FORMATS:
            what = films[0] if films else args.out
            expected = f"one film alone, and --out FILE with {', '.join(sorted(FORMATS))}"
            raise InputError(f"{what}: is a film; expected {expected}")
        if args.bits != 8 or args.format:
            raise InputError(
                f"--out {args.out}: a film has 8 bits a channel; expected no --bits and --format"
            )
    elif args.codec or args.crf is not None:
        raise InputError("--codec and --crf are options of films; expected --out out.mp4, for example")
    elif args.sequence and (len(args.inputs) != 1 or args.inputs[0].is_file()):
        raise InputError(f"--sequence: takes one folder of frames; got {' '.join(map(str, args.inputs))}")
    whole = args.sequence or args.film
    if whole and args.statistics == "picture":
        raise InputError(
            "--statistics picture: a sequence has one set of statistics; expected first or a file"
        )
    args.statistics = args.statistics or ("first" if whole else "picture")


def options_of(args: argparse.Namespace, device: str) -> dict[str, Any]:
    """Return the options that pixels depend on, as JSON values."""
    statistics = args.statistics
    if statistics not in ("first", "tile"):
        statistics = hashlib.sha256(Path(statistics).read_bytes()).hexdigest()
    tiles = {"tile": args.tile, "batch_size": args.batch_size} if args.tile else {}
    return {"bits": args.bits, "format": args.format, "statistics": statistics, "device": device, **tiles}


def versions() -> dict[str, str]:
    """Return the versions that pixels depend on."""
    import torch

    return {"steadypix": version(), "torch": torch.__version__}


def translate_folder(
    args: argparse.Namespace, translator: Translator, *, suffix: str, digest: str, device: str
) -> int:
    """Translate the pictures of one folder as a sequence; return the exit code.

    Args:
        args: of the command.
        translator: the generator, its norms not yet frozen unless by a file.
        suffix: of the outputs.
        digest: of the generator's file.
        device: where it runs.

    Raises:
        InputError: naming the first frame that cannot be read or is of another size; what is written stays.
    """
    from steadypix.data.pictures.saving import OVERWRITE, refuse_foreign, save_image

    folder: Path = args.inputs[0]
    frames = collect(args.inputs)
    if args.out.resolve() == folder.resolve():
        raise InputError(f"--out {args.out}: holds the frames themselves; expected another folder")
    _name_left_out(folder, list(frames.values()))
    outputs = {args.out / f"{stem}{suffix}": file for stem, file in frames.items()}
    if not args.overwrite:
        refuse_foreign(outputs, expected=OVERWRITE)
    same = {"generator": digest, "options": options_of(args, device), "versions": versions()}
    state = Unfinished(args.out, same, [(file.name, stamp(file)) for file in outputs.values()])
    done = {place for place, out in enumerate(outputs) if state.done(out)}
    first = next(iter(outputs.values()))
    if done:
        state.go_on(done)
        if args.statistics == "first" and len(done) < len(outputs):
            translator.freeze_again(state.statistics)
        print(f"generate: going on after {len(done)} of {len(outputs)} frames", file=sys.stderr)
    else:
        pixels = read_input(first, translator.channels).pixels
        if args.statistics == "first":
            translator.freeze_by(pixels, str(first), state.statistics)
        state.begin(pixels.shape[:2], list(outputs))
    missing = [item for place, item in enumerate(outputs.items()) if place not in done]
    for out, file in progress(missing, len(missing), unit="frame"):
        picture = read_input(file, translator.channels)
        if picture.pixels.shape[:2] != state.size:
            (height, width), (tall, wide) = picture.pixels.shape[:2], state.size
            expected = f"{wide} x {tall} px, the size of the first, {first.name}"
            raise InputError(f"{file}: is {width} x {height} px; expected {expected}")
        save_image(out, translator(picture.pixels, str(file)), picture.alpha)
    state.finish()
    print(f"wrote {len(outputs)} frames to {args.out}", file=sys.stderr)
    return 0


def _name_left_out(folder: Path, frames: Sequence[Path]) -> None:
    names = {frame.name for frame in frames}
    others = sorted(path.name for path in folder.iterdir() if path.is_file() and path.name not in names)
    if others:
        more = f" and {len(others) - MOST_NAMES} more" if len(others) > MOST_NAMES else ""
        shown = printable(", ".join(others[:MOST_NAMES]))
        print(f"generate: left out, as they are no pictures: {shown}{more}", file=sys.stderr)
