"""Which frames and which part of them a report shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from steadypix.eval.sequence.flow import Motion
from steadypix.eval.sequence.look import CLOSE_UP_PX, FILM_FRAMES, PROFILE_FRAMES, choose_look, read_look
from steadypix.eval.sequence.measure import Measured
from steadypix.eval.sequence.scores import SequenceScores
from tests.eval.sequence.sequences import texture, write_frames


def measured(path: Path, frames: list[np.ndarray], factor: int = 1) -> Measured:
    """A sequence measured as if nothing moved."""
    height, width = frames[0].shape[:2]
    scores = SequenceScores()
    still = Motion(np.zeros((height, width, 2), np.float32), np.ones((height, width), np.bool_))
    for number, frame in enumerate(frames):
        scores.add(frame, still if number else None)
    return Measured(path, path.name, (width, height), factor, scores)


def still_but(count: int, height: int, width: int, *, at: int, y: int, x: int) -> list[np.ndarray]:
    """Black frames, of which frame `at` has one white pixel."""
    frames = [np.zeros((height, width, 3), np.float32) for _ in range(count)]
    frames[at][y, x] = 1.0
    return frames


def test_it_is_where_and_when_an_output_flickers() -> None:
    height, width, count = 300, 400, 120
    black = [np.zeros((height, width, 3), np.float32)] * count
    output = still_but(count, height, width, at=110, y=17, x=390)
    look = choose_look([measured(Path("a"), black), measured(Path("b"), output)], [1.0] * (count - 1))
    left, top, right, bottom = look.box
    assert (right - left, bottom - top) == (CLOSE_UP_PX, CLOSE_UP_PX)
    assert left <= 390 < right
    assert look.row == 17
    assert look.stop - look.start == PROFILE_FRAMES
    assert look.film[1] - look.film[0] == FILM_FRAMES
    for start, stop in ((look.start, look.stop), look.film, look.strip):
        assert start <= 109
        assert stop >= 111


def test_where_nothing_flickers_it_is_the_middle_from_the_start() -> None:
    black = [np.zeros((300, 400, 3), np.float32)] * 40
    look = choose_look([measured(Path(name), black) for name in "ab"], [1.0] * 39)
    assert look.box == (72, 22, 72 + 256, 22 + 256)
    assert (look.start, look.stop, look.film) == (0, 40, (0, 24))


def test_a_cut_is_not_what_is_shown() -> None:
    black = [np.zeros((40, 40, 3), np.float32)] * 120
    white = black[:60] + [np.ones((40, 40, 3), np.float32)] * 60
    shares = [1.0] * 119
    shares[59] = 0.1
    look = choose_look([measured(Path("a"), black), measured(Path("b"), white)], shares)
    assert look.start == 0


def test_what_is_read_again_is_of_one_size(tmp_path: Path) -> None:
    """Of an output twice as large half as much is shown, and the input enlarged."""
    small = [texture(200, 300, seed=seed) for seed in range(3)]
    large = [frame.repeat(2, axis=0).repeat(2, axis=1) for frame in small]
    write_frames(tmp_path / "small", small)
    write_frames(tmp_path / "large", large)
    both = [measured(tmp_path / "small", small), measured(tmp_path / "large", large, 2)]
    look = choose_look(both, [1.0, 1.0])
    left, top, right, bottom = look.box
    assert (right - left, bottom - top) == (128, 128)
    shown, enlarged = read_look(both, look)
    assert shown.film.shape == (3, 256, 256, 3)
    assert np.array_equal(shown.film, enlarged.film)
    assert np.array_equal(shown.profile[1], shown.film[1, 2 * (look.row - top) + 1])
    levels = np.rint(small[1] * 255)[top:bottom, left:right]
    assert np.array_equal(shown.film[1, ::2, ::2], levels)
    flicker = np.sqrt(np.mean([np.square(a - b).mean(axis=2) for a, b in ((0, 1), (1, 2)) for a, b in
                               [(small[a], small[b])]], axis=0)) * 255  # fmt: skip
    assert shown.flicker[::2, ::2] == pytest.approx(flicker[top:bottom, left:right], rel=1e-4)
