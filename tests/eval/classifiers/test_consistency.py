"""Consistency and accuracy against loops, on classifiers whose answer is known, and the command."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from steadypix.data.labelled.labelled import Labelled, open_labelled
from steadypix.errors import InputError
from steadypix.eval.charts import style
from steadypix.eval.classifiers.consistency import (
    curve_summary,
    diagonal_curves,
    draw_pair,
    measure_accuracy,
    measure_consistency,
    proportion,
    protocol_of,
)
from steadypix.eval.classifiers.file import FILE, Classifier, save_classifier
from steadypix.eval.eval_consistency import curves_of
from steadypix.eval.eval_consistency import main as eval_consistency
from steadypix.eval.shifts.protocols import make_protocol
from tests.classifiers import classifier, write_classifier, write_fashion_mnist
from tests.cli import one_error_line

pytestmark = pytest.mark.slow

Capture = pytest.CaptureFixture[str]


class Constant(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.arange(10.0).expand(len(x), -1)


class Corner(Constant):
    """The class is told by the first pixel alone."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.nn.functional.one_hot((x[:, 0, 0, 0] * 9).round().long().clamp(0, 9), 10).float()


def fixed(module: nn.Module, **changes: int) -> Classifier:
    return dataclasses.replace(classifier(), module=module, mean=(0.0,), std=(1.0,), **changes)


@pytest.fixture
def pictures(tmp_path: Path) -> Labelled:
    return open_labelled(write_fashion_mnist(tmp_path / "data"), "test")


# ---- what is measured -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["crop", "roll"])
def test_a_constant_classifier_is_consistent(pictures: Labelled, name: str) -> None:
    found = measure_consistency(fixed(Constant()), pictures, name, pairs=3)
    assert found["mean"] == 1.0
    assert found["stderr"] == 0.0
    assert measure_accuracy(fixed(Constant()), pictures)["mean"] == 0.1  # one class of ten


@pytest.mark.parametrize("name", ["crop", "roll"])
@pytest.mark.parametrize("pairs", [1, 2])
def test_consistency_against_loops(pictures: Labelled, name: str, pairs: int) -> None:
    network = fixed(Corner())
    found = measure_consistency(network, pictures, name, pairs=pairs, seed=5, batch_size=7)
    agree = np.zeros((len(pictures), pairs))
    for i in range(len(pictures)):
        canvas = pictures.canvas(i, 40)[0].numpy() / 255
        for j in range(pairs):
            classes = []
            for dx, dy in np.random.default_rng((5, i, j)).integers(
                *((0, 32) if name == "roll" else (-4, 5)), (2, 2)
            ):
                # Shift right by dx: the window starts dx further left.
                row, column = (4 + (-dy) % 32, 4 + (-dx) % 32) if name == "roll" else (4 - dy, 4 - dx)
                classes.append(round(9 * canvas[row, column]))
            agree[i, j] = classes[0] == classes[1]
    assert 0 < agree.mean() < 1
    per_picture = agree.mean(1)
    assert found["mean"] == pytest.approx(per_picture.mean())
    assert found["stderr"] == pytest.approx(per_picture.std(ddof=1) / math.sqrt(len(pictures)))


def test_one_pair_has_the_binomial_error() -> None:
    values = np.array([1.0] * 30 + [0.0] * 10)
    found = proportion(values)
    assert found["stderr"] == pytest.approx(math.sqrt(0.75 * 0.25 / 39))
    assert proportion(values[:1])["stderr"] is None


@given(st.integers(0, 50), st.integers(0, 3), st.sampled_from(["crop", "roll"]))
@settings(max_examples=50, deadline=None)
def test_pairs_are_a_function_of_seed_picture_and_number(index: int, pair: int, name: str) -> None:
    protocol = make_protocol(name, canvas_px=41, window_px=32)
    first = draw_pair(protocol, 0, index, pair)
    assert (first == draw_pair(protocol, 0, index, pair)).all()
    low, high = (0, 31) if name == "roll" else (-5, 4)
    assert first.min() >= low
    assert first.max() <= high
    for dx, dy in first.tolist():  # every drawn window lies on the canvas
        protocol.check((dx, dy), 0)


def test_draws_are_uniform() -> None:
    protocol = make_protocol("crop", canvas_px=34, window_px=32)
    drawn = np.concatenate([draw_pair(protocol, 0, i, 0) for i in range(3000)])
    counts = np.unique(drawn, axis=0, return_counts=True)[1]
    assert len(counts) == 9
    assert abs(counts - 6000 / 9).max() < 5 * math.sqrt(6000 / 9)


def test_accuracy_of_labels_that_are_not_there(pictures: Labelled) -> None:
    unlabelled = dataclasses.replace(pictures, classes=())
    with pytest.raises(InputError, match="has no labels"):
        measure_accuracy(classifier(), unlabelled)
    assert measure_consistency(classifier(), unlabelled, "crop")["n_images"] == 20
    with pytest.raises(InputError, match="has 10 classes, but test knows 3"):
        measure_accuracy(classifier(classes=3), pictures)


def test_a_window_without_room(pictures: Labelled) -> None:
    with pytest.raises(InputError, match=r"test: its 32 px window fills its canvas.*--protocol roll"):
        measure_consistency(fixed(Constant(), canvas_px=32), pictures, "crop")
    with pytest.raises(InputError, match="protocol 'shake' is unknown"):
        protocol_of(classifier(), "shake")


def test_diagonal_curves_against_single_windows(pictures: Labelled) -> None:
    network = classifier()
    curves = diagonal_curves(network, pictures.first(2), [-2, 0, 3])
    for index in range(2):
        for place, shift in enumerate([-2, 0, 3]):
            start = 4 - shift
            window = pictures.canvas(index, 40)[:, start : start + 32, start : start + 32]
            with torch.no_grad():
                logits = network.module(network.prepare(window[None]))[0].double()
            expected = logits.softmax(0)[int(pictures.labels[index])].item()
            assert curves[index, place] == pytest.approx(expected, abs=1e-5)
    with pytest.raises(InputError, match="would leave the 40 px canvas"):
        diagonal_curves(network, pictures, [5])
    summary = curve_summary(np.array([[0.0, 1.0, 0.5], [0.2, 0.2, 0.2]]))
    assert summary == {"mean_step": 0.375, "mean_range": 0.5, "n_images": 2}


def test_fewer_places_start_at_the_canvas_s_left_and_top() -> None:
    """The author's 32 of the 33 places of 224 px on 256: windows start at 0 to 31."""
    protocol = make_protocol("crop", canvas_px=256, window_px=224)
    drawn = np.array([draw_pair(protocol, 0, index, 0, places=32) for index in range(2000)])
    starts = protocol.origin_px - drawn
    assert sorted(set(starts.ravel().tolist())) == list(range(32))
    every = np.array([draw_pair(protocol, 0, index, 0) for index in range(2000)])
    assert sorted(set((protocol.origin_px - every).ravel().tolist())) == list(range(33))


def test_files_are_resampled_as_the_network_asks(tmp_path: Path) -> None:
    """Bilinear as torchvision's Resize and CenterCrop do it."""
    from PIL import Image

    from steadypix.eval.classifiers.loading import open_pictures
    from steadypix.eval.torchvision_shim import import_torchvision

    transforms = import_torchvision("torchvision.transforms")
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    (tmp_path / "a").mkdir()
    Image.fromarray(pixels).save(tmp_path / "a" / "one.png")
    network = dataclasses.replace(classifier(), mean=(0.5,) * 3, std=(0.5,) * 3, resampling="bilinear")
    found = open_pictures(network, str(tmp_path), "test").canvas(0, 40).permute(1, 2, 0).numpy()
    resized = transforms.CenterCrop(40)(transforms.Resize(40)(Image.fromarray(pixels)))
    np.testing.assert_array_equal(found, np.asarray(resized))
    sharp = open_pictures(dataclasses.replace(network, resampling="lanczos"), str(tmp_path), "test")
    assert not np.array_equal(sharp.canvas(0, 40).permute(1, 2, 0).numpy(), found)


# ---- the command ------------------------------------------------------------------------------------


def test_the_command(tmp_path: Path, capsys: Capture) -> None:
    data = write_fashion_mnist(tmp_path / "data")
    runs = [write_classifier(tmp_path / name, seed=seed) for seed, name in enumerate(("one", "two"))]
    words = ["--data", str(data), "--device", "cpu", "--out"]
    assert eval_consistency([*map(str, runs), *words, str(tmp_path / "a")]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split() == ["network", "crop", "[%]", "roll", "[%]", "accuracy", "[%]"]
    assert [line.split()[0] for line in printed[1:]] == ["one", "two"]
    assert eval_consistency([*map(str, runs), *words, str(tmp_path / "b"), "--batch_size", "3"]) == 0
    first, second = (json.loads((tmp_path / name / "consistency.json").read_text()) for name in "ab")
    assert first == second
    assert first["models"][0]["consistency"]["crop"]["n_images"] == 20
    page = (tmp_path / "a" / "consistency.html").read_text()
    assert page.count("data:image/png;base64,") == 2


def run_of(folder: Path, **changes: int) -> str:
    """A run whose windows or canvases have another size."""
    save_classifier(folder / FILE, dataclasses.replace(classifier(), **changes))
    return str(folder)


def test_networks_of_different_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is drawn against its own shifts; one whose window fills its canvas has none."""
    data = write_fashion_mnist(tmp_path / "data")
    runs = [
        run_of(tmp_path / "narrow", window_px=24),
        run_of(tmp_path / "full", canvas_px=32),
        run_of(tmp_path / "usual"),
    ]
    figures: list[Any] = []
    save = style.save_chart

    def keep(path: Path, figure: Any) -> None:
        figures.append(figure)
        save(path, figure)

    monkeypatch.setattr(style, "save_chart", keep)
    words = ["--data", str(data), "--device", "cpu", "--protocol", "roll", "--limit", "8"]
    assert eval_consistency([*runs, *words, "--out", str(tmp_path / "out")]) == 0
    panels = [axes for axes in figures[-1].axes if axes.lines]
    assert len(panels) == 6
    for axes in panels:
        assert [list(line.get_xdata()) for line in axes.lines] == [list(range(-8, 9)), list(range(-4, 5))]


def test_networks_on_pictures_of_their_own(tmp_path: Path) -> None:
    """The diagonal shows the first one's pictures, and so the others' curves only where they are the same."""
    subjects = []
    for name, count in (("one", 4), ("two", 3), ("three", 4)):
        data = write_fashion_mnist(tmp_path / str(count), test=count)
        subjects.append((dataclasses.replace(classifier(), name=name), open_labelled(data)))
    curves, titles = curves_of(subjects)
    assert list(curves) == ["one", "three"]
    assert len(titles) == 4


def test_classifiers_of_one_name_are_told_apart(tmp_path: Path, capsys: Capture) -> None:
    data = write_fashion_mnist(tmp_path / "data")
    runs = [str(write_classifier(tmp_path / name / "run", seed=seed)) for seed, name in enumerate("ab")]
    out = tmp_path / "out"
    assert eval_consistency([*runs, "--data", str(data), "--device", "cpu", "--out", str(out)]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == runs
    models = json.loads((out / "consistency.json").read_text())["models"]
    assert [model["name"] for model in models] == runs


def test_other_classes_leave_out_accuracy_alone(tmp_path: Path, capsys: Capture) -> None:
    """And that is said before anything is measured."""
    data = write_fashion_mnist(tmp_path / "data")
    runs = [str(write_classifier(tmp_path / "ten")), str(write_classifier(tmp_path / "three", classes=3))]
    words = ["--data", str(data), "--device", "cpu", "--out", str(tmp_path / "out")]
    assert eval_consistency([*runs, *words]) == 0
    printed = capsys.readouterr()
    note = f"three: knows 3 classes, but {data} has 10; measured without accuracy"
    assert printed.err.splitlines()[0] == note
    ten, three = json.loads((tmp_path / "out" / "consistency.json").read_text())["models"]
    assert "accuracy" in ten
    assert "accuracy" not in three
    assert three["consistency"]["crop"]["n_images"] == 20
    assert printed.out.splitlines()[-1].split()[-1] == "-"


def test_workers_would_change_nothing_and_are_no_option(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        eval_consistency(["--help"])
    shown = capsys.readouterr().out
    assert "--seed" in shown
    assert "--workers" not in shown


def test_no_room_is_found_before_anything_is_measured(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_fashion_mnist(tmp_path / "data")
    runs = [run_of(tmp_path / "usual"), run_of(tmp_path / "full", canvas_px=32)]
    monkeypatch.setattr("steadypix.eval.eval_consistency.measure", None)  # to call it is a traceback
    words = ["--data", str(data), "--device", "cpu", "--out", str(tmp_path / "out")]
    assert eval_consistency([*runs, *words]) == 2
    one_error_line(capsys, "full", "--protocol roll")


def test_bad_input(tmp_path: Path, capsys: Capture) -> None:
    run = str(write_classifier(tmp_path / "run"))
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "classifier.safetensors").write_bytes(b"x" * 100)
    for words, culprits in (
        ([run], ["--data"]),
        ([run, run, "--data", str(write_fashion_mnist(tmp_path / "data"))], [run, "named twice"]),
        ([run, "--protocol", "crop,shake"], ["shake"]),
        ([run, "--data", str(tmp_path / "nowhere")], ["nowhere"]),
        ([str(tmp_path / "damaged")], ["damaged", "no safetensors"]),
        (["vgg20"], ["vgg20", "vgg16"]),
    ):
        assert eval_consistency([*words, "--device", "cpu", "--out", str(tmp_path / "out")]) == 2
        one_error_line(capsys, *culprits)
        assert not (tmp_path / "out").exists()
