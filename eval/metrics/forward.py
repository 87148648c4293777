"""Networks on windows: in eval mode, a batch at a time, with the outputs checked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from steadypix.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn


@contextmanager
def eval_mode(network: nn.Module) -> Iterator[None]:
    """Put a network in eval mode, and back into the mode it came in."""
    was_training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was_training)


def one_by_one(canvases: Tensor | Iterable[Tensor], network: nn.Module) -> Iterator[Tensor]:
    """Yield pictures (1, C, S, S) from one batch or many, on the device of the network's parameters.

    Raises:
        InputError: for pictures that are not square.
    """
    import torch

    parameter = next(network.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    for batch in [canvases] if isinstance(canvases, torch.Tensor) else canvases:
        if batch.ndim != 4 or batch.shape[-1] != batch.shape[-2]:
            raise InputError(f"pictures must be (B, C, S, S), square; got {tuple(batch.shape)}")
        yield from batch.to(device).split(1)


def run_windows(generator: nn.Module, windows: Iterable[Tensor], *, batch_size: int) -> Iterator[Tensor]:
    """Yield a network's output for each of many (1, C, H, W) windows, a batch at a time.

    Windows are taken as they are needed, so memory holds one batch however many there are. A window of
    another size than the one before it begins a batch of its own.

    Raises:
        InputError: if an output is not finite, or its height and width are not the input's.
    """
    import torch

    for chunk in _batches(windows, batch_size):
        batch = torch.cat(chunk)
        with torch.inference_mode():
            output = generator(batch)
        if output.shape[-2:] != batch.shape[-2:]:
            raise InputError(
                f"the network turns {tuple(batch.shape[-2:])} px into {tuple(output.shape[-2:])} px; "
                "expected an output of the input's size"
            )
        if not torch.isfinite(output).all():
            raise InputError("the network's output is not finite (NaN or infinity)")
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
