"""Generators that come as programs: torch.export, ONNX, and Python callables.

All end up behind `Program`: a module that takes (B, C, H, W) in [-1, 1] on any device and feeds the program
batches of the size it was made for, in its own range.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from steadypix.errors import InputError
from steadypix.eval.generators.onnx_process import LONGEST_METADATA, METADATA, OnnxModel
from steadypix.eval.generators.ranges import Output, Ranges, pick_output, read_range
from steadypix.sizes import as_json, size_of, words

Dims = tuple[int | None, ...]
EXPORTED = "steadypix.exported.v1"


class Program(nn.Module):
    """A foreign program as a module.

    Args:
        run: maps (B, C, H, W) to (B, C', H, W).
        dims: the (B, C, H, W) it was made for; None where any size will do.
        runner: what runs it, in words.

    Attributes:
        least_px: of a side, where any size will do.
        ranges: of what it takes and gives; [-1, 1] unless it is said.
        output_key: which of its outputs is the picture, where there are several.

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
        self.ranges = Ranges()
        self.output_key: Output | None = None

    @property
    def run(self) -> Callable[[Tensor], Tensor]:
        """The program itself."""
        return self._run[0]

    def forward(self, x: Tensor) -> Tensor:
        """Run the program on `x`, a batch of its own size at a time."""
        self._check(x)
        x = self.ranges.to_generator(x)
        fixed = self.dims[0] or len(x)
        outputs = []
        for chunk in x.split(fixed):
            missing = fixed - len(chunk)
            full = torch.cat([chunk, chunk[-1:].expand(missing, -1, -1, -1)]) if missing else chunk
            outputs.append(self._call(full)[: len(chunk)])
        return self.ranges.from_generator(torch.cat(outputs))

    def _check(self, x: Tensor) -> None:
        _, channels, height, width = self.dims
        if channels not in (None, x.shape[1]):
            raise InputError(f"takes {channels} channels, but the pictures have {x.shape[1]}")
        if height not in (None, x.shape[2]) or width not in (None, x.shape[3]):
            size = words(size_of(width or height or 0, height or width or 0))
            raise InputError(
                f"takes {height or 'any'} x {width or 'any'} px only, but gets {x.shape[2]} x "
                f"{x.shape[3]} px; expected --window {size} "
                f"(generate: --tile {height or width})"
            )
        if min(x.shape[-2:]) < self.least_px:
            raise InputError(
                f"was exported for pictures of at least {self.least_px} px, but gets {x.shape[2]} x "
                f"{x.shape[3]} px"
            )

    def _call(self, x: Tensor) -> Tensor:
        try:
            y = pick_output(self._run[0](x), self.output_key, "--output_key {}")
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
    return as_told(path, Program(module, dims), describe(dims), extra[METADATA])


def call_function(
    spec: Path | str,
    words: Callable[[Callable[..., Any]], dict[str, Any]] = lambda _: {},
    *,
    plain: bool = False,
) -> Any:
    """Call `package.module:function`, found from the current folder too, and return the module it returns.

    The call runs under a fixed seed, so a network with random weights is the same every time.

    Args:
        spec: package, module and function.
        words: says by which arguments a function is called.
        plain: also take a function of pictures (B, C, H, W): what the name stands for, if it wants one
            argument, or what it returns. And take a network that the name stands for.

    Raises:
        InputError: if there is no such function, it fails, or returns something else.
    """
    home, _, name = str(spec).partition(":")
    with _current_folder_first():
        try:
            function = getattr(importlib.import_module(home), name)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                module = function if plain and _is_one(function) else function(**words(function))
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(f"{spec}: cannot be called ({reason})") from error
    if not isinstance(module, nn.Module) and not (plain and callable(module)):
        wanted = "a torch.nn.Module" + (" or a function of pictures" if plain else "")
        raise InputError(f"{spec}: returned {type(module).__name__}; expected {wanted}")
    return module


def _is_one(found: Any) -> bool:
    """Whether what a name stands for is a generator: a network, or a function that wants one argument."""
    if isinstance(found, nn.Module):
        return True
    try:
        wanted = inspect.signature(found).parameters.values()
    except (TypeError, ValueError):  # no function, or one that says nothing of itself
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [each for each in wanted if each.kind in positional and each.default is each.empty]
    return not isinstance(found, type) and len(needed) == 1


def load_callable(spec: Path, device: str) -> tuple[nn.Module, dict[str, Any]]:
    """Take the network, or plain function, that `call_function` returns for a generator.

    Its attributes `in_channels`, `out_channels` and `data_range` are read, where there are any.

    Raises:
        InputError: as `call_function` raises it.
    """
    module = call_function(spec, plain=True)
    config = describe((None, None, None, None))
    for key in ("in_channels", "out_channels"):
        if isinstance(getattr(module, key, None), int):
            config["generator"][key] = getattr(module, key)
    wrapped = Program(module)
    if isinstance(module, nn.Module):
        wrapped.module = module.to(device).eval()  # a child, so that its weights and device are seen
    if (own := getattr(module, "data_range", None)) is not None:
        wrapped.ranges = Ranges(*read_range(own), stated=True)
    return wrapped, config


def load_onnx(path: Path, device: str) -> tuple[nn.Module, dict[str, Any]]:
    """Load an ONNX model: through onnxruntime where it is installed, else onnx's reference evaluator.

    It runs on the CPU, in a process of its own whose time and memory are bounded.

    Raises:
        InputError: if neither is installed, or the file is damaged or takes more than one picture.
    """
    backend = OnnxModel(path)
    if backend.inputs != 1:
        raise InputError(f"{path}: takes {backend.inputs} inputs; expected one, pictures (B, C, H, W)")
    dtype = getattr(torch, backend.dtype)

    def run(x: Tensor) -> Tensor:
        return torch.from_numpy(backend(x.to(dtype).cpu().numpy())).to(x)

    shape, output = backend.taken, backend.given
    if len(shape) != 4:
        raise InputError(f"{path}: takes {len(shape)}-D arrays; expected pictures (B, C, H, W)")
    config = describe(shape)
    if len(output) == 4 and output[1] is not None:
        config["generator"]["out_channels"] = output[1]
    return as_told(path, Program(run, shape, runner=backend.runner), config, backend.metadata)


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


def describe(dims: Dims) -> dict[str, Any]:
    """Return what a program's input shape says, in the form of a checkpoint's configuration.

    Args:
        dims: the (B, C, H, W) it takes.
    """
    _, channels, height, width = dims
    side = height or width
    window = as_json(size_of(width or side, height or side)) if side else None
    return {
        "generator": {"in_channels": channels} if channels else {},
        "data": {"crop_size": window} if window else {},
    }


@contextlib.contextmanager
def _current_folder_first() -> Iterator[None]:
    """Let imports find modules in the current folder, as `python -m` does."""
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
