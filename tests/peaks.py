"""Says how much memory a process holds at most while it does something: a script for tests.

Standard input is JSON: [[kind, arguments], ...]; standard output is JSON: bytes, one number each. Everything
is done in a process of its own that starts from this one, which has imported what is needed.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

from steadypix import ResnetGenerator, UNetGenerator
from steadypix.checkpoints.setup import build_networks, build_step, make_accelerator
from steadypix.configs.schema import DataConfig, DiscriminatorConfig, GeneratorConfig, LossConfig, RunConfig
from steadypix.data.pictures.images import decode
from steadypix.gen.kernels.allocator import keep_freed_memory


def training(px: int, batch: int, **sections: dict[str, Any]) -> RunConfig:
    """The run that `train` takes a step of."""
    return RunConfig(
        generator=GeneratorConfig(**sections.get("generator", {})),
        discriminator=DiscriminatorConfig(**sections.get("discriminator", {})),
        loss=LossConfig(**sections.get("loss", {})),
        data=DataConfig(load_size=px + 8, crop_size=px, cache=False),
        batch_size=batch,
        device="cpu",
    )


def train(**arguments: Any) -> None:
    config = training(**arguments)
    accelerator = make_accelerator(config)
    step, _ = build_step(config, accelerator, build_networks(config, accelerator.device, None))
    px = config.data.crop_size
    batch: dict[str, Any] = {key: torch.rand(config.batch_size, 3, px, px) for key in ("input", "target")}
    if config.loss.equivariance:
        batch |= {"moved": batch["input"], "shift": [(1, 1)] * config.batch_size}
    for _ in range(2):
        step([batch], [0])


def forward(px: int, batch: int, generator: dict[str, Any]) -> None:
    network = (ResnetGenerator if "n_blocks" in generator else UNetGenerator)(**generator).eval()
    with torch.inference_mode():
        network(torch.rand(batch, 3, px, px))


def read(path: str, channels: int) -> None:
    decode(Path(path), channels)


KINDS = {"train": train, "forward": forward, "read": read}


def peak_bytes() -> int:
    words = Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()
    return int(words[0]) * 1024


def main() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    peaks = []
    for kind, arguments in json.load(sys.stdin):
        ours, theirs = os.pipe()
        child = os.fork()
        if not child:
            KINDS[kind](**arguments)
            os.write(theirs, str(peak_bytes()).encode())
            os._exit(0)
        os.close(theirs)
        assert os.waitpid(child, 0)[1] == 0, (kind, arguments)
        peaks.append(int(os.read(ours, 100)))
        os.close(ours)
    json.dump({"peaks": peaks, "before": peak_bytes()}, sys.stdout)


if __name__ == "__main__":
    main()
