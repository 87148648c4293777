"""The released generators, trained from nothing and taken where they are equally sharp: `make release`.

Three small generators on procedural facades: plain pix2pix, the paper's, and that of the recipe `demo`. A
checkpoint of each is chosen so that their outputs have the same TV, because a soft picture is stable for
free. What ships is the weights in half precision, their sha256 and the card beside them.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from steadypix.eval.results.schema import read_results
from steadypix.files import write_text
from steadypix.gen.weights.generators import load_generator, save_generator

HERE = Path(__file__).parent
RELEASED = HERE / "released"
# Wide as the demo's, at batch 1: more steps from the same pictures.
RECIPE = [
    "--batch_size",
    "1",
    "--data.synthetic_count",
    "400",
    "--train.epochs",
    "16",
    "--train.keep_every",
    "1",
]
GENERATORS = {
    "facades-strided": ["--config", "demo-paper", "--generator.sampling", "strided"],
    "facades-blur": ["--config", "demo-paper", "--generator.sampling", "blur"],
    "facades-steady": ["--config", "demo"],
}
SPREAD = 0.05  # between the largest and the smallest TV, at most
PICTURES = 50


def main() -> None:
    """Train what is not trained yet, choose, then write the released files."""
    found = {name: sharpness(name) for name in GENERATORS}
    for name, epoch in choose(found).items():
        print(f"{name}: epoch {epoch}, TV {found[name][epoch]:.4f}", flush=True)
        publish(checkpoints(name)[epoch], RELEASED / f"{name}.safetensors")
    sums = [
        f"{hashlib.sha256(f.read_bytes()).hexdigest()}  {f.name}\n"
        for f in sorted(RELEASED.glob("*.safetensors"))
    ]
    write_text(RELEASED / "SHA256SUMS", "".join(sums))


def sharpness(name: str) -> dict[int, float]:
    """Train a generator unless that is done; return the TV of its outputs by epoch."""
    run = HERE / f"release-{name}"
    train = [sys.executable, "-m", "train_pix2pix", *GENERATORS[name], *RECIPE, "--out", str(run)]
    subprocess.run(train, check=True, cwd=HERE.parent)
    files = checkpoints(name)
    out = run / "sharpness"
    measure = [sys.executable, "-m", "steadypix.eval.eval_stability", *map(str, files.values())]
    measure += ["--shifts", "0..1", "--limit", str(PICTURES), "--out", str(out)]
    subprocess.run(measure, check=True, cwd=HERE.parent, stdout=subprocess.DEVNULL)
    models = read_results(out / "results.json")["models"]
    return {epoch: model["quality"]["tv"]["mean"] for epoch, model in zip(files, models, strict=True)}


def checkpoints(name: str) -> dict[int, Path]:
    """Return the kept generators of a run by epoch."""
    files = (HERE / f"release-{name}").glob("generator-*.safetensors")
    kept = {int(number[1]): file for file in files if (number := re.fullmatch(r"generator-(\d+)", file.stem))}
    return dict(sorted(kept.items()))


def choose(found: dict[str, dict[int, float]]) -> dict[str, int]:
    """Return an epoch for each generator: equally sharp, and trained for as long as that leaves open.

    One that never becomes as sharp as the others ships from the end of its training, and its card says so.

    Args:
        found: by generator, the TV of its outputs by epoch.

    Raises:
        ValueError: if the others are nowhere equally sharp either.
    """
    softest = min(found, key=lambda name: max(found[name].values()))
    for soft in ((), (softest,)):
        sharp = {name: of for name, of in found.items() if name not in soft}
        equal = []
        for epochs in itertools.product(*sharp.values()):
            values = [sharp[name][epoch] for name, epoch in zip(sharp, epochs, strict=True)]
            if max(values) <= (1 + SPREAD) * min(values):
                equal.append(epochs)
        if equal:
            best = max(equal, key=lambda epochs: (min(epochs), sum(epochs)))
            return dict(zip(sharp, best, strict=True)) | {name: max(found[name]) for name in soft}
    raise ValueError(f"at no epochs are all within {SPREAD:.0%} of each other: {found}")


def publish(checkpoint: Path, path: Path) -> None:
    """Write a generator of a run in half precision."""
    generator = load_generator(checkpoint)
    about: Any = generator  # what a loaded generator carries beside its weights
    save_generator(path, generator, config=about.config, provenance=about.provenance, dtype=torch.float16)


if __name__ == "__main__":
    main()
