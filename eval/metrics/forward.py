"""Networks on windows: in eval mode, a batch at a time, with the outputs checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from steadypix.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

LARGEST_OUTPUT = 1e6  # far beyond pictures, whatever range a generator was taken to have
Pick = str | int | Callable[[Any], Any]
SIZES = (
    "expected the input's size, a whole multiple of it, or as many px less on two opposite sides (valid "
    "convolutions)"
)


@contextmanager
def eval_mode(network: nn.Module) -> Iterator[None]:
    """Put a network in eval mode, and back into the mode it came in."""
    was_training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was_training)


def one_by_one(canvases: Any, network: nn.Module, pick: Pick | None = None) -> Iterator[Tensor]:
    """Yield pictures (1, C, H, W) from one batch or many, on the device of the network's parameters.

    Args:
        canvases: (B, C, H, W), or an iterable of batches, or of single pictures (C, H, W).
        network: without parameters, pictures stay where they are.
        pick: which of a batch is the input: a key or place, or what is called with the batch. None takes a
            tensor, the first of a tuple or list, and of a dict `input` or its only entry.

    Raises:
        InputError: for what is no picture.
    """
    import torch

    parameter = next(network.parameters(), None)
    for batch in [canvases] if isinstance(canvases, torch.Tensor) else canvases:
        x = _pick_input(batch, pick)
        if not isinstance(x, torch.Tensor) or x.ndim not in (3, 4):
            got = tuple(x.shape) if isinstance(x, torch.Tensor) else type(x).__name__
            raise InputError(f"pictures must be tensors (B, C, H, W); got {got}")
        x = (x if x.ndim == 4 else x[None]).to(None if parameter is None else parameter.device)
        yield from (x if x.is_floating_point() else x.float()).split(1)


def _pick_input(batch: Any, pick: Pick | None) -> Any:
    if callable(pick):
        return pick(batch)
    if isinstance(batch, Mapping):
        key = pick if pick is not None else "input" if "input" in batch else next(iter(batch), None)
        unsaid = pick is None and key != "input" and len(batch) != 1
        if unsaid or key not in batch:
            raise InputError(
                f"a batch is a dict of {', '.join(map(repr, batch)) or 'nothing'}; say which is the input, "
                "as by input='image'"
            )
        return batch[key]
    if isinstance(batch, tuple | list):
        try:
            return batch[0 if pick is None else pick]  # type: ignore[index]
        except (IndexError, TypeError):
            raise InputError(f"a batch is a tuple of {len(batch)}; there is no input {pick!r}") from None
    return batch


def fits(taken: tuple[int, int], given: tuple[int, int]) -> bool:
    """Whether an output of `given` px can be compared at shifts of an input of `taken` px.

    It can be of the same size, larger by a whole factor, or smaller by a border that is the same on two
    opposite sides. A whole fraction of the input is not taken for a border: networks that shrink their input
    do that.
    """
    if given[0] % taken[0] == 0 and given[1] % taken[1] == 0:
        return given[0] // taken[0] == given[1] // taken[1] >= 1
    lost = [before - after for before, after in zip(taken, given, strict=True)]
    if min(given) < 1 or any(px < 0 or px % 2 for px in lost):
        return False
    shrunk = taken[0] % given[0] == 0 and taken[1] % given[1] == 0
    return not shrunk


def check_range(output: Tensor) -> None:
    """Refuse an output whose squares, sums and ratios no result could hold.

    Raises:
        InputError: if it is not finite, or beyond `LARGEST_OUTPUT`.
    """
    if not output.numel():
        return
    low, high = (float(end) for end in output.aminmax())
    if not math.isfinite(low) or not math.isfinite(high):
        raise InputError("the network's output is not finite (NaN or infinity)")
    if max(-low, high) > LARGEST_OUTPUT:
        raise InputError(f"the network's output reaches from {low:.3g} to {high:.3g}; expected about -1 to 1")


def run_windows(
    generator: nn.Module, windows: Iterable[Tensor], *, batch_size: int, same_size: bool = False
) -> Iterator[Tensor]:
    """Yield a network's output for each of many (1, C, H, W) windows, a batch at a time.

    Windows are taken as they are needed, so memory holds one batch however many there are. A window of
    another size than the one before it begins a batch of its own.

    Raises:
        InputError: if an output is no picture (see `check_range`), or its size is none that `fits` takes
            (with `same_size`: not the input's).
    """
    import torch

    for chunk in _batches(windows, batch_size):
        batch = torch.cat(chunk)
        with torch.inference_mode():
            output = generator(batch)
        taken, given = ((x.shape[-2], x.shape[-1]) for x in (batch, output))
        if taken != given and (same_size or not fits(taken, given)):
            raise InputError(
                f"the network turns {taken} px into {given} px; "
                + ("expected an output of the input's size" if same_size else SIZES)
            )
        check_range(output)
        yield from output.float().split(1)


def _batches(windows: Iterable[Tensor], batch_size: int) -> Iterator[list[Tensor]]:
    """Yield lists of windows of one size, `batch_size` at most."""
    chunk: list[Tensor] = []
    for window in windows:
        if chunk and window.shape != chunk[0].shape:
            yield chunk
            chunk = []
        chunk.append(window)
        if len(chunk) == batch_size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
