"""The commands that soaks disturb: what each is run on, and whether what it leaves is whole and the same."""

from __future__ import annotations

import contextlib
import datetime
import functools
import http.server
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image

import steadypix.eval.eval_stability
from soak import forked
from soak.seeds import SIZES
from steadypix.checkpoints.export import main as export
from steadypix.checkpoints.generate import main as generate
from steadypix.checkpoints.generation import large as by_rows
from steadypix.checkpoints.generation.freeze import main as statistics
from steadypix.checkpoints.retrofitting.command import main as retrofit
from steadypix.data.cli import main as steadypix_data
from steadypix.data.download.catalogue import DATASETS, verify_structure
from steadypix.data.download.obtain import RECORD, read_record
from steadypix.data.pictures.images import FORMATS
from steadypix.eval.classifiers import flips, study, training
from steadypix.eval.classifiers.file import save_classifier
from steadypix.eval.eval_classifiers import main as eval_classifiers
from steadypix.eval.eval_consistency import main as eval_consistency
from steadypix.eval.eval_features import main as eval_features
from steadypix.eval.eval_sequence import main as eval_sequence
from steadypix.eval.eval_stability import main as eval_stability
from steadypix.eval.generators.loading import load_generator
from steadypix.eval.results.schema import read_results
from steadypix.files import TEMPORARY
from steadypix.gen.weights.tensors import read_tensors
from tests.archives import TINY, Server, archive_of, honest_members
from tests.classifiers import classifier as one_classifier
from tests.classifiers import write_fashion_mnist
from train_pix2pix import main as train_pix2pix

NAMES: tuple[str, ...] = ("train", "eval", "generate", "tiles", "sequence", "synthetic", "download")
NAMES += ("retrofit", "onnx", "pt2", "statistics", "sheet", "look", "features", "classifiers", "consistency")
TRAIN = [*SIZES, "--discriminator.ndf=4", "--discriminator.n_layers=1", "--data.synthetic_count=2"]
TRAIN += ["--device=cpu", "--train.epochs=2", "--train.ema=0.9", "--train.best_by=l1", "--train.val_limit=1"]
TRAIN += ["--train.log_every_steps=1", "--train.keep_every=1", "--train.save_every_s=0"]
MEASURE = ["--shifts", "0..1", "--limit", "2", "--device", "cpu"]


class Lost(RuntimeError):
    """A command did what it must not when a call failed."""


@dataclass(frozen=True)
class Case:
    """A command, and the folder that it writes to.

    Attributes:
        run: the command; it takes the folder and returns the exit code.
        again: the command that goes on after a failure, where that is another one.
    """

    run: Callable[[Path], int]
    again: Callable[[Path], int] | None = None


# ---- the commands -----------------------------------------------------------------------------------------


def make_cases(work: Path, url: str) -> dict[str, Case]:
    """Make what the commands need; return them by name.

    Args:
        work: where they find it.
        url: of the archive that is downloaded.
    """
    run, pictures = work / "run", work / "pictures"
    pictures.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(rng.integers(0, 256, (32, 40, 3), dtype=np.uint8)).save(pictures / name)
    large = work / "large.tif"
    Image.fromarray(rng.integers(0, 256, (96, 64, 3), dtype=np.uint8)).save(large)
    _must(lambda: train_pix2pix([*TRAIN, "--out", str(run)]), work)
    pairs = ["synthetic", "facades", "--size", "32", "--train", "2", "--test", "1"]
    plain = ["--device", "cpu"]

    def made(main: Callable[[Sequence[str]], int], *argv: str) -> Callable[[Path], int]:
        return lambda out: main([*argv, "--out", str(out)])

    def tiles(out: Path) -> int:
        by_rows.KEEP_SAMPLES = 0  # as if the picture were too large for the memory
        argv = [str(run), str(large), "--tile", "32", "--format", "tiff", *plain]
        return made(generate, *argv)(out)

    def download(out: Path) -> int:
        DATASETS["facades"] = TINY
        return made(steadypix_data, "download", "facades", "--url", url)(out)

    def exported(suffix: str) -> Callable[[Path], int]:
        return lambda out: export([str(run), "--out", str(out / f"net.{suffix}")])

    labelled, classifier = write_fashion_mnist(work / "labelled"), work / "classifier"
    _must(lambda: train_pix2pix([*TRAIN, "--generator.norm=instance", "--out", str(work / "instance")]), work)
    looking = [str(work / "instance"), str(pictures), *plain]  # one whose norm looks at the picture
    drawn = ["sheet", "maps", "--count", "2", "--size", "32"]
    known = ["--data", str(labelled), "--limit", "4", *plain]
    save_classifier(classifier / "classifier.safetensors", one_classifier())

    def classifiers(out: Path) -> int:
        flips.FRAMES, study.FEATURE_SHIFTS = 3, (0, 8)
        few = ["--seeds", "1", "--epochs", "1", "--width", "8", "--train_limit", "10", *known]
        return made(eval_classifiers, *few, "--networks", "vgg11_bn", "--filters", "bin5")(out)

    return {
        "train": Case(made(train_pix2pix, *TRAIN)),
        "eval": Case(made(eval_stability, str(run), *MEASURE)),
        "generate": Case(made(generate, str(run), str(pictures), *plain)),
        "tiles": Case(tiles),
        "sequence": Case(made(generate, str(run), str(pictures), "--sequence", *plain)),
        "synthetic": Case(made(steadypix_data, *pairs), made(steadypix_data, *pairs, "--overwrite")),
        "download": Case(download),
        "retrofit": Case(made(retrofit, str(run), "--data", str(pictures), "--steps", "2", *plain)),
        "onnx": Case(exported("onnx")),
        "pt2": Case(exported("pt2")),
        "statistics": Case(lambda out: statistics([*looking, "--out", str(out / "frozen.safetensors")])),
        "sheet": Case(lambda out: steadypix_data([*drawn, "--out", str(out / "sheet.png")])),
        "look": Case(made(eval_sequence, str(pictures), str(pictures))),
        "features": Case(made(eval_features, str(run), "--shifts", "0..1", "--limit", "1", *plain)),
        "classifiers": Case(classifiers),
        "consistency": Case(made(eval_consistency, str(classifier), *known)),
    }


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """Serve the archive of a tiny data set in a process of its own; yield the address."""
    server = Server(archive_of(honest_members()))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.answer(self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as listener:
        child = os.fork()
        if not child:
            listener.serve_forever()
        port = listener.server_address[1]
    try:
        yield f"http://127.0.0.1:{port}/facades.tar.gz"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _must(run: Callable[[], int], work: Path) -> None:
    if forked.end(forked.start(run, work / "said")):
        raise RuntimeError((work / "said").read_text())


class _Frozen(datetime.datetime):
    """A clock that stands still, so that two results can be equal to the byte."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> _Frozen:
        return cls(2000, 1, 1, tzinfo=tz)


def stop_the_clock() -> None:
    """Give every result the same time stamp and no duration, in this process and its children."""
    stopped = type(sys)("datetime")
    stopped.__dict__.update({**vars(datetime), "datetime": _Frozen})
    steadypix.eval.eval_stability.datetime = stopped
    timeless = type(sys)("time")
    timeless.__dict__.update({**vars(time), "perf_counter": lambda: 0.0})
    study.time = training.time = timeless


# ---- what they leave --------------------------------------------------------------------------------------


def read_everything(out: Path) -> None:
    """Read whatever bears a final name, as its reader does.

    Raises:
        Lost: naming what is no more than a half.
    """
    for path in sorted(out.rglob("*")):
        if path.is_dir() or any(part.startswith(".") for part in path.relative_to(out).parts[:-1]):
            continue  # `.NAME.partial/` and the like are where work is not finished
        if TEMPORARY.fullmatch(path.name) or (path.name.startswith(".") and path.name != RECORD):
            continue
        try:
            read(path)
        except Exception as error:
            raise Lost(f"{path.relative_to(out)} is there, and is not whole: {error}") from error


def read(path: Path) -> None:
    """Read a file as what its name says it is."""
    readers: dict[str, Callable[[Path], object]] = {
        ".safetensors": load_generator if path.name.startswith("generator") else read_tensors,
        ".onnx": load_generator,
        ".pt2": functools.partial(load_generator, trust=True),
        ".json": _read_json,
        ".jsonl": _read_lines,
        ".yaml": lambda file: yaml.safe_load(file.read_text(encoding="utf-8")),
        ".html": functools.partial(_ends_with, end="</html>"),
        ".md": functools.partial(_ends_with, end=""),
        ".csv": functools.partial(_ends_with, end=""),
    }
    readers.get(path.suffix, _read_picture)(path)
    if path.name == RECORD:
        read_record(path.parent)
    if path.parts[-3:-2] == (TINY.name,):
        verify_structure(path.parent.parent, TINY)


def _read_json(path: Path) -> None:
    """Read JSON, and the results of an evaluation of generators as the report does."""
    if "models" in json.loads(path.read_text(encoding="utf-8")) and path.name == "results.json":
        read_results(path)


def _read_lines(path: Path) -> None:
    """Read what is appended to: the last line may be one half, and its reader drops it."""
    for line in path.read_text(encoding="utf-8").splitlines()[:-1]:
        json.loads(line)


def _ends_with(path: Path, end: str) -> None:
    if not path.read_text(encoding="utf-8").rstrip("\n").endswith(end):
        raise ValueError("it has no end")


def _read_picture(path: Path) -> None:
    with Image.open(path, formats=FORMATS) as image:
        image.load()


def tree(out: Path) -> dict[str, bytes]:
    """Return all that lies in a folder, without what differs from run to run: the seconds that it took."""
    return {
        path.relative_to(out).as_posix(): content(path) for path in sorted(out.rglob("*")) if path.is_file()
    }


def content(path: Path) -> bytes:
    """Return what is in a file, as far as it is the same every time."""
    if path.suffix == ".pt2":  # torch writes down where in which process what came from
        program = load_generator(path, trust=True)
        with torch.no_grad():
            made: bytes = program(torch.linspace(-1, 1, 3 * 32 * 32).reshape(1, 3, 32, 32)).numpy().tobytes()
        return made
    if path.name == "metrics.jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        return repr([{k: v for k, v in row.items() if k != "images_per_s"} for row in rows]).encode()
    return path.read_bytes()


def must_equal(out: Path, whole: dict[str, bytes], what: str) -> None:
    """Hold what lies in a folder against what an undisturbed command leaves.

    Raises:
        Lost: naming what differs.
    """
    found = tree(out)
    differ = sorted(name for name in found.keys() | whole.keys() if found.get(name) != whole.get(name))
    if differ:
        raise Lost(f"{what} leaves others: {', '.join(differ)}")
