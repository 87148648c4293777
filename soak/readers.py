"""Every reader of a file that a user may give, called as the commands call it."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from configs.load import build_parser, parse, to_yaml
from data.fashion_mnist import read_idx
from data.paired import read_image
from eval.classifier_file import load_classifier
from eval.exchange import MANIFEST, load_outputs
from eval.models import load_models
from eval.partial import Partial
from eval.report import write_report
from eval.results import lead_score
from eval.results_schema import read_results
from eval.sources import open_data
from gen import UNetGenerator, load_weights
from soak import seeds
from soak.containers import mutate_numbers, mutate_png, mutate_safetensors, mutate_zip
from soak.mutate import Mutator, mutate_bytes, mutate_json, mutate_lines, mutate_yaml
from train_pix2pix import main as train_pix2pix


@dataclass(frozen=True)
class Reader:
    """One reader, and what it is fed.

    Attributes:
        name: for people.
        share: of all inputs, relative to the others'.
        seeds: sound files by name.
        place: of a file, by its name.
        read: takes the file's path; returns an exit code if it is a whole command, which prints its messages.
        mutators: by the file's suffix; "" for any.
        names_key: its messages may name a key in the place of the file.
        limit_s: longest time.
        limit_mb: largest growth of memory; a picture may be as large as Pillow's limit lets its header say.
    """

    name: str
    share: int
    seeds: Mapping[str, bytes]
    place: Callable[[str], Path]
    read: Callable[[Path], int | None]
    mutators: Mapping[str, Sequence[Mutator]] = field(default_factory=dict)
    names_key: bool = False
    limit_s: float = 5.0
    limit_mb: float = 100.0

    def mutators_of(self, name: str) -> Sequence[Mutator]:
        """Return what may be done to a seed."""
        return (*self.mutators.get(Path(name).suffix, ()), *self.mutators.get("", (mutate_bytes,)))


def make_readers(work: Path) -> list[Reader]:
    """Return every reader, with sound files made below `work`."""
    folders = {}
    kinds = ("generators", "state", "published", "configs", "outputs", "partial", "images", "idx", "damaged")
    for name in (*kinds, "classifiers"):
        folders[name] = work / name
        folders[name].mkdir(parents=True)
    damaged = folders["damaged"]
    generators = seeds.generators(folders["generators"])
    published = seeds.published(folders["published"])
    seeds.evaluation(folders["generators"])
    seeds.outputs(folders["outputs"])
    results = folders["generators"] / "out"
    weights = (mutate_safetensors, mutate_safetensors, mutate_numbers, mutate_bytes)
    json_file = (mutate_json, mutate_json, mutate_json, mutate_bytes)

    def anywhere(name: str) -> Path:
        return damaged / name

    return [
        Reader("checkpoint", 20, generators, anywhere, _checkpoint, {"": weights}),
        Reader("weights", 10, _only(generators, "unet"), anywhere, _weights, {"": weights}),
        Reader(
            "state",
            4,
            seeds.state(folders["state"]),
            lambda name: work / "run" / "last" / name,
            _state,
            {"": weights},
            True,
            30.0,
        ),
        Reader(
            "classifier",
            8,
            seeds.classifiers(folders["classifiers"]),
            anywhere,
            _classifier,
            {"": weights},
        ),
        Reader("idx", 4, seeds.idx(folders["idx"]), anywhere, _idx),
        Reader("published", 16, published, anywhere, _checkpoint, {"": (mutate_bytes, mutate_zip_or_bytes)}),
        Reader(
            "config",
            12,
            seeds.configs(folders["configs"]),
            anywhere,
            _config,
            {"": (mutate_yaml, mutate_bytes)},
            True,
        ),
        Reader(
            "results",
            10,
            seeds.contents(results, "results.json"),
            lambda name: results / name,
            _report,
            {"": json_file},
        ),
        Reader("baseline", 5, seeds.contents(results, "results.json"), anywhere, _baseline, {"": json_file}),
        Reader(
            "frames",
            5,
            seeds.contents(results / "frames", "*"),
            lambda name: results / "frames" / name,
            _report,
            {".json": json_file, "": (mutate_bytes,)},
        ),
        Reader(
            "partial",
            5,
            seeds.partial(folders["partial"]),
            anywhere,
            _partial,
            {"": (mutate_lines, mutate_bytes)},
        ),
        Reader(
            "manifest",
            5,
            seeds.contents(folders["outputs"], MANIFEST),
            lambda name: folders["outputs"] / name,
            _manifest,
            {"": json_file},
        ),
        Reader(
            "image",
            20,
            seeds.images(folders["images"]),
            anywhere,
            _image,
            {".png": (mutate_png,), "": (mutate_bytes,)},
            limit_mb=1000.0,
        ),
    ]


def mutate_zip_or_bytes(rng: random.Random, data: bytes) -> bytes:
    """Damage an archive from inside, and a file of the older format anywhere."""
    return (mutate_zip if data[:2] == b"PK" else mutate_bytes)(rng, data)


def _only(files: Mapping[str, bytes], stem: str) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if Path(name).stem == stem}


def _checkpoint(path: Path) -> None:
    models = load_models([path])
    if models[0].format == "steadypix":  # of others the user says which pictures
        open_data(models, source=None, split=None, limit=None)
    json.dumps(models[0].describe(), allow_nan=False).encode()


def _classifier(path: Path) -> None:
    json.dumps(dict(load_classifier(path).provenance), allow_nan=False).encode()


def _idx(path: Path) -> None:
    read_idx(path)


def _weights(path: Path) -> None:
    load_weights(UNetGenerator(ngf=2, num_downs=2, norm="batch"), path)


def _state(path: Path) -> int:
    run = path.parent.parent
    for other in run.iterdir():  # what an earlier input left
        if other != path.parent:
            shutil.rmtree(other) if other.is_dir() else other.unlink()
    return train_pix2pix([*seeds.SMALL_RUN, "--out", str(run)])


def _config(path: Path) -> None:
    config, _ = parse(build_parser("fuzz", ""), ["--config", str(path)])
    to_yaml(config)


def _report(path: Path) -> None:
    folder = path.parent.parent if path.parent.name == "frames" else path.parent
    page = write_report(folder).read_text(encoding="utf-8")
    if page.count("<script") != 2:
        raise AssertionError("what stands in a file became part of the page")


def _baseline(path: Path) -> None:
    for model in read_results(path)["models"]:
        lead_score(model)


def _partial(path: Path) -> None:
    changed = {k: rows for k, rows in Partial(path, seeds.HEADING).done.items() if seeds.ROWS.get(k) != rows}
    if changed:
        raise AssertionError(f"damaged numbers are taken for measured ones: {changed}")


def _manifest(path: Path) -> None:
    load_outputs(path.parent, "cpu")


def _image(path: Path) -> None:
    for channels in (1, 3):
        read_image(path, channels)
