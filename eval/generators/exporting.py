"""Generators written as programs for other runtimes: torch.export (`.pt2`) and ONNX.

A file holds what `eval_stability` and `generate` need to know: the generator's configuration, window and
direction. It is read back and compared with the network before it gets its name.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steadypix.command import version
from steadypix.errors import InputError
from steadypix.eval.generators.onnx_process import METADATA, REFERENCE_EVALUATOR
from steadypix.eval.generators.programs import (
    EXPORTED,
    Program,
    load_onnx,
    load_program,
)
from steadypix.files import write_whole
from steadypix.gen.networks.any_size import for_any_size, sizes_open
from steadypix.gen.networks.cost import require_forward
from steadypix.gen.networks.resnet import ResnetGenerator
from steadypix.gen.networks.unet import UNetGenerator
from steadypix.sizes import from_json, side_of

TOLERANCE = 1e-4  # on [-1, 1]; rounding alone makes about 1e-6
LEAST_PX = 32
DEFAULT_WINDOW_PX = 256
REFERENCE_PX = 48  # the reference evaluator is slow, and cannot gather from axes of more than 64
AXES = {0: "batch", 2: "height", 3: "width"}
COPIES = 2  # of what a forward pass takes: an exporter's, beside the example and what is compared
SAMPLE = 2  # pictures in the example: one would be taken for a constant


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        sizes: of the pictures (B, H, W) that the file was tried on.
        difference: largest absolute difference to the network, on [-1, 1].
        fixed_px: side of the pictures it takes; None: any size from `least_px` on.
        least_px: the smallest side it takes.
        checked_by: what ran the file.
    """

    sizes: list[tuple[int, int, int]]
    difference: float
    fixed_px: int | None
    least_px: int
    checked_by: str


def export_generator(
    generator: nn.Module,
    path: Path,
    *,
    format: str,
    name: str,
    size_px: int | None = None,
    exporter: str | None = None,
) -> Exported:
    """Write a generator as a program, whole or not at all, and compare the two.

    Args:
        generator: from `load_generator`, on the CPU; not an ONNX model or a folder of outputs.
        path: the file to write.
        format: `pt2` or `onnx`.
        name: of the generator, recorded in the file.
        size_px: write it for square pictures of this side only; None: for any size where the network allows.
        exporter: for ONNX: `dynamo`, `torchscript` (torch's older one), None: dynamo where onnxscript is.

    Raises:
        InputError: if it cannot be written down, takes rectangles alone, a package is missing, or the
            file's outputs leave [-1, 1] or differ from the network's by more than 1e-4. No file is left then.
    """
    config: Any = generator.config
    ours = isinstance(generator, UNetGenerator | ResnetGenerator)
    network = for_any_size(generator) if ours else _bare(generator, name)
    known = from_json(config.get("data", {}).get("crop_size") or DEFAULT_WINDOW_PX)
    window_px = size_px or side_of(known, "steadypix export")
    channels = config["generator"].get("in_channels", 3)
    shape, sides = config["generator"], (window_px, window_px)
    require_forward(shape, *sides, what=name, helps="a smaller --size", at_once=SAMPLE + 1, copies=COPIES)
    if format == "onnx":
        _require_onnx()
    metadata = {
        "format": EXPORTED,
        "config": config,
        "provenance": {**getattr(generator, "provenance", {}), "exported_from": name},
        "steadypix": version(),
        "torch": torch.__version__,
        "input": f"(B, {channels}, H, W) in [-1, 1]",
        "output": "(B, C, H, W) in [-1, 1]",
        "window_px": window_px,
        "least_px": window_px if size_px else min(LEAST_PX, window_px),
        "direction": config.get("data", {}).get("direction"),
    }
    text = json.dumps(metadata)
    write = (
        functools.partial(_write_onnx, text=text, exporter=exporter or default_exporter())
        if format == "onnx"
        else functools.partial(_write_pt2, text=text)
    )
    load = load_onnx if format == "onnx" else load_program
    results = []

    def write_and_compare(temporary: Path) -> None:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of exporters, about themselves
            _write(write, network, temporary, (channels, window_px), ours=ours, fixed=size_px is not None)
            program, _ = load(temporary, "cpu")
            results.append(_compare(generator, program, path, metadata, channels))

    write_whole(path, write_and_compare)
    return results[0]


def _write(
    write: Callable[..., None],
    network: nn.Module,
    path: Path,
    shape: tuple[int, int],
    *,
    ours: bool,
    fixed: bool,
) -> None:
    """Write the file for any size; of a network of others that does not allow it, for one."""
    channels, window_px = shape
    # Our networks are tried at an odd size: nothing in the program may hold for the example alone.
    side = window_px + (5 if ours and not fixed else 0)
    example = _picture((SAMPLE, channels, side, side + (4 if side != window_px else 0)))
    try:
        with _opened(ours and not fixed):
            write(network, example, path, dynamic=not fixed, ours=ours)
    except InputError:
        raise
    except Exception as error:  # exporters raise anything about what they cannot write down
        if isinstance(error, OSError) and error.strerror:  # of the disk
            raise
        if ours or fixed:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"cannot be written as a program ({reason})") from error
        _write(write, network, path, shape, ours=False, fixed=True)


@contextlib.contextmanager
def _opened(wanted: bool) -> Iterator[None]:
    if not wanted:
        yield
        return
    with sizes_open():
        yield


def _program(network: nn.Module, example: Tensor, *, dynamic: bool, ours: bool) -> Any:
    shapes: Any = None
    if dynamic:
        # Of a network of others a size may turn out to be fixed: AUTO takes what can be had.
        dim: Any = torch.export.Dim.DYNAMIC if ours else torch.export.Dim.AUTO
        shapes = ({0: dim, 2: dim, 3: dim},)
    program = torch.export.export(network, (example,), dynamic_shapes=shapes, strict=False)
    if dynamic and ours and getattr(program, "_guards_code", None):
        # What torch notes of the example's sizes, such as that no map is a single pixel. `sizes_open` is why
        # none of it matters, and the comparison tries the sizes for which it would not hold.
        program._guards_code = []
    return program


def _write_pt2(
    network: nn.Module, example: Tensor, path: Path, *, dynamic: bool, ours: bool, text: str
) -> None:
    program = _program(network, example, dynamic=dynamic, ours=ours)
    # torch's own writer of files ends the process where the disk is full, or a name is no text.
    content = io.BytesIO()
    torch.export.save(program, content, extra_files={METADATA: text})
    path.write_bytes(content.getbuffer())


def _write_onnx(
    network: nn.Module,
    example: Tensor,
    path: Path,
    *,
    dynamic: bool,
    ours: bool,
    text: str,
    exporter: str,
) -> None:
    names: dict[str, Any] = {"input_names": ["input"], "output_names": ["output"]}
    if exporter == "dynamo":
        program = _program(network, example, dynamic=dynamic, ours=ours)
        torch.onnx.export(program, (), path, dynamo=True, external_data=False, verbose=False, **names)
    else:
        if dynamic:
            names["dynamic_axes"] = {"input": AXES, "output": AXES}
        torch.onnx.export(network, (example,), str(path), dynamo=False, opset_version=17, **names)
    _attach(path, text)


def _attach(path: Path, text: str) -> None:
    """Put the metadata into an ONNX model, and names to its axes."""
    import onnx

    model = onnx.load(path)
    onnx.helper.set_model_props(model, {METADATA: text})
    (taken,) = model.graph.input
    dims = taken.type.tensor_type.shape.dim
    names = {dims[axis].dim_param: name for axis, name in AXES.items() if dims[axis].dim_param}
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in names:
                dim.dim_param = names[dim.dim_param]
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _compare(
    generator: nn.Module, program: nn.Module, path: Path, metadata: dict[str, Any], channels: int
) -> Exported:
    assert isinstance(program, Program)
    fixed_px = program.dims[2]
    sizes = _sizes(generator, program, metadata)
    worst = 0.0
    for batch, height, width in sizes:
        x = _picture((batch, channels, height, width))
        ours, theirs = generator(x), program(x)
        if ours.shape != theirs.shape:
            raise InputError(f"{path}: gives {tuple(theirs.shape)}; expected {tuple(ours.shape)}")
        if not (theirs.isfinite().all() and theirs.abs().max() <= 1):
            raise InputError(f"{path}: gives values outside of [-1, 1] at {height} x {width} px")
        worst = max(worst, (ours - theirs).abs().max().item())
    if worst > TOLERANCE:
        raise InputError(
            f"{path}: differs from the network by {worst:.1e}, more than {TOLERANCE:g} (on [-1, 1]); "
            "nothing is written"
        )
    return Exported(sizes, worst, fixed_px, program.least_px, program.runner)


def _sizes(generator: nn.Module, program: Program, metadata: dict[str, Any]) -> list[tuple[int, int, int]]:
    """Return the sizes (B, H, W) to compare at: the window, an odd one, and the smallest."""
    window, least = metadata["window_px"], metadata["least_px"]
    if program.dims[2] is not None:
        return [(program.dims[0] or SAMPLE, window, window)]
    if program.runner == REFERENCE_EVALUATOR:
        window = min(window, REFERENCE_PX)
    if not isinstance(generator, UNetGenerator | ResnetGenerator):
        return [(1, window, window), (SAMPLE + 1, window, window)]
    circular = generator.padding == "circular" if isinstance(generator, UNetGenerator) else generator.circular
    step = 2 ** getattr(generator, "num_downs", 2)
    if circular:  # exact for multiples only, and it warns of others
        least = window = step * max(1, round(window / step))
        return [(1, window, window), (SAMPLE + 1, step, 2 * step)]
    odd = (SAMPLE + 1, window + 3, window + min(step // 2, 8) + 1)
    return [(1, window, window), odd, (1, least, least)]


def _picture(shape: tuple[int, ...]) -> Tensor:
    """Return pictures in [-1, 1] with flat patches and noise: edges for texture, detail for the rest."""
    draw = torch.Generator().manual_seed(0)
    batch, channels, height, width = shape
    patches = torch.rand(batch, channels, 4, 5, generator=draw)
    noise = torch.rand(batch, channels, height, width, generator=draw)
    flat = F.interpolate(patches, (height, width), mode="nearest")
    share = (torch.arange(width) >= width // 2).float() * 0.5
    return (flat * (1 - share) + noise * share) * 2 - 1


def _bare(generator: nn.Module, name: str) -> nn.Module:
    """Return what can be written down of a program or callable."""
    if not isinstance(generator, Program):
        raise InputError(f"{name}: is no network; expected one of ours, a .pt2 program or a callable")
    network = generator.run
    if not isinstance(network, nn.Module):
        raise InputError(
            f"{name}: is an ONNX model already; expected one of ours, a .pt2 program or a callable"
        )
    return network


def default_exporter() -> str:
    """Return torch's newer exporter to ONNX, or without the package that it needs the older one."""
    return "dynamo" if importlib.util.find_spec("onnxscript") else "torchscript"


def _require_onnx() -> None:
    if importlib.util.find_spec("onnx") is None:
        raise InputError("--format onnx: needs onnx; expected: pip install 'steadypix[onnx]'")
