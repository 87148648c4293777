"""Train the released generators again from nothing: `make release`.

Three small generators on procedural facades that differ in their sampling alone. What ships is the weights
in half precision, their sha256 and the card beside them.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from steadypix.files import write_text
from steadypix.gen.weights.generators import load_generator, save_generator

HERE = Path(__file__).parent
RELEASED = HERE / "released"
SAMPLINGS = ("strided", "blur", "blur_late")
RECIPE = ["--config", "demo", "--batch_size", "1", "--data.synthetic_count", "400", "--train.epochs", "16"]
RECIPE += ["--discriminator.input_filter", "bin5", "--train.keep_every", "4"]
EPOCH = 12  # what ships; later the discriminator wins against `blur`, and a shift of 4 px stands out


def main() -> None:
    """Train what is not trained yet, then write the released files."""
    for sampling in SAMPLINGS:
        run = HERE / f"release-{sampling}"
        command = [sys.executable, "-m", "train_pix2pix", *RECIPE, "--generator.sampling", sampling]
        subprocess.run([*command, "--out", str(run)], check=True, cwd=HERE.parent)
        publish(run / f"generator-{EPOCH:04d}.safetensors", RELEASED / f"facades-{sampling}.safetensors")
    sums = [
        f"{hashlib.sha256(f.read_bytes()).hexdigest()}  {f.name}\n"
        for f in sorted(RELEASED.glob("*.safetensors"))
    ]
    write_text(RELEASED / "SHA256SUMS", "".join(sums))


def publish(checkpoint: Path, path: Path) -> None:
    """Write a generator of a run in half precision."""
    generator = load_generator(checkpoint)
    about: Any = generator  # what a loaded generator carries beside its weights
    save_generator(path, generator, config=about.config, provenance=about.provenance, dtype=torch.float16)


if __name__ == "__main__":
    main()
