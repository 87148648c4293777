"""Small films with known frames, made by PyAV itself."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

WIDTH, HEIGHT = 48, 32
NTSC = Fraction(30000, 1001)
VARIABLE_MS = (0, 33, 100, 120, 133, 200, 233, 300, 310, 400, 520, 560)


def scene(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """A smooth frame (H, W, 3) uint8 that moves."""
    y, x = np.mgrid[:height, :width]
    planes = [(x * 5 + number * 9) % 256, y * 255 // max(1, height - 1), (x + y + number * 3) * 2 % 256]
    return np.dstack(planes).astype(np.uint8)


def make_film(
    path: Path,
    frames: Sequence[np.ndarray] | None = None,
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    rate: Fraction | int = NTSC,
    times_ms: Sequence[int] | None = None,
    sound: str | None = None,
    colour: tuple[int, int] = (2, 0),
    rotation: int | None = None,
    options: dict[str, str] | None = None,
    coding: dict[str, str] | None = None,
) -> Path:
    """Write frames as a film, by default twelve of `scene`.

    Args:
        path: its suffix is the container.
        frames: each (H, W, 3) uint8.
        codec: its encoder.
        pixels: its format of pixels.
        rate: frames a second.
        times_ms: of each frame, for a variable rate.
        sound: an encoder of noise, as long as the film.
        colour: the tags colorspace and color_range, by which RGB is turned to YUV as well.
        rotation: of the display, degrees counter-clockwise.
        options: of the container.
        coding: options of the encoder.
    """
    import av

    frames = [scene(number) for number in range(12)] if frames is None else frames
    with av.open(str(path), "w", options=options or {}) as film:
        video: Any = film.add_stream(codec, rate=rate, options=coding or {})
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = pixels
        video.codec_context.colorspace, video.codec_context.color_range = colour
        if times_ms is not None:
            video.codec_context.time_base = Fraction(1, 1000)
        if rotation is not None:
            video.set_display_rotation(rotation)
        audio: Any = film.add_stream(sound, rate=44100, layout="mono") if sound else None
        rng = np.random.default_rng(0)
        for number, frame in enumerate(frames):
            coded = av.VideoFrame.from_ndarray(frame, format="rgb24")
            coded = coded.reformat(format=pixels, dst_colorspace=colour[0], dst_color_range=colour[1])
            coded.pts = number if times_ms is None else times_ms[number]
            coded.time_base = 1 / Fraction(rate) if times_ms is None else Fraction(1, 1000)
            film.mux(video.encode(coded))
            if audio:
                form = audio.codec_context.format.name
                dtype, scale = {"s16": (np.int16, 3e3), "s32": (np.int32, 2e8)}.get(
                    form[:3], (np.float32, 0.1)
                )
                noise = (rng.standard_normal((1, 1472)) * scale).astype(dtype)
                samples = av.AudioFrame.from_ndarray(noise, format=form, layout="mono")
                samples.sample_rate, samples.pts = 44100, number * 1472
                film.mux(audio.encode(samples))
        film.mux(video.encode())
        if audio:
            film.mux(audio.encode())
    return path


def lossless(path: Path, frames: Sequence[np.ndarray] | None = None, **how: Any) -> Path:
    """Write RGB frames as they are, by ffv1 in a Matroska file."""
    return make_film(path, frames, codec="ffv1", pixels="bgr0", **how)


def decoded(path: Path) -> tuple[list[Fraction], list[np.ndarray]]:
    """Times in seconds, and frames as Y, U and V beneath each other, as PyAV decodes them."""
    import av

    with av.open(str(path)) as film:
        frames = list(film.decode(video=0))
        return [f.pts * f.time_base for f in frames], [f.to_ndarray() for f in frames]


def sound_of(path: Path) -> list[tuple[bytes, Fraction]]:
    """Every packet of sound and its time in seconds."""
    import av

    with av.open(str(path)) as film:
        packets = [packet for packet in film.demux(audio=0) if packet.size]
        return [(bytes(packet), packet.pts * packet.time_base) for packet in packets]
