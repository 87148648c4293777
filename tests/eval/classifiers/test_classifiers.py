"""Classifiers: what is built, files, training that goes on to the bit, and the study on few pictures."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from steadypix.data.labelled.labelled import Labelled, open_labelled
from steadypix.errors import CheckpointError, InputError
from steadypix.eval.classifiers import loading as classifier_models
from steadypix.eval.classifiers import training as classifier_training
from steadypix.eval.classifiers.file import FILE, load_classifier, save_classifier
from steadypix.eval.classifiers.loading import load_any, load_torchvision
from steadypix.eval.classifiers.nets import ARCHITECTURES, ClassifierConfig, build_classifier
from steadypix.eval.classifiers.study import ROWS, Run, Settings, Study, mean_std, summarise
from steadypix.eval.classifiers.training import STATE, Recipe, schedule, train_classifier, windows_of
from steadypix.eval.eval_classifiers import main as eval_classifiers
from steadypix.eval.torchvision_shim import import_torchvision
from steadypix.gen.weights.tensors import write_tensors
from tests.classifiers import classifier, write_classifier, write_fashion_mnist
from tests.cli import one_error_line

pytestmark = pytest.mark.slow

Capture = pytest.CaptureFixture[str]
RECIPE = Recipe(epochs=3, batch_size=8)
CONFIG = ClassifierConfig(classes=10, in_channels=1, width=8, stem="small", filter="bin5")


@pytest.fixture
def pictures(tmp_path: Path) -> Labelled:
    return open_labelled(write_fashion_mnist(tmp_path / "data"), "train").first(20)


# ---- networks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name.startswith("resnet")])
def test_at_full_width_a_resnet_is_torchvision_s(name: str) -> None:
    """The same names and shapes, and with the same weights the same answers."""
    theirs = getattr(import_torchvision("torchvision.models"), name)(weights=None).eval()
    ours = build_classifier(ClassifierConfig(architecture=name)).eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name.startswith("vgg")])
def test_at_full_width_a_vgg_has_torchvision_s_convs(name: str) -> None:
    theirs = getattr(import_torchvision("torchvision.models"), name)
    with torch.device("meta"):
        expected = {key: x.shape for key, x in theirs(weights=None).state_dict().items() if "features" in key}
        ours = build_classifier(ClassifierConfig(architecture=name)).state_dict()
    assert {key: x.shape for key, x in ours.items() if "features" in key} == expected


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("filter", [None, "tri3"])
def test_small_and_narrow(name: str, filter: str | None) -> None:
    config = ClassifierConfig(
        architecture=name, classes=10, in_channels=1, width=8, stem="small", filter=filter
    )
    torch.manual_seed(0)
    model = build_classifier(config)
    assert sum(p.numel() for p in model.parameters()) < 1e6
    assert model(torch.zeros(2, 1, 32, 32)).shape == (2, 10)


def test_all_filters_start_from_the_same_weights() -> None:
    states = []
    for filter in (None, "rect2", "bin5"):
        torch.manual_seed(3)
        states.append(build_classifier(ClassifierConfig(width=8, stem="small", filter=filter)).state_dict())
    assert list(states[0]) == list(states[1]) == list(states[2])
    assert all(torch.equal(states[0][key], other[key]) for other in states[1:] for key in states[0])


@pytest.mark.parametrize(
    ("words", "culprit"),
    [
        ({"architecture": "resnet9"}, "resnet9"),
        ({"filter": "box"}, "box"),
        ({"width": 0}, "width 0"),
        ({"width": 10_000}, "width 10000"),
        ({"classes": True}, "classes True"),
        ({"stem": "large"}, "large"),
        ({"pools": "gated", "filter": "bin5"}, "one of the two"),
    ],
)
def test_configs_that_cannot_be(words: dict[str, Any], culprit: str) -> None:
    with pytest.raises(InputError, match=culprit):
        ClassifierConfig(**words)


def test_a_gate_needs_a_pool() -> None:
    with pytest.raises(InputError, match="has no pool"):
        build_classifier(ClassifierConfig(width=8, stem="small", pools="gated"))
    with pytest.raises(InputError, match="width 12"):
        build_classifier(ClassifierConfig(width=12))


# ---- files ------------------------------------------------------------------------------------------


def test_a_file_needs_nothing_else(tmp_path: Path) -> None:
    made = classifier(filter="bin5", seed=4)
    save_classifier(tmp_path / "run" / FILE, made)
    found = load_any(str(tmp_path / "run"))
    assert found.name == "run"
    assert found.config == made.config
    assert (found.window_px, found.canvas_px, found.mean, found.std) == (32, 40, (0.3,), (0.3,))
    x = torch.randint(0, 256, (3, 1, 32, 32), dtype=torch.uint8)
    assert torch.equal(found.logits(x), made.logits(x))
    torch.testing.assert_close(found.prepare(x), (x.float() / 255 - 0.3) / 0.3)
    torch.testing.assert_close(found.prepare(x.float() / 255), found.prepare(x))


@pytest.mark.parametrize(
    ("change", "culprit"),
    [
        ({"format": "other"}, "no steadypix classifier"),
        ({"config": {"architecture": "resnet18", "width": 10**9}}, "width 1000000000"),
        ({"config": {"width": 3, "classes": 10, "in_channels": 1}}, "width 3: expected a multiple of 8"),
        ({"config": {"unheard_of": 1}}, "metadata cannot be used"),
        (
            {"config": {"width": 16, "classes": 10, "in_channels": 1, "stem": "small"}},
            "of another architecture",
        ),
        ({"pictures": {}}, "metadata cannot be used"),
        ({"pictures": {"mean": [0], "std": [1], "window_px": 40, "canvas_px": 32}}, "cannot be used"),
        ({"pictures": {"mean": [0, 1], "std": [1], "window_px": 32, "canvas_px": 32}}, "cannot be used"),
        (
            {"pictures": {"mean": ["nan"], "std": [1], "window_px": 32, "canvas_px": 40}},
            "mean .'nan'.: numbers",
        ),
        (
            {"pictures": {"mean": ["0.3"], "std": [1], "window_px": 32, "canvas_px": 40}},
            "mean .'0.3'.: numbers",
        ),
        (
            {"pictures": {"mean": [True], "std": [1], "window_px": 32, "canvas_px": 40}},
            "mean .True.: numbers",
        ),
        ({"pictures": {"mean": [0], "std": [0], "window_px": 32, "canvas_px": 40}}, "std .0.: numbers from"),
        ({"pictures": {"mean": [0], "std": [-1.0], "window_px": 32, "canvas_px": 40}}, "std .-1.0.: numbers"),
    ],
)
def test_foreign_files_are_refused(tmp_path: Path, change: dict[str, Any], culprit: str) -> None:
    made = classifier()
    metadata = {
        "format": "steadypix.classifier.v1",
        "config": dataclasses.asdict(made.config),
        "pictures": {"mean": [0.3], "std": [0.3], "window_px": 32, "canvas_px": 40},
    }
    path = tmp_path / FILE
    write_tensors(path, made.module.state_dict(), {**metadata, **change})
    with pytest.raises(CheckpointError, match=culprit) as caught:
        load_classifier(path)
    assert str(path) in str(caught.value)


def test_torchvision_s_weights_from_a_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = import_torchvision("torchvision.models").resnet18(weights=None).eval()
    torch.save(theirs.state_dict(), tmp_path / "resnet18.pth")
    found = load_any(f"resnet18={tmp_path / 'resnet18.pth'}")
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(found.logits(x), theirs(found.prepare(x)))
    with pytest.raises(CheckpointError, match=r"resnet18\.pth: lacks"):
        load_torchvision("resnet34", tmp_path / "resnet18.pth")


def as_published(name: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict as torchvision's files have it: older than counts of batches and names without dots."""
    old = {key: x for key, x in state.items() if not key.endswith("num_batches_tracked")}
    return {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", key): x for key, x in old.items()}


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "googlenet"])
def test_a_file_gives_what_torchvision_s_own_loader_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    models = import_torchvision("torchvision.models")
    torch.manual_seed(0)
    words = {"init_weights": False} if name == "googlenet" else {}
    drawn = models.get_model(name, weights=None, **words)
    for module in drawn.modules():
        if isinstance(module, nn.Conv2d):  # so that the picture is still to be seen in what comes out
            nn.init.kaiming_normal_(module.weight)
    state = as_published(name, drawn.state_dict())
    torch.save(state, tmp_path / "published.pth")
    weights = models.get_model_weights(name)
    monkeypatch.setattr(weights, "get_state_dict", lambda self, *rest, **words: dict(state))
    theirs = models.get_model(name, weights=weights.DEFAULT).eval()
    found = load_any(f"{name}={tmp_path / 'published.pth'}")
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = theirs(found.prepare(x))
        assert expected.std() > 0.1
        torch.testing.assert_close(found.logits(x), expected)


@pytest.mark.parametrize("name", ["inception_v3", "vit_b_32", "vit_h_14"])
def test_a_file_s_network_is_built_for_the_published_weights(name: str) -> None:
    models = import_torchvision("torchvision.models")
    published = models.get_model_weights(name).DEFAULT
    with torch.device("meta"):
        module = classifier_models._unfilled(models, name, published)
    if name == "inception_v3":
        assert module.transform_input  # its parameters are more: the published number is without the aids
    else:
        assert sum(p.numel() for p in module.parameters()) == published.meta["num_params"]


@pytest.mark.parametrize(
    ("name", "weights", "canvas", "window", "places", "resampling"),
    [
        ("resnet50", "IMAGENET1K_V1", 256, 224, 32, "bilinear"),
        ("efficientnet_b0", "IMAGENET1K_V1", 256, 224, 32, "bilinear"),
        ("inception_v3", "IMAGENET1K_V1", 342, 299, None, "bilinear"),
        ("efficientnet_b3", "IMAGENET1K_V1", 320, 300, None, "bicubic"),
    ],
)
def test_torchvision_s_networks_are_measured_as_the_author_did(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    weights: str,
    canvas: int,
    window: int,
    places: int | None,
    resampling: str,
) -> None:
    """The first weights; 256 px bilinearly, 224 px at offsets 0 to 31, wherever they see 224 px."""
    models = import_torchvision("torchvision.models")
    asked: list[Any] = []

    def get_model(name: str, weights: Any) -> nn.Module:
        asked.append(weights)
        return nn.Conv2d(3, 1, 1)

    monkeypatch.setattr(models, "get_model", get_model)
    found = load_any(name)
    assert asked[0].name == weights
    assert (found.canvas_px, found.window_px, found.places, found.resampling) == (
        canvas,
        window,
        places,
        resampling,
    )


def test_random_weights_are_never_taken_for_trained_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    models = import_torchvision("torchvision.models")

    def offline(name: str, weights: object = None) -> nn.Module:
        assert weights is not None
        raise OSError("no route to host")

    monkeypatch.setattr(models, "get_model", offline)
    with pytest.raises(InputError, match=r"resnet18: its weights cannot be downloaded.*resnet18=FILE"):
        load_any("resnet18")


def test_the_real_squeezenet(real_data: Path) -> None:
    """Trained on ImageNet, it is sure of what it sees; with random weights every class is about as likely."""
    network = load_any(f"squeezenet1_1={real_data / 'weights' / 'squeezenet1_1_fp16rounded.pth'}")
    assert (network.window_px, network.canvas_px, network.classes, network.in_channels) == (224, 256, 1000, 3)
    photos = open_labelled(real_data / "facades", "test", channels=3).first(8)
    windows = photos.canvases(range(8), 256)[..., 16:240, 16:240]
    assert network.logits(windows).softmax(1).amax(1).mean() > 0.1
    for module in network.module.modules():
        if isinstance(module, nn.Conv2d):
            module.reset_parameters()
    assert network.logits(windows).softmax(1).amax(1).mean() < 0.02


# ---- training ---------------------------------------------------------------------------------------


def state(folder: Path) -> dict[str, Tensor]:
    return load_classifier(folder).module.state_dict()


def test_a_killed_training_goes_on_to_the_bit(
    tmp_path: Path, pictures: Labelled, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_classifier(CONFIG, pictures, RECIPE, tmp_path / "whole", seed=1)

    class Killed(Exception):
        pass

    def die(epoch: int, loss: float) -> None:
        if epoch == 2:
            raise Killed

    with pytest.raises(Killed):
        train_classifier(CONFIG, pictures, RECIPE, tmp_path / "cut", seed=1, report=die)
    assert (tmp_path / "cut" / STATE).exists()
    epochs: list[int] = []
    train_classifier(
        CONFIG, pictures, RECIPE, tmp_path / "cut", seed=1, report=lambda epoch, loss: epochs.append(epoch)
    )
    assert epochs == [2, 3]
    assert not (tmp_path / "cut" / STATE).exists()
    whole, cut = state(tmp_path / "whole"), state(tmp_path / "cut")
    assert all(torch.equal(whole[key], cut[key]) for key in whole)


def test_the_state_of_another_run_is_not_gone_on_with(tmp_path: Path, pictures: Labelled) -> None:
    def die(epoch: int, loss: float) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_classifier(CONFIG, pictures, RECIPE, tmp_path, seed=1, report=die)
    epochs: list[int] = []
    train_classifier(
        CONFIG, pictures, RECIPE, tmp_path, seed=2, report=lambda epoch, loss: epochs.append(epoch)
    )
    assert epochs == [1, 2, 3]


def test_training_learns(tmp_path: Path) -> None:
    """Ten kinds of stripes: from chance to most of them right."""
    from steadypix.eval.classifiers.consistency import measure_accuracy

    data = write_fashion_mnist(tmp_path / "data", train=100)
    train_classifier(CONFIG, open_labelled(data, "train"), Recipe(epochs=12, batch_size=16), tmp_path / "run")
    found = measure_accuracy(load_classifier(tmp_path / "run"), open_labelled(data, "test"))
    assert found["mean"] > 0.5


def test_schedule() -> None:
    values = [schedule(done, 0.1) for done in np.linspace(0, 1, 101)]
    assert max(values) == values[10] == 1
    assert values[0] == 0.01
    assert values[-1] == pytest.approx(0)
    assert schedule(0.55, 0.1) == pytest.approx(0.5)


def test_windows(pictures: Labelled) -> None:
    canvases = pictures.canvases(range(8), 40)
    plain = Recipe(flip=False)
    assert torch.equal(windows_of(canvases, plain, np.random.default_rng(0)), canvases[..., 4:36, 4:36])
    flipped = windows_of(canvases, Recipe(), np.random.default_rng(0))
    middle = canvases[..., 4:36, 4:36]
    mirrored = [
        torch.equal(a, b.flip(-1)) and not torch.equal(a, b) for a, b in zip(flipped, middle, strict=True)
    ]
    assert 0 < sum(mirrored) < 8
    shifted = windows_of(canvases, Recipe(flip=False, random_shifts=True), np.random.default_rng(0))
    for window, canvas in zip(shifted, canvases, strict=True):
        places = [(r, c) for r in range(9) for c in range(9)]
        assert any(torch.equal(window, canvas[:, r : r + 32, c : c + 32]) for r, c in places)
    assert not torch.equal(shifted, middle)


# ---- the study --------------------------------------------------------------------------------------


def test_mean_and_deviation() -> None:
    assert mean_std([1.0, 2.0, 3.0]) == {"mean": 2.0, "std": 1.0, "n": 3}
    assert mean_std([1.0])["std"] is None


def tiny(data: Path, out: Path, *words: str) -> list[str]:
    size = ["--seeds", "1", "--epochs", "1", "--width", "8", "--train_limit", "30", "--limit", "4"]
    return ["--data", str(data), "--out", str(out), *size, "--device", "cpu", *words]


def test_the_study_end_to_end(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steadypix.eval.classifiers.study.FEATURE_SHIFTS", (0, 8))
    data, out = write_fashion_mnist(tmp_path / "data"), tmp_path / "out"
    document = tmp_path / "docs" / "classification.md"
    assert eval_classifiers(tiny(data, out, "--document", str(document))) == 0
    captured = capsys.readouterr()
    assert captured.out == (out / "classification.md").read_text()
    results = json.loads((out / "results.json").read_text())
    assert [(row["architecture"], row["row"]) for row in results["table"]] == [
        (architecture, row) for architecture, rows in ROWS.items() for row in rows
    ]
    base = results["table"][0]
    assert base["mce"]["mean"] == 1
    assert base["mfr"] is None or base["mfr"]["mean"] == 1  # of few pictures none may flip
    assert base["consistency_gain"]["mean"] == 0
    for page in (out / "classification.md", document):
        text = page.read_text()
        for line in text.splitlines():
            if line.startswith("!["):
                assert (page.parent / line.partition("](")[2].rstrip(")")).is_file()
        assert str(tmp_path) not in text
    assert "Bin-5 against none" in document.read_text()
    assert (out / "classification.html").read_text().count("data:image/png;base64,") == 7

    # All is there: the same command trains and measures nothing.
    def never(*args: object, **words: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("steadypix.eval.classifiers.study.train_classifier", never)
    monkeypatch.setattr("steadypix.eval.classifiers.study.Study._measure", never)
    assert eval_classifiers(tiny(data, out, "--networks", "vgg11_bn", "--filters", "bin5")) == 0
    again = json.loads((out / "results.json").read_text())
    assert again["table"] == [results["table"][place] for place in (4, 5)]


def test_other_pictures_in_the_same_folder_are_trained_and_measured_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    real = classifier_training.train_classifier

    def train(*args: Any, **words: Any) -> None:
        done.append("trained")
        real(*args, **words)

    def measured(self: Study, classifier: Any, *, dense: bool) -> dict[str, Any]:
        done.append("measured")
        return {}

    monkeypatch.setattr("steadypix.eval.classifiers.study.train_classifier", train)
    monkeypatch.setattr(Study, "_measure", measured)
    folder = write_fashion_mnist(tmp_path / "data")
    data, test = open_labelled(folder, "train"), open_labelled(folder, "test")
    assert data.pixels is not None
    assert test.pixels is not None
    other_pixels = dataclasses.replace(data, pixels=255 - data.pixels)
    other_labels = dataclasses.replace(data, labels=data.labels[::-1].copy())
    other_test = dataclasses.replace(test, pixels=255 - test.pixels)
    moved = dataclasses.replace(data, source="elsewhere")
    size = Settings(width=8, train_images=10, test_images=4, recipe=Recipe(epochs=1))
    for train_on, measure_on, expected in (
        (data, test, ["trained", "measured"]),
        (moved, test, []),
        (data, other_test, ["measured"]),
        (other_pixels, other_test, ["trained", "measured"]),
        (other_labels, other_test, ["trained", "measured"]),
    ):
        done.clear()
        study = Study(tmp_path / "out", train_on, measure_on, size, "cpu")
        run = Run("resnet18", "none", 0)
        study.fit(run)
        study.measure(run)
        assert done == expected


def test_part_of_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steadypix.eval.classifiers.study.FEATURE_SHIFTS", (0, 1))
    data, out = write_fashion_mnist(tmp_path / "data"), tmp_path / "out"
    words = ["--networks", "vgg11_bn", "--filters", "bin5", "--random_shifts"]
    assert eval_classifiers(tiny(data, out, *words)) == 0
    results = json.loads((out / "results.json").read_text())
    assert [row["row"] for row in results["table"]] == ["none", "bin5"]
    assert "windows from anywhere" in (out / "classification.md").read_text()
    assert "Dense evaluation" not in (out / "classification.md").read_text()


def test_summaries_are_relative_to_the_plain_network_of_the_same_seed() -> None:
    def measured(row: str, seed: int, error: float, consistency: float) -> dict[str, Any]:
        return {
            "architecture": "resnet18",
            "row": row,
            "seed": seed,
            "accuracy": {"mean": 0.9},
            "consistency": {"crop": {"mean": consistency}, "roll": {"mean": 0.5}},
            "diagonal": {"mean_step": 0.1},
            "corruptions": {"fog": [error] * 5, "zoom_blur": [0.1] * 5},
            "ground": {"as it is": error},
            "flips": {"noise": error},
            "features": {"layers": {"layer2.0": {"stride": 2, "mean": error}}},
        }

    table = summarise(
        [
            measured("none", 0, 0.2, 0.80),
            measured("none", 1, 0.4, 0.90),
            measured("bin5", 0, 0.1, 0.85),
            measured("bin5", 1, 0.4, 0.97),
        ]
    )
    ours = table[1]
    assert ours["mce_ground_lifted"]["mean"] == pytest.approx((0.5 + 1) / 2)
    assert ours["mce_ground_black"]["mean"] == 1
    assert ours["mce"]["mean"] == pytest.approx(((0.5 + 1) / 2 + (1 + 1) / 2) / 2)
    assert ours["consistency_gain"]["mean"] == pytest.approx((0.05 + 0.07) / 2)
    assert ours["error_corrupted"]["mean"] == pytest.approx((0.1 + 0.4 + 0.1 + 0.1) / 4)
    assert ours["features"]["layer2.0"]["stride"] == 2


def test_an_interrupted_study_keeps_what_it_has(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = write_fashion_mnist(tmp_path / "data"), tmp_path / "out"
    real = classifier_training.save_classifier
    calls: list[Path] = []

    def full(path: Path, made: Any) -> None:
        calls.append(path)
        if len(calls) == 2:
            raise OSError(28, "No space left on device", str(path))
        real(path, made)

    monkeypatch.setattr(classifier_training, "save_classifier", full)
    assert eval_classifiers(tiny(data, out)) == 2
    one_error_line(capsys, "No space left on device")
    assert (out / "runs" / "resnet18-none-0" / "measures.json").exists()
    assert not (out / "runs" / "resnet18-rect2-0" / FILE).exists()


def test_bad_input(tmp_path: Path, capsys: Capture) -> None:
    data = write_fashion_mnist(tmp_path / "data")
    (tmp_path / "empty").mkdir()
    for words, culprits in (
        (["--data", str(tmp_path / "nowhere")], ["nowhere"]),
        (["--data", str(tmp_path / "empty")], ["empty", "no idx files"]),
        (["--data", str(data), "--width", "12"], ["--width", "multiple of 8", "'12'"]),
        (["--data", str(data), "--networks", "resnet18,vgg19"], ["vgg19"]),
        (["--data", str(data), "--networks", "resnet18", "--filters", "gated"], ["gated", "bin5"]),
        (["--data", str(data), "--seeds", "0"], ["--seeds"]),
    ):
        assert eval_classifiers([*words, "--out", str(tmp_path / "out")]) == 2
        one_error_line(capsys, *culprits)
        assert not (tmp_path / "out").exists()


def test_a_run_is_named_by_its_folder(tmp_path: Path) -> None:
    assert load_classifier(write_classifier(tmp_path / "mine")).name == "mine"
