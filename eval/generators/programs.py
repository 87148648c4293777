"""Generators that come as programs: torch.export, ONNX, and Python callables.

All end up behind `Program`: a module that takes (B, C, H, W) in [-1, 1] on any device and feeds the program
batches of the size it was made for.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from steadypix.errors import InputError

Dims = tuple[int | None, ...]
EXPORTED = "steadypix.exported.v1"
REFERENCE_EVALUATOR = "onnx's reference evaluator"
METADATA = "steadypix.json"  # under this name a file of `steadypix export` says what it is
LONGEST_METADATA = 1 << 20  # characters
MISSING_ONNX = "needs onnx or onnxruntime, and neither is installed; expected: pip install 'steadypix[onnx]'"


class Program(nn.Module):
    """A foreign program as a module.

    Args:
        run: maps (B, C, H, W) to (B, C', H, W).
        dims: the (B, C, H, W) it was made for; None where any size will do.
        runner: what runs it, in words.

    Attributes:
        least_px: of a side, where any size will do.

    Raises:
        InputError: on an input of another size than `dims`, or one that the program cannot take.
    """

    def __init__(
        self,
        run: Callable[[Tensor], Tensor],
        dims: Dims = (None, None, None, None),
        *,
        runner: str = "torch",
    ) -> None:
        super().__init__()
        self._run = (run,)  # in a tuple: an exported module refuses eval(), so it is no child
        self.dims = dims
        self.runner = runner
        self.least_px = 1

    @property
    def run(self) -> Callable[[Tensor], Tensor]:
        """The program itself."""
        return self._run[0]

    def forward(self, x: Tensor) -> Tensor:
        """Run the program on `x`, a batch of its own size at a time."""
        self._check(x)
        fixed = self.dims[0] or len(x)
        outputs = []
        for chunk in x.split(fixed):
            missing = fixed - len(chunk)
            full = torch.cat([chunk, chunk[-1:].expand(missing, -1, -1, -1)]) if missing else chunk
            outputs.append(self._call(full)[: len(chunk)])
        return torch.cat(outputs)

    def _check(self, x: Tensor) -> None:
        _, channels, height, width = self.dims
        if channels not in (None, x.shape[1]):
            raise InputError(f"takes {channels} channels, but the pictures have {x.shape[1]}")
        if height not in (None, x.shape[2]) or width not in (None, x.shape[3]):
            raise InputError(
                f"takes {height or 'any'} x {width or 'any'} px only, but gets {x.shape[2]} x "
                f"{x.shape[3]} px; expected --window {height or width} "
                f"(generate: --tile {height or width} --statistics tile)"
            )
        if min(x.shape[-2:]) < self.least_px:
            raise InputError(
                f"was exported for pictures of at least {self.least_px} px, but gets {x.shape[2]} x "
                f"{x.shape[3]} px"
            )

    def _call(self, x: Tensor) -> Tensor:
        try:
            y = self._run[0](x)
        except InputError:
            raise
        except Exception as error:  # whatever a foreign program raises, its user needs one line
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise InputError(f"cannot take pictures of shape {tuple(x.shape)} ({reason})") from error
        if not isinstance(y, Tensor) or y.ndim != 4 or len(y) != len(x):
            shown = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
            raise InputError(f"gives {shown} for pictures of shape {tuple(x.shape)}; expected (B, C, H, W)")
        return y


def load_program(path: Path, device: str) -> tuple[nn.Module, dict[str, Any]]:
    """Load a `torch.export` program. Its loader can fall back to pickles: ask for trust before.

    Raises:
        InputError: if it cannot be loaded or takes more than one picture.
    """
    from torch.export.passes import move_to_device_pass

    extra = {METADATA: ""}
    try:
        program = torch.export.load(path, extra_files=extra)
        if device != "cpu":
            program = move_to_device_pass(program, device)
        module = program.module()
    except Exception as error:  # the loader raises anything on a damaged file
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: cannot be loaded as a torch.export program ({reason})") from None
    values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    inputs = [values.get(name) for name in program.graph_signature.user_inputs]
    shapes = [tuple(value.shape) for value in inputs if isinstance(value, Tensor)]
    if len(inputs) != 1 or len(shapes) != 1 or len(shapes[0]) != 4:
        raise InputError(f"{path}: takes {len(inputs)} inputs; expected one, pictures (B, C, H, W)")
    dims = tuple(size if isinstance(size, int) else None for size in shapes[0])
    return as_told(path, Program(module, dims), describe(path, dims), extra[METADATA])


def load_callable(spec: Path, device: str) -> tuple[nn.Module, dict[str, Any]]:
    """Call `package.module:function`, found from the current folder too, and take the module it returns.

    The call runs under a fixed seed, so a network with random weights is the same every time.

    Raises:
        InputError: if there is no such function, it fails, or returns something else.
    """
    home, _, name = str(spec).partition(":")
    with _current_folder_first():
        try:
            function = getattr(importlib.import_module(home), name)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                module = function()
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(f"{spec}: cannot be called ({reason})") from error
    if not isinstance(module, nn.Module):
        raise InputError(f"{spec}: returned {type(module).__name__}; expected a torch.nn.Module")
    module = module.to(device).eval()
    config = describe(spec, (None, None, None, None))
    for key in ("in_channels", "out_channels"):
        if isinstance(getattr(module, key, None), int):
            config["generator"][key] = getattr(module, key)
    wrapped = Program(module)
    wrapped.module = module  # a child, so that its weights and device are seen
    return wrapped, config


def load_onnx(path: Path, device: str) -> tuple[nn.Module, dict[str, Any]]:
    """Load an ONNX model: through onnxruntime where it is installed, else onnx's reference evaluator.

    Raises:
        InputError: if neither is installed, or the file is damaged or takes more than one picture.
    """
    try:
        backend = _onnx_backend(path)
    except InputError:
        raise
    except ImportError:
        raise InputError(f"{path}: {MISSING_ONNX}") from None
    except Exception as error:  # protobuf, checker and runtime errors share no base class
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: is damaged or no ONNX model ({reason})") from None
    shape, output = backend.taken, backend.given
    if len(shape) != 4:
        raise InputError(f"{path}: takes {len(shape)}-D arrays; expected pictures (B, C, H, W)")
    config = describe(path, shape)
    if len(output) == 4 and output[1] is not None:
        config["generator"]["out_channels"] = output[1]
    return as_told(path, Program(backend.run, shape, runner=backend.name), config, backend.metadata)


def as_told(
    path: Path, program: Program, seen: dict[str, Any], text: str | bytes
) -> tuple[Program, dict[str, Any]]:
    """Join what a program's shape says with what `steadypix export` wrote into the file.

    Args:
        path: named in errors.
        program: gets `provenance` and `least_px`.
        seen: what `describe` returned; it wins.
        text: JSON; empty in files made otherwise.

    Raises:
        InputError: if the text cannot be read, or says what cannot be.
    """
    if not text:
        return program, seen
    try:
        if len(text) > LONGEST_METADATA:
            raise ValueError("too long")
        metadata = json.loads(text)
        config, provenance = metadata["config"], metadata["provenance"]
        sections = {name: config.get(name, {}) for name in ("generator", "data")}
        for section in sections.values():
            if not all(value is None or isinstance(value, str | int | float) for value in section.values()):
                raise ValueError("a value is not plain")
        if metadata["format"] != EXPORTED or not isinstance(provenance, dict):
            raise ValueError("of another version")
        if type(metadata["least_px"]) is not int:
            raise ValueError("least_px")
        for key in ("in_channels", "out_channels"):
            if type(sections["generator"].get(key, 1)) is not int:
                raise ValueError(key)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:100]
        raise InputError(f"{path}: what it says of itself ({METADATA}) cannot be read ({reason})") from None
    program.provenance = provenance  # type: ignore[assignment]
    program.least_px = metadata["least_px"]
    return program, {**config, **{name: {**sections[name], **seen[name]} for name in sections}}


def describe(path: Path, dims: Dims) -> dict[str, Any]:
    """Return what a program's input shape says, in the form of a checkpoint's configuration.

    Raises:
        InputError: if it takes pictures of a size that is not square.
    """
    _, channels, height, width = dims
    if height and width and height != width:
        raise InputError(f"{path}: takes {height} x {width} px only; expected a square window")
    side = height or width
    return {
        "generator": {"in_channels": channels} if channels else {},
        "data": {"crop_size": side} if side else {},
    }


class _Backend(NamedTuple):
    """What runs an ONNX model, the shapes it takes and gives, and what it says of itself."""

    name: str
    run: Callable[[Tensor], Tensor]
    taken: Dims
    given: Dims
    metadata: str


def _onnx_backend(path: Path) -> _Backend:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read on import: it would write files otherwise
    try:
        import onnxruntime
    except ImportError:
        return _reference_backend(path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs, outputs = session.get_inputs(), session.get_outputs()
    _check_inputs(path, len(inputs))
    taken, given = (
        tuple(size if isinstance(size, int) else None for size in value.shape)
        for value in (inputs[0], outputs[0])
    )
    kinds = {"tensor(float16)": torch.float16, "tensor(double)": torch.float64}
    dtype = kinds.get(inputs[0].type, torch.float32)
    run = _on_arrays(lambda a: session.run(None, {inputs[0].name: a})[0], dtype)
    metadata = session.get_modelmeta().custom_metadata_map.get(METADATA, "")
    return _Backend("onnxruntime", run, taken, given, metadata)


def _reference_backend(path: Path) -> _Backend:
    import onnx
    from onnx.reference import ReferenceEvaluator

    model = onnx.load(path)
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    _check_inputs(path, len(inputs))
    evaluator: Any = ReferenceEvaluator(model)  # its stated return type is wider than what it returns
    taken, given = (
        tuple(
            dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim
        )
        for value in (inputs[0], model.graph.output[0])
    )
    kinds = {onnx.TensorProto.FLOAT16: torch.float16, onnx.TensorProto.DOUBLE: torch.float64}
    dtype = kinds.get(inputs[0].type.tensor_type.elem_type, torch.float32)
    run = _on_arrays(lambda a: evaluator.run(None, {inputs[0].name: a})[0], dtype)
    metadata = next((entry.value for entry in model.metadata_props if entry.key == METADATA), "")
    return _Backend(REFERENCE_EVALUATOR, run, taken, given, metadata)


def _check_inputs(path: Path, count: int) -> None:
    if count != 1:
        raise InputError(f"{path}: takes {count} inputs; expected one, pictures (B, C, H, W)")


def _on_arrays(run: Callable[[Any], Any], dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    def on_tensors(x: Tensor) -> Tensor:
        return torch.from_numpy(run(x.to(dtype).cpu().numpy())).to(x)

    return on_tensors


@contextlib.contextmanager
def _current_folder_first() -> Iterator[None]:
    """Let imports find modules in the current folder, as `python -m` does."""
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
