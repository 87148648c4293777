"""What generators made elsewhere do not say of themselves: found by running them once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from steadypix.errors import InputError
from steadypix.eval.generators.programs import Program
from steadypix.eval.generators.ranges import Ranges, UnknownOutput, parse_range
from steadypix.eval.metrics.forward import check_range
from steadypix.eval.shifts.protocols import Crop
from steadypix.sizes import Size, sides, words

if TYPE_CHECKING:
    from torch import Tensor, nn

    from steadypix.eval.generators.models import Model

TRIED = (3, 1, 4)  # channels of an input, one after the other


def foreign(module: nn.Module) -> Program | None:
    """Return the program inside of a generator that others made; `steadypix export`'s know themselves."""
    program = _program(module)
    return None if program is None or hasattr(program, "provenance") else program


def state(modules: Iterable[nn.Module], *, ranges: str | None, output_key: str | None) -> None:
    """Tell foreign generators their ranges, and which of their outputs is the picture.

    Args:
        modules: all generators.
        ranges: see `steadypix.eval.generators.ranges.parse_range`; None leaves them as they are.
        output_key: key or place; None where there is only one output.

    Raises:
        InputError: if there is no foreign generator to tell it.
    """
    theirs = [program for module in modules if (program := foreign(module)) is not None]
    both = None if ranges is None else parse_range(ranges)
    for option, given in (("--range", ranges), ("--output_key", output_key)):
        if given is not None and not theirs:
            raise InputError(f"{option}: all generators here know it themselves; expected one made elsewhere")
    for program in theirs:
        if both is not None:
            program.ranges = Ranges(*both, stated=True)
        if output_key is not None:
            program.output_key = output_key


def learn(models: Sequence[Model], window_px: Size, channels: tuple[int, int] | None) -> int:
    """Find how many channels programs take and give, and how large their outputs are.

    Each sees one picture of noise. What it did not say of its channels is written into its configuration.

    Args:
        models: all generators; those of ours and folders of outputs are passed over.
        window_px: what they will see.
        channels: of inputs and outputs, as the user says; None tries 3, 1 and 4.

    Returns:
        The largest factor by which an output is larger than its input.

    Raises:
        InputError: naming a generator that takes none of these, or whose outputs are no pictures.
    """
    factor = 1
    for model in models:
        program = _program(model.module)
        if program is None:
            continue
        own = model.config["generator"].get("in_channels")
        tried = (own,) if own else TRIED if channels is None else channels[:1]
        output, taken = _first_that_runs(model, program, window_px, tried)
        if output.isfinite().all():  # of noise; pictures are looked at anyway
            try:
                check_range(output)
            except InputError as error:
                raise InputError(f"{model.path}: {error} (see --range)") from None
        factor = max(factor, Crop(window_px, window_px).scale(output))
        model.config["generator"] |= {"in_channels": taken, "out_channels": output.shape[1]}
    return factor


def remarks(models: Sequence[Model]) -> Iterator[str]:
    """Yield a line for every generator whose outputs evidently have another range than was taken."""
    for model in models:
        line = remark(model.module)
        if line:
            yield f"{model.name}: {line}"


def remark(module: nn.Module) -> str:
    """Return in a line that a generator's outputs evidently have another range; nothing if not."""
    program = foreign(module)
    return "" if program is None else program.ranges.remark("--range {}")


def _first_that_runs(
    model: Model, program: Program, window_px: Size, tried: Sequence[int]
) -> tuple[Tensor, int]:
    width, height = sides(window_px)
    reasons = []
    # Noise is no picture: what comes of it says nothing of ranges.
    known, program.ranges = program.ranges, replace(program.ranges, stated=False)
    try:
        for count in tried:
            noise = torch.rand(1, count, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1
            try:
                with torch.inference_mode():
                    return model.module(noise.to(_device(program))), count
            except UnknownOutput as error:
                raise InputError(f"{model.path}: {error}") from None
            except InputError as error:
                reasons.append(str(error))
    finally:
        program.ranges = known
    if len(tried) == 1:
        raise InputError(f"{model.path}: {reasons[0]}")
    counts = ", ".join(map(str, tried))
    raise InputError(
        f"{model.path}: takes no pictures of {counts} channels at {words(window_px)} px (of {tried[0]}: "
        f"{reasons[0]}); expected its channels by --channels, or its size by --window"
    )


def _device(module: nn.Module) -> torch.device:
    parameter = next(module.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def _program(module: nn.Module) -> Program | None:
    return next((part for part in module.modules() if isinstance(part, Program)), None)
