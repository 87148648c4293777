"""The retrofit on networks of other projects, and against antialiased-cnns, the paper's own."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from steadypix.eval.torchvision_shim import import_torchvision
from steadypix.gen.retrofit.antialias import antialias

pytestmark = pytest.mark.slow


def picture(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=dtype) * 2 - 1


def peer(name: str) -> Any:
    """A package that is installed for its own sake, not for ours."""
    import_torchvision("torchvision.models")
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    return importlib.import_module(name)


# ---- antialiased-cnns -------------------------------------------------------------------------------

RESNET = {"pool_window": 2, "skip": ("conv1",)}
THEIRS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "resnet18": ("resnet18", {}, RESNET),
    "resnet18-all": ("resnet18", {"pool_only": False}, {"pool_window": 2}),
    "resnet18-after": ("resnet18", {}, {**RESNET, "shortcut": "after"}),
    "resnet50": ("resnet50", {}, RESNET),
    "vgg11_bn": ("vgg11_bn", {}, {}),
    "densenet121": ("densenet121", {}, {"skip": ("features.conv0",)}),
    "densenet121-all": ("densenet121", {"pool_only": False}, {}),
    "mobilenet_v2": ("mobilenet_v2", {}, {"skip": ("features.0.0",)}),
    "alexnet": ("alexnet", {}, {"patches": "half"}),
}


@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.parametrize("taps", [3, 4])
def test_networks_equal_those_of_antialiased_cnns(name: str, taps: int) -> None:
    theirs = peer("antialiased_cnns")
    architecture, words, options = THEIRS[name]
    torch.manual_seed(0)
    expected = getattr(theirs, architecture)(filter_size=taps, **words).double().eval()
    model = getattr(import_torchvision("torchvision.models"), architecture)(weights=None).double().eval()
    state = [value for key, value in expected.state_dict().items() if not key.endswith("filt")]
    assert len(state) == len(model.state_dict())  # the same layers in the same order under other names
    model.load_state_dict(dict(zip(model.state_dict(), state, strict=True)))
    x = picture(
        1, 3, 96 if architecture != "alexnet" else 224, 128 if architecture != "alexnet" else 224
    ).double()
    with torch.no_grad():
        plain = model(x)
        retrofit = antialias(model, filter={3: "tri3", 4: "bin4"}[taps], **options)
        assert retrofit.proven
        wanted = expected(x)
        scale = wanted.abs().max()  # random weights make an output of 1e-9 of a MobileNet
        assert (model(x) - wanted).abs().max() < 1e-12 * scale
        assert (plain - wanted).abs().max() > 1e-3 * scale


# ---- others -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "fused"), [("efficientnet_b0", "bn1"), ("resnet18", "act1"), ("mobilenetv3_small_050", "bn1")]
)
def test_timm(name: str, fused: str) -> None:
    model = peer("timm").create_model(name, pretrained=False).eval()
    x = picture(1, 3, 75, 64)
    with torch.no_grad():
        shape, output = model(x).shape, model(x)
        retrofit = antialias(model)
        assert retrofit.proven
        assert not retrofit.left
        assert retrofit.changes[0].blur == f"blurred after {fused}"
        main = [
            item for item in retrofit.changes if item.kind == "Conv2d" and "downsample" not in item.module
        ]
        assert all(item.blur.startswith("blurred after") and "itself" not in item.blur for item in main)
        assert model(x).shape == shape
        retrofit.undo()
        assert torch.equal(model(x), output)


@pytest.mark.parametrize(("name", "ups"), [("Unet", 5), ("FPN", 10), ("DeepLabV3Plus", 2)])
def test_segmentation_models_are_blurred_on_the_way_up_too(name: str, ups: int) -> None:
    model = getattr(peer("segmentation_models_pytorch"), name)("resnet18", encoder_weights=None).eval()
    retrofit = antialias(model)
    assert retrofit.proven
    assert sum(change.upward for change in retrofit.changes) == ups, str(retrofit)
    x = picture(1, 3, 64, 96)
    with torch.no_grad():
        assert model(x).shape == (1, 1, 64, 96)


@pytest.mark.parametrize(("name", "changed", "left"), [("swin_t", 3, 1), ("convnext_tiny", 3, 1)])
def test_transformers(name: str, changed: int, left: int) -> None:
    torch.manual_seed(0)
    model: nn.Module = getattr(import_torchvision("torchvision.models"), name)(weights=None).eval()
    retrofit = antialias(model)
    assert retrofit.proven
    assert (len(retrofit.changes), len(retrofit.left)) == (changed, left)
    assert retrofit.left[0].stride == 4
    assert "patches='dense'" in retrofit.left[0].reason
