"""BlurPool2d and BlurUpsample2d against the layers of other projects and the floor of the machine."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.floors import Floors
from benchmarks.report import Bar, Cell, Table
from benchmarks.timing import Work, take_turns
from steadypix import BlurPool2d, BlurUpsample2d
from steadypix.eval.torchvision_shim import import_torchvision

Shape = tuple[int, int, int, int]

# Maps of the generator at 256 and 128 px, and of a batch in training.
SHAPES = [
    (1, 64, 256, 256),
    (1, 64, 128, 128),
    (1, 128, 128, 128),
    (1, 256, 64, 64),
    (1, 512, 32, 32),
    (1, 512, 16, 16),
    (4, 64, 128, 128),
    (4, 128, 64, 64),
    (8, 128, 32, 32),
    (16, 64, 64, 64),
]
TINY_SHAPES = [(1, 16, 32, 32), (2, 8, 16, 16)]
FORMATS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
# Geometric means, forward and backward.
LIMITS = {"antialiased-cnns": 0.5, "timm": 0.6, "kornia": 1.0}


def forward_and_backward(layer: nn.Module, x: Tensor) -> Work:
    """A step of one layer: its output and the gradient to its input."""
    x = x.detach().requires_grad_()
    with torch.no_grad():
        gradient = torch.randn_like(layer(x))

    def work() -> None:
        torch.autograd.grad(layer(x), x, gradient)

    return work


def forward(network: nn.Module, x: Tensor, *, bf16: bool = False) -> Work:
    """A layer's or a network's output alone, under autocast to bfloat16 if asked for."""
    precision = torch.autocast(x.device.type, torch.bfloat16) if bf16 else contextlib.nullcontext()

    @torch.inference_mode()
    def work() -> None:
        with precision:
            network(x)

    return work


def blur_pools() -> dict[str, Callable[[int, str], nn.Module]]:
    """Layers that blur with bin5 and keep every second sample, by project; built from channels and padding.

    Only timm can pad circularly; antialiased-cnns reflects and kornia pads with zeros, whatever is asked for.
    """
    found: dict[str, Callable[[int, str], nn.Module]] = {}
    with contextlib.suppress(ImportError):
        import_torchvision()  # the next two import it, and it may need help
        import antialiased_cnns

        found["antialiased-cnns"] = lambda channels, _: antialiased_cnns.BlurPool(
            channels, pad_type="reflect", filt_size=5, stride=2
        )
    with contextlib.suppress(ImportError):
        from timm.layers import BlurPool2d

        found["timm"] = lambda channels, padding: BlurPool2d(
            channels, filt_size=5, stride=2, pad_mode=padding
        )
    with contextlib.suppress(ImportError):
        from kornia.filters import BlurPool2D

        found["kornia"] = lambda *_: BlurPool2D(5, stride=2)
    return found


def measure_blur_pool(floors: Floors, *, rounds: int, shapes: Sequence[Shape], device: str = "cpu") -> Table:
    """Every shape in both memory formats with two paddings: ratios to the peers, times over the floor."""
    builders = blur_pools()
    rows: list[list[Cell]] = []
    ratios: dict[str, list[float]] = {name: [] for name in builders}
    over_floor: list[float] = []
    for shape in shapes:
        for memory, padding in ((m, p) for m in FORMATS for p in ("reflect", "circular")):
            x = torch.randn(shape, device=device).to(memory_format=FORMATS[memory])
            layers = {name: build(shape[1], padding) for name, build in builders.items()}
            layers["steadypix"] = BlurPool2d(shape[1], padding=padding)
            layers = {name: layer.to(device) for name, layer in layers.items()}
            steps = {name: forward_and_backward(layer, x) for name, layer in layers.items()}
            both = take_turns(steps, rounds=rounds, device=device)
            alone = take_turns({"steadypix": forward(layers["steadypix"], x)}, rounds=rounds, device=device)
            floor_ms = floors.bytes_ms(x.nbytes * 1.25)  # read all, write a quarter
            for name in builders:
                ratios[name].append(both.ratio("steadypix", name))
            over_floor.append(alone.best_ms("steadypix") / floor_ms)
            found = [both.median_ms("steadypix"), 2 * floor_ms, *(ratios[name][-1] for name in builders)]
            found += [alone.best_ms("steadypix"), floor_ms, over_floor[-1]]
            rows.append(["x".join(map(str, shape)), memory, padding, *found])
    bars = [
        Bar(f"BlurPool2d / {name}, geometric mean", statistics.geometric_mean(ratios[name]), LIMITS[name])
        for name in builders
    ]
    bars += [
        Bar(f"BlurPool2d / {name}, slowest shape", max(ratios[name]), 1.0)
        for name in ("antialiased-cnns", "timm")
        if name in builders
    ]
    bars.append(Bar("BlurPool2d forward / floor, geometric mean", statistics.geometric_mean(over_floor), 2.5))
    columns = ["shape", "memory", "padding", "both [ms]", "floor [ms]"]
    columns += [f"/ {name}" for name in builders]
    columns += ["forward, best [ms]", "floor [ms]", "/ floor"]
    note = (
        "bin5, stride 2. Forward and backward together (`both`), medians; the forward pass alone at its best."
    )
    return Table("blur_pool", "BlurPool2d", columns, rows, bars, [note])


class EnlargeAndBlur(nn.Module):
    """Enlarge a map (B, C, H, W) twofold, then pad and blur (bin5, reflect)."""

    def __init__(self, channels: int, enlarge: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.blur = BlurPool2d(channels, stride=1, upward=True)
        self.enlarge = enlarge

    def forward(self, x: Tensor) -> Tensor:
        """Upsample."""
        return self.blur.reference(self.enlarge(x))


def insert_zeros(x: Tensor) -> Tensor:
    """Enlarge a map by zeros between its samples, with the gain 4 that keeps its mean."""
    batch, channels, height, width = x.shape
    grid = x.new_zeros(batch, channels, 2 * height, 2 * width)
    grid[..., ::2, ::2] = 4 * x
    return grid


def interpolate(x: Tensor) -> Tensor:
    """Enlarge a map bilinearly."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def measure_blur_upsample(
    floors: Floors, *, rounds: int, shapes: Sequence[Shape], device: str = "cpu"
) -> Table:
    """To the sizes in `shapes`, from half of them."""
    rows: list[list[Cell]] = []
    ratios: dict[str, list[float]] = {"dense": [], "bilinear": []}
    for batch, channels, height, width in shapes:
        for memory, layout in FORMATS.items():
            x = torch.randn(batch, channels, height // 2, width // 2, device=device)
            x = x.to(memory_format=layout)
            layers = {
                "steadypix": BlurUpsample2d(channels),
                "dense": EnlargeAndBlur(channels, insert_zeros),
                "bilinear": EnlargeAndBlur(channels, interpolate),
            }
            steps = {name: forward_and_backward(layer.to(device), x) for name, layer in layers.items()}
            timing = take_turns(steps, rounds=rounds, device=device)
            for name, values in ratios.items():
                values.append(timing.ratio("steadypix", name))
            shape = f"{batch}x{channels}x{height // 2}x{width // 2}"
            floor_ms = 2 * floors.bytes_ms(x.nbytes * 5)
            found = [timing.median_ms("steadypix"), floor_ms, ratios["dense"][-1], ratios["bilinear"][-1]]
            rows.append([shape, memory, *found])
    bars = [
        Bar(f"BlurUpsample2d / {label}, geometric mean", statistics.geometric_mean(ratios[name]), limit)
        for name, label, limit in (("dense", "dense", 0.5), ("bilinear", "bilinear + blur", 1.0))
    ]
    columns = ["shape", "memory", "both [ms]", "floor [ms]", "/ dense", "/ bilinear + blur"]
    note = "bin5, reflect. Forward and backward together, medians."
    return Table("blur_upsample", "BlurUpsample2d", columns, rows, bars, [note])
