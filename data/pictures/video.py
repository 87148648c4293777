"""Films: frames read with their times, and written back beside the sound of the film they came from.

PyAV (the extra `video`) does it, and is imported here alone. Frames are RGB of 8 bits a channel,
turned upright. The matrix between RGB and YUV is the source's both ways, and its tags of colour are kept.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from steadypix.errors import InputError

# Containers that films are written to; sound of any kind goes into Matroska (.mkv).
FORMATS = {
    ".avi": "avi",
    ".m4v": "mp4",
    ".mkv": "matroska",
    ".mov": "mov",
    ".mp4": "mp4",
    ".webm": "webm",
}
SUFFIXES = frozenset({*FORMATS, ".flv", ".m2ts", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".wmv"})
MISSING = "a film needs PyAV, which is not installed; expected: pip install 'steadypix[video]'"
PIXELS = "yuv420p"  # what every player plays; wants even sizes
SLACK = 2  # frames that may lack before a film counts as cut short: some containers count one too many


@dataclass(frozen=True)
class Film:
    """What was found in a file, all of it read once.

    Attributes:
        path: of the file.
        width: of an upright frame, px.
        height: the same.
        frames: how many packets the video stream has, which is how many frames in all but odd cases.
        time_base: seconds a tick of its timestamps.
        rate: frames a second; of a variable rate the mean.
        rates: what else the rate may be, the likeliest first.
        end: of the last frame, in ticks.
        left_out: streams that are neither the video nor sound, in words.
        colour: tags of colour by their names in PyAV, as numbers.
        pixel_aspect: width of an upright pixel over its height; None where the file does not say.
    """

    path: Path
    width: int
    height: int
    frames: int
    time_base: Fraction
    rate: Fraction
    rates: tuple[Fraction, ...]
    end: int
    left_out: tuple[str, ...] = ()
    colour: dict[str, int] = field(default_factory=dict)
    pixel_aspect: Fraction | None = None


def is_film(path: Path) -> bool:
    """Whether a path has the suffix of a film."""
    return path.suffix.lower() in SUFFIXES


def version() -> str:
    """Return the version of PyAV.

    Raises:
        InputError: saying what to install, if it is missing.
    """
    return str(import_av().__version__)


def survey(path: Path) -> Film:
    """Read a film once without decoding it, and its first frame.

    Raises:
        InputError: naming the file, if it is missing, no film, cut short, or holds no video.
    """
    with _opened(path) as (container, stream):
        first = next(container.decode(stream), None)
        if first is None:
            raise InputError(f"{path}: holds no frame; expected a film")
        turned = first.rotation % 180 != 0
        width, height = (first.height, first.width) if turned else (first.width, first.height)
        aspect = stream.sample_aspect_ratio
        colour = {
            name: int(getattr(first, name))
            for name in ("colorspace", "color_range", "color_primaries", "color_trc")
        }
    with _opened(path) as (container, stream):
        rates = [stream.guessed_rate, stream.average_rate, stream.base_rate]
        known = tuple(dict.fromkeys(Fraction(rate) for rate in rates if rate))
        if not known or not stream.time_base:
            raise InputError(f"{path}: does not say at what rate its frames follow each other")
        count, end = 0, 0
        for packet in container.demux(stream):
            if not packet.size:
                continue
            if packet.is_corrupt:
                raise InputError(f"{path}: is cut short or damaged at frame {count + 1}")
            count += 1
            start = packet.pts if packet.pts is not None else packet.dts or 0
            end = max(end, start + (packet.duration or 0))
        rate = Fraction(stream.average_rate or known[0])
        claimed = _claimed_end(stream)
        slack = SLACK * max(1 / rate, end * stream.time_base / max(1, count))
        if claimed is not None and end * stream.time_base < claimed - slack:
            raise InputError(
                f"{path}: is cut short: its frames end at {float(end * stream.time_base):.2f} s "
                f"of {float(claimed):.2f} s"
            )
        left_out = [
            f"{other.type} stream {other.index}"
            for other in container.streams
            if other is not stream and other.type != "audio"
        ]
        return Film(
            path,
            width,
            height,
            count,
            stream.time_base,
            rate,
            known,
            end,
            tuple(left_out),
            colour,
            (1 / aspect if turned else aspect) if aspect else None,
        )


def read_frames(film: Film, *, skip: int = 0) -> Iterator[tuple[int, np.ndarray]]:
    """Decode a film's frames, from frame `skip` on.

    Yields:
        The time in ticks of `film.time_base`, rising, and pixels (H, W, 3) uint8, upright.

    Raises:
        InputError: naming film and frame, if one is damaged, of another size than the first, or its time is
            not later than that of the frame before.
    """
    before: int | None = None
    for number, frame in enumerate(decoded(film.path), 1):
        before = _checked_time(film, frame, number, before)
        if number > skip:
            yield before, upright(frame)


def decoded(path: Path) -> Iterator[Any]:
    """Yield the frames of a film as PyAV has them; damage is not painted over.

    Raises:
        InputError: naming the film, and the frame from the second on, if it cannot be read or is damaged.
    """
    av = import_av()
    number = 0
    with _opened(path) as (container, stream):
        stream.thread_type = "AUTO"
        stream.codec_context.options = {"err_detect": "crccheck+explode"}
        try:
            for frame in container.decode(stream):
                number += 1
                if frame.is_corrupt:
                    raise InputError(f"{path}: frame {number}: is damaged")
                yield frame
        except av.FFmpegError as error:
            where = f"{path}: frame {number + 1}" if number else str(path)
            raise InputError(f"{where}: cannot be read as a film ({_reason(error)})") from None


def upright(frame: Any) -> np.ndarray:
    """Return the pixels (H, W, 3) uint8 of a frame."""
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90))


def _checked_time(film: Film, frame: Any, number: int, before: int | None) -> int:
    """Return the time of a frame that is whole, of the film's size, and later than the one before it."""
    where = f"{film.path}: frame {number}"
    turned = frame.rotation % 180 != 0
    width, height = (frame.height, frame.width) if turned else (frame.width, frame.height)
    if (width, height) != (film.width, film.height):
        expected = f"{film.width} x {film.height} px, the size of the first"
        raise InputError(f"{where}: is {width} x {height} px; expected {expected}")
    time = frame.pts
    if time is None:
        time = 0 if before is None else before + max(1, round(1 / film.rate / film.time_base))
    if before is not None and time <= before:
        raise InputError(f"{where}: is not later than the frame before it")
    return int(time)


def on_the_grid(times: Sequence[int], time_base: Fraction, rate: Fraction) -> list[int] | None:
    """Return times as numbers of frames of a constant rate, None if they are not such.

    A container that counts milliseconds rounds, so a time may be off by less than a tick.

    Args:
        times: in ticks, rising.
        time_base: seconds a tick.
        rate: frames a second.
    """
    frames = [round(time * time_base * rate) for time in times]
    off = [abs(time * time_base - frame / rate) for time, frame in zip(times, frames, strict=True)]
    rising = all(a < b for a, b in itertools.pairwise(frames))
    return frames if rising and max(off, default=Fraction(0)) < time_base else None


def write_film(
    file: Path,
    film: Film,
    times: Sequence[int],
    frames: Iterable[np.ndarray],
    *,
    name: Path,
    codec: str | None = None,
    crf: float | None = None,
) -> None:
    """Write frames as a film with the sound of another; the same frames give the same bytes.

    Args:
        file: written from its beginning.
        film: where times, tags of colour and sound are from. Packets of sound are copied as they are.
        times: of every frame, in ticks of `film.time_base`.
        frames: as many, each (H, W, 1 or 3) uint8, all of one size. Where the codec wants even sizes, the
            last row or column of an odd one is left off.
        name: what messages call the file; its suffix, one of `FORMATS`, says which container it is.
        codec: an encoder's name; None takes the container's default.
        crf: its quality, less is better, for encoders that know it.

    Raises:
        InputError: naming the file, if codec, sound or times do not go into the container.
        OSError: of a full disk.
    """
    av = import_av()
    with open(file, "wb") as target, _opened(film.path) as (source, _):
        try:
            form = FORMATS[name.suffix.lower()]
            with av.open(target, "w", format=form, options={"fflags": "+bitexact"}) as container:
                _encode(container, source, film, times, frames, codec, crf)
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
        except (av.FFmpegError, ValueError) as error:
            raise InputError(f"{name}: cannot be written as a film ({_reason(error)})") from None


def _encode(
    container: Any,
    source: Any,
    film: Film,
    times: Sequence[int],
    frames: Iterable[np.ndarray],
    codec: str | None,
    crf: float | None,
) -> None:
    av = import_av()
    waiting = iter(frames)
    first = next(waiting, None)
    height, width = (film.height, film.width) if first is None else first.shape[:2]
    stream, time_base, ticks = _video_stream(container, film, times, codec, crf)
    if "420" in stream.pix_fmt:
        height, width = height - height % 2, width - width % 2
    if min(height, width) < 1:
        raise InputError(f"frames of {width} x {height} px are too small for {PIXELS}")
    stream.height, stream.width = height, width
    try:
        sounds = {sound.index: container.add_stream_from_template(sound) for sound in source.streams.audio}
        container.start_encoding()
    except (av.FFmpegError, ValueError) as error:
        coded = [stream, *source.streams.audio]
        names = " and ".join(dict.fromkeys(one.codec_context.name for one in coded))
        raise InputError(
            f"cannot hold {names}, or not of this kind ({_reason(error)}); expected .mkv, which holds most"
        ) from None
    packets = _sound(source, sounds)
    packet = next(packets, None)
    if first is None:
        return
    # How long each frame stands; the last one would otherwise stand as long as the one before it.
    last = max(1, round((film.end - times[-1]) * film.time_base / time_base))
    lasts = dict(zip(ticks, (*np.diff(ticks).tolist(), last), strict=True))

    def mux(coded: Iterable[Any]) -> None:
        for packet in coded:
            packet.duration = lasts.get(packet.pts, 0)
            container.mux(packet)

    for tick, pixels in zip(ticks, itertools.chain([first], waiting), strict=True):
        time = tick * time_base
        while packet is not None and packet.dts * packet.time_base <= time:
            packet.stream = sounds[packet.stream.index]
            container.mux(packet)
            packet = next(packets, None)
        colour = np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3))[:height, :width])
        frame = av.VideoFrame.from_ndarray(colour, format="rgb24").reformat(
            format=stream.pix_fmt,
            dst_colorspace=film.colour["colorspace"],
            dst_color_range=film.colour["color_range"],
        )
        frame.pts, frame.time_base = tick, time_base
        mux(stream.encode(frame))
    mux(stream.encode())
    while packet is not None:
        packet.stream = sounds[packet.stream.index]
        container.mux(packet)
        packet = next(packets, None)


def _video_stream(
    container: Any, film: Film, times: Sequence[int], codec: str | None, crf: float | None
) -> tuple[Any, Fraction, Sequence[int]]:
    """Add the video stream; return it, its seconds a tick, and the times in such ticks."""
    av = import_av()
    name = codec or container.default_video_codec
    if name == "h264" and "libx264" in av.codecs_available:
        name = "libx264"
    try:
        encoder = av.Codec(name, "w")
    except ValueError:
        raise InputError(f"--codec {name}: is no encoder of this PyAV") from None
    rate, time_base, ticks = film.rate, film.time_base, times
    for constant in film.rates:
        grid = on_the_grid(times, film.time_base, constant)
        if grid is not None:
            rate, time_base, ticks = constant, 1 / constant, grid
            break
    stream = container.add_stream(name, rate=rate)
    formats = [pixels.name for pixels in encoder.video_formats or ()]
    stream.pix_fmt = PIXELS if PIXELS in formats or not formats else formats[0]
    context = stream.codec_context
    context.time_base = time_base
    for tag, value in film.colour.items():
        setattr(context, tag, value)
    if film.pixel_aspect:
        context.sample_aspect_ratio = film.pixel_aspect
    # With libx264's macroblock tree the same frames of 48 x 32 px gave eight different files in 400 runs, and
    # without it one. Seen at widths of 48, 96 and 130 px, not at 64, 128 and 256; the cause is not known.
    options = {"mbtree": "0"} if name == "libx264" else {}
    if crf is not None:
        if not any(option.name == "crf" for option in context.supported_options.private):
            raise InputError(f"--crf {crf:g}: {name} does not know it; expected libx264, for example")
        options |= {"crf": f"{crf:g}"} | ({"b": "0"} if name.startswith("libvpx") else {})
    stream.options = options
    return stream, time_base, ticks


def _sound(source: Any, sounds: dict[int, Any]) -> Iterator[Any]:
    """Yield the packets of all sound, in the order of the file."""
    if sounds:
        for packet in source.demux(*source.streams.audio):
            if packet.size and packet.dts is not None:
                yield packet


def import_av() -> Any:
    """Return PyAV.

    Raises:
        InputError: naming the extra that brings it.
    """
    try:
        import av
    except ImportError:
        raise InputError(MISSING) from None
    av.logging.set_level(None)  # what is wrong is said here, in one line
    return av


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """Open a film; give it and its video stream, and turn what the library raises into one line."""
    av = import_av()
    if not path.exists():
        raise InputError(f"{path}: no such file; expected a film")
    if not path.is_file():  # opening a pipe would wait for its writer
        raise InputError(f"{path}: is no regular file; expected a film")
    try:
        # The path as a URL: a name such as `a:b.mp4` is no protocol, and a playlist reaches nothing else.
        options = {"protocol_whitelist": "file"}
        with av.open(f"file:{path}", options=options, metadata_errors="replace") as container:
            cover = av.stream.Disposition.attached_pic
            streams = [s for s in container.streams.video if not s.disposition & cover]
            if not streams:
                raise InputError(f"{path}: holds no video; expected a film")
            yield container, streams[0]
    except (av.FFmpegError, ArithmeticError, UnicodeError) as error:  # of damaged bytes it makes any of these
        raise InputError(f"{path}: cannot be read as a film ({_reason(error)})") from None


def _claimed_end(stream: Any) -> Fraction | None:
    """Return where a stream ends according to its header, in seconds; None where it does not say."""
    if stream.duration:
        return Fraction((stream.start_time or 0) + stream.duration) * stream.time_base
    hours, _, rest = str(stream.metadata.get("DURATION", "")).partition(":")  # Matroska
    minutes, _, seconds = rest.partition(":")
    try:
        return Fraction(hours) * 3600 + Fraction(minutes) * 60 + Fraction(seconds)
    except (ValueError, ZeroDivisionError):
        return None


def _reason(error: Exception) -> str:
    """Return what a library says, without its number and without the file, which is named already."""
    return " ".join(str(getattr(error, "strerror", None) or error).split())
