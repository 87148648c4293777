"""TIFFs read by rows against the reader of whole pictures, and files written by rows against whole ones."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from steadypix import InputError
from steadypix.data.pictures import row_files, tiff_rows
from steadypix.data.pictures.images import read_image
from steadypix.data.pictures.inputs import read_input
from steadypix.data.pictures.row_files import write_rows
from steadypix.data.pictures.tiff import tiff_bytes
from steadypix.data.pictures.tiff_rows import open_rows

SIZE = (43, 37)


def noise(channels: int, dtype: type = np.uint8, size: tuple[int, int] = SIZE) -> np.ndarray:
    rng = np.random.default_rng(channels)
    return rng.integers(0, np.iinfo(dtype).max + 1, (*size, channels), dtype=dtype)


def write(path: Path, pixels: np.ndarray, **how: object) -> Path:
    options = {"photometric": "rgb" if pixels.shape[-1] in (3, 4) else "minisblack", "planarconfig": "contig"}
    if pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
        options.pop("planarconfig")
    if how.get("planarconfig") == "separate":
        pixels = np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
    tifffile.imwrite(path, pixels, **{**options, **how})
    return path


def in_rows(path: Path, channels: int, rows: int = 7, again: int = 3) -> np.ndarray:
    """All rows of a file, of which some are read twice, as networks do it."""
    opened = open_rows(path, channels)
    assert opened is not None, "falls back to the reader of whole pictures"
    height = opened.shape[0]
    parts = []
    for top in range(0, height, rows):
        first, end = max(0, top - again), min(height, top + rows)
        parts.append(opened.pixels(first, end)[top - first :])
    opened.close()
    return np.concatenate(parts)


LAYOUTS: list[dict[str, object]] = [
    {},
    {"compression": "zlib", "predictor": True},
    {"compression": "zlib", "rowsperstrip": 5},
    {"compression": "lzw", "rowsperstrip": 1},
    {"compression": "packbits", "rowsperstrip": 8},
    {"byteorder": ">", "rowsperstrip": 3},
    {"tile": (16, 16)},
    {"tile": (16, 32), "compression": "zlib", "predictor": True},
    {"tile": (32, 16), "compression": "lzw", "byteorder": ">"},
    {"bigtiff": True, "rowsperstrip": 6},
]


@pytest.mark.parametrize("how", LAYOUTS, ids=str)
@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_rows_are_those_of_the_whole(tmp_path: Path, how: dict, channels: int, dtype: type) -> None:
    path = write(tmp_path / "1.tif", noise(channels, dtype), **how)
    expected = read_image(path, channels)
    found = in_rows(path, channels)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("how", [{}, {"compression": "zlib"}, {"tile": (16, 16), "compression": "zlib"}])
@pytest.mark.parametrize("channels", [3, 5])
def test_channels_in_planes_and_in_pages(tmp_path: Path, how: dict, channels: int) -> None:
    path = write(tmp_path / "1.tif", noise(channels), planarconfig="separate", rowsperstrip=4, **how)
    np.testing.assert_array_equal(in_rows(path, channels), read_image(path, channels))
    pages = np.ascontiguousarray(np.moveaxis(noise(channels), 2, 0))
    tifffile.imwrite(tmp_path / "pages.tif", pages, photometric="minisblack", **how)
    for wanted in {channels, 3, 1}:
        expected = read_image(tmp_path / "pages.tif", wanted)
        np.testing.assert_array_equal(in_rows(tmp_path / "pages.tif", wanted), expected)


@pytest.mark.parametrize("orientation", [1, 2, 3, 4])
@pytest.mark.parametrize("how", [{"rowsperstrip": 5}, {"tile": (16, 16), "compression": "zlib"}], ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_mirrored_and_upside_down(tmp_path: Path, orientation: int, how: dict, dtype: type) -> None:
    tags = [(274, "H", 1, orientation, True)]
    path = write(tmp_path / "1.tif", noise(3, dtype), extratags=tags, **how)
    np.testing.assert_array_equal(in_rows(path, 3), read_image(path, 3))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_gray_colour_and_where_black_is(tmp_path: Path, dtype: type) -> None:
    """As another number of channels, and with white at 0."""
    gray, colour = write(tmp_path / "1.tif", noise(1, dtype)), write(tmp_path / "3.tif", noise(3, dtype))
    white = write(tmp_path / "w.tif", noise(1, dtype), photometric="miniswhite")
    for path, channels in ((gray, 3), (colour, 1), (white, 1), (white, 3)):
        np.testing.assert_array_equal(in_rows(path, channels), read_image(path, channels))
    with pytest.raises(InputError, match=r"3\.tif: has 3 channels; expected 5"):
        open_rows(colour, 5)


@pytest.mark.parametrize(("channels", "extra"), [(4, "unassalpha"), (4, "unspecified"), (2, "unassalpha")])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_alpha_is_kept_apart(tmp_path: Path, channels: int, extra: str, dtype: type) -> None:
    path = write(tmp_path / "1.tif", noise(channels, dtype), extrasamples=[extra], rowsperstrip=4)
    for wanted in (1, 3, channels):
        expected = read_input(path, wanted)
        np.testing.assert_array_equal(in_rows(path, wanted), expected.pixels)
        opened = open_rows(path, wanted)
        assert opened is not None
        found = opened.alpha(3, 29)
        opened.close()
        assert (found is None) == (expected.alpha is None)
        if found is not None and expected.alpha is not None:
            np.testing.assert_array_equal(found, expected.alpha[3:29])


def test_what_must_be_decoded_whole(tmp_path: Path) -> None:
    colours = Image.fromarray(noise(3))
    made = {
        "palette": colours.convert("P"),
        "cmyk": colours.convert("CMYK"),
        "bits": colours.convert("1"),
    }
    for name, image in made.items():
        image.save(tmp_path / f"{name}.tif")
    colours.save(tmp_path / "jpeg.tif", compression="jpeg")
    colours.save(tmp_path / "png.tif", format="PNG")
    write(tmp_path / "side.tif", noise(3), extratags=[(274, "H", 1, 6, True)])
    write(tmp_path / "times_alpha.tif", noise(4), extrasamples=["assocalpha"])
    tifffile.imwrite(tmp_path / "floats.tif", np.zeros(SIZE, np.float32))
    (tmp_path / "cut.tif").write_bytes(write(tmp_path / "w.tif", noise(3)).read_bytes()[:900])
    (tmp_path / "w.tif").unlink()
    files = sorted(tmp_path.iterdir())
    assert len(files) == 9
    assert [path.name for path in files if open_rows(path, 3) is not None] == []


def test_each_strip_is_decoded_once_and_few_are_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "1.tif", noise(3), compression="zlib", rowsperstrip=4)
    decoded = []
    plain = tiff_rows._Bands._decode

    def counting(self: tiff_rows._Bands, band: int) -> np.ndarray:
        decoded.append(band)
        assert len(self._kept) <= 4
        return plain(self, band)

    monkeypatch.setattr(tiff_rows._Bands, "_decode", counting)
    in_rows(path, 3)
    assert decoded == list(range(11))


def test_a_size_that_is_too_large_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "1.tif", noise(3), compression="zlib", rowsperstrip=4)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(InputError):
        read_image(path, 3)
    np.testing.assert_array_equal(in_rows(path, 3), noise(3))


def test_damage_in_the_middle_names_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "1.tif", noise(3), compression="zlib", rowsperstrip=4)
    with tifffile.TiffFile(path) as tiff:
        place = tiff.pages.first.dataoffsets[5]
    data = bytearray(path.read_bytes())
    data[place : place + 40] = bytes(40)
    path.write_bytes(data)
    opened = open_rows(path, 3)
    assert opened is not None
    opened.pixels(0, 20)
    with pytest.raises(InputError, match=r"1\.tif: cannot be read as an image"):
        opened.pixels(18, 22)
    opened.close()


# ---- written by rows ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize(("channels", "alpha"), [(1, False), (3, False), (5, False), (4, True), (2, True)])
def test_a_tiff_by_rows_is_the_tiff(tmp_path: Path, dtype: type, channels: int, alpha: bool) -> None:
    pixels = noise(channels, np.uint16, (900, 131)).astype(dtype)
    write_rows(tmp_path / "1.tif", lambda top, bottom: pixels[top:bottom], pixels.shape, alpha=alpha)
    assert (tmp_path / "1.tif").read_bytes() == tiff_bytes(pixels, alpha=alpha)


def test_beyond_four_gigabytes_it_is_a_bigtiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = noise(3, np.uint8, (300, 300))
    sizes = {"classic": pixels.nbytes * 2, "big": pixels.nbytes}
    for name, bound in sizes.items():
        monkeypatch.setattr(row_files, "CLASSIC_BYTES", bound)
        path = tmp_path / f"{name}.tif"
        write_rows(path, lambda top, bottom: pixels[top:bottom], pixels.shape)
        with tifffile.TiffFile(path) as tiff:
            assert tiff.is_bigtiff == (name == "big")
            np.testing.assert_array_equal(tiff.asarray(), pixels)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    kind=st.sampled_from(list(itertools.product([1, 2, 3, 4], [np.uint8, np.uint16]))),
    smooth=st.booleans(),
)
def test_a_png_by_rows_holds_the_pixels(
    height: int, width: int, kind: tuple[int, type], smooth: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    channels, dtype = kind
    pixels = noise(channels, dtype, (height, width))
    if smooth:  # other filters are the best ones
        pixels = np.add.outer(np.arange(height) * 3, np.arange(width) * 2)[..., None] + np.arange(channels)
        pixels = pixels.astype(dtype)
    path = tmp_path_factory.mktemp("png") / "1.png"
    write_rows(path, lambda top, bottom: pixels[top:bottom], pixels.shape)
    np.testing.assert_array_equal(read_image(path, channels), pixels)


def test_a_png_by_rows_is_about_as_small(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:300, :400]
    pixels = (128 + 100 * np.sin(rows / 20) * np.cos(columns / 30)).astype(np.uint8)[..., None].repeat(3, 2)
    write_rows(tmp_path / "rows.png", lambda top, bottom: pixels[top:bottom], pixels.shape)
    Image.fromarray(pixels).save(tmp_path / "whole.png")
    assert (tmp_path / "rows.png").stat().st_size < 1.1 * (tmp_path / "whole.png").stat().st_size


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected \.png or \.tif"):
        write_rows(tmp_path / "1.exr", lambda top, bottom: noise(3)[top:bottom], (*SIZE, 3))
