"""torchvision's ResNets and VGGs at any width, for large and small pictures, plain or anti-aliased."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from steadypix.errors import InputError
from steadypix.eval.torchvision_shim import import_torchvision

if TYPE_CHECKING:
    from torch import nn

# Name -> (kind, torchvision's own settings of it).
ARCHITECTURES: dict[str, tuple[str, Any]] = {
    "resnet18": ("BasicBlock", (2, 2, 2, 2)),
    "resnet34": ("BasicBlock", (3, 4, 6, 3)),
    "resnet50": ("Bottleneck", (3, 4, 6, 3)),
    "vgg11": ("vgg", "A"),
    "vgg11_bn": ("vgg_bn", "A"),
    "vgg16": ("vgg", "D"),
    "vgg16_bn": ("vgg_bn", "D"),
}
FULL_WIDTH = 64
MAX_WIDTH = 512  # a file's metadata may claim anything


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """What a classifier is; together with its weights, all that its file holds.

    Raises:
        InputError: naming the argument that cannot be.
    """

    architecture: str = "resnet18"
    """a key of `ARCHITECTURES`"""
    classes: int = 1000
    in_channels: int = 3
    width: int = FULL_WIDTH
    """channels of the first stage; torchvision's is 64, and all stages scale with it"""
    stem: str = "imagenet"
    """`imagenet`: torchvision's; `small`, of a ResNet: a 3x3 conv and no pool, for pictures of some 32 px
    (He et al. 2016, section 4.2)"""
    filter: str | None = None
    """of the anti-aliasing; None is the plain network"""
    pools: str = "plain"
    """`gated`: gated pooling (Lee et al. 2016) in place of max and average pools"""
    padding: str = "zeros"
    """of convs and pools; `circular` makes exact shift laws possible"""

    def __post_init__(self) -> None:
        from steadypix.gen.layers.filters import FILTERS

        words: dict[str, Collection[str]] = {"architecture": ARCHITECTURES, "stem": ("imagenet", "small")}
        words |= {"pools": ("plain", "gated"), "padding": ("zeros", "circular")}
        if self.filter is not None:
            words["filter"] = FILTERS
        for name, known in words.items():
            word = getattr(self, name)
            if word not in known:
                raise InputError(f"{name} {word!r} is unknown; expected one of {', '.join(known)}")
        for name, most in (("classes", 100_000), ("in_channels", 64), ("width", MAX_WIDTH)):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= most:
                raise InputError(f"{name} {value!r}: expected a whole number from 1 to {most}")
        if self.pools == "gated" and self.filter is not None:
            raise InputError("pools gated and a filter: expected one of the two")


def build_classifier(config: ClassifierConfig) -> nn.Module:
    """Build a network with random weights; those of equal names and shapes are equal for equal seeds."""
    from steadypix.gen.layers.gated_pool import gate_pools
    from steadypix.gen.retrofit.antialias import antialias
    from steadypix.gen.retrofit.circular import make_circular

    kind, setting = ARCHITECTURES[config.architecture]
    model = _vgg(config, kind, setting) if kind.startswith("vgg") else _resnet(config, kind, setting)
    if config.pools == "gated" and not gate_pools(model):
        raise InputError(f"{config.architecture}, stem {config.stem}: has no pool to put a gate into")
    if config.filter:
        antialias(model, filter=config.filter)
    if config.padding == "circular":
        make_circular(model)
    return model


def _resnet(config: ClassifierConfig, kind: str, blocks: tuple[int, ...]) -> nn.Module:
    from torch import nn

    resnet = import_torchvision("torchvision.models.resnet")

    class Scaled(resnet.ResNet):  # type: ignore[name-defined]
        """torchvision builds its stages by this method, with widths of its own."""

        def _make_layer(self, block: Any, planes: int, *rest: Any, **words: Any) -> nn.Module:
            if planes == FULL_WIDTH:  # the first stage follows the stem
                self.inplanes = config.width
            made: nn.Module = super()._make_layer(block, planes * config.width // FULL_WIDTH, *rest, **words)
            return made

    if config.width % 8:
        raise InputError(f"width {config.width}: expected a multiple of 8")
    block = getattr(resnet, kind)
    model: nn.Module = Scaled(block, blocks, num_classes=config.classes)
    width, channels = config.width, config.in_channels
    if config.stem == "small":
        model.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        model.maxpool = nn.Identity()
    else:
        model.conv1 = nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)
    # As torchvision draws its own.
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.bn1 = nn.BatchNorm2d(width)
    model.fc = nn.Linear(8 * width * block.expansion, config.classes)
    return model


def _vgg(config: ClassifierConfig, kind: str, setting: str) -> nn.Module:
    """Return torchvision's convs and pools, and one linear layer on their mean.

    torchvision's own two layers of 4096 hold nine tenths of all weights and fix the picture's size.
    """
    from torch import nn

    vgg = import_torchvision("torchvision.models.vgg")
    widths = [item if item == "M" else item * config.width // FULL_WIDTH for item in vgg.cfgs[setting]]
    features = vgg.make_layers(widths, batch_norm=kind == "vgg_bn")
    first = features[0]
    features[0] = nn.Conv2d(config.in_channels, first.out_channels, 3, padding=1)
    for module in features.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    head = nn.Linear(int(widths[-2]), config.classes)
    mean = {"avgpool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(1)}
    return nn.Sequential(OrderedDict(features=features, **mean, classifier=head))
