"""Sound files of every kind that is read, made by the software itself: what the damage is done to."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from steadypix import ResnetGenerator, UNetGenerator, save_generator
from steadypix.checkpoints.export import main as export
from steadypix.checkpoints.retrofitting.command import main as retrofit
from steadypix.configs.load import to_yaml
from steadypix.configs.schema import DataConfig, DiscriminatorConfig, GeneratorConfig, RunConfig, TrainConfig
from steadypix.data.download.obtain import RECORD
from steadypix.data.pictures.images import FORMATS, read_image
from steadypix.errors import InputError
from steadypix.eval.classifiers.file import Classifier, save_classifier
from steadypix.eval.classifiers.nets import ClassifierConfig, build_classifier
from steadypix.eval.eval_stability import main as eval_stability
from steadypix.eval.measure.partial import Partial
from steadypix.gen.large.journal import Record
from tests.published_nets import PublishedResnet, PublishedUnet
from train_pix2pix import main as train_pix2pix

Seeds = dict[str, bytes]  # file name -> content
FORMAT_SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "BMP": ".bmp", "WEBP": ".webp", "TIFF": ".tif"}
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "YCbCr", "LAB", "HSV")
SIZES = ["--data.load_size=40", "--data.crop_size=32", "--generator.ngf=4", "--generator.num_downs=3"]
SMALL_RUN = [*SIZES, "--discriminator.ndf=4", "--discriminator.n_layers=1", "--data.synthetic_count=2"]
SMALL_RUN += ["--train.epochs=1", "--train.val_every=0", "--train.sample_every=0", "--device=cpu"]
HEADING = {"models": ["ab" * 32], "protocols": ["crop"], "seed": 0}
SCORES: dict[str, Any] = {"scores": [[[1 / 3, 2e-5]]], "perturbed": [], "eqt": None}
ROWS = {index: [{"quality": {"l1": 0.1 + index, "tv": 1e-3}, **SCORES}] for index in range(3)}


def generators(folder: Path) -> Seeds:
    """Return generators of both architectures, as the trainer stores them."""
    data: dict[str, Any] = {"root": None, "synthetic": "facades", "val_split": "test", "direction": "BtoA"}
    data |= {"load_size": 80, "crop_size": 64}
    unet: dict[str, Any] = {"ngf": 2, "num_downs": 2, "norm": "batch"}
    resnet: dict[str, Any] = {"ngf": 2, "n_blocks": 1}
    torch.manual_seed(0)
    provenance = {"run": "seed", "epoch": 1.0, "seen": 4, "validation": {"l1": 0.2}}
    for name, network, arguments in (
        ("unet", UNetGenerator(**unet), unet),
        ("resnet", ResnetGenerator(**resnet), {"architecture": "resnet", **resnet}),
    ):
        config = {"data": data, "generator": arguments}
        save_generator(folder / f"{name}.safetensors", network, config=config, provenance=provenance)
    return contents(folder, "*.safetensors")


def state(folder: Path) -> Seeds:
    """Return what a finished run keeps to go on from."""
    run_quietly(lambda: train_pix2pix([*SMALL_RUN, "--out", str(folder / "run")]))
    return contents(folder / "run" / "last", "*.safetensors")


def retrofit_words(network: Path, out: Path) -> list[str]:
    """Return the arguments of a retrofit of one step."""
    return [
        *(str(network), "--data", "synthetic-facades", "--window", "32", "--canvas", "40", "--steps", "1"),
        *("--limit", "1", "--device", "cpu", "--out", str(out)),
    ]


def retrofitted(folder: Path, network: Path) -> Seeds:
    """Return what a finished retrofit of a network keeps to go on from."""
    run_quietly(lambda: retrofit(retrofit_words(network, folder / "run")))
    return contents(folder / "run" / "last", "*.safetensors")


def strips(folder: Path) -> Seeds:
    """Return what a run in strips notes of a map that is whole, and of one that is not."""
    for name, rows, done in (("0001", 32, True), ("0002", 3, False)):
        facts = {"count": 96, "mean": [0.1, -2.0], "spread": [1.5, 0.0]}
        Record(folder / f"{name}.map").keep(rows, done=done, **facts)
    return contents(folder, "*.json")


def published(folder: Path) -> Seeds:
    """Return weights as pytorch-CycleGAN-and-pix2pix stores them, in both containers of torch.save."""
    torch.manual_seed(0)
    for name, network in (("unet", PublishedUnet(ngf=1)), ("resnet", PublishedResnet(n_blocks=1))):
        for kind in ("zip", "old"):
            file = folder / f"{name}-{kind}.pth"
            torch.save(network.state_dict(), file, _use_new_zipfile_serialization=kind == "zip")
    return contents(folder, "*.pth")


def classifiers(folder: Path) -> Seeds:
    """Return a classifier as the study stores it."""
    config = ClassifierConfig(classes=3, in_channels=1, width=8, stem="small", filter="tri3")
    torch.manual_seed(0)
    network = build_classifier(config)
    provenance = {"seed": 0, "seconds": 1.5, "recipe": {"epochs": 1}}
    made = Classifier("seed", network, config, 3, 32, 40, (0.3,), (0.3,), provenance)
    save_classifier(folder / "classifier.safetensors", made)
    return contents(folder, "*.safetensors")


def idx(folder: Path) -> Seeds:
    """Return pictures and labels in idx files, packed and not."""
    numbers = np.random.default_rng(0).integers(0, 256, (4, 5, 6), dtype=np.uint8)
    for name, part in (("pictures", numbers), ("labels", numbers[:, 0, 0])):
        head = bytes((0, 0, 8, part.ndim)) + np.array(part.shape, ">u4").tobytes()
        (folder / name).write_bytes(head + part.tobytes())
        (folder / f"{name}.gz").write_bytes(gzip.compress(head + part.tobytes(), mtime=0))
    return contents(folder, "*")


def configs(folder: Path) -> Seeds:
    """Return a configuration with every option, and the packaged one with its differences."""
    every = RunConfig(
        data=DataConfig(load_size=40, crop_size=32),
        generator=GeneratorConfig(ngf=4, num_downs=3),
        discriminator=DiscriminatorConfig(ndf=4, n_layers=1),
        train=TrainConfig(epochs=1),
    )
    (folder / "every.yaml").write_text(to_yaml(every), encoding="utf-8")
    demo = Path(__file__).parent.parent / "configs" / "demo.yaml"
    return {**contents(folder, "*.yaml"), "demo.yaml": demo.read_bytes()}


def evaluation(folder: Path) -> None:
    """Measure the generators below `folder`: results.json and frames/, with all that can stand in them."""
    argv = [*map(str, sorted(folder.glob("*.safetensors"))), "--shifts=-1..2", "--limit=2", "--device=cpu"]
    argv += ["--protocol", "crop,eqt", "--margins", "0,2", "--map", "--pan", "1", "--pan-frames", "4"]
    run_quietly(
        lambda: eval_stability([*argv, "--quality", "ssim,checkerboard", "--out", str(folder / "out")])
    )
    results = json.loads((folder / "out" / "results.json").read_text())
    # What differs from run to run would make other damage of the same seed.
    results |= {"created": "2026-11-23T12:00:00+00:00", "command": "eval_stability"}
    for place, model in enumerate(results["models"]):
        model["path"] = f"{place}.safetensors"
    (folder / "out" / "results.json").write_text(json.dumps(results, indent=1))


def outputs(folder: Path) -> None:
    """Export the inputs of an evaluation to `folder`; they will do as the outputs of a program, too."""
    argv = ["--data=synthetic-facades", "--shifts=0..1", "--limit=1", "--window=32", "--canvas=40"]
    run_quietly(lambda: eval_stability([*argv, "--export_inputs", str(folder)]))


def partial(folder: Path) -> Seeds:
    """Return what an interrupted evaluation keeps."""
    with Partial(folder / "partial.jsonl", HEADING) as kept:
        for index, rows in ROWS.items():
            kept.add(index, rows)
    return contents(folder, "partial.jsonl")


def images(folder: Path) -> Seeds:
    """Return pictures in every format and depth that data is read from."""
    rng = np.random.default_rng(0)
    colour = Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8))
    deep = Image.fromarray(rng.integers(0, 65536, (20, 24), dtype=np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    for name, mode in (("grey", "L"), ("alpha", "RGBA"), ("palette", "P")):
        colour.convert(mode).save(folder / f"{name}.png")
    for name in ("rgb.png", "plain.jpg", "rgb.bmp", "lossy.webp", "plain.tif"):
        colour.save(folder / name)
    for name in ("deep.png", "deep.tif"):
        deep.save(folder / name)
    colour.save(folder / "progressive.jpg", progressive=True, exif=exif)
    colour.save(folder / "lossless.webp", lossless=True, exif=exif)
    colour.save(folder / "lzw.tiff", compression="tiff_lzw")
    colour.save(folder / "deflate.tiff", compression="tiff_adobe_deflate")
    for form, suffix in FORMAT_SUFFIXES.items():
        for mode in MODES:
            file = folder / f"{mode.replace(';', '').lower()}{suffix}"
            # What Pillow cannot write so, or we do not read: CMYK and the like.
            with contextlib.suppress(OSError, ValueError, InputError):
                colour.convert(mode).save(file, format=form)
                for channels in (1, 3):
                    read_image(file, channels)
                continue
            file.unlink(missing_ok=True)
    return contents(folder, "*.*")


def foreign_images(folder: Path) -> Seeds:
    """Return pictures of every format that Pillow can write and no reader may open, named as if one might."""
    Image.init()
    colour = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8))
    for form in sorted(set(Image.SAVE) - {*FORMATS, "MPO"}):
        buffer = io.BytesIO()
        # Some need a library, or take few modes; Pillow writes some that are the JPEGs they contain.
        for mode in ("P" if form == "GIF" else "RGB", "L", "1", "F", "RGBA"):
            with (
                contextlib.suppress(OSError, ValueError, KeyError, AttributeError),
                warnings.catch_warnings(),
            ):
                warnings.simplefilter("ignore")  # of formats that Pillow is going to drop
                colour.convert(mode).save(buffer, format=form)
                break
        if buffer.getvalue() and not buffer.getvalue().startswith((b"\xff\xd8\xff", b"II*", b"BM")):
            (folder / f"{form.lower()}.png").write_bytes(buffer.getvalue())
    return contents(folder, "*.png")


def onnx_model(folder: Path) -> Seeds:
    """Return a generator as an ONNX model."""
    torch.manual_seed(0)
    network = UNetGenerator(ngf=2, num_downs=2)
    save_generator(folder / "net.safetensors", network, config={"generator": {"ngf": 2, "num_downs": 2}})
    run_quietly(lambda: export([str(folder / "net.safetensors"), "--out", str(folder / "net.onnx")]))
    return contents(folder, "*.onnx")


def record(folder: Path) -> Seeds:
    """Return what a download leaves beside a data set."""
    entry = {"url": "https://example.invalid/facades.tar.gz", "sha256": "ab" * 32}
    (folder / RECORD).write_text(json.dumps({"facades": entry, "maps": {**entry, "url": None}}, indent=1))
    return contents(folder, RECORD)


def contents(folder: Path, pattern: str) -> Seeds:
    """Return the files of a folder by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob(pattern))}


def run_quietly(run: Callable[[], int]) -> None:
    """Run a command that must succeed, without its table and its messages."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = run()
    if code:
        raise RuntimeError(said.getvalue())
