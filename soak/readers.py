"""Every reader of a file that a user may give, called as the commands call it."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from soak import seeds
from soak.containers import mutate_numbers, mutate_png, mutate_safetensors, mutate_zip
from soak.mutate import Mutator, mutate_bytes, mutate_json, mutate_lines, mutate_yaml
from steadypix.configs.load import build_parser, parse, to_yaml
from steadypix.data.labelled.fashion_mnist import read_idx
from steadypix.data.pairs.folders import read_image
from steadypix.eval.classifiers.file import load_classifier
from steadypix.eval.generators.models import load_models
from steadypix.eval.generators.outputs import MANIFEST, load_outputs
from steadypix.eval.measure.partial import Partial
from steadypix.eval.measure.sources import open_data
from steadypix.eval.report.render import write_report
from steadypix.eval.results.lead import lead_score
from steadypix.eval.results.schema import read_results
from steadypix.gen import UNetGenerator, load_weights
from train_pix2pix import main as train_pix2pix

Read = Callable[[Path], int | None]


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
    read: Read
    mutators: Mapping[str, Sequence[Mutator]] = field(default_factory=dict)
    names_key: bool = False
    limit_s: float = 5.0
    limit_mb: float = 100.0

    def mutators_of(self, name: str) -> Sequence[Mutator]:
        """Return what may be done to a seed."""
        return (*self.mutators.get(Path(name).suffix, ()), *self.mutators.get("", (mutate_bytes,)))


def make_readers(work: Path) -> list[Reader]:
    """Return every reader, with sound files made below `work`."""

    def folder(name: str) -> Path:
        (work / name).mkdir(parents=True, exist_ok=True)
        return work / name

    def reader(
        name: str,
        share: int,
        files: seeds.Seeds,
        read: Read,
        *mutators: Mutator,
        at: str = "damaged",
        **more: Any,
    ) -> Reader:
        found: dict[str, Any] = {"mutators": {"": mutators}} if mutators else {}
        return Reader(name, share, files, (work / at).joinpath, read, **found, **more)

    generators = seeds.generators(folder("generators"))
    seeds.evaluation(folder("generators"))
    seeds.outputs(folder("outputs"))
    results = work / "generators" / "out"
    result, frames = seeds.contents(results, "results.json"), seeds.contents(results / "frames", "*")
    unet = {name: content for name, content in generators.items() if Path(name).stem == "unet"}
    state, configs = seeds.state(folder("state")), seeds.configs(folder("configs"))
    manifest = seeds.contents(work / "outputs", MANIFEST)
    weights = (mutate_safetensors, mutate_safetensors, mutate_numbers, mutate_bytes)
    as_json = (mutate_json, mutate_json, mutate_json, mutate_bytes)
    in_frames = {".json": as_json, "": (mutate_bytes,)}
    in_images = {".png": (mutate_png,), "": (mutate_bytes,)}
    return [
        reader("checkpoint", 20, generators, _checkpoint, *weights),
        reader("weights", 10, unet, _weights, *weights),
        reader("state", 4, state, _state, *weights, at="run/last", names_key=True, limit_s=30.0),
        reader("classifier", 8, seeds.classifiers(folder("classifiers")), _classifier, *weights),
        reader("idx", 4, seeds.idx(folder("idx")), _idx),
        reader(
            "published", 16, seeds.published(folder("published")), _checkpoint, mutate_bytes, mutate_archive
        ),
        reader("config", 12, configs, _config, mutate_yaml, mutate_bytes, names_key=True),
        reader("results", 10, result, _report, *as_json, at="generators/out"),
        reader("baseline", 5, result, _baseline, *as_json),
        reader("frames", 5, frames, _report, at="generators/out/frames", mutators=in_frames),
        reader("partial", 5, seeds.partial(folder("partial")), _partial, mutate_lines, mutate_bytes),
        reader("manifest", 5, manifest, _manifest, *as_json, at="outputs"),
        reader("image", 20, seeds.images(folder("images")), _image, mutators=in_images, limit_mb=1000.0),
    ]


def mutate_archive(rng: random.Random, data: bytes) -> bytes:
    """Damage an archive from inside, and a file of the older format anywhere."""
    return (mutate_zip if data[:2] == b"PK" else mutate_bytes)(rng, data)


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
