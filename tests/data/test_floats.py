"""Floats in TIFF and EXR files, and alpha beside the colours: read and written, against other libraries."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from steadypix import InputError
from steadypix.checkpoints.generate import main as generate
from steadypix.checkpoints.generation.freeze import main as statistics_command
from steadypix.data.pictures.exr import read_exr
from steadypix.data.pictures.images import read_image
from steadypix.data.pictures.inputs import read_input
from steadypix.data.pictures.saving import save_image, suffix_for
from steadypix.data.pictures.transforms import to_pixels, to_tensor
from tests.cli import Capture, one_error_line
from tests.conftest import tiny_config, write_checkpoint

exr = pytest.importorskip("OpenEXR")
pytestmark = pytest.mark.slow

TYPES = (np.uint8, np.uint16, np.float32)


def noise(channels: int, dtype: type = np.float32, size: tuple[int, int] = (21, 18)) -> np.ndarray:
    rng = np.random.default_rng(channels)
    if np.dtype(dtype).kind == "f":
        return rng.random((*size, channels)).astype(dtype)
    return rng.integers(0, np.iinfo(dtype).max + 1, (*size, channels), dtype=dtype)


def write_floats(path: Path, pixels: np.ndarray, **how: object) -> Path:
    """As somebody else would write them."""
    channels = pixels.shape[2]
    if path.suffix == ".exr":
        names = {1: "Y", 3: "RGB", 4: "RGBA"}.get(channels)
        planes = {names: pixels if channels > 1 else pixels[..., 0]}
        if names is None:
            planes = {f"n{c}": np.ascontiguousarray(pixels[..., c]) for c in range(channels)}
        exr.File({"compression": exr.PIZ_COMPRESSION, "type": exr.scanlineimage, **how}, planes).write(
            str(path)
        )
        return path
    photometric = "rgb" if channels in (3, 4) else "minisblack"
    plain = pixels[..., 0] if channels == 1 else pixels
    planar = {} if channels == 1 else {"planarconfig": "contig"}
    tifffile.imwrite(path, plain, **{"photometric": photometric, **planar, **how})
    return path


# ---- floats -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".tif", ".exr"])
@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_floats_are_read_as_they_are(suffix: str, channels: int, dtype: type, tmp_path: Path) -> None:
    pixels = noise(channels, dtype)
    read = read_input(write_floats(tmp_path / f"1{suffix}", pixels), channels)
    assert read.alpha is None
    assert read.pixels.dtype == np.float32
    np.testing.assert_array_equal(read.pixels, pixels.astype(np.float32))


@pytest.mark.parametrize("how", [{}, {"compression": "zlib", "predictor": True}, {"tile": (16, 16)}], ids=str)
def test_tiffs_of_floats_from_others(how: dict[str, object], tmp_path: Path) -> None:
    pixels = noise(3)
    np.testing.assert_array_equal(
        read_input(write_floats(tmp_path / "1.tif", pixels, **how), 3).pixels, pixels
    )


def test_gray_and_colour_of_floats(tmp_path: Path) -> None:
    pixels = noise(3)
    gray = read_input(write_floats(tmp_path / "1.exr", pixels), 1).pixels
    np.testing.assert_allclose(gray[..., 0], pixels @ [0.299, 0.587, 0.114], atol=2e-5)
    colour = read_input(write_floats(tmp_path / "2.exr", noise(1)), 3).pixels
    np.testing.assert_array_equal(colour, noise(1).repeat(3, axis=2))


def test_black_is_minus_one_and_white_is_one() -> None:
    pixels = np.array([[[0.0], [0.5], [1.0], [0.25]]], np.float32)
    assert to_tensor(pixels).flatten().tolist() == [-1, 0, 1, -0.5]
    np.testing.assert_array_equal(to_pixels(to_tensor(pixels), 32), pixels)
    beyond = to_tensor(pixels) * 3
    np.testing.assert_array_equal(to_pixels(beyond, 32).flatten(), [-1, 0.5, 2, -0.25])
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    assert np.abs(to_pixels(to_tensor(every), 32) * 65535.0 - every).max() < 0.01


@pytest.mark.parametrize("suffix", [".tif", ".exr"])
def test_what_lies_beyond_is_clipped_and_said(suffix: str, tmp_path: Path, capsys: Capture) -> None:
    pixels = noise(3) * 4 - 1
    path = write_floats(tmp_path / f"1{suffix}", pixels)
    np.testing.assert_array_equal(read_input(path, 3).pixels, pixels.clip(0, 1))
    said = capsys.readouterr().err
    assert said.startswith(f"{path}: values from -0.9")
    assert said.endswith("are clipped to 0 to 1\n")
    for bad in (np.nan, np.inf):
        pixels[3, 4, 1] = bad
        with pytest.raises(InputError, match="not finite"):
            read_input(write_floats(path, pixels), 3)


@pytest.mark.parametrize("channels", [1, 3, 4, 12])
def test_floats_are_written_for_others(channels: int, tmp_path: Path) -> None:
    pixels = noise(channels) * 3 - 1
    save_image(tmp_path / "1.tif", pixels)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "1.tif").reshape(pixels.shape), pixels)
    save_image(tmp_path / "1.exr", pixels)
    planes = exr.File(str(tmp_path / "1.exr"), separate_channels=True).channels()
    names = {1: ["Y"], 3: ["R", "G", "B"]}.get(channels, sorted(planes))
    np.testing.assert_array_equal(np.dstack([planes[name].pixels for name in names]), pixels)
    np.testing.assert_array_equal(read_exr(tmp_path / "1.exr")[0], pixels)


def test_training_and_evaluation_take_no_floats(tmp_path: Path) -> None:
    for channels in (1, 3, 5):
        with pytest.raises(InputError, match="expected 8 or 16 bits"):
            read_image(write_floats(tmp_path / "1.tif", noise(channels)), channels)


def test_formats_of_floats() -> None:
    assert [suffix_for(3, form, 32) for form in (None, "tiff", "exr")] == [".tif", ".tif", ".exr"]
    with pytest.raises(InputError, match="--format png: holds no pixels of --bits 32; expected tiff or exr"):
        suffix_for(3, "png", 32)
    with pytest.raises(InputError, match="--format exr: holds no pixels of --bits 8; expected --bits 32"):
        suffix_for(3, "exr", 8)


def test_broken_exr_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_floats(tmp_path / "1.exr", noise(3, size=(64, 64)))
    content = path.read_bytes()
    for kept in (0, 3, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:kept])
        with pytest.raises(InputError, match=r"1\.exr: ") as caught:
            read_exr(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"nowhere\.exr: no such file"):
        read_exr(tmp_path / "nowhere.exr")
    part = {"displayWindow": (np.array([0, 0], np.int32), np.array([99, 99], np.int32))}
    with pytest.raises(InputError, match="a part of its picture"):
        read_exr(write_floats(tmp_path / "2.exr", noise(3), **part))
    monkeypatch.setitem(sys.modules, "OpenEXR", None)
    with pytest.raises(InputError, match=r"pip install 'steadypix\[exr\]'"):
        read_exr(path)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_damage_to_an_exr_is_one_line_or_a_picture(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write_floats(tmp_path_factory.mktemp("damage") / "1.exr", noise(3, size=(9, 8)))
    content = bytearray(path.read_bytes())
    places = st.integers(0, len(content) - 1)
    for place, byte in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=6)):
        content[place] = byte
    path.write_bytes(content)
    said = ""
    try:
        read_exr(path)
    except InputError as error:
        said = str(error)
    assert not said or said.startswith(f"{path}: ")
    assert "\n" not in said


# ---- alpha ------------------------------------------------------------------------------------------


def written(path: Path, mode: str, dtype: type, colours: np.ndarray, alpha: np.ndarray) -> Path:
    """A picture with alpha as another program writes it."""
    pixels = np.dstack([colours, alpha])
    if path.suffix == ".tif":
        tifffile.imwrite(
            path,
            pixels,
            photometric="rgb" if mode == "RGBA" else "minisblack",
            planarconfig="contig",
            extrasamples=["unassalpha"],
        )
    elif path.suffix == ".exr":
        names = ("R", "G", "B", "A") if mode == "RGBA" else ("Y", "A")
        planes = {name: np.ascontiguousarray(pixels[..., c]) for c, name in enumerate(names)}
        exr.File({"compression": exr.ZIP_COMPRESSION, "type": exr.scanlineimage}, planes).write(str(path))
    elif dtype == np.uint16:
        import imagecodecs

        path.write_bytes(imagecodecs.png_encode(pixels))
    else:
        Image.fromarray(pixels, mode).save(path)
    return path


CASES = [
    *((".png", dtype) for dtype in (np.uint8, np.uint16)),
    *((".tif", dtype) for dtype in TYPES),
    (".exr", np.float32),
]


@pytest.mark.parametrize(("suffix", "dtype"), CASES)
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("channels", [1, 3])
def test_alpha_is_read_beside_the_colours(
    suffix: str, dtype: type, mode: str, channels: int, tmp_path: Path
) -> None:
    """The colours are what they were without it."""
    colours, alpha = noise(len(mode) - 1, dtype), noise(2, dtype)[..., 0]
    read = read_input(written(tmp_path / f"1{suffix}", mode, dtype, colours, alpha), channels)
    assert read.alpha is not None
    np.testing.assert_array_equal(read.alpha, alpha)
    if dtype != np.float32:
        np.testing.assert_array_equal(read.pixels, read_image(tmp_path / f"1{suffix}", channels))
    if channels == colours.shape[2]:
        np.testing.assert_array_equal(read.pixels, colours)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", TYPES)
def test_alpha_is_written_for_others(channels: int, dtype: type, tmp_path: Path) -> None:
    pixels, alpha = noise(channels, dtype), noise(2, dtype)[..., 0]
    save_image(tmp_path / "1.tif", pixels, alpha)
    with tifffile.TiffFile(tmp_path / "1.tif") as tiff:
        assert [int(sample) for sample in tiff.pages.first.extrasamples] == [2]
        np.testing.assert_array_equal(tiff.pages.first.asarray(), np.dstack([pixels, alpha]))
    if dtype == np.uint8:
        save_image(tmp_path / "1.png", pixels, alpha)
        with Image.open(tmp_path / "1.png") as image:
            assert image.mode == ("RGBA" if channels == 3 else "LA")
            np.testing.assert_array_equal(np.asarray(image), np.dstack([pixels, alpha]))
    suffixes = [".tif", *([".exr"] if dtype == np.float32 else [".png"])]
    for suffix in suffixes:
        save_image(tmp_path / f"2{suffix}", pixels, alpha)
        read = read_input(tmp_path / f"2{suffix}", channels)
        np.testing.assert_array_equal(read.alpha, alpha)
        np.testing.assert_array_equal(read.pixels, pixels)


def test_alpha_of_other_bits(tmp_path: Path) -> None:
    eight = np.arange(256, dtype=np.uint8).reshape(16, 16)
    floats = (eight / 255).astype(np.float32)
    for alpha in (eight, eight.astype(np.uint16) * 257, floats):
        for dtype, expected in ((np.uint8, eight), (np.uint16, eight.astype(np.uint16) * 257)):
            save_image(tmp_path / "1.tif", np.zeros((16, 16, 3), dtype), alpha)
            np.testing.assert_array_equal(read_input(tmp_path / "1.tif", 3).alpha, expected)
        save_image(tmp_path / "1.exr", np.zeros((16, 16, 3), np.float32), alpha)
        np.testing.assert_allclose(read_input(tmp_path / "1.exr", 3).alpha, floats, atol=1e-7)
    save_image(tmp_path / "1.tif", np.zeros((15, 16, 3), np.uint8), eight)
    assert read_input(tmp_path / "1.tif", 3).alpha is None, "of another size it is left out"


def test_what_is_no_alpha(tmp_path: Path) -> None:
    """A filler beside RGB that no tag calls alpha, and four channels that a generator takes."""
    for dtype in TYPES:
        pixels = noise(4, dtype)
        path = write_floats(tmp_path / "1.tif", pixels, extrasamples=["unspecified"])
        read = read_input(path, 3)
        assert read.alpha is None
        np.testing.assert_array_equal(read.pixels, pixels[..., :3])
        read = read_input(path, 4)
        assert read.alpha is None
        np.testing.assert_array_equal(read.pixels, pixels)
    Image.fromarray(noise(4, np.uint8), "RGBA").save(tmp_path / "1.png")
    assert read_input(tmp_path / "1.png", 4).alpha is None


def test_transparency_of_a_palette(tmp_path: Path) -> None:
    pixels = noise(4, np.uint8)
    pixels[..., 3] = np.where(pixels[..., 3] > 127, 255, 0)
    palette = Image.fromarray(pixels, "RGBA").quantize(16)
    palette.save(tmp_path / "1.png")
    with Image.open(tmp_path / "1.png") as image:
        expected = np.asarray(image.convert("RGBA"))
    read = read_input(tmp_path / "1.png", 3)
    np.testing.assert_array_equal(read.alpha, expected[..., 3])


def test_generate_keeps_alpha_and_colours(checkpoints: list[Path], tmp_path: Path, capsys: Capture) -> None:
    """The colours are those of the picture without alpha."""
    pixels = noise(4, np.uint8, (40, 33))
    Image.fromarray(pixels, "RGBA").save(tmp_path / "with.png")
    Image.fromarray(pixels[..., :3]).save(tmp_path / "without.png")
    files = [str(tmp_path / f"{name}.png") for name in ("with", "without")]
    for out, more in (("png", []), ("tiff", ["--bits", "16", "--format", "tiff"])):
        argv = [str(checkpoints[1]), *files, "--out", str(tmp_path / out), "--device", "cpu", *more]
        assert generate(argv) == 0
    with (
        Image.open(tmp_path / "png" / "with.png") as one,
        Image.open(tmp_path / "png" / "without.png") as two,
    ):
        np.testing.assert_array_equal(np.asarray(one), np.dstack([np.asarray(two), pixels[..., 3]]))
    made = tifffile.imread(tmp_path / "tiff" / "with.tif")
    np.testing.assert_array_equal(made[..., 3], pixels[..., 3].astype(np.uint16) * 257)
    np.testing.assert_array_equal(made[..., :3], tifffile.imread(tmp_path / "tiff" / "without.tif"))


def test_generate_from_floats_to_floats(checkpoints: list[Path], tmp_path: Path, capsys: Capture) -> None:
    """Of the same values in 16 bits it makes the same, to the step of 16 bits."""
    deep = noise(3, np.uint16, (40, 33))
    folder = tmp_path / "in"
    folder.mkdir()
    write_floats(folder / "1.exr", (deep / 65535).astype(np.float32))
    write_floats(folder / "2.tif", (deep / 65535).astype(np.float32))
    save_image(folder / "3.tif", deep)
    options = ["--out", str(tmp_path / "made"), "--device", "cpu", "--bits", "32", "--format", "exr"]
    assert generate([str(checkpoints[1]), str(folder), *options]) == 0
    one, two, three = (read_exr(tmp_path / "made" / f"{n}.exr")[0] for n in (1, 2, 3))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_allclose(one, three, atol=1e-4)
    options = ["--out", str(tmp_path / "deep"), "--device", "cpu", "--bits", "16"]
    assert generate([str(checkpoints[1]), str(folder / "2.tif"), *options]) == 0
    np.testing.assert_allclose(read_image(tmp_path / "deep" / "2.png", 3) / 65535, two, atol=0.51 / 65535)
    assert (
        statistics_command([str(checkpoints[1]), str(folder), "--out", str(tmp_path / "s.safetensors")]) == 0
    )
    assert generate([str(checkpoints[1]), str(folder), *options, "--format", "exr"]) == 2
    one_error_line(capsys, "--format exr", "--bits 32")


def test_a_sequence_of_floats(checkpoints: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in (1, 2, 10):
        write_floats(folder / f"{number}.exr", noise(4, size=(32, 40)) / number)
    options = ["--sequence", "--out", str(tmp_path / "made"), "--device", "cpu", "--bits", "32"]
    assert generate([str(checkpoints[1]), str(folder), *options, "--format", "exr"]) == 0
    assert {file.name for file in (tmp_path / "made").iterdir()} == {"1.exr", "2.exr", "10.exr"}
    pixels, alpha = read_exr(tmp_path / "made" / "2.exr")
    assert alpha
    np.testing.assert_array_equal(pixels[..., 3], noise(4, size=(32, 40))[..., 3] / 2)


def test_generators_of_gray_keep_alpha(tmp_path: Path) -> None:
    from steadypix.configs.schema import GeneratorConfig

    config = tiny_config(generator=GeneratorConfig(ngf=4, num_downs=3, in_channels=1, out_channels=1))
    checkpoint = write_checkpoint(tmp_path / "gray.safetensors", config)
    pixels = noise(4, np.uint8, (32, 40))
    Image.fromarray(pixels, "RGBA").save(tmp_path / "1.png")
    argv = [str(checkpoint), str(tmp_path / "1.png"), "--out", str(tmp_path / "made"), "--device", "cpu"]
    assert generate(argv) == 0
    with Image.open(tmp_path / "made" / "1.png") as image:
        assert image.mode == "LA"
        np.testing.assert_array_equal(np.asarray(image)[..., 1], pixels[..., 3])
