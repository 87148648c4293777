"""Pictures of 8 and 16 bits in any number of channels: read, resized, written, against other readers."""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import kornia_rs
import numpy as np
import pytest
import skimage.io
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from steadypix import InputError, PairedImages
from steadypix.data.cli import main as steadypix_data
from steadypix.data.pictures.images import luma, read_image
from steadypix.data.pictures.saving import save_image, suffix_for
from steadypix.data.pictures.tiff import tiff_bytes
from steadypix.data.pictures.transforms import resize, to_pixels, to_tensor, turn_upright

pytestmark = pytest.mark.slow

DTYPES = (np.uint8, np.uint16)


def noise(channels: int, dtype: type = np.uint16, size: tuple[int, int] = (11, 14)) -> np.ndarray:
    rng = np.random.default_rng(channels)
    return rng.integers(0, np.iinfo(dtype).max + 1, (*size, channels), dtype=dtype)


def write_tiff(path: Path, pixels: np.ndarray, **how: object) -> Path:
    """As somebody else would write it."""
    options = {"photometric": "rgb" if pixels.shape[-1] in (3, 4) else "minisblack", "planarconfig": "contig"}
    if pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
        options.pop("planarconfig")
    tifffile.imwrite(path, pixels, **{**options, **how})
    return path


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(pixels: np.ndarray, colour_type: int, extra: bytes = b"") -> bytes:
    """A PNG of 16 bits by the specification's letter: no filters, one chunk."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


# ---- precision and channels survive reading -----------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 9, 64])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "how",
    [
        {},
        {"compression": "zlib", "predictor": True},
        {"compression": "lzw"},
        {"byteorder": ">", "rowsperstrip": 3},
        {"tile": (16, 16), "compression": "zlib"},
        {"bigtiff": True},
    ],
    ids=str,
)
def test_tiffs_of_any_channels(tmp_path: Path, channels: int, dtype: type, how: dict) -> None:
    pixels = noise(channels, dtype)
    path = write_tiff(tmp_path / "1.tif", pixels, **how)
    read = read_image(path, channels)
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, pixels)


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_channels_in_planes_and_in_pages(tmp_path: Path, channels: int) -> None:
    pixels = noise(channels)
    planes = np.ascontiguousarray(np.moveaxis(pixels, 2, 0))
    tifffile.imwrite(tmp_path / "planes.tif", planes, photometric="minisblack", planarconfig="separate")
    tifffile.imwrite(tmp_path / "pages.tif", planes, photometric="minisblack")
    tifffile.imwrite(tmp_path / "imagej.tif", planes, imagej=True, metadata={"axes": "CYX"})
    for name in ("planes", "pages", "imagej"):
        np.testing.assert_array_equal(read_image(tmp_path / f"{name}.tif", channels), pixels)
    for wanted in (1, 3):  # of other stacks the first page counts, as for any reader of pictures
        first = np.repeat(pixels[..., :1], wanted, axis=2)
        np.testing.assert_array_equal(read_image(tmp_path / "pages.tif", wanted), first)
    eight = (planes >> 8).astype(np.uint8)
    tifffile.imwrite(tmp_path / "eight.tif", eight, photometric="minisblack")
    np.testing.assert_array_equal(read_image(tmp_path / "eight.tif", channels), np.moveaxis(eight, 0, 2))


@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (4, 2), (2, 3), (6, 4)])
def test_pngs_of_sixteen_bits(tmp_path: Path, colour_type: int, channels: int) -> None:
    pixels = noise(channels)
    (tmp_path / "1.png").write_bytes(png(pixels, colour_type))
    np.testing.assert_array_equal(read_image(tmp_path / "1.png", channels), pixels)
    # Colour or gray without alpha, each also as the other.
    plain = pixels[..., : channels - (channels in (2, 4))]
    other = plain.repeat(3, axis=2) if plain.shape[2] == 1 else luma(plain)
    np.testing.assert_array_equal(read_image(tmp_path / "1.png", plain.shape[2]), plain)
    np.testing.assert_array_equal(read_image(tmp_path / "1.png", other.shape[2]), other)


def test_a_transparent_colour_is_no_fourth_channel(tmp_path: Path) -> None:
    pixels = noise(3)
    (tmp_path / "1.png").write_bytes(png(pixels, 2, chunk(b"tRNS", pixels[0, 0].astype(">u2").tobytes())))
    np.testing.assert_array_equal(read_image(tmp_path / "1.png", 3), pixels)


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "1", "CMYK"])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".webp", ".jpg"])
def test_eight_bits_are_what_pillow_makes_of_them(tmp_path: Path, mode: str, suffix: str) -> None:
    picture = Image.fromarray(noise(4, np.uint8, (24, 17)), "RGBA").convert(mode)
    try:
        picture.save(tmp_path / f"1{suffix}")
    except OSError:
        pytest.skip(f"no {mode} in {suffix}")
    for channels, wanted in ((1, "L"), (3, "RGB")):
        with Image.open(tmp_path / f"1{suffix}") as image:
            expected = np.asarray(image.convert(wanted)).reshape(24, 17, channels)
        read = read_image(tmp_path / f"1{suffix}", channels)
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read, expected)


def test_rgba_where_four_are_asked_for(tmp_path: Path) -> None:
    pixels = noise(4, np.uint8)
    for name in ("1.png", "1.tif"):
        Image.fromarray(pixels, "RGBA").save(tmp_path / name)
        np.testing.assert_array_equal(read_image(tmp_path / name, 4), pixels)
        np.testing.assert_array_equal(read_image(tmp_path / name, 3), pixels[..., :3])
    Image.fromarray(noise(2, np.uint8), "LA").save(tmp_path / "2.png")
    np.testing.assert_array_equal(read_image(tmp_path / "2.png", 2), noise(2, np.uint8))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_every_reader(tmp_path: Path, orientation: int) -> None:
    pixels = noise(3)
    eight = Image.fromarray((pixels >> 8).astype(np.uint8))
    exif = eight.getexif()
    exif[0x0112] = orientation
    eight.save(tmp_path / "eight.png", exif=exif)
    with Image.open(tmp_path / "eight.png") as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(turn_upright(np.asarray(eight), orientation), expected)
    block = chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    (tmp_path / "deep.png").write_bytes(png(pixels, 2, block))
    tags = [(274, "H", 1, orientation, True)]
    for path in (tmp_path / "deep.png", write_tiff(tmp_path / "deep.tif", pixels, extratags=tags)):
        np.testing.assert_array_equal(read_image(path, 3) >> 8, expected)


def test_white_may_be_zero(tmp_path: Path) -> None:
    pixels = noise(1)
    path = write_tiff(tmp_path / "1.tif", pixels, photometric="miniswhite")
    np.testing.assert_array_equal(read_image(path, 1), 65535 - pixels)


def test_gray_of_colour_is_pillows() -> None:
    pixels = noise(3, np.uint8, (64, 64))
    expected = np.asarray(Image.fromarray(pixels).convert("L"))
    np.testing.assert_array_equal(luma(pixels)[..., 0], expected)
    deep = luma(pixels.astype(np.uint16) * 257)[..., 0]
    assert np.abs(deep / 257 - expected).max() <= 0.51
    assert luma(np.full((1, 1, 3), 65535, np.uint16)).item() == 65535


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (n, m)
        for n, m in itertools.product((1, 2, 3, 4, 5), repeat=2)
        if n != m and (n, m) not in {(1, 3), (3, 1)}
    ],
)
def test_other_channels_are_refused_by_name(tmp_path: Path, found: int, wanted: int) -> None:
    """Only alpha is dropped; two or five channels of a measurement are nobody's colours."""
    path = write_tiff(tmp_path / "pair.tif", noise(found), photometric="rgb" if found == 3 else "minisblack")
    with pytest.raises(InputError, match=rf"pair\.tif: has {found} channels?; expected {wanted}$"):
        read_image(path, wanted)


# ---- resizing, and the step to tensors and back --------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("size", [7, 40, 96])
def test_resizing_is_pillows(channels: int, size: int) -> None:
    """Eight bits to the bit, sixteen within the rounding of Pillow's eight."""
    smooth = np.asarray(
        Image.fromarray(noise(3, np.uint8, (9, 12))).resize((60, 50), Image.Resampling.BICUBIC)
    )
    smooth = smooth // 2 + 64  # away from both ends, where Pillow clips between its two passes
    pixels = np.concatenate([smooth, 255 - smooth], axis=2)[..., :channels]
    planes = [
        Image.fromarray(plane).resize((size, size), Image.Resampling.BICUBIC)
        for plane in pixels.transpose(2, 0, 1)
    ]
    expected = np.dstack([np.asarray(plane) for plane in planes])
    eight = resize(pixels, size)
    np.testing.assert_array_equal(eight, expected)
    deep = resize(pixels.astype(np.uint16) * 257, size)
    assert deep.dtype == np.uint16
    assert np.abs(deep / 257 - expected).max() <= 1.2  # each of Pillow's two passes rounds
    assert (deep % 257 != 0).mean() > 0.5, "nothing went through 8 bits"


def test_colour_is_resized_as_pillow_resizes_colour() -> None:
    pixels = noise(3, np.uint8, (50, 60))
    expected = np.asarray(Image.fromarray(pixels).resize((23, 23), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(resize(pixels, 23), expected)
    assert resize(pixels[:50, :50], 50).base is pixels, "a picture of that size is left alone"


def test_resizing_clips_what_rings() -> None:
    edge = np.zeros((32, 32, 1), np.uint16)
    edge[:, 16:] = 65535
    resized = resize(edge, 57)
    assert (resized.min(), resized.max()) == (0, 65535)
    assert (np.diff(resized[28, :, 0].astype(int)) >= -6000).all(), "no wrap-around"


def test_every_value_round_trips() -> None:
    for dtype, bits in ((np.uint8, 8), (np.uint16, 16)):
        every = np.arange(2**bits, dtype=dtype).reshape(2 ** (bits // 2), -1, 1)
        tensor = to_tensor(every)
        np.testing.assert_allclose(
            tensor[0], every[..., 0].astype(float) / ((2**bits - 1) / 2) - 1, rtol=0, atol=2e-7
        )
        assert (tensor.min(), tensor.max()) == (-1, 1)
        back = to_pixels(tensor, bits)
        assert back.dtype == dtype
        np.testing.assert_array_equal(back, every)
    assert to_pixels(to_tensor(every) * 1.5, 16).max() == 65535


def test_pairs_jitter_sixteen_bits_alike(tmp_path: Path) -> None:
    """Input of 16 bits, target of 8, four channels each: the same window, values by their own ranges."""
    rows, columns = np.mgrid[:40, :40]
    deep = np.dstack([columns, rows, columns + rows, rows - columns + 100]).astype(np.uint16) * 257
    for half, pixels in (("A", deep), ("B", (deep // 257).astype(np.uint8))):
        (tmp_path / f"train{half}").mkdir()
        write_tiff(tmp_path / f"train{half}" / "1.tif", pixels, photometric="minisblack")
    channels = {"input_channels": 4, "output_channels": 4}
    pairs = PairedImages(tmp_path, direction="AtoB", load_size=40, crop_size=24, **channels)
    for epoch in range(5):
        sample = pairs[epoch, 0]
        assert sample["input"].shape == (4, 24, 24)
        np.testing.assert_allclose(sample["input"], sample["target"], atol=1e-6)


def test_side_by_side_of_five_channels(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    pixels = noise(5, size=(8, 16))
    write_tiff(tmp_path / "train" / "1.tif", pixels)
    options = {"load_size": 8, "crop_size": 8, "direction": "AtoB"}
    pairs = PairedImages(tmp_path, input_channels=5, output_channels=5, **options)
    for half, expected in zip(pairs.read(0), (pixels[:, :8], pixels[:, 8:]), strict=True):
        np.testing.assert_array_equal(half, expected)
    with pytest.raises(InputError, match=r"1\.tif: has 5 channels; expected 3"):
        PairedImages(tmp_path, input_channels=5, output_channels=3, **options).read(0)
    Image.fromarray(noise(4, np.uint8, (8, 16)), "RGBA").save(tmp_path / "train" / "1.tif")
    read = PairedImages(tmp_path, input_channels=3, output_channels=4, **options).read(0)
    np.testing.assert_array_equal(read[0], noise(4, np.uint8, (8, 16))[:, :8, :3])
    np.testing.assert_array_equal(read[1], noise(4, np.uint8, (8, 16))[:, 8:])


# ---- writing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("name", "channels"), [("o.png", 1), ("o.png", 3), *(("o.tif", n) for n in (1, 2, 3, 4, 5, 17))]
)
def test_what_is_written_is_read_by_others(tmp_path: Path, name: str, channels: int, dtype: type) -> None:
    pixels = noise(channels, dtype)
    save_image(tmp_path / "made" / name, pixels)
    assert [path.name for path in (tmp_path / "made").iterdir()] == [name]
    np.testing.assert_array_equal(read_image(tmp_path / "made" / name, channels), pixels)
    if name == "o.png" and (channels, dtype) == (3, np.uint16):  # scikit-image reads it by Pillow
        other = kornia_rs.io.read_image_png_u16(str(tmp_path / "made" / name), "rgb")
    else:
        other = skimage.io.imread(tmp_path / "made" / name)
    assert other.dtype == dtype
    np.testing.assert_array_equal(other.reshape(pixels.shape), pixels)


def test_suffixes() -> None:
    assert [suffix_for(n) for n in (1, 2, 3, 4)] == [".png", ".tif", ".png", ".tif"]
    assert suffix_for(3, "tiff") == ".tif"
    with pytest.raises(InputError, match=r"--format png.*not 4.*tiff"):
        suffix_for(4, "png")


@settings(max_examples=40, deadline=None)
@given(channels=st.integers(1, 12), height=st.integers(1, 40), width=st.integers(1, 40), deep=st.booleans())
def test_any_picture_survives_a_tiff(
    tmp_path_factory: pytest.TempPathFactory, channels: int, height: int, width: int, deep: bool
) -> None:
    path = tmp_path_factory.mktemp("tiff") / "1.tif"
    pixels = noise(channels, np.uint16 if deep else np.uint8, (height, width))
    path.write_bytes(tiff_bytes(pixels))
    np.testing.assert_array_equal(read_image(path, channels), pixels)


# ---- hostile and broken files ------------------------------------------------------------------------


def patched(content: bytes, tag: int, value: int) -> bytes:
    """A little-endian TIFF with another value in an entry of its first directory."""
    start = struct.unpack_from("<I", content, 4)[0]
    for entry in range(struct.unpack_from("<H", content, start)[0]):
        place = start + 2 + 12 * entry
        code, kind = struct.unpack_from("<HH", content, place)
        if code == tag:
            packed = struct.pack("<H" if kind == 3 else "<I", value)
            return content[: place + 8] + packed + content[place + 8 + len(packed) :]
    raise AssertionError(f"no tag {tag}")


WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, OFFSETS, SAMPLES = 256, 257, 258, 259, 262, 273, 277
ROWS, BYTES, SAMPLE_FORMAT = 278, 279, 339


def one_line(path: Path, channels: int, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        read_image(path, channels)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({WIDTH: 60_000, HEIGHT: 60_000}, ""),
        ({WIDTH: 2**32 - 1, HEIGHT: 2**32 - 1}, ""),
        ({WIDTH: 12_000, HEIGHT: 12_000}, ""),
        ({HEIGHT: 0}, ""),
        ({SAMPLES: 65_535}, ""),
        ({BYTES: 0}, "cut short"),
        ({OFFSETS: 2**31}, "cut short"),
        ({BYTES: 2**31}, "cut short"),
        ({COMPRESSION: 34712}, "compression 34712"),
        ({PHOTOMETRIC: 3}, "photometric 3"),
        ({ROWS: 0}, ""),
    ],
)
def test_headers_that_lie(
    tmp_path: Path, channels: int, changes: dict[int, int], word: str, peak: Callable[[], int]
) -> None:
    pixels = noise(channels)
    path = write_tiff(tmp_path / "lie.tif", pixels, byteorder="<", compression="zlib")
    content = path.read_bytes()
    for tag, value in changes.items():
        content = patched(content, tag, value)
    path.write_bytes(content)
    before = peak()
    one_line(path, channels, word)
    assert peak() - before < 256 << 20, "a header must not cost memory"


@pytest.fixture
def peak() -> Callable[[], int]:
    """Bytes of address space that this process has touched at most."""
    resource = pytest.importorskip("resource")
    return lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
def test_cut_tiffs(tmp_path: Path, compression: str | None) -> None:
    for channels in (1, 3, 5):
        path = write_tiff(tmp_path / "cut.tif", noise(channels, size=(40, 40)), compression=compression)
        content = path.read_bytes()
        for kept in (3, 8, 20, 200, len(content) // 2, len(content) - 1):
            path.write_bytes(content[:kept])
            one_line(path, channels)


def test_cut_and_broken_deep_pngs(tmp_path: Path) -> None:
    content = png(noise(3, size=(40, 40)), 2)
    for kept in (30, 60, len(content) // 2, len(content) - 30):
        (tmp_path / "cut.png").write_bytes(content[:kept])
        one_line(tmp_path / "cut.png", 3)
    (tmp_path / "flip.png").write_bytes(content[:100] + b"\0\0\0\0" + content[104:])
    one_line(tmp_path / "flip.png", 3)
    (tmp_path / "bomb.png").write_bytes(
        content[:16]
        + struct.pack(">II", 60_000, 60_000)
        + content[24:29]
        + struct.pack(">I", zlib.crc32(b"IHDR" + struct.pack(">II", 60_000, 60_000) + content[24:29]))
        + content[33:]
    )
    one_line(tmp_path / "bomb.png", 3, "exceeds limit")


def test_a_strip_that_decompresses_to_gigabytes(tmp_path: Path, peak: Callable[[], int]) -> None:
    path = write_tiff(
        tmp_path / "bomb.tif", np.zeros((8, 8, 5), np.uint16), byteorder="<", compression="zlib"
    )
    content = path.read_bytes()
    packer = zlib.compressobj(9)
    body = b"".join(packer.compress(bytes(1 << 20)) for _ in range(1024)) + packer.flush()
    content = patched(patched(content, OFFSETS, len(content)), BYTES, len(body)) + body
    path.write_bytes(content)
    before = peak()
    one_line(path, 5)
    assert peak() - before < 256 << 20


@pytest.mark.parametrize(
    ("pixels", "word"),
    [
        (np.ones((4, 4), np.float32), "expected 8 or 16 bits"),
        (np.ones((4, 4, 5), np.float32), "32 bits, float; expected 8 or 16 bits"),
        (np.ones((4, 4, 5), np.int16), "16 bits, signed; expected 8 or 16 bits"),
        (np.ones((4, 4, 3), np.uint32), "32 bits, unsigned; expected 8 or 16 bits"),
    ],
    ids=["gray-float", "float", "signed", "long"],
)
def test_other_kinds_of_numbers(tmp_path: Path, pixels: np.ndarray, word: str) -> None:
    tifffile.imwrite(
        tmp_path / "1.tif",
        pixels,
        photometric="minisblack",
        planarconfig=None if pixels.ndim == 2 else "contig",
    )
    one_line(tmp_path / "1.tif", pixels.shape[2] if pixels.ndim == 3 else 1, word)


@settings(max_examples=300, deadline=None)
@given(data=st.data(), deep=st.booleans(), channels=st.sampled_from([1, 3, 5]))
def test_any_damage_to_a_tiff_is_one_line_or_a_picture(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, deep: bool, channels: int
) -> None:
    content = bytearray(tiff_bytes(noise(channels, np.uint16 if deep else np.uint8, (6, 7))))
    places = st.integers(0, len(content) - 1)
    for place, byte in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=6)):
        content[place] = byte
    path = tmp_path_factory.mktemp("damage") / "1.tif"
    path.write_bytes(content)
    try:
        read_image(path, channels)
    except InputError:
        one_line(path, channels)


def test_the_check_takes_any_channels_and_bits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for half, channels in (("A", 5), ("B", 3)):
        (tmp_path / f"train{half}").mkdir()
        write_tiff(tmp_path / f"train{half}" / "1.tif", noise(channels))
        write_tiff(tmp_path / f"train{half}" / "2.tif", noise(channels))
    assert steadypix_data(["check", str(tmp_path)]) == 0
    (tmp_path / "trainA" / "2.tif").write_bytes((tmp_path / "trainA" / "2.tif").read_bytes()[:-50])
    assert steadypix_data(["check", str(tmp_path)]) == 2
    assert "2.tif" in capsys.readouterr().out
