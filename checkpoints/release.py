"""Train the released generators again from nothing: `make release`.

Two small generators on procedural facades that differ in their sampling alone. What ships is the weights
in half precision, their sha256 and the card beside them.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import torch

from data.files import write_whole
from gen.checkpoint import load_generator, save_generator

HERE = Path(__file__).parent
RELEASED = HERE / "released"
SAMPLINGS = ("strided", "blur")
RECIPE = ["--config", "demo", "--batch_size", "2", "--data.synthetic_count", "400", "--train.epochs", "10"]


def main() -> None:
    """Train what is not trained yet, then write the released files."""
    for sampling in SAMPLINGS:
        run = HERE / f"release-{sampling}"
        command = [sys.executable, "-m", "train_pix2pix", *RECIPE, "--generator.sampling", sampling]
        subprocess.run([*command, "--out", str(run)], check=True, cwd=HERE.parent)
        publish(run, RELEASED / f"facades-{sampling}.safetensors")
    sums = [
        f"{hashlib.sha256(f.read_bytes()).hexdigest()}  {f.name}\n"
        for f in sorted(RELEASED.glob("*.safetensors"))
    ]
    write_whole(RELEASED / "SHA256SUMS", lambda temporary: temporary.write_text("".join(sums)))


def publish(run: Path, path: Path) -> None:
    """Write a run's generator in half precision."""
    generator = load_generator(run)
    config, provenance = generator.config, generator.provenance
    save_generator(path, generator, config=config, provenance=provenance, dtype=torch.float16)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
