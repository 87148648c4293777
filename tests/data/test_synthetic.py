"""The procedural pairs: format, determinism, independence of size, and what the photos show."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from steadypix.data.scenes.facade_paint import FACADE_PALETTE
from steadypix.data.scenes.map_paint import MAP_PALETTE
from steadypix.data.scenes.render import KINDS, PALETTES, contact_sheet, render_pair

pytestmark = pytest.mark.slow


def _mask(labels: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (labels == np.array(colour, np.uint8)).all(-1)


@functools.cache
def _scene(kind: str, index: int) -> tuple[np.ndarray, np.ndarray]:
    return render_pair(kind, size=96, index=index)


def _brightness(
    kind: str, palette: dict[str, tuple[int, int, int]], name: str, *, channel: int | None = None
) -> float:
    """Mean over some scenes of the photo (or one channel of it) where the label is `name`."""
    values = []
    for index in range(6):
        photo, labels = _scene(kind, index)
        inside = photo[_mask(labels, palette[name])].astype(float)
        values.append(inside if channel is None else inside[:, channel])
    return float(np.concatenate(values).mean())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [16, 33, 64, 143, 256])
def test_pairs_are_rgb_bytes_of_the_asked_size(kind: str, size: int) -> None:
    for picture in render_pair(kind, size=size, index=3):
        assert picture.shape == (size, size, 3)
        assert picture.dtype == np.uint8
        assert picture.min() < 130
        assert picture.max() > 150


@pytest.mark.parametrize("kind", KINDS)
def test_many_scenes_render_at_an_odd_size(kind: str) -> None:
    for index in range(25):
        photo, labels = render_pair(kind, size=37, seed=5, index=index)
        assert photo.std() > 10
        assert len(np.unique(labels.reshape(-1, 3), axis=0)) >= 3


@pytest.mark.parametrize("kind", KINDS)
def test_same_arguments_give_the_same_pair(kind: str) -> None:
    first = render_pair(kind, size=64, seed=2, index=9)
    np.random.default_rng(0).random(10)
    second = render_pair(kind, size=64, seed=2, index=9)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", [{"seed": 1}, {"index": 1}, {"index": 10_000_000}])
def test_other_seeds_and_indices_give_other_scenes(kind: str, change: dict[str, int]) -> None:
    base = render_pair(kind, size=64)
    other = render_pair(kind, size=64, **change)
    assert (base[1] != other[1]).any(-1).mean() > 0.1
    assert np.abs(base[0].astype(int) - other[0]).mean() > 5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [16, 61, 143])
def test_labels_have_no_colours_but_those_of_the_palette(kind: str, size: int) -> None:
    palette = {tuple(colour) for colour in PALETTES[kind].values()}
    assert len(palette) == len(PALETTES[kind])
    for index in range(5):
        labels = render_pair(kind, size=size, index=index)[1]
        assert {tuple(c) for c in np.unique(labels.reshape(-1, 3), axis=0).tolist()} <= palette


@pytest.mark.parametrize("kind", KINDS)
def test_every_label_occurs(kind: str) -> None:
    seen: set[tuple[int, ...]] = set()
    for index in range(40):
        labels = render_pair(kind, size=64, index=index)[1]
        seen |= {tuple(c) for c in np.unique(labels.reshape(-1, 3), axis=0).tolist()}
    assert seen == set(PALETTES[kind].values())


@pytest.mark.parametrize("index", range(6))
def test_facade_layout_does_not_depend_on_size(index: int) -> None:
    large = render_pair("facades", size=286, index=index)[1]
    small = render_pair("facades", size=143, index=index)[1]
    assert (large[::2, ::2] == small).all(-1).mean() >= 0.93


@pytest.mark.parametrize("index", range(6))
def test_map_layout_does_not_depend_on_size(index: int) -> None:
    small = render_pair("maps", size=143, index=index)[1]
    # Thin slanted lines make a shift of half a pixel count, and no pixel of a picture twice as
    # large has its centre where one of the small picture has it; three times as large, one has.
    triple = render_pair("maps", size=429, index=index)[1]
    assert (triple[1::3, 1::3] == small).all(-1).mean() >= 0.93
    double = render_pair("maps", size=286, index=index)[1].reshape(143, 2, 143, 2, 3)
    agrees = (double == small[:, None, :, None]).all(-1)
    assert agrees.any((1, 3)).mean() >= 0.93
    assert agrees.mean() >= 0.85


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("index", range(3))
def test_photo_does_not_depend_on_size(kind: str, index: int) -> None:
    large = render_pair(kind, size=286, index=index)[0].reshape(143, 2, 143, 2, 3).mean((1, 3))
    small = render_pair(kind, size=143, index=index)[0]
    assert np.abs(large - small).mean() < 6


def test_facade_photos_follow_the_labels() -> None:
    def mean(name: str, channel: int | None = None) -> float:
        return _brightness("facades", FACADE_PALETTE, name, channel=channel)

    assert mean("window") < mean("facade") - 15
    assert mean("door") < mean("facade") - 30
    assert mean("sill") > mean("facade") + 15
    assert mean("molding") > mean("facade") + 15
    assert mean("balcony") < mean("facade")
    assert mean("window", 2) > mean("window", 0)
    assert mean("facade", 0) > mean("facade", 2)


def test_aerial_pictures_follow_the_map() -> None:
    def mean(name: str, channel: int | None = None) -> float:
        return _brightness("maps", MAP_PALETTE, name, channel=channel)

    assert mean("building") > mean("land") + 10
    assert mean("water", 2) > mean("water", 0) + 15
    assert mean("park", 1) > mean("park", 2) + 15
    assert abs(mean("street", 1) - mean("street", 0)) < 12


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [128, 256])
def test_photos_have_fine_texture_beyond_sensor_noise(kind: str, size: int) -> None:
    noise_power = 1.5**2
    for index in range(4):
        grey = render_pair(kind, size=size, index=index)[0].astype(float).mean(-1)
        blurred = grey.copy()
        for axis in (0, 1):
            sides = np.roll(blurred, 1, axis) + np.roll(blurred, -1, axis)
            blurred = 0.5 * blurred + 0.25 * sides
        top = _top_octave_power(grey)
        assert top > 4 * _top_octave_power(blurred)
        assert top > 10 * noise_power


def _top_octave_power(grey: np.ndarray) -> float:
    """Variance in the upper half of the frequencies of either axis."""
    size = len(grey)
    spectrum = np.abs(np.fft.fft2(grey - grey.mean())) ** 2 / size**4
    frequency = np.abs(np.fft.fftfreq(size))
    high = np.maximum(frequency[:, None], frequency[None]) > 0.25
    return float(spectrum[high].sum())


@pytest.mark.parametrize("count", [1, 3, 5])
def test_contact_sheet_holds_the_pairs(count: int) -> None:
    sheet = contact_sheet("maps", count=count, size=32, seed=4)
    assert sheet.dtype == np.uint8
    assert sheet.ndim == 3
    photo, labels = render_pair("maps", size=32, seed=4)
    np.testing.assert_array_equal(sheet[4:36, 4:36], photo)
    np.testing.assert_array_equal(sheet[4:36, 37:69], labels)
    assert (sheet[:4] == 255).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "cats", "size": 64}, "'cats'"),
        ({"kind": "maps", "size": 15}, "size .* 16, not 15"),
        ({"kind": "maps", "size": 64.5}, "size .* 64.5"),
        ({"kind": "facades", "size": 64, "index": -1}, "index .* not -1"),
        ({"kind": "facades", "size": 64, "seed": -7}, "seed .* not -7"),
    ],
)
def test_errors_name_the_value(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        render_pair(**arguments)


def test_contact_sheet_refuses_no_pairs() -> None:
    with pytest.raises(ValueError, match=r"count .* not 0"):
        contact_sheet("facades", count=0)
