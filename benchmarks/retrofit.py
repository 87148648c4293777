"""What `antialias` does to networks of ours and of others: `python -m benchmarks.retrofit`, as Markdown.

Each network has random weights and runs on one picture before and after. Networks of packages that are not
installed (timm, segmentation_models_pytorch) are named and left out.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import nn

from steadypix import PatchDiscriminator, ResnetGenerator, UNetGenerator, antialias
from steadypix.eval.report.page import markdown_table
from steadypix.eval.torchvision_shim import import_torchvision
from steadypix.gen.retrofit.result import Retrofit

Build = Callable[[], nn.Module]
SIDE_PX = 224
TORCHVISION = (
    "resnet18", "resnet50", "vgg11_bn", "mobilenet_v3_small", "densenet121", "convnext_tiny", "swin_t",
    "vit_b_16",
)  # fmt: skip
TIMM = ("resnet50", "efficientnet_b0", "mobilenetv3_small_100")
SEGMENTATION = ("Unet", "FPN", "DeepLabV3Plus")
COLUMNS = ("network", "found", "changed", "left, and why", "proven", "GMACs", "maps [MB]")


def networks() -> Iterator[tuple[str, str, Build]]:
    """Give each network's package, name and how it is built."""
    ours: tuple[tuple[str, Build], ...] = (
        ("UNetGenerator", lambda: UNetGenerator(sampling="strided")),
        ("ResnetGenerator", lambda: ResnetGenerator(sampling="strided")),
        ("PatchDiscriminator", PatchDiscriminator),
    )
    for name, build in ours:
        yield "steadypix", name, build
    for name in TORCHVISION:
        yield "torchvision", name, partial(_torchvision, "torchvision.models", name)
    name = "deeplabv3_resnet50"
    yield "torchvision", name, partial(_torchvision, "torchvision.models.segmentation", name)
    for name in TIMM:
        yield "timm", name, partial(_timm, name)
    for name in SEGMENTATION:
        yield "segmentation_models_pytorch", name, partial(_segmentation, name)


def _torchvision(module: str, name: str) -> nn.Module:
    segments = module.endswith("segmentation")
    return _of(module, name)(weights=None, **({"weights_backbone": None} if segments else {}))


def _timm(name: str) -> nn.Module:
    return _of("timm", "create_model")(name, pretrained=False)


def _segmentation(name: str) -> nn.Module:
    return _of("segmentation_models_pytorch", name)("resnet34", encoder_weights=None)


def _of(module: str, name: str) -> Callable[..., nn.Module]:
    import_torchvision("torchvision.models")  # timm and others import it, too
    found: Callable[..., nn.Module] = getattr(importlib.import_module(module), name)
    return found


def row(name: str, retrofit: Retrofit) -> list[str]:
    """Return the table's cells for one network."""
    why = Counter((item.kind, item.reason) for item in retrofit.left)
    left = "; ".join(f"{count} {kind}: {reason}" for (kind, reason), count in why.items())
    ways = Counter(
        f"{change.kind} {'x' if change.upward else '1/'}{change.stride}" for change in retrofit.changes
    )
    before, after = retrofit.before, retrofit.after
    return [
        name,
        str(len(retrofit.changes) + len(retrofit.left)),
        ", ".join(f"{count} {way}" for way, count in ways.items()) or "0",
        left or "0",
        "yes" if retrofit.proven else f"no: {retrofit.unproven}",
        f"{before.macs / 1e9:.2f} -> {after.macs / 1e9:.2f}" if before and after else "",
        f"{before.map_bytes / 1e6:.0f} -> {after.map_bytes / 1e6:.0f}" if before and after else "",
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.retrofit", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--only", nargs="*", help="names of networks; by default all")
    parser.add_argument("--filter", default="bin5", help="taps by name (default: bin5)")
    options = parser.parse_args(argv)
    rows, missing = [], set()
    for package, name, build in networks():
        if options.only and name not in options.only:
            continue
        if importlib.util.find_spec(package) is None:
            missing.add(package)
            continue
        torch.manual_seed(0)
        model = build().eval()
        channels = 6 if isinstance(model, PatchDiscriminator) else 3
        example = torch.rand(1, channels, SIDE_PX, SIDE_PX)
        rows.append(row(f"{package} `{name}`", antialias(model, filter=options.filter, example=example)))
    print(markdown_table(COLUMNS, rows))
    if missing:
        print(f"\nNot installed: {', '.join(sorted(missing))}.")


if __name__ == "__main__":
    main()
