"""Fine-tuning: what is kept of pretrained weights, which pictures are seen, and the figures."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from steadypix.data.labelled.labelled import open_labelled
from steadypix.errors import InputError
from steadypix.eval.classifiers.file import FILE, load_classifier
from steadypix.eval.classifiers.nets import ClassifierConfig, build_classifier
from steadypix.eval.classifiers.training import Recipe, load_body, train_classifier
from steadypix.eval.finetuning.__main__ import main
from steadypix.eval.finetuning.experiment import (
    FineTuning,
    Settings,
    interval,
    of_classes,
    pretrained,
    start_of,
    summarise,
)
from steadypix.eval.torchvision_shim import import_torchvision
from tests.classifiers import classifier, write_classifier, write_fashion_mnist
from tests.cli import one_error_line

pytestmark = pytest.mark.slow

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_fashion_mnist(tmp_path / "data")


def test_half_of_the_classes(data: Path) -> None:
    pictures = open_labelled(data, "train")
    others = of_classes(pictures, range(5, 10))
    assert others.classes == pictures.classes[5:]
    places = [i for i, label in enumerate(pictures.labels) if label >= 5]
    assert others.labels.tolist() == [pictures.labels[i] - 5 for i in places]
    assert pictures.pixels is not None
    np.testing.assert_array_equal(others.pixels, pictures.pixels[places])


def test_all_but_the_last_layer_is_kept(data: Path, tmp_path: Path) -> None:
    """Without a learning rate nothing else changes, batch norm's statistics aside."""
    base = classifier(filter="bin5", seed=3)
    start = start_of(base)
    config = ClassifierConfig(classes=5, in_channels=1, width=8, stem="small", filter="bin5")
    pictures = of_classes(open_labelled(data, "train"), range(5, 10))
    recipe = Recipe(epochs=1, learning_rate=0.0)
    train_classifier(config, pictures, recipe, tmp_path / "run", start=start)
    found = load_classifier(tmp_path / "run")
    assert (found.mean, found.std) == (base.mean, base.std)
    assert found.provenance["start_sha256"] == start.sha256
    own = base.module.state_dict()
    for key, value in found.module.state_dict().items():
        if key.startswith("fc."):
            assert value.shape[0] == 5
        elif "running" not in key and "num_batches" not in key:
            assert torch.equal(value, own[key]), key


def test_weights_of_another_network_are_refused() -> None:
    model = build_classifier(ClassifierConfig(classes=5, in_channels=1, width=16, stem="small"))
    with pytest.raises(InputError, match=r"bn1\.bias is not that of the network"):
        load_body(model, classifier().module.state_dict())


def test_torchvision_s_weights_come_from_a_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = import_torchvision("torchvision.models").resnet18(weights=None)
    torch.save(theirs.state_dict(), tmp_path / "net.pth")
    config, start = pretrained(f"resnet18={tmp_path / 'net.pth'}", "cpu")
    assert (config.width, config.in_channels, config.stem, config.filter) == (64, 3, "imagenet", None)
    for filter in (None, "bin5"):
        model = build_classifier(dataclasses.replace(config, classes=5, filter=filter))
        load_body(model, start.state)
        assert torch.equal(model.get_parameter("layer4.1.conv2.weight"), theirs.layer4[1].conv2.weight)
    other = import_torchvision("torchvision.models").squeezenet1_1(weights=None)
    torch.save(other.state_dict(), tmp_path / "s.pth")
    with pytest.raises(InputError, match="expected a run, or of torchvision's resnet18"):
        pretrained(f"squeezenet1_1={tmp_path / 's.pth'}", "cpu")


def test_given_weights_start_every_row(data: Path, tmp_path: Path) -> None:
    run = write_classifier(tmp_path / "run", seed=5)
    settings = Settings(pretrained=str(run), test_images=4, corrupted_images=2)
    train, test = (open_labelled(data, split) for split in ("train", "test"))
    experiment = FineTuning(tmp_path / "out", train, test, settings, "cpu")
    (plain, start), (blurred, same) = (experiment.pretrain(filter) for filter in ("none", "bin5"))
    assert (plain.filter, blurred.filter) == (None, "bin5")
    assert start.sha256 == same.sha256
    assert not (tmp_path / "out").exists()  # nothing is pretrained


def test_intervals_are_student_s() -> None:
    values = [0.9, 0.92, 0.95, 0.91, 0.93]
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = interval(values)
    assert found["mean"] - found["half_ci95"] == pytest.approx(low)
    assert found["mean"] + found["half_ci95"] == pytest.approx(high)
    assert interval([0.5])["half_ci95"] is None


def test_differences_are_taken_seed_by_seed() -> None:
    def measured(filter: str, seed: int, accuracy: float, error: float) -> dict[str, Any]:
        both = {"consistency_crop": 0.5, "consistency_roll": 0.5}
        return {
            "filter": filter,
            "seed": seed,
            "accuracy": accuracy,
            **both,
            "corruptions": {"fog": [error] * 5},
        }

    rows = summarise(
        [measured("none", s, 0.8 + 0.05 * s, 0.4) for s in range(3)]
        + [measured("bin5", s, 0.81 + 0.05 * s, 0.2) for s in range(3)]
    )
    plain, ours = rows
    assert "accuracy_gain" not in plain
    assert ours["accuracy_gain"]["mean"] == pytest.approx(0.01)
    assert ours["accuracy_gain"]["half_ci95"] == pytest.approx(0, abs=1e-12)
    assert ours["accuracy"]["half_ci95"] > 0.1
    assert ours["mce"]["mean"] == pytest.approx(0.5)


def tiny(data: Path, out: Path, *words: str) -> list[str]:
    size = ["--seeds", "2", "--epochs", "1", "--pretrain_epochs", "1", "--train_limit", "8"]
    size += ["--limit", "4", "--corrupted", "2"]
    return ["--data", str(data), "--out", str(out), *size, "--device", "cpu", *words]


def test_the_command(data: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    out, document = tmp_path / "out", tmp_path / "docs" / "finetuning.md"
    assert main(tiny(data, out, "--document", str(document))) == 0
    assert capsys.readouterr().out == document.read_text()
    results = json.loads((out / "results.json").read_text())
    assert [row["filter"] for row in results["table"]] == ["none", "bin5"]
    assert results["classes"]["tuning"] == ["sandal", "shirt", "sneaker", "bag", "boot"]
    assert results["n_pretraining"] == 20
    assert results["n_tuning"] == 8
    assert str(tmp_path) not in document.read_text()
    tuned = load_classifier(out / "tuned" / "bin5-1" / FILE)
    assert tuned.classes == 5

    def never(*args: object, **words: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("steadypix.eval.finetuning.experiment.train_classifier", never)
    monkeypatch.setattr("steadypix.eval.finetuning.experiment.measure_accuracy", never)
    assert main(tiny(data, out)) == 0  # all is there
    assert json.loads((out / "results.json").read_text())["table"] == results["table"]


def test_bad_input(data: Path, tmp_path: Path, capsys: Capture) -> None:
    for words, culprits in (
        (["--width", "12"], ["--width", "multiple of 8", "'12'"]),
        (["--filters", "box9"], ["--filters box9"]),
        (["--pretrained", "nowhere.pth"], ["nowhere.pth"]),
        (["--data", str(tmp_path / "none")], ["none"]),
    ):
        assert main(tiny(data, tmp_path / "out", *words)) == 2
        one_error_line(capsys, *culprits)
        assert not (tmp_path / "out").exists()
