"""Classifiers that a function returns, as timm, antialiased-cnns and people's own code offer them.

Neither package is needed here: `Antialiased` pads and blurs as the second's networks do, and `timm_like`
describes its pictures as the first's do.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steadypix import CheckpointError, InputError
from steadypix.eval.classifiers.called import MEAN, STD, gives_logits, load_called
from steadypix.eval.classifiers.loading import load_any
from steadypix.eval.eval_consistency import main as eval_consistency
from steadypix.eval.eval_features import main as eval_features
from tests.classifiers import write_fashion_mnist
from tests.cli import one_error_line

Capture = pytest.CaptureFixture[str]
HERE = __name__


class Blur(nn.Module):
    """[1, 2, 1] with a stride of 2, the taps in a buffer, the border in a layer of its own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        taps = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("filt", torch.outer(taps, taps).repeat(channels, 1, 1, 1))
        self.pad = nn.ReflectionPad2d((1, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(self.pad(x), self.filt, stride=2, groups=x.shape[1])


class Antialiased(nn.Module):
    def __init__(self, channels: int = 1, classes: int = 10, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first = nn.Sequential(nn.Conv2d(channels, 4, 3, padding=1), nn.ReLU(), Blur(4))
        self.second = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), Blur(8))
        self.head = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(x)).mean((2, 3)))


def small(network: nn.Module) -> nn.Module:
    """Say for which pictures it is, as anybody can."""
    network.window_px, network.canvas_px = 24, 32  # type: ignore[assignment]
    network.mean, network.std = [0.3], [0.3]  # type: ignore[assignment]
    return network


calls: list[dict[str, Any]] = []


def own() -> nn.Module:
    return small(Antialiased())


def with_pretrained(pretrained: bool = False, **words: Any) -> nn.Module:
    """As timm's and antialiased-cnns' functions are called."""
    calls.append({"pretrained": pretrained, **words})
    return small(Antialiased(seed=1 if pretrained else 0))


def timm_like(pretrained: bool = False) -> nn.Module:
    network = Antialiased(channels=3)
    config = {"input_size": (3, 40, 40), "crop_pct": 0.875, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    network.pretrained_cfg = {**config, "interpolation": "bicubic", "num_classes": 10}  # type: ignore[assignment]
    return network


def oblong() -> nn.Module:
    network = timm_like()
    network.pretrained_cfg["input_size"] = (3, 48, 40)  # type: ignore[index]
    return network


def undescribed() -> nn.Module:
    return Antialiased(channels=3)


def generator() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), Blur(4), nn.Conv2d(4, 3, 3), nn.Upsample(scale_factor=2)
    )


def image_to_image() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1))


def wrong() -> nn.Module:
    network = own()
    network.std = [0.0]  # type: ignore[assignment]
    return network


def two_outputs() -> nn.Module:
    class Two(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    return Two()


# ---- loading ----------------------------------------------------------------------------------------------


def test_a_network_that_says_for_which_pictures_it_is() -> None:
    found = load_called(f"{HERE}:own", None)
    assert (found.name, found.classes, found.in_channels) == (f"{HERE}:own", 10, 1)
    assert (found.window_px, found.canvas_px, found.mean, found.std) == (24, 32, (0.3,), (0.3,))
    assert "assumed" not in found.provenance
    x = torch.rand(2, 1, 24, 24)
    with torch.no_grad():
        torch.testing.assert_close(found.logits(x), Antialiased()((x - 0.3) / 0.3))


def test_weights_are_never_random_by_mistake(tmp_path: Path) -> None:
    calls.clear()
    pretrained = load_called(f"{HERE}:with_pretrained", None)
    assert calls == [{"pretrained": True}]
    assert torch.equal(pretrained.module.head.weight, Antialiased(seed=1).head.weight)
    weights = Antialiased(seed=2).state_dict()
    torch.save(
        {"state_dict": {f"module.{key}": value for key, value in weights.items()}}, tmp_path / "w.pth.tar"
    )
    safetensors.torch.save_file(weights, tmp_path / "w.safetensors")
    for file in ("w.pth.tar", "w.safetensors"):
        found = load_any(f"{HERE}:with_pretrained={tmp_path / file}", trust=True)
        assert calls[-1] == {"pretrained": False}
        assert torch.equal(found.module.head.weight, weights["head.weight"])
        assert found.provenance["weights"] == file
    torch.save(Antialiased(classes=11).state_dict(), tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"other\.pth: head\.bias is \(11,\), expected \(10,\)"):
        load_called(f"{HERE}:own", tmp_path / "other.pth")


def test_timms_description_is_read() -> None:
    found = load_called(f"{HERE}:timm_like", None)
    assert (found.window_px, found.canvas_px) == (40, 45)  # floor(40 / 0.875), as timm's own evaluation
    assert (found.mean, found.std, found.resampling) == ((0.5,) * 3, (0.5,) * 3, "bicubic")
    assert "assumed" not in found.provenance


def test_what_is_assumed_is_said() -> None:
    found = load_called(f"{HERE}:undescribed", None)
    assert (found.window_px, found.canvas_px, found.mean, found.std) == (224, 256, MEAN, STD)
    assert (found.places, found.resampling) == (32, "bilinear")
    assert found.provenance["assumed"].startswith("window_px, canvas_px, mean, std as for ImageNet")


def test_classifiers_and_generators_are_told_apart() -> None:
    kinds = {
        name: gives_logits(f"{HERE}:{name}") for name in ("own", "undescribed", "generator", "two_outputs")
    }
    assert kinds == {"own": True, "undescribed": True, "generator": False, "two_outputs": False}


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("generator", r"gives \(1, 3, 220, 220\) for pictures .*expected logits"),
        ("two_outputs", "gives tuple; expected logits"),
        ("wrong", "std .*numbers from 1e-06 to 1 expected"),
        ("oblong", "its window is 40 x 48 px; expected a square one"),
        ("nowhere", "cannot be called"),
        ("HERE", "cannot be called"),
    ],
)
def test_bad_networks(name: str, match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        load_called(f"{HERE}:{name}", None)
    assert str(caught.value).startswith(f"{HERE}:{name}")
    assert "\n" not in str(caught.value)


def test_the_real_packages_where_they_are() -> None:
    """Shapes and description alone: their weights are not here."""
    timm = pytest.importorskip("timm", reason="timm is not installed")
    network = timm.create_model("resnet18", pretrained=False)
    assert gives_logits("timm.models:resnet18")
    assert SimpleNamespace(**network.pretrained_cfg).input_size == (3, 224, 224)


# ---- the commands -----------------------------------------------------------------------------------------


def test_consistency(tmp_path: Path, capsys: Capture) -> None:
    data = write_fashion_mnist(tmp_path / "data")
    torch.save(Antialiased(seed=3).state_dict(), tmp_path / "w.pth")
    models = [f"{HERE}:own", f"{HERE}:with_pretrained={tmp_path / 'w.pth'}"]
    words = [*models, "--data", str(data), "--device", "cpu", "--out", str(tmp_path / "out")]
    assert eval_consistency(words) == 2
    one_error_line(capsys, models[0], "--trust")
    assert not (tmp_path / "out").exists()
    assert eval_consistency([*words, "--trust"]) == 0
    found = json.loads((tmp_path / "out" / "consistency.json").read_text())["models"]
    assert [model["name"] for model in found] == [f"{HERE}:own", f"{HERE}:with_pretrained"]
    assert found[1]["weights"] == {"weights": "w.pth"}
    assert all(0 <= model["consistency"]["crop"]["mean"] <= 1 for model in found)
    assert all("accuracy" in model for model in found)


def test_features(tmp_path: Path, capsys: Capture) -> None:
    """With circular borders, also those of layers that only pad, a shift by the stride moves every map."""
    data = write_fashion_mnist(tmp_path / "data")
    out = tmp_path / "out"
    words = [
        "--data",
        str(data),
        "--shifts",
        "0,4",
        "--limit",
        "2",
        "--device",
        "cpu",
        "--trust",
        "--out",
        str(out),
    ]
    assert eval_features([f"{HERE}:own", *words]) == 0
    layers = json.loads((out / "features.json").read_text())["models"][0]["layers"]
    assert {"first.2", "second.2"} <= {*layers}
    assert max(np.max(layer["distance"]) for layer in layers.values()) < 1e-6
    assert eval_features([f"{HERE}:own", *words, "--borders", "own"]) == 0
    layers = json.loads((out / "features.json").read_text())["models"][0]["layers"]
    assert max(np.max(layer["distance"]) for layer in layers.values()) > 1e-4
    capsys.readouterr()
    assert eval_features([f"{HERE}:own", f"{HERE}:image_to_image", *words]) == 2
    one_error_line(capsys, f"{HERE}:image_to_image", "another kind of network")


def test_features_of_a_callable_generator(tmp_path: Path) -> None:
    words = ["--data", "synthetic-facades", "--shifts", "0,1", "--limit", "1", "--device", "cpu", "--trust"]
    out = tmp_path / "out"
    assert eval_features([f"{HERE}:image_to_image", *words, "--out", str(out)]) == 0
    assert [*json.loads((out / "features.json").read_text())["models"][0]["layers"]] == ["0", "1"]
