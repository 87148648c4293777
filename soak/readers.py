"""Every reader of a file that a user may give, called as the commands call it."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from PIL import Image

from soak import seeds
from soak.containers import mutate_inside, mutate_numbers, mutate_safetensors
from soak.mutate import Mutator, mutate_bytes, mutate_json, mutate_lines, mutate_yaml
from steadypix import UNetGenerator, load_weights
from steadypix.checkpoints.retrofitting.command import main as retrofit
from steadypix.configs.load import build_parser, parse, to_yaml
from steadypix.data.download.obtain import read_record
from steadypix.data.labelled.fashion_mnist import read_idx
from steadypix.data.pictures.images import FORMATS, read_image
from steadypix.errors import InputError
from steadypix.eval.classifiers.file import load_classifier
from steadypix.eval.generators import onnx_process
from steadypix.eval.generators.loading import load_generator
from steadypix.eval.generators.models import load_models
from steadypix.eval.generators.outputs import MANIFEST, load_outputs
from steadypix.eval.measure.partial import Partial
from steadypix.eval.measure.sources import open_data
from steadypix.eval.report.render import write_report
from steadypix.eval.results.lead import lead_score
from steadypix.eval.results.schema import read_results
from steadypix.gen.large.journal import Record
from train_pix2pix import main as train_pix2pix

ONNX_LIMIT_S = 8.0  # to load a model of the fuzz, and for its one picture
ONNX_SHARE = 0.1  # of the memory that is free


@dataclass(frozen=True)
class Reader:
    """One reader, and what it is fed.

    Attributes:
        name: for people.
        share: of all inputs, relative to the others'.
        seeds: sound files by name.
        folder: where they lie when they are read.
        read: takes the file's path; returns an exit code if it is a whole command, which prints its messages.
        mutators: what may be done to a seed.
        names_key: its messages may name a key in the place of the file.
        limit_s: longest time.
        limit_mb: largest growth of memory; a picture may be as large as Pillow's limit lets its header say.
    """

    name: str
    share: int
    seeds: Mapping[str, bytes]
    folder: Path
    read: Callable[[Path], object]
    mutators: Sequence[Mutator] = (mutate_bytes,)
    names_key: bool = False
    limit_s: float = 5.0
    limit_mb: float = 100.0


def make_readers(work: Path) -> list[Reader]:
    """Return every reader, with sound files made below `work`."""

    def folder(name: str) -> Path:
        (work / name).mkdir(parents=True, exist_ok=True)
        return work / name

    generators = seeds.generators(folder("generators"))
    seeds.evaluation(folder("generators"))
    seeds.outputs(folder("outputs"))
    results, damaged, run = work / "generators" / "out", work / "damaged", work / "run" / "last"
    result, frames = seeds.contents(results, "results.json"), seeds.contents(results / "frames", "*")
    unet = {name: content for name, content in generators.items() if Path(name).stem == "unet"}
    state, configs = seeds.state(folder("state")), seeds.configs(folder("configs"))
    classifiers, idx = seeds.classifiers(folder("classifiers")), seeds.idx(folder("idx"))
    published, partial = seeds.published(folder("published")), seeds.partial(folder("partial"))
    outputs, images = seeds.contents(work / "outputs", MANIFEST), seeds.images(folder("images"))
    foreign, record = seeds.foreign_images(folder("foreign")), seeds.record(folder("record"))
    weights = (mutate_safetensors, mutate_safetensors, mutate_numbers, mutate_bytes)
    tree, inside = (mutate_json, mutate_json, mutate_json, mutate_bytes), (mutate_inside, mutate_bytes)
    yaml, lines = (mutate_yaml, mutate_bytes), (mutate_lines, mutate_bytes)
    slow: dict[str, Any] = {"names_key": True, "limit_s": 30.0}
    network = work / "generators" / "unet.safetensors"
    retrofitted = seeds.retrofitted(folder("retrofitted"), network)
    retrofit_state = functools.partial(_retrofit, network)
    readers = [
        Reader("checkpoint", 20, generators, damaged, _checkpoint, weights),
        Reader("weights", 10, unet, damaged, _weights, weights),
        Reader("state", 4, state, run, _state, weights, **slow),
        Reader("retrofit", 3, retrofitted, work / "retrofit" / "last", retrofit_state, weights, **slow),
        Reader("strips", 3, seeds.strips(folder("strips")), damaged, _strips, tree),
        Reader("classifier", 8, classifiers, damaged, _classifier, weights),
        Reader("idx", 4, idx, damaged, read_idx),
        Reader("published", 16, published, damaged, _checkpoint, inside),
        Reader("config", 12, configs, damaged, _config, yaml, names_key=True),
        Reader("results", 10, result, results, _report, tree),
        Reader("baseline", 5, result, damaged, _baseline, tree),
        Reader("frames", 5, frames, results / "frames", _report, inside),
        Reader("partial", 5, partial, damaged, _partial, lines),
        Reader("manifest", 5, outputs, work / "outputs", _manifest, tree),
        Reader("image", 20, images, damaged, _image, inside, limit_mb=1000.0),
        Reader("foreign", 5, foreign, damaged, _foreign, limit_mb=1000.0),
        Reader("record", 3, record, damaged, _record, tree),
    ]
    if importlib.util.find_spec("onnx"):
        from soak.graphs import make_graph

        models = seeds.onnx_model(folder("onnx"))
        damage = (make_graph, make_graph, make_graph, mutate_bytes)
        readers.append(Reader("onnx", 1, models, damaged, _onnx, damage, limit_mb=1000.0))
    return readers


def _checkpoint(path: Path) -> None:
    models = load_models([path])
    if models[0].format == "steadypix":  # of others the user says which pictures
        open_data(models, source=None, split=None, limit=None)
    json.dumps(models[0].describe(), allow_nan=False).encode()


def _classifier(path: Path) -> None:
    json.dumps(dict(load_classifier(path).provenance), allow_nan=False).encode()


def _weights(path: Path) -> None:
    load_weights(UNetGenerator(ngf=2, num_downs=2, norm="batch"), path)


def _state(path: Path) -> int:
    run = path.parent.parent
    _keep_alone(path.parent)
    return train_pix2pix([*seeds.SMALL_RUN, "--out", str(run)])


def _retrofit(network: Path, path: Path) -> int:
    run = path.parent.parent
    _keep_alone(path.parent)
    return retrofit(seeds.retrofit_words(network, run))


def _keep_alone(folder: Path) -> None:
    """Remove what an earlier input left beside a folder."""
    for other in folder.parent.iterdir():
        if other != folder:
            shutil.rmtree(other) if other.is_dir() else other.unlink()


def _strips(path: Path) -> None:
    Record(path.with_suffix(".map"))


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


def _foreign(path: Path) -> None:
    """Let no decoder but those named look at a picture, whatever it is."""
    others = {name: decoder for name, decoder in Image.OPEN.items() if name not in FORMATS}
    for name in others:
        Image.OPEN[name] = (_must_not, None)
    try:
        with contextlib.suppress(InputError):
            read_image(path)
    finally:
        Image.OPEN.update(others)


def _must_not(*_: object) -> NoReturn:
    os._exit(3)  # readers make one line of every exception


def _onnx(path: Path) -> None:
    """Load a model and show it a picture, within bounds that let a fuzz go on."""
    before = onnx_process.LIMIT_S, onnx_process.SHARE
    onnx_process.LIMIT_S, onnx_process.SHARE = ONNX_LIMIT_S, ONNX_SHARE
    try:
        network = load_generator(path)
        try:
            network(torch.zeros(1, 3, 32, 32))
        except InputError as error:
            raise InputError(f"{path}: {error}") from None  # as commands do
    finally:
        onnx_process.LIMIT_S, onnx_process.SHARE = before


def _record(path: Path) -> None:
    read_record(path.parent)


def _image(path: Path) -> None:
    for channels in (1, 3):
        read_image(path, channels)
