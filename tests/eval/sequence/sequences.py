"""Sequences to measure: textures that pan, and frames on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter


def texture(height: int, width: int, *, sigma_px: float = 1.5, seed: int = 0) -> np.ndarray:
    """Smooth noise in colour over all of [0, 1], (H, W, 3) float32: it shows where everything went."""
    noise = np.random.default_rng(seed).normal(size=(height, width, 3))
    noise = gaussian_filter(noise, (sigma_px, sigma_px, 0))
    return ((noise - noise.min()) / np.ptp(noise)).astype(np.float32)


def pan(canvas: np.ndarray, size: tuple[int, int], *, speed: int, count: int) -> list[np.ndarray]:
    """A window of width x height px that moves right over a canvas."""
    width, height = size
    return [canvas[:height, speed * n : speed * n + width] for n in range(count)]


def write_frames(folder: Path, frames: Sequence[np.ndarray]) -> Path:
    """Frames in [0, 1] as PNGs, whose names sort wrongly as text: frame1, frame2, ..., frame10."""
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames, 1):
        Image.fromarray(np.rint(frame * 255).astype(np.uint8)).save(folder / f"frame{number}.png")
    return folder


def as_read(frames: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Frames as they come back from files of 8 bits."""
    return [np.rint(frame * 255).astype(np.float32) / 255 for frame in frames]


def write_video(path: Path, frames: list[np.ndarray]) -> Path:
    """Frames without loss."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=24)
        stream.height, stream.width, stream.pix_fmt = (*frames[0].shape[:2], "bgr0")
        for frame in frames:
            pixels = np.ascontiguousarray(np.rint(frame * 255).astype(np.uint8))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path
