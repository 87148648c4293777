"""Feature distance against loops, on networks whose equivariance is known, and the command."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from steadypix.data.labelled.labelled import open_labelled
from steadypix.errors import InputError
from steadypix.eval.charts import style
from steadypix.eval.charts.classifier_charts import draw_feature_curve, draw_feature_grid, thinned
from steadypix.eval.classifiers.features import (
    FeatureDistance,
    cosine_distance,
    downsampling_layers,
    feature_maps,
    layer_names,
    upsample_circular,
)
from steadypix.eval.classifiers.pages import feature_section, feature_table
from steadypix.eval.classifiers.subjects import classifier_subject
from steadypix.eval.eval_features import main as eval_features
from steadypix.gen.retrofit.antialias import antialias
from steadypix.gen.retrofit.circular import make_circular
from tests.classifiers import classifier, write_classifier, write_fashion_mnist
from tests.cli import one_error_line

pytestmark = pytest.mark.slow

Capture = pytest.CaptureFixture[str]
MOVES = [(dx, dy) for dy in range(4) for dx in range(4)]


def picture(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def network(*layers: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(*layers)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight)
    return model.eval()


def distances(model: nn.Module, x: Tensor, moves: list[tuple[int, int]]) -> dict[str, np.ndarray]:
    found = FeatureDistance(model, layer_names(model, x), moves)
    found.add(x)
    return found.result()


# ---- against independent statements -----------------------------------------------------------------


def test_twofold_upsampling_is_torch_s_with_circular_borders() -> None:
    x = picture(2, 3, 5, 7)
    wide = F.pad(x, (2, 2, 2, 2), mode="circular")
    expected = F.interpolate(wide, scale_factor=2, mode="bilinear", align_corners=False)[..., 4:-4, 4:-4]
    torch.testing.assert_close(upsample_circular(x, (10, 14)), expected)
    torch.testing.assert_close(upsample_circular(expected, (20, 28)), upsample_circular(x, (20, 28)))


def test_other_sizes_are_linear_between_circular_neighbours() -> None:
    x = picture(1, 1, 4, 4).double()
    got = upsample_circular(x, (7, 6))
    for row in range(7):
        for column in range(6):
            y, z = (row + 0.5) * 4 / 7 - 0.5, (column + 0.5) * 4 / 6 - 0.5
            total = 0.0
            for i in (math.floor(y), math.floor(y) + 1):
                for j in (math.floor(z), math.floor(z) + 1):
                    total += (1 - abs(y - i)) * (1 - abs(z - j)) * x[0, 0, i % 4, j % 4].item()
            assert got[0, 0, row, column].item() == pytest.approx(total, abs=1e-6)


def test_other_sizes_on_cuda() -> None:
    """Torch's fake tensors refuse what lies on another device, and need none."""
    with FakeTensorMode():
        got = upsample_circular(torch.empty(1, 2, 4, 4, device="cuda"), (7, 6))
    assert got.shape == (1, 2, 7, 6)
    assert got.device.type == "cuda"


def test_cosine_distance_without_doubles_on_the_device() -> None:
    class OnMPS(Tensor):
        device = torch.device("mps")  # type: ignore[assignment]

        def cpu(self) -> Tensor:  # type: ignore[override]
            return self.as_subclass(Tensor)

        def double(self) -> Tensor:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")

    a, b = picture(2, 5, 4, 4), picture(2, 5, 4, 4, seed=1)
    got = cosine_distance(a.as_subclass(OnMPS), b.as_subclass(OnMPS))
    torch.testing.assert_close(got, cosine_distance(a, b), rtol=0, atol=0)


def test_cosine_distance_against_torch() -> None:
    a, b = picture(2, 5, 4, 4).double(), picture(2, 5, 4, 4, seed=1).double()
    torch.testing.assert_close(cosine_distance(a, b), 1 - F.cosine_similarity(a, b, dim=1))
    assert cosine_distance(a, 3 * a).max() < 1e-15
    torch.testing.assert_close(cosine_distance(a, -a), torch.full((2, 4, 4), 2.0, dtype=torch.float64))
    nothing = torch.zeros_like(a)
    assert cosine_distance(nothing, nothing).max() == 0
    assert (cosine_distance(a, nothing) == 1).all()


def test_distance_against_loops() -> None:
    """A strided conv, measured position by position."""
    model = network(nn.Conv2d(1, 3, 3, stride=2, padding=1))
    make_circular(model)
    x = picture(2, 1, 8, 8)
    got = distances(model, x, [(1, 0), (3, 2)])["0"]
    for place, (dx, dy) in enumerate([(1, 0), (3, 2)]):
        total = 0.0
        for one in x:
            base = upsample_circular(model(one[None]).detach(), (8, 8))[0]
            moved = upsample_circular(model(one[None].roll((dy, dx), (-2, -1))).detach(), (8, 8))[0]
            for row in range(8):
                for column in range(8):
                    a, b = base[:, (row - dy) % 8, (column - dx) % 8], moved[:, row, column]
                    total += 1 - (a @ b / (a.norm() * b.norm())).item()
        assert got[place] == pytest.approx(total / 128, abs=1e-6)


# ---- laws -------------------------------------------------------------------------------------------


def test_without_strides_a_circular_network_scores_nothing() -> None:
    model = network(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.MaxPool2d(3, 1, 1)
    )
    make_circular(model)
    for values in distances(model, picture(2, 1, 16, 16), MOVES).values():
        assert values.max() < 1e-6


def test_strides_score_at_all_but_their_multiples() -> None:
    model = network(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    make_circular(model)
    grid = distances(model, picture(2, 1, 16, 16), MOVES)["2"].reshape(4, 4)
    even = np.zeros((4, 4), dtype=bool)
    even[::2, ::2] = True
    assert grid[even].max() < 1e-6
    assert grid[~even].min() > 1e-3


@given(st.integers(0, 1000))
@settings(max_examples=5, deadline=None)
def test_anti_aliasing_lowers_the_distance(seed: int) -> None:
    def built(filter: str | None) -> nn.Module:
        model = network(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        if filter:
            antialias(model, filter=filter)
        make_circular(model)
        return model

    x = picture(4, 1, 16, 16, seed=seed)
    plain, *blurred = (distances(built(f), x, MOVES)["2"].mean() for f in (None, "tri3", "bin5"))
    assert blurred[1] < blurred[0] < plain


def test_batches_do_not_matter() -> None:
    model = network(nn.Conv2d(1, 4, 3, stride=2, padding=1))
    x = picture(3, 1, 8, 8)
    at_once = distances(model, x, MOVES)["0"]
    found = FeatureDistance(model, ["0"], MOVES)
    for one in x:
        found.add(one[None])
    np.testing.assert_allclose(found.result()["0"], at_once, rtol=1e-6)


def test_values_that_are_not_finite_are_named() -> None:
    model = network(nn.Conv2d(1, 4, 3))
    model[0].weight.data.fill_(torch.inf)
    with pytest.raises(InputError, match="0: gives values that are not finite"):
        distances(model, picture(1, 1, 8, 8), [(1, 0)])


# ---- layers -----------------------------------------------------------------------------------------


def test_layers_are_blocks_and_lone_modules() -> None:
    inner = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.ReLU(inplace=True))
    model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Sequential(inner, nn.MaxPool2d(2)), nn.Flatten())
    x = picture(1, 1, 8, 8)
    assert layer_names(model, x) == ["0", "1.0", "1.1"]
    assert layer_names(model, x, depth=1) == ["0", "1"]
    assert layer_names(model, x, depth=3) == ["0", "1.0.0", "1.0.1", "1.1"]
    antialias(model)  # what hangs on a module is not a layer of its own
    assert layer_names(model, x, depth=3) == ["0", "1.0.0", "1.0.1", "1.1"]


def test_what_is_kept_is_a_copy_and_calls_are_counted() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 1, bias=False)
            self.relu = nn.ReLU(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.relu(self.relu(self.conv(x)) - 1)

    model = Twice()
    nn.init.constant_(model.conv.weight, -1)
    x = picture(1, 1, 4, 4)
    found = feature_maps(model, x, ["conv", "relu"])
    assert list(found) == ["conv", "relu", "relu:2"]
    torch.testing.assert_close(found["conv"], -x)  # before the activation wrote into it


def test_a_layer_called_again_is_named_once_and_measured_where_it_gives_maps() -> None:
    class Reused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3, padding=1)
            self.relu = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            maps = self.relu(self.conv(self.relu(x)))
            return self.relu(self.relu(maps.mean((-2, -1), keepdim=True)).flatten(1))

    model, x = Reused().eval(), picture(1, 1, 8, 8)
    assert layer_names(model, x) == ["relu", "conv"]
    assert list(distances(model, x, [(1, 0)])) == ["relu", "conv", "relu:2"]


def test_where_resolution_falls() -> None:
    assert downsampling_layers({"a": 1, "b": 2, "c": 2, "d": 1, "e": 4}) == ["b", "e"]


def test_a_grid_of_many_layers_is_thinned(tmp_path: Path) -> None:
    layers = {
        f"l{n}": {"stride": 1 + n // 10, "distance": np.eye(2).tolist(), "mean": 0.5} for n in range(40)
    }
    model = {"name": "m", "dx": [0, 1], "dy": [0, 1], "layers": layers}
    kept = thinned(list(layers), model)
    assert len(kept) == 12
    assert {"l0", "l10", "l20", "l30", "l39"} <= set(kept)
    draw_feature_grid(tmp_path / "grid.png", [model, {**model, "name": "n"}])
    with Image.open(tmp_path / "grid.png") as image:
        assert min(image.size) > 200
    with pytest.raises(ValueError, match="share no layer"):
        draw_feature_grid(tmp_path / "x.png", [model, {**model, "layers": {"other": layers["l0"]}}])


def measured(name: str, **means: float) -> dict[str, Any]:
    layers = {
        layer: {"stride": 2 + place, "mean": mean, "distance": [[0.0, mean]] * 2}
        for place, (layer, mean) in enumerate(means.items())
    }
    return {"name": name, "dx": [0, 1], "dy": [0, 1], "layers": layers}


def test_networks_of_different_layers_lose_none(tmp_path: Path) -> None:
    models = [measured("one", stem=0.1, late=0.2), measured("two", a=0.3, late=0.4, b=0.5)]
    assert [line.split() for line in feature_table(models).splitlines()] == [
        ["layer", "one", "two"],
        ["stem", "0.1000", "-"],
        ["late", "0.2000", "0.4000"],
        ["a", "-", "0.3000"],
        ["b", "-", "0.5000"],
    ]
    section = feature_section({"models": models, "borders": "own", "n_images": 1}, tmp_path)
    assert section.rows == [
        ["stem", "1/2", "0.1000", ""],
        ["late", "1/3", "0.2000", "0.4000"],
        ["a", "1/2", "", "0.3000"],
        ["b", "1/4", "", "0.5000"],
    ]
    clash = [measured("one", late=0.2), measured("two", stem=0.3, late=0.4)]
    assert (
        feature_section({"models": clash, "borders": "own", "n_images": 1}, tmp_path).rows[0][1] == "1/2, 1/3"
    )


def test_curves_have_a_panel_for_each_set_of_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Any] = []
    monkeypatch.setattr(style, "save_chart", lambda path, figure: figures.append(figure))
    models = [
        measured("a", x=0.1, y=0.2),
        measured("b", u=0.3, v=0.4, w=0.5),
        measured("c", x=0.6, y=0.7),
    ]
    draw_feature_curve("unused.png", models)
    panels = figures[0].axes
    names = [[text.get_text() for text in axes.get_xticklabels()] for axes in panels]
    assert names == [["x", "y"], ["u", "v", "w"]]
    # Lines of two points or more; the others mark where resolution falls.
    drawn = [
        {line.get_color(): list(line.get_ydata()) for line in axes.lines if line.get_marker() != "None"}
        for axes in panels
    ]
    assert [list(lines.values()) for lines in drawn] == [[[0.1, 0.2], [0.6, 0.7]], [[0.3, 0.4, 0.5]]]
    handles = [handle.get_color() for handle in figures[0].legends[0].legend_handles]
    assert [*drawn[0], *drawn[1]] == [handles[0], handles[2], handles[1]]


# ---- the command ------------------------------------------------------------------------------------


def test_classifiers_end_to_end(tmp_path: Path, capsys: Capture) -> None:
    data = write_fashion_mnist(tmp_path / "data")
    runs = [write_classifier(tmp_path / str(f), filter=f) for f in (None, "bin5")]
    out = tmp_path / "out"
    words = ["--data", str(data), "--shifts", "0..3", "--limit", "2", "--device", "cpu", "--out", str(out)]
    assert eval_features([*map(str, runs), *words]) == 0
    assert capsys.readouterr().out.startswith("layer")
    results = json.loads((out / "features.json").read_text())
    plain, blurred = results["models"]
    assert plain["name"] == "None"
    assert plain["downsampling"] == ["layer2.0", "layer3.0", "layer4.0"]
    for layer in plain["downsampling"]:
        grid = np.array(plain["layers"][layer]["distance"])
        assert grid.shape == (4, 4)
        assert grid[0, 0] == 0
        assert blurred["layers"][layer]["mean"] < plain["layers"][layer]["mean"]
    page = (out / "features.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "layer4.0" in page


def test_blocks_that_call_a_layer_twice(tmp_path: Path) -> None:
    data, run = write_fashion_mnist(tmp_path / "data"), write_classifier(tmp_path / "run")
    words = ["--data", str(data), "--shifts", "0,1", "--limit", "1", "--device", "cpu"]
    assert eval_features([str(run), *words, "--depth", "3", "--out", str(tmp_path / "out")]) == 0
    layers = json.loads((tmp_path / "out" / "features.json").read_text())["models"][0]["layers"]
    assert {"layer1.0.relu", "layer1.0.relu:2", "layer4.1.bn2"} <= set(layers)


def test_a_network_that_cannot_be_circular_is_named(tmp_path: Path) -> None:
    pictures = open_labelled(write_fashion_mnist(tmp_path / "data")).first(1)
    module = nn.Sequential(nn.ConvTranspose2d(1, 1, 2))
    network = dataclasses.replace(classifier(), name="odd", module=module)
    with pytest.raises(InputError, match=r"^odd: 0: a transposed conv .*; expected --borders own$"):
        classifier_subject(network, pictures, circular=True)
    assert classifier_subject(network, pictures, circular=False).name == "odd"


def test_what_would_change_nothing_is_no_option(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        eval_features(["--help"])
    shown = capsys.readouterr().out
    assert "--batch_size" in shown
    assert "--workers" not in shown
    assert "--seed" not in shown


def test_generators(checkpoints: list[Path], tmp_path: Path) -> None:
    """With circular borders, a shift by the whole stride moves every map of a U-Net."""
    out = tmp_path / "out"
    words = ["--shifts", "0,8", "--limit", "1", "--device", "cpu", "--out", str(out)]
    assert eval_features([*map(str, checkpoints), *words]) == 0
    models = json.loads((out / "features.json").read_text())["models"]
    assert [model["name"] for model in models] == ["strided", "blur"]
    for model in models:
        assert len(model["layers"]) > 3
        for layer in model["layers"].values():
            assert np.max(layer["distance"]) < 1e-6
    assert eval_features([*map(str, checkpoints), *words, "--borders", "own"]) == 0
    own = json.loads((out / "features.json").read_text())["models"][0]["layers"]
    assert max(np.max(layer["distance"]) for layer in own.values()) > 1e-4


def test_bad_input(tmp_path: Path, capsys: Capture, checkpoints: list[Path]) -> None:
    data = write_fashion_mnist(tmp_path / "data")
    run = str(write_classifier(tmp_path / "run"))
    for words, culprits in (
        (["resnet19"], ["resnet19", "resnet18"]),
        ([run, "--shifts", "1/2"], ["1/2"]),
        ([run, "--data", str(tmp_path / "nowhere")], ["nowhere"]),
        ([run, "--data", str(data), "--shifts", "0..40"], ["0..40", "32 px"]),
        ([run, str(checkpoints[0]), "--data", str(data)], ["another kind"]),
        ([run, run, "--data", str(data)], [run, "named twice"]),
        (["resnet18=" + str(tmp_path / "none.pth"), "--data", str(data)], ["none.pth"]),
    ):
        assert eval_features([*words, "--device", "cpu", "--out", str(tmp_path / "out")]) == 2
        one_error_line(capsys, *culprits)
        assert not (tmp_path / "out").exists()
